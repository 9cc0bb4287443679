//! What happened at each step, for people and for TensorBoard.

pub mod display;
pub mod events;

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer, Serialize};

pub use display::{Display, Pace};
pub use events::{EventFile, Picture};

/// The file in a run's folder that has a line of JSON for each step.
pub const LINES_FILE: &str = "journal.jsonl";
/// Longest line that is read back.
const MAX_LINE_BYTES: u64 = 1 << 20;

/// One step. A number that is not finite is written as `null` and read back as NaN.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StepRecord {
    /// Steps of the optimizer so far, from 1.
    pub step: u64,
    /// Passes over the data that are complete.
    pub epoch: u64,
    /// Seconds since 1970 at the step's end, by the machine's clock.
    pub time: f64,
    /// Each loss by its name: "itc", "itm", "lm", "total".
    #[serde(deserialize_with = "numbers")]
    pub losses: BTreeMap<String, f64>,
    /// Of the first group of parameters.
    #[serde(deserialize_with = "number")]
    pub learning_rate: f64,
    /// Image-text pairs a second, over all ranks.
    #[serde(deserialize_with = "number")]
    pub pairs_per_second: f64,
    /// Global norm before clipping.
    #[serde(deserialize_with = "number")]
    pub gradient_norm: f64,
    /// What else is worth a curve: temperature, alpha, validation scores.
    #[serde(default, deserialize_with = "numbers")]
    pub others: BTreeMap<String, f64>,
    /// What the model writes about a few pictures, after steps where that is asked.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub captions: Vec<SampleCaption>,
}

/// A text that the model wrote while it learned.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SampleCaption {
    /// The picture's name.
    pub picture: String,
    /// The caption; of an answerer, question and answer.
    pub text: String,
}

fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    Ok(Option::<f64>::deserialize(deserializer)?.unwrap_or(f64::NAN))
}

fn numbers<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, f64>, D::Error> {
    let read = BTreeMap::<String, Option<f64>>::deserialize(deserializer)?;
    Ok(read.into_iter().map(|(name, value)| (name, value.unwrap_or(f64::NAN))).collect())
}

impl StepRecord {
    /// Every number of the record with the name of its curve: `loss/lm`, `learning-rate`, ...
    pub fn curves(&self) -> Vec<(String, f64)> {
        let mut curves: Vec<(String, f64)> =
            self.losses.iter().map(|(name, value)| (format!("loss/{name}"), *value)).collect();
        curves.push(("learning-rate".to_owned(), self.learning_rate));
        curves.push(("pairs-per-second".to_owned(), self.pairs_per_second));
        curves.push(("gradient-norm".to_owned(), self.gradient_norm));
        curves.extend(self.others.iter().map(|(name, value)| (name.clone(), *value)));
        curves
    }
}

/// Why a journal cannot be kept.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The operating system refuses.
    #[error("the journal {} cannot be {doing}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What we were doing: "read", "written".
        doing: &'static str,
        /// Why.
        source: std::io::Error,
    },
    /// A line in the middle that is not a record: somebody else's file, or a damaged one.
    #[error("line {line} of {} is not a record of a step ({reason}); move the file away to start another", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// What is wrong.
        reason: String,
    },
}

/// Where a run goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// From the first step: what an earlier run left is taken away.
    New,
    /// After this step: what an earlier run wrote of later ones is taken away.
    After(u64),
}

/// The files that a run writes as it goes.
pub struct Journal {
    path: PathBuf,
    lines: File,
    events: EventFile,
}

impl Journal {
    /// Opens the journal in a run's folder. `time` is seconds since 1970.
    ///
    /// A torn last line, as a power cut leaves it, is taken away.
    ///
    /// # Errors
    /// Files that cannot be written, and a journal that is not one of ours.
    pub fn open(folder: &Path, start: Start, time: f64) -> Result<Self, JournalError> {
        let path = folder.join(LINES_FILE);
        let fault = |source| JournalError::File { path: path.clone(), doing: "written", source };
        let mut lines =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path).map_err(fault)?;
        let end = match start {
            Start::New => 0,
            Start::After(step) => end_of(&mut lines, &path, step)?,
        };
        lines.set_len(end).map_err(fault)?;
        lines.seek(SeekFrom::Start(end)).map_err(fault)?;
        let after = match start {
            Start::New => 0,
            Start::After(step) => step,
        };
        let events = EventFile::create(folder, after, time)?;
        Ok(Self { path, lines, events })
    }

    /// Writes a step: a line, a scalar for each of its curves, and its captions as texts.
    ///
    /// # Errors
    /// A full disk.
    pub fn write(&mut self, record: &StepRecord) -> Result<(), JournalError> {
        let fault = |source: std::io::Error| JournalError::File { path: self.path.clone(), doing: "written", source };
        let mut line = serde_json::to_vec(record).map_err(|error| fault(error.into()))?;
        line.push(b'\n');
        self.lines.write_all(&line).map_err(fault)?;
        self.events.scalars(record.step, record.time, &record.curves())?;
        for SampleCaption { picture, text } in &record.captions {
            self.events.text(record.step, record.time, &format!("captions/{picture}"), text)?;
        }
        Ok(())
    }

    /// The event file, for texts and pictures.
    pub fn events(&mut self) -> &mut EventFile {
        &mut self.events
    }
}

