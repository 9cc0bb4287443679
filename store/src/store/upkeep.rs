//! What happens to pairs that are stored: labels, receipts, removal.

use std::collections::BTreeMap;

use rusqlite::{OptionalExtension, params};

use super::Store;
use crate::database::{self, SYNCED};
use crate::error::{Failure, StoreError};
use crate::event::{Change, Event, Label, LabelAction, Standing};
use crate::pair::{PairFacts, PairId, Stamp};
use crate::verify::Verification;

const DAY_MS: i64 = 24 * 60 * 60 * 1000;

/// What is known to be at home.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Receipt {
    /// A pair.
    Pair {
        /// Its name.
        id: PairId,
        /// Its hash: another pair of this name, as on a copied card, is not at home.
        sha256: [u8; 32],
        /// How many labels it had when it was sent: one with more since then is not at home.
        labels: usize,
    },
    /// A tombstone, which was heeded.
    Tombstone {
        /// The pair that was forgotten.
        id: PairId,
    },
}

impl Receipt {
    fn id(self) -> PairId {
        match self {
            Receipt::Pair { id, .. } | Receipt::Tombstone { id } => id,
        }
    }
}

/// What a removal leaves in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trace {
    /// Bytes stay until something is written over them.
    Leave,
    /// Bytes are written over now, in the database and its log.
    Erase,
}

impl Store {
    /// Adds a label. Nothing that was there is changed; a pair that was synced is to be synced again.
    ///
    /// # Errors
    /// No such pair, one that is to be kept and has no picture, or a disk that takes nothing.
    pub fn label(&mut self, id: PairId, label: Label) -> Result<(), StoreError> {
        let file = self.file_of(id)?;
        let boot_id = self.boot_id.clone();
        let facts = self.with_file(file, |database| facts_of(database, id))?;
        if label.action != LabelAction::Reject && !facts.has_picture() {
            return Err(StoreError::NoPicture { id });
        }
        self.with_file(file, |database| {
            let mut labels: Vec<Label> = database.events(id)?.iter().filter_map(Event::label).cloned().collect();
            labels.push(label.clone());
            let standing = Standing::of(&facts, &labels);
            let boot_id = if facts.boot_id.as_str().is_empty() { boot_id } else { facts.boot_id };
            let event = Event { pair: id, boot_id, change: Change::Labelled(label) };
            database.change(|connection| {
                database::insert_event(connection, &event)?;
                database::relist(connection, id, standing)
            })
        })?;
        self.count_pages(file)
    }

    /// Notes that pairs are at home, and tombstones heeded. Only on a receipt that the host signed.
    ///
    /// # Errors
    /// A disk that takes nothing. Pairs that are not here are passed over.
    pub fn mark_synced(&mut self, receipts: &[Receipt]) -> Result<(), StoreError> {
        let mut by_file: BTreeMap<u32, Vec<Receipt>> = BTreeMap::new();
        for receipt in receipts {
            for file in self.files.keys() {
                by_file.entry(*file).or_default().push(*receipt);
            }
        }
        for (file, receipts) in by_file {
            self.with_file(file, |database| {
                let mut synced = Vec::new();
                let mut heeded = Vec::new();
                for receipt in receipts {
                    let events = database.events(receipt.id())?;
                    let is_forgotten = events.iter().any(Event::is_tombstone);
                    match receipt {
                        Receipt::Tombstone { id } if is_forgotten => heeded.push(id),
                        Receipt::Pair { id, sha256, labels } if !is_forgotten && events.len() == labels => {
                            if hash_of(database, id)?.is_some_and(|hash| hash == sha256) {
                                synced.push(id);
                            }
                        }
                        Receipt::Pair { .. } | Receipt::Tombstone { .. } => {}
                    }
                }
                if synced.is_empty() && heeded.is_empty() {
                    return Ok(());
                }
                database.change(|connection| {
                    for id in synced {
                        let sql = "UPDATE listing SET synced = ?2 WHERE pair = ?1";
                        connection.execute(sql, params![id.to_row(), SYNCED])?;
                    }
                    for id in heeded {
                        connection.execute("DELETE FROM events WHERE pair = ?1", [id.to_row()])?;
                    }
                    Ok(())
                })
            })?;
        }
        Ok(())
    }

