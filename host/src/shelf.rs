//! Shards that have come home, each under the name by which it came: `shards/ab/abcd….tar`, readable by WebDataset's own readers.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use dataset::disk::{Existing, WholeFile};
use exchange::Digest;
use exchange::shard;

/// The folder of the shards.
#[derive(Clone, Debug)]
pub(crate) struct Shelf {
    folder: PathBuf,
}

impl Shelf {
    pub(crate) fn at(folder: &Path) -> Shelf {
        Shelf { folder: folder.to_owned() }
    }

    pub(crate) fn path(&self, shard: Digest) -> PathBuf {
        let name = shard.to_string();
        self.folder.join(name.get(..2).unwrap_or_default()).join(format!("{name}.tar"))
    }

    pub(crate) fn keep(&self, shard: Digest, bytes: &[u8]) -> io::Result<()> {
        let path = self.path(shard);
        if let Some(folder) = path.parent().filter(|folder| !folder.is_dir()) {
            fs::create_dir_all(folder)?;
            File::open(&self.folder)?.sync_all()?;
        }
        let mut file = WholeFile::beside(&path)?;
        file.write_all(bytes)?;
        file.keep(Existing::Replace)
    }

    /// Bytes of a shard.
    pub(crate) fn read(&self, shard: Digest, at: u64, length: u64) -> io::Result<Vec<u8>> {
        let length = usize::try_from(length).ok().filter(|length| *length <= shard::MAX_SHARD_BYTES);
        let mut bytes = vec![0; length.ok_or_else(|| io::Error::other("a picture is longer than any shard"))?];
        File::open(self.path(shard))?.read_exact_at(&mut bytes, at)?;
        Ok(bytes)
    }

    /// Writes zeros over everything of a pair, in its place: the tar stays one, and the other pairs stay where they are.
    pub(crate) fn erase(&self, shard: Digest, pair: Digest) -> io::Result<()> {
        self.erase_all(shard, &BTreeSet::from([pair]))
    }

    /// As [`Shelf::erase`], of several pairs.
    pub(crate) fn erase_all(&self, shard: Digest, pairs: &BTreeSet<Digest>) -> io::Result<()> {
        let path = self.path(shard);
        let bytes = match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            read => read?,
        };
        let file = File::options().write(true).open(&path)?;
        for pair in pairs {
            for place in shard::places_of(&bytes, *pair).map_err(io::Error::other)? {
                let zeros = vec![0; usize::try_from(place.end - place.start).unwrap_or_default()];
                file.write_all_at(&zeros, place.start)?;
            }
        }
        file.sync_all()
    }

    /// Removes a shard in which no pair is left.
    pub(crate) fn remove(&self, shard: Digest) -> io::Result<()> {
        let path = self.path(shard);
        match fs::remove_file(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed.and_then(|()| path.parent().map_or(Ok(()), dataset::disk::sync_folder)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_erased_leaves_no_bytes_and_the_rest_where_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let shelf = Shelf::at(folder.path());
        let (pair, other) = (Digest::of(b"one"), Digest::of(b"other"));
        let mut tar = tar::Builder::new(Vec::new());
        for (name, bytes) in [
            (format!("{pair}.jpg"), b"a picture".to_vec()),
            (format!("{pair}.json"), vec![b'j'; 700]),
            (format!("{other}.jpg"), b"another".to_vec()),
        ] {
            let mut header = tar::Header::new_ustar();
            header.set_size(bytes.len() as u64);
            tar.append_data(&mut header, name, bytes.as_slice()).unwrap();
        }
        let bytes = tar.into_inner().unwrap();
        let shard = Digest::of(&bytes);
        shelf.keep(shard, &bytes).unwrap();
        shelf.keep(shard, &bytes).unwrap();
        shelf.erase(shard, pair).unwrap();
        let left = fs::read(shelf.path(shard)).unwrap();
        assert_eq!(left.len(), bytes.len());
        assert!(!left.windows(9).any(|window| window == b"a picture"));
        assert_eq!(shard::places_of(&left, other).unwrap(), shard::places_of(&bytes, other).unwrap());
        let place = shard::places_of(&left, other).unwrap()[0].clone();
        assert_eq!(&left[place.start as usize..place.end as usize], b"another");
        let json = shard::places_of(&left, pair).unwrap()[1].clone();
        assert!(left[json.start as usize..json.end as usize].iter().all(|byte| *byte == 0));
        shelf.erase(Digest::of(b"not here"), pair).unwrap();
    }
}
