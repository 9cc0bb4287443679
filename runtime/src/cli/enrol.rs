//! `edgeblip enrol`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use blip::caption::Caption;
use clap::Args;
use exchange::{DeviceName, EnrolmentRequest};
use serde_json::json;
use sync::Identity;
use sync::identity::Handover;
use terminal::shown;

use super::config::Service;
use super::{say, say_json};

/// Makes this board known to a host: writes a request, which the host's operator answers with a grant
/// ("edgeblip-trainer devices approve"); and takes that grant.
#[derive(Args)]
pub struct Enrol {
    /// Take this grant of a host
    #[arg(long, value_name = "FILE", conflicts_with_all = ["out", "name"])]
    grant: Option<PathBuf>,
    /// The grant may be by another host than the one that the board belongs to
    #[arg(long, requires = "grant")]
    replace_host: bool,
    /// File for the request
    #[arg(long, value_name = "FILE", default_value = "enrolment-request.json")]
    out: PathBuf,
    /// How the board would like to be called; its host name if none is named
    #[arg(long)]
    name: Option<DeviceName>,
    #[command(flatten)]
    place: Service,
}

impl Enrol {
    pub fn run(&self) -> Result<ExitCode> {
        let config = self.place.read()?;
        let identity = Identity::at(&sync::folder_beside(&config.store.folder));
        match &self.grant {
            Some(grant) => self.take(&identity, grant)?,
            None => self.ask(&identity)?,
        }
        Ok(ExitCode::SUCCESS)
    }

    fn ask(&self, identity: &Identity) -> Result<()> {
        let name = self.name.clone().unwrap_or_else(own_name);
        let board = field::board::recognize();
        let request = identity.request(|key| EnrolmentRequest {
            key,
            name: name.clone(),
            board: word(&board.name),
            version: word(env!("CARGO_PKG_VERSION")),
        })?;
        let place = || shown(&self.out);
        dataset::disk::write_whole(&self.out, |out| out.write_all(&request)).with_context(place)?;
        let fingerprint = identity.key()?.public().fingerprint();
        if self.place.json {
            return say_json(&json!({ "request": place(), "name": name, "board": fingerprint }));
        }
        say(&format!("{} is the request of this board, {name}", place()))?;
        say(&format!("its key  {fingerprint}  as the host will print it"))?;
        say("on the host: edgeblip-trainer devices approve --host DIR REQUEST --out GRANT")?;
        say("then here: edgeblip enrol --grant GRANT")
    }

    fn take(&self, identity: &Identity, path: &Path) -> Result<()> {
        let handover = if self.replace_host { Handover::Allow } else { Handover::Refuse };
        let grant = identity.accept(path, handover)?;
        let host = grant.host.fingerprint();
        if self.place.json {
            return say_json(&json!({ "device": grant.device, "host": host, "url": grant.url }));
        }
        say(&format!("this board is {} to its host", grant.device))?;
        say(&format!("the host's key  {host}  as the host printed it: if it did not, enrol anew"))?;
        match &grant.url {
            Some(url) => say(&format!("pairs go to {url} with \"edgeblip sync\"")),
            None => say("set sync.url in the configuration to where pairs are to go, and run \"edgeblip sync\""),
        }
    }
}

/// The host's name as a board's name has it.
fn own_name() -> DeviceName {
    let host = edgeblip::page::link::host_name().to_lowercase();
    let words: Vec<&str> = host.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty()).collect();
    let name: String = words.join("-").chars().take(60).collect();
    name.trim_end_matches('-').parse().unwrap_or_else(|_| "board".parse().expect("a plain word"))
}

fn word(text: &str) -> Caption {
    Caption::new(text).unwrap_or_else(|_| Caption::new("").expect("nothing can be printed"))
}
