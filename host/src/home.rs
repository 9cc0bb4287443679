//! The host's folder.

use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use dataset::disk::{Existing, WholeFile};
use exchange::{PublicKey, SecretKey};

use crate::book::{Book, BookError};
use crate::shelf::Shelf;

pub(crate) const KEY: &str = "host.key";
pub(crate) const BOOK: &str = "inbox.db";
const LOCK: &str = "lock";
const RELEASES_LOCK: &str = "releases.lock";
const VERSION_LOCK: &str = "versions.lock";

/// The folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum HomeError {
    /// The system does not let us.
    #[error("{}: {source}", path.display())]
    System {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The key is none.
    #[error("{}: it holds no key: bring back a copy of it; with another key, every board would have to be enrolled anew", path.display())]
    Key {
        /// The file.
        path: PathBuf,
    },
    /// No key can be made.
    #[error(transparent)]
    Randomness(#[from] exchange::key::RandomnessError),
    /// The database.
    #[error(transparent)]
    Book(#[from] BookError),
    /// Another program is at work.
    #[error("{}: another program is at work here: run this again when it is done", path.display())]
    Busy {
        /// The folder.
        path: PathBuf,
    },
}

/// The right to do something in a host's folder, as long as it is there.
#[derive(Debug)]
pub(crate) struct Lock(File);

impl Drop for Lock {
    fn drop(&mut self) {
        // A child that is just being started holds the same open file for a moment: closing it would not be enough.
        let _ = self.0.unlock();
    }
}

/// A host's folder, its key and its book.
pub struct Home {
    folder: PathBuf,
    key: SecretKey,
    pub(crate) book: Book,
}

impl Home {
    /// Opens a folder, which is made if it is not there.
    ///
    /// # Errors
    /// See [`HomeError`].
    pub fn open(folder: &Path) -> Result<Home, HomeError> {
        for place in [folder.to_owned(), folder.join("shards"), folder.join("quarantine")] {
            fs::create_dir_all(&place).map_err(|source| HomeError::System { path: place, source })?;
        }
        let key = key(&folder.join(KEY))?;
        let book = Book::open(&folder.join(BOOK))?;
        Ok(Home { folder: folder.to_owned(), key, book })
    }

    /// By what receipts are known.
    pub fn key(&self) -> PublicKey {
        self.key.public()
    }

    pub(crate) fn secret(&self) -> &SecretKey {
        &self.key
    }

    /// Where boards put shards if no other place is named. It is made.
    ///
    /// # Errors
    /// A folder that cannot be made.
    pub fn objects(&self) -> Result<PathBuf, HomeError> {
        let path = self.folder.join("objects");
        fs::create_dir_all(&path).map_err(|source| HomeError::System { path: path.clone(), source })?;
        path.canonicalize().map_err(|source| HomeError::System { path, source })
    }

    pub(crate) fn shelf(&self) -> Shelf {
        Shelf::at(&self.folder.join("shards"))
    }

    pub(crate) fn quarantine(&self) -> PathBuf {
        self.folder.join("quarantine")
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(crate) fn versions_folder(&self) -> PathBuf {
        self.folder.join("versions")
    }

    /// The right to take shards in.
    pub(crate) fn lock(&self) -> Result<Lock, HomeError> {
        self.lock_of(LOCK)
    }

    /// The right to write and remove versions. Who needs both takes the other one first.
    pub(crate) fn version_lock(&self) -> Result<Lock, HomeError> {
        self.lock_of(VERSION_LOCK)
    }

    /// The right to say something of releases.
    pub(crate) fn releases_lock(&self) -> Result<Lock, HomeError> {
        self.lock_of(RELEASES_LOCK)
    }

    fn lock_of(&self, name: &str) -> Result<Lock, HomeError> {
        let path = self.folder.join(name);
        let fault = |source| HomeError::System { path: path.clone(), source };
        let lock = File::options().create(true).truncate(false).write(true).open(&path).map_err(fault)?;
        match lock.try_lock() {
            Ok(()) => Ok(Lock(lock)),
            Err(TryLockError::WouldBlock) => Err(HomeError::Busy { path: self.folder.clone() }),
            Err(TryLockError::Error(source)) => Err(fault(source)),
        }
    }
}

/// The secret key of a file, which is made if it is not there.
pub(crate) fn key(path: &Path) -> Result<SecretKey, HomeError> {
    let fault = |source| HomeError::System { path: path.to_owned(), source };
    match fs::read_to_string(path) {
        Ok(text) => SecretKey::from_text(&text).map_err(|_| HomeError::Key { path: path.to_owned() }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let key = SecretKey::generate()?;
            let mut file = WholeFile::secret_beside(path).map_err(fault)?;
            file.write_all(key.to_text().as_bytes()).map_err(fault)?;
            file.keep(Existing::Refuse).map_err(fault)?;
            Ok(key)
        }
        Err(source) => Err(fault(source)),
    }
}
