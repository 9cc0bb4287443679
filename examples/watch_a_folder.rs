//! Captions each picture that is put into a folder, once, until the program is stopped or as many as wanted were seen.
//!
//! `cargo run --release -p edgeblip-examples --example watch_a_folder -- examples/images [PICTURES]`

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use blip::config::Role;
use camera::{Camera, Next, Options, Source};
use edgeblip::bundle::Bundle;
use edgeblip::decoder::Writing;
use edgeblip::model::Model;

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().context("name a folder to watch")?;
    let most = arguments.next().map_or(Ok(usize::MAX), |number| number.parse()).context("how many pictures?")?;
    let bundle = Bundle::built_in().context("opening the built-in bundle")?;
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let model = Model::load(Arc::new(bundle), &[Role::Captioner], threads).context("loading the captioner")?;
    let captioner = model.captioner()?;
    let facts = captioner.facts();
    let writing = Writing { prompt: facts.prompt.clone(), options: facts.decoding, seed: 0, texts: 1 };

    let camera = Camera::start(Source::Folder(folder.into()), Options::default()).context("watching the folder")?;
    let mut seen = 0;
    while seen < most {
        let Next::Frame(frame) = camera.next(Instant::now() + Duration::from_secs(60)) else { continue };
        seen += 1;
        let mut view = model.see(&frame.to_rgb().context("reading a picture")?).context("looking at a picture")?;
        for caption in captioner.describe(&mut view, &writing).context("writing a caption")? {
            println!("{}: {}", frame.origin, caption.text);
        }
    }
    Ok(())
}
