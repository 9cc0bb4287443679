//! Objects as files: each there wholly, or not at all. No link is followed in the folder, whoever put it there.

use std::collections::BTreeSet;
use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, SystemTime};

use exchange::{DeviceName, Digest};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, fsync, mkdirat, openat, renameat, unlinkat};
use rustix::io::Errno;
use sha2::{Digest as _, Sha256};
use tempfile::NamedTempFile;

use crate::key::Key;

/// Held by the host that serves a folder.
const LOCK: &str = "place.lock";
/// Tries to hold it: a host that was killed may let go of it a moment later.
const TRIES: u32 = 20;
const BETWEEN_TRIES: Duration = Duration::from_millis(50);
/// A folder that changed so lately may change again without showing it: clocks of file systems tick slowly.
const SETTLED: Duration = Duration::from_secs(2);

/// The host's place on its own disk. Copies are the same place.
#[derive(Clone, Debug)]
pub struct Folder {
    objects: PathBuf,
    /// Beside it, on the same file system, where no list looks.
    arriving: PathBuf,
    _lock: Arc<File>,
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
    There(Facts),
    /// Its bytes are not those of its name, and nothing is there.
    OtherBytes,
    /// Its name is a folder's, or leads through a file or a link.
    InTheWay,
}

/// What of a board's nobody has taken in yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Waiting {
    pub(crate) bytes: u64,
    /// When its folders changed last; nothing if that was just now, or is not known.
    pub(crate) since: Option<[SystemTime; 2]>,
}

impl Folder {
    /// The place in a host's folder. What a host that was stopped left half written is removed.
    ///
    /// # Errors
    /// A folder that cannot be made or emptied, or that another program serves.
    pub fn open(host: &Path) -> io::Result<Folder> {
        fs::create_dir_all(host)?;
        let lock = Arc::new(locked(&host.join(LOCK))?);
        let folder = Folder { objects: host.join("objects"), arriving: host.join("arriving"), _lock: lock };
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

    /// Counts a board's shards and reports that lie here.
    pub(crate) fn count_waiting(&self, device: &DeviceName) -> io::Result<Waiting> {
        let since = self.waiting_since(device)?;
        let mut bytes = 0;
        for folder in waiting_folders(device) {
            let listed = match fs::read_dir(self.objects.join(folder)) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                listed => listed?,
            };
            for entry in listed {
                // The inbox takes them away meanwhile.
                bytes += entry?.metadata().map_or(0, |facts| facts.len());
            }
        }
        Ok(Waiting { bytes, since })
    }

