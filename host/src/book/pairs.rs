//! Pairs as they are written down, with what people said of them on the board and here.

use exchange::{DeviceName, Digest};
use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};
use store::{ClockQuality, Label, LabelAction, PairFacts, Stamp, State, StoredPair, Text};

use super::{Book, BookError};

/// A pair that came home.
#[derive(Clone, Debug, PartialEq)]
pub struct HomePair {
    /// Its place in the order of arrival.
    pub number: i64,
    /// Its board.
    pub device: String,
    /// The shard that holds it.
    pub shard: Digest,
    /// Where in the shard its picture begins, in bytes; nothing where it has none.
    pub picture_at: Option<u64>,
    /// When it arrived, seconds since 1970.
    pub arrived_s: i64,
    /// Facts and labels, without the picture. The board's labels stand first and the host's after them, so that the
    /// host's last word counts, also over what the board says later.
    pub pair: StoredPair,
    /// How many of the labels are the board's.
    pub board_labels: usize,
    /// The facts, as the hash covers them.
    pub(crate) facts: Vec<u8>,
}

/// Whose word made a pair what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Word {
    /// The board's filter.
    Filter,
    /// Somebody at the board.
    Board,
    /// The host's operator.
    Host,
}

impl Word {
    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Word::Filter => "filter",
            Word::Board => "board",
            Word::Host => "host",
        }
    }
}

impl HomePair {
    /// Its hash, by which it is known.
    pub fn sha256(&self) -> Digest {
        Digest::from(self.pair.sha256)
    }

    /// What becomes of it.
    pub fn state(&self) -> State {
        self.pair.state()
    }

    /// The texts that go with its picture, the best first.
    pub fn texts(&self) -> Vec<Text> {
        self.pair.texts()
    }

    /// Who said the last word about it.
    pub fn word(&self) -> Word {
        match (self.pair.labels.len() > self.board_labels, self.board_labels > 0) {
            (true, _) => Word::Host,
            (false, true) => Word::Board,
            (false, false) => Word::Filter,
        }
    }

    /// The day on which it was taken, in UTC, as in `2026-01-31`; nothing where nobody had set the board's clock.
    pub fn day(&self) -> Option<String> {
        day_of_ms(self.pair.facts.taken.trusted_ms()?)
    }
}

/// The day of a moment, in UTC; nothing outside the years that a calendar has.
fn day_of_ms(moment_ms: i64) -> Option<String> {
    let time = jiff::Timestamp::from_millisecond(moment_ms).ok()?;
    Some(time.to_zoned_datetime(jiff::tz::TimeZone::UTC).date().to_string())
}

/// The day of a moment (seconds since 1970), in UTC, as in `2026-01-31`.
pub fn day_of(moment_s: i64) -> String {
    moment_s.checked_mul(1000).and_then(day_of_ms).unwrap_or_else(|| "an unknown day".to_owned())
}

const COLUMNS: &str = "number, sha256, device, shard, picture_at, facts, labels, at_s";
/// What an operator deleted is gone from the moment at which it was decided.
const THERE: &str = "NOT EXISTS (SELECT 1 FROM erased WHERE erased.sha256 = pairs.sha256)";

impl Book {
    /// Pairs in the order of their arrival.
    pub(crate) fn pairs_after(
        &self,
        after: i64,
        device: Option<&DeviceName>,
        limit: usize,
    ) -> Result<Vec<HomePair>, BookError> {
        let sql = format!(
            "SELECT {COLUMNS} FROM pairs WHERE number > ?1 AND (?2 IS NULL OR device = ?2) AND {THERE} ORDER BY number LIMIT ?3"
        );
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        self.read(|connection| {
            let mut statement = connection.prepare_cached(&sql)?;
            let rows = statement
                .query_map(params![after, device.map(DeviceName::as_str), limit], |row| pair(connection, row))?;
            rows.collect()
        })
    }

