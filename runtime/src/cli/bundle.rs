//! `edgeblip bundle`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Args, Subcommand};
use edgeblip::cores::big_cores;
use edgeblip::installation::{Step, install};
use serde_json::json;
use terminal::progress::Progress;
use terminal::shown;

use super::config::Configured;
use super::{say, say_json};

/// Bundles on this board.
#[derive(Args)]
pub struct Bundles {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Copy a bundle onto the board, from a folder or a tar, as on a USB stick: checked, and asked for its golden answers
    Install(Install),
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
            Action::Install(install) => install.run(),
        }
    }
}

impl Install {
    fn run(&self) -> Result<ExitCode> {
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
