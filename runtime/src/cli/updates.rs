//! Releases: fetched by `sync` or from a stick, tested in a child, loaded by `run`.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};
use edgeblip::golden;
use edgeblip::model::Model;
use edgeblip::trial::{Contract, test_in_child};
use exchange::Grant;
use exchange::release::{Board, BoardClass, Version};
use field::config::{Config, Settings};
use objects::{Objects, Options, Remote};
use serde_json::{Value, json};
use sync::Identity;
use update::{Chosen, Fetched, Offered, Slot, UpdateError, Updates};

use super::config::Configured;
use super::{run, say, say_json};

/// Room that a release leaves on the disk, in bytes.
const LEAVE: u64 = 64 << 20;
/// What a Pi, and most boards beside it, call themselves.
const MODEL: &str = "/proc/device-tree/model";

/// The releases on this board; nothing where none are taken.
pub(super) fn of(settings: &Settings) -> Option<Updates> {
    settings.sync.updates.then(|| Updates::at(&update::folder_beside(&settings.store.folder)))
}

/// The model that is to run: the release that is tried or was kept, or what the configuration names. A release that does
/// not load, or answers otherwise than where it was made, is given back, and what ran before is loaded.
pub(super) fn load(settings: &Settings) -> Result<Model> {
    let Some(updates) = of(settings) else { return run::load(settings) };
    let mut chosen = updates.begin().unwrap_or_else(|error| {
        log::warn!(error:% = error; "no release is tried: the try cannot be counted");
        updates.current()
    });
    loop {
        let Chosen { slot, folder: Some(folder), is_trial } = &chosen else { return run::load(settings) };
        match loaded(folder, *is_trial, settings) {
            Ok(model) if *is_trial => {
                updates.commit()?;
                log::info!(slot:% = slot; "the release works and is kept");
                return Ok(model);
            }
            Ok(model) => return Ok(model),
            Err(error) => chosen = updates.give_back(*slot, &format!("{error:#}"))?,
        }
    }
}

fn loaded(folder: &Path, is_trial: bool, settings: &Settings) -> Result<Model> {
    let model = run::load_from(Some(folder), settings)?;
    if is_trial {
        golden::check_captioner(&model)?;
    }
    Ok(model)
}

/// What came of looking for a release.
pub(super) enum Taken {
    /// Nothing is different.
    Same(Fetched),
    /// The service is to try it.
    Proposed(u64),
    /// It failed its test, for this reason.
    Failed(u64, String),
}

impl Taken {
    pub(super) fn json(&self) -> Value {
        match self {
            Taken::Same(fetched) => json!({ "state": name(fetched) }),
            Taken::Proposed(sequence) => json!({ "state": "proposed", "sequence": sequence }),
            Taken::Failed(sequence, reason) => json!({ "state": "failed", "sequence": sequence, "reason": reason }),
        }
    }

    /// In words; nothing where nothing is different.
    pub(super) fn words(&self) -> Option<String> {
        match self {
            Taken::Same(_) => None,
            Taken::Proposed(sequence) => {
                Some(format!("release {sequence} is here and has passed its test: the service tries it"))
            }
            Taken::Failed(sequence, reason) => Some(format!("release {sequence} is not taken: {reason}")),
        }
    }
}

fn name(fetched: &Fetched) -> &'static str {
    match fetched {
        Fetched::Nothing => "none",
        Fetched::Current => "current",
        Fetched::Later => "later",
        Fetched::Denied => "denied",
        Fetched::Ready { .. } => "ready",
    }
}

/// Looks for a release, fetches and tests it, and tells the host what became of others.
pub(super) fn take(settings: &Settings, grant: &Grant, remote: &mut dyn Remote, now_s: i64) -> Result<Taken> {
    let updates = Updates::at(&update::folder_beside(&settings.store.folder));
    if let Some(root) = &grant.root {
        updates.believe(root)?;
    }
    let board = board(settings)?;
    let key = Identity::at(&sync::folder_beside(&settings.store.folder)).key()?;
    updates.send_reports(remote, &grant.device, &key, board.version, now_s)?;
    let offered = Offered { device: &grant.device, board: &board, now_s, leave: LEAVE };
    let fetched = updates.fetch(remote, &offered)?;
    let Fetched::Ready { slot, sequence, .. } = fetched else { return Ok(Taken::Same(fetched)) };
    match test(&updates, slot)? {
        Ok(()) => {
            updates.propose(slot)?;
            Ok(Taken::Proposed(sequence))
        }
        Err(reason) => {
            updates.give_back(slot, &reason)?;
            // The host hears of it at once, if it can.
            updates.send_reports(remote, &grant.device, &key, board.version, now_s)?;
            Ok(Taken::Failed(sequence, reason))
        }
    }
}

fn test(updates: &Updates, slot: Slot) -> Result<Result<(), String>> {
    let health = updates.state().slots.get(&slot).map(|filled| filled.health).ok_or(UpdateError::Empty(slot))?;
    let contract = Contract { memory_mib: health.memory_mib, seconds: health.seconds, tolerance: health.tolerance };
    let mut command = Command::new(std::env::current_exe().context("finding this program")?);
    command.args(["bundle", "try", "--memory-mib", &health.memory_mib.to_string()]);
    command.args(["--seconds", &health.seconds.to_string(), "--tolerance", &health.tolerance.to_string()]);
    command.arg(updates.folder_of(slot));
    Ok(test_in_child(command, contract))
}

/// What this board is.
fn board(settings: &Settings) -> Result<Board> {
    let mut classes = Vec::new();
    match &settings.sync.class {
        Some(class) => classes.push(class.parse::<BoardClass>().context("sync.class")?),
        None => classes.extend(std::fs::read_to_string(MODEL).ok().and_then(|model| BoardClass::of_model(&model))),
    }
    classes.extend(std::env::consts::ARCH.parse().ok());
    let version: Version = env!("CARGO_PKG_VERSION").parse().context("this program's version")?;
    Ok(Board { classes, version })
}

/// Takes a release from a stick: a folder with `releases` in it.
pub(super) fn install(source: &Path, config: Option<PathBuf>, as_json: bool) -> Result<ExitCode> {
    let config: Config = Configured { config, ..Configured::default() }.read().context("reading the configuration")?;
    let identity = Identity::at(&sync::folder_beside(&config.store.folder));
    let grant = identity
        .grant()?
        .context("this board has no host, and knows no one whose releases it may take: \"edgeblip enrol\" asks one")?;
    let folder = source.canonicalize().with_context(|| terminal::shown(source))?;
    let mut remote = Objects::open(&format!("file://{}", folder.display()), &Options::default())?;
    let taken = take(&config, &grant, &mut remote, now_s())?;
    if as_json {
        say_json(&taken.json())?;
    } else {
        say(&taken.words().unwrap_or_else(|| "nothing on it is newer than what is here".to_owned()))?;
    }
    Ok(if matches!(taken, Taken::Failed(..)) { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn now_s() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}
