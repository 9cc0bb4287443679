//! `edgeblip pairs`.

mod edit;
mod export;
mod show;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use clap::{Args, Subcommand, ValueEnum};
use store::{Filter, Order, PairId, Reader, State};

use super::config::Configured;

/// What a board kept: pictures with texts, scores and decisions.
#[derive(Args)]
pub struct Pairs {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// One line a pair, in the order in which they were taken or the other way round
    List(List),
    /// Everything about one pair
    Show(Show),
    /// Counts over everything: states, texts by origin, what is gone
    Stats(Stats),
    /// Write pairs into a new folder, in a format that other programs read
    Export(Box<export::Export>),
    /// Recompute every hash; exit code 1 if something is not what was stored
    Verify(Verify),
    /// Say what you think of a pair: a text of yours, or whether it is good
    Label(edit::Label),
    /// Remove pairs for good, also at home with the next sync
    Forget(edit::Forget),
}

/// Which folder.
#[derive(Args)]
pub(super) struct Where {
    /// Folder of the pairs; that of the configuration if none is named
    #[arg(long, value_name = "DIR")]
    store: Option<PathBuf>,
    /// Configuration file that names the folder
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print JSON, one object a line
    #[arg(long)]
    json: bool,
}

impl Where {
    /// The folder, which is there.
    fn folder(&self) -> Result<PathBuf> {
        let configured = Configured { config: self.config.clone(), store: self.store.clone(), ..Configured::default() };
        let folder = configured.read().context("reading the configuration")?.store.folder.clone();
        ensure!(
            folder.is_dir(),
            "{}: there is no folder of pairs: name one with --store, or a configuration with --config",
            folder.display()
        );
        Ok(folder)
    }

    fn reader(&self) -> Result<Reader> {
        Ok(Reader::new(&self.folder()?))
    }
}

#[derive(Clone, Copy, ValueEnum)]
enum Standing {
    Kept,
    Rejected,
}

#[derive(Args)]
struct List {
    #[command(flatten)]
    place: Where,
    /// Only pairs in this state
    #[arg(long, value_enum)]
    state: Option<Standing>,
    /// Only pairs behind this one
    #[arg(long, value_name = "PAIR")]
    since: Option<PairId>,
    /// Only pairs whose copy is not at home
    #[arg(long)]
    unsynced: bool,
    /// Only pairs whose picture is kept: of a rejected one most often the texts alone are
    #[arg(long)]
    with_picture: bool,
    /// The newest first; --since then means pairs before it
    #[arg(long)]
    newest_first: bool,
    /// Most pairs that are listed
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
}

#[derive(Args)]
struct Show {
    #[command(flatten)]
    place: Where,
    /// The pair, as "pairs list" names it
    pair: PairId,
    /// Write the picture to this file
    #[arg(long, value_name = "FILE")]
    picture: Option<PathBuf>,
}

#[derive(Args)]
struct Stats {
    #[command(flatten)]
    place: Where,
}

#[derive(Args)]
struct Verify {
    #[command(flatten)]
    place: Where,
}

impl Pairs {
    pub fn run(&self) -> Result<ExitCode> {
        match &self.action {
            Action::List(list) => list.run(),
            Action::Show(show) => show.run(),
            Action::Stats(stats) => show::stats(&stats.place.reader()?.stats()?, stats.place.json),
            Action::Export(export) => export.run(),
            Action::Verify(verify) => show::verification(&verify.place.reader()?.verify()?, verify.place.json),
            Action::Label(label) => label.run(),
            Action::Forget(forget) => forget.run(),
        }
    }
}

impl List {
    fn run(&self) -> Result<ExitCode> {
        let state = self.state.map(|state| match state {
            Standing::Kept => State::Kept,
            Standing::Rejected => State::Rejected,
        });
        let limit = usize::try_from(self.limit).unwrap_or(usize::MAX);
        let List { since, with_picture, unsynced, .. } = *self;
        let order = if self.newest_first { Order::NewestFirst } else { Order::OldestFirst };
        let filter = Filter { state, order, since, with_picture, unsynced, limit };
        for entry in self.place.reader()?.list(filter)? {
            show::entry(&entry, self.place.json)?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Show {
    fn run(&self) -> Result<ExitCode> {
        let pair = self.place.reader()?.get(self.pair)?;
        if let Some(path) = &self.picture {
            let jpeg = pair.jpeg.as_ref().with_context(|| {
                format!("pair {} has no picture: the filter rejected it, and its texts alone are kept", self.pair)
            })?;
            std::fs::write(path, jpeg).with_context(|| format!("writing {}", path.display()))?;
        }
        show::pair(&pair, self.place.json)?;
        Ok(ExitCode::SUCCESS)
    }
}
