//! What is stored, for those who only look. Another process may write meanwhile.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use blip::caption::Origin;
use rusqlite::OptionalExtension;

use crate::database::{self, Access, Database};
use crate::error::{Failure, StoreError};
use crate::event::{self, Event, Standing};
use crate::folder::{self, Kind};
use crate::pair::{self, Decision, PairFacts, PairId, State, Text};
use crate::verify::{self, Verification};

/// From where a list starts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// In the order of the names.
    #[default]
    OldestFirst,
    /// The other way round.
    NewestFirst,
}

/// Which pairs are listed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Only those in this state.
    pub state: Option<State>,
    /// In which order.
    pub order: Order,
    /// Only those behind this one in the order.
    pub since: Option<PairId>,
    /// Only those whose picture is kept.
    pub with_picture: bool,
    /// Only those whose copy is not at home.
    pub unsynced: bool,
    /// At most so many; 0 for 100.
    pub limit: usize,
}

/// A pair as it is listed. Nothing here was checked against a hash: [`Reader::get`] does that.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Its name.
    pub id: PairId,
    /// What becomes of it.
    pub state: State,
    /// The score that decides what is evicted.
    pub score: f32,
    /// Whether a person wrote about it.
    pub has_human_text: bool,
    /// Bytes of picture and facts.
    pub bytes: u64,
    /// Whether its copy is at home.
    pub is_synced: bool,
    /// What is known about it, if it can be read.
    pub facts: Option<PairFacts>,
}

/// A pair whose hash is right.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredPair {
    /// Everything but the picture.
    pub facts: PairFacts,
    /// The picture; nothing where the filter rejected it and its texts alone are kept.
    pub jpeg: Option<Vec<u8>>,
    /// SHA-256 over both, as [`crate::pair`] states.
    pub sha256: [u8; 32],
    /// Its labels, in their order.
    pub labels: Vec<crate::event::Label>,
}

/// A pair as its bytes stand on the disk, so that the hash of a copy is the same. Checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Original {
    /// Its name.
    pub id: PairId,
    /// SHA-256 over facts and picture, as [`crate::pair_hash`] states.
    pub sha256: [u8; 32],
    /// [`PairFacts`] as JSON.
    pub facts: Vec<u8>,
    /// The picture; empty where the texts alone are kept.
    pub jpeg: Vec<u8>,
    /// Its labels, in their order.
    pub labels: Vec<crate::event::Label>,
}

impl StoredPair {
    /// What becomes of it: the filter's word, or the last person's.
    pub fn state(&self) -> State {
        Standing::of(&self.facts, &self.labels).state
    }

    /// The texts that go with its picture, people's first, then by score: those that the filter kept and those that people
    /// added, or from the last rewriting on only people's. Of an accepted pair of which the filter kept no text, the best.
    pub fn texts(&self) -> Vec<Text> {
        event::texts(&self.facts, &self.labels)
    }
}

/// What can be counted without reading the pairs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Pairs that are kept.
    pub kept: u64,
    /// Pairs that are rejected.
    pub rejected: u64,
    /// Pairs that people wrote about.
    pub human: u64,
    /// Pairs whose copy is not at home.
    pub unsynced: u64,
    /// Bytes of pictures and facts.
    pub bytes: u64,
}

/// Counts over everything that is stored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Databases that could be read.
    pub files: usize,
    /// Databases that could not, or not yet by this version.
    pub unreadable: Vec<PathBuf>,
    /// Bytes in the folder.
    pub disk_bytes: u64,
    /// Bytes of pictures and facts.
    pub bytes: u64,
    /// Pairs by state.
    pub states: BTreeMap<State, u64>,
    /// Rejected pairs of which only the texts are kept.
    pub without_picture: u64,
    /// Pairs whose copy is at home.
    pub synced: u64,
    /// Pairs that people wrote about.
    pub human: u64,
    /// Texts that are kept and that are rejected, by origin.
    pub origins: BTreeMap<Origin, [u64; 2]>,
    /// Pairs that are gone, by reason: "synced", "rejected", "lowest score", "forgotten", "expired", "replaced", "lost".
    pub gone: BTreeMap<String, u64>,
    /// Tombstones that were not heeded yet.
    pub tombstones: u64,
}

