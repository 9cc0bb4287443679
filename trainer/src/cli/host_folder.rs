//! The host's folder, as flags name it.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use clap::Args;
use host::Home;
use terminal::shown;

/// A folder that is a host's.
#[derive(Args)]
pub struct HostFolder {
    /// The host's folder
    #[arg(long, value_name = "DIR")]
    pub host: PathBuf,
    /// Print JSON, one object a line
    #[arg(long)]
    pub json: bool,
}

impl HostFolder {
    pub fn open(&self) -> Result<Home> {
        open(&self.host)
    }
}

/// Opens a folder that is a host's; one that is not there is somebody's slip.
pub fn open(folder: &Path) -> Result<Home> {
    if !folder.join("inbox.db").is_file() {
        bail!("{}: it is no host's folder: \"edgeblip-trainer devices approve\" makes one", shown(folder));
    }
    Ok(Home::open(folder)?)
}
