//! The command line: one file a command, thin over the library.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result};
use blip::config::Role;
use clap::{Args, Parser, Subcommand};
use edgeblip::bundle::{Bundle, Cache};
use edgeblip::cores::big_cores;
use edgeblip::model::Model;
use terminal::{explained, json};

mod ask;
mod bench;
mod bundle;
mod caption;
mod config;
mod doctor;
mod enrol;
mod embed;
mod network;
mod page;
mod pairs;
mod pictures;
mod run;
mod score;
mod search;
mod updates;
mod sync;
mod writing;

/// BLIP on small boards: captions pictures, scores texts, answers questions, searches; and lives on a board with a camera.
#[derive(Parser)]
#[command(version, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Write a caption for each picture, one line a picture
    Caption(caption::Caption),
    /// Say how well texts match a picture: ITM probability and ITC cosine
    Score(score::Score),
    /// Answer a question about a picture
    Ask(ask::Ask),
    /// Print the ITC vector of a picture or a text
    Embed(embed::Embed),
    /// Find the pictures of a folder that match a text: ITC finds, ITM ranks
    Search(search::Search),
    /// Say how fast this machine captions, in one line
    Bench(bench::Bench),
    /// Live on a board: look, caption, filter and keep, until told to stop
    Run(run::Run),
    /// List, show, check, label and forget pairs that were kept
    Pairs(pairs::Pairs),
    /// Let people and programs use the board's page
    Page(page::Page),
    /// Make this board known to a host
    Enrol(enrol::Enrol),
    /// Send pairs to the host, and fetch its receipts
    Sync(sync::Sync),
    /// What runs on the board, and what else could: releases, bundles, the way back
    Bundle(bundle::Bundles),
    /// Print the configuration in effect
    Config(config::Print),
    /// Check board, camera, pins, disk, clock and bundle, and say what to do
    Doctor(doctor::Doctor),
}

/// What every command takes.
#[derive(Args)]
struct Common {
    /// Folder of the bundle; the small built-in one if none is named
    #[arg(long, value_name = "DIR")]
    bundle: Option<PathBuf>,
    /// Threads to compute on; as many as there are big cores if none is named
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    threads: Option<u16>,
    /// Folder for what makes the next start with a bundle short; ~/.cache/edgeblip if none is named
    #[arg(long, value_name = "DIR")]
    cache: Option<PathBuf>,
    /// Print JSON, one object a line
    #[arg(long)]
    json: bool,
}

impl Common {
    /// Opens the bundle and loads those heads in `roles`.
    fn load(&self, roles: impl FnOnce(&Bundle) -> Vec<Role>) -> Result<Model> {
        let bundle = match &self.bundle {
            Some(folder) => Bundle::open_with(folder, self.cache().as_ref()),
            None => Bundle::built_in(),
        };
        let bundle = bundle.context("opening the bundle")?;
        let roles = roles(&bundle);
        let model = Model::load(Arc::new(bundle), &roles, self.threads()).context("loading the bundle")?;
        if let Some(error) = model.cache_error() {
            warn(error);
        }
        Ok(model)
    }

    fn threads(&self) -> usize {
        self.threads.map_or_else(big_cores, usize::from)
    }

    fn cache(&self) -> Option<Cache> {
        cache_of(self.cache.as_ref())
    }
}

/// The folder that is named, or the one that systemd makes for a service, or the user's own.
fn cache_of(named: Option<&PathBuf>) -> Option<Cache> {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let of_user = || {
        let caches = variable("XDG_CACHE_HOME").or_else(|| Some(variable("HOME")?.join(".cache")));
        caches.map(|caches| caches.join("edgeblip"))
    };
    // Several folders of one service stand there with colons between them.
    let of_service = || std::env::split_paths(&variable("CACHE_DIRECTORY")?).next();
    let folder = named.cloned().or_else(of_service).or_else(of_user);
    folder.filter(|folder| folder.is_absolute() || named.is_some()).map(Cache::at)
}

/// Runs the command that the arguments name.
///
/// Exit code 0 if all went well, 1 if a picture or the whole failed, 2 if the arguments are wrong.
pub fn run() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Caption(command) => command.run(),
        Command::Score(command) => command.run(),
        Command::Ask(command) => command.run(),
        Command::Embed(command) => command.run(),
        Command::Search(command) => command.run(),
        Command::Bench(command) => command.run(),
        Command::Run(command) => command.run(),
        Command::Pairs(command) => command.run(),
        Command::Page(command) => command.run(),
        Command::Enrol(command) => command.run(),
        Command::Sync(command) => command.run(),
        Command::Bundle(command) => command.run(),
        Command::Config(command) => command.run(),
        Command::Doctor(command) => command.run(),
    };
    match done {
        Ok(code) => code,
        Err(error) if is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&error);
            ExitCode::FAILURE
        }
    }
}

/// Writes a line to standard output.
fn say(line: &str) -> Result<()> {
    writeln!(std::io::stdout().lock(), "{line}").context("writing the answer")
}

/// Writes a value as a line of JSON.
fn say_json(value: &impl serde::Serialize) -> Result<()> {
    say(&json(value).context("writing JSON")?)
}

/// Writes an error to standard error.
fn complain(error: &anyhow::Error) {
    let _ = writeln!(std::io::stderr().lock(), "edgeblip: {}", explained(error.as_ref()));
}

/// Writes to standard error what is no error, but worth knowing.
fn warn(error: &(dyn std::error::Error + 'static)) {
    let _ = writeln!(std::io::stderr().lock(), "edgeblip: warning: {}", explained(error));
}

/// The reader of our output has gone, as `head` does: nothing is wrong.
fn is_closed_pipe(error: &anyhow::Error) -> bool {
    let closed = |io: &std::io::Error| io.kind() == std::io::ErrorKind::BrokenPipe;
    error.chain().any(|cause| cause.downcast_ref().is_some_and(closed))
}

/// Milliseconds with three decimals.
fn milliseconds(duration: std::time::Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}
