//! What the host knows, in one SQLite database: WAL, and synced at every commit, as the boards' own stores are.

mod pairs;
mod keeping;

use std::path::{Path, PathBuf};

use exchange::{Credentials, DeviceName, Digest, PublicKey, ReceivedPair};
use rusqlite::{Connection, OpenFlags, OptionalExtension, Transaction, TransactionBehavior, params};
use store::{Event, PairId};

pub(crate) use keeping::{VersionRow, remove_pair, versions_with_erased, withdraw};
pub(crate) use pairs::insert_host_label;
pub use pairs::{HomePair, Word, day_of};

/// Upper half of `application_id`; the schema's version is `user_version`.
const APPLICATION: i32 = 0x6564_6862;
const STEPS: [&str; 2] = ["
    CREATE TABLE devices (name TEXT PRIMARY KEY, key TEXT NOT NULL UNIQUE, board TEXT NOT NULL, version TEXT NOT NULL,
                          state TEXT NOT NULL, user TEXT, secret TEXT, since_s INTEGER NOT NULL) WITHOUT ROWID;
    CREATE TABLE pairs (number INTEGER PRIMARY KEY AUTOINCREMENT, sha256 BLOB NOT NULL UNIQUE, device TEXT NOT NULL,
                        boot TEXT NOT NULL, pair TEXT NOT NULL, shard BLOB NOT NULL, picture_at INTEGER,
                        picture_bytes INTEGER NOT NULL, facts BLOB NOT NULL, labels BLOB NOT NULL, label_count INTEGER NOT NULL,
                        at_s INTEGER NOT NULL);
    CREATE INDEX pairs_by_name ON pairs (device, pair);
    CREATE TABLE forgotten (device TEXT NOT NULL, boot TEXT NOT NULL, pair TEXT NOT NULL, at_s INTEGER NOT NULL,
                            PRIMARY KEY (device, boot, pair)) WITHOUT ROWID;
    CREATE TABLE receipts (shard BLOB NOT NULL, device TEXT NOT NULL, bytes BLOB NOT NULL, at_s INTEGER NOT NULL,
                           PRIMARY KEY (shard, device)) WITHOUT ROWID;
", include_str!("book/keeping.sql")];

/// The database does not do what it should.
#[derive(Debug, thiserror::Error)]
pub enum BookError {
    /// SQLite's words.
    #[error("{}: {source}", path.display())]
    Sqlite {
        /// The database.
        path: PathBuf,
        /// Why.
        source: rusqlite::Error,
    },
    /// Another program's, or a later version's.
    #[error("{}: it is no inbox of this version: move it away, or use the program that wrote it", path.display())]
    Strange {
        /// The database.
        path: PathBuf,
    },
}

/// A board as it is written down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceRow {
    pub name: DeviceName,
    pub key: PublicKey,
    pub board: String,
    pub version: String,
    pub state: String,
    pub credentials: Option<Credentials>,
    pub since_s: i64,
}

pub(crate) struct Book {
    path: PathBuf,
    connection: Connection,
}

impl Book {
    pub(crate) fn open(path: &Path) -> Result<Book, BookError> {
        let fault = |source| BookError::Sqlite { path: path.to_owned(), source };
        let mut connection = Connection::open(path).map_err(fault)?;
        // What is looked up before it is written must still be so when it is written.
        connection.set_transaction_behavior(TransactionBehavior::Immediate);
        let book = Book { path: path.to_owned(), connection };
        let pragmas = "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA secure_delete = ON;
                       PRAGMA busy_timeout = 10000;";
        book.connection.execute_batch(pragmas).map_err(fault)?;
        let read = |name: &str| book.connection.query_row(&format!("PRAGMA {name}"), [], |row| row.get::<_, i32>(0));
        let (version, application) = (read("user_version").map_err(fault)?, read("application_id").map_err(fault)?);
        let is_ours = (version, application) == (0, 0) || application == APPLICATION;
        let Some(missing) = usize::try_from(version).ok().and_then(|version| STEPS.get(version..)).filter(|_| is_ours)
        else {
            return Err(BookError::Strange { path: path.to_owned() });
        };
        for (step, number) in missing.iter().zip(version + 1..) {
            let batch = format!(
                "BEGIN IMMEDIATE; {step} PRAGMA user_version = {number}; PRAGMA application_id = {APPLICATION}; COMMIT;"
            );
            book.connection.execute_batch(&batch).map_err(fault)?;
        }
        Ok(book)
    }

