//! `edgeblip pairs label` and `forget`: they write, so that no other program may at the same time.

use std::process::ExitCode;

use anyhow::{Context, Result};
use blip::caption::Caption;
use clap::{ArgGroup, Args};
use field::clock::{Clock, SystemClock};
use store::{Label as Word, LabelAction, Limits, PairId, Stamp, Store};

use super::Where;
use crate::cli::{complain, say, say_json};

#[derive(Args)]
#[command(group(ArgGroup::new("what").args(["add", "rewrite", "accept", "reject"]).required(true)))]
pub(super) struct Label {
    #[command(flatten)]
    place: Where,
    /// The pair, as "pairs list" names it
    pair: PairId,
    /// One more text
    #[arg(long, value_name = "TEXT", value_parser = text)]
    add: Option<Caption>,
    /// A text in place of those that are there, which stay on record
    #[arg(long, value_name = "TEXT", value_parser = text)]
    rewrite: Option<Caption>,
    /// The pair is good, whatever the filter said
    #[arg(long)]
    accept: bool,
    /// The pair is not to be learned from
    #[arg(long)]
    reject: bool,
    /// Who says it
    #[arg(long, value_name = "NAME", value_parser = text)]
    by: Option<Caption>,
}

#[derive(Args)]
pub(super) struct Forget {
    #[command(flatten)]
    place: Where,
    /// The pairs, as "pairs list" names them
    #[arg(required = true, value_name = "PAIR")]
    pairs: Vec<PairId>,
}

fn text(words: &str) -> Result<Caption, blip::caption::CaptionError> {
    Caption::new(words)
}

impl Label {
    pub(super) fn run(&self) -> Result<ExitCode> {
        let action = match (&self.add, &self.rewrite) {
            (Some(text), _) => LabelAction::Add(text.clone()),
            (None, Some(text)) => LabelAction::Rewrite(text.clone()),
            (None, None) if self.accept => LabelAction::Accept,
            (None, None) => LabelAction::Reject,
        };
        let (mut store, at) = open(&self.place)?;
        store.label(self.pair, Word { action, by: self.by.clone(), at })?;
        tell(&self.place, self.pair, "labelled")?;
        Ok(ExitCode::SUCCESS)
    }
}

impl Forget {
    /// Forgets every pair; one that is not there is named and does not stop the others.
    pub(super) fn run(&self) -> Result<ExitCode> {
        let (mut store, at) = open(&self.place)?;
        let mut code = ExitCode::SUCCESS;
        for pair in &self.pairs {
            match store.forget(*pair, at) {
                Ok(()) => tell(&self.place, *pair, "forgotten")?,
                Err(error) => {
                    complain(&error.into());
                    code = ExitCode::FAILURE;
                }
            }
        }
        Ok(code)
    }
}

fn tell(place: &Where, pair: PairId, done: &str) -> Result<()> {
    if place.json {
        return say_json(&serde_json::json!({ "pair": pair.to_string(), "done": done }));
    }
    say(&format!("{pair}: {done}"))
}

fn open(place: &Where) -> Result<(Store, Stamp)> {
    let now = SystemClock::new()?.now();
    let boot = Caption::new(now.boot.to_string()).context("the boot's id")?;
    // Nothing is kept here, so that no budget is needed.
    let (store, opened) = Store::open(&place.folder()?, boot, Limits { budget: u64::MAX, ..Limits::default() })?;
    for aside in &opened.set_aside {
        complain(&anyhow::anyhow!("{}: a damaged database is set aside: {}", aside.path.display(), aside.why));
    }
    Ok((store, edgeblip::pipeline::stamp(&now)))
}
