//! Room for the next group: in the active database, in pages that were freed in another, in a new one, or by eviction.
//!
//! Freed pages are written again where they are, and a database is deleted when it is empty: neither costs a write. Only
//! when the budget was lowered are databases made smaller, which moves pages.

use std::collections::BTreeMap;

use super::Store;
use crate::database::{self, Access, Database, NOTHING_BY_HUMANS, PAGE_BYTES, REJECTED, SYNCED};
use crate::error::{Failure, StoreError, Trouble};
use crate::folder::{self, Kind};
use crate::pair::PairId;

/// Share of the budget that is evicted at once, so that a commit in each database is spread over many pairs.
const EVICTED_SHARE: u64 = 64;
/// Pairs of one database that are looked at in one round.
const ROUND: u32 = 4096;
/// Share of a database that is left for labels and counters.
const SHARE_OF_LABELS: u64 = 64;
/// Pages that a group may touch besides those of its pairs.
const SPARE_PAGES: u64 = 16;

/// Who goes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    Synced,
    Rejected,
    LowestScore,
}

impl Class {
    const IN_ORDER: [Class; 3] = [Class::Synced, Class::Rejected, Class::LowestScore];

    fn reason(self) -> &'static str {
        match self {
            Class::Synced => "synced",
            Class::Rejected => "rejected",
            Class::LowestScore => "lowest score",
        }
    }

    /// Never a text by a person that is only here.
    fn query(self) -> String {
        let (which, order) = match self {
            Class::Synced => (format!("synced = {SYNCED}"), "pair"),
            Class::Rejected => (format!("state = {REJECTED} AND human = {NOTHING_BY_HUMANS}"), "pair"),
            Class::LowestScore => (format!("human = {NOTHING_BY_HUMANS}"), "score, pair"),
        };
        format!("SELECT pair, score, bytes FROM listing WHERE {which} ORDER BY {order} LIMIT {ROUND}")
    }
}

/// A pair that may go.
#[derive(Clone, Copy)]
struct Candidate {
    file: u32,
    id: PairId,
    score: f64,
    bytes: u64,
}

impl Store {
    /// Makes a database active that has room for so many bytes of pairs, and gives its number.
    pub(super) fn make_room(&mut self, bytes: u64) -> Result<u32, StoreError> {
        // Each round evicts at least one pair, and the budget has an end.
        loop {
            if let Some(number) = self.roomy_file(bytes)? {
                return Ok(number);
            }
            if self.evict(bytes)? == 0 {
                return Err(Trouble::OverBudget { folder: self.path.clone(), budget: self.limits.budget }.into());
            }
        }
    }

    fn roomy_file(&mut self, bytes: u64) -> Result<Option<u32>, StoreError> {
        // A long row wastes part of its last page, and a page of a chain has a few bytes for itself.
        let pages = bytes / u64::from(PAGE_BYTES - 4) + 2 * self.group.rows().len() as u64 + SPARE_PAGES;
        let growth = self.growth_pages();
        let file_bytes = self.limits.file_bytes.min(database::MAX_FILE_BYTES);
        let cap = (file_bytes - file_bytes / SHARE_OF_LABELS) / u64::from(PAGE_BYTES);
        let has_room = |file: &u32| {
            self.files.get(file).is_some_and(|file| {
                let free = file.free_pages + growth.min(cap.saturating_sub(file.pages));
                pages <= free
            })
        };
        let active = self.active.as_ref().map(|active| active.number);
        // Without one, the database that was written last goes on.
        let present = active.or_else(|| self.files.last_key_value().map(|(number, _)| *number));
        let freest = self.files.iter().max_by_key(|(_, file)| file.free_pages).map(|(number, _)| *number);
        let number = match present.filter(has_room).or_else(|| freest.filter(has_room)) {
            Some(number) => number,
            None if pages <= growth => self.new_file()?,
            None => return Ok(None),
        };
        if active != Some(number) {
            self.active = None;
            let opened = Database::open(&self.path, number, Access::Write);
            match opened {
                Ok(database) => self.active = Some(database),
                Err(Failure::Trouble(trouble)) => return Err(trouble.into()),
                // The caller asks again, and gets another.
                Err(failure) => self.heal(number, &failure.to_string())?,
            }
        }
        Ok(Some(number))
    }

