//! A caption for one picture, with the built-in bundle or the one in a folder.
//!
//! `cargo run --release -p edgeblip-examples --example caption_a_picture -- examples/images/01.png [BUNDLE]`

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use blip::config::Role;
use edgeblip::bundle::Bundle;
use edgeblip::decoder::Writing;
use edgeblip::model::Model;
use edgeblip::picture;

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().context("name a picture")?;
    let folder = arguments.next();
    let bundle = Bundle::open_or_built_in(folder.as_deref().map(Path::new)).context("opening the bundle")?;
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let model = Model::load(Arc::new(bundle), &[Role::Captioner], threads).context("loading the captioner")?;

    let picture = picture::open(Path::new(&path)).context("reading the picture")?;
    let mut view = model.see(&picture).context("looking at the picture")?;
    let captioner = model.captioner()?;
    let facts = captioner.facts();
    let writing = Writing { prompt: facts.prompt.clone(), options: facts.decoding, seed: 0, texts: 1 };
    for caption in captioner.describe(&mut view, &writing).context("writing the caption")? {
        println!("{} (log-probability {:.2})", caption.text, caption.log_prob);
    }
    Ok(())
}
