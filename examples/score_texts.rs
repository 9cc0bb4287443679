//! How well texts match a picture: ITM says yes or no, ITC is a cosine.
//!
//! `cargo run --release -p edgeblip-examples --example score_texts -- examples/images/10.png "an owl on sand" "a bus"`

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use blip::config::Role;
use edgeblip::bundle::Bundle;
use edgeblip::model::Model;
use edgeblip::picture;

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().context("name a picture")?;
    let texts: Vec<String> = arguments.collect();
    ensure!(!texts.is_empty(), "name at least one text");
    let bundle = Bundle::built_in().context("opening the built-in bundle")?;
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let model = Model::load(Arc::new(bundle), &[Role::Matcher], threads).context("loading the matcher")?;

    let picture = picture::open(Path::new(&path)).context("reading the picture")?;
    let mut view = model.see(&picture).context("looking at the picture")?;
    let matcher = model.matcher()?;
    let image = matcher.embed_image(&view).context("embedding the picture")?;
    for text in &texts {
        let probability = matcher.match_probability(&mut view, text).context("matching the text")?;
        let cosine = matcher.embed_text(text).context("embedding the text")?.cosine(&image);
        let verdict = if probability > 0.5 { "matches" } else { "does not match" };
        println!("{text}: {verdict} (ITM {probability:.4}, ITC {cosine:+.4})");
    }
    Ok(())
}
