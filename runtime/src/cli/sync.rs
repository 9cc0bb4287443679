//! `edgeblip sync`.

use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use blip::caption::Caption;
use clap::{Args, Subcommand};
use exchange::Grant;
use field::clock::{Clock as _, SystemClock};
use objects::{Objects, ObjectsError, Options, Remote as _};
use serde_json::json;
use store::{Reader, Store, StoreError};
use sync::settling::settle;
use sync::status::Status;
use sync::{Clock, Identity, Ledger, Limits, Moment, Report, Round, State, Waited};

use super::config::Service;
use super::updates::{self, Taken};
use super::{complain, say, say_json};

/// Sends pairs to the host, and fetches its receipts. It runs beside the service; a timer starts it. Without a network it
/// says nothing and tries again later.
#[derive(Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Sync {
    #[command(subcommand)]
    action: Option<Action>,
    #[command(flatten)]
    place: Service,
    /// Do not heed how long the network was to be left alone
    #[arg(long)]
    now: bool,
    /// Wait so many seconds for the receipts of what was sent
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    wait: u32,
}

#[derive(Subcommand)]
enum Action {
    /// Say how the last run ended, and what is under way
    Status(Service),
}

impl Sync {
    pub fn run(&self) -> Result<ExitCode> {
        match &self.action {
            Some(Action::Status(place)) => status(place),
            None => self.sync(),
        }
    }

    fn sync(&self) -> Result<ExitCode> {
        let config = self.place.read()?;
        field::log::start(config.log.level);
        let folder = sync::folder_beside(&config.store.folder);
        let grant = Identity::at(&folder).grant()?;
        let grant = grant.context("this board has no host: \"edgeblip enrol\" asks one")?;
        if !config.sync.metered && is_metered() {
            return self.end(
                "metered",
                "the network is paid by the byte, and sync.metered is false",
                ExitCode::SUCCESS,
            );
        }
        let mut clock = SystemTimes(SystemClock::new()?);
        let ledger = Ledger::open(&folder)?;
        let left = ledger.memory().backoff.left(&clock.now());
        if !self.now && left > Duration::ZERO {
            let words = format!("the network is left alone for another {} s; --now tries at once", left.as_secs() + 1);
            return self.end("backing-off", &words, ExitCode::SUCCESS);
        }
        let url = config.sync.url.clone().or_else(|| grant.url.clone());
        let url = url.context("sync.url is not set, and the host granted none: set where pairs are to go")?;
        let kib = |kib: u32| u64::from(kib) << 10;
        let options = Options {
            credentials: grant.credentials.clone(),
            authority: config.sync.authority.clone(),
            rate: config.sync.rate_kib.map(kib),
        };
        let mut remote = match Objects::open(&url, &options) {
            Ok(remote) => remote,
            Err(error @ ObjectsError::NoFolder { .. }) => {
                return self.end("offline", &error.to_string(), ExitCode::SUCCESS);
            }
            Err(error) => return Err(error.into()),
        };
        let limits = Limits {
            day_bytes: config.sync.day_mib.map(|mib| u64::from(mib) << 20),
            patience: Duration::from_secs_f64(config.sync.patience_s),
            receipts: Duration::from_secs(u64::from(self.wait)),
        };
        let reader = Reader::new(&config.store.folder);
        let mut hear = || hear_receipts(&config.store.folder, &ledger, &grant);
        let mut chance = chance;
        // Receipts that came while nobody had the store.
        hear();
        let mut round = Round {
            grant: &grant,
            reader: &reader,
            ledger: &ledger,
            remote: &mut remote,
            clock: &mut clock,
            chance: &mut chance,
            settle: &mut hear,
            tell: &mut |state| log::debug!("{}", state.words()),
            limits,
        };
        // A board that has not begun to look has nothing to send, and may take a release.
        let (state, report) =
            if config.store.folder.is_dir() { round.run()? } else { (State::Idle, Report::default()) };
        let is_reached = !matches!(state, State::Offline { .. } | State::AuthNeeded { .. } | State::ClockUnknown);
        let taken = if config.sync.updates && is_reached {
            let now_s = clock.now().wall_s.saturating_add(remote.ahead_s().unwrap_or(0));
            Some(updates::take(&config, &grant, &mut remote, now_s))
        } else {
            None
        };
        let is_written = matches!(state, State::Idle | State::Waiting { .. } | State::OverQuota { .. });
        // A place without a network is a stick, on which every file is synced before it has its name.
        self.tell(&state, &report, remote.folder().filter(|_| is_written), taken)
    }

