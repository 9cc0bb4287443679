//! One database: its schema, how it is opened, and what is written to it.

mod header;
mod schema;
mod statements;

use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags, OptionalExtension};

use crate::error::{self, Failure};
use crate::event::{self, Event, Label, Standing};
use crate::folder::{self, Folder, Kind};
use crate::pair::{self, PairFacts, PairId};

pub(crate) use header::{PAGE_BYTES, be32};
pub(crate) use schema::{NOTHING_BY_HUMANS, REJECTED, SYNCED};
pub(crate) use statements::{
    count, human_column, insert_event, insert_pair, relist, state_of, write_mark, write_replaces,
};

/// Largest database, in bytes: what damage to one can cost at most.
pub const MAX_FILE_BYTES: u64 = 256 << 20;
/// Memory for pages that were read or are to be written, in KiB.
const CACHE_KIB: u32 = 2048;
/// A log that grew beyond this is cut when it has been folded in.
const LOG_BYTES: u64 = 16 << 20;
/// Readers hold a database for moments only.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(2);

/// An open database.
#[derive(Debug)]
pub(crate) struct Database {
    pub(crate) number: u32,
    pub(crate) path: PathBuf,
    folder: PathBuf,
    pub(crate) connection: Connection,
}

/// A database in short.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Summary {
    pub(crate) pairs: u64,
    pub(crate) pages: u64,
    pub(crate) free_pages: u64,
    pub(crate) first: Option<PairId>,
    pub(crate) last: Option<PairId>,
}

/// Keys of the marks that are carved.
pub(crate) const MARK_ROWS: (i64, i64) = (statements::LAST_NAME, statements::COMMITS);

/// The last pair that was ever given a name here, and its boot.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Mark {
    pub(crate) last: PairId,
    pub(crate) boot_id: String,
}

/// What a database is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    Write,
    Read,
    /// Where nothing can be written, not even beside the database.
    ReadOnlyDisk,
}

/// A pair ready to be written.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) id: PairId,
    pub(crate) facts: Vec<u8>,
    pub(crate) jpeg: Vec<u8>,
    pub(crate) sha256: [u8; 32],
    pub(crate) standing: Standing,
    pub(crate) boot_id: String,
    /// When it was taken, if the clock could be trusted.
    pub(crate) trusted_ms: Option<i64>,
}

impl Row {
    pub(crate) fn new(facts: &PairFacts, jpeg: Vec<u8>) -> Row {
        // Neither a map with keys that are no strings nor a failing writer is involved.
        let bytes = serde_json::to_vec(facts).expect("facts are plain values");
        let sha256 = pair::hash(&bytes, &jpeg);
        Row::stored(facts, bytes, jpeg, sha256, [])
    }

    /// A pair as it was stored somewhere, with its labels.
    pub(crate) fn stored<'a>(
        facts: &PairFacts,
        bytes: Vec<u8>,
        jpeg: Vec<u8>,
        sha256: [u8; 32],
        labels: impl IntoIterator<Item = &'a Label>,
    ) -> Row {
        Row {
            id: facts.id,
            facts: bytes,
            jpeg,
            sha256,
            standing: Standing::of(facts, labels),
            boot_id: facts.boot_id.as_str().to_owned(),
            trusted_ms: facts.taken.trusted_ms(),
        }
    }

    /// Bytes of the picture and the facts.
    pub(crate) fn bytes(&self) -> u64 {
        (self.jpeg.len() + self.facts.len()) as u64
    }
}

impl Database {
    /// Makes an empty database under another name, and renames it when it is whole.
    pub(crate) fn make(folder: &Folder, number: u32) -> Result<Database, Failure> {
        let made = Self::prepare(folder, number, Kind::Making)?;
        made.close();
        folder.rename(number, Kind::Making, Kind::Pairs).map_err(Failure::Trouble)?;
        Self::open(folder.path(), number, Access::Write)
    }

    /// Makes an empty database that has its name for a while.
    pub(crate) fn prepare(folder: &Folder, number: u32, kind: Kind) -> Result<Database, Failure> {
        folder.remove(kind, number).map_err(Failure::Trouble)?;
        let path = folder::place(folder.path(), kind, number);
        let to_failure = |error| error::of_sqlite(folder.path(), &error);
        let connection = connect(&path, Access::Write).map_err(to_failure)?;
        schema::make(&connection).map_err(to_failure)?;
        Ok(Database { number, path, folder: folder.path().to_owned(), connection })
    }

    /// Looks at the first bytes, without SQLite: it would delete the log of an empty file, and take a damaged version
    /// number for a later one.
    pub(crate) fn check_header(folder: &Path, number: u32) -> Result<(), Failure> {
        header::check(folder, &folder::place(folder, Kind::Pairs, number))
    }

