//! What is written, one row at a time, inside of a transaction.

use rusqlite::{Connection, OptionalExtension, params};

use super::{Mark, NOTHING_BY_HUMANS, REJECTED, Row};
use crate::event::{self, Event, Human, Standing};
use crate::pair::{PairId, State};

/// Rows of the table of marks.
pub(super) const LAST_NAME: i64 = 1;
pub(super) const REPLACES: i64 = 2;
pub(super) const COMMITS: i64 = 3;

pub(crate) fn insert_pair(connection: &Connection, row: &Row) -> rusqlite::Result<()> {
    connection.execute(
        "INSERT OR REPLACE INTO pairs (id, sha256, facts, jpeg) VALUES (?1, ?2, ?3, ?4)",
        params![row.id.to_row(), row.sha256, row.facts, row.jpeg],
    )?;
    connection.execute(
        "INSERT OR REPLACE INTO listing (pair, state, score, human, bytes, synced, trusted_ms)
         VALUES (?1, ?2, ?3, ?4, ?5, 0, ?6)",
        params![
            row.id.to_row(),
            state_column(row.standing.state),
            f64::from(row.standing.score),
            human_column(row.standing.human),
            i64::try_from(row.bytes()).unwrap_or(i64::MAX),
            row.trusted_ms,
        ],
    )?;
    Ok(())
}

/// Changes what is listed of a pair. A pair with a new label is no longer what was synced.
pub(crate) fn relist(connection: &Connection, id: PairId, standing: Standing) -> rusqlite::Result<()> {
    let sql = "UPDATE listing SET state = ?2, human = ?3, score = ?4, synced = 0 WHERE pair = ?1";
    let (state, human) = (state_column(standing.state), human_column(standing.human));
    connection.execute(sql, params![id.to_row(), state, human, f64::from(standing.score)]).map(drop)
}

pub(crate) fn write_mark(connection: &Connection, mark: &Mark) -> rusqlite::Result<()> {
    write_value(connection, LAST_NAME, mark)
}

pub(crate) fn write_replaces(connection: &Connection, number: u32) -> rusqlite::Result<()> {
    write_value(connection, REPLACES, &number)
}

/// Counts a commit, as the last statement of every transaction: the count tells which of a database and its log is ahead.
pub(super) fn count_commit(connection: &Connection) -> rusqlite::Result<()> {
    let sql = "SELECT value FROM marks WHERE id = ?1";
    let value = connection.query_row(sql, [COMMITS], |row| row.get::<_, Vec<u8>>(0)).optional()?;
    let count: u64 = value.and_then(|value| serde_json::from_slice(&value).ok()).unwrap_or(0);
    write_value(connection, COMMITS, &(count + 1))
}

fn write_value<T: serde::Serialize>(connection: &Connection, id: i64, value: &T) -> rusqlite::Result<()> {
    let value = serde_json::to_vec(value).expect("marks are plain values");
    let sql = "INSERT OR REPLACE INTO marks (id, sha256, value) VALUES (?1, ?2, ?3)";
    connection.execute(sql, params![id, event::hash(&value), value]).map(drop)
}

pub(crate) fn insert_event(connection: &Connection, event: &Event) -> rusqlite::Result<()> {
    let facts = serde_json::to_vec(event).expect("an event is plain values");
    let sql = "INSERT INTO events (pair, sha256, facts) VALUES (?1, ?2, ?3)";
    connection.execute(sql, params![event.pair.to_row(), event::hash(&facts), facts]).map(drop)
}

/// Adds to a counter of this database.
pub(crate) fn count(connection: &Connection, number: u32, name: &str, more: u64) -> rusqlite::Result<()> {
    let sql = "INSERT INTO counters (file, name, count) VALUES (?1, ?2, ?3)
               ON CONFLICT (file, name) DO UPDATE SET count = count + excluded.count";
    connection.execute(sql, params![number, name, i64::try_from(more).unwrap_or(i64::MAX)]).map(drop)
}

fn state_column(state: State) -> i64 {
    match state {
        State::Kept => 0,
        State::Rejected => REJECTED,
    }
}

/// What the column says of a state; a value that is neither is that of a pair which is kept.
pub(crate) fn state_of(column: i64) -> State {
    if column == REJECTED { State::Rejected } else { State::Kept }
}

pub(crate) fn human_column(human: Human) -> i64 {
    match human {
        Human::Text => 0,
        Human::Nothing => NOTHING_BY_HUMANS,
    }
}
