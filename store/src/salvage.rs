//! What is intact goes from a damaged database into a new one, pair by pair; the old one is set aside.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use rusqlite::{Connection, OpenFlags};

use crate::carve::{Found, Pages, Range};
use crate::database::{self, Database, Mark, Row, SYNCED};
use crate::error::{self, Failure};
use crate::event::{Change, Event, Label, Standing};
use crate::folder::{self, Folder, Kind};
use crate::pair::{PairFacts, PairId};

/// Bytes of pairs that are written in one transaction.
const GROUP_BYTES: u64 = 4 << 20;

/// Names that may be missing behind the last one that is known: those of the groups in a log.
const LIKELY_GAP: u64 = 1 << 12;

/// What came of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Salvaged {
    /// How many pairs are in the new database.
    pub(crate) pairs: u64,
    /// Pairs that were in the old one and are not in the new one.
    pub(crate) lost: Vec<PairId>,
    /// Where the old one is now.
    pub(crate) set_aside: Option<PathBuf>,
}

/// Everything that is small, read from every page there is.
#[derive(Default)]
struct Inventory {
    /// Pairs that were there, and whether their copies are at home.
    listed: BTreeMap<PairId, bool>,
    /// Whether the listing was read in its order: then nothing else was there.
    is_complete: bool,
    /// By their number.
    events: BTreeMap<i64, Event>,
    forgotten: BTreeSet<PairId>,
    mark: Option<Mark>,
    counters: Vec<(u32, String, u64)>,
}

/// Makes `new` out of `number`. A power cut at any moment leaves the old one, or both, and the new one names the old one.
pub(crate) fn salvage(folder: &Folder, number: u32, new: u32) -> Result<Salvaged, Failure> {
    let path = folder::place(folder.path(), Kind::Pairs, number);
    let to_trouble = |error: std::io::Error| Failure::Trouble(error::of_system(folder.path(), &error));
    let pages = Pages::open(&path).map_err(to_trouble)?;
    let inventory = Inventory::take(&path, &pages);
    let mut database = Database::prepare(folder, new, Kind::Salvaging)?;
    let salvaged = fill(&mut database, number, &inventory, &pages)?;
    database.fold_wholly()?;
    database.close();
    folder.rename(new, Kind::Salvaging, Kind::Pairs).map_err(Failure::Trouble)?;
    let set_aside = folder.rename(number, Kind::Pairs, Kind::Damaged).map_err(Failure::Trouble)?;
    Ok(Salvaged { set_aside: Some(set_aside), ..salvaged })
}

impl Inventory {
    fn take(path: &std::path::Path, pages: &Pages) -> Inventory {
        let mut inventory = Inventory::default();
        let mut carved = BTreeMap::new();
        pages.carve(Range::Everything, |found| match found {
            Found::Listed { id, is_synced } => {
                carved.entry(id).and_modify(|synced| *synced &= is_synced).or_insert(is_synced);
            }
            Found::Event { number, event } => {
                if event.is_tombstone() {
                    inventory.forgotten.insert(event.pair);
                }
                inventory.events.insert(number, event);
            }
            Found::Mark(mark) => {
                if inventory.mark.as_ref().is_none_or(|known| known.last < mark.last) {
                    inventory.mark = Some(mark);
                }
            }
            Found::Pair { .. } | Found::BrokenPair(_) | Found::Commits(_) => {}
        });
        // After the pages, whose reading waits for a disk that fails for a moment. With a fault in the log SQLite may see old
        // pages of the log over new ones of the database.
        let listed = read_listing(path).filter(|_| !pages.log().has_more());
        inventory.is_complete = listed.is_some();
        inventory.listed = listed.unwrap_or(carved);
        inventory.counters = read_counters(path).unwrap_or_default();
        inventory
    }

    /// Whether a pair that was found is one of those that were there. Where the listing is not complete, a pair that
    /// was removed may come back; one that was forgotten may not.
    fn wants(&self, id: PairId) -> bool {
        !self.forgotten.contains(&id) && (!self.is_complete || self.listed.contains_key(&id))
    }

