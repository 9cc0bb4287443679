//! What can go wrong, by what the caller does about it.

use std::path::{Path, PathBuf};

use rusqlite::ErrorCode;

use crate::pair::{PairError, PairId};

/// A disk that takes no pairs for now. The caller goes on without keeping, says so, and tries again.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum Trouble {
    /// No room on the file system.
    #[error("{}: the disk is full: make room on it", folder.display())]
    Full {
        /// Of the store.
        folder: PathBuf,
    },
    /// No room in the store's budget, and nothing in it that may go.
    #[error(
        "{}: the budget of {budget} bytes is used up, and what is left may not go before it is synced: sync, or raise the budget",
        folder.display()
    )]
    OverBudget {
        /// Of the store.
        folder: PathBuf,
        /// In bytes.
        budget: u64,
    },
    /// Nothing can be written.
    #[error("{}: the disk is read-only: check it, and mount it for writing", folder.display())]
    ReadOnly {
        /// Of the store.
        folder: PathBuf,
    },
    /// The disk answers with errors, or is not there.
    #[error("{}: the disk fails: {detail}: check it, or replace it", folder.display())]
    Failing {
        /// Of the store.
        folder: PathBuf,
        /// What the system says.
        detail: String,
    },
}

/// Why a store does not do what it was asked for.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum StoreError {
    /// Another process writes there.
    #[error("{}: another process writes there: stop it first, or open the folder for reading", folder.display())]
    Owned {
        /// The folder.
        folder: PathBuf,
    },
    /// The pair cannot be stored as it is.
    #[error(transparent)]
    Pair(#[from] PairError),
    /// As many pairs wait as make a group: commit them first.
    #[error("{waiting} pairs wait already: commit them first")]
    GroupFull {
        /// How many.
        waiting: usize,
    },
    /// The disk takes nothing now; [`crate::Store::try_again`] asks it again.
    #[error(transparent)]
    Trouble(#[from] Trouble),
    /// No such pair.
    #[error("there is no pair {id}: \"edgeblip pairs list\" shows those that are")]
    NotThere {
        /// The name.
        id: PairId,
    },
    /// A person says that a pair is good whose picture the filter did not keep.
    #[error("pair {id} has no picture any more, only the texts that were rejected: it cannot be kept")]
    NoPicture {
        /// The name.
        id: PairId,
    },
    /// A pair, or what belongs to it, is not what was stored.
    #[error("{}: {detail}: start the program that writes there, which salvages what is intact", path.display())]
    Damaged {
        /// The database.
        path: PathBuf,
        /// What was found.
        detail: String,
    },
}

/// What an operation on one database comes back with.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The database is not what it was.
    #[error("{0}")]
    Damaged(String),
    /// It is not for this program.
    #[error("a later version of this program wrote it")]
    Newer,
    /// The disk.
    #[error(transparent)]
    Trouble(Trouble),
}

impl Failure {
    /// For a caller who can do nothing about it.
    pub(crate) fn into_error(self, path: &Path) -> StoreError {
        match self {
            Failure::Trouble(trouble) => StoreError::Trouble(trouble),
            failure => StoreError::Damaged { path: path.to_owned(), detail: failure.to_string() },
        }
    }
}

/// Places of a database that the disk does not give back. The rest of it may be well, and so are the others.
const UNREADABLE: [i32; 3] =
    [rusqlite::ffi::SQLITE_IOERR_READ, rusqlite::ffi::SQLITE_IOERR_SHORT_READ, rusqlite::ffi::SQLITE_IOERR_CORRUPTFS];

/// Says what an error of SQLite means for the folder.
pub(crate) fn of_sqlite(folder: &Path, error: &rusqlite::Error) -> Failure {
    let folder = folder.to_owned();
    let detail = error.to_string();
    if error.sqlite_error().is_some_and(|error| UNREADABLE.contains(&error.extended_code)) {
        return Failure::Damaged(detail);
    }
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => Failure::Trouble(Trouble::Full { folder }),
        Some(ErrorCode::ReadOnly) => Failure::Trouble(Trouble::ReadOnly { folder }),
        // A file cannot be opened for many reasons: making one says which.
        Some(ErrorCode::CannotOpen) => Failure::Trouble(probe(&folder, detail)),
        Some(
            ErrorCode::SystemIoFailure
            | ErrorCode::DatabaseBusy
            | ErrorCode::DatabaseLocked
            | ErrorCode::FileLockingProtocolFailed
            | ErrorCode::PermissionDenied
            | ErrorCode::OutOfMemory
            | ErrorCode::OperationInterrupted
            | ErrorCode::OperationAborted
            | ErrorCode::ApiMisuse,
        ) => Failure::Trouble(probe(&folder, detail)),
        // What is left are databases that are none, tables that are not there, and values of the wrong type.
        _ => Failure::Damaged(detail),
    }
}

/// Says what an error of the system means for the folder.
pub(crate) fn of_system(folder: &Path, error: &std::io::Error) -> Trouble {
    let folder = folder.to_owned();
    match error.kind() {
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => Trouble::Full { folder },
        std::io::ErrorKind::ReadOnlyFilesystem => Trouble::ReadOnly { folder },
        _ => Trouble::Failing { folder, detail: error.to_string() },
    }
}

/// Asks the system, since SQLite says only that something did not work.
fn probe(folder: &Path, detail: String) -> Trouble {
    let path = folder.join(".probe");
    let asked = std::fs::write(&path, [0; 4096]);
    let removed = std::fs::remove_file(&path);
    match asked.and(removed) {
        Ok(()) => Trouble::Failing { folder: folder.to_owned(), detail },
        Err(error) => match of_system(folder, &error) {
            Trouble::Failing { folder, detail: system } => {
                Trouble::Failing { folder, detail: format!("{detail}; {system}") }
            }
            trouble => trouble,
        },
    }
}
