//! Pairs to disk, in any of the formats that carry captions.
//!
//! Every file is written beside its name, synced, and then renamed; the file that makes a folder a dataset comes last.
//! What a reader finds is therefore whole, at any moment.

mod rows;
mod sidecars;
mod shards;
mod table;

use std::collections::HashSet;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use image::ImageFormat;

use crate::disk::{Existing, WholeFile};
use crate::format::{Format, is_picture};
use crate::pair::{MAX_TEXT_BYTES, Pair};

/// Where a shard ends: the first pair that reaches it is its last, in bytes of pictures.
pub const DEFAULT_SHARD_BYTES: u64 = 256 << 20;

/// How a dataset is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WriteOptions {
    /// Begins the names of shards, so that several ranks can write into one folder.
    pub prefix: String,
    /// Bytes of pictures after which a tar or a Parquet file ends.
    pub shard_bytes: u64,
}

impl Default for WriteOptions {
    fn default() -> Self {
        Self { prefix: "shard".to_owned(), shard_bytes: DEFAULT_SHARD_BYTES }
    }
}

/// Why a dataset cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The disk does not take it: it is full, or may not be written.
    #[error("{}: cannot be written ({source}); see that there is room, or choose another place: what was whole before still is", file.display())]
    Write {
        /// The file.
        file: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A dataset is there.
    #[error("{}: is there already; name another folder, or remove it", file.display())]
    AlreadyThere {
        /// The file that would be replaced.
        file: PathBuf,
    },
    /// A format that has no place for captions.
    #[error("a VQA json has questions and no captions: write one of the other formats")]
    Questions,
    /// Two pairs of one name, or names that differ only in characters that a file name cannot have.
    #[error("{key}: a picture of this name, {name}, is in the dataset already")]
    Duplicate {
        /// The pair's key.
        key: String,
        /// The name on disk.
        name: String,
    },
    /// Bytes that no reader would take for a picture.
    #[error("{key}: is not a picture that can be read")]
    NotAPicture {
        /// The pair's key.
        key: String,
    },
    /// A text that no reader would take.
    #[error("{key}: a text of more than {MAX_TEXT_BYTES} bytes")]
    LongText {
        /// The pair's key.
        key: String,
    },
}

/// Writes a dataset, pair by pair. Without [`DatasetWriter::finish`] there is no dataset, or, in tars and Parquet,
/// only whole shards of one.
pub struct DatasetWriter {
    folder: PathBuf,
    names: HashSet<String>,
    sink: Sink,
}

enum Sink {
    Rows(rows::Rows),
    Sidecars,
    Shards(shards::Shards),
    Table(Box<table::Tables>),
}

/// A pair whose key has become a name.
struct Named<'p> {
    pair: &'p Pair,
    /// Letters, digits, `_`, `-` and `/`; no dot.
    name: String,
    ending: &'static str,
}

impl DatasetWriter {
    /// Begins a dataset in a folder, which is made if it is not there.
    ///
    /// # Errors
    /// A dataset that is there already, a folder that cannot be written, and [`Format::VqaJson`].
    pub fn create(folder: &Path, format: Format, options: &WriteOptions) -> Result<DatasetWriter, WriteError> {
        let fault = |source| WriteError::Write { file: folder.to_owned(), source };
        std::fs::create_dir_all(folder).map_err(fault)?;
        let sink = match format {
            Format::ImageFolder | Format::BlipJson | Format::CocoJson => {
                Sink::Rows(rows::Rows::create(folder, format)?)
            }
            Format::Sidecars => Sink::Sidecars,
            Format::WebDataset => Sink::Shards(shards::Shards::create(folder, options)?),
            Format::Parquet => Sink::Table(Box::new(table::Tables::create(folder, options)?)),
            Format::VqaJson => return Err(WriteError::Questions),
        };
        Ok(DatasetWriter { folder: folder.to_owned(), names: HashSet::new(), sink })
    }

