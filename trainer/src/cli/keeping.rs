//! `backup` and `retention`.

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::Args;
use host::backup::Check;
use host::retention::Retention;
use serde_json::json;
use terminal::{printable, shown};

use super::host_folder::open;

/// Copy keys, database, shards and datasets into a folder, which is a host's folder then. It may be repeated, and copies
/// only what is new; "inbox" may run meanwhile.
#[derive(Args)]
pub struct Backup {
    /// The host's folder
    #[arg(long, value_name = "DIR")]
    host: PathBuf,
    /// Where to: an empty folder, or the one that was used before, on another disk. It will hold the secret keys
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
    /// Read all of the copy again, not only some pictures of it
    #[arg(long)]
    verify: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Delete pairs that arrived long ago. Those that a dataset has stay until it is withdrawn.
#[derive(Args)]
pub struct Keep {
    /// The host's folder
    #[arg(long, value_name = "DIR")]
    host: PathBuf,
    /// Pairs that arrived more than so many days ago go
    #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u32).range(1..))]
    keep_days: u32,
    /// Do it; without this, they are counted
    #[arg(long)]
    yes: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Backup {
    pub fn run(self) -> Result<()> {
        let check = if self.verify { Check::All } else { Check::Sample };
        let done = open(&self.host)?.back_up(&self.to, check)?;
        let to = shown(&self.to);
        if self.json {
            println!("{}", terminal::json(&done)?);
        } else {
            println!("{} pairs in {} shards are in {to}", done.pairs, done.shards);
            println!("{} files copied, {} removed, {} pairs read again", done.copied, done.removed, done.checked);
            done.faults.iter().for_each(|fault| println!("{}", printable(fault)));
        }
        if !done.faults.is_empty() {
            bail!(
                "{to}: {} things are not as they should be: see the host's own disk, and back up again",
                done.faults.len()
            );
        }
        Ok(())
    }
}

impl Keep {
    pub fn run(self) -> Result<()> {
        let retention = if self.yes { Retention::Delete } else { Retention::Count };
        let (outdated, deleted) = open(&self.host)?.retain(self.keep_days, retention, host::now_s())?;
        if self.json {
            println!("{}", terminal::json(&json!({"outdated": outdated, "deleted": deleted}))?);
            return Ok(());
        }
        let (days, mebibytes) = (self.keep_days, outdated.bytes >> 20);
        match self.yes {
            true => {
                println!("{} pairs are deleted, {} shards with nothing left removed", deleted.pairs, deleted.shards)
            }
            false => println!(
                "{} pairs, {mebibytes} MiB, arrived more than {days} days ago: --yes deletes them",
                outdated.pairs
            ),
        }
        if outdated.in_versions > 0 {
            println!(
                "{} older pairs stay: a dataset has them; \"dataset withdraw\" lets them go",
                outdated.in_versions
            );
        }
        Ok(())
    }
}