    fn new_file(&mut self) -> Result<u32, StoreError> {
        self.active = None;
        let number = folder::last_number(&self.path)? + 1;
        let path = folder::place(&self.path, Kind::Pairs, number);
        let database = Database::make(self.folder()?, number).map_err(|failure| failure.into_error(&path))?;
        let summary = database.summary().map_err(|failure| failure.into_error(&path))?;
        self.files.insert(number, summary);
        self.active = Some(database);
        Ok(number)
    }

    /// Pages by which databases may grow within the budget. The log has its share from the beginning.
    fn growth_pages(&self) -> u64 {
        self.limits.budget.saturating_sub(self.bytes() + 2 * self.limits.log_bytes) / u64::from(PAGE_BYTES)
    }

    /// Bytes of what is in the folder and is none of the databases in use.
    pub(super) fn foreign_bytes(&self) -> u64 {
        let bytes_of = |kind| {
            let numbers = folder::numbers(&self.path, kind).unwrap_or_default();
            let others =
                numbers.into_iter().filter(move |number| kind != Kind::Pairs || !self.files.contains_key(number));
            others.map(move |number| folder::bytes(&folder::place(&self.path, kind, number))).sum::<u64>()
        };
        bytes_of(Kind::Damaged) + bytes_of(Kind::Pairs)
    }

    /// Removes what may go: first what was set aside, then pairs in the order of their classes. Returns how many went.
    fn evict(&mut self, bytes: u64) -> Result<u64, StoreError> {
        if let Some(number) = folder::numbers(&self.path, Kind::Damaged)?.first() {
            self.folder()?.remove(Kind::Damaged, *number)?;
            *self.tally.evicted.entry("set aside").or_default() += 1;
            return Ok(1);
        }
        let mut wanted = bytes.max(self.limits.budget / EVICTED_SHARE).cast_signed();
        let mut evicted = 0;
        for class in Class::IN_ORDER {
            let mut by_file: BTreeMap<u32, Vec<PairId>> = BTreeMap::new();
            for candidate in self.candidates(class)? {
                if wanted <= 0 {
                    break;
                }
                wanted -= candidate.bytes.max(u64::from(PAGE_BYTES)).cast_signed();
                by_file.entry(candidate.file).or_default().push(candidate.id);
            }
            for (file, ids) in by_file {
                let removed = self.remove(file, &ids, class.reason(), super::upkeep::Trace::Leave)?;
                *self.tally.evicted.entry(class.reason()).or_default() += removed;
                evicted += removed;
            }
        }
        self.drop_empty_files()?;
        if self.bytes() + 2 * self.limits.log_bytes > self.limits.budget {
            self.shrink()?;
        }
        Ok(evicted)
    }

    fn candidates(&mut self, class: Class) -> Result<Vec<Candidate>, StoreError> {
        let mut all = Vec::new();
        for file in self.files.keys().copied().collect::<Vec<u32>>() {
            let read = self.with_file(file, |database| {
                let read = (|| {
                    let mut statement = database.connection.prepare(&class.query())?;
                    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
                    rows.collect::<rusqlite::Result<Vec<(i64, f64, i64)>>>()
                })();
                read.map_err(|error| database.failure(error))
            });
            let rows = match read {
                // It was salvaged under another number, which is looked at in the next round.
                Err(StoreError::Damaged { .. }) => continue,
                rows => rows?,
            };
            all.extend(rows.into_iter().filter_map(|(row, score, bytes)| {
                Some(Candidate { file, id: PairId::from_row(row)?, score, bytes: bytes.unsigned_abs() })
            }));
        }
        match class {
            Class::LowestScore => all.sort_by(|a, b| a.score.total_cmp(&b.score).then(a.id.cmp(&b.id))),
            Class::Synced | Class::Rejected => all.sort_by_key(|candidate| candidate.id),
        }
        Ok(all)
    }

