//! Pairs of a picture and its texts from folders, tars, json and Parquet.
//!
//! A dataset is opened once: its texts and the places of its pictures are in memory, and a picture is read when it is
//! asked for, from any thread. What cannot be used is skipped, counted and named.

mod format;
mod index;
mod record;
mod source;
mod image_folder;
mod web_dataset;
mod json;
mod table;

use std::sync::Arc;

use picture::PictureLimits;
use serde_json::Value;

pub use ::dataset::{Format, MAX_TEXT_BYTES, Origin, Pair, Text, write};
use index::Index;
pub use index::Skipped;
use source::{Source, SourceFile};
use table::Table;

/// Most pictures in one dataset.
pub const MAX_ENTRIES: usize = 1 << 25;
/// Longest json, jsonl or Parquet text part that is read, in bytes.
pub const MAX_JSON_BYTES: u64 = 4 << 30;
/// Longest json file of one picture, in bytes.
pub const MAX_MEMBER_JSON_BYTES: u64 = 1 << 20;

/// How a dataset is read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DatasetOptions {
    /// Its format; without it, what the location holds says it.
    pub format: Option<Format>,
    /// The folder under which the pictures of a json lie; without it, the json's own.
    pub image_root: Option<String>,
    /// The same for rows of a VQA json whose `dataset` is `vg` (Visual Genome); without it, `image_root`.
    pub genome_root: Option<String>,
    /// Where a text is from that does not say so itself.
    pub origin: Origin,
}

/// A question about a picture.
#[derive(Clone, Debug, PartialEq)]
pub struct Question {
    /// As it was found.
    pub text: String,
    /// The file's number for it, where there is one: answers are handed in under it.
    pub id: Option<u64>,
    /// Different answers, in the order of the file; none where they are withheld.
    pub answers: Vec<Answer>,
}

/// An answer and its part in the loss.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// The answer.
    pub text: String,
    /// The share of people who gave it; 0.2 for Visual Genome's single answers.
    ///
    /// Source: BLIP `data/vqa_dataset.py`, `vqa_dataset.__getitem__`.
    pub weight: f32,
}

/// A picture with all that is said about it.
#[derive(Debug)]
pub struct Entry {
    /// Names the picture, the same in every run: its `key` field, its name in the folder or tar, or file and row.
    pub key: String,
    /// Equal where two entries show the same picture (`image_id`); below [`Dataset::len`].
    pub image: u64,
    /// Its texts; none for a picture that is still to be captioned.
    pub texts: Vec<Text>,
    /// Its questions.
    pub questions: Vec<Question>,
    /// What is known of it besides (`truth`), for a measurement that knows what to expect.
    pub truth: Option<Value>,
    place: Place,
}

/// Where the bytes of a picture are.
#[derive(Clone, Debug)]
enum Place {
    File { folder: Arc<Source>, name: String },
    Part { file: Arc<SourceFile>, start: u64, length: u64 },
    Cell { table: Arc<Table>, group: usize, row: usize },
    Memory(Arc<[u8]>),
}

/// Why a dataset, or one of its pictures, cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum DatasetError {
    /// Nothing in it can be used.
    #[error("{location}: no picture in it; {hint}")]
    Empty {
        /// The dataset.
        location: String,
        /// What was skipped, or what is looked for.
        hint: String,
    },
    /// What lies there is none of the formats, or more than one dataset.
    #[error("{location}: {reason}")]
    Unknown {
        /// The dataset.
        location: String,
        /// What was found and what to do.
        reason: String,
    },
    /// A URL of a kind that this build does not read.
    #[error(
        "{location}: this program was built without datasets over the network; build it with \
         \"cargo build --release -p edgeblip-trainer --features cloud\", or copy the dataset to a folder"
    )]
    NeedsCloud {
        /// The dataset.
        location: String,
    },
    /// The disk or the network does not give it to us.
    #[error("{file}: cannot be read ({reason})")]
    Read {
        /// The file.
        file: String,
        /// What the system says.
        reason: String,
    },
    /// A file that ends early, or whose bytes contradict each other.
    #[error("{file}: is cut short or damaged ({reason}); copy it again from where it came")]
    Damaged {
        /// The file.
        file: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A whole file that is not what its format says.
    #[error("{file}: is not {expected} ({reason})")]
    Shape {
        /// The file.
        file: String,
        /// What the format wants.
        expected: &'static str,
        /// What is there instead.
        reason: String,
    },
    /// Beyond one of the limits.
    #[error("{file}: more than {limit} {unit}, the most that is read")]
    TooLarge {
        /// The file.
        file: String,
        /// The limit.
        limit: u64,
        /// What is counted.
        unit: &'static str,
    },
}

