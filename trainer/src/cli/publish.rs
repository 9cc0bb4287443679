//! `publish`.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use clap::{Args, Subcommand};
use exchange::release::{ALL_BOARDS, BoardClass, Health, HealthReport, Newest, Outcome, Version};
use host::Home;
use host::now_s;
use host::releases::{Offer, Releases, Validity};
use objects::Objects;
use serde_json::json;
use terminal::printable;

use super::source::Source;

/// Seconds of a day.
const DAY_S: i64 = 86_400;
/// How long another program may be at the releases, and from one look to the next.
const PATIENCE: Duration = Duration::from_secs(20);
const TURN: Duration = Duration::from_millis(50);

/// Models for boards, signed
#[derive(Args)]
pub struct Publish {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Release a bundle
    Bundle(Bundle),
    /// Give the newest release to more boards, or to fewer that have not taken it yet
    Share(Share),
    /// Say anew that the newest release is the newest, before that expires; "serve" does it by itself
    Renew(Renew),
    /// Take what the root has signed
    Adopt(Adopt),
    /// Say what is released, and what boards say of it
    Status(Status),
}

#[derive(Args)]
struct Place {
    /// The host's folder; it is made if it is not there
    #[arg(long, value_name = "DIR")]
    host: PathBuf,
    #[command(flatten)]
    source: Source,
    /// Print JSON, one object a line
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct Holding {
    /// Days for which the word about the newest release holds
    #[arg(long, default_value_t = 14, value_parser = clap::value_parser!(u16).range(1..=365))]
    days: u16,
}

#[derive(Args)]
struct Bundle {
    #[command(flatten)]
    place: Place,
    /// Folder that edgeblip-export wrote
    bundle: PathBuf,
    /// Boards that it is for: any, aarch64, raspberry-pi-4-model-b …; several times for several
    #[arg(long = "class", default_value = "any")]
    classes: Vec<BoardClass>,
    /// Oldest version of edgeblip that can run it
    #[arg(long, default_value = env!("CARGO_PKG_VERSION"))]
    minimum_version: Version,
    /// Most memory that it may take on a board, in MiB
    #[arg(long, default_value_t = 1024)]
    memory_mib: u32,
    /// Most seconds that a board may need to load it and to give its golden answers; its service waits for as long as its
    /// limits.stuck_s, 300, says
    #[arg(long, default_value_t = 240)]
    seconds: u32,
    /// How far the log-probability of a golden text may be from what it was
    #[arg(long, default_value_t = 0.05)]
    tolerance: f32,
    /// How many boards of 1,000 take it
    #[arg(long, default_value_t = ALL_BOARDS, value_parser = clap::value_parser!(u16).range(0..=1000))]
    share: u16,
    #[command(flatten)]
    holding: Holding,
}

#[derive(Args)]
struct Share {
    #[command(flatten)]
    place: Place,
    /// How many boards of 1,000 take it
    #[arg(value_parser = clap::value_parser!(u16).range(0..=1000))]
    share: u16,
    #[command(flatten)]
    holding: Holding,
}

#[derive(Args)]
struct Renew {
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    holding: Holding,
}

#[derive(Args)]
struct Adopt {
    #[command(flatten)]
    place: Place,
    /// Roots, one after the other
    #[arg(long = "root", value_name = "FILE")]
    roots: Vec<PathBuf>,
    /// Delegation to this host
    #[arg(long, value_name = "FILE")]
    delegation: Option<PathBuf>,
}

#[derive(Args)]
struct Status {
    #[command(flatten)]
    place: Place,
}

impl Publish {
    pub fn run(self) -> Result<()> {
        match self.action {
            Action::Bundle(bundle) => bundle.run(),
            Action::Share(share) => share.run(),
            Action::Renew(renew) => renew.run(),
            Action::Adopt(adopt) => adopt.run(),
            Action::Status(status) => status.run(),
        }
    }
}

impl Place {
    fn open(&self) -> Result<(Home, Objects)> {
        let home = Home::open(&self.host)?;
        let objects = self.source.open(&home)?;
        Ok((home, objects))
    }

