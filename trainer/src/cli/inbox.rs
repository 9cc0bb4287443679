//! `inbox`.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;
use host::{Decoder, Home, HomeError, Inbox, InboxError, Program, Summary};
use objects::Objects;
use terminal::printable;
use terminal::progress::Progress;

use super::source::Source;

/// From one failure of a place to the next try.
const AGAIN: Duration = Duration::from_secs(10);

/// Take in the shards that boards have put somewhere, and sign for what is safe. It may be stopped and run again at any
/// time.
#[derive(Args)]
pub struct TakeIn {
    /// The host's folder; it is made if it is not there
    #[arg(long, value_name = "DIR")]
    host: PathBuf,
    #[command(flatten)]
    source: Source,
    /// Look again after so many seconds, and do not end
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..))]
    every: Option<u32>,
    /// Print JSON, one object a look
    #[arg(long)]
    json: bool,
}

/// What takes shards in.
pub(super) struct Taker {
    pub(super) home: Home,
    pub(super) objects: Objects,
    decoder: Decoder,
}

impl Taker {
    pub(super) fn new(home: Home, objects: Objects) -> Result<Taker> {
        let path = std::env::current_exe().context("finding this program")?;
        let decoder = Decoder::new(Program { path, arguments: vec!["decode-pictures".to_owned()] });
        Ok(Taker { home, objects, decoder })
    }

    /// Takes in what is there.
    pub(super) fn look(&mut self) -> Result<Summary, InboxError> {
        let progress = Progress::new("shards");
        let mut begun = false;
        let summary = Inbox::open(&mut self.home, &mut self.objects, &mut self.decoder)?.run(|done, all| {
            if all > 0 && !begun {
                progress.stage("taking in", all);
                begun = true;
            }
            if done > 0 {
                progress.step();
            }
        })?;
        if begun {
            progress.finish();
        }
        Ok(summary)
    }
}

/// Whether another look may go better: a place that is away comes back, and another program ends.
fn is_passing(error: &InboxError) -> bool {
    matches!(error, InboxError::Remote(_) | InboxError::Home(HomeError::Busy { .. }))
}

impl TakeIn {
    pub fn run(self) -> Result<()> {
        let home = Home::open(&self.host)?;
        let objects = self.source.open(&home)?;
        let mut taker = Taker::new(home, objects)?;
        loop {
            match taker.look() {
                Ok(summary) => self.tell(&summary)?,
                Err(error) if self.every.is_some() && is_passing(&error) => {
                    eprintln!("edgeblip-trainer: {}", terminal::explained(&error));
                    std::thread::sleep(AGAIN);
                }
                Err(error) => return Err(error.into()),
            }
            let Some(seconds) = self.every else { return Ok(()) };
            std::thread::sleep(Duration::from_secs(u64::from(seconds)));
        }
    }

    fn tell(&self, summary: &Summary) -> Result<()> {
        if self.json {
            println!("{}", terminal::json(summary)?);
            return Ok(());
        }
        if self.every.is_none() || summary.shards > 0 {
            tell_shards(summary);
        }
        tell_faults(summary);
        Ok(())
    }
}

/// What came, in words.
pub(super) fn tell_shards(summary: &Summary) {
    let Summary { shards, pairs, again, refused, forgotten, .. } = summary;
    println!("{shards} shards: {pairs} pairs new, {again} known, {refused} refused, {forgotten} forgotten");
}

/// What was wrong with it, in words.
pub(super) fn tell_faults(summary: &Summary) {
    let Summary { broken, quarantined, unknown, .. } = summary;
    if *broken > 0 {
        println!("{broken} files were cut or changed on their way: the boards send them again");
    }
    if *quarantined > 0 {
        println!("{quarantined} files are set aside: no board writes such");
    }
    for (board, shards) in unknown {
        println!("{}: {shards} shards of a board that is not let in", printable(board));
    }
}
