//! `edgeblip run`.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::Arc;

use anyhow::{Context, Result};
use blip::config::Role;
use clap::Args;
use edgeblip::bundle::Bundle;
use edgeblip::cores::big_cores;
use edgeblip::face;
use edgeblip::model::Model;
use edgeblip::page::keys::KeyFile;
use edgeblip::pipeline::running::{End, Running, run};
use field::clock::SystemClock;
use field::config::Settings;
use field::{log as logging, signals};
use update::Watch;

use super::config::Configured;
use super::{cache_of, network, page, updates, warn};

/// Looks, captions, filters and keeps, until SIGTERM or SIGINT; SIGHUP reads the configuration again, SIGUSR1 takes
/// a frame now. For a quick try without a file: edgeblip run --camera folder:PICTURES --store pairs
#[derive(Args)]
pub struct Run {
    #[command(flatten)]
    configured: Configured,
    /// Let the page listen in the network, and print a link that lets a browser in once
    #[arg(long, conflicts_with = "page")]
    lan: bool,
}

impl Run {
    pub fn run(&self) -> Result<ExitCode> {
        let (configured, lan) = (self.configured.clone(), self.lan);
        let read = move || {
            let mut config = configured.read()?;
            if lan {
                page::open_to_network(&mut config)?;
            }
            Ok(config)
        };
        let config = read().context("reading the configuration")?;
        logging::start(config.log.level);
        // Before any thread is started: signals that come early are not lost.
        let signals = signals::listen().context("listening to signals")?;
        let clock = Arc::new(SystemClock::new()?);
        let settings = (*config).clone();
        let (inside, outside) = face::open();
        network::start(&config, outside)?;
        if lan {
            page::print(&page::fresh_links(&config, &KeyFile::of(&config.store.folder))?)?;
        }
        let watch = updates::of(&config).map(Watch::new);
        let loading = watch.clone();
        let (_, end) = run(Running {
            config,
            reread: Box::new(read),
            clock,
            signals,
            face: inside,
            load: move || updates::load(&settings, loading.as_ref()).map_err(|error| format!("{error:#}")),
            another: Box::new(move || watch.as_ref().is_some_and(Watch::is_outdated)),
        })?;
        match end {
            End::Done => Ok(ExitCode::SUCCESS),
            End::Another => {
                log::info!("a new model is tried: the program starts itself anew");
                Err(again()).context("starting anew")
            }
        }
    }
}

/// This program with the same arguments in its own place: for the service manager it is the same process.
fn again() -> std::io::Error {
    match std::env::current_exe() {
        Ok(program) => Command::new(program).args(std::env::args_os().skip(1)).exec(),
        Err(error) => error,
    }
}

/// The captioner, and the matcher if the bundle has one, of what the configuration names.
pub(super) fn load(settings: &Settings) -> Result<Model> {
    load_from(settings.model.bundle.as_deref(), settings)
}

/// The same of the bundle in a folder; the built-in one if there is none.
pub(super) fn load_from(folder: Option<&Path>, settings: &Settings) -> Result<Model> {
    let bundle = match folder {
        Some(folder) => Bundle::open_with(folder, cache_of(settings.model.cache.as_ref()).as_ref())?,
        None => Bundle::built_in()?,
    };
    let manifest = bundle.manifest();
    let mut roles = vec![Role::Captioner];
    roles.extend(manifest.matcher.as_ref().map(|_| Role::Matcher));
    let model = Model::load(Arc::new(bundle), &roles, threads(settings))?;
    if let Some(error) = model.cache_error() {
        warn(error);
    }
    Ok(model)
}

fn threads(settings: &Settings) -> usize {
    settings.model.threads.map_or_else(big_cores, usize::from)
}

/// The folder of a bundle as it is shown.
pub(super) fn bundle_name(bundle: Option<&PathBuf>) -> String {
    bundle.map_or_else(|| "built-in".to_owned(), |folder| folder.display().to_string())
}