/// The records of a journal, in order; a torn last line is left out.
///
/// # Errors
/// A file that cannot be read, or that is not a journal.
pub fn records(path: &Path) -> Result<Vec<StepRecord>, JournalError> {
    let mut file =
        File::open(path).map_err(|source| JournalError::File { path: path.to_owned(), doing: "read", source })?;
    let mut records = Vec::new();
    read(&mut file, path, |record, _| records.push(record))?;
    Ok(records)
}

/// Where the records up to `step` end.
fn end_of(file: &mut File, path: &Path, step: u64) -> Result<u64, JournalError> {
    let mut end = 0;
    let mut beyond = false;
    read(file, path, |record, after| {
        beyond |= record.step > step;
        if !beyond {
            end = after;
        }
    })?;
    Ok(end)
}

/// Hands over each record and the place after it.
fn read(file: &mut File, path: &Path, mut each: impl FnMut(StepRecord, u64)) -> Result<(), JournalError> {
    let fault = |source| JournalError::File { path: path.to_owned(), doing: "read", source };
    let mut reader = BufReader::new(file);
    let (mut place, mut number) = (0, 0);
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = reader.by_ref().take(MAX_LINE_BYTES).read_until(b'\n', &mut line).map_err(fault)?;
        number += 1;
        if read == 0 {
            return Ok(());
        }
        place += read as u64;
        let is_last = reader.fill_buf().map_err(fault)?.is_empty();
        match serde_json::from_slice(&line) {
            Ok(record) if line.ends_with(b"\n") => each(record, place),
            _ if is_last && !line.ends_with(b"\n") => return Ok(()),
            Ok(_) => return Err(too_long(path, number)),
            Err(error) => {
                return Err(JournalError::Line { path: path.to_owned(), line: number, reason: error.to_string() });
            }
        }
    }
}

fn too_long(path: &Path, line: usize) -> JournalError {
    JournalError::Line { path: path.to_owned(), line, reason: format!("it has more than {MAX_LINE_BYTES} bytes") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(step: u64) -> StepRecord {
        let losses = [("lm".to_owned(), 1.0 / step as f64), ("itc".to_owned(), 2.5)].into();
        StepRecord { step, time: 1.7e9 + step as f64, losses, learning_rate: 1e-4, ..StepRecord::default() }
    }

    fn written(folder: &Path, start: Start, steps: std::ops::RangeInclusive<u64>) {
        let mut journal = Journal::open(folder, start, 1.7e9).unwrap();
        steps.for_each(|step| journal.write(&record(step)).unwrap());
    }

    #[test]
    fn a_resumed_journal_is_that_of_a_run_that_was_never_stopped() {
        let (whole, resumed) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        written(whole.path(), Start::New, 1..=9);
        written(resumed.path(), Start::New, 1..=7);
        written(resumed.path(), Start::After(5), 6..=9);
        let bytes = |folder: &Path| std::fs::read(folder.join(LINES_FILE)).unwrap();
        assert_eq!(bytes(whole.path()), bytes(resumed.path()));
        assert_eq!(records(&whole.path().join(LINES_FILE)).unwrap(), (1..=9).map(record).collect::<Vec<_>>());
    }

    #[test]
    fn a_journal_cut_anywhere_goes_on_from_its_last_whole_line() {
        let folder = tempfile::tempdir().unwrap();
        written(folder.path(), Start::New, 1..=3);
        let path = folder.path().join(LINES_FILE);
        let bytes = std::fs::read(&path).unwrap();
        for length in 0..bytes.len() {
            std::fs::write(&path, &bytes[..length]).unwrap();
            let whole = bytes[..length].iter().filter(|byte| **byte == b'\n').count() as u64;
            written(folder.path(), Start::After(whole), whole + 1..=3);
            assert_eq!(std::fs::read(&path).unwrap(), bytes, "cut at {length}");
        }
    }

    #[test]
    fn a_loss_that_is_not_a_number_is_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let mut journal = Journal::open(folder.path(), Start::New, 0.0).unwrap();
        let broken =
            StepRecord { losses: [("lm".to_owned(), f64::NAN)].into(), gradient_norm: f64::INFINITY, ..record(1) };
        journal.write(&broken).unwrap();
        let read = records(&folder.path().join(LINES_FILE)).unwrap();
        assert!(read[0].losses["lm"].is_nan() && read[0].gradient_norm.is_nan());
    }

    #[test]
    fn a_file_that_is_not_a_journal_is_named_and_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(LINES_FILE);
        std::fs::write(&path, "dear diary\ntoday\n").unwrap();
        let message = Journal::open(folder.path(), Start::After(3), 0.0).err().unwrap().to_string();
        assert!(message.starts_with("line 1 of ") && message.contains("is not a record of a step"), "{message}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "dear diary\ntoday\n");
    }
}