    fn tell(&self, newest: &Newest) -> Result<()> {
        if self.json {
            println!("{}", terminal::json(newest)?);
        } else {
            let days = (newest.expires_s - newest.at_s) / DAY_S;
            println!(
                "release {} is the newest, for {} boards of 1,000, for {days} days",
                newest.sequence, newest.share
            );
        }
        Ok(())
    }
}

impl Holding {
    fn validity(&self) -> Validity {
        Validity(i64::from(self.days) * DAY_S)
    }
}

impl Bundle {
    fn run(self) -> Result<()> {
        let (home, mut objects) = self.place.open()?;
        let health = Health { memory_mib: self.memory_mib, seconds: self.seconds, tolerance: self.tolerance };
        ensure!(self.tolerance >= 0.0, "--tolerance: it is below zero");
        let offer = Offer { classes: self.classes, minimum_version: self.minimum_version, health, share: self.share };
        let mut releases = open(&home, &mut objects)?;
        let tell = |name: &str, bytes: u64| eprintln!("{name}  {} KiB", bytes.div_ceil(1024));
        let release = releases.publish(&self.bundle, offer, self.holding.validity(), now_s(), tell)?;
        if self.place.json {
            println!("{}", terminal::json(&release)?);
        } else {
            let (files, mebibytes) = (release.files.len(), release.bytes() >> 20);
            println!("release {}: bundle {}, {files} files, {mebibytes} MiB", release.sequence, release.bundle);
        }
        Ok(())
    }
}

impl Share {
    fn run(self) -> Result<()> {
        let (home, mut objects) = self.place.open()?;
        let newest = open(&home, &mut objects)?.renew(Some(self.share), self.holding.validity(), now_s())?;
        self.place.tell(&newest)
    }
}

impl Renew {
    fn run(self) -> Result<()> {
        let (home, mut objects) = self.place.open()?;
        let newest = open(&home, &mut objects)?.renew(None, self.holding.validity(), now_s())?;
        self.place.tell(&newest)
    }
}

impl Adopt {
    fn run(self) -> Result<()> {
        ensure!(
            !self.roots.is_empty() || self.delegation.is_some(),
            "name a root with --root, or a delegation with --delegation"
        );
        let (home, mut objects) = self.place.open()?;
        let mut releases = open(&home, &mut objects)?;
        releases.adopt(&self.roots, self.delegation.as_deref(), now_s())?;
        tell_standing(&releases, self.place.json)
    }
}

impl Status {
    fn run(self) -> Result<()> {
        let (home, mut objects) = self.place.open()?;
        let mut releases = open(&home, &mut objects)?;
        tell_standing(&releases, self.place.json)?;
        for report in releases.reports(&home)? {
            self.tell(&report)?;
        }
        Ok(())
    }

    fn tell(&self, report: &HealthReport) -> Result<()> {
        if self.place.json {
            println!("{}", terminal::json(report)?);
            return Ok(());
        }
        let HealthReport { device, sequence, outcome, .. } = report;
        match outcome {
            Outcome::Kept => println!("{device}  keeps release {sequence}"),
            Outcome::Returned(reason) => {
                println!("{device}  gave release {sequence} back: {}", printable(reason.as_str()));
            }
        }
        Ok(())
    }
}

/// The releases of a host, as soon as a host that is running is not at them.
fn open<'r>(home: &Home, objects: &'r mut Objects) -> Result<Releases<'r>> {
    let since = Instant::now();
    while home.is_releasing()? && since.elapsed() < PATIENCE {
        std::thread::sleep(TURN);
    }
    Ok(Releases::open(home, objects)?)
}

fn tell_standing(releases: &Releases<'_>, as_json: bool) -> Result<()> {
    let standing = releases.standing()?;
    let (root, delegation, newest) = (&standing.root, &standing.delegation, &standing.newest);
    if as_json {
        let row = json!({ "release_key": standing.key, "root": root, "delegation": delegation, "newest": newest });
        println!("{}", terminal::json(&row)?);
        return Ok(());
    }
    println!("release key  {}  {}", standing.key, standing.key.fingerprint());
    match root {
        Some(root) => println!("root {}, {} of {} keys", root.version, root.threshold, root.keys.len()),
        None => println!("no root: boards that are let in now take no releases"),
    }
    if let Some(delegation) = delegation {
        let classes: Vec<String> = delegation.classes.iter().map(ToString::to_string).collect();
        let days = (delegation.expires_s - now_s()) / DAY_S;
        println!("delegation {}, for boards of class {}, {days} days left", delegation.serial, classes.join(", "));
    }
    if let Some(newest) = newest {
        let days = (newest.expires_s - now_s()) / DAY_S;
        println!("release {} is the newest, for {} boards of 1,000; {days} days left", newest.sequence, newest.share);
    }
    Ok(())
}