    /// Adds a picture and its texts.
    ///
    /// # Errors
    /// A full disk, a name that is taken, a picture or a text that no reader would take. The dataset stays usable.
    pub fn add(&mut self, pair: &Pair) -> Result<(), WriteError> {
        let key = || pair.key.clone();
        let ending = ending(&pair.picture).ok_or_else(|| WriteError::NotAPicture { key: key() })?;
        if pair.texts.iter().any(|text| text.text.len() > MAX_TEXT_BYTES) {
            return Err(WriteError::LongText { key: key() });
        }
        let name = file_name(&pair.key);
        if !self.names.insert(name.clone()) {
            return Err(WriteError::Duplicate { key: key(), name });
        }
        let named = Named { pair, name, ending };
        match &mut self.sink {
            Sink::Rows(rows) => rows.add(&self.folder, &named),
            Sink::Sidecars => sidecars::add(&self.folder, &named),
            Sink::Shards(shards) => shards.add(&named),
            Sink::Table(tables) => tables.add(&named),
        }
    }

    /// Makes the dataset whole.
    ///
    /// # Errors
    /// A full disk.
    pub fn finish(self) -> Result<(), WriteError> {
        match self.sink {
            Sink::Rows(rows) => rows.finish(),
            // A folder of pictures is one at any moment.
            Sink::Sidecars => Ok(()),
            Sink::Shards(shards) => shards.finish(),
            Sink::Table(tables) => tables.finish(),
        }
    }
}

/// A file that becomes part of the dataset when it is whole.
struct Pending {
    target: PathBuf,
    file: WholeFile,
}

impl Pending {
    fn create(target: PathBuf) -> Result<Pending, WriteError> {
        if target.exists() {
            return Err(WriteError::AlreadyThere { file: target });
        }
        let file = WholeFile::beside(&target).map_err(|source| WriteError::Write { file: target.clone(), source })?;
        Ok(Pending { target, file })
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), WriteError> {
        self.file.write_all(bytes).map_err(|source| WriteError::Write { file: self.target.clone(), source })
    }

    fn keep(self) -> Result<(), WriteError> {
        self.file.keep(Existing::Refuse).map_err(|source| WriteError::Write { file: self.target, source })
    }
}

impl Write for Pending {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Writes a file that is part of the dataset by its name.
fn write_file(target: PathBuf, bytes: &[u8]) -> Result<(), WriteError> {
    if let Some(folder) = target.parent() {
        std::fs::create_dir_all(folder).map_err(|source| WriteError::Write { file: folder.to_owned(), source })?;
    }
    let mut file = Pending::create(target)?;
    file.put(bytes)?;
    file.keep()
}

fn ending(picture: &[u8]) -> Option<&'static str> {
    Some(match image::guess_format(picture).ok()? {
        ImageFormat::Jpeg => "jpg",
        ImageFormat::Png => "png",
        ImageFormat::WebP => "webp",
        ImageFormat::Gif => "gif",
        ImageFormat::Bmp => "bmp",
        ImageFormat::Tiff => "tiff",
        ImageFormat::Pnm => "ppm",
        _ => return None,
    })
}

/// Longest name on disk, in characters: an ending and a temporary name still fit in a file name.
const MAX_NAME: usize = 200;

/// A key without its picture ending, and without what a file name or a tar's key cannot have.
fn file_name(key: &str) -> String {
    let stem = if is_picture(key) { key.rsplit_once('.').map_or(key, |(stem, _)| stem) } else { key };
    let plain = |c: char| if c.is_ascii_alphanumeric() || "-_/".contains(c) { c } else { '_' };
    let name: String = stem.chars().map(plain).take(MAX_NAME).collect();
    let parts: Vec<&str> = name.split('/').filter(|part| !part.is_empty()).collect();
    if parts.is_empty() { "_".to_owned() } else { parts.join("/") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_on_disk_stay_in_their_folder() {
        assert_eq!(file_name("train/000.jpg"), "train/000");
        assert_eq!(file_name("../../etc/passwd"), "__/__/etc/passwd");
        assert_eq!(file_name("/a b.c/é.png"), "a_b_c/_");
        assert_eq!(file_name(""), "_");
    }
}