    /// Opens a database of the store.
    pub(crate) fn open(folder: &Path, number: u32, access: Access) -> Result<Database, Failure> {
        Self::check_header(folder, number)?;
        let path = folder::place(folder, Kind::Pairs, number);
        let to_failure = |error| error::of_sqlite(folder, &error);
        let connection = connect(&path, access).map_err(to_failure)?;
        let database = Database { number, path, folder: folder.to_owned(), connection };
        schema::check(&database.connection, access).map_err(|fault| match fault {
            schema::Fault::Newer => Failure::Newer,
            schema::Fault::Strange(detail) => Failure::Damaged(detail),
            schema::Fault::Sqlite(error) => to_failure(error),
        })?;
        Ok(database)
    }

    /// What an error of SQLite means here.
    pub(crate) fn failure(&self, error: rusqlite::Error) -> Failure {
        error::of_sqlite(&self.folder, &error)
    }

    /// Lets go of it; what cannot be folded in stays in the log for the next one who opens it.
    pub(crate) fn close(self) {
        drop(self.connection);
    }

    /// Folds the whole log into the database, and makes both durable, so that nothing rests on pages of which the
    /// system may believe that they are on the disk when they are not: after an error it does.
    pub(crate) fn fold_wholly(&self) -> Result<(), Failure> {
        self.checkpoint("TRUNCATE").map(drop)
    }

    /// Bytes of the log that are not folded in.
    pub(crate) fn log_bytes(&self) -> Result<u64, Failure> {
        Ok(self.checkpoint("NOOP")? * u64::from(PAGE_BYTES))
    }

    /// Folds in what no reader is in the way of.
    pub(crate) fn fold(&self) -> Result<(), Failure> {
        self.checkpoint("PASSIVE").map(drop)
    }

    /// Frames that are in the log and not in the database afterwards.
    fn checkpoint(&self, mode: &str) -> Result<u64, Failure> {
        let sql = format!("PRAGMA wal_checkpoint({mode})");
        let frames = self.connection.query_row(&sql, [], |row| Ok((row.get::<_, i64>(1)?, row.get::<_, i64>(2)?)));
        // Both are negative where there is no log.
        frames.map(|(all, folded)| (all - folded).max(0).unsigned_abs()).map_err(|error| self.failure(error))
    }

    /// Counts what is in it, by reading the listing, which is small beside the pictures.
    pub(crate) fn summary(&self) -> Result<Summary, Failure> {
        let counted = (|| {
            let pages = self.connection.query_row("PRAGMA page_count", [], |row| row.get::<_, u32>(0))?;
            let free_pages = self.connection.query_row("PRAGMA freelist_count", [], |row| row.get::<_, u32>(0))?;
            let sql = "SELECT count(*), min(pair), max(pair), total(bytes) FROM listing";
            self.connection.query_row(sql, [], |row| {
                let name = |row: Option<i64>| row.and_then(PairId::from_row);
                let (pairs, pages, free_pages) = (row.get::<_, u32>(0)?, u64::from(pages), u64::from(free_pages));
                let (first, last) = (name(row.get(1)?), name(row.get(2)?));
                Ok(Summary { pairs: u64::from(pairs), pages, free_pages, first, last })
            })
        })();
        counted.map_err(|error| self.failure(error))
    }

    /// The last name that was given.
    pub(crate) fn mark(&self) -> Result<Option<Mark>, Failure> {
        self.value(statements::LAST_NAME)
    }

    /// The database that this one was salvaged from.
    pub(crate) fn replaces(&self) -> Result<Option<u32>, Failure> {
        self.value(statements::REPLACES)
    }

    fn value<T: serde::de::DeserializeOwned>(&self, id: i64) -> Result<Option<T>, Failure> {
        let sql = "SELECT sha256, value FROM marks WHERE id = ?1";
        let read = |row: &rusqlite::Row<'_>| Ok((row.get::<_, Vec<u8>>(0)?, row.get::<_, Vec<u8>>(1)?));
        let found = self.connection.query_row(sql, [id], read).optional().map_err(|error| self.failure(error))?;
        let Some((sha256, bytes)) = found else { return Ok(None) };
        let value = (event::hash(&bytes) == *sha256).then(|| serde_json::from_slice(&bytes).ok()).flatten();
        value.map(Some).ok_or_else(|| Failure::Damaged("what it says of itself is not what was stored".to_owned()))
    }

