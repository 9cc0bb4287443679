//! `edgeblip score`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use blip::config::Role;
use clap::Args;
use serde::Serialize;
use terminal::printable;

use super::{Common, complain, say, say_json};

/// Arguments of `score`.
#[derive(Args)]
pub struct Score {
    /// The picture
    picture: PathBuf,
    /// Texts to score
    #[arg(value_name = "TEXT", required = true)]
    texts: Vec<String>,
    #[command(flatten)]
    common: Common,
}

#[derive(Serialize)]
struct Line<'a> {
    image: String,
    text: &'a str,
    itm: f32,
    itc: f32,
}

impl Score {
    /// Scores every text; one that fails is named and does not stop the others.
    pub fn run(&self) -> Result<ExitCode> {
        let model = self.common.load(|_| vec![Role::Matcher])?;
        let matcher = model.matcher()?;
        let mut view = model.see(&picture::open(&self.picture)?)?;
        let image = matcher.embed_image(&view)?;
        let mut code = ExitCode::SUCCESS;
        for text in &self.texts {
            let scores = matcher
                .match_probability(&mut view, text)
                .and_then(|itm| Ok((itm, matcher.embed_text(text)?.cosine(&image))));
            let (itm, itc) = match scores.with_context(|| format!("scoring {}", start_of(text))) {
                Ok(scores) => scores,
                Err(error) => {
                    complain(&error);
                    code = ExitCode::FAILURE;
                    continue;
                }
            };
            if self.common.json {
                say_json(&Line { image: self.picture.display().to_string(), text, itm, itc })?;
            } else {
                say(&format!("ITM {itm:.4}  ITC {itc:+.4}  {}", printable(text)))?;
            }
        }
        Ok(code)
    }
}

/// Enough of a text to know it again in a message.
fn start_of(text: &str) -> String {
    let start: String = text.chars().take(40).collect();
    if start.len() < text.len() { format!("{start:?}...") } else { format!("{start:?}") }
}
