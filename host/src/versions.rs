//! Datasets made of the pairs: numbered, written once, never changed, and withdrawn when a pair of theirs is to go.
//!
//! ```text
//! versions/0001/README.md                       what Hugging Face's readers and people look at
//! versions/0001/version.json                    counts, parameters, and the SHA-256 of each other file
//! versions/0001/data/train-00000-of-00002.parquet
//! ```
//!
//! What is made of the same pairs with the same parameters is the same to the byte: no time stands in it. Pictures of one
//! board and one day are wholly in one split, the same in every version. Of pictures that look alike and stand in different
//! splits, those in train (and in validation, where the other is in test) are left out.

mod splits;
mod near;
mod rows;
mod plan;
mod table;
mod card;
mod standing;

use std::io;
use std::path::PathBuf;

use dataset::disk::{DiskError, Existing, Staged};

use crate::book::{BookError, VersionRow};
use crate::curation::CurationError;
use crate::home::{Home, HomeError};

pub use card::{Card, FileFacts, LeftOut};
pub use near::{MAX_DISTANCE, NearIndex};
pub use splits::{Shares, SharesError, Split};
pub use standing::{Standing, Version, VersionFault};
pub(crate) use standing::{check_card, remove_withdrawn, settle, verify, version};

use plan::Plan;

/// How many times a version is begun anew because a pair went away while it was written.
const TRIES: usize = 3;

/// How a version is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Parameters {
    /// How many of a hundred groups go where. A group that was in a version stays where it was.
    pub shares: Shares,
    /// In how many of 64 bits pictures may differ that are taken to look alike.
    pub near: u32,
}

impl Default for Parameters {
    fn default() -> Parameters {
        Parameters { shares: Shares::default(), near: 4 }
    }
}

/// What is done on the way to a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Pictures are looked at, each once.
    Looking,
    /// Pairs are written.
    Writing,
}

/// What came of writing.
#[derive(Clone, Debug, PartialEq)]
pub enum Written {
    /// A new version.
    New(Version),
    /// Nothing has changed since this one.
    Unchanged(Version),
}

/// What is wrong with a version, or with making one.
#[derive(Debug, thiserror::Error)]
pub enum VersionError {
    /// The host's folder.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// The database.
    #[error(transparent)]
    Book(#[from] BookError),
    /// A picture.
    #[error(transparent)]
    Curation(#[from] CurationError),
    /// The disk does not take it.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// A file of a version.
    #[error("{}: {source}: see that there is room; the versions that are there are untouched", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// No child can be started.
    #[error("pictures cannot be decoded: {0}")]
    Decoder(io::Error),
    /// There is nothing to write.
    #[error("no pair with a picture and a text is kept: there is nothing to make a dataset of")]
    Nothing,
    /// Pairs keep going away.
    #[error("pairs were forgotten while the version was written, {TRIES} times: run it again")]
    Changing,
    /// There is no such version.
    #[error("there is no version {number}: \"edgeblip-trainer dataset list\" shows those that are there")]
    Unknown {
        /// The number.
        number: i64,
    },
    /// It is gone.
    #[error("version {number} is withdrawn: {reason}")]
    Withdrawn {
        /// The number.
        number: i64,
        /// Why.
        reason: String,
    },
}

/// What a picture looks like ([`crate::likeness`]), or why it cannot be decoded; in a child, as [`crate::Decoder`] does it.
pub type Look<'l> = dyn FnMut(&[u8]) -> io::Result<Result<u64, String>> + 'l;
/// Is told what is done, how much of it, and how much there is.
pub type Tell<'t> = dyn FnMut(Stage, usize, usize) + 't;

impl Home {
    /// Writes a version of all pairs that are kept and have a picture and a text. The inbox may run meanwhile.
    ///
    /// # Errors
    /// See [`VersionError`]; then there is no new version.
    pub fn write_version(
        &mut self,
        parameters: &Parameters,
        look: &mut Look<'_>,
        tell: &mut Tell<'_>,
        at_s: i64,
    ) -> Result<Written, VersionError> {
        let _lock = self.version_lock()?;
        settle(self)?;
        for _ in 0..TRIES {
            plan::look_at_all(self, look, tell)?;
            if let Some(written) = self.try_version(parameters, tell, at_s)? {
                return Ok(written);
            }
        }
        Err(VersionError::Changing)
    }

    /// Nothing if a pair that was to be in it is gone.
    fn try_version(
        &mut self,
        parameters: &Parameters,
        tell: &mut Tell<'_>,
        at_s: i64,
    ) -> Result<Option<Written>, VersionError> {
        let snapshot = self.book.snapshot()?;
        let plan = Plan::make(&snapshot, parameters)?;
        if plan.chosen.is_empty() {
            return Err(VersionError::Nothing);
        }
        let last = self.versions()?.into_iter().rfind(|version| version.standing == Standing::Standing);
        if let Some(last) = last.filter(|last| last.card.inputs == plan.inputs) {
            return Ok(Some(Written::Unchanged(last)));
        }
        let number = standing::next_number(self)?;
        let staged = Staged::beside(&standing::folder_of(&self.versions_folder(), number))?;
        let Some(files) = table::write_all(self, &snapshot, &plan, staged.path(), tell)? else { return Ok(None) };
        let card = card::write(staged.path(), plan.card(files))?;
        let row = VersionRow {
            number,
            inputs: plan.inputs,
            card,
            state: standing::WRITING.to_owned(),
            reason: None,
            at_s,
            withdrawn_s: None,
        };
        if !self.book.write_version(&row, &plan.numbers(), &plan.groups())? {
            return Ok(None);
        }
        staged.publish(Existing::Refuse)?;
        settle(self)?;
        match self.version(number) {
            Ok(version) => Ok(Some(Written::New(version))),
            Err(VersionError::Withdrawn { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }
}
