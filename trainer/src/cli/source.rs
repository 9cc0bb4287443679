//! The place where boards and host meet, as flags name it.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use exchange::Credentials;
use host::Home;
use objects::{Objects, Options};

/// Where boards put shards, and find receipts and releases.
#[derive(Args)]
pub struct Source {
    /// Where the boards put shards; DIR/objects if none is named. For S3 and WebDAV, EDGEBLIP_USER and EDGEBLIP_SECRET
    /// open it
    #[arg(long, value_name = "URL")]
    pub from: Option<String>,
    /// File of certificates in PEM that vouch for that place
    #[arg(long, value_name = "FILE")]
    pub authority: Option<PathBuf>,
}

impl Source {
    /// The place.
    pub fn open(&self, home: &Home) -> Result<Objects> {
        let url = match &self.from {
            Some(url) => url.clone(),
            None => format!("file://{}", home.objects()?.display()),
        };
        let credentials = match (std::env::var("EDGEBLIP_USER"), std::env::var("EDGEBLIP_SECRET")) {
            (Ok(user), Ok(secret)) => Some(Credentials { user, secret, region: std::env::var("EDGEBLIP_REGION").ok() }),
            _ => None,
        };
        let options = Options { credentials, authority: self.authority.clone(), rate: None };
        Ok(Objects::open(&url, &options)?)
    }
}
