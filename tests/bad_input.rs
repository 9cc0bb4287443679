//! Bad input: a readable error that names the file, no panic, and nothing left behind.

use std::path::Path;

use anyhow::{Result, ensure};
use tempfile::TempDir;

use crate::bundles::copy;
use crate::command_line::run;

mod checkpoints;
mod places;
mod sealed_bundles;
mod hostile_graphs;
mod pictures;
mod texts;

/// A picture that nothing is wrong with.
const PICTURE: &str = "examples/images/01.png";

/// Exports to a folder of its own; the message must hold all `words`, and the folder be as empty as before.
fn export_is_refused(checkpoint: &Path, flags: &[&str], words: &[&str]) -> Result<()> {
    let folder = TempDir::new()?;
    for place in ["bundle", "made/for/it/bundle"] {
        let mut arguments = vec![checkpoint.as_os_str().to_owned(), "--out".into(), folder.path().join(place).into()];
        arguments.extend(flags.iter().map(|flag| (*flag).into()));
        let ran = run("edgeblip-export", &arguments)?;
        ensure!(ran.code == 1 && ran.out.is_empty(), "exit code {}: {}{}", ran.code, ran.out, ran.err);
        ran.refused(words)?;
        let message = ran.err.lines().find(|line| line.starts_with("edgeblip-export: "));
        ensure!(message.is_some(), "no message in {:?}", ran.err);
        ensure_empty(folder.path())?;
    }
    Ok(())
}

fn ensure_empty(folder: &Path) -> Result<()> {
    let left: Vec<_> = folder.read_dir()?.filter_map(|entry| Some(entry.ok()?.file_name())).collect();
    ensure!(left.is_empty(), "{left:?} was left behind");
    Ok(())
}
