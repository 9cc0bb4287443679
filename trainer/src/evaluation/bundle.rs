//! An int8 bundle beside the model that it was made of: the two programs that make and run bundles are child processes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use blip::decoding::{DecodingOptions, Strategy};
use serde::{Deserialize, Serialize};

use super::captions::{CaptionScores, Own, scores, set};
use super::{EvaluationError, Run};

/// Which bundle is made, and by what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BundleSettings {
    /// The captioner's checkpoint, as [`super::Models::captioner`] was read from.
    pub checkpoint: PathBuf,
    /// The program `edgeblip-export`.
    pub exporter: PathBuf,
    /// The program `edgeblip`.
    pub runtime: PathBuf,
}

/// What was measured of the bundle.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BundleFigures {
    /// Its captions against the references.
    pub scores: CaptionScores,
    /// Share of its captions that are the model's own, 0 to 1.
    pub equal: f64,
    /// Pictures.
    pub pictures: usize,
    /// Bytes of its files.
    pub bytes: u64,
}

/// A line of `edgeblip caption --json`.
#[derive(Deserialize)]
struct Line {
    image: PathBuf,
    caption: String,
}

pub(super) fn compare(run: &Run<'_>, settings: &BundleSettings, own: &[Own]) -> Result<BundleFigures, EvaluationError> {
    let folder = tempfile::tempdir()?;
    let (bundle, pictures) = (folder.path().join("bundle"), folder.path().join("pictures"));
    run.progress.stage("int8 bundle", 2);
    let prompt = &run.settings.captions.prompt;
    let mut export = Command::new(&settings.exporter);
    export.arg("--captioner").arg(&settings.checkpoint).arg("--out").arg(&bundle).arg("--prompt").arg(prompt);
    output(&settings.exporter, &mut export)?;
    run.progress.step();
    let named = write_pictures(run, own, &pictures)?;
    let mut caption = Command::new(&settings.runtime);
    caption.arg("caption").arg("--json").arg("--bundle").arg(&bundle).arg("--prompt").arg(prompt);
    caption.args(flags(&settings.runtime, &run.settings.captions.options)?).arg(&pictures);
    let lines = output(&settings.runtime, &mut caption)?;
    run.progress.step();
    let theirs = captions(&settings.runtime, &lines, prompt, &named)?;
    let equal = own.iter().filter(|own| theirs.get(&own.entry).is_some_and(|caption| *caption == own.caption)).count();
    let set = set(run, theirs.iter().map(|(entry, caption)| (*entry, caption.as_str())))?;
    Ok(BundleFigures {
        scores: scores(&set),
        equal: equal as f64 / own.len() as f64,
        pictures: theirs.len(),
        bytes: size(&bundle)?,
    })
}

/// Writes the picture files into a folder; which entry each name is.
fn write_pictures(run: &Run<'_>, own: &[Own], folder: &Path) -> Result<BTreeMap<String, usize>, EvaluationError> {
    std::fs::create_dir(folder)?;
    let mut named = BTreeMap::new();
    for own in own {
        let Ok(bytes) = run.dataset.picture_bytes(own.entry) else { continue };
        let ending = image::guess_format(&bytes).ok().and_then(|format| format.extensions_str().first().copied());
        let name = format!("{:08}.{}", own.entry, ending.unwrap_or("png"));
        std::fs::write(folder.join(&name), bytes)?;
        named.insert(name, own.entry);
    }
    Ok(named)
}

fn captions(
    program: &Path,
    lines: &str,
    prompt: &str,
    named: &BTreeMap<String, usize>,
) -> Result<BTreeMap<usize, String>, EvaluationError> {
    let mut found = BTreeMap::new();
    for line in lines.lines() {
        let line: Line = serde_json::from_str(line)
            .map_err(|error| fault(program, &format!("answers with something other than its JSON lines ({error})")))?;
        let name = line.image.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let Some(entry) = named.get(name) else { continue };
        // The runtime's captions begin with the prompt.
        let caption = line.caption.strip_prefix(prompt.trim()).unwrap_or(&line.caption).trim();
        found.insert(*entry, caption.to_owned());
    }
    if found.is_empty() {
        return Err(fault(program, "gave no caption for any picture"));
    }
    Ok(found)
}

/// The search as the runtime's flags.
fn flags(program: &Path, options: &DecodingOptions) -> Result<Vec<String>, EvaluationError> {
    let mut flags = match options.strategy {
        Strategy::Greedy => vec!["--decode".to_owned(), "greedy".to_owned()],
        Strategy::Beam { beams } => {
            vec!["--decode".to_owned(), "beam".to_owned(), "--beams".to_owned(), beams.to_string()]
        }
        Strategy::Nucleus { .. } => {
            return Err(fault(program, "samples cannot be compared: evaluate with greedy or beam search"));
        }
    };
    if options.length_penalty != 1.0 {
        return Err(fault(program, "has no flag for the length penalty: evaluate with 1"));
    }
    let settings = [
        ("--repetition-penalty", options.repetition_penalty.to_string()),
        ("--no-repeat-ngram", options.no_repeat_ngram.to_string()),
        ("--min-length", options.min_length.to_string()),
        ("--max-length", options.max_length.to_string()),
    ];
    flags.extend(settings.into_iter().flat_map(|(flag, value)| [flag.to_owned(), value]));
    Ok(flags)
}

/// What a program says on its standard output.
fn output(program: &Path, command: &mut Command) -> Result<String, EvaluationError> {
    let output = command.stdin(Stdio::null()).output().map_err(|error| {
        let hint = match error.kind() {
            std::io::ErrorKind::NotFound => "is not there; build it with \"cargo build --release\", or say where it is",
            _ => "does not start",
        };
        fault(program, &format!("{hint} ({error})"))
    })?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let last = said.lines().next_back().unwrap_or("it said nothing");
        return Err(fault(program, &format!("failed with {}: {}", output.status, terminal::printable(last))));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn fault(program: &Path, what: &str) -> EvaluationError {
    EvaluationError::Program { program: terminal::shown(program), what: what.to_owned() }
}

fn size(folder: &Path) -> Result<u64, EvaluationError> {
    let files = std::fs::read_dir(folder)?;
    files.map(|file| Ok(file?.metadata()?.len())).sum()
}
