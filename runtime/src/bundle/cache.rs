//! What a first start finds out about a bundle and the next need not: that its weights are whole, and how they are packed.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

/// The file that lists the others.
const STAMPS: &str = "files.json";
/// The longest such list that is read, in bytes.
const MAX_STAMPS_BYTES: u64 = 1 << 20;
/// Bundles that a cache keeps: what runs, what ran before, and one to try.
const KEPT_BUNDLES: usize = 3;
/// Age from which a file that nobody finished is taken for one that nobody will.
const UNFINISHED_AGE: Duration = Duration::from_secs(600);

/// Something that could not be kept for the next start, which then takes as long as this one.
#[derive(Debug, thiserror::Error)]
#[error("{}: {source}: the next start takes as long as this one; {}", path.display(), advice(source))]
pub struct CacheError {
    /// What could not be kept.
    pub path: PathBuf,
    /// The reason.
    pub source: io::Error,
}

fn advice(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "make room there, or name another folder",
        _ => "name another folder, in which this user alone may write",
    }
}

/// A folder for what can be made again, `~/.cache/edgeblip` for instance.
///
/// A bundle's part of it must be this user's, and nobody else's to write in: what is found there is computed with.
#[derive(Clone, Debug)]
pub struct Cache(PathBuf);

impl Cache {
    /// A cache in `folder`, which is made when something is kept.
    pub fn at(folder: PathBuf) -> Cache {
        Cache(folder)
    }

    /// What it has for the bundle named `id`.
    pub(super) fn entry(&self, id: &str) -> CacheEntry {
        CacheEntry { folder: self.0.join(id) }
    }
}

/// A cache's files for one bundle.
#[derive(Debug)]
pub struct CacheEntry {
    folder: PathBuf,
}

/// What tells an unchanged file from another without reading it.
///
/// A change of a file's bytes changes its size or its times, and a file that takes its place has another inode.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    device: u64,
    inode: u64,
    bytes: u64,
    /// Seconds and nanoseconds of the last change of the contents, and of anything.
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    /// The stamp of an open file.
    ///
    /// # Errors
    /// The system's.
    #[cfg(unix)]
    pub fn of(file: &File) -> io::Result<Stamp> {
        use std::os::unix::fs::MetadataExt;
        let facts = file.metadata()?;
        Ok(Stamp {
            device: facts.dev(),
            inode: facts.ino(),
            bytes: facts.size(),
            modified: (facts.mtime(), facts.mtime_nsec()),
            changed: (facts.ctime(), facts.ctime_nsec()),
        })
    }

    /// There are none on this system.
    ///
    /// # Errors
    /// Always.
    #[cfg(not(unix))]
    pub fn of(_: &File) -> io::Result<Stamp> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

impl CacheEntry {
    /// Opens the file that was kept as `name`, if it is the one that was kept.
    pub fn open(&self, name: &str) -> Option<File> {
        let file = self.open_plain(name)?;
        self.is_remembered(name, &file).then_some(file)
    }

    /// Says whether `file` is the one that was last remembered as `name`.
    pub fn is_remembered(&self, name: &str, file: &File) -> bool {
        let stamp = Stamp::of(file).ok();
        stamp.is_some() && self.stamps().remove(name) == stamp
    }

    /// Remembers the file with this stamp, which was found to be what it should be.
    ///
    /// # Errors
    /// What the system refuses.
    pub fn remember(&self, name: &str, stamp: Stamp) -> Result<(), CacheError> {
        let mut stamps = self.stamps();
        stamps.insert(name.to_owned(), stamp);
        let json = serde_json::to_vec(&stamps).expect("stamps hold nothing that JSON cannot");
        self.write(STAMPS, |file| file.write_all(&json)).map(|_| ())
    }

    /// Writes the file `name`, whole or not at all, remembers it, and opens it for reading.
    ///
    /// # Errors
    /// What the system refuses; nothing is left behind.
    pub fn keep(&self, name: &str, content: impl FnOnce(&mut File) -> io::Result<()>) -> Result<File, CacheError> {
        let file = self.write(name, content)?;
        self.remember(name, Stamp::of(&file).map_err(|source| self.error(name, source))?)?;
        self.forget_others();
        Ok(file)
    }

    /// Why `name` is not kept.
    pub fn error(&self, name: &str, source: io::Error) -> CacheError {
        CacheError { path: self.folder.join(name), source }
    }

