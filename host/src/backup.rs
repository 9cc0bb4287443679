//! A second copy of a host, in a folder that is one itself: to restore, copy it back, or use it as it is.
//!
//! Keys, the book as of one moment, the shards that hold its pairs, releases and versions. What is there already is not
//! copied again; what was deleted is deleted here too, by the next backup. The shards are copied and not linked: a link would
//! be damaged together with what it is a copy of. Not in it: shards that are on their way (boards keep those), `quarantine/`.

use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use dataset::disk::{DiskError, Existing, Staged, WRITING_MARKS, WholeFile, sync_folder};
use exchange::Digest;
use serde::Serialize;

use crate::book::{Book, BookError};
use crate::home::{BOOK, Home, HomeError, KEY};
use crate::shelf::Shelf;
use crate::versions::{self, Standing, Version};

/// Secrets of a host.
const SECRETS: [&str; 2] = [KEY, "release.key"];
const RELEASES: &str = "releases";
/// The book's copy in the making.
const BOOK_COPY: &str = ".writing-inbox.db";
/// How many times the book is copied while shards come and go.
const TRIES: usize = 8;
/// Pictures that are looked at where not all are.
const SAMPLE: usize = 256;
const READ_AT_ONCE: usize = 256;

/// Why there is no backup.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The host's folder.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// A database.
    #[error(transparent)]
    Book(#[from] BookError),
    /// The disk does not take it.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// A file.
    #[error("{}: {source}: see that there is room, and run it again: it goes on where it was", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A folder with something else in it.
    #[error("{}: it is no backup of this host: name an empty folder, or the one that was used before", path.display())]
    Strange {
        /// The folder.
        path: PathBuf,
    },
    /// A folder of the host's own.
    #[error("{}: it is in the host's own folder, or the other way round: name a folder on another disk", path.display())]
    Inside {
        /// The folder.
        path: PathBuf,
    },
    /// The backup is a host that runs.
    #[error("{}: a program uses this backup as a host: end that program, or name another folder", path.display())]
    InUse {
        /// The folder.
        path: PathBuf,
    },
}

/// How much of a backup is read again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    /// The database, the presence of everything, and some pictures.
    Sample,
    /// Every picture and every file of every version.
    All,
}

/// A backup that was made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct BackedUp {
    /// Pairs that are in it.
    pub pairs: u64,
    /// Shards that are in it.
    pub shards: u64,
    /// Files that were copied this time.
    pub copied: u64,
    /// Shards and versions that were removed because the host no longer has them.
    pub removed: u64,
    /// Pairs whose hash was calculated from the copy.
    pub checked: u64,
    /// What is wrong with the copy.
    pub faults: Vec<String>,
}

impl Home {
    /// Backs the host up. The inbox may run meanwhile.
    ///
    /// # Errors
    /// See [`BackupError`]. What was there before is still a backup.
    pub fn back_up(&self, to: &Path, check: Check) -> Result<BackedUp, BackupError> {
        let _version_lock = self.version_lock()?;
        let to = Target::open(self.folder(), to)?;
        let mut done = BackedUp::default();
        for name in SECRETS {
            to.copy_secret(self.folder(), name)?;
        }
        to.mirror(&self.folder().join(RELEASES), &to.folder.join(RELEASES), &mut done)?;
        let copy = to.folder.join(BOOK_COPY);
        for _ in 0..TRIES {
            for rest in [copy.clone(), to.folder.join(format!("{BOOK_COPY}-journal"))] {
                remove_if_there(&rest).map_err(fault(&rest))?;
            }
            self.book.copy_to(&copy)?;
            let before = done.copied;
            to.take_in(self, &Book::still(&copy)?, &mut done)?;
            // Nothing has come or gone since the book was copied.
            if done.copied == before {
                break;
            }
        }
        let book = to.folder.join(BOOK);
        let kept = File::open(&copy).and_then(|file| file.sync_all()).and_then(|()| fs::rename(&copy, &book));
        kept.and_then(|()| sync_folder(&to.folder)).map_err(fault(&book))?;
        let book = Book::still(&book)?;
        to.prune(&book, &mut done)?;
        to.verify(&book, check, &mut done)?;
        Ok(done)
    }
}