/// Pictures and what is said about them.
#[derive(Debug)]
pub struct Dataset {
    entries: Vec<Entry>,
    skipped: Skipped,
}

impl Dataset {
    /// Opens a dataset and reads its texts.
    ///
    /// `location` is a file, a folder, a brace pattern (`shard-{000..010}.tar`), a `file://` URL, or, in a build with
    /// the feature `cloud`, a URL of S3, Google Cloud, Azure or HTTP, whose credentials are read from the environment.
    ///
    /// # Errors
    /// A place that cannot be read, an unknown or damaged format, and a dataset without a single usable picture.
    pub fn open(location: &str, options: &DatasetOptions) -> Result<Dataset, DatasetError> {
        let place = source::locate(location)?;
        let format = match options.format {
            Some(format) => format,
            None => format::find(&place)?,
        };
        let mut index = Index::new(location, options.origin);
        match format {
            Format::ImageFolder | Format::Sidecars => image_folder::read(&place, &mut index)?,
            Format::WebDataset => web_dataset::read(&place, &mut index)?,
            Format::BlipJson | Format::VqaJson => json::read_rows(&place, options, &mut index)?,
            Format::CocoJson => json::read_coco(&place, options, &mut index)?,
            Format::Parquet => table::read(&place, &mut index)?,
        }
        let (entries, skipped) = index.finish()?;
        Ok(Dataset { entries, skipped })
    }

    /// A dataset that is in memory.
    ///
    /// # Errors
    /// No pair at all, and more than [`MAX_ENTRIES`].
    pub fn from_pairs(pairs: impl IntoIterator<Item = Pair>) -> Result<Dataset, DatasetError> {
        let mut index = Index::new("pairs in memory", Origin::default());
        for pair in pairs {
            let found = record::Record { texts: pair.texts, truth: pair.truth, ..record::Record::default() };
            index.add_apart(pair.key, Place::Memory(pair.picture.into()), found)?;
        }
        let (entries, skipped) = index.finish()?;
        Ok(Dataset { entries, skipped })
    }

    /// Several datasets as one, in this order. Their pictures count as different.
    ///
    /// # Errors
    /// More than [`MAX_ENTRIES`] together, and no dataset at all.
    pub fn joined(datasets: impl IntoIterator<Item = Dataset>) -> Result<Dataset, DatasetError> {
        let mut whole = Dataset { entries: Vec::new(), skipped: Skipped::default() };
        for dataset in datasets {
            let offset = whole.entries.len() as u64;
            let moved = dataset.entries.into_iter().map(|entry| Entry { image: entry.image + offset, ..entry });
            whole.entries.extend(moved);
            whole.skipped.join(dataset.skipped);
            if whole.entries.len() > MAX_ENTRIES {
                return Err(index::too_many("the joined datasets"));
            }
        }
        if whole.entries.is_empty() {
            let hint = "name at least one dataset".to_owned();
            return Err(DatasetError::Empty { location: "the joined datasets".to_owned(), hint });
        }
        Ok(whole)
    }

    /// Number of pictures, at least one.
    #[expect(clippy::len_without_is_empty, reason = "an empty dataset cannot be opened")]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// A picture's entry.
    ///
    /// # Panics
    /// If `index` is not below [`Dataset::len`].
    pub fn entry(&self, index: usize) -> &Entry {
        &self.entries[index]
    }

    /// All entries, in the order of the dataset.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// What was left out when it was opened.
    pub fn skipped(&self) -> &Skipped {
        &self.skipped
    }

    /// Reads the file of a picture; may be called from many threads.
    ///
    /// # Errors
    /// A file that is not there, cannot be read, or is larger than a picture file may be.
    ///
    /// # Panics
    /// If `index` is not below [`Dataset::len`].
    pub fn picture_bytes(&self, index: usize) -> Result<Vec<u8>, DatasetError> {
        match &self.entries[index].place {
            Place::File { folder, name } => folder.read(name, max_picture_bytes()),
            Place::Part { file, start, length } => file.read(*start, *length),
            Place::Cell { table, group, row } => table.picture(*group, *row),
            Place::Memory(bytes) => Ok(bytes.to_vec()),
        }
    }
}

/// Longest picture file.
fn max_picture_bytes() -> u64 {
    PictureLimits::default().file_bytes
}

#[cfg(test)]
mod full_disk;
#[cfg(test)]
mod tests;