    fn labels(&self, id: PairId) -> impl Iterator<Item = &Label> {
        self.events.values().filter(move |event| event.pair == id).filter_map(Event::label)
    }
}

fn fill(database: &mut Database, old: u32, inventory: &Inventory, pages: &Pages) -> Result<Salvaged, Failure> {
    let mut group: Vec<Row> = Vec::new();
    let mut stored = BTreeSet::new();
    let mut broken = BTreeSet::new();
    let mut outcome = Ok(());
    pages.carve(Range::Everything, |found| match found {
        Found::Pair { facts, bytes, jpeg, sha256 } => {
            if outcome.is_err() || !inventory.wants(facts.id) || !stored.insert(facts.id) {
                return;
            }
            group.push(Row::stored(&facts, bytes, jpeg, sha256, inventory.labels(facts.id)));
            if group.iter().map(Row::bytes).sum::<u64>() >= GROUP_BYTES {
                outcome = write(database, &mut group, inventory);
            }
        }
        Found::BrokenPair(id) => {
            broken.insert(id);
        }
        _ => {}
    });
    outcome?;
    write(database, &mut group, inventory)?;
    // Broken cells say nothing where the listing is complete: they may lie on pages that nobody uses.
    let known = inventory.listed.keys().chain(broken.iter().filter(|_| !inventory.is_complete));
    let lost: BTreeSet<PairId> = known.filter(|id| inventory.wants(**id) && !stored.contains(id)).copied().collect();
    let number = database.number;
    let known = stored.last().copied().max(inventory.mark.as_ref().map(|mark| mark.last));
    let last = last_likely(lost.iter().copied(), known);
    database.change(|connection| {
        for event in inventory.events.values() {
            if event.is_tombstone() || stored.contains(&event.pair) {
                database::insert_event(connection, event)?;
            }
        }
        for (file, name, count) in &inventory.counters {
            database::count(connection, *file, name, *count)?;
        }
        if let Some(last) = last {
            // Where the boot is not known any more, the next name is of a new one.
            let mark = inventory.mark.as_ref().filter(|mark| mark.last == last);
            let boot_id = mark.map(|mark| mark.boot_id.clone()).unwrap_or_default();
            database::write_mark(connection, &Mark { last, boot_id })?;
        }
        database::write_replaces(connection, old)?;
        database::count(connection, number, "lost", lost.len() as u64)
    })?;
    Ok(Salvaged { pairs: stored.len() as u64, lost: lost.into_iter().collect(), set_aside: None })
}

fn write(database: &mut Database, group: &mut Vec<Row>, inventory: &Inventory) -> Result<(), Failure> {
    database.change(|connection| {
        for row in group.iter() {
            database::insert_pair(connection, row)?;
            if inventory.listed.get(&row.id) == Some(&true) {
                let sql = "UPDATE listing SET synced = ?2 WHERE pair = ?1";
                connection.execute(sql, rusqlite::params![row.id.to_row(), SYNCED])?;
            }
        }
        Ok(())
    })?;
    group.clear();
    // The log of a whole database would be as large as the database.
    database.fold()
}

/// The last name that was given, as far as can be told: a lost one counts if it follows the last one that is known. A
/// damaged listing may have any other.
pub(crate) fn last_likely(lost: impl Iterator<Item = PairId>, known: Option<PairId>) -> Option<PairId> {
    let follows = |id: &PairId| {
        known.is_none_or(|known| {
            id.boot() == known.boot() && id.sequence().saturating_sub(known.sequence()) <= LIKELY_GAP
        })
    };
    lost.filter(follows).max().max(known)
}

/// The last name in a database that is not opened, so that it is not given again.
pub(crate) fn last_name(path: &std::path::Path) -> Option<PairId> {
    let mut last = None;
    Pages::open(path).ok()?.carve(Range::Everything, |found| {
        let id = match found {
            Found::Pair { facts, .. } => Some(facts.id),
            Found::Mark(mark) => Some(mark.last),
            Found::BrokenPair(_) | Found::Listed { .. } | Found::Event { .. } | Found::Commits(_) => None,
        };
        last = last.max(id);
    });
    last
}