impl Stats {
    /// Pairs that are here.
    pub fn pairs(&self) -> u64 {
        self.states.values().sum()
    }

    /// Share of texts that were rejected, of one origin; nothing without texts.
    pub fn share_of_rejects(&self, origin: Origin) -> Option<f64> {
        let [kept, rejected] = self.origins.get(&origin)?;
        Some(*rejected as f64 / (kept + rejected) as f64)
    }
}

/// A folder for reading.
#[derive(Clone, Debug)]
pub struct Reader {
    path: PathBuf,
}

impl Reader {
    /// For a folder; nothing is opened yet.
    pub fn new(path: &Path) -> Reader {
        Reader { path: path.to_owned() }
    }

    /// Pairs, a page at a time: the last name of a page is the next filter's `since`. Databases that cannot be read are
    /// passed over; [`Reader::verify`] names them.
    ///
    /// # Errors
    /// A folder that cannot be read.
    pub fn list(&self, filter: Filter) -> Result<Vec<Entry>, StoreError> {
        let limit = if filter.limit == 0 { 100 } else { filter.limit };
        let mut all = Vec::new();
        for database in self.databases()?.0 {
            // What was read before a damaged place counts.
            let _ = read_entries(&database, filter, limit, &mut all);
        }
        all.sort_by_key(|entry| entry.id);
        if filter.order == Order::NewestFirst {
            all.reverse();
        }
        // A power cut may leave a salvaged database beside the old one until the next start.
        all.dedup_by_key(|entry| entry.id);
        all.truncate(limit);
        Ok(all)
    }

    /// One pair, checked.
    ///
    /// # Errors
    /// No such pair, or one that is not what was stored.
    pub fn get(&self, id: PairId) -> Result<StoredPair, StoreError> {
        self.get_many(&[id])?.pop().unwrap_or(Err(StoreError::NotThere { id }))
    }

    /// Pairs, each checked, in the order of the names. Opens each database once.
    ///
    /// # Errors
    /// A folder that cannot be read; for each pair, that it is not there, or not what was stored.
    pub fn get_many(&self, ids: &[PairId]) -> Result<Vec<Result<StoredPair, StoreError>>, StoreError> {
        let mut all: Vec<_> = ids.iter().map(|id| Err(StoreError::NotThere { id: *id })).collect();
        for database in self.databases()?.0 {
            for (id, place) in ids.iter().zip(&mut all).filter(|(_, place)| place.is_err()) {
                match read_pair(&database, *id) {
                    Ok(Some(pair)) => *place = Ok(pair),
                    Ok(None) => {}
                    Err(failure) => *place = Err(failure.into_error(&database.path)),
                }
            }
        }
        Ok(all)
    }

    /// Pairs as they stand on the disk, in the order of the names; those that are not there, or not what was stored, are
    /// passed over.
    ///
    /// # Errors
    /// A folder that cannot be read.
    pub fn originals(&self, ids: &[PairId]) -> Result<Vec<Original>, StoreError> {
        let mut all = Vec::new();
        for database in self.databases()?.0 {
            all.extend(ids.iter().filter_map(|id| read_original(&database, *id).ok()?).map(|(original, _)| original));
        }
        all.sort_by_key(|original| original.id);
        all.dedup_by_key(|original| original.id);
        Ok(all)
    }

    /// Tombstones that were not heeded yet.
    ///
    /// # Errors
    /// A folder that cannot be read.
    pub fn tombstones(&self) -> Result<Vec<Event>, StoreError> {
        let mut all = Vec::new();
        for database in self.databases()?.0 {
            all.extend(database.tombstones().map_err(|failure| failure.into_error(&database.path))?);
        }
        Ok(all)
    }

    /// Counts what is listed; the pairs themselves are not read.
    ///
    /// # Errors
    /// A folder that cannot be read.
    pub fn counts(&self) -> Result<Counts, StoreError> {
        let mut counts = Counts::default();
        for database in self.databases()?.0 {
            // What was read before a damaged place counts.
            let _ = count_listed(&database, &mut counts);
        }
        Ok(counts)
    }

