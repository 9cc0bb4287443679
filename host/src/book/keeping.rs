//! What the operator does with pairs: versions of datasets, and what is gone.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use exchange::Digest;
use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, OptionalExtension, Transaction, params};

use super::{Book, BookError};

/// From one try to copy a database that is locked to the next.
const BUSY: Duration = Duration::from_millis(20);

/// A version as it is written down.
pub(crate) struct VersionRow {
    pub(crate) number: i64,
    pub(crate) inputs: Digest,
    pub(crate) card: Vec<u8>,
    /// `writing`, `standing` or `withdrawn`.
    pub(crate) state: String,
    pub(crate) reason: Option<String>,
    pub(crate) at_s: i64,
    pub(crate) withdrawn_s: Option<i64>,
}

impl Book {
    pub(crate) fn versions(&self) -> Result<Vec<VersionRow>, BookError> {
        let sql = "SELECT number, inputs, card, state, reason, at_s, withdrawn_s FROM versions ORDER BY number";
        self.read(|connection| {
            let row = |row: &rusqlite::Row<'_>| {
                Ok(VersionRow {
                    number: row.get(0)?,
                    inputs: row.get::<_, [u8; 32]>(1)?.into(),
                    card: row.get(2)?,
                    state: row.get(3)?,
                    reason: row.get(4)?,
                    at_s: row.get(5)?,
                    withdrawn_s: row.get(6)?,
                })
            };
            connection.prepare(sql)?.query_map([], row)?.collect()
        })
    }

    /// Writes a version down that is about to stand, with its pairs and the split of each of its groups; not if one of the
    /// pairs is gone.
    pub(crate) fn write_version(
        &mut self,
        version: &VersionRow,
        pairs: &[i64],
        groups: &[(String, String, &'static str)],
    ) -> Result<bool, BookError> {
        self.together(|transaction| {
            let sql = "SELECT 1 FROM pairs WHERE number = ?1 AND NOT EXISTS (SELECT 1 FROM erased WHERE erased.sha256 = pairs.sha256)";
            let mut there = transaction.prepare(sql)?;
            for pair in pairs {
                if !there.exists([pair])? {
                    return Ok(false);
                }
            }
            let VersionRow { number, inputs, card, state, at_s, .. } = version;
            let sql = "INSERT INTO versions (number, inputs, card, state, at_s) VALUES (?1, ?2, ?3, ?4, ?5)";
            transaction.execute(sql, params![number, inputs.bytes(), card, state, at_s])?;
            let mut insert = transaction.prepare("INSERT INTO version_pairs (pair, version) VALUES (?1, ?2)")?;
            for pair in pairs {
                insert.execute([pair, number])?;
            }
            let mut insert = transaction.prepare("INSERT OR IGNORE INTO groups (device, day, split) VALUES (?1, ?2, ?3)")?;
            for group in groups {
                insert.execute(params![group.0, group.1, group.2])?;
            }
            Ok(true)
        })
    }

    /// Ends the writing of a version: it stands, or there is none.
    pub(crate) fn settle_version(&mut self, number: i64, is_there: bool) -> Result<(), BookError> {
        self.together(|transaction| {
            if is_there {
                let sql = "UPDATE versions SET state = 'standing' WHERE number = ?1 AND state = 'writing'";
                return transaction.execute(sql, [number]).map(drop);
            }
            transaction.execute("DELETE FROM version_pairs WHERE version = ?1", [number])?;
            transaction.execute("DELETE FROM versions WHERE number = ?1", [number]).map(drop)
        })
    }

    /// How many pairs there are.
    pub(crate) fn count(&self) -> Result<usize, BookError> {
        let read = |connection: &Connection| connection.query_row("SELECT count(*) FROM pairs", [], |row| row.get(0));
        self.read(read).map(|count: i64| usize::try_from(count).unwrap_or_default())
    }

    /// The split of each group of pictures that was in a version: board, day, split.
    pub(crate) fn groups(&self) -> Result<Vec<(String, String, String)>, BookError> {
        let sql = "SELECT device, day, split FROM groups";
        self.read(|connection| {
            connection.prepare(sql)?.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?.collect()
        })
    }

    /// What a picture looks like, as a hash; nothing for one that was not looked at, and none in it for one that cannot
    /// be decoded.
    pub(crate) fn likeness(&self, pair: i64) -> Result<Option<Option<u64>>, BookError> {
        let sql = "SELECT likeness FROM likenesses WHERE pair = ?1";
        self.read(|connection| {
            let row = |row: &rusqlite::Row<'_>| row.get::<_, Option<i64>>(0);
            let found = connection.prepare_cached(sql)?.query_row([pair], row).optional()?;
            Ok(found.map(|likeness| likeness.map(i64::cast_unsigned)))
        })
    }

    pub(crate) fn write_likenesses(&mut self, likenesses: &[(i64, Option<u64>)]) -> Result<(), BookError> {
        self.together(|transaction| {
            // A pair may have gone while it was looked at.
            let sql =
                "INSERT OR REPLACE INTO likenesses (pair, likeness) SELECT number, ?2 FROM pairs WHERE number = ?1";
            let mut statement = transaction.prepare(sql)?;
            for (pair, likeness) in likenesses {
                statement.execute(params![pair, likeness.map(u64::cast_signed)])?;
            }
            Ok(())
        })
    }

    /// Pairs that arrived before a moment, and bytes of their pictures: those in no version that stands, and the others.
    pub(crate) fn arrived_before(&self, moment_s: i64) -> Result<[(u64, u64); 2], BookError> {
        let sql = "SELECT number IN (SELECT pair FROM version_pairs) AS is_in_version, count(*), sum(picture_bytes) FROM pairs
                   WHERE at_s < ?1 AND NOT EXISTS (SELECT 1 FROM erased WHERE erased.sha256 = pairs.sha256)
                   GROUP BY is_in_version";
        self.read(|connection| {
            let mut counts = [(0, 0); 2];
            let mut statement = connection.prepare(sql)?;
            let mut rows = statement.query([moment_s])?;
            while let Some(row) = rows.next()? {
                let count = |place| row.get::<_, i64>(place).map(i64::unsigned_abs);
                counts[usize::from(row.get::<_, bool>(0)?)] = (count(1)?, count(2)?);
            }
            Ok(counts)
        })
    }

    /// What was deleted and is not yet gone from everywhere: pair, shard.
    pub(crate) fn erased_not_done(&self) -> Result<Vec<(Digest, Digest)>, BookError> {
        let sql = "SELECT sha256, shard FROM erased WHERE is_done = 0 ORDER BY shard";
        self.read(|connection| {
            let row = |row: &rusqlite::Row<'_>| {
                let (pair, shard): ([u8; 32], [u8; 32]) = (row.get(0)?, row.get(1)?);
                Ok((pair.into(), shard.into()))
            };
            connection.prepare(sql)?.query_map([], row)?.collect()
        })
    }

    /// Takes out of the book what was deleted.
    pub(crate) fn take_out_erased(&mut self) -> Result<(), BookError> {
        self.together(|transaction| {
            let sql = "SELECT number FROM pairs JOIN erased USING (sha256) WHERE is_done = 0";
            let numbers: Vec<i64> =
                transaction.prepare(sql)?.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
            numbers.into_iter().try_for_each(|number| remove_pair(transaction, number))
        })
    }

    /// Every shard that holds a pair.
    pub(crate) fn shards(&self) -> Result<BTreeSet<Digest>, BookError> {
        self.read(|connection| {
            let mut statement = connection.prepare("SELECT DISTINCT shard FROM pairs")?;
            statement.query_map([], |row| row.get::<_, [u8; 32]>(0).map(Digest::from))?.collect()
        })
    }

    /// What SQLite finds wrong with the database; nothing if it finds nothing.
    pub(crate) fn fault_within(&self) -> Result<Option<String>, BookError> {
        self.read(|connection| {
            let found: String = connection.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))?;
            Ok((found != "ok").then_some(found))
        })
    }

    /// A copy as of one moment, in one file; the book may be written meanwhile.
    pub(crate) fn copy_to(&self, path: &Path) -> Result<(), BookError> {
        self.read(|connection| {
            let mut copy = Connection::open(path)?;
            let backup = Backup::new(connection, &mut copy)?;
            // All pages in one step are of one moment; in WAL mode nobody waits for it.
            while backup.step(-1)? != StepResult::Done {
                std::thread::sleep(BUSY);
            }
            drop(backup);
            copy.query_row("PRAGMA journal_mode = DELETE", [], |_| Ok(()))
        })
    }

    /// Whether any pair is left in a shard.
    pub(crate) fn has_pairs_in(&self, shard: Digest) -> Result<bool, BookError> {
        let sql = "SELECT 1 FROM pairs WHERE shard = ?1 LIMIT 1";
        let read = |connection: &Connection| connection.query_row(sql, [shard.bytes()], |_| Ok(())).optional();
        self.read(read).map(|found| found.is_some())
    }

    /// Moves everything out of the log beside the database; whether it could, for others may be reading it.
    pub(crate) fn empty_log(&self) -> Result<bool, BookError> {
        self.read(|connection| {
            connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| Ok(row.get::<_, i64>(0)? == 0))
        })
    }
}