    /// Takes pairs out that others have replaced. Pairs that are not here are passed over.
    ///
    /// # Errors
    /// A disk that takes nothing.
    pub fn withdraw(&mut self, ids: &[PairId]) -> Result<(), StoreError> {
        let mut by_file: BTreeMap<u32, Vec<PairId>> = BTreeMap::new();
        for id in ids {
            match self.file_of(*id) {
                Ok(file) => by_file.entry(file).or_default().push(*id),
                Err(StoreError::NotThere { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        for (file, ids) in by_file {
            self.remove(file, &ids, "replaced", Trace::Leave)?;
        }
        self.drop_empty_files()
    }

    /// Removes a pair now, and writes over it. A tombstone stays until the copy at home is gone too.
    ///
    /// What the file system or the flash below keeps of blocks that were written over is beyond reach.
    ///
    /// # Errors
    /// No such pair, or a disk that takes nothing.
    pub fn forget(&mut self, id: PairId, at: Stamp) -> Result<(), StoreError> {
        let file = self.file_of(id)?;
        let boot_id = self.boot_id.clone();
        self.with_file(file, |database| {
            // A pair whose facts are damaged is to go nevertheless.
            let boot_id = facts_of(database, id).map_or(boot_id, |facts| facts.boot_id);
            let tombstone = Event { pair: id, boot_id, change: Change::Forgotten(at) };
            erase(database, &[id], "forgotten", Some(&tombstone))
        })?;
        self.count_pages(file)?;
        self.drop_empty_files()
    }

    /// Removes pairs that are older than so many days, whatever they are, and writes over them; returns how many.
    ///
    /// Days are counted only between clocks that can be trusted. A pair of a guessed time is as old as the newest
    /// expired pair that comes after it in the order.
    ///
    /// # Errors
    /// A disk that takes nothing.
    pub fn expire(&mut self, days: u32, now: Stamp) -> Result<u64, StoreError> {
        let Some(now_ms) = now.trusted_ms() else { return Ok(0) };
        let before = now_ms.saturating_sub(i64::from(days).saturating_mul(DAY_MS));
        let files: Vec<u32> = self.files.keys().copied().collect();
        let mut border = None;
        for file in &files {
            let sql = "SELECT max(pair) FROM listing WHERE trusted_ms < ?1";
            let newest = self.with_file(*file, |database| {
                let newest = database.connection.query_row(sql, [before], |row| row.get::<_, Option<i64>>(0));
                newest.map_err(|error| database.failure(error))
            })?;
            border = border.max(newest);
        }
        let Some(border) = border else { return Ok(0) };
        let mut removed = 0;
        for file in files {
            let sql = "SELECT pair FROM listing WHERE trusted_ms < ?1 OR (trusted_ms IS NULL AND pair < ?2)";
            let rows = self.with_file(file, |database| {
                let read = (|| {
                    let mut statement = database.connection.prepare(sql)?;
                    statement.query_map([before, border], |row| row.get(0))?.collect::<rusqlite::Result<Vec<i64>>>()
                })();
                read.map_err(|error| database.failure(error))
            })?;
            let ids: Vec<PairId> = rows.into_iter().filter_map(PairId::from_row).collect();
            if !ids.is_empty() {
                removed += self.remove(file, &ids, "expired", Trace::Erase)?;
            }
        }
        self.drop_empty_files()?;
        Ok(removed)
    }

    /// Recomputes every hash, and salvages the databases in which something is not what was stored. Reads everything.
    ///
    /// # Errors
    /// A disk that takes nothing.
    pub fn repair(&mut self) -> Result<Verification, StoreError> {
        let mut all = Verification::default();
        for file in self.files.keys().copied().collect::<Vec<u32>>() {
            let mut found = Verification::default();
            let checked = self.with_file(file, |database| {
                found.check(database);
                if found.faults.is_empty() { Ok(()) } else { Err(Failure::Damaged("it has faults".to_owned())) }
            });
            all.add(found);
            match checked {
                Ok(()) | Err(StoreError::Damaged { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(all)
    }

    /// Removes pairs of one database and counts them there.
    pub(super) fn remove(&mut self, file: u32, ids: &[PairId], reason: &str, trace: Trace) -> Result<u64, StoreError> {
        self.with_file(file, |database| match trace {
            Trace::Erase => erase(database, ids, reason, None),
            Trace::Leave => delete(database, ids, reason, None),
        })?;
        self.count_pages(file)?;
        Ok(ids.len() as u64)
    }

    fn file_of(&mut self, id: PairId) -> Result<u32, StoreError> {
        let may_have = |(number, file): (&u32, &database::Summary)| {
            (file.first <= Some(id) && Some(id) <= file.last).then_some(*number)
        };
        for number in self.files.iter().filter_map(may_have).collect::<Vec<u32>>() {
            if self.with_file(number, |database| database.has(id))? {
                return Ok(number);
            }
        }
        Err(StoreError::NotThere { id })
    }
}

fn hash_of(database: &database::Database, id: PairId) -> Result<Option<Vec<u8>>, Failure> {
    let sql = "SELECT sha256 FROM pairs WHERE id = ?1";
    let hash = database.connection.query_row(sql, [id.to_row()], |row| row.get(0)).optional();
    hash.map_err(|error| database.failure(error))
}

fn facts_of(database: &database::Database, id: PairId) -> Result<PairFacts, Failure> {
    let sql = "SELECT facts FROM pairs WHERE id = ?1";
    let read = database.connection.query_row(sql, [id.to_row()], |row| row.get::<_, Vec<u8>>(0));
    let facts = read.map_err(|error| database.failure(error))?;
    serde_json::from_slice(&facts).map_err(|_| Failure::Damaged(format!("the facts of pair {id} cannot be read")))
}

fn delete(
    database: &mut database::Database,
    ids: &[PairId],
    reason: &str,
    tombstone: Option<&Event>,
) -> Result<(), Failure> {
    let number = database.number;
    database.change(|connection| {
        for id in ids {
            for sql in [
                "DELETE FROM pairs WHERE id = ?1",
                "DELETE FROM listing WHERE pair = ?1",
                "DELETE FROM events WHERE pair = ?1",
            ] {
                connection.execute(sql, [id.to_row()])?;
            }
        }
        if let Some(tombstone) = tombstone {
            database::insert_event(connection, tombstone)?;
        }
        database::count(connection, number, reason, ids.len() as u64)
    })
}

/// Deletes, with the bytes written over in the database, and a log of which nothing is left.
fn erase(
    database: &mut database::Database,
    ids: &[PairId],
    reason: &str,
    tombstone: Option<&Event>,
) -> Result<(), Failure> {
    let secure = |database: &database::Database, value: &str| {
        let set = database.connection.query_row(&format!("PRAGMA secure_delete = {value}"), [], |_| Ok(()));
        set.map_err(|error| database.failure(error))
    };
    secure(database, "ON")?;
    let deleted = delete(database, ids, reason, tombstone);
    secure(database, "OFF")?;
    deleted?;
    database.fold_wholly()
}
