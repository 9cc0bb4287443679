//! `edgeblip ask`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use blip::config::Role;
use clap::Args;
use serde::Serialize;
use terminal::printable;

use super::writing::WritingFlags;
use super::{Common, say, say_json};

/// Arguments of `ask`.
#[derive(Args)]
pub struct Ask {
    /// The picture
    picture: PathBuf,
    /// The question
    question: String,
    #[command(flatten)]
    writing: WritingFlags,
    #[command(flatten)]
    common: Common,
}

#[derive(Serialize)]
struct Line<'a> {
    image: String,
    question: &'a str,
    answer: &'a str,
    token_ids: &'a [u32],
    log_prob: f32,
    bundle: &'a str,
}

impl Ask {
    /// Answers the question.
    pub fn run(&self) -> Result<ExitCode> {
        let model = self.common.load(|_| vec![Role::Answerer])?;
        let answerer = model.answerer()?;
        let writing = self.writing.over(answerer.facts().decoding, "")?;
        let mut view = model.see(&picture::open(&self.picture)?)?;
        for answer in answerer.answer(&mut view, &self.question, &writing)? {
            if self.common.json {
                say_json(&Line {
                    image: self.picture.display().to_string(),
                    question: &self.question,
                    answer: &answer.text,
                    token_ids: &answer.token_ids,
                    log_prob: answer.log_prob,
                    bundle: model.bundle().id(),
                })?;
            } else {
                say(&printable(&answer.text))?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}
