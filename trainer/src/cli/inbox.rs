//! `inbox`.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;
use exchange::Credentials;
use host::{Decoder, Home, Inbox, InboxError, Program, Summary};
use objects::{Objects, Options};
use terminal::printable;
use terminal::progress::Progress;

/// From one failure of a place to the next try.
const AGAIN: Duration = Duration::from_secs(10);

/// Take in the shards that boards have put somewhere, and sign for what is safe. It may be stopped and run again at any
/// time.
#[derive(Args)]
pub struct TakeIn {
    /// The host's folder; it is made if it is not there
    #[arg(long, value_name = "DIR")]
    host: PathBuf,
    /// Where the boards put shards; DIR/objects if none is named. For S3 and WebDAV, EDGEBLIP_USER and EDGEBLIP_SECRET
    /// open it
    #[arg(long, value_name = "URL")]
    from: Option<String>,
    /// File of certificates in PEM that vouch for that place
    #[arg(long, value_name = "FILE")]
    authority: Option<PathBuf>,
    /// Look again after so many seconds, and do not end
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..))]
    every: Option<u32>,
    /// Print JSON, one object a look
    #[arg(long)]
    json: bool,
}

impl TakeIn {
    pub fn run(self) -> Result<()> {
        let mut home = Home::open(&self.host)?;
        let url = match &self.from {
            Some(url) => url.clone(),
            None => format!("file://{}", home.objects()?.display()),
        };
        let credentials = match (std::env::var("EDGEBLIP_USER"), std::env::var("EDGEBLIP_SECRET")) {
            (Ok(user), Ok(secret)) => Some(Credentials { user, secret, region: std::env::var("EDGEBLIP_REGION").ok() }),
            _ => None,
        };
        let options = Options { credentials, authority: self.authority.clone(), rate: None };
        let mut objects = Objects::open(&url, &options)?;
        let path = std::env::current_exe().context("finding this program")?;
        let mut decoder = Decoder::new(Program { path, arguments: vec!["decode-pictures".to_owned()] });
        loop {
            match self.look(&mut home, &mut objects, &mut decoder) {
                Ok(summary) => self.tell(&summary)?,
                // A place that is away comes back.
                Err(error @ InboxError::Remote(_)) if self.every.is_some() => {
                    eprintln!("edgeblip-trainer: {}", terminal::explained(&error));
                    std::thread::sleep(AGAIN);
                }
                Err(error) => return Err(error.into()),
            }
            let Some(seconds) = self.every else { return Ok(()) };
            std::thread::sleep(Duration::from_secs(u64::from(seconds)));
        }
    }

    fn look(&self, home: &mut Home, objects: &mut Objects, decoder: &mut Decoder) -> Result<Summary, InboxError> {
        let progress = Progress::new("shards");
        let mut begun = false;
        let summary = Inbox::open(home, objects, decoder)?.run(|done, all| {
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

    fn tell(&self, summary: &Summary) -> Result<()> {
        if self.json {
            println!("{}", terminal::json(summary)?);
            return Ok(());
        }
        let Summary { shards, pairs, again, refused, forgotten, broken, quarantined, unknown } = summary;
        if self.every.is_none() || *shards > 0 {
            println!("{shards} shards: {pairs} pairs new, {again} known, {refused} refused, {forgotten} forgotten");
        }
        if *broken > 0 {
            println!("{broken} files were cut or changed on their way: the boards send them again");
        }
        if *quarantined > 0 {
            println!("{quarantined} files are set aside: no board writes such");
        }
        for (board, shards) in unknown {
            println!("{}: {shards} shards of a board that is not let in", printable(board));
        }
        Ok(())
    }
}
