//! The schema, its version, and the way from older versions.
//!
//! A version is written to the header twice, as `user_version` and in `application_id`. A database in which both agree
//! on a later one is left alone; where they do not agree it is damaged.

use rusqlite::Connection;

use super::{Access, MAX_FILE_BYTES, PAGE_BYTES};

/// How the schema of a version comes from the one before. An empty database has version 0.
const STEPS: [&str; 1] = ["
    CREATE TABLE pairs (id INTEGER PRIMARY KEY, sha256 BLOB NOT NULL, facts BLOB NOT NULL, jpeg BLOB NOT NULL);
    CREATE TABLE listing (pair INTEGER PRIMARY KEY, state INTEGER NOT NULL, score REAL NOT NULL,
                          human INTEGER NOT NULL, bytes INTEGER NOT NULL, synced INTEGER NOT NULL, trusted_ms INTEGER);
    CREATE TABLE events (id INTEGER PRIMARY KEY, pair INTEGER NOT NULL, sha256 BLOB NOT NULL, facts BLOB NOT NULL);
    CREATE TABLE marks (id INTEGER PRIMARY KEY, sha256 BLOB NOT NULL, value BLOB NOT NULL);
    CREATE TABLE counters (file INTEGER NOT NULL, name TEXT NOT NULL, count INTEGER NOT NULL,
                           PRIMARY KEY (file, name)) WITHOUT ROWID;
"];
/// The version that this program writes.
pub(crate) const VERSION: u32 = STEPS.len() as u32;
/// Upper half of `application_id`; the version is below.
pub(crate) const APPLICATION: u32 = 0xedb1 << 16;

/// `listing.state` of a rejected pair. Anything else is a pair that is kept: what allows a removal is a number that no
/// flipped bit makes.
pub(crate) const REJECTED: i64 = 0x72_656a_6563_7465;
/// `listing.synced` of a pair whose copy is at home.
pub(crate) const SYNCED: i64 = 0x73_796e_6365_6421;
/// `listing.human` of a pair without a text by a person.
pub(crate) const NOTHING_BY_HUMANS: i64 = 0x6e_6f62_6f64_7921;

/// Why a schema is not ours.
#[derive(Debug)]
pub(crate) enum Fault {
    Newer,
    Strange(String),
    Sqlite(rusqlite::Error),
}

impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Fault {
        Fault::Sqlite(error)
    }
}

/// Fills an empty file. What is half made is thrown away, so there is no journal.
pub(crate) fn make(connection: &Connection) -> rusqlite::Result<()> {
    let mut batch = format!(
        "PRAGMA page_size = {PAGE_BYTES};
         PRAGMA auto_vacuum = INCREMENTAL;
         PRAGMA journal_mode = OFF;
         PRAGMA max_page_count = {};
         BEGIN IMMEDIATE;",
        MAX_FILE_BYTES / u64::from(PAGE_BYTES),
    );
    for (from, step) in STEPS.iter().enumerate() {
        batch += step;
        batch += &stamp(from as u32 + 1);
    }
    batch += "COMMIT; PRAGMA journal_mode = WAL;";
    connection.execute_batch(&batch)
}

fn stamp(version: u32) -> String {
    format!("PRAGMA user_version = {version}; PRAGMA application_id = {};\n", (APPLICATION | version).cast_signed())
}

/// Checks a database, and brings it to today's schema if it may be written.
pub(crate) fn check(connection: &Connection, access: Access) -> Result<(), Fault> {
    let mode: String = connection.query_row("PRAGMA journal_mode", [], |row| row.get(0))?;
    if mode != "wal" {
        return Err(Fault::Strange(format!("it has the journal {mode:?}, where it had a log")));
    }
    let version: u32 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    let application: i32 = connection.query_row("PRAGMA application_id", [], |row| row.get(0))?;
    if application.cast_unsigned() != APPLICATION | version || version == 0 {
        return Err(Fault::Strange("its header names no version".to_owned()));
    }
    if version > VERSION {
        return Err(Fault::Newer);
    }
    if access == Access::Write {
        for (from, step) in STEPS.iter().enumerate().skip(version as usize) {
            connection.execute_batch(&format!("BEGIN IMMEDIATE; {step} {} COMMIT;", stamp(from as u32 + 1)))?;
        }
        connection.execute_batch(&format!("PRAGMA max_page_count = {}", MAX_FILE_BYTES / u64::from(PAGE_BYTES)))?;
    }
    let tables: i64 = connection.query_row(
        "SELECT count(*) FROM sqlite_schema WHERE type = 'table'
         AND name IN ('pairs', 'listing', 'events', 'marks', 'counters')",
        [],
        |row| row.get(0),
    )?;
    if tables == 5 { Ok(()) } else { Err(Fault::Strange(format!("it has {tables} of its 5 tables"))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_database_has_the_version_of_the_program() {
        let folder = tempfile::tempdir().unwrap();
        let connection = Connection::open(folder.path().join("x.db")).unwrap();
        make(&connection).unwrap();
        check(&connection, Access::Write).unwrap();
        connection.execute_batch(&stamp(VERSION + 1)).unwrap();
        assert!(matches!(check(&connection, Access::Write), Err(Fault::Newer)));
        connection.execute_batch("PRAGMA user_version = 77").unwrap();
        assert!(matches!(check(&connection, Access::Write), Err(Fault::Strange(_))));
    }
}
