//! `edgeblip config`, and the flags that name a configuration.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Args;
use field::config::{self, Config, ConfigError, Passwords};

use super::say;

/// Which configuration, and what of it is another for once.
#[derive(Args, Clone, Default)]
pub struct Configured {
    /// Configuration file; without one the defaults of the board
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Where frames come from, whatever the file says: v4l:/dev/video0, rpicam:0, rtsp://..., folder:DIR, video:FILE, -
    #[arg(long, value_name = "SOURCE", allow_hyphen_values = true)]
    pub camera: Option<String>,
    /// Folder of the pairs, whatever the file says
    #[arg(long, value_name = "DIR")]
    pub store: Option<PathBuf>,
    /// Folder of the bundle, whatever the file says; "built-in" is the small one
    #[arg(long, value_name = "DIR")]
    pub bundle: Option<PathBuf>,
    /// Where the page listens, whatever the file says: ADDRESS:PORT, or none
    #[arg(long, value_name = "ADDRESS")]
    pub page: Option<String>,
}

impl Configured {
    /// The file over the board's defaults, the flags over the file.
    ///
    /// # Errors
    /// A file that is no configuration, or a flag that is no setting's value.
    pub fn read(&self) -> Result<Config, ConfigError> {
        let profile = field::board::recognize();
        let here = std::env::current_dir().unwrap_or_default();
        let mut config = match &self.config {
            Some(path) => Config::read(path, profile)?,
            None => Config::defaults(profile, &here),
        };
        let path = |path: &PathBuf| path.display().to_string();
        let flags = [
            ("camera.source", self.camera.clone()),
            ("store.folder", self.store.as_ref().map(path)),
            ("model.bundle", self.bundle.as_ref().map(path)),
            ("page.address", self.page.clone()),
        ];
        for (name, value) in flags {
            if let Some(value) = value {
                config.set(name, &value, &here)?;
            }
        }
        Ok(config)
    }
}

/// Which service is meant, by its configuration.
#[derive(Args)]
pub struct Service {
    /// Configuration file of the service
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Folder of the pairs, whatever the file says
    #[arg(long, value_name = "DIR")]
    store: Option<PathBuf>,
    /// Print JSON, one object a line
    #[arg(long)]
    pub json: bool,
}

impl Service {
    /// Its configuration.
    ///
    /// # Errors
    /// As [`Configured::read`].
    pub fn read(&self) -> Result<Config> {
        let configured = Configured { config: self.config.clone(), store: self.store.clone(), ..Configured::default() };
        configured.read().context("reading the configuration")
    }
}

/// Prints every setting in effect, as a configuration file, with what it is for and where its value is from. Passwords
/// are hidden.
#[derive(Args)]
pub struct Print {
    #[command(flatten)]
    configured: Configured,
    /// Print a file with every setting at its default instead, to start from
    #[arg(long, conflicts_with_all = ["config", "camera", "store", "bundle", "page"])]
    example: bool,
    /// Print passwords as they are
    #[arg(long)]
    with_passwords: bool,
}

impl Print {
    pub fn run(&self) -> Result<ExitCode> {
        let text = if self.example {
            config::example()
        } else {
            let passwords = if self.with_passwords { Passwords::Shown } else { Passwords::Hidden };
            self.configured.read().context("reading the configuration")?.effective(passwords)
        };
        say(text.trim_end())?;
        Ok(ExitCode::SUCCESS)
    }
}