    /// The pairs that arrived last, the last one first.
    pub(crate) fn last_pairs(&self, limit: usize) -> Result<Vec<HomePair>, BookError> {
        let sql = format!("SELECT {COLUMNS} FROM pairs WHERE {THERE} ORDER BY number DESC LIMIT ?1");
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        self.read(|connection| connection.prepare(&sql)?.query_map([limit], |row| pair(connection, row))?.collect())
    }

    /// Up to two pairs whose hashes lie between these two.
    pub(crate) fn pairs_between(&self, first: [u8; 32], last: [u8; 32]) -> Result<Vec<HomePair>, BookError> {
        let sql = format!("SELECT {COLUMNS} FROM pairs WHERE sha256 BETWEEN ?1 AND ?2 AND {THERE} LIMIT 2");
        self.read(|connection| {
            connection.prepare(&sql)?.query_map([first, last], |row| pair(connection, row))?.collect()
        })
    }

    /// Up to two pairs that a board calls so.
    pub(crate) fn pairs_called(&self, device: &DeviceName, id: store::PairId) -> Result<Vec<HomePair>, BookError> {
        let sql = format!("SELECT {COLUMNS} FROM pairs WHERE device = ?1 AND pair = ?2 AND {THERE} LIMIT 2");
        self.read(|connection| {
            let name = params![device.as_str(), id.to_string()];
            connection.prepare(&sql)?.query_map(name, |row| pair(connection, row))?.collect()
        })
    }

    /// Whether the host's operator deleted a pair.
    pub(crate) fn is_erased(&self, pair: Digest) -> Result<bool, BookError> {
        let sql = "SELECT 1 FROM erased WHERE sha256 = ?1";
        let read = |connection: &Connection| connection.query_row(sql, [pair.bytes()], |_| Ok(())).optional();
        self.read(read).map(|found| found.is_some())
    }
}

fn pair(connection: &Connection, row: &Row<'_>) -> rusqlite::Result<HomePair> {
    let sha256: [u8; 32] = row.get(1)?;
    let facts: Vec<u8> = row.get(5)?;
    let mut labels: Vec<Label> = parsed(6, &row.get::<_, Vec<u8>>(6)?)?;
    let board_labels = labels.len();
    labels.extend(host_labels(connection, sha256)?);
    Ok(HomePair {
        number: row.get(0)?,
        device: row.get(2)?,
        shard: row.get::<_, [u8; 32]>(3)?.into(),
        picture_at: row.get::<_, Option<i64>>(4)?.map(i64::unsigned_abs),
        arrived_s: row.get(7)?,
        pair: StoredPair { facts: parsed::<PairFacts>(5, &facts)?, jpeg: None, sha256, labels },
        board_labels,
        facts,
    })
}

fn host_labels(connection: &Connection, sha256: [u8; 32]) -> rusqlite::Result<Vec<Label>> {
    let sql = "SELECT action, at_s FROM host_labels WHERE sha256 = ?1 ORDER BY number";
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement.query_map([sha256], |row| {
        let (action, at_s): (String, i64) = (row.get(0)?, row.get(1)?);
        let at = Stamp { since_boot_ms: 0, wall_ms: at_s.checked_mul(1000), quality: ClockQuality::Guessed };
        Ok(Label { action: parsed::<LabelAction>(0, action.as_bytes())?, by: None, at })
    })?;
    rows.collect()
}

fn parsed<T: serde::de::DeserializeOwned>(column: usize, bytes: &[u8]) -> rusqlite::Result<T> {
    let fault = |error| rusqlite::Error::FromSqlConversionFailure(column, Type::Blob, Box::new(error));
    serde_json::from_slice(bytes).map_err(fault)
}

/// Writes down what the host's operator says of a pair.
pub(crate) fn insert_host_label(
    transaction: &Transaction<'_>,
    pair: Digest,
    action: &LabelAction,
    at_s: i64,
) -> rusqlite::Result<()> {
    let action = serde_json::to_string(action).expect("an action is plain values");
    let sql = "INSERT INTO host_labels (sha256, action, at_s) VALUES (?1, ?2, ?3)";
    transaction.execute(sql, params![pair.bytes(), action, at_s]).map(drop)
}