    fn write(&self, name: &str, content: impl FnOnce(&mut File) -> io::Result<()>) -> Result<File, CacheError> {
        let write = || -> io::Result<File> {
            make_private(&self.folder)?;
            check_private(&self.folder)?;
            let prefix = format!(".{name}-");
            self.forget_unfinished(&prefix);
            // Nobody else writes into a temporary file, and none is written through a link.
            let temporary = tempfile::Builder::new().prefix(&prefix).rand_bytes(12).tempfile_in(&self.folder)?;
            let (mut file, temporary) = temporary.into_parts();
            content(&mut file)?;
            file.sync_all()?;
            temporary.persist(self.folder.join(name))?;
            Ok(file)
        };
        write().map_err(|source| self.error(name, source))
    }

    fn open_plain(&self, name: &str) -> Option<File> {
        check_private(&self.folder).ok()?;
        let path = self.folder.join(name);
        // Opening a pipe would wait for its other end.
        fs::symlink_metadata(&path).ok().filter(fs::Metadata::is_file)?;
        File::open(path).ok()
    }

    fn stamps(&self) -> BTreeMap<String, Stamp> {
        let mut json = Vec::new();
        let read = self.open_plain(STAMPS).and_then(|file| file.take(MAX_STAMPS_BYTES).read_to_end(&mut json).ok());
        read.and_then(|_| serde_json::from_slice(&json).ok()).unwrap_or_default()
    }

    /// Removes what starts left that were killed while they wrote. One that still writes goes on without its name, and
    /// then says that it could not keep the file.
    fn forget_unfinished(&self, prefix: &str) {
        let entries = fs::read_dir(&self.folder).into_iter().flatten().filter_map(Result::ok);
        for entry in entries.filter(|entry| entry.file_name().to_str().is_some_and(|name| name.starts_with(prefix))) {
            let age = entry.metadata().and_then(|facts| facts.modified()).map(|written| written.elapsed());
            if age.is_ok_and(|age| age.is_ok_and(|age| age > UNFINISHED_AGE)) {
                let _ = fs::remove_file(entry.path());
            }
        }
    }

    /// Removes what was kept for the bundles that were first started longest ago, beyond [`KEPT_BUNDLES`].
    fn forget_others(&self) {
        let Some(entries) = self.folder.parent().and_then(|cache| fs::read_dir(cache).ok()) else { return };
        let of_bundle = |path: &Path| {
            let name = path.file_name()?.to_str()?;
            let is_id = name.len() == 64 && name.bytes().all(|digit| digit.is_ascii_hexdigit());
            (is_id && path != self.folder).then_some(())
        };
        let mut others: Vec<(SystemTime, PathBuf)> = entries
            .filter_map(|entry| {
                let path = entry.ok()?.path();
                of_bundle(&path)?;
                Some((fs::metadata(path.join(STAMPS)).ok()?.modified().ok()?, path))
            })
            .collect();
        others.sort_by_key(|(written, _)| std::cmp::Reverse(*written));
        for (_, path) in others.into_iter().skip(KEPT_BUNDLES - 1) {
            // It stays if it cannot be removed: nothing depends on it.
            let _ = fs::remove_dir_all(path);
        }
    }
}

fn make_private(folder: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}

/// Refuses a folder that somebody else could have filled.
#[cfg(unix)]
fn check_private(folder: &Path) -> io::Result<()> {
    use std::os::unix::fs::MetadataExt;
    let facts = fs::symlink_metadata(folder)?;
    let is_ours = facts.is_dir() && facts.uid() == rustix::process::geteuid().as_raw() && facts.mode() & 0o022 == 0;
    is_ours.then_some(()).ok_or_else(|| io::Error::other("others may write there"))
}

