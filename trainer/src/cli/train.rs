//! `pretrain` and `finetune`.

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;
use edgeblip_trainer::engine::Device;
use edgeblip_trainer::ranks::{Group, Limits, Place};
use edgeblip_trainer::settings::{Settings, Task, defaults};
use edgeblip_trainer::train::{Finished, Job, train};

use super::models::{Work, compute};

/// A run that was stopped goes on when the same command is given again.
#[derive(Args)]
pub struct Train {
    /// Settings that differ from the defaults, as TOML
    #[arg(value_name = "SETTINGS", required_unless_present = "print_settings")]
    settings: Option<PathBuf>,
    /// Folder of the run: snapshots, journal, page, and the model at the end
    #[arg(long, value_name = "DIR", required_unless_present = "print_settings")]
    out: Option<PathBuf>,
    /// Where to compute, instead of what the settings say
    #[arg(long, value_name = "cuda|cpu|auto")]
    device: Option<String>,
    /// Print every setting with its default and where that is from, and do nothing
    #[arg(long)]
    print_settings: bool,
    /// Print one JSON object at the end
    #[arg(long)]
    json: bool,
}

impl Train {
    pub fn run(self, task: Task) -> Result<()> {
        if self.print_settings {
            return Ok(write!(std::io::stdout(), "{}", defaults(task))?);
        }
        let (Some(path), Some(folder)) = (&self.settings, &self.out) else {
            bail!("name a settings file and --out DIR");
        };
        let mut settings = Settings::read(path, task)?;
        if let Some(device) = self.device {
            settings.run.device = device;
        }
        std::fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
        let ranks = meet(&settings, task)?;
        let job = Job { task, settings, folder: folder.clone(), ranks };
        let (device, threads) = (job.settings.run.device.as_str(), job.settings.run.threads);
        let finished = compute(Run(&job), device, threads).inspect_err(|error| {
            if let Some(ranks) = &job.ranks {
                ranks.end(&error.to_string());
            }
        })?;
        match &job.ranks {
            Some(ranks) if ranks.rank() > 0 => Ok(()),
            _ => report(&finished, self.json),
        }
    }
}

/// The other ranks, where a launcher says that there are some.
fn meet(settings: &Settings, task: Task) -> Result<Option<Arc<Group>>> {
    let Some(place) = Place::from_environment()? else { return Ok(None) };
    if place.world == 1 {
        return Ok(None);
    }
    let mut facts = settings.facts();
    facts.retain(|name, _| !OF_A_RANK.contains(&name.as_str()));
    facts.insert("task".to_owned(), format!("{task:?}").to_lowercase());
    let patience = Duration::from_secs(settings.run.patience);
    let limits = Limits { meeting: patience, silence: Limits::default().silence.min(patience / 2), patience };
    Ok(Some(Arc::new(Group::connect(&place, &facts, limits)?)))
}

/// Settings that each rank may have for itself.
const OF_A_RANK: [&str; 5] = ["run.device", "run.threads", "run.patience", "data.threads", "data.ahead"];

/// Where ranks meet depends on the device.
struct Run<'j>(&'j Job);

impl Work for Run<'_> {
    type Output = Finished;

    fn on<D: Device>(self, device: D) -> Result<Finished> {
        let device = match &self.0.ranks {
            Some(ranks) => device.with_group(ranks)?,
            None => device,
        };
        Ok(train(device, self.0)?)
    }
}

fn report(finished: &Finished, json: bool) -> Result<()> {
    let mut out = std::io::stdout();
    if json {
        let losses: serde_json::Map<String, serde_json::Value> =
            finished.losses.iter().map(|(name, loss)| ((*name).to_owned(), (*loss).into())).collect();
        let line = serde_json::json!({
            "steps": finished.steps, "resumed_at": finished.resumed_at, "losses": losses,
            "model": finished.model, "broken_pictures": finished.broken,
        });
        return Ok(writeln!(out, "{}", terminal::json(&line)?)?);
    }
    for role in std::fs::read_dir(&finished.model)?.flatten() {
        writeln!(out, "{}", terminal::shown(&role.path()))?;
    }
    Ok(())
}