    /// Stores pairs, all or none. Pages are written anew where a pair is there already: what an earlier attempt left may
    /// never have reached the disk.
    pub(crate) fn insert(&mut self, rows: &[Row]) -> Result<(), Failure> {
        let given = self.mark()?.map(|mark| mark.last);
        let folder = self.folder.clone();
        let inserted = (|| {
            let transaction = self.connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
            for row in rows {
                insert_pair(&transaction, row)?;
            }
            if let Some(last) = rows.iter().max_by_key(|row| row.id).filter(|row| Some(row.id) > given) {
                write_mark(&transaction, &Mark { last: last.id, boot_id: last.boot_id.clone() })?;
            }
            statements::count_commit(&transaction)?;
            transaction.commit()
        })();
        inserted.map_err(|error| error::of_sqlite(&folder, &error))
    }

    /// Runs statements in one transaction.
    pub(crate) fn change<T>(&mut self, change: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, Failure> {
        let folder = self.folder.clone();
        let changed = (|| {
            let transaction = self.connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
            let value = change(&transaction)?;
            statements::count_commit(&transaction)?;
            transaction.commit().map(|()| value)
        })();
        changed.map_err(|error| error::of_sqlite(&folder, &error))
    }

    /// Whether a pair is listed here.
    pub(crate) fn has(&self, id: PairId) -> Result<bool, Failure> {
        let sql = "SELECT 1 FROM listing WHERE pair = ?1";
        let found = self.connection.query_row(sql, [id.to_row()], |_| Ok(())).optional();
        found.map(|found| found.is_some()).map_err(|error| self.failure(error))
    }

    /// The events of a pair in their order.
    pub(crate) fn events(&self, id: PairId) -> Result<Vec<Event>, Failure> {
        self.read_events("WHERE pair = ?1", [id.to_row()])
    }

    /// The events of all pairs in their order.
    pub(crate) fn all_events(&self) -> Result<Vec<Event>, Failure> {
        self.read_events("", [])
    }

    /// Names of pairs that were forgotten, whose copies may still be at home.
    pub(crate) fn tombstones(&self) -> Result<Vec<Event>, Failure> {
        Ok(self.all_events()?.into_iter().filter(Event::is_tombstone).collect())
    }

    fn read_events(&self, filter: &str, parameters: impl rusqlite::Params) -> Result<Vec<Event>, Failure> {
        let read = (|| {
            let sql = format!("SELECT pair, sha256, facts FROM events {filter} ORDER BY id");
            let mut statement = self.connection.prepare(&sql)?;
            let rows = statement.query_map(parameters, |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
            rows.collect::<rusqlite::Result<Vec<(i64, Vec<u8>, Vec<u8>)>>>()
        })();
        let rows = read.map_err(|error| self.failure(error))?;
        let events = rows.iter().map(|(pair, sha256, facts)| event::checked(*pair, sha256, facts));
        let damaged = || Failure::Damaged("a label is not what was stored".to_owned());
        events.collect::<Option<Vec<Event>>>().ok_or_else(damaged)
    }
}

fn connect(path: &Path, access: Access) -> rusqlite::Result<Connection> {
    let mut flags = OpenFlags::SQLITE_OPEN_URI | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    flags |= match access {
        Access::Write => OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE,
        Access::Read | Access::ReadOnlyDisk => OpenFlags::SQLITE_OPEN_READ_ONLY,
    };
    let connection = Connection::open_with_flags(address(path, access), flags)?;
    connection.busy_timeout(PATIENCE)?;
    if access == Access::ReadOnlyDisk {
        // Without others the index of the log can be in memory.
        connection.execute_batch("PRAGMA locking_mode = EXCLUSIVE")?;
    }
    // Logs are folded in when nobody waits for an answer. Nothing that a database says of itself is trusted.
    connection.execute_batch(&format!(
        "PRAGMA synchronous = FULL;
         PRAGMA wal_autocheckpoint = 0;
         PRAGMA journal_size_limit = {LOG_BYTES};
         PRAGMA cache_size = -{CACHE_KIB};
         PRAGMA temp_store = MEMORY;
         PRAGMA mmap_size = 0;
         PRAGMA trusted_schema = OFF;
         PRAGMA cell_size_check = ON;"
    ))?;
    Ok(connection)
}

/// The path as SQLite's URI. Without "power-safe overwrite" a commit ends at the end of a block, so that the block with
/// the end of an acknowledged commit is never written again while it counts.
fn address(path: &Path, access: Access) -> String {
    use std::fmt::Write;
    use std::os::unix::ffi::OsStrExt;

    let mut address = String::from("file:");
    for &byte in path.as_os_str().as_bytes() {
        if byte.is_ascii_alphanumeric() || b"/-._~".contains(&byte) {
            address.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(address, "%{byte:02X}");
        }
    }
    address += "?psow=0";
    if access == Access::ReadOnlyDisk {
        // Locks are writes, and nobody writes there.
        address += "&vfs=unix-none";
    }
    address
}
