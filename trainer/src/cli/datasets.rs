//! `dataset`.

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use host::versions::{MAX_DISTANCE, Parameters, Shares, Stage, Standing, Version, Written};
use host::{Decoder, Program};
use serde_json::{Value, json};
use terminal::progress::Progress;
use terminal::{printable, shown};

use super::host_folder::HostFolder;

/// Numbered datasets made of the pairs that came home, which Hugging Face's readers, pyarrow and DuckDB read.
#[derive(Args)]
pub struct Datasets {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Write a version of all pairs that are kept and have a picture; none if nothing has changed
    Write(Write),
    /// One line a version
    List(HostFolder),
    /// Compare every file of a version with what was written
    Verify(Numbered),
    /// Remove the files of a version, which stays listed
    Withdraw(Withdraw),
}

#[derive(Args)]
struct Write {
    #[command(flatten)]
    place: HostFolder,
    /// How many of a hundred groups, each of one board and one day, go into train, validation and test. A group that was
    /// in a version stays where it was
    #[arg(long, value_name = "N/N/N", default_value_t = Shares::default())]
    shares: Shares,
    /// In how many of 64 bits of their hashes (dHash) pictures may differ that are taken to look alike: such are left out
    /// of train if one that is held out looks so
    #[arg(long, value_name = "BITS", default_value_t = Parameters::default().near,
          value_parser = clap::value_parser!(u32).range(..=i64::from(MAX_DISTANCE)))]
    near: u32,
}

#[derive(Args)]
struct Numbered {
    #[command(flatten)]
    place: HostFolder,
    /// The version's number
    number: i64,
}

#[derive(Args)]
struct Withdraw {
    #[command(flatten)]
    version: Numbered,
    /// Why, for the list
    #[arg(long, default_value = "it was withdrawn by hand")]
    reason: String,
}

impl Datasets {
    pub fn run(self) -> Result<()> {
        match self.action {
            Action::Write(write) => write.run(),
            Action::List(place) => {
                for version in place.open()?.versions()? {
                    line(&version, place.json)?;
                }
                Ok(())
            }
            Action::Verify(version) => version.verify(),
            Action::Withdraw(Withdraw { version: Numbered { place, number }, reason }) => {
                place.open()?.withdraw_version(number, &reason, host::now_s())?;
                match place.json {
                    true => println!("{}", terminal::json(&json!({"version": number, "state": "withdrawn"}))?),
                    false => println!("version {number} is withdrawn"),
                }
                Ok(())
            }
        }
    }
}

impl Write {
    fn run(self) -> Result<()> {
        let mut home = self.place.open()?;
        let path = std::env::current_exe().context("finding this program")?;
        let mut decoder = Decoder::new(Program { path, arguments: vec!["decode-pictures".to_owned()] });
        let progress = Progress::new("pairs");
        let mut stage = None;
        let mut tell = |now, _done, all| {
            if stage != Some(now) {
                let name = match now {
                    Stage::Looking => "looking at pictures",
                    Stage::Writing => "writing",
                };
                progress.stage(name, all);
                stage = Some(now);
            }
            progress.step();
        };
        let parameters = Parameters { shares: self.shares, near: self.near };
        let mut look = |picture: &[u8]| decoder.likeness(picture);
        let written = home.write_version(&parameters, &mut look, &mut tell, host::now_s());
        progress.finish();
        match written? {
            Written::Unchanged(version) if self.place.json => line(&version, true),
            Written::Unchanged(version) => {
                println!("nothing has changed since version {}: {}", version.number, shown(&version.folder));
                Ok(())
            }
            Written::New(version) => {
                line(&version, self.place.json)?;
                if !self.place.json {
                    tell_left_out(&version);
                }
                Ok(())
            }
        }
    }
}

fn tell_left_out(version: &Version) {
    let left_out = version.card.left_out;
    let near = version.card.parameters.near;
    for (count, split, other) in [
        (left_out.near_in_train, "train", "one that is held out"),
        (left_out.near_in_validation, "validation", "one in test"),
    ] {
        if count > 0 {
            println!("{count} pairs are left out of {split}: each looks like {other} (--near {near})");
        }
    }
    if left_out.unreadable > 0 {
        println!("{} pairs are left out: their pictures cannot be decoded", left_out.unreadable);
    }
    println!("{}", shown(&version.folder));
}

fn described(version: &Version) -> Value {
    json!({
        "version": version.number, "state": version.standing, "made_s": version.at_s, "folder": shown(&version.folder),
        "card": version.card,
    })
}

fn line(version: &Version, is_json: bool) -> Result<()> {
    if is_json {
        println!("{}", terminal::json(&described(version))?);
        return Ok(());
    }
    let card = &version.card;
    let splits: Vec<String> = card.splits.iter().map(|(split, pairs)| format!("{} {pairs}", split.name())).collect();
    let (number, pairs, splits) = (version.number, card.pairs, splits.join(", "));
    match &version.standing {
        Standing::Standing => println!("{number:04}  {pairs} pairs: {splits}"),
        Standing::Withdrawn { reason, at_s } => {
            let day = host::day_of(*at_s);
            println!("{number:04}  withdrawn on {day}: {}; it had {pairs} pairs", printable(reason));
        }
    }
    Ok(())
}

impl Numbered {
    fn verify(self) -> Result<()> {
        let home = self.place.open()?;
        let faults = home.verify_version(self.number)?;
        let (number, files) = (self.number, home.version(self.number)?.card.files.len() + 1);
        if self.place.json {
            let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
            println!("{}", terminal::json(&json!({"version": number, "files": files, "faults": faults}))?);
        } else {
            faults.iter().for_each(|fault| println!("{}", printable(&fault.to_string())));
        }
        if !faults.is_empty() {
            bail!(
                "version {number} is not what was written: bring it back from a backup, or withdraw it and write another"
            );
        }
        if !self.place.json {
            println!("version {number}: {files} files are as they were written");
        }
        Ok(())
    }
}
