//! Objects as files: each there wholly, or not at all.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use exchange::{DeviceName, Digest};
use rustix::fs::{CWD, Mode, OFlags, openat};
use sha2::{Digest as _, Sha256};
use tempfile::NamedTempFile;

use crate::key::Key;

/// The host's place on its own disk.
#[derive(Clone, Debug)]
pub struct Folder {
    objects: PathBuf,
    /// Beside it, on the same file system, where no list looks.
    arriving: PathBuf,
}

/// What is there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Facts {
    pub(crate) bytes: u64,
    pub(crate) changed: SystemTime,
}

/// An object that is on its way.
pub(crate) struct Arriving {
    file: NamedTempFile,
    hash: Sha256,
    bytes: u64,
}

/// How an arrival ended.
#[derive(Debug)]
pub(crate) enum Arrived {
    /// It is there.
    There(Digest),
    /// Its bytes are not those of its name, and nothing is there.
    OtherBytes,
}

impl Folder {
    /// The place in a host's folder. What a host that was stopped left half written is removed.
    ///
    /// # Errors
    /// A folder that cannot be made or emptied.
    pub fn open(host: &Path) -> io::Result<Folder> {
        let folder = Folder { objects: host.join("objects"), arriving: host.join("arriving") };
        fs::create_dir_all(&folder.objects)?;
        match fs::remove_dir_all(&folder.arriving) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => fs::create_dir_all(&folder.arriving)?,
        }
        Ok(folder)
    }

    /// Bytes that are free on the disk.
    pub fn free_bytes(&self) -> io::Result<u64> {
        let disk = rustix::fs::statvfs(&self.objects)?;
        Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
    }

    /// Bytes of a board's shards that nobody has taken in yet.
    pub(crate) fn waiting(&self, device: &DeviceName) -> io::Result<u64> {
        let listed = match fs::read_dir(self.objects.join(device.shards())) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
            listed => listed?,
        };
        let mut bytes = 0;
        for entry in listed {
            // The inbox takes them away meanwhile.
            bytes += entry?.metadata().map_or(0, |facts| facts.len());
        }
        Ok(bytes)
    }

    /// The facts of an object; nothing if it is not there.
    pub(crate) fn facts(&self, key: &Key) -> io::Result<Option<Facts>> {
        Ok(self.find(key)?.map(|(_, facts)| facts))
    }

    /// A part of an object, from its beginning.
    pub(crate) fn part(&self, key: &Key, from: u64) -> io::Result<Option<File>> {
        let Some((mut file, _)) = self.find(key)? else { return Ok(None) };
        file.seek(SeekFrom::Start(from))?;
        Ok(Some(file))
    }

    /// An ordinary file, that no link stands for.
    fn find(&self, key: &Key) -> io::Result<Option<(File, Facts)>> {
        let path = self.objects.join(key.text());
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let file = match openat(CWD, &path, flags, Mode::empty()) {
            Ok(file) => File::from(file),
            Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR | rustix::io::Errno::LOOP) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let facts = file.metadata()?;
        if !facts.is_file() {
            return Ok(None);
        }
        let facts = Facts { bytes: facts.len(), changed: facts.modified()? };
        Ok(Some((file, facts)))
    }

    /// Begins to write an object.
    pub(crate) fn begin(&self) -> io::Result<Arriving> {
        let file = NamedTempFile::new_in(&self.arriving)?;
        file.as_file().set_permissions(fs::Permissions::from_mode(0o644))?;
        Ok(Arriving { file, hash: Sha256::new(), bytes: 0 })
    }

    /// Gives an object its name, when all of it is on the disk.
    pub(crate) fn keep(&self, key: &Key, arriving: Arriving) -> io::Result<Arrived> {
        let found: [u8; 32] = arriving.hash.finalize().into();
        let found = Digest::from(found);
        if key.content().is_some_and(|named| named != found) {
            return Ok(Arrived::OtherBytes);
        }
        arriving.file.as_file().sync_all()?;
        let path = self.objects.join(key.text());
        let parent = path.parent().unwrap_or(&self.objects);
        self.make(parent)?;
        arriving.file.persist(&path).map_err(|error| error.error)?;
        File::open(parent)?.sync_all()?;
        Ok(Arrived::There(found))
    }

    /// Removes an object; one that is not there is none.
    pub(crate) fn remove(&self, key: &Key) -> io::Result<()> {
        let path = self.objects.join(key.text());
        match fs::remove_file(&path) {
            Err(error) if !matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Err(error),
            Err(_) => Ok(()),
            Ok(()) => File::open(path.parent().unwrap_or(&self.objects))?.sync_all(),
        }
    }

    /// Objects whose names begin so, in order, from one name on.
    pub(crate) fn list(&self, prefix: &str, after: &str, most: usize) -> io::Result<Vec<(String, Facts)>> {
        // A folder is looked into only if a name in it can be wanted.
        let begin = prefix.rsplit_once('/').map_or("", |(folder, _)| folder);
        if !begin.is_empty() && Key::new(begin).is_none() {
            return Ok(Vec::new());
        }
        let mut found = BTreeSet::new();
        self.walk(begin, &mut |name| {
            if name.starts_with(prefix) && name.as_str() > after {
                found.insert(name);
            }
            // Only the first ones are wanted, and few are held.
            if found.len() > most {
                found.pop_last();
            }
        })?;
        let facts = |name: String| {
            let key = Key::new(&name)?;
            self.facts(&key).transpose().map(|facts| facts.map(|facts| (name, facts)))
        };
        found.into_iter().filter_map(facts).collect()
    }

    fn walk(&self, folder: &str, tell: &mut dyn FnMut(String)) -> io::Result<()> {
        let listed = match fs::read_dir(self.objects.join(folder)) {
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Ok(());
            }
            listed => listed?,
        };
        for entry in listed {
            let entry = entry?;
            let Some(name) = entry.file_name().to_str().map(str::to_owned) else { continue };
            let name = if folder.is_empty() { name } else { format!("{folder}/{name}") };
            let kind = entry.file_type()?;
            if kind.is_dir() && Key::new(&name).is_some() {
                self.walk(&name, tell)?;
            } else if kind.is_file() && Key::new(&name).is_some() {
                tell(name);
            }
        }
        Ok(())
    }

    /// Makes a folder and those above it, each of which is on the disk before what lies in it.
    fn make(&self, folder: &Path) -> io::Result<()> {
        if folder.is_dir() {
            return Ok(());
        }
        let above = folder.parent().filter(|above| above.starts_with(&self.objects)).unwrap_or(&self.objects);
        self.make(above)?;
        match fs::create_dir(folder) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        File::open(above)?.sync_all()
    }
}

impl Arriving {
    /// Bytes so far.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Takes a piece.
    pub(crate) fn write(&mut self, piece: &[u8]) -> io::Result<()> {
        self.file.write_all(piece)?;
        self.hash.update(piece);
        self.bytes += piece.len() as u64;
        Ok(())
    }
}

/// Reads a piece of a file, at most so much.
pub(crate) fn read_piece(file: &mut File, most: usize) -> io::Result<Vec<u8>> {
    let mut piece = vec![0; most];
    let count = file.read(&mut piece)?;
    piece.truncate(count);
    Ok(piece)
}
