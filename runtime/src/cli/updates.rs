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
use terminal::printable;
use update::{Chosen, Fetched, Offered, Slot, State, UpdateError, Updates, Watch, Written};

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
/// not load, or answers otherwise than where it was made, is given back, and what ran before is loaded. A disk that takes
/// nothing keeps no board from captioning.
pub(super) fn load(settings: &Settings, watch: Option<&Watch>) -> Result<Model> {
    let Some(watch) = watch else { return run::load(settings) };
    let (updates, mut written) = (watch.updates(), Written::All);
    let mut unwritten = |what: &str, error: UpdateError| {
        log::warn!(error:% = error; "{what}, and that cannot be written down");
        written = Written::NotAll;
    };
    let mut chosen = updates.begin().unwrap_or_else(|error| {
        unwritten("a release is to be tried", error);
        updates.current()
    });
    let model = loop {
        let error = match loaded(updates, &chosen, settings) {
            Ok(model) => break model,
            Err(error) if chosen.folder.is_none() && !chosen.is_trial => return Err(error),
            Err(error) => error,
        };
        chosen = updates.give_back(&chosen, &format!("{error:#}")).unwrap_or_else(|fault| {
            unwritten("a release does not load", fault);
            let current = updates.current();
            if current.is(&chosen) { updates.factory() } else { current }
        });
    };
    if chosen.is_trial {
        match updates.commit(&chosen) {
            Ok(()) => log::info!(slot:% = chosen.slot; "what was tried works and is kept"),
            Err(error) => unwritten("what was tried works", error),
        }
    }
    watch.loaded(&chosen, written);
    Ok(model)
}

fn loaded(updates: &Updates, chosen: &Chosen, settings: &Settings) -> Result<Model> {
    let Some(folder) = &chosen.folder else { return run::load(settings) };
    let model = run::load_from(Some(folder), settings)?;
    if chosen.is_trial {
        let filled = updates.state().slots.remove(&chosen.slot).ok_or(UpdateError::Empty(chosen.slot))?;
        golden::check_captioner_within(&model, filled.health.tolerance)?;
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
        let state = self.name();
        match self {
            Taken::Same(_) => json!({ "state": state }),
            Taken::Proposed(sequence) => json!({ "state": state, "sequence": sequence }),
            Taken::Failed(sequence, reason) => json!({ "state": state, "sequence": sequence, "reason": reason }),
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Taken::Same(Fetched::Nothing) => "none",
            Taken::Same(Fetched::Current) => "current",
            Taken::Same(Fetched::Later) => "later",
            Taken::Same(Fetched::Denied) => "denied",
            Taken::Same(Fetched::Ready { .. }) => "ready",
            Taken::Proposed(_) => "proposed",
            Taken::Failed(..) => "failed",
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

/// Looks for a release, fetches and tests it, and tells the host what became of others.
pub(super) fn take(settings: &Settings, grant: &Grant, remote: &mut dyn Remote, now_s: i64) -> Result<Taken> {
    let updates = Updates::at(&update::folder_beside(&settings.store.folder));
    let claim = updates.claim()?;
    let board = board(settings)?;
    let key = Identity::at(&sync::folder_beside(&settings.store.folder)).key()?;
    let offered = Offered { device: &grant.device, board: &board, now_s, leave: LEAVE };
    let taken = (|| -> Result<Taken> {
        if let Some(root) = &grant.root {
            updates.believe(root, grant.host)?;
        }
        let fetched = updates.fetch(&claim, remote, &offered)?;
        let Fetched::Ready { slot, sequence, .. } = fetched else { return Ok(Taken::Same(fetched)) };
        Ok(match test(&updates, slot)? {
            Ok(()) => {
                updates.propose(slot)?;
                Taken::Proposed(sequence)
            }
            Err(reason) => {
                updates.refuse(&claim, slot, &reason)?;
                Taken::Failed(sequence, reason)
            }
        })
    })();
    let words = match &taken {
        Ok(taken) => taken.words().unwrap_or_else(|| taken.name().to_owned()),
        Err(error) => format!("refused: {error:#}"),
    };
    updates.note(&words)?;
    // A stick that is read-only, or a place that takes no reports, keeps no board from its releases.
    if let Err(error) = updates.send_reports(remote, &grant.device, &key, board.version, now_s) {
        log::warn!(error:% = error; "the host does not hear yet what became of releases");
    }
    taken
}

fn test(updates: &Updates, slot: Slot) -> Result<Result<(), String>> {
    let Some(health) = updates.begin_test(slot)? else {
        return Ok(Err("its test was begun again and again, and never ended".to_owned()));
    };
    let contract = Contract { memory_mib: health.memory_mib, seconds: health.seconds, tolerance: health.tolerance };
    let mut command = Command::new(std::env::current_exe().context("finding this program")?);
    command.args(["bundle", "try", "--memory-mib", &health.memory_mib.to_string()]);
    command.args(["--seconds", &health.seconds.to_string(), "--tolerance", &health.tolerance.to_string()]);
    command.arg(updates.folder_of(slot));
    test_in_child(command, contract).or_else(|error| {
        // It says nothing about the release: the next look tests it.
        updates.forget_test(slot)?;
        Err(error).context("the release cannot be tested now")
    })
}

/// How it stands with releases, for programs; nothing where none are taken.
pub(super) fn standing(settings: &Settings) -> Value {
    let Some(state) = of(settings).map(|updates| updates.state()) else { return Value::Null };
    let sequence = state.slots.get(&state.current).map(|filled| filled.sequence);
    json!({
        "runs": state.current, "sequence": sequence, "trial": state.trial, "heard_s": state.heard_s,
        "fresh_until_s": state.fresh_until_s, "last": state.last,
    })
}

/// The same for people.
pub(super) fn tell_standing(settings: &Settings) -> Result<()> {
    let Some(state) = of(settings).map(|updates| updates.state()) else { return Ok(()) };
    if let Some(filled) = state.slots.get(&state.current) {
        say(&format!("release {} runs", filled.sequence))?;
    }
    if let Some(trial) = state.trial {
        say(&format!("slot {} is tried, {} tries left", trial.slot, trial.tries))?;
    }
    tell_heard(&state)
}

/// What was heard last, and whether that is too long ago.
pub(super) fn tell_heard(state: &State) -> Result<()> {
    if let Some(last) = &state.last {
        say(&format!("the last look for a release: {}", printable(last)))?;
    }
    let Some(time) = state.heard_s.and_then(|at| field::clock::written(at.saturating_mul(1000))) else { return Ok(()) };
    if state.fresh_until_s.is_some_and(|until| until <= now_s()) {
        return say(&format!(
            "nothing fresh about releases was heard since {time}: the host is not reached or does not sign, or somebody \
             keeps its word from this board"
        ));
    }
    say(&format!("the host was last heard to name the newest release at {time}"))
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
