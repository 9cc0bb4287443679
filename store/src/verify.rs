//! Whether everything is what was stored.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::database::{self, Database};
use crate::error::Failure;
use crate::event::{Event, Standing};
use crate::pair::{self, PairId, State};

/// Most faults that are told one by one.
const MAX_FAULTS: usize = 10_000;

/// Something that is not what was stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The database.
    pub path: PathBuf,
    /// The pair, if it can be told.
    pub id: Option<PairId>,
    /// What is wrong.
    pub what: String,
}

/// What a look at everything found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verification {
    /// Pairs whose hash is right.
    pub sound: u64,
    /// Bytes that were hashed.
    pub bytes: u64,
    /// What is wrong.
    pub faults: Vec<Fault>,
}

/// A row of the listing.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Listed {
    pub(crate) state: State,
    pub(crate) score: f64,
    pub(crate) human: i64,
    pub(crate) bytes: u64,
    pub(crate) is_synced: bool,
    pub(crate) trusted_ms: Option<i64>,
}

impl Verification {
    /// Adds what another look found.
    pub(crate) fn add(&mut self, other: Verification) {
        self.sound += other.sound;
        self.bytes += other.bytes;
        self.faults.extend(other.faults);
    }

    pub(crate) fn fault(&mut self, path: &std::path::Path, id: Option<PairId>, what: impl Into<String>) {
        if self.faults.len() < MAX_FAULTS {
            self.faults.push(Fault { path: path.to_owned(), id, what: what.into() });
        }
    }

    /// Looks at one database: its trees, every hash, and whether what is listed follows from what is stored.
    pub(crate) fn check(&mut self, database: &Database) {
        let path = &database.path;
        match quick_check(database) {
            Ok(findings) => findings.iter().for_each(|finding| self.fault(path, None, finding)),
            Err(failure) => self.fault(path, None, failure.to_string()),
        }
        let events = database.all_events().unwrap_or_else(|failure| {
            self.fault(path, None, failure.to_string());
            Vec::new()
        });
        let mut listed = read_listing(database).unwrap_or_else(|failure| {
            self.fault(path, None, failure.to_string());
            BTreeMap::new()
        });
        if let Err(failure) = database.mark().and_then(|_| database.replaces()) {
            self.fault(path, None, failure.to_string());
        }
        if let Err(failure) = self.check_pairs(database, &events, &mut listed) {
            self.fault(path, None, failure.to_string());
        }
        for row in listed.keys() {
            self.fault(path, PairId::from_row(*row), "it is listed and not there");
        }
    }

    /// Takes out of `listed` what is there.
    fn check_pairs(
        &mut self,
        database: &Database,
        events: &[Event],
        listed: &mut BTreeMap<i64, Listed>,
    ) -> Result<(), Failure> {
        let to_failure = |error| database.failure(error);
        let sql = "SELECT id, sha256, facts, jpeg FROM pairs ORDER BY id";
        let mut statement = database.connection.prepare(sql).map_err(to_failure)?;
        let mut rows = statement.query([]).map_err(to_failure)?;
        while let Some(row) = rows.next().map_err(to_failure)? {
            let id: i64 = row.get(0).map_err(to_failure)?;
            let was_listed = listed.remove(&id);
            let (Ok(sha256), Ok(facts), Ok(jpeg)) = (row.get_ref(1), row.get_ref(2), row.get_ref(3)) else { continue };
            let (Ok(sha256), Ok(facts), Ok(jpeg)) = (sha256.as_blob(), facts.as_blob(), jpeg.as_blob()) else {
                self.fault(&database.path, PairId::from_row(id), "its columns are of another kind");
                continue;
            };
            let Some(checked) = pair::checked(id, sha256, facts, jpeg) else {
                self.fault(&database.path, PairId::from_row(id), "its hash is another one");
                continue;
            };
            let labels = events.iter().filter(|event| event.pair == checked.id).filter_map(Event::label);
            let standing = Standing::of(&checked, labels);
            let bytes = (facts.len() + jpeg.len()) as u64;
            let is_right = was_listed.is_some_and(|listed| {
                let human = (listed.human == database::NOTHING_BY_HUMANS)
                    == (database::human_column(standing.human) == database::NOTHING_BY_HUMANS);
                listed.state == standing.state
                    && listed.score == f64::from(standing.score)
                    && human
                    && listed.bytes == bytes
                    && listed.trusted_ms == checked.taken.trusted_ms()
            });
            if is_right {
                self.sound += 1;
                self.bytes += bytes;
            } else {
                self.fault(&database.path, Some(checked.id), "it is whole, and what is listed of it is wrong");
            }
        }
        Ok(())
    }
}

fn quick_check(database: &Database) -> Result<Vec<String>, Failure> {
    let read = (|| {
        let mut statement = database.connection.prepare("PRAGMA quick_check(100)")?;
        statement.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<Vec<String>>>()
    })();
    let findings = read.map_err(|error| database.failure(error))?;
    Ok(findings.into_iter().filter(|finding| finding != "ok").collect())
}

fn read_listing(database: &Database) -> Result<BTreeMap<i64, Listed>, Failure> {
    let read = (|| {
        let sql = "SELECT pair, state, score, human, bytes, synced, trusted_ms FROM listing";
        let mut statement = database.connection.prepare(sql)?;
        let rows = statement.query_map([], |row| Ok((row.get(0)?, listed(row)?)))?;
        rows.collect::<rusqlite::Result<BTreeMap<i64, Listed>>>()
    })();
    read.map_err(|error| database.failure(error))
}

/// Reads the columns behind the name.
pub(crate) fn listed(row: &rusqlite::Row<'_>) -> rusqlite::Result<Listed> {
    Ok(Listed {
        state: database::state_of(row.get(1)?),
        score: row.get(2)?,
        human: row.get(3)?,
        bytes: row.get::<_, i64>(4)?.unsigned_abs(),
        is_synced: row.get::<_, i64>(5)? == database::SYNCED,
        trusted_ms: row.get(6)?,
    })
}
