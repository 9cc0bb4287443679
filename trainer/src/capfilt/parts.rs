//! The files of a run: each is written beside its name, synced and renamed, so that what is there is whole.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{CapfiltError, CapfiltSettings, Decision};
use dataset::disk;

/// Folder of the shards' decisions.
const PARTS_FOLDER: &str = "parts";
/// What the run is.
const RUN_FILE: &str = "run.json";

/// The first line of a shard's file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Header {
    pub(super) shard: usize,
    pub(super) start: usize,
    pub(super) end: usize,
    pub(super) identity: String,
}

/// What a shard decided.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) header: Header,
    /// Entries that could not be read, each with its reason.
    pub(super) broken: Vec<(usize, String)>,
    pub(super) decisions: Vec<Decision>,
}

/// The second line.
#[derive(Serialize, Deserialize)]
struct BrokenLine {
    broken: Vec<(usize, String)>,
}

#[derive(Serialize, Deserialize)]
struct RunFile {
    identity: String,
    settings: CapfiltSettings,
}

/// The folder of a run.
pub(super) struct Parts {
    pub(super) folder: PathBuf,
}

impl Parts {
    /// Makes the folder, or checks that it is this run's.
    pub(super) fn open(folder: &Path, settings: &CapfiltSettings, identity: &str) -> Result<Parts, CapfiltError> {
        let parts = folder.join(PARTS_FOLDER);
        std::fs::create_dir_all(&parts).map_err(|source| CapfiltError::File { file: parts, source })?;
        let file = folder.join(RUN_FILE);
        if !file.exists() {
            let run = RunFile { identity: identity.to_owned(), settings: settings.clone() };
            write_whole(&file, |out| Ok(serde_json::to_writer_pretty(out, &run)?))?;
        }
        let bytes = std::fs::read(&file).map_err(|source| CapfiltError::File { file: file.clone(), source })?;
        let run: RunFile = serde_json::from_slice(&bytes)
            .map_err(|error| CapfiltError::Damaged { file: file.clone(), reason: error.to_string() })?;
        if run.identity != identity {
            return Err(CapfiltError::OtherRun { folder: folder.to_owned() });
        }
        Ok(Parts { folder: folder.to_owned() })
    }

    fn file(&self, shard: usize) -> PathBuf {
        self.folder.join(PARTS_FOLDER).join(format!("{shard:08}.jsonl"))
    }

    /// Whether the shard's file is there and was made from the same.
    pub(super) fn is_done(&self, header: &Header) -> Result<bool, CapfiltError> {
        let path = self.file(header.shard);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
            Err(source) => return Err(CapfiltError::File { file: path, source }),
        };
        let line = line(&mut BufReader::new(file), &path)?;
        Ok(serde_json::from_str(&line).is_ok_and(|found: Header| found == *header))
    }

    pub(super) fn write(&self, part: &Part) -> Result<(), CapfiltError> {
        write_whole(&self.file(part.header.shard), |out| {
            writeln!(out, "{}", terminal::json(&part.header)?)?;
            writeln!(out, "{}", terminal::json(&BrokenLine { broken: part.broken.clone() })?)?;
            for decision in &part.decisions {
                writeln!(out, "{}", terminal::json(decision)?)?;
            }
            Ok(())
        })
    }

    pub(super) fn read(&self, header: &Header) -> Result<Part, CapfiltError> {
        let path = self.file(header.shard);
        let file = File::open(&path).map_err(|source| CapfiltError::File { file: path.clone(), source })?;
        let mut lines = BufReader::new(file);
        let damaged = |reason: String| CapfiltError::Damaged { file: path.clone(), reason };
        let found: Header =
            serde_json::from_str(&line(&mut lines, &path)?).map_err(|error| damaged(error.to_string()))?;
        if found != *header {
            return Err(damaged("it is another shard's".to_owned()));
        }
        let broken = line(&mut lines, &path)?;
        let BrokenLine { broken } = serde_json::from_str(&broken).map_err(|error| damaged(error.to_string()))?;
        let mut decisions = Vec::new();
        loop {
            let line = line(&mut lines, &path)?;
            if line.is_empty() {
                return Ok(Part { header: found, broken, decisions });
            }
            let decision: Decision = serde_json::from_str(&line).map_err(|error| damaged(error.to_string()))?;
            if !(header.start..header.end).contains(&decision.entry) {
                return Err(damaged(format!("picture {} is not of this shard", decision.entry)));
            }
            decisions.push(decision);
        }
    }
}

/// The next line; empty at the end.
fn line(lines: &mut BufReader<File>, path: &Path) -> Result<String, CapfiltError> {
    let mut line = String::new();
    lines.read_line(&mut line).map_err(|source| CapfiltError::File { file: path.to_owned(), source })?;
    Ok(line)
}

/// Writes a file so that it is whole or not there.
pub(super) fn write_whole(
    target: &Path,
    write: impl FnOnce(&mut dyn Write) -> std::io::Result<()>,
) -> Result<(), CapfiltError> {
    disk::write_whole(target, write).map_err(|source| CapfiltError::File { file: target.to_owned(), source })
}
