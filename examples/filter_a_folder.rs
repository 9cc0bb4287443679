//! CapFilt on a folder of pairs: for each picture with a text beside it (`01.png`, `01.txt`), which of the text and the
//! model's own caption are worth learning from.
//!
//! `cargo run --release -p edgeblip-examples --example filter_a_folder -- FOLDER`

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result};
use blip::caption::Caption;
use blip::config::Role;
use edgeblip::bundle::Bundle;
use edgeblip::filter::{Describe, Raw, Wanted, judge};
use edgeblip::model::Model;
use edgeblip::picture;
use field::config::{Captions, Filter as Settings};
use field::filter::Filter;
use store::{Decision, Origin};

fn main() -> Result<()> {
    let folder = PathBuf::from(std::env::args().nth(1).context("name a folder of pictures and texts")?);
    let bundle = Bundle::built_in().context("opening the built-in bundle")?;
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let model = Model::load(Arc::new(bundle), &[Role::Captioner, Role::Matcher], threads).context("loading")?;
    let id = Caption::new(model.bundle().id())?;
    let mut filter = Filter::new(&Settings::default());
    let captions = Captions { candidates: 0, ..Captions::default() };

    let mut texts: Vec<PathBuf> = folder.read_dir()?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    texts.retain(|path| path.extension().is_some_and(|ending| ending == "txt"));
    texts.sort();
    for path in texts {
        let words = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        let raw = [Raw { words: Caption::new(words.trim())?, origin: Origin::Sidecar }];
        let mut view = Describe::see(&model, &picture::open(&path.with_extension("png"))?)?;
        let scored = model.describe(&mut view, &Wanted { captions: &captions, raw: &raw, seed: 0 })?;
        for text in judge(&mut filter, path.as_os_str().as_encoded_bytes(), scored, 0, &id).texts {
            let decision = if text.decision == Decision::Kept { "keep" } else { "reject" };
            let (itm, itc) = (text.itm.unwrap_or_default(), text.itc.unwrap_or_default());
            println!("{decision:<6} ITM {itm:.4} ITC {itc:+.4} {}: {}", path.display(), text.words);
        }
    }
    Ok(())
}
