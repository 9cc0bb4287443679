//! Pairs out of a store, in the formats that others read: those of `dataset`, and Camtrap DP.
//!
//! The picture's own data stay as they are, bit for bit. Time, place and caption are written into it as EXIF and XMP.

mod known;
mod jpeg;
mod exif;
mod xmp;
mod metadata;
mod camtrap;

use std::path::{Path, PathBuf};

use dataset::disk::{DiskError, Existing, Staged, check_free};
use dataset::write::{DatasetWriter, WriteError, WriteOptions};
use dataset::{Format, Pair};
use store::{Entry, Filter, Origin, PairId, Reader, State, StoreError, StoredPair, Text};

pub use camtrap::{CamtrapError, GuessedTimes, Project};
use known::Known;
use metadata::Told;

/// Pairs that are listed at once.
const PAGE: usize = 64;
/// Bytes of pairs that are read at once, beside the last one.
const READ_BYTES: u64 = 8 << 20;

/// What is written.
#[derive(Clone, Debug, PartialEq)]
pub enum Target {
    /// One of the datasets of machine learning.
    Dataset(Format),
    /// A camera trap data package, with what the store does not know.
    CamtrapDp(Project),
}

/// Whether pictures get what is known about them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metadata {
    /// As EXIF and XMP.
    Write,
    /// They stay as they are, to the byte.
    Leave,
}

/// Which pairs, and how.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// Only those in this state, after what people said.
    pub state: Option<State>,
    /// Only those behind this one.
    pub since: Option<PairId>,
    /// What becomes of the pictures.
    pub metadata: Metadata,
}

/// What is told on the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// A pair was looked at.
    Pair,
    /// A pair or a database that is not what was stored, and why.
    Fault(String),
    /// A pair that a camera trap data package has no place for: nobody had set the clock.
    Untimed(PairId),
}

/// What was exported, and what was not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Exported {
    /// Pairs that are in it.
    pub pairs: u64,
    /// Pairs and databases that are not what was stored.
    pub faults: u64,
    /// Pairs without a time that can be trusted.
    pub untimed: u64,
    /// Pictures with EXIF or XMP of their own that could not be added to, and so stay as they are.
    pub partly_told: u64,
}

/// Nothing was exported.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The disk does not take it.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The dataset does not take it.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// The package does not take it.
    #[error(transparent)]
    Camtrap(#[from] CamtrapError),
    /// No pair can be used.
    #[error("{}: no pair with a picture in this state is there to export", store.display())]
    Nothing {
        /// The store.
        store: PathBuf,
    },
    /// No pair has a time that can be trusted.
    #[error(
        "{pairs} pairs are there, and nobody had set the clock for any of them: --guessed-times takes them, and says so"
    )]
    Untimed {
        /// How many.
        pairs: u64,
    },
}

/// Where pairs go.
enum Sink {
    Dataset(Box<DatasetWriter>),
    CamtrapDp(Box<camtrap::Package>),
}

impl Sink {
    fn create(folder: &Path, target: &Target) -> Result<Sink, ExportError> {
        Ok(match target {
            Target::Dataset(format) => {
                Sink::Dataset(Box::new(DatasetWriter::create(folder, *format, &WriteOptions::default())?))
            }
            Target::CamtrapDp(project) => Sink::CamtrapDp(Box::new(camtrap::Package::create(folder, project)?)),
        })
    }

    fn add(&mut self, pair: &StoredPair, picture: Vec<u8>, known: &Known, texts: &[Text]) -> Result<(), ExportError> {
        let key = key(pair);
        match self {
            Sink::Dataset(writer) => {
                writer.add(&Pair { key, picture, texts: texts.iter().map(text).collect(), truth: None })?;
            }
            Sink::CamtrapDp(package) => package.add(&key, pair, &picture, known, texts)?,
        }
        Ok(())
    }

    fn finish(self) -> Result<(), ExportError> {
        match self {
            Sink::Dataset(writer) => writer.finish()?,
            Sink::CamtrapDp(package) => package.finish()?,
        }
        Ok(())
    }
}

