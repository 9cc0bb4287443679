//! Versions that stand, and versions that are withdrawn.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use dataset::disk::{WRITING_MARKS, sync_folder};
use exchange::Digest;
use serde::Serialize;

use super::VersionError;
use super::card::{CARD, Card};
use crate::book::{self, VersionRow};
use crate::home::{Home, HomeError};

pub(super) const WRITING: &str = "writing";
const WITHDRAWN: &str = "withdrawn";
/// Start of the name of a folder on its way out: a name that what is left in the making has too.
const LEAVING: &str = WRITING_MARKS[1];

/// Whether a version's files are there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Standing {
    /// They are.
    Standing,
    /// They are gone.
    Withdrawn {
        /// Why.
        reason: String,
        /// When, seconds since 1970.
        at_s: i64,
    },
}

/// A version.
#[derive(Clone, Debug, PartialEq)]
pub struct Version {
    /// Its number. None is given twice.
    pub number: i64,
    /// Its folder, if it stands.
    pub folder: PathBuf,
    /// Whether it stands.
    pub standing: Standing,
    /// When it was made, seconds since 1970.
    pub at_s: i64,
    /// What it holds, or held.
    pub card: Card,
    /// `version.json`, byte for byte.
    pub(crate) card_bytes: Vec<u8>,
}

/// What is wrong with a version's files.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum VersionFault {
    /// A file is missing or cannot be read.
    #[error("{name}: {reason}")]
    Unreadable {
        /// The file.
        name: String,
        /// Why.
        reason: String,
    },
    /// A file is another one.
    #[error("{name}: it is not what was written")]
    Changed {
        /// The file.
        name: String,
    },
    /// A file was added.
    #[error("{name}: it is none of the version's files")]
    Added {
        /// The file.
        name: String,
    },
}

pub(crate) fn folder_of(versions: &Path, number: i64) -> PathBuf {
    versions.join(format!("{number:04}"))
}

/// A number that no version has, and no folder that somebody put there.
pub(super) fn next_number(home: &Home) -> Result<i64, VersionError> {
    let last = home.book.versions()?.last().map_or(0, |row| row.number);
    let is_free = |number: &i64| folder_of(&home.versions_folder(), *number).symlink_metadata().is_err();
    Ok((last + 1..).find(is_free).unwrap_or(last + 1))
}

/// Ends what a killed program had begun, under the lock of the versions.
pub(crate) fn settle(home: &mut Home) -> Result<(), HomeError> {
    for row in home.book.versions()?.iter().filter(|row| row.state == WRITING) {
        let is_there = folder_of(&home.versions_folder(), row.number).join(CARD).is_file();
        home.book.settle_version(row.number, is_there)?;
    }
    remove_withdrawn(home)?;
    let folder = home.versions_folder();
    let fault = |source| HomeError::System { path: folder.clone(), source };
    for name in names(&folder).map_err(fault)? {
        if WRITING_MARKS.iter().any(|mark| name.starts_with(mark)) {
            fs::remove_dir_all(folder.join(name)).map_err(fault)?;
        }
    }
    Ok(())
}

/// Removes the files of versions that are withdrawn.
pub(crate) fn remove_withdrawn(home: &Home) -> Result<(), HomeError> {
    for row in home.book.versions()?.iter().filter(|row| row.state == WITHDRAWN) {
        let folder = folder_of(&home.versions_folder(), row.number);
        let fault = |source| HomeError::System { path: folder.clone(), source };
        let leaving = home.versions_folder().join(format!("{LEAVING}{:04}", row.number));
        // No reader finds half of it.
        match fs::rename(&folder, &leaving) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            renamed => renamed.map_err(fault)?,
        }
        match fs::remove_dir_all(&leaving) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            removed => removed.map_err(fault)?,
        }
        sync_folder(&home.versions_folder()).map_err(fault)?;
    }
    Ok(())
}

fn names(folder: &Path) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
}

impl Home {
    /// All versions, by number.
    ///
    /// # Errors
    /// The database.
    pub fn versions(&self) -> Result<Vec<Version>, VersionError> {
        let rows = self.book.versions()?.into_iter().filter(|row| row.state != WRITING);
        // A card that no longer reads is a later program's.
        Ok(rows.filter_map(|row| version(&self.versions_folder(), row)).collect())
    }

    /// A version that stands.
    ///
    /// # Errors
    /// There is none of this number, or it is withdrawn.
    pub fn version(&self, number: i64) -> Result<Version, VersionError> {
        let found = self.versions()?.into_iter().find(|version| version.number == number);
        match found.ok_or(VersionError::Unknown { number })? {
            Version { standing: Standing::Withdrawn { reason, .. }, .. } => {
                Err(VersionError::Withdrawn { number, reason })
            }
            version => Ok(version),
        }
    }

    /// Compares every file of a version with what was written; gives what is wrong.
    ///
    /// # Errors
    /// There is no such version, or it is withdrawn.
    pub fn verify_version(&self, number: i64) -> Result<Vec<VersionFault>, VersionError> {
        Ok(verify(&self.version(number)?))
    }

    /// Withdraws a version: its files go, and it stays listed.
    ///
    /// # Errors
    /// There is no such version, or it is withdrawn already.
    pub fn withdraw_version(&mut self, number: i64, reason: &str, at_s: i64) -> Result<(), VersionError> {
        let _lock = self.version_lock()?;
        self.version(number)?;
        self.book.together(|transaction| book::withdraw(transaction, number, reason, at_s))?;
        Ok(settle(self)?)
    }
}

pub(crate) fn version(versions: &Path, row: VersionRow) -> Option<Version> {
    let standing = match row.state.as_str() {
        WITHDRAWN => {
            Standing::Withdrawn { reason: row.reason.unwrap_or_default(), at_s: row.withdrawn_s.unwrap_or_default() }
        }
        _ => Standing::Standing,
    };
    let card = serde_json::from_slice(&row.card).ok()?;
    let folder = folder_of(versions, row.number);
    Some(Version { number: row.number, folder, standing, at_s: row.at_s, card, card_bytes: row.card })
}

/// What is wrong with the files of a version.
pub(crate) fn verify(version: &Version) -> Vec<VersionFault> {
    let mut faults = Vec::new();
    let expected = version.card.files.iter().map(|(name, facts)| (name.clone(), facts.sha256));
    let expected: Vec<(String, Digest)> =
        expected.chain([(CARD.to_owned(), Digest::of(&version.card_bytes))]).collect();
    for (name, sha256) in &expected {
        match fs::File::open(version.folder.join(name)).and_then(Digest::of_all) {
            Ok((found, _)) if found == *sha256 => {}
            Ok(_) => faults.push(VersionFault::Changed { name: name.clone() }),
            Err(error) => faults.push(VersionFault::Unreadable { name: name.clone(), reason: error.to_string() }),
        }
    }
    let known: BTreeSet<&str> = expected.iter().map(|(name, _)| name.as_str()).chain(["data"]).collect();
    for (folder, start) in [(version.folder.clone(), ""), (version.folder.join("data"), "data/")] {
        let found = names(&folder).unwrap_or_default().into_iter().map(|name| format!("{start}{name}"));
        faults.extend(found.filter(|name| !known.contains(name.as_str())).map(|name| VersionFault::Added { name }));
    }
    faults
}

/// Whether `version.json` in a folder is the version's.
pub(crate) fn check_card(folder: &Path, version: &Version) -> bool {
    fs::read(folder.join(CARD)).is_ok_and(|bytes| bytes == version.card_bytes)
}