    /// Deletes databases without pairs. Their counters and tombstones go to another one first; counters say which
    /// database they are of, so that nothing is counted twice if the power fails in between. The one with the highest
    /// number stays, so that no number is given twice.
    pub(super) fn drop_empty_files(&mut self) -> Result<(), StoreError> {
        let active = self.active.as_ref().map(|active| active.number);
        let heir = active.or_else(|| self.files.iter().rfind(|(_, file)| file.pairs > 0).map(|(number, _)| *number));
        let Some(heir) = heir else { return Ok(()) };
        let highest = self.files.last_key_value().map(|(number, _)| *number);
        let is_kept = |number: u32| number == heir || Some(number) == highest;
        let empty = self.files.iter().filter(|(number, file)| file.pairs == 0 && !is_kept(**number));
        for number in empty.map(|(number, _)| *number).collect::<Vec<u32>>() {
            let estate = self.with_file(number, |database| Estate::take(database))?;
            self.with_file(heir, |database| estate.give(database))?;
            self.folder()?.remove(Kind::Pairs, number)?;
            self.files.remove(&number);
        }
        Ok(())
    }

    /// Gives free pages back to the file system.
    fn shrink(&mut self) -> Result<(), StoreError> {
        let with_free = self.files.iter().filter(|(_, file)| file.free_pages > 0);
        for number in with_free.map(|(number, _)| *number).collect::<Vec<u32>>() {
            self.with_file(number, |database| {
                let vacuumed = (|| {
                    let mut statement = database.connection.prepare("PRAGMA incremental_vacuum")?;
                    let mut rows = statement.query([])?;
                    while rows.next()?.is_some() {}
                    Ok(())
                })();
                vacuumed.map_err(|error| database.failure(error))?;
                database.fold_wholly()
            })?;
            self.count_pages(number)?;
        }
        Ok(())
    }

    /// Looks again how much is in a database.
    pub(super) fn count_pages(&mut self, number: u32) -> Result<(), StoreError> {
        let summary = self.with_file(number, |database| database.summary())?;
        self.files.insert(number, summary);
        Ok(())
    }
}

/// What outlives a database.
struct Estate {
    counters: Vec<(u32, String, i64)>,
    tombstones: Vec<crate::event::Event>,
    mark: Option<database::Mark>,
}

impl Estate {
    fn take(database: &Database) -> Result<Estate, Failure> {
        let read = (|| {
            let mut statement = database.connection.prepare("SELECT file, name, count FROM counters")?;
            let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
            rows.collect::<rusqlite::Result<Vec<_>>>()
        })();
        let counters = read.map_err(|error| database.failure(error))?;
        Ok(Estate { counters, tombstones: database.tombstones()?, mark: database.mark()? })
    }

    fn give(&self, database: &mut Database) -> Result<(), Failure> {
        let last = database.mark()?.map(|mark| mark.last);
        let known = database.tombstones()?;
        database.change(|connection| {
            for (file, name, count) in &self.counters {
                let sql = "INSERT OR REPLACE INTO counters (file, name, count) VALUES (?1, ?2, ?3)";
                connection.execute(sql, rusqlite::params![file, name, count])?;
            }
            for event in self.tombstones.iter().filter(|event| !known.contains(event)) {
                database::insert_event(connection, event)?;
            }
            match self.mark.as_ref().filter(|mark| Some(mark.last) > last) {
                Some(mark) => database::write_mark(connection, mark),
                None => Ok(()),
            }
        })
    }
}