/// Exports pairs into a new folder, which is there when all of it is. Pairs that are damaged are told and left out.
/// Another process may write the store meanwhile: pairs that come or go are in it or not.
///
/// # Errors
/// See [`ExportError`]; nothing is left behind.
pub fn export(
    reader: &Reader,
    target: &Target,
    folder: &Path,
    options: &Options,
    mut tell: impl FnMut(Notice),
) -> Result<Exported, ExportError> {
    check_free(folder, Existing::Refuse)?;
    let staged = Staged::beside(folder)?;
    let mut sink = Sink::create(staged.path(), target)?;
    let mut exported = Exported::default();
    let fault = |exported: &mut Exported, what: String, tell: &mut dyn FnMut(Notice)| {
        exported.faults += 1;
        tell(Notice::Fault(what));
    };
    for database in reader.stats()?.unreadable {
        let what = format!("{}: cannot be read, or not all of it: see \"edgeblip pairs verify\"", database.display());
        fault(&mut exported, what, &mut tell);
    }
    let mut since = options.since;
    loop {
        let filter = Filter { state: options.state, since, with_picture: true, limit: PAGE, ..Filter::default() };
        let ids = within(&reader.list(filter)?, READ_BYTES);
        let Some(last) = ids.last() else { break };
        since = Some(*last);
        for (id, pair) in ids.iter().zip(reader.get_many(&ids)?) {
            tell(Notice::Pair);
            match pair.map_err(ExportError::from).and_then(|pair| add(&mut sink, pair, options, &mut exported)) {
                Ok(Added::Whole) => {}
                Ok(Added::Untimed) => tell(Notice::Untimed(*id)),
                // It was forgotten or evicted meanwhile.
                Err(ExportError::Store(StoreError::NotThere { .. })) => {}
                Err(error @ (ExportError::Store(_) | ExportError::Write(WriteError::NotAPicture { .. }))) => {
                    fault(&mut exported, format!("pair {id}: {error}"), &mut tell);
                }
                Err(error) => return Err(error),
            }
        }
    }
    match exported {
        Exported { pairs: 0, untimed: 0, .. } => return Err(ExportError::Nothing { store: reader.clone().into() }),
        Exported { pairs: 0, untimed, .. } => return Err(ExportError::Untimed { pairs: untimed }),
        _ => sink.finish()?,
    }
    staged.publish(Existing::Refuse)?;
    Ok(exported)
}

/// The first pairs, up to the one that reaches so many bytes.
fn within(entries: &[Entry], most: u64) -> Vec<PairId> {
    let mut bytes = 0_u64;
    let before = |entry: &&Entry| {
        let is_before = bytes < most;
        bytes = bytes.saturating_add(entry.bytes);
        is_before
    };
    entries.iter().take_while(before).map(|entry| entry.id).collect()
}

/// What became of a pair.
enum Added {
    Whole,
    Untimed,
}

fn add(
    sink: &mut Sink,
    mut pair: StoredPair,
    options: &Options,
    exported: &mut Exported,
) -> Result<Added, ExportError> {
    // Somebody may have labelled it since it was listed.
    let is_wanted = options.state.is_none_or(|state| state == pair.state());
    let Some(jpeg) = pair.jpeg.take().filter(|_| is_wanted) else { return Ok(Added::Whole) };
    let texts = pair.texts();
    let known = Known::of(&pair.facts, &texts);
    if matches!(sink, Sink::CamtrapDp(package) if !package.takes(&known)) {
        exported.untimed += 1;
        return Ok(Added::Untimed);
    }
    let (picture, told) = match options.metadata {
        Metadata::Leave => (jpeg, Told::All),
        Metadata::Write => metadata::written(&known, jpeg),
    };
    sink.add(&pair, picture, &known, &texts)?;
    exported.pairs += 1;
    exported.partly_told += u64::from(told == Told::Part);
    Ok(Added::Whole)
}

/// A name that pairs of other boards do not have: of the boot, and the pair's own.
fn key(pair: &StoredPair) -> String {
    let boot = pair.facts.boot_id.as_str().chars().filter(char::is_ascii_alphanumeric).take(8);
    format!("{}-{}", boot.collect::<String>(), pair.facts.id)
}

fn text(text: &Text) -> dataset::Text {
    let origin = match text.origin {
        Origin::Human => dataset::Origin::Human,
        Origin::Caption | Origin::Candidate => dataset::Origin::Synthetic,
        Origin::Sidecar | Origin::Tag | Origin::Place => dataset::Origin::Web,
    };
    dataset::Text { text: text.words.as_str().to_owned(), origin, score: text.itm }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_pairs_are_read_at_once_as_their_bytes_allow_and_at_least_one() {
        let entry = |(number, bytes): (usize, u64)| Entry {
            id: format!("1-{number}").parse().unwrap(),
            state: State::Kept,
            score: 0.0,
            has_human_text: false,
            bytes,
            is_synced: false,
            facts: None,
        };
        let read = |bytes: &[u64]| {
            let entries: Vec<Entry> = bytes.iter().copied().enumerate().map(entry).collect();
            within(&entries, 100).len()
        };
        assert_eq!(read(&[]), 0);
        assert_eq!(read(&[1000, 1]), 1);
        assert_eq!(read(&[40, 40, 40, 40]), 3);
        assert_eq!(read(&[1; 64]), 64);
        assert_eq!(read(&[u64::MAX, u64::MAX]), 1);
    }
}