    fn tell(
        &self,
        state: &State,
        report: &Report,
        stick: Option<&Path>,
        taken: Option<Result<Taken>>,
    ) -> Result<ExitCode> {
        let code = if state.needs_somebody() { ExitCode::FAILURE } else { ExitCode::SUCCESS };
        if self.place.json {
            let mut line = json!({ "state": state.name(), "words": state.words(), "report": report });
            if stick.is_some() {
                line["safe_to_remove"] = true.into();
            }
            match taken {
                Some(Ok(taken)) => line["release"] = taken.json(),
                Some(Err(error)) => line["release"] = json!({ "state": "refused", "reason": format!("{error:#}") }),
                None => {}
            }
            say_json(&line)?;
            return Ok(code);
        }
        if matches!(state, State::Offline { .. }) && report.shards == 0 {
            log::debug!("{}", state.words());
            return Ok(code);
        }
        if report.pairs > 0 || report.receipts > 0 {
            let (pairs, shards, receipts) = (report.pairs, report.shards + report.were_there, report.receipts);
            say(&format!("{pairs} pairs sent in {shards} shards; {receipts} receipts came"))?;
        }
        say(&state.words())?;
        match taken {
            Some(Ok(taken)) => taken.words().map_or(Ok(()), |words| say(&words))?,
            Some(Err(error)) => complain(&error.context("releases")),
            None => {}
        }
        if let Some(folder) = stick {
            say(&format!("{}: everything is written: safe to remove", terminal::shown(folder)))?;
        }
        Ok(code)
    }

    fn end(&self, state: &str, words: &str, code: ExitCode) -> Result<ExitCode> {
        if self.place.json {
            say_json(&json!({ "state": state, "words": words }))?;
        } else {
            log::info!("{words}");
        }
        Ok(code)
    }
}

fn status(place: &Service) -> Result<ExitCode> {
    let config = place.read()?;
    let status = Status::read(&sync::folder_beside(&config.store.folder));
    let counts = Reader::new(&config.store.folder).counts().unwrap_or_default();
    if place.json {
        let mut line = serde_json::to_value(&status)?;
        line["unsynced"] = counts.unsynced.into();
        line["release"] = updates::standing(&config);
        say_json(&line)?;
        return Ok(ExitCode::SUCCESS);
    }
    say(&status.words)?;
    if let Some(device) = &status.device {
        say(&format!(
            "board {device}: {} pairs not at home, {} of them on their way",
            counts.unsynced, status.under_way
        ))?;
    }
    if status.refused > 0 {
        say(&format!("{} pairs that the host will not have are kept here", status.refused))?;
    }
    if let Some(time) = status.well_at_s.and_then(|at| field::clock::written(at.saturating_mul(1000))) {
        say(&format!("all went well last at {time}"))?;
    }
    updates::tell_standing(&config)?;
    Ok(ExitCode::SUCCESS)
}

/// Tells the store of receipts, if no service has it: the service does it itself.
fn hear_receipts(pairs: &Path, ledger: &Ledger, grant: &Grant) {
    let heard = (|| -> Result<()> {
        if ledger.arrivals()?.is_empty() {
            return Ok(());
        }
        let boot = Caption::new(SystemClock::new()?.now().boot.to_string()).context("the boot's id")?;
        let limits = store::Limits { budget: u64::MAX, ..store::Limits::default() };
        let mut store = match Store::open(pairs, boot, limits) {
            Ok((store, _)) => store,
            Err(StoreError::Owned { .. }) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        settle(ledger, grant, |receipts| store.mark_synced(receipts)).map(drop).context("telling the store of receipts")
    })();
    if let Err(error) = heard {
        complain(&error);
    }
}

/// The system's time, and sleep.
struct SystemTimes(SystemClock);

impl Clock for SystemTimes {
    fn now(&self) -> Moment {
        let now = self.0.now();
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let wall_s = i64::try_from(since.as_secs()).unwrap_or(i64::MAX);
        Moment { boot: now.boot.to_string(), since_boot: now.since_boot, wall_s }
    }

    /// A signal ends the process, which may stop anywhere.
    fn wait(&mut self, time: Duration) -> Waited {
        std::thread::sleep(time);
        Waited::Whole
    }
}

/// A number from 0 to 1. Without randomness boards are not spread, and no pair is the worse for it.
fn chance() -> f64 {
    let mut bytes = [0; 4];
    let drawn = getrandom::fill(&mut bytes).map(|()| f64::from(u32::from_le_bytes(bytes)) / f64::from(u32::MAX));
    drawn.unwrap_or(1.0)
}

/// Whether NetworkManager says that the network is paid by the byte. Without it nobody knows, and nothing is held back.
///
/// Source: NetworkManager's D-Bus API, `NMMetered`: 1 is yes, 3 a guess of yes.
fn is_metered() -> bool {
    let name = "org.freedesktop.NetworkManager";
    let asked = Command::new("busctl")
        .args(["--timeout=3", "get-property", name, "/org/freedesktop/NetworkManager", name, "Metered"])
        .output();
    asked.is_ok_and(|answer| matches!(answer.stdout.trim_ascii(), b"u 1" | b"u 3"))
}
