//! `edgeblip search`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use blip::config::Role;
use clap::Args;
use edgeblip::search::Gallery;
use serde::Serialize;
use terminal::shown;

use super::{Common, complain, pictures, say, say_json};

/// Arguments of `search`.
#[derive(Args)]
pub struct Search {
    /// What to look for
    text: String,
    /// Folder of pictures
    folder: PathBuf,
    /// Pictures that ITC hands to ITM, and the most that are printed
    #[arg(long, value_name = "K", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..))]
    top: u16,
    #[command(flatten)]
    common: Common,
}

#[derive(Serialize)]
struct Line {
    image: String,
    score: f32,
    itm: f32,
    itc: f32,
}

impl Search {
    /// Prints the pictures that match, the best first; one that cannot be read is named and left out.
    pub fn run(&self) -> Result<ExitCode> {
        let model = self.common.load(|_| vec![Role::Matcher])?;
        let found = pictures::find(&self.folder)?;
        let mut code = ExitCode::SUCCESS;
        let mut gallery = Gallery::new(&model)?;
        let mut places = Vec::new();
        for path in found {
            let added =
                picture::open(&path).map_err(anyhow::Error::from).and_then(|picture| Ok(gallery.add(&picture)?));
            match added {
                Ok(()) => places.push(path),
                Err(error) => {
                    complain(&error);
                    code = ExitCode::FAILURE;
                }
            }
        }
        for hit in gallery
            .search(&self.text, usize::from(self.top), |index| picture::open(&places[index]))
            .context("searching")?
        {
            let path = &places[hit.index];
            if self.common.json {
                let image = path.display().to_string();
                say_json(&Line { image, score: hit.score(), itm: hit.itm, itc: hit.itc })?;
            } else {
                say(&format!("ITM {:.4}  ITC {:+.4}  {}", hit.itm, hit.itc, shown(path)))?;
            }
        }
        Ok(code)
    }
}
