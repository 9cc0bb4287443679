//! The folder of a store: what its files are called, and who may write there.
//!
//! `pairs-000001.db` and on are the databases. `making-` and `salvaging-` start the names of those that are not
//! finished, `damaged-` of those that were set aside. `lock` is held by the process that writes.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};

use crate::error::{self, StoreError, Trouble};

const LOCK: &str = "lock";
const ENDING: &str = ".db";
/// What SQLite keeps beside a database.
const COMPANIONS: [&str; 3] = ["-wal", "-shm", "-journal"];

/// What the name of a database says about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// In use.
    Pairs,
    /// New and not finished.
    Making,
    /// Being filled with what was salvaged.
    Salvaging,
    /// Set aside.
    Damaged,
}

impl Kind {
    const ALL: [Kind; 4] = [Kind::Pairs, Kind::Making, Kind::Salvaging, Kind::Damaged];

    fn word(self) -> &'static str {
        match self {
            Kind::Pairs => "pairs-",
            Kind::Making => "making-",
            Kind::Salvaging => "salvaging-",
            Kind::Damaged => "damaged-",
        }
    }
}

/// A folder that this process may write to.
#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    /// Held as long as this is.
    lock: File,
}

/// Why a folder is not ours.
pub(crate) enum Refusal {
    Owned,
    Trouble(Trouble),
}

impl Refusal {
    pub(crate) fn into_error(self, folder: &Path) -> StoreError {
        match self {
            Refusal::Owned => StoreError::Owned { folder: folder.to_owned() },
            Refusal::Trouble(trouble) => StoreError::Trouble(trouble),
        }
    }
}

impl Folder {
    /// Makes the folder if it is not there, and takes it.
    pub(crate) fn take(path: &Path) -> Result<Folder, Refusal> {
        let trouble = |error| Refusal::Trouble(error::of_system(path, &error));
        if !path.is_dir() {
            std::fs::create_dir_all(path).map_err(trouble)?;
            // The folder's own name must be there after a power cut, and it stands in the folder above.
            let above = path.parent().filter(|above| !above.as_os_str().is_empty()).unwrap_or(Path::new("."));
            sync(above).map_err(trouble)?;
        }
        let lock = path.join(LOCK);
        let lock = OpenOptions::new().create(true).truncate(false).write(true).open(lock).map_err(trouble)?;
        match lock.try_lock() {
            Ok(()) => Ok(Folder { path: path.to_owned(), lock }),
            Err(TryLockError::WouldBlock) => Err(Refusal::Owned),
            Err(TryLockError::Error(error)) => Err(trouble(error)),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Removes what was not finished when the power failed.
    pub(crate) fn clean(&self) -> Result<(), Trouble> {
        for kind in [Kind::Making, Kind::Salvaging] {
            for number in numbers(&self.path, kind)? {
                self.remove(kind, number)?;
            }
        }
        Ok(())
    }

    /// Gives a database another name, with what SQLite keeps beside it, for good.
    pub(crate) fn rename(&self, number: u32, from: Kind, to: Kind) -> Result<PathBuf, Trouble> {
        let (old, new) = (place(&self.path, from, number), place(&self.path, to, number));
        let renamed = (|| {
            // The log first: a database whose log is still to come would be opened without it.
            let log = with_ending(&old, "-wal");
            if log.exists() {
                std::fs::rename(&log, with_ending(&new, "-wal"))?;
            }
            std::fs::rename(&old, &new)?;
            for companion in COMPANIONS {
                remove_if_there(&with_ending(&old, companion))?;
            }
            sync(&self.path)
        })();
        renamed.map_err(|error| error::of_system(&self.path, &error))?;
        Ok(new)
    }

    /// Removes a database with what SQLite keeps beside it.
    pub(crate) fn remove(&self, kind: Kind, number: u32) -> Result<(), Trouble> {
        let path = place(&self.path, kind, number);
        let removed = (|| {
            remove_if_there(&path)?;
            for companion in COMPANIONS {
                remove_if_there(&with_ending(&path, companion))?;
            }
            Ok(())
        })();
        removed.map_err(|error| error::of_system(&self.path, &error))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // Closing is not enough: a child process that is just being started has the file too, for a moment.
        let _ = self.lock.unlock();
    }
}

/// Where a database is.
pub(crate) fn place(folder: &Path, kind: Kind, number: u32) -> PathBuf {
    folder.join(format!("{}{number:06}{ENDING}", kind.word()))
}

/// The numbers of the databases of a kind, in order.
pub(crate) fn numbers(folder: &Path, kind: Kind) -> Result<Vec<u32>, Trouble> {
    let trouble = |error: std::io::Error| error::of_system(folder, &error);
    let mut numbers = Vec::new();
    for entry in folder.read_dir().map_err(trouble)? {
        let name = entry.map_err(trouble)?.file_name();
        let digits = name.to_str().and_then(|name| name.strip_prefix(kind.word())?.strip_suffix(ENDING));
        let number = digits.and_then(|digits| digits.parse().ok());
        numbers.extend(number.filter(|number| place(folder, kind, *number).file_name() == Some(&name)));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// The highest number that any database has, of whatever kind, so that none is given twice.
pub(crate) fn last_number(folder: &Path) -> Result<u32, Trouble> {
    let mut last = 0;
    for kind in Kind::ALL {
        last = last.max(numbers(folder, kind)?.last().copied().unwrap_or(0));
    }
    Ok(last)
}

/// Bytes of a database and its log; 0 for what is not there.
pub(crate) fn bytes(path: &Path) -> u64 {
    [path.to_owned(), with_ending(path, "-wal")]
        .iter()
        .filter_map(|path| path.metadata().ok())
        .map(|file| file.len())
        .sum()
}

/// The database's path with something behind it.
pub(crate) fn with_ending(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    PathBuf::from(name)
}

/// Makes the names in a folder durable.
pub(crate) fn sync(folder: &Path) -> std::io::Result<()> {
    File::open(folder)?.sync_all()
}

fn remove_if_there(path: &Path) -> std::io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