    /// When the folders of what waits changed last, without looking into them.
    pub(crate) fn waiting_since(&self, device: &DeviceName) -> io::Result<Option<[SystemTime; 2]>> {
        let now = SystemTime::now();
        let mut since = [SystemTime::UNIX_EPOCH; 2];
        for (at, folder) in since.iter_mut().zip(waiting_folders(device)) {
            match fs::metadata(self.objects.join(folder)) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                facts => *at = facts?.modified()?,
            }
        }
        let is_settled = |at: &SystemTime| now.duration_since(*at).is_ok_and(|age| age > SETTLED);
        Ok(Some(since).filter(|since| since.iter().all(is_settled)))
    }

    /// The facts of an object; nothing if it is not there.
    pub(crate) fn facts(&self, key: &Key) -> io::Result<Option<Facts>> {
        Ok(self.find(key)?.map(|(_, facts)| facts))
    }

    /// An object and its facts, which belong together whatever happens to its name; nothing if it is not there.
    pub(crate) fn find(&self, key: &Key) -> io::Result<Option<(File, Facts)>> {
        let Some(parent) = self.parent(key)? else { return Ok(None) };
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let file = match openat(&parent, key.file(), flags, Mode::empty()) {
            Ok(file) => File::from(file),
            Err(error) if is_nothing(error) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        Ok(facts_of(&file)?.map(|facts| (file, facts)))
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
        if key.content().is_some_and(|named| named != Digest::from(found)) {
            return Ok(Arrived::OtherBytes);
        }
        let (file, path) = arriving.file.into_parts();
        file.sync_all()?;
        let parent = match self.made_parent(key) {
            Err(error) if is_in_the_way(&error) => return Ok(Arrived::InTheWay),
            parent => parent?,
        };
        match renameat(CWD, &*path, &parent, key.file()).map_err(io::Error::from) {
            Err(error) if is_in_the_way(&error) => return Ok(Arrived::InTheWay),
            renamed => renamed?,
        }
        // It has its name, and no other to be removed by.
        path.keep().map_err(|error| error.error)?;
        fsync(&parent)?;
        let facts = facts_of(&file)?.ok_or(io::ErrorKind::InvalidData)?;
        Ok(Arrived::There(facts))
    }

    /// Removes an object; one that is not there is none.
    pub(crate) fn remove(&self, key: &Key) -> io::Result<()> {
        let Some(parent) = self.parent(key)? else { return Ok(()) };
        match unlinkat(&parent, key.file(), AtFlags::empty()) {
            Err(error) if is_nothing(error) || error == Errno::ISDIR => Ok(()),
            Err(error) => Err(error.into()),
            Ok(()) => Ok(fsync(&parent)?),
        }
    }

    /// Objects whose names begin so, in order, from one name on.
    pub(crate) fn list(&self, prefix: &str, after: &str, most: usize) -> io::Result<Vec<(String, Facts)>> {
        let mut found = Found { prefix, after, most, names: BTreeSet::new() };
        self.walk("", &mut found)?;
        let facts = |name: String| {
            let key = Key::new(&name)?;
            self.facts(&key).transpose().map(|facts| facts.map(|facts| (name, facts)))
        };
        found.names.into_iter().filter_map(facts).collect()
    }

    fn walk(&self, folder: &str, found: &mut Found<'_>) -> io::Result<()> {
        let listed = match fs::read_dir(self.objects.join(folder)) {
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Ok(());
            }
            listed => listed?,
        };
        let mut folders = BTreeSet::new();
        for entry in listed {
            let entry = entry?;
            let Some(name) = entry.file_name().to_str().map(str::to_owned) else { continue };
            let name = if folder.is_empty() { name } else { format!("{folder}/{name}") };
            let kind = entry.file_type()?;
            if Key::new(&name).is_none() {
                continue;
            }
            if kind.is_dir() {
                folders.insert(format!("{name}/"));
            } else if kind.is_file() {
                found.take(name);
            }
        }
        // In order, so that those behind the last wanted name are not looked into.
        for name in folders.iter().map(|name| name.trim_end_matches('/')) {
            if found.wants(name) {
                self.walk(name, found)?;
            }
        }
        Ok(())
    }

    /// The folder of an object; nothing where there is none, or a link stands for one.
    fn parent(&self, key: &Key) -> io::Result<Option<OwnedFd>> {
        let mut folder = self.root()?;
        for name in key.folders() {
            folder = match openat(&folder, name, FOLDER, Mode::empty()) {
                Ok(inner) => inner,
                Err(error) if is_nothing(error) => return Ok(None),
                Err(error) => return Err(error.into()),
            };
        }
        Ok(Some(folder))
    }

    /// The folder of an object, which is made, and is on the disk before what lies in it.
    fn made_parent(&self, key: &Key) -> io::Result<OwnedFd> {
        let mut folder = self.root()?;
        for name in key.folders() {
            folder = match openat(&folder, name, FOLDER, Mode::empty()) {
                Err(Errno::NOENT) => {
                    match mkdirat(&folder, name, Mode::from_raw_mode(0o755)) {
                        Ok(()) | Err(Errno::EXIST) => fsync(&folder)?,
                        Err(error) => return Err(error.into()),
                    }
                    openat(&folder, name, FOLDER, Mode::empty())?
                }
                opened => opened?,
            };
        }
        Ok(folder)
    }

    fn root(&self) -> io::Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(openat(CWD, &self.objects, flags, Mode::empty())?)
    }
}

/// How a folder inside is opened.
const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// The first names that are wanted.
struct Found<'f> {
    prefix: &'f str,
    after: &'f str,
    most: usize,
    names: BTreeSet<String>,
}

impl Found<'_> {
    fn take(&mut self, name: String) {
        if name.starts_with(self.prefix) && name.as_str() > self.after {
            self.names.insert(name);
        }
        // Few are held.
        if self.names.len() > self.most {
            self.names.pop_last();
        }
    }

    /// Whether a folder can hold a name that is wanted.
    fn wants(&self, folder: &str) -> bool {
        let within = format!("{folder}/");
        let is_of_prefix = within.starts_with(self.prefix) || self.prefix.starts_with(&within);
        let is_after = within.as_str() > self.after || self.after.starts_with(&within);
        let is_early = self.names.len() < self.most || self.names.last().is_some_and(|last| within < *last);
        is_of_prefix && is_after && is_early
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
pub(crate) fn read_piece(file: &File, from: u64, most: usize) -> io::Result<Vec<u8>> {
    let mut piece = vec![0; most];
    let count = file.read_at(&mut piece, from)?;
    piece.truncate(count);
    Ok(piece)
}

fn facts_of(file: &File) -> io::Result<Option<Facts>> {
    let facts = file.metadata()?;
    if !facts.is_file() {
        return Ok(None);
    }
    Ok(Some(Facts { bytes: facts.len(), changed: facts.modified()? }))
}

/// Where boards put what waits.
fn waiting_folders(device: &DeviceName) -> [String; 2] {
    [device.shards(), format!("{}/health", device.place())]
}

fn locked(path: &Path) -> io::Result<File> {
    let file = File::options().create(true).truncate(false).write(true).open(path)?;
    for _ in 0..TRIES {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) => sleep(BETWEEN_TRIES),
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
    Err(io::Error::new(io::ErrorKind::ResourceBusy, "another program serves this folder: stop it first"))
}

/// Whether the system says that there is no such file, or that a link stands there.
fn is_nothing(error: Errno) -> bool {
    matches!(error, Errno::NOENT | Errno::NOTDIR | Errno::LOOP)
}

fn is_in_the_way(error: &io::Error) -> bool {
    let in_the_way = [Errno::NOTDIR, Errno::LOOP, Errno::ISDIR, Errno::EXIST, Errno::NOTEMPTY];
    in_the_way.into_iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}