/// Where a backup is.
struct Target {
    folder: PathBuf,
}

fn fault(path: &Path) -> impl FnOnce(io::Error) -> BackupError + use<> {
    let path = path.to_owned();
    |source| BackupError::File { path, source }
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

fn names(folder: &Path) -> Result<Vec<String>, BackupError> {
    let read = (|| match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        entries => entries?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect(),
    })();
    read.map_err(fault(folder))
}

impl Target {
    /// Takes a folder that is empty or a backup of this host.
    fn open(home: &Path, to: &Path) -> Result<Target, BackupError> {
        let is_new = !to.exists();
        fs::create_dir_all(to).map_err(fault(to))?;
        let folder = to.canonicalize().map_err(fault(to))?;
        let home = home.canonicalize().map_err(fault(home))?;
        if folder.starts_with(&home) || home.starts_with(&folder) {
            if is_new {
                fs::remove_dir(&folder).map_err(fault(&folder))?;
            }
            return Err(BackupError::Inside { path: folder });
        }
        let is_ours = match fs::read(folder.join(KEY)) {
            Ok(key) => key == fs::read(home.join(KEY)).map_err(fault(&home.join(KEY)))?,
            Err(_) => names(&folder)?.iter().all(|name| name.starts_with(WRITING_MARKS[0])),
        };
        if !is_ours {
            return Err(BackupError::Strange { path: folder });
        }
        if folder.join(format!("{BOOK}-wal")).exists() {
            return Err(BackupError::InUse { path: folder });
        }
        Ok(Target { folder })
    }

    fn versions(&self) -> PathBuf {
        self.folder.join("versions")
    }

    fn shelf(&self) -> Shelf {
        Shelf::at(&self.folder.join("shards"))
    }