    /// The book as it is now, whatever is written into it meanwhile.
    pub(crate) fn snapshot(&self) -> Result<Book, BookError> {
        Book::still(&self.path)
    }

    /// A book as it is now, to be read only.
    pub(crate) fn still(path: &Path) -> Result<Book, BookError> {
        let opened = (|| {
            let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
            let connection = Connection::open_with_flags(path, flags)?;
            connection.execute_batch("PRAGMA busy_timeout = 10000; BEGIN; SELECT 1 FROM pairs LIMIT 1;")?;
            Ok(Book { path: path.to_owned(), connection })
        })();
        opened.map_err(|source| BookError::Sqlite { path: path.to_owned(), source })
    }

    /// Reads something.
    pub(crate) fn read<T>(&self, work: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, BookError> {
        work(&self.connection).map_err(self.fault())
    }

    fn fault(&self) -> impl Fn(rusqlite::Error) -> BookError + '_ {
        |source| BookError::Sqlite { path: self.path.clone(), source }
    }

    /// Does several things, or none of them.
    pub(crate) fn together<T>(
        &mut self,
        work: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>,
    ) -> Result<T, BookError> {
        let path = self.path.clone();
        let done = (|| {
            let transaction = self.connection.transaction()?;
            let value = work(&transaction)?;
            transaction.commit()?;
            Ok(value)
        })();
        done.map_err(|source| BookError::Sqlite { path, source })
    }

    pub(crate) fn devices(&self) -> Result<Vec<DeviceRow>, BookError> {
        let read: rusqlite::Result<Vec<DeviceRow>> = (|| {
            let sql = "SELECT name, key, board, version, state, user, secret, since_s FROM devices ORDER BY name";
            let mut statement = self.connection.prepare(sql)?;
            let rows = statement.query_map([], |row| {
                let (name, key): (String, String) = (row.get(0)?, row.get(1)?);
                let (user, secret): (Option<String>, Option<String>) = (row.get(5)?, row.get(6)?);
                let credentials = user.zip(secret).map(|(user, secret)| Credentials { user, secret, region: None });
                let (board, version, state) = (row.get(2)?, row.get(3)?, row.get(4)?);
                // A name and a key that no longer read belong to nobody.
                let (Ok(name), Ok(key)) = (name.parse(), key.parse()) else { return Ok(None) };
                Ok(Some(DeviceRow { name, key, board, version, state, credentials, since_s: row.get(7)? }))
            })?;
            rows.filter_map(Result::transpose).collect()
        })();
        read.map_err(self.fault())
    }

    /// The board that an access key is of: its name, secret and state.
    pub(crate) fn opened_by(&self, user: &str) -> Result<Option<(String, String, String)>, BookError> {
        let sql = "SELECT name, secret, state FROM devices WHERE user = ?1 AND secret IS NOT NULL";
        let read = self.connection.prepare_cached(sql).and_then(|mut statement| {
            statement.query_row([user], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).optional()
        });
        read.map_err(self.fault())
    }

    pub(crate) fn write_device(&mut self, device: &DeviceRow) -> Result<(), BookError> {
        self.together(|transaction| {
            let sql = "INSERT OR REPLACE INTO devices (name, key, board, version, state, user, secret, since_s)
                       VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
            let credentials = device.credentials.as_ref();
            transaction.execute(
                sql,
                params![
                    device.name.as_str(),
                    device.key.to_string(),
                    device.board,
                    device.version,
                    device.state,
                    credentials.map(|credentials| &credentials.user),
                    credentials.map(|credentials| &credentials.secret),
                    device.since_s,
                ],
            )?;
            Ok(())
        })
    }

    /// The receipt that was signed for a shard of a board.
    pub(crate) fn receipt(&self, shard: Digest, device: &DeviceName) -> Result<Option<Vec<u8>>, BookError> {
        let sql = "SELECT bytes FROM receipts WHERE shard = ?1 AND device = ?2";
        let read = self.connection.query_row(sql, params![shard.bytes(), device.as_str()], |row| row.get(0)).optional();
        read.map_err(self.fault())
    }

    pub(crate) fn has(&self, pair: Digest) -> Result<bool, BookError> {
        let sql = "SELECT 1 FROM pairs WHERE sha256 = ?1";
        let read = self.connection.query_row(sql, [pair.bytes()], |_| Ok(())).optional();
        read.map(|found| found.is_some()).map_err(self.fault())
    }

