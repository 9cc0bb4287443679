//! `edgeblip embed`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use blip::config::Role;
use clap::{ArgGroup, Args};
use serde::Serialize;

use super::{Common, say, say_json};

/// Arguments of `embed`.
#[derive(Args)]
#[command(group(ArgGroup::new("what").args(["picture", "text"]).required(true)))]
pub struct Embed {
    /// The picture
    picture: Option<PathBuf>,
    /// A text instead of a picture
    #[arg(long, value_name = "TEXT")]
    text: Option<String>,
    #[command(flatten)]
    common: Common,
}

#[derive(Serialize)]
struct Line<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    image: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'a str>,
    embedding: &'a [f32],
    bundle: &'a str,
}

impl Embed {
    /// Prints the vector: numbers in a line, or JSON.
    pub fn run(&self) -> Result<ExitCode> {
        let model = self.common.load(|_| vec![Role::Matcher])?;
        let matcher = model.matcher()?;
        let embedding = match (&self.text, &self.picture) {
            (Some(text), _) => matcher.embed_text(text)?,
            (None, Some(path)) => matcher.embed_image(&model.see(&picture::open(path)?)?)?,
            (None, None) => anyhow::bail!("name a picture, or a text with --text"),
        };
        if self.common.json {
            let image = self.picture.as_ref().map(|path| path.display().to_string());
            let bundle = model.bundle().id();
            say_json(&Line { image, text: self.text.as_deref(), embedding: &embedding.0, bundle })?;
        } else {
            let numbers: Vec<String> = embedding.0.iter().map(f32::to_string).collect();
            say(&numbers.join(" "))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}