    /// Counts everything; reads the facts of every pair.
    ///
    /// # Errors
    /// A folder that cannot be read.
    pub fn stats(&self) -> Result<Stats, StoreError> {
        let (databases, faults) = self.databases()?;
        let mut stats = Stats { files: databases.len(), ..Stats::default() };
        stats.unreadable = faults.faults.into_iter().map(|fault| fault.path).collect();
        for kind in [Kind::Pairs, Kind::Damaged] {
            let numbers = folder::numbers(&self.path, kind)?;
            stats.disk_bytes +=
                numbers.into_iter().map(|number| folder::bytes(&folder::place(&self.path, kind, number))).sum::<u64>();
        }
        let mut counters = BTreeMap::new();
        for database in &databases {
            if count(database, &mut stats, &mut counters).is_err() {
                stats.unreadable.push(database.path.clone());
            }
        }
        for ((_, name), count) in counters {
            *stats.gone.entry(name).or_default() += count;
        }
        Ok(stats)
    }

    /// Recomputes every hash, and checks the databases' trees and listings.
    ///
    /// # Errors
    /// A folder that cannot be read.
    pub fn verify(&self) -> Result<Verification, StoreError> {
        let (databases, mut all) = self.databases()?;
        for database in databases {
            all.check(&database);
        }
        Ok(all)
    }

    /// The databases that open, and what is wrong with the others.
    fn databases(&self) -> Result<(Vec<Database>, Verification), StoreError> {
        let mut open = Vec::new();
        let mut faults = Verification::default();
        for number in folder::numbers(&self.path, Kind::Pairs)? {
            let mut opened = Database::open(&self.path, number, Access::Read);
            if matches!(opened, Err(Failure::Trouble(_))) {
                opened = Database::open(&self.path, number, Access::ReadOnlyDisk);
            }
            match opened {
                Ok(database) => open.push(database),
                Err(failure) => {
                    let path = folder::place(&self.path, Kind::Pairs, number);
                    // The writer may have removed or salvaged it since it was listed.
                    if path.exists() {
                        faults.fault(&path, None, failure.into_error(&path).to_string());
                    }
                }
            }
        }
        Ok((open, faults))
    }
}

impl From<Reader> for PathBuf {
    fn from(reader: Reader) -> PathBuf {
        reader.path
    }
}

fn read_entries(database: &Database, filter: Filter, limit: usize, all: &mut Vec<Entry>) -> Result<(), Failure> {
    let to_failure = |error| database.failure(error);
    let (behind, order) = match filter.order {
        Order::OldestFirst => ("pair > ?1", ""),
        Order::NewestFirst => ("pair < ?1", "DESC"),
    };
    let sql = format!(
        "SELECT pair, state, score, human, bytes, synced, trusted_ms, facts
         FROM listing LEFT JOIN pairs ON pairs.id = listing.pair WHERE {behind} ORDER BY pair {order}"
    );
    let mut statement = database.connection.prepare(&sql).map_err(to_failure)?;
    let start = if filter.order == Order::OldestFirst { -1 } else { i64::MAX };
    let since = filter.since.map_or(start, PairId::to_row);
    let mut rows = statement.query([since]).map_err(to_failure)?;
    let mut taken = 0;
    while let Some(row) = rows.next().map_err(to_failure)? {
        let listed = verify::listed(row).map_err(to_failure)?;
        let id: i64 = row.get(0).map_err(to_failure)?;
        let Some(id) = PairId::from_row(id) else { continue };
        let is_wanted = filter.state.is_none_or(|state| state == listed.state);
        if !is_wanted || filter.unsynced && listed.is_synced {
            continue;
        }
        let facts = row.get_ref(7).ok().and_then(|facts| serde_json::from_slice(facts.as_blob().ok()?).ok());
        if filter.with_picture && !facts.as_ref().is_none_or(PairFacts::has_picture) {
            continue;
        }
        all.push(Entry {
            id,
            state: listed.state,
            score: listed.score as f32,
            has_human_text: listed.human != database::NOTHING_BY_HUMANS,
            bytes: listed.bytes,
            is_synced: listed.is_synced,
            facts,
        });
        taken += 1;
        if taken == limit {
            break;
        }
    }
    Ok(())
}

