//! The one file that holds every large tensor, each once.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use blip::manifest::{ALIGNMENT, FileFacts};
use sha2::{Digest, Sha256};

/// A file that cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("{}: {source}: nothing was left behind; free space or choose another --out", path.display())]
pub struct WriteError {
    /// The file.
    pub path: PathBuf,
    /// The system's reason.
    pub source: std::io::Error,
}

/// Where a tensor's bytes lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Location {
    /// First byte; a multiple of [`ALIGNMENT`].
    pub offset: u64,
    /// Number of bytes.
    pub length: u64,
}

/// Writes tensors one after the other; equal bytes are written once.
pub struct WeightFile {
    path: PathBuf,
    file: BufWriter<File>,
    hash: Sha256,
    length: u64,
    known: HashMap<[u8; 32], Location>,
}

impl WeightFile {
    /// Starts an empty file.
    ///
    /// # Errors
    /// The system's refusal.
    pub fn create(path: &Path) -> Result<WeightFile, WriteError> {
        let file = File::create(path).map_err(|source| WriteError { path: path.to_path_buf(), source })?;
        Ok(WeightFile {
            path: path.to_path_buf(),
            file: BufWriter::with_capacity(1 << 20, file),
            hash: Sha256::new(),
            length: 0,
            known: HashMap::new(),
        })
    }

    /// Stores a tensor's bytes, or finds them if they are there already.
    ///
    /// # Errors
    /// The system's refusal, such as a full disk.
    pub fn store(&mut self, bytes: &[u8]) -> Result<Location, WriteError> {
        let digest = Sha256::digest(bytes).into();
        if let Some(&location) = self.known.get(&digest) {
            return Ok(location);
        }
        let gap = self.length.next_multiple_of(ALIGNMENT as u64) - self.length;
        self.append(&[0; ALIGNMENT][..gap as usize])?;
        let location = Location { offset: self.length, length: bytes.len() as u64 };
        self.append(bytes)?;
        self.known.insert(digest, location);
        Ok(location)
    }

    /// Makes sure that everything is on the disk.
    ///
    /// # Errors
    /// The system's refusal.
    pub fn finish(self) -> Result<FileFacts, WriteError> {
        let path = self.path;
        let synced =
            self.file.into_inner().map_err(std::io::IntoInnerError::into_error).and_then(|file| file.sync_all());
        synced.map_err(|source| WriteError { path, source })?;
        Ok(FileFacts { bytes: self.length, sha256: edgeblip::bundle::hex(&self.hash.finalize()) })
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), WriteError> {
        self.hash.update(bytes);
        self.length += bytes.len() as u64;
        self.file.write_all(bytes).map_err(|source| WriteError { path: self.path.clone(), source })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_tensors_are_stored_once_and_every_one_is_aligned() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weights.bin");
        let mut file = WeightFile::create(&path).unwrap();
        let first = file.store(&[1; 5]).unwrap();
        let second = file.store(&[2; 70]).unwrap();
        assert_eq!(file.store(&[1; 5]).unwrap(), first);
        assert_eq!((first.offset, second.offset), (0, 64));
        let facts = file.finish().unwrap();
        let bytes = std::fs::read(path).unwrap();
        assert_eq!(facts.bytes, 134);
        assert_eq!(facts.sha256, edgeblip::bundle::hex(&Sha256::digest(&bytes)));
        assert_eq!(bytes[64..], [2; 70]);
    }
}
