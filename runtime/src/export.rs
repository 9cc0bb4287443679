//! Pairs out of a store, in the formats that others read: those of `formats`, and Camtrap DP.
//!
//! The picture's own data stay as they are, bit for bit. Time, place and caption are written into it as EXIF and XMP.

mod camtrap;
mod exif;
mod jpeg;
mod metadata;
mod xmp;

use std::path::{Path, PathBuf};

use blip::caption::Origin;
use formats::disk::{DiskError, Existing, Staged, check_free};
use formats::write::{DatasetWriter, WriteError, WriteOptions};
use formats::{Format, Pair};
use store::{Filter, PairId, Reader, State, StoreError, StoredPair, Text};

pub use camtrap::{CamtrapError, GuessedTimes, Project};
pub use metadata::Known;

/// Pairs that are read at once.
const PAGE: usize = 32;

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
    /// Only those in this state.
    pub state: Option<State>,
    /// Only those behind this one.
    pub since: Option<PairId>,
    /// What becomes of the pictures.
    pub metadata: Metadata,
}

/// What was exported, and what was not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exported {
    /// Pairs that are in it.
    pub pairs: u64,
    /// Pairs that are not what was stored, and why.
    pub damaged: Vec<String>,
    /// Pairs without a time that can be trusted, which a camera trap data package cannot hold.
    pub untimed: u64,
    /// Pictures that had EXIF or XMP of their own, and keep it.
    pub own_metadata: u64,
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
    /// There is nothing.
    #[error("{}: no pair with a picture is there to export", store.display())]
    Nothing {
        /// The store.
        store: PathBuf,
    },
}

/// Where pairs go.
enum Sink {
    Dataset(Box<DatasetWriter>),
    CamtrapDp(Box<camtrap::Package>),
}

/// Exports pairs into a new folder, which is there when all of it is. Pairs that are damaged are left out and named.
///
/// # Errors
/// See [`ExportError`]; nothing is left behind.
pub fn export(
    reader: &Reader,
    target: &Target,
    folder: &Path,
    options: &Options,
    mut tell: impl FnMut(),
) -> Result<Exported, ExportError> {
    check_free(folder, Existing::Refuse)?;
    let staged = Staged::beside(folder)?;
    let mut sink = match target {
        Target::Dataset(format) => {
            Sink::Dataset(Box::new(DatasetWriter::create(staged.path(), *format, &WriteOptions::default())?))
        }
        Target::CamtrapDp(project) => Sink::CamtrapDp(Box::new(camtrap::Package::create(staged.path(), project)?)),
    };
    let mut exported = Exported::default();
    let mut since = options.since;
    loop {
        let filter = Filter { state: options.state, since, with_picture: true, limit: PAGE, ..Filter::default() };
        let ids: Vec<PairId> = reader.list(filter)?.iter().map(|entry| entry.id).collect();
        let Some(last) = ids.last() else { break };
        since = Some(*last);
        for (id, pair) in ids.iter().zip(reader.get_many(&ids)?) {
            tell();
            match pair {
                Ok(pair) => add(&mut sink, pair, options.metadata, &mut exported)?,
                // It was forgotten meanwhile.
                Err(StoreError::NotThere { .. }) => {}
                Err(error) => exported.damaged.push(format!("pair {id}: {error}")),
            }
        }
    }
    if exported.pairs == 0 {
        return Err(ExportError::Nothing { store: reader.clone().into() });
    }
    match sink {
        Sink::Dataset(writer) => writer.finish()?,
        Sink::CamtrapDp(package) => package.finish()?,
    }
    staged.publish(Existing::Refuse)?;
    Ok(exported)
}

fn add(sink: &mut Sink, pair: StoredPair, metadata: Metadata, exported: &mut Exported) -> Result<(), ExportError> {
    let texts = pair.texts();
    let Some(jpeg) = pair.jpeg else { return Ok(()) };
    let known = Known::of(&pair.facts, &texts);
    if matches!(sink, Sink::CamtrapDp(project) if !project.takes(&known)) {
        exported.untimed += 1;
        return Ok(());
    }
    let picture = match metadata {
        Metadata::Leave => jpeg,
        Metadata::Write => {
            let written = known.written_into(&jpeg);
            exported.own_metadata += u64::from(written.had_its_own);
            written.jpeg
        }
    };
    let key = key(&pair.facts);
    match sink {
        Sink::Dataset(writer) => {
            let texts = texts.iter().map(text).collect();
            writer.add(&Pair { key, picture, texts, truth: None })?;
        }
        Sink::CamtrapDp(package) => package.add(&key, &picture, &known, &pair.facts, &texts)?,
    }
    exported.pairs += 1;
    Ok(())
}

/// A name that pairs of other boards do not have: of the boot, and the pair's own.
fn key(facts: &store::PairFacts) -> String {
    let boot: String = facts.boot_id.as_str().chars().filter(char::is_ascii_alphanumeric).take(8).collect();
    format!("{boot}-{}", facts.id)
}

fn text(text: &Text) -> formats::Text {
    let origin = match text.origin {
        Origin::Human => formats::Origin::Human,
        Origin::Caption | Origin::Candidate => formats::Origin::Synthetic,
        Origin::Sidecar | Origin::Tag | Origin::Place => formats::Origin::Web,
    };
    formats::Text { text: text.words.as_str().to_owned(), origin, score: text.itm }
}