    fn copy_secret(&self, home: &Path, name: &str) -> Result<(), BackupError> {
        let (from, to) = (home.join(name), self.folder.join(name));
        let key = match fs::read(&from) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            read => read.map_err(fault(&from))?,
        };
        if fs::read(&to).is_ok_and(|there| there == key) {
            return Ok(());
        }
        let written = WholeFile::secret_beside(&to).and_then(|mut file| {
            file.write_all(&key)?;
            file.keep(Existing::Replace)
        });
        written.map_err(fault(&to))
    }

    /// Copies the shards and versions of a book that are not here as they are there.
    fn take_in(&self, home: &Home, book: &Book, done: &mut BackedUp) -> Result<(), BackupError> {
        let (from, to) = (home.shelf(), self.shelf());
        for shard in book.shards()? {
            copy_if_changed(&from.path(shard), &to.path(shard), done)?;
        }
        for version in standing(book, &self.versions())? {
            if versions::check_card(&version.folder, &version) {
                continue;
            }
            let number = version.folder.file_name().unwrap_or_default();
            let from = home.versions_folder().join(number);
            let staged = Staged::beside(&version.folder)?;
            staged.folder("data")?;
            for name in version.card.files.keys().map(String::as_str).chain(["version.json"]) {
                let to = staged.path().join(name);
                let copied = fs::copy(from.join(name), &to).and_then(|_| {
                    let file = File::open(&to)?;
                    file.set_permissions(Permissions::from_mode(0o444))?;
                    file.sync_all()
                });
                copied.map_err(fault(&from.join(name)))?;
                done.copied += 1;
            }
            let data = staged.path().join("data");
            sync_folder(&data).map_err(fault(&data))?;
            staged.publish(Existing::Replace)?;
        }
        Ok(())
    }

    /// Copies the files of a folder that are not here as they are there, and those of the folders in it.
    fn mirror(&self, from: &Path, to: &Path, done: &mut BackedUp) -> Result<(), BackupError> {
        for name in names(from)? {
            let (from, to) = (from.join(&name), to.join(&name));
            match from.is_dir() {
                true => self.mirror(&from, &to, done)?,
                false => copy_if_changed(&from, &to, done)?,
            }
        }
        Ok(())
    }

    /// Removes what the book does not have.
    fn prune(&self, book: &Book, done: &mut BackedUp) -> Result<(), BackupError> {
        let shards = book.shards()?;
        let folder = self.folder.join("shards");
        for start in names(&folder)? {
            let folder = folder.join(start);
            for name in names(&folder)? {
                let shard = name.strip_suffix(".tar").and_then(|name| name.parse::<Digest>().ok());
                if !shard.is_some_and(|shard| shards.contains(&shard)) {
                    let path = folder.join(&name);
                    fs::remove_file(&path).map_err(fault(&path))?;
                    done.removed += 1;
                }
            }
        }
        let standing: Vec<PathBuf> =
            standing(book, &self.versions())?.into_iter().map(|version| version.folder).collect();
        for name in names(&self.versions())? {
            let path = self.versions().join(name);
            if !standing.contains(&path) {
                fs::remove_dir_all(&path).map_err(fault(&path))?;
                done.removed += 1;
            }
        }
        Ok(())
    }

    /// Reads the copy again.
    fn verify(&self, book: &Book, check: Check, done: &mut BackedUp) -> Result<(), BackupError> {
        done.faults.extend(book.fault_within()?.map(|what| format!("{}: {what}", self.folder.join(BOOK).display())));
        let shards = book.shards()?;
        done.shards = shards.len() as u64;
        let missing = shards.into_iter().map(|shard| self.shelf().path(shard)).filter(|path| !path.is_file());
        done.faults.extend(missing.map(|path| format!("{}: the shard is missing", path.display())));
        for version in standing(book, &self.versions())? {
            let folder = version.folder.display();
            match check {
                Check::All => {
                    done.faults.extend(versions::verify(&version).iter().map(|what| format!("{folder}/{what}")))
                }
                Check::Sample if versions::check_card(&version.folder, &version) => {}
                Check::Sample => done.faults.push(format!("{folder}: it is not what was written")),
            }
        }
        self.verify_pairs(book, check, done)
    }

    fn verify_pairs(&self, book: &Book, check: Check, done: &mut BackedUp) -> Result<(), BackupError> {
        let every = match check {
            Check::All => 1,
            Check::Sample => book.count()?.div_ceil(SAMPLE).max(1),
        };
        let mut after = 0;
        loop {
            let pairs = book.pairs_after(after, None, READ_AT_ONCE)?;
            let Some(last) = pairs.last() else { return Ok(()) };
            after = last.number;
            for pair in pairs {
                done.pairs += 1;
                if !(done.pairs - 1).is_multiple_of(every as u64) {
                    continue;
                }
                done.checked += 1;
                let length = pair.pair.facts.jpeg_bytes;
                let picture = match pair.picture_at {
                    Some(at) => self.shelf().read(pair.shard, at, length),
                    None => Ok(Vec::new()),
                };
                let is_whole = |picture: Vec<u8>| store::pair_hash(&pair.facts, &picture) == pair.pair.sha256;
                if !picture.is_ok_and(is_whole) {
                    let path = self.shelf().path(pair.shard);
                    done.faults.push(format!("{}: {} is not what came", path.display(), pair.sha256()));
                }
            }
        }
    }
}

/// The versions of a book that stand, as if they lay in this folder.
fn standing(book: &Book, versions: &Path) -> Result<Vec<Version>, BackupError> {
    let all = book.versions()?.into_iter().filter_map(|row| versions::version(versions, row));
    Ok(all.filter(|version| version.standing == Standing::Standing).collect())
}

/// Copies a file unless length and time of its last change are the same; one that has gone meanwhile is not missed here.
fn copy_if_changed(from: &Path, to: &Path, done: &mut BackedUp) -> Result<(), BackupError> {
    let copied = (|| {
        let mut source = match File::open(from) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            opened => opened?,
        };
        let (facts, changed) = (source.metadata()?, source.metadata()?.modified()?);
        if let Ok(there) = fs::metadata(to)
            && (there.len(), there.modified()?) == (facts.len(), changed)
        {
            return Ok(false);
        }
        to.parent().map_or(Ok(()), fs::create_dir_all)?;
        let mut copy = WholeFile::beside(to)?;
        io::copy(&mut source, &mut copy)?;
        copy.keep(Existing::Replace)?;
        // The time comes last: what was stopped before is copied again.
        File::options().write(true).open(to)?.set_modified(changed)?;
        Ok(true)
    })();
    done.copied += u64::from(copied.map_err(fault(from))?);
    Ok(())
}
