//! The pictures of a folder that match a text, the best first.
//!
//! `cargo run --release -p edgeblip-examples --example search_a_folder -- "three tigers on water" examples/images`

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result};
use blip::config::Role;
use edgeblip::bundle::Bundle;
use edgeblip::model::Model;
use edgeblip::picture;
use edgeblip::search::Gallery;

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let text = arguments.next().context("name a text to look for")?;
    let folder = PathBuf::from(arguments.next().context("name a folder of PNG pictures")?);
    let bundle = Bundle::built_in().context("opening the built-in bundle")?;
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let model = Model::load(Arc::new(bundle), &[Role::Matcher], threads).context("loading the matcher")?;

    let mut paths = Vec::new();
    for entry in folder.read_dir().context("listing the folder")? {
        let path = entry.context("listing the folder")?.path();
        if path.extension().is_some_and(|ending| ending == "png") {
            paths.push(path);
        }
    }
    paths.sort();

    let mut gallery = Gallery::new(&model)?;
    for path in &paths {
        gallery.add(&picture::open(path).context("reading a picture")?).context("adding a picture")?;
    }
    let hits = gallery.search(&text, 3, |index| picture::open(&paths[index])).context("searching")?;
    for hit in hits {
        println!("{}: {:+.4} (ITM {:.4}, ITC {:+.4})", paths[hit.index].display(), hit.score(), hit.itm, hit.itc);
    }
    Ok(())
}
