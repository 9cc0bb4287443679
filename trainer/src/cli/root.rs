//! `root`.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use clap::{Args, Subcommand};
use exchange::release::{BoardClass, Delegation, Root};
use exchange::{PublicKey, SecretKey, Statement, signed};
use host::now_s;
use host::releases::read_root;
use serde_json::json;
use terminal::shown;

use super::devices::write_secret;

/// Seconds of a day.
const DAY_S: i64 = 86_400;

/// The keys above all: who may release models for boards. For a machine without a network
#[derive(Args)]
pub struct Roots {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Make a key, and print its public half
    Key(NewKey),
    /// Make the first root, or the one that follows another
    Make(Make),
    /// Say whose releases boards are to take, for how long
    Delegate(Delegate),
    /// Say what a root is
    Show(Show),
}

#[derive(Args)]
struct NewKey {
    /// File for its secret half: keep it away from networks, and a copy of it elsewhere
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

#[derive(Args)]
struct Make {
    /// Public half of each key of the root
    #[arg(long = "member", value_name = "KEY", required = true)]
    members: Vec<PublicKey>,
    /// How many of them must sign what the root says
    #[arg(long, default_value_t = 1)]
    threshold: u8,
    /// The root before, of which enough keys must sign this one too
    #[arg(long, value_name = "FILE")]
    after: Option<PathBuf>,
    /// Secret half of each key that signs: of this root, and of the one before
    #[arg(long = "key", value_name = "FILE", required = true)]
    keys: Vec<PathBuf>,
    /// File for the root
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

#[derive(Args)]
struct Delegate {
    /// The root
    #[arg(long, value_name = "FILE")]
    root: PathBuf,
    /// Secret half of each key that signs
    #[arg(long = "key", value_name = "FILE", required = true)]
    keys: Vec<PathBuf>,
    /// Release key of the host, as "publish status" prints it
    #[arg(long, value_name = "KEY")]
    to: PublicKey,
    /// Larger than that of every delegation before
    #[arg(long)]
    serial: u64,
    /// Boards for which it may release: any, aarch64, raspberry-pi-4-model-b …; several times for several
    #[arg(long = "class", required = true)]
    classes: Vec<BoardClass>,
    /// Days for which it may
    #[arg(long, default_value_t = 90, value_parser = clap::value_parser!(u16).range(1..=3650))]
    days: u16,
    /// File for the delegation
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

#[derive(Args)]
struct Show {
    /// The root
    root: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Roots {
    pub fn run(self) -> Result<()> {
        match self.action {
            Action::Key(key) => key.run(),
            Action::Make(make) => make.run(),
            Action::Delegate(delegate) => delegate.run(),
            Action::Show(show) => show.run(),
        }
    }
}

impl NewKey {
    fn run(self) -> Result<()> {
        ensure!(!self.out.exists(), "{}: it is there already; a key is never written over", shown(&self.out));
        let key = SecretKey::generate()?;
        write_secret(&self.out, key.to_text().as_bytes())?;
        println!("{}", key.public());
        Ok(())
    }
}

impl Make {
    fn run(self) -> Result<()> {
        let before = self.after.as_deref().map(root_of).transpose()?;
        let version = before.as_ref().map_or(1, |root| root.version.saturating_add(1));
        let root = Root { version, keys: self.members, threshold: self.threshold };
        ensure!(
            root.is_sound(),
            "a root has one to eight keys, each once, and asks for one signature at least and no more than it has keys"
        );
        let keys = secrets(&self.keys)?;
        enough(&root, &keys).context("this root")?;
        if let Some(before) = &before {
            enough(before, &keys).context("the root before")?;
        }
        write(&self.out, &root, &keys)?;
        println!("{}: root {version}, {}", shown(&self.out), described(&root));
        Ok(())
    }
}

impl Delegate {
    fn run(self) -> Result<()> {
        let root = root_of(&self.root)?;
        let keys = secrets(&self.keys)?;
        enough(&root, &keys).context("the root")?;
        ensure!(self.serial > 0, "--serial: the first delegation is number 1");
        let expires_s = now_s() + i64::from(self.days) * DAY_S;
        let delegation = Delegation { serial: self.serial, key: self.to, classes: self.classes, expires_s };
        write(&self.out, &delegation, &keys)?;
        println!("{}: {} may release for {} days", shown(&self.out), self.to.fingerprint(), self.days);
        Ok(())
    }
}

impl Show {
    fn run(self) -> Result<()> {
        let root = root_of(&self.root)?;
        if self.json {
            println!("{}", terminal::json(&json!(root))?);
        } else {
            println!("root {}, {}", root.version, described(&root));
        }
        Ok(())
    }
}

fn described(root: &Root) -> String {
    let keys: Vec<String> = root.keys.iter().map(PublicKey::fingerprint).collect();
    format!("{} of {}", root.threshold, keys.join(", "))
}

fn root_of(path: &Path) -> Result<Root> {
    let bytes = super::devices::read_small(path)?;
    read_root(&bytes).with_context(|| shown(path))
}

fn secrets(paths: &[PathBuf]) -> Result<Vec<SecretKey>> {
    let secret = |path: &PathBuf| {
        let text = std::fs::read_to_string(path).with_context(|| shown(path))?;
        SecretKey::from_text(&text).with_context(|| shown(path))
    };
    paths.iter().map(secret).collect()
}

fn enough(root: &Root, keys: &[SecretKey]) -> Result<()> {
    let ours: Vec<PublicKey> = keys.iter().map(SecretKey::public).collect();
    let there = root.keys.iter().filter(|key| ours.contains(key)).count();
    let threshold = usize::from(root.threshold);
    ensure!(there >= threshold, "{threshold} of its keys must sign, and --key names {there} of them");
    Ok(())
}

fn write<S: Statement>(path: &Path, statement: &S, keys: &[SecretKey]) -> Result<()> {
    let bytes = signed::sign(statement, &keys.iter().collect::<Vec<_>>());
    std::fs::write(path, bytes).with_context(|| shown(path))
}
