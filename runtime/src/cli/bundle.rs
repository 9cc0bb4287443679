//! `edgeblip bundle`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Args, Subcommand};
use edgeblip::cores::big_cores;
use edgeblip::installation::{Step, install};
use edgeblip::trial::{Contract, test_here};
use serde_json::json;
use terminal::progress::Progress;
use terminal::{printable, shown};
use update::{Slot, Updates};

use super::config::{Configured, Service};
use super::{say, say_json, updates};

/// What runs on this board, and what else could.
#[derive(Args)]
pub struct Bundles {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Say what is where: what the board came with, what was released, what is tried, what was given back
    List(Service),
    /// Copy a bundle onto the board, from a folder or a tar, as on a USB stick: checked, and asked for its golden answers. A
    /// folder with "releases" in it is taken as the network is: only what the host has signed
    Install(Install),
    /// Let the service run what is in a slot
    Activate(Activate),
    /// Go back to what ran before, and do not take this release again
    Rollback(Service),
    /// Compare every file of every slot with what was signed
    Verify(Service),
    /// Test a bundle in this process, with limits: what "sync" starts
    #[command(hide = true)]
    Try(Try),
}

#[derive(Args)]
struct Activate {
    /// factory, a or b, as "list" names them
    slot: Slot,
    #[command(flatten)]
    place: Service,
}

#[derive(Args)]
struct Try {
    folder: PathBuf,
    #[arg(long)]
    memory_mib: u32,
    #[arg(long)]
    seconds: u32,
    #[arg(long)]
    tolerance: f32,
}

#[derive(Args)]
struct Install {
    /// Folder that edgeblip-export wrote, or a tar of it
    source: PathBuf,
    /// Folder of bundles; "bundles" beside the pairs of the configuration if none is named
    #[arg(long, value_name = "DIR")]
    into: Option<PathBuf>,
    /// Configuration file that names the folder of the pairs
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print JSON, one object a line
    #[arg(long)]
    json: bool,
}

impl Bundles {
    pub fn run(&self) -> Result<ExitCode> {
        match &self.action {
            Action::List(place) => list(place),
            Action::Install(install) => install.run(),
            Action::Activate(activate) => activate.run(),
            Action::Rollback(place) => roll_back(place),
            Action::Verify(place) => verify(place),
            Action::Try(trial) => trial.run(),
        }
    }
}

fn updates(place: &Service) -> Result<Updates> {
    let config = place.read()?;
    Ok(Updates::at(&update::folder_beside(&config.store.folder)))
}

fn list(place: &Service) -> Result<ExitCode> {
    let state = updates(place)?.state();
    if place.json {
        say_json(&json!({
            "runs": state.current, "trial": state.trial, "slots": state.slots, "denied": state.denied,
            "heard_s": state.heard_s, "fresh_until_s": state.fresh_until_s, "last": state.last, "sequence": state.trust.as_ref().map(exchange::Trust::sequence),
        }))?;
        return Ok(ExitCode::SUCCESS);
    }
    for slot in [Slot::Factory, Slot::A, Slot::B] {
        let what = match (slot, state.slots.get(&slot)) {
            (Slot::Factory, _) => "what the configuration names".to_owned(),
            (_, Some(filled)) => format!("release {}, bundle {}", filled.sequence, filled.bundle),
            (_, None) => "empty".to_owned(),
        };
        let tried = state.trial.filter(|trial| trial.slot == slot);
        let mark = match tried {
            Some(trial) => format!(", tried, {} tries left", trial.tries),
            None if state.current == slot => ", runs".to_owned(),
            None => String::new(),
        };
        say(&format!("{slot:<8} {what}{mark}"))?;
    }
    for denied in &state.denied {
        say(&format!("release {} is not taken again: {}", denied.sequence, printable(denied.reason.as_str())))?;
    }
    updates::tell_heard(&state)?;
    Ok(ExitCode::SUCCESS)
}

fn roll_back(place: &Service) -> Result<ExitCode> {
    let slot = updates(place)?.roll_back()?;
    if place.json {
        say_json(&json!({ "runs": slot }))?;
    } else {
        say(&format!("a service that runs goes back to slot {slot} within seconds"))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn verify(place: &Service) -> Result<ExitCode> {
    let updates = updates(place)?;
    let mut is_whole = true;
    for slot in updates.state().slots.keys() {
        let wrong = updates.verify(*slot)?;
        is_whole &= wrong.is_empty();
        if place.json {
            say_json(&json!({ "slot": slot, "wrong": wrong }))?;
        } else if wrong.is_empty() {
            say(&format!("slot {slot}: every file is as it was signed"))?;
        } else {
            say(&format!("slot {slot}: not as they were signed: {}", wrong.join(", ")))?;
        }
    }
    Ok(if is_whole { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

impl Activate {
    fn run(&self) -> Result<ExitCode> {
        let updates = updates(&self.place)?;
        updates.propose(self.slot)?;
        if self.place.json {
            say_json(&json!({ "trial": updates.state().trial }))?;
        } else {
            say(&format!(
                "the service takes slot {} up within seconds, and gives it back if it does not work",
                self.slot
            ))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Try {
    fn run(&self) -> Result<ExitCode> {
        let contract = Contract { memory_mib: self.memory_mib, seconds: self.seconds, tolerance: self.tolerance };
        test_here(&self.folder, big_cores(), contract).map_err(anyhow::Error::msg)?;
        Ok(ExitCode::SUCCESS)
    }
}

impl Install {
    fn run(&self) -> Result<ExitCode> {
        if self.source.join(exchange::release::NEWEST).is_file() {
            return updates::install(&self.source, self.config.clone(), self.json);
        }
        let bundles = self.folder()?;
        let progress = Progress::new("steps");
        let tell = |step: Step| {
            progress.stage(step.name(), Step::ALL.len());
            (0..step as usize).for_each(|_| progress.step());
        };
        let installed = install(&self.source, &bundles, big_cores(), tell);
        progress.finish();
        let installed = installed.context("the bundle is not installed")?;
        let folder = installed.folder.canonicalize().unwrap_or(installed.folder);
        if self.json {
            say_json(&json!({
                "bundle": installed.id, "folder": folder.display().to_string(), "bytes": installed.bytes,
                "was_there": installed.was_there,
            }))?;
            return Ok(ExitCode::SUCCESS);
        }
        let how =
            if installed.was_there { "was there already" } else { "is there; its golden answers are the same here" };
        say(&format!("bundle {} {how}", installed.id))?;
        say("to use it, set this in the configuration, and start the service anew:")?;
        say("[model]")?;
        say(&format!("bundle = {:?}", shown(&folder)))?;
        Ok(ExitCode::SUCCESS)
    }

    fn folder(&self) -> Result<PathBuf> {
        if let Some(folder) = &self.into {
            return Ok(folder.clone());
        }
        let configured = Configured { config: self.config.clone(), ..Configured::default() };
        let store = configured.read().context("reading the configuration")?.store.folder.clone();
        Ok(store.parent().unwrap_or(&store).join("bundles"))
    }
}