/// Stores intact pairs and labels of a commit that the power cut short, or whose end was damaged before it was folded in:
/// SQLite does not look there. `pages` were opened before SQLite saw the log, and are read before anything is written.
pub(crate) fn rescue(database: &mut Database, pages: &Pages) -> Result<Salvaged, Failure> {
    let mut rows = Vec::new();
    let mut listed = BTreeSet::new();
    let mut events = Vec::new();
    let mut mark = None;
    pages.carve(Range::BehindTheLog, |found| match found {
        Found::Pair { facts, bytes, jpeg, sha256 } => {
            rows.push(Row::stored(&facts, bytes, jpeg, sha256, []));
        }
        Found::Listed { id, .. } => {
            listed.insert(id);
        }
        Found::Event { event, .. } => events.push(event),
        Found::Mark(found) => {
            if mark.as_ref().is_none_or(|known: &Mark| known.last < found.last) {
                mark = Some(found);
            }
        }
        Found::BrokenPair(_) | Found::Commits(_) => {}
    });
    let mut outcome = Salvaged::default();
    let mut fresh: Vec<Row> = Vec::new();
    for row in rows {
        if !database.has(row.id)? && fresh.iter().all(|known| known.id != row.id) {
            fresh.push(row);
        }
    }
    fresh.retain(|row| !is_forgotten(database, row.id));
    for id in listed {
        if !database.has(id)? && fresh.iter().all(|row| row.id != id) && !is_forgotten(database, id) {
            outcome.lost.push(id);
        }
    }
    // Names of pairs that are not there were given nevertheless.
    if let Some(mark) = mark.filter(|_| !outcome.lost.is_empty())
        && database.mark()?.is_none_or(|known| known.last < mark.last)
    {
        database.change(|connection| database::write_mark(connection, &mark))?;
    }
    outcome.pairs = fresh.len() as u64;
    if !fresh.is_empty() {
        database.insert(&fresh)?;
    }
    for event in events {
        let known = database.events(event.pair)?;
        if !known.contains(&event) && database.has(event.pair)? {
            let labels: Vec<Label> = known.iter().chain([&event]).filter_map(Event::label).cloned().collect();
            relabel(database, &event, &labels)?;
        }
    }
    Ok(outcome)
}

fn relabel(database: &mut Database, event: &Event, labels: &[Label]) -> Result<(), Failure> {
    if matches!(event.change, Change::Forgotten(_)) {
        return Ok(());
    }
    let sql = "SELECT facts FROM pairs WHERE id = ?1";
    let read = database.connection.query_row(sql, [event.pair.to_row()], |row| row.get::<_, Vec<u8>>(0));
    let facts = read.map_err(|error| database.failure(error))?;
    let facts: PairFacts = serde_json::from_slice(&facts).map_err(|error| Failure::Damaged(error.to_string()))?;
    let standing = Standing::of(&facts, labels);
    database.change(|connection| {
        database::insert_event(connection, event)?;
        database::relist(connection, event.pair, standing)
    })
}

fn is_forgotten(database: &Database, id: PairId) -> bool {
    database.events(id).is_ok_and(|events| events.iter().any(Event::is_tombstone))
}

/// The listing in its order, if SQLite can follow it from end to end.
fn read_listing(path: &std::path::Path) -> Option<BTreeMap<PairId, bool>> {
    let connection = read_only(path)?;
    let mut statement = connection.prepare("SELECT pair, synced = ?1 FROM listing ORDER BY pair").ok()?;
    let rows = statement.query_map([SYNCED], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, bool>(1)?))).ok()?;
    let rows = rows.collect::<rusqlite::Result<Vec<_>>>().ok()?;
    rows.into_iter().map(|(row, is_synced)| Some((PairId::from_row(row)?, is_synced))).collect()
}

fn read_counters(path: &std::path::Path) -> Option<Vec<(u32, String, u64)>> {
    let connection = read_only(path)?;
    let mut statement = connection.prepare("SELECT file, name, count FROM counters").ok()?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get::<_, i64>(2)?.unsigned_abs())));
    rows.ok()?.collect::<rusqlite::Result<Vec<_>>>().ok()
}

fn read_only(path: &std::path::Path) -> Option<Connection> {
    Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX).ok()
}