#[cfg(not(unix))]
fn check_private(_: &Path) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(folder: &Path, digit: char) -> CacheEntry {
        Cache::at(folder.join("cache")).entry(&digit.to_string().repeat(64))
    }

    fn remember(entry: &CacheEntry, file: &File) {
        entry.remember("weights.bin", Stamp::of(file).unwrap()).unwrap();
    }

    #[test]
    fn a_file_is_remembered_until_anything_about_it_changes() {
        let folder = tempfile::tempdir().unwrap();
        let entry = entry(folder.path(), 'a');
        let path = folder.path().join("weights.bin");
        fs::write(&path, [1, 2, 3]).unwrap();
        let file = File::open(&path).unwrap();
        assert!(!entry.is_remembered("weights.bin", &file));
        remember(&entry, &file);
        assert!(entry.is_remembered("weights.bin", &File::open(&path).unwrap()));
        assert!(!entry.is_remembered("packed", &file), "under another name it is another file");

        let times = fs::metadata(&path).unwrap().modified().unwrap();
        let written = File::options().write(true).open(&path).unwrap();
        (&written).write_all(&[4]).unwrap();
        written.set_modified(times).unwrap();
        assert!(!entry.is_remembered("weights.bin", &file), "the time of its last change cannot be set back");

        remember(&entry, &file);
        fs::write(folder.path().join("new"), [4, 2, 3]).unwrap();
        fs::rename(folder.path().join("new"), &path).unwrap();
        assert!(!entry.is_remembered("weights.bin", &File::open(&path).unwrap()), "another file took its place");
        for stamps in ["{", &format!("{{\"weights.bin\": {}}}", "[".repeat(100_000))] {
            fs::write(entry.folder.join(STAMPS), stamps).unwrap();
            assert!(!entry.is_remembered("weights.bin", &file), "stamps that cannot be read are none");
        }
    }

    #[test]
    fn what_fails_half_way_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let entry = entry(folder.path(), 'a');
        let full = |file: &mut File| {
            file.write_all(&[1; 100])?;
            Err(io::ErrorKind::StorageFull.into())
        };
        let error = entry.keep("packed", full).unwrap_err().to_string();
        assert!(error.contains("packed: ") && error.contains("make room there"), "{error}");
        assert_eq!(fs::read_dir(&entry.folder).unwrap().count(), 0);
    }

    #[test]
    fn what_a_killed_start_left_goes_and_what_another_writes_stays() {
        let folder = tempfile::tempdir().unwrap();
        let entry = entry(folder.path(), 'a');
        entry.keep("packed", |_| Ok(())).unwrap();
        let [left, written] = [".packed-left", ".packed-written"].map(|name| entry.folder.join(name));
        fs::write(&left, [0; 10]).unwrap();
        fs::write(&written, [0; 10]).unwrap();
        let long_ago = SystemTime::now() - 2 * UNFINISHED_AGE;
        File::options().write(true).open(&left).unwrap().set_modified(long_ago).unwrap();
        entry.keep("packed", |_| Ok(())).unwrap();
        assert!(!left.exists() && written.exists());
    }

    #[test]
    #[cfg(unix)]
    fn a_folder_that_others_may_write_in_is_no_cache() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let entry = entry(folder.path(), 'a');
        entry.keep("packed", |file| file.write_all(&[1])).unwrap();
        assert!(entry.open("packed").is_some());
        fs::set_permissions(&entry.folder, fs::Permissions::from_mode(0o777)).unwrap();
        assert!(entry.open("packed").is_none());
        let error = entry.keep("packed", |_| Ok(())).unwrap_err().to_string();
        assert!(error.contains("others may write there") && error.contains("this user alone"), "{error}");

        fs::set_permissions(&entry.folder, fs::Permissions::from_mode(0o700)).unwrap();
        let elsewhere = folder.path().join("elsewhere");
        fs::rename(&entry.folder, &elsewhere).unwrap();
        std::os::unix::fs::symlink(&elsewhere, &entry.folder).unwrap();
        assert!(entry.open("packed").is_none() && entry.keep("packed", |_| Ok(())).is_err(), "it is a link");
    }

    #[test]
    #[cfg(unix)]
    fn a_pipe_is_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let entry = entry(folder.path(), 'a');
        entry.keep("packed", |_| Ok(())).unwrap();
        for name in [STAMPS, "packed"] {
            fs::remove_file(entry.folder.join(name)).unwrap();
            let made = std::process::Command::new("mkfifo").arg(entry.folder.join(name)).status().unwrap();
            assert!(made.success() && entry.open("packed").is_none());
        }
    }

    #[test]
    fn the_bundles_that_were_first_started_longest_ago_are_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("cache/of somebody else")).unwrap();
        let now = SystemTime::now();
        for (age, digit) in ['a', 'b', 'c', 'd'].into_iter().enumerate().rev() {
            let entry = entry(folder.path(), digit);
            entry.write(STAMPS, |file| file.write_all(b"{}")).unwrap();
            let stamps = File::options().write(true).open(entry.folder.join(STAMPS)).unwrap();
            stamps.set_modified(now - Duration::from_secs(60 * age as u64)).unwrap();
        }
        entry(folder.path(), 'e').keep("packed", |_| Ok(())).unwrap();
        let entries = fs::read_dir(folder.path().join("cache")).unwrap();
        let mut left: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        left.sort();
        let kept = ["a", "b", "e"].map(|digit| digit.repeat(64)).into_iter();
        let expected: Vec<_> = kept.chain(["of somebody else".to_owned()]).collect();
        assert_eq!(left, expected);
    }
}