fn read_pair(database: &Database, id: PairId) -> Result<Option<StoredPair>, Failure> {
    Ok(read_original(database, id)?.map(|(original, facts)| {
        let Original { sha256, jpeg, labels, .. } = original;
        let jpeg = facts.has_picture().then_some(jpeg);
        StoredPair { facts, jpeg, sha256, labels }
    }))
}

fn read_original(database: &Database, id: PairId) -> Result<Option<(Original, PairFacts)>, Failure> {
    let sql = "SELECT sha256, facts, jpeg FROM pairs WHERE id = ?1";
    let read = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?));
    let found = database.connection.query_row(sql, [id.to_row()], read).optional();
    let found: Option<(Vec<u8>, Vec<u8>, Vec<u8>)> = found.map_err(|error| database.failure(error))?;
    let Some((sha256, facts, jpeg)) = found else {
        // Listed and not there is damage, not absence.
        let missing = || Failure::Damaged(format!("pair {id} is listed and not there"));
        return if database.has(id)? { Err(missing()) } else { Ok(None) };
    };
    let damaged = || Failure::Damaged(format!("pair {id} is not what was stored"));
    let checked = pair::checked(id.to_row(), &sha256, &facts, &jpeg).ok_or_else(damaged)?;
    let sha256 = sha256.try_into().map_err(|_| damaged())?;
    let labels = database.events(id)?.iter().filter_map(Event::label).cloned().collect();
    Ok(Some((Original { id, sha256, facts, jpeg, labels }, checked)))
}

fn count_listed(database: &Database, counts: &mut Counts) -> Result<(), Failure> {
    let read = (|| {
        let sql = "SELECT pair, state, score, human, bytes, synced, trusted_ms FROM listing";
        let mut statement = database.connection.prepare(sql)?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let listed = verify::listed(row)?;
            *(if listed.state == State::Kept { &mut counts.kept } else { &mut counts.rejected }) += 1;
            counts.human += u64::from(listed.human != database::NOTHING_BY_HUMANS);
            counts.unsynced += u64::from(!listed.is_synced);
            counts.bytes += listed.bytes;
        }
        Ok(())
    })();
    read.map_err(|error| database.failure(error))
}

fn count(database: &Database, stats: &mut Stats, counters: &mut BTreeMap<(u32, String), u64>) -> Result<(), Failure> {
    let counted = (|| {
        let mut statement = database.connection.prepare(
            "SELECT pair, state, score, human, bytes, synced, trusted_ms, facts
             FROM listing LEFT JOIN pairs ON pairs.id = listing.pair",
        )?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let listed = verify::listed(row)?;
            *stats.states.entry(listed.state).or_default() += 1;
            stats.bytes += listed.bytes;
            stats.synced += u64::from(listed.is_synced);
            stats.human += u64::from(listed.human != database::NOTHING_BY_HUMANS);
            let facts = row.get_ref(7)?.as_blob().ok().and_then(|facts| serde_json::from_slice(facts).ok());
            stats.without_picture += u64::from(facts.as_ref().is_some_and(|facts: &PairFacts| !facts.has_picture()));
            for text in facts.iter().flat_map(|facts| &facts.texts) {
                let place = usize::from(text.decision != Decision::Kept);
                stats.origins.entry(text.origin).or_default()[place] += 1;
            }
        }
        let mut statement = database.connection.prepare("SELECT file, name, count FROM counters")?;
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get::<_, i64>(2)?)))?;
        for counter in rows {
            let (file, name, count) = counter?;
            // A counter that moved when its database was deleted may be in two places for a moment.
            let known: &mut u64 = counters.entry((file, name)).or_default();
            *known = (*known).max(count.unsigned_abs());
        }
        Ok(())
    })();
    counted.map_err(|error| database.failure(error))?;
    stats.tombstones += database.tombstones()?.len() as u64;
    Ok(())
}