    pub(crate) fn is_forgotten(&self, device: &DeviceName, boot: &str, pair: PairId) -> Result<bool, BookError> {
        let sql = "SELECT 1 FROM forgotten WHERE device = ?1 AND boot = ?2 AND pair = ?3";
        let read =
            self.connection.query_row(sql, params![device.as_str(), boot, pair.to_string()], |_| Ok(())).optional();
        read.map(|found| found.is_some()).map_err(self.fault())
    }

    /// The pairs of this name, each with the shard that holds it.
    pub(crate) fn named(
        &self,
        device: &DeviceName,
        boot: &str,
        pair: PairId,
    ) -> Result<Vec<(Digest, Digest)>, BookError> {
        let read: rusqlite::Result<Vec<([u8; 32], [u8; 32])>> = (|| {
            let sql = "SELECT sha256, shard FROM pairs WHERE device = ?1 AND boot = ?2 AND pair = ?3";
            let mut statement = self.connection.prepare(sql)?;
            let name = params![device.as_str(), boot, pair.to_string()];
            statement.query_map(name, |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
        })();
        let named = read.map_err(self.fault())?;
        Ok(named.into_iter().map(|(pair, shard)| (pair.into(), shard.into())).collect())
    }

    /// Pairs of each board, and bytes of their pictures.
    pub(crate) fn counts(&self) -> Result<Vec<(String, u64, u64)>, BookError> {
        let read: rusqlite::Result<Vec<(String, u64, u64)>> = (|| {
            let sql = "SELECT device, count(*), sum(picture_bytes) FROM pairs GROUP BY device ORDER BY device";
            let mut statement = self.connection.prepare(sql)?;
            let count = |row: &rusqlite::Row<'_>, place| row.get::<_, i64>(place).map(i64::unsigned_abs);
            statement.query_map([], |row| Ok((row.get(0)?, count(row, 1)?, count(row, 2)?)))?.collect()
        })();
        read.map_err(self.fault())
    }
}

/// Writes a pair down, or the labels that are new about it.
pub(crate) fn insert_pair(
    transaction: &Transaction<'_>,
    device: &DeviceName,
    shard: Digest,
    received: &ReceivedPair,
    at_s: i64,
) -> rusqlite::Result<()> {
    let pair = &received.pair;
    let labels = serde_json::to_vec(&pair.labels).expect("labels are plain values");
    let sql = "INSERT INTO pairs (sha256, device, boot, pair, shard, picture_at, picture_bytes, facts, labels, label_count, at_s)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)
               ON CONFLICT (sha256) DO UPDATE SET labels = excluded.labels, label_count = excluded.label_count
               WHERE excluded.label_count > label_count";
    transaction.execute(
        sql,
        params![
            pair.sha256,
            device.as_str(),
            pair.facts.boot_id.as_str(),
            pair.facts.id.to_string(),
            shard.bytes(),
            received.picture_at.and_then(|at| i64::try_from(at).ok()),
            i64::try_from(pair.facts.jpeg_bytes).unwrap_or(i64::MAX),
            received.facts,
            labels,
            i64::try_from(pair.labels.len()).unwrap_or(i64::MAX),
            at_s,
        ],
    )?;
    Ok(())
}

/// Removes the pair of a tombstone, and remembers that it is not to come back.
pub(crate) fn heed(
    transaction: &Transaction<'_>,
    device: &DeviceName,
    tombstone: &Event,
    at_s: i64,
) -> rusqlite::Result<()> {
    let (boot, pair) = (tombstone.boot_id.as_str(), tombstone.pair.to_string());
    let name = params![device.as_str(), boot, pair];
    let numbers: Vec<i64> = transaction
        .prepare("SELECT number FROM pairs WHERE device = ?1 AND boot = ?2 AND pair = ?3")?
        .query_map(name, |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    for number in numbers {
        for version in keeping::versions_with(transaction, number)? {
            withdraw(transaction, version, "its board forgot one of its pairs", at_s)?;
        }
        remove_pair(transaction, number)?;
    }
    let sql = "INSERT OR IGNORE INTO forgotten (device, boot, pair, at_s) VALUES (?1, ?2, ?3, ?4)";
    transaction.execute(sql, params![device.as_str(), boot, pair, at_s]).map(drop)
}

pub(crate) fn insert_receipt(
    transaction: &Transaction<'_>,
    device: &DeviceName,
    shard: Digest,
    receipt: &[u8],
    at_s: i64,
) -> rusqlite::Result<()> {
    let sql = "INSERT OR REPLACE INTO receipts (shard, device, bytes, at_s) VALUES (?1, ?2, ?3, ?4)";
    transaction.execute(sql, params![shard.bytes(), device.as_str(), receipt, at_s]).map(drop)
}
