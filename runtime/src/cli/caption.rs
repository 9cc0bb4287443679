//! `edgeblip caption`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use blip::config::Role;
use clap::Args;
use edgeblip::decoder::{Caption as Text, Writing};
use edgeblip::model::Model;
use edgeblip::vision::View;
use serde::Serialize;
use terminal::{printable, shown};

use super::writing::WritingFlags;
use super::{Common, complain, milliseconds, pictures, say, say_json};

/// Arguments of `caption`.
#[derive(Args)]
pub struct Caption {
    /// Pictures, or folders of pictures
    #[arg(value_name = "PATH", required = true)]
    paths: Vec<PathBuf>,
    /// Words that the caption starts with; '' for none, the bundle's own if not given
    #[arg(long, value_name = "TEXT")]
    prompt: Option<String>,
    #[command(flatten)]
    writing: WritingFlags,
    #[command(flatten)]
    common: Common,
}

#[derive(Serialize)]
struct Line<'a> {
    image: String,
    caption: &'a str,
    token_ids: &'a [u32],
    log_prob: f32,
    itm: Option<f32>,
    itc: Option<f32>,
    bundle: &'a str,
    timing_ms: Timing,
}

#[derive(Clone, Copy, Serialize)]
struct Timing {
    decode_image: f64,
    preprocess: f64,
    vision: f64,
    decoder: f64,
    r#match: f64,
}

impl Caption {
    /// Captions every picture; one that fails is named and does not stop the others.
    pub fn run(&self) -> Result<ExitCode> {
        let model = self.common.load(|bundle| {
            let scored = self.common.json && bundle.manifest().matcher.is_some();
            if scored { vec![Role::Captioner, Role::Matcher] } else { vec![Role::Captioner] }
        })?;
        let facts = model.captioner()?.facts();
        let prompt = self.prompt.as_ref().unwrap_or(&facts.prompt);
        let writing = self.writing.over(facts.decoding, prompt)?;
        let mut code = ExitCode::SUCCESS;
        for path in &self.paths {
            let found = pictures::find(path).unwrap_or_else(|error| {
                complain(&error);
                code = ExitCode::FAILURE;
                Vec::new()
            });
            for picture in found {
                if let Err(error) = self.one(&model, &picture, &writing) {
                    if super::is_closed_pipe(&error) {
                        return Err(error);
                    }
                    complain(&error);
                    code = ExitCode::FAILURE;
                }
            }
        }
        Ok(code)
    }

    fn one(&self, model: &Model, path: &Path, writing: &Writing) -> Result<()> {
        let start = Instant::now();
        let picture = picture::open(path)?;
        let decode_image = start.elapsed();
        let named = || format!("captioning {}", path.display());
        let mut view = model.see(&picture).with_context(named)?;
        let start = Instant::now();
        let captions = model.captioner()?.describe(&mut view, writing).with_context(named)?;
        let decoder = start.elapsed();
        for caption in &captions {
            if self.common.json {
                self.json_line(model, path, &mut view, caption, [decode_image, decoder]).with_context(named)?;
            } else {
                say(&format!("{}: {}", shown(path), printable(&caption.text)))?;
            }
        }
        Ok(())
    }

    fn json_line(
        &self,
        model: &Model,
        path: &Path,
        view: &mut View,
        caption: &Text,
        [decode_image, decoder]: [Duration; 2],
    ) -> Result<()> {
        let start = Instant::now();
        let (mut itm, mut itc) = (None, None);
        if model.bundle().manifest().matcher.is_some() {
            let matcher = model.matcher()?;
            itm = Some(matcher.match_probability(view, &caption.text)?);
            itc = Some(matcher.embed_text(&caption.text)?.cosine(&matcher.embed_image(view)?));
        }
        say_json(&Line {
            image: path.display().to_string(),
            caption: &caption.text,
            token_ids: &caption.token_ids,
            log_prob: caption.log_prob,
            itm,
            itc,
            bundle: model.bundle().id(),
            timing_ms: Timing {
                decode_image: milliseconds(decode_image),
                preprocess: milliseconds(view.preprocess),
                vision: milliseconds(view.vision),
                decoder: milliseconds(decoder),
                r#match: milliseconds(start.elapsed()),
            },
        })
    }
}
