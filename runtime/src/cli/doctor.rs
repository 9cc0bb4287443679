//! `edgeblip doctor`.

mod checks;
mod network;

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use serde::Serialize;
use terminal::printable;

use super::config::Configured;
use super::{say, say_json};

/// Tries everything that `run` needs and says of each part whether it is well and what to do. Exit code 1 if something
/// fails. Pins and cameras are opened, so that no other program may have them.
#[derive(Args)]
pub struct Doctor {
    #[command(flatten)]
    configured: Configured,
    /// Print JSON, one object a line
    #[arg(long)]
    json: bool,
    /// Seconds to wait for a frame
    #[arg(long, value_name = "S", default_value_t = 10, value_parser = clap::value_parser!(u16).range(0..=600))]
    camera_wait: u16,
}

/// How a part is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
enum Health {
    Ok,
    Warn,
    Fail,
}

/// One line.
#[derive(Debug, Serialize)]
struct Finding {
    part: &'static str,
    health: Health,
    found: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    advice: Option<String>,
}

impl Finding {
    fn ok(part: &'static str, found: impl Into<String>) -> Finding {
        Finding { part, health: Health::Ok, found: found.into(), advice: None }
    }

    fn warn(part: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Finding {
        Finding { part, health: Health::Warn, found: found.into(), advice: Some(advice.into()) }
    }

    fn fail(part: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Finding {
        Finding { health: Health::Fail, ..Finding::warn(part, found, advice) }
    }

    fn line(&self) -> String {
        let health = match self.health {
            Health::Ok => "ok",
            Health::Warn => "warn",
            Health::Fail => "FAIL",
        };
        let advice = self.advice.as_ref().map_or_else(String::new, |advice| format!(": {advice}"));
        printable(&format!("{health:<4}  {:<8} {}{advice}", self.part, self.found)).replace('\n', " ")
    }
}

impl Doctor {
    pub fn run(&self) -> Result<ExitCode> {
        let mut worst = Health::Ok;
        let mut tell = |finding: Finding| {
            worst = worst.max(finding.health);
            if self.json { say_json(&finding) } else { say(&finding.line()) }
        };
        let config = match self.configured.read() {
            Ok(config) => config,
            Err(error) => {
                tell(Finding::fail("config", error.to_string(), "correct it; \"edgeblip config --example\" explains"))?;
                return Ok(ExitCode::FAILURE);
            }
        };
        tell(checks::config(&config, self.configured.config.as_deref()))?;
        tell(checks::board(&config))?;
        tell(checks::processor(&config))?;
        tell(checks::heat(&config))?;
        tell(checks::clock())?;
        tell(checks::disk(&config))?;
        for finding in checks::pins(&config) {
            tell(finding)?;
        }
        tell(network::page(&config))?;
        tell(network::broker(&config))?;
        tell(checks::bundle(&config))?;
        tell(checks::camera(&config, self.camera_wait))?;
        Ok(if worst == Health::Fail { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    }
}
