//! Reading of files whose length is known and limited.

use crate::error::CheckpointError;
use serde::de::DeserializeOwned;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// Longest of the small JSON files: configurations and settings.
pub const MAX_CONFIG_BYTES: u64 = 1 << 20;

/// An open file and its length.
pub(crate) struct SourceFile {
    pub path: PathBuf,
    pub length: u64,
    pub file: File,
}

impl SourceFile {
    pub fn open(path: &Path) -> Result<SourceFile, CheckpointError> {
        let io = |source| CheckpointError::Io { file: path.to_owned(), source };
        let metadata = std::fs::metadata(path).map_err(io)?;
        if !metadata.is_file() {
            let reason = "is not a regular file".to_owned();
            return Err(CheckpointError::Unsupported { file: path.to_owned(), reason });
        }
        let file = File::open(path).map_err(io)?;
        Ok(SourceFile { path: path.to_owned(), length: metadata.len(), file })
    }

    /// The `length` bytes from `start`, which the caller has found to lie inside the file.
    pub fn read(&mut self, start: u64, length: usize) -> Result<Vec<u8>, CheckpointError> {
        let mut bytes = vec![0; length];
        let read = self.file.seek(SeekFrom::Start(start)).and_then(|_| self.file.read_exact(&mut bytes));
        read.map_err(|source| CheckpointError::Io { file: self.path.clone(), source })?;
        Ok(bytes)
    }

    /// The first bytes, at most `most`.
    pub fn read_first(&mut self, most: u64) -> Result<Vec<u8>, CheckpointError> {
        self.read(0, self.length.min(most) as usize)
    }
}

/// The whole of a file of at most `most` bytes.
pub(crate) fn read_small(path: &Path, most: u64) -> Result<Vec<u8>, CheckpointError> {
    let mut file = SourceFile::open(path)?;
    if file.length > most {
        return Err(CheckpointError::TooLarge { file: path.to_owned(), bytes: file.length, most });
    }
    file.read_first(most)
}

/// A JSON file of at most `most` bytes.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path, most: u64) -> Result<T, CheckpointError> {
    let bytes = read_small(path, most)?;
    serde_json::from_slice(&bytes).map_err(|source| CheckpointError::Json { file: path.to_owned(), source })
}

/// The same, or the default where there is no such file.
pub(crate) fn read_json_if_there<T: DeserializeOwned + Default>(path: &Path) -> Result<T, CheckpointError> {
    match path.exists() {
        true => read_json(path, MAX_CONFIG_BYTES),
        false => Ok(T::default()),
    }
}