/// Versions that have a pair.
pub(crate) fn versions_with(connection: &Connection, pair: i64) -> rusqlite::Result<Vec<i64>> {
    let sql = "SELECT version FROM version_pairs WHERE pair = ?1";
    connection.prepare_cached(sql)?.query_map([pair], |row| row.get(0))?.collect()
}

/// Versions that have a pair which was deleted and is not yet gone.
pub(crate) fn versions_with_erased(connection: &Connection) -> rusqlite::Result<Vec<i64>> {
    let sql = "SELECT DISTINCT version FROM erased JOIN pairs USING (sha256) JOIN version_pairs ON version_pairs.pair = pairs.number
               WHERE is_done = 0";
    connection.prepare(sql)?.query_map([], |row| row.get(0))?.collect()
}

/// Takes a version back: from now on its files may be removed, and it stays listed.
pub(crate) fn withdraw(transaction: &Transaction<'_>, version: i64, reason: &str, at_s: i64) -> rusqlite::Result<bool> {
    let sql = "UPDATE versions SET state = 'withdrawn', reason = ?2, withdrawn_s = ?3
               WHERE number = ?1 AND state <> 'withdrawn'";
    let changed = transaction.execute(sql, params![version, reason, at_s])?;
    transaction.execute("DELETE FROM version_pairs WHERE version = ?1", [version])?;
    Ok(changed > 0)
}

/// Removes a pair with everything that hangs on it.
pub(crate) fn remove_pair(transaction: &Transaction<'_>, number: i64) -> rusqlite::Result<()> {
    for sql in [
        "DELETE FROM host_labels WHERE sha256 = (SELECT sha256 FROM pairs WHERE number = ?1)",
        "DELETE FROM likenesses WHERE pair = ?1",
        "DELETE FROM pairs WHERE number = ?1",
    ] {
        transaction.prepare_cached(sql)?.execute([number])?;
    }
    Ok(())
}
