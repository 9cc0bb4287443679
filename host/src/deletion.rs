//! Pairs that are to be gone: from the shelf, from the book, and from every dataset, and that do not come back.
//!
//! In this order, so that whoever is stopped anywhere runs it again and ends at the same: it is written down what is to go,
//! and from then on nobody sees it and no board brings it back; versions that have it lose their files; zeros are written
//! over it on the shelf; it goes out of the book; shards without a pair are removed; and it is written down that it is gone.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;

use exchange::{DeviceName, Digest};
use rusqlite::params;
use serde::Serialize;

use crate::book::{self, BookError};
use crate::curation::{CurationError, PairName};
use crate::home::{Home, HomeError};
use crate::versions;

/// Why pairs are not deleted, or not wholly.
#[derive(Debug, thiserror::Error)]
pub enum DeletionError {
    /// The host's folder.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// The database.
    #[error(transparent)]
    Book(#[from] BookError),
    /// No one pair is called so.
    #[error(transparent)]
    Curation(#[from] CurationError),
    /// A shard.
    #[error("{}: {source}: what was to be deleted is not wholly gone; run it again", path.display())]
    Shelf {
        /// The shard.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The database's log cannot be emptied.
    #[error(
        "{}: another program is reading the database, and its log may still hold what was deleted: run it again when that program is done", folder.display()
    )]
    Log {
        /// The host's folder.
        folder: PathBuf,
    },
}

/// What is to go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Doomed {
    /// One pair.
    Pair(PairName),
    /// All pairs of a board that are here. What it sends later is taken.
    Device(DeviceName),
    /// Pairs that arrived before this moment (seconds since 1970) and are in no version that stands.
    Outdated(i64),
}

/// What is gone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Deleted {
    /// Pairs; with those of a deletion that had been stopped.
    pub pairs: u64,
    /// Shards in which nothing was left.
    pub shards: u64,
    /// Versions of datasets that were withdrawn.
    pub versions: Vec<i64>,
}

/// What has just been done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Decided,
    VersionsGone,
    Erased,
    OutOfBook,
    ShardsGone,
    Done,
}

/// Is asked after every step whether to go on.
pub(crate) type Gate<'g> = dyn FnMut(Step) -> Result<(), DeletionError> + 'g;

impl Home {
    /// Deletes pairs. A deletion that was stopped is brought to its end first.
    ///
    /// # Errors
    /// See [`DeletionError`]. What is not wholly gone goes with the next deletion.
    pub fn delete(&mut self, doomed: &Doomed, reason: &str, at_s: i64) -> Result<Deleted, DeletionError> {
        self.delete_by_steps(doomed, reason, at_s, &mut |_| Ok(()))
    }

    pub(crate) fn delete_by_steps(
        &mut self,
        doomed: &Doomed,
        reason: &str,
        at_s: i64,
        gate: &mut Gate<'_>,
    ) -> Result<Deleted, DeletionError> {
        let (_lock, _version_lock) = (self.lock()?, self.version_lock()?);
        let mut deleted = Deleted::default();
        versions::settle(self)?;
        self.finish(&mut deleted, gate)?;
        let is_resumed = deleted.pairs > 0;
        match self.decide(doomed, reason, at_s, &mut deleted) {
            // It may be what the stopped deletion was of.
            Err(DeletionError::Curation(CurationError::Unknown { .. })) if is_resumed => return Ok(deleted),
            decided => decided?,
        }
        gate(Step::Decided)?;
        self.finish(&mut deleted, gate)?;
        Ok(deleted)
    }

    /// Writes down what is to go.
    fn decide(&mut self, doomed: &Doomed, reason: &str, at_s: i64, deleted: &mut Deleted) -> Result<(), DeletionError> {
        // Under the same locks as what follows.
        let pair = match doomed {
            Doomed::Pair(name) => Some(self.pair(name)?.sha256()),
            Doomed::Device(_) | Doomed::Outdated(_) => None,
        };
        let withdrawn = self.book.together(|transaction| {
            let insert =
                "INSERT OR IGNORE INTO erased (sha256, shard, at_s, is_done) SELECT sha256, shard, ?1, 0 FROM pairs";
            let outdated = format!("{insert} WHERE at_s < ?2 AND number NOT IN (SELECT pair FROM version_pairs)");
            match doomed {
                Doomed::Pair(_) => transaction
                    .execute(&format!("{insert} WHERE sha256 = ?2"), params![at_s, pair.map(Digest::bytes)])?,
                Doomed::Device(device) => {
                    transaction.execute(&format!("{insert} WHERE device = ?2"), params![at_s, device.as_str()])?
                }
                Doomed::Outdated(moment_s) => transaction.execute(&outdated, params![at_s, moment_s])?,
            };
            let mut withdrawn = Vec::new();
            for version in book::versions_with_erased(transaction)? {
                if book::withdraw(transaction, version, reason, at_s)? {
                    withdrawn.push(version);
                }
            }
            Ok(withdrawn)
        })?;
        deleted.versions.extend(withdrawn);
        Ok(())
    }

    /// Brings what was decided to its end.
    fn finish(&mut self, deleted: &mut Deleted, gate: &mut Gate<'_>) -> Result<(), DeletionError> {
        let erased = self.book.erased_not_done()?;
        if erased.is_empty() {
            return Ok(());
        }
        versions::remove_withdrawn(self)?;
        gate(Step::VersionsGone)?;
        let mut shards: BTreeMap<Digest, BTreeSet<Digest>> = BTreeMap::new();
        for (pair, shard) in &erased {
            shards.entry(*shard).or_default().insert(*pair);
        }
        let shelf = self.shelf();
        let fault = |shard| {
            let path = shelf.path(shard);
            move |source| DeletionError::Shelf { path, source }
        };
        for (shard, pairs) in &shards {
            shelf.erase_all(*shard, pairs).map_err(fault(*shard))?;
        }
        gate(Step::Erased)?;
        self.book.take_out_erased()?;
        gate(Step::OutOfBook)?;
        for shard in shards.into_keys() {
            if !self.book.has_pairs_in(shard)? {
                shelf.remove(shard).map_err(fault(shard))?;
                deleted.shards += 1;
            }
        }
        if !self.book.empty_log()? {
            return Err(DeletionError::Log { folder: self.folder().to_owned() });
        }
        gate(Step::ShardsGone)?;
        self.book.together(|transaction| transaction.execute("UPDATE erased SET is_done = 1 WHERE is_done = 0", []))?;
        deleted.pairs += erased.len() as u64;
        gate(Step::Done)
    }
}
