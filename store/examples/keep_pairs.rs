//! Keeps made-up pairs in a folder and says which are safe: what the tests kill, starve and cut off.
//!
//! `keep_pairs FOLDER SEED PAIRS`

#[path = "../tests/samples.rs"]
#[allow(dead_code, reason = "the tests use the rest")]
mod samples;

use std::io::Write;

use anyhow::{Context, Result};
use store::Limits;

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().context("usage: keep_pairs FOLDER SEED PAIRS")?;
    let mut number = || arguments.next().and_then(|text| text.parse().ok()).context("a number is missing");
    let (seed, pairs) = (number()?, number()?);
    // Small, so that logs are folded in and databases are full within a short run.
    let limits = Limits { file_bytes: 384 << 10, log_bytes: 96 << 10, ..Limits::default() };
    let work = samples::Work { seed, pairs, most_bytes: 12_000, limits };
    let mut output = std::io::stdout().lock();
    samples::work(folder.as_ref(), work, |said| {
        // A reader that went away does not matter to the pairs.
        let _ = writeln!(output, "{}", said.line()).and_then(|()| output.flush());
    })?;
    Ok(())
}
