//! Rows from the pages of a database whose tree cannot be trusted.
//!
//! Every row lies in a leaf, whatever leads there. A leaf's cells are read by themselves, long ones along their chain
//! of pages, and a row is taken only if its own hash is right, so nothing can be made up.
//!
//! Source: SQLite, "Database File Format", sections 1.6 and 2.1.

mod record;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

use crate::database::{MARK_ROWS, Mark, PAGE_BYTES, SYNCED, be32};
use crate::event::{self, Event};
use crate::folder::with_ending;
use crate::log::Log;
use crate::pair::{self, PairFacts, PairId};
use record::{CHAIN_BYTES, Cell, MAX_ROW_BYTES, PAGE, be16, column_types, columns, integer, integer_bytes, is_blob};

const TABLE_LEAF: u8 = 13;
const LEAF_HEADER_BYTES: usize = 8;
/// Type of a hash in a record: 32 bytes.
const HASH_TYPE: u64 = 12 + 2 * 32;

/// How long a page that cannot be read is waited for at first; each wait is twice the one before.
const FIRST_WAIT: Duration = Duration::from_millis(1);
/// How long all pages are waited for together: a card that resets itself comes back, a sector that is gone does not.
const PATIENCE: Duration = Duration::from_secs(4);

/// A row that is what was stored, or the name of one that is not.
pub(crate) enum Found {
    /// A pair.
    Pair { facts: Box<PairFacts>, bytes: Vec<u8>, jpeg: Vec<u8>, sha256: [u8; 32] },
    /// A pair that was here, and cannot be read.
    BrokenPair(PairId),
    /// The listing has this pair.
    Listed { id: PairId, is_synced: bool },
    /// A label or a tombstone.
    Event { number: i64, event: Event },
    /// A name that was given.
    Mark(Mark),
    /// How many commits there were.
    Commits(u64),
}

/// The pages of a database and its log.
pub(crate) struct Pages {
    database: File,
    count: u64,
    log_file: Option<File>,
    log: Log,
    newest: BTreeMap<u32, u64>,
    patience: std::cell::Cell<Duration>,
}

/// Which pages are looked at for rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Range {
    /// All of them, in all their versions.
    Everything,
    /// Those of the database, without its log.
    TheDatabase,
    /// Those in the log that SQLite sees.
    SoundLog,
    /// Those in the log that it does not see.
    BehindTheLog,
}

impl Pages {
    pub(crate) fn open(path: &Path) -> std::io::Result<Pages> {
        let database = File::open(path)?;
        let count = database.metadata()?.len() / u64::from(PAGE_BYTES);
        let log_path = with_ending(path, "-wal");
        let log = Log::read(&log_path)?;
        let log_file = log_path.exists().then(|| File::open(&log_path)).transpose()?;
        let newest = log.newest();
        Ok(Pages { database, count, log_file, log, newest, patience: std::cell::Cell::new(PATIENCE) })
    }

    pub(crate) fn log(&self) -> &Log {
        &self.log
    }

    /// Of so many pages, how many are neither in the database nor in the log: a file that was cut off lacks them.
    pub(crate) fn missing(&self, pages: u64) -> u64 {
        let in_log: BTreeSet<u32> = self.log.sound_pages().map(|(page, _)| page).collect();
        let behind =
            (self.count + 1..=pages).filter(|page| u32::try_from(*page).is_ok_and(|page| !in_log.contains(&page)));
        behind.count() as u64
    }

    /// Whether the log was damaged after it was written, so that nothing but carving is safe: behind the fault is more
    /// than the one commit that a power cut leaves, or the database is ahead of what SQLite sees of the log, whose old
    /// pages it would put over the new ones of the database.
    pub(crate) fn log_was_damaged(&self) -> bool {
        if !self.log.has_more() {
            return false;
        }
        let commits = |range| {
            let mut most = None;
            self.carve(range, |found| {
                if let Found::Commits(count) = found {
                    most = most.max(Some(count));
                }
            });
            most
        };
        let is_ahead = || commits(Range::TheDatabase) > commits(Range::SoundLog);
        self.log.commits_behind() > 1 || self.log.is_seen() && is_ahead()
    }

    /// Reads a page; false if it is not there, or cannot be read for longer than there is patience left.
    fn read(&self, file: &File, page: &mut [u8], at: u64) -> bool {
        let mut wait = FIRST_WAIT;
        loop {
            match file.read_exact_at(page, at) {
                Ok(()) => return true,
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => return false,
                Err(_) => {
                    let Some(left) = self.patience.get().checked_sub(wait) else { return false };
                    self.patience.set(left);
                    std::thread::sleep(wait);
                    wait *= 2;
                }
            }
        }
    }

    /// Looks for rows. A page that cannot be read is passed over: what is on it counts as damaged.
    pub(crate) fn carve(&self, range: Range, mut found: impl FnMut(Found)) {
        let mut page = vec![0; PAGE];
        if matches!(range, Range::Everything | Range::TheDatabase) {
            for number in 0..self.count {
                if self.read(&self.database, &mut page, number * u64::from(PAGE_BYTES)) {
                    self.carve_leaf(&page, &mut found);
                }
            }
        }
        let places: Vec<u64> = match range {
            Range::Everything => self.log.pages().map(|(_, at)| at).collect(),
            Range::TheDatabase => Vec::new(),
            Range::SoundLog => self.log.sound_pages().map(|(_, at)| at).collect(),
            Range::BehindTheLog => self.log.pages_behind().map(|(_, at)| at).collect(),
        };
        for at in places {
            if self.log_file.as_ref().is_some_and(|file| self.read(file, &mut page, at)) {
                self.carve_leaf(&page, &mut found);
            }
        }
    }

    fn carve_leaf(&self, page: &[u8], found: &mut impl FnMut(Found)) {
        if page[0] != TABLE_LEAF {
            return;
        }
        let cells = usize::from(be16(page, 3)).min((PAGE - LEAF_HEADER_BYTES) / 2);
        for cell in 0..cells {
            let at = usize::from(be16(page, LEAF_HEADER_BYTES + 2 * cell));
            if let Some(row) = Cell::read(page, at).and_then(|cell| self.row(&cell)) {
                found(row);
            }
        }
    }

    /// What a cell holds; nothing if it is of no table of ours.
    fn row(&self, cell: &Cell<'_>) -> Option<Found> {
        let types = column_types(cell.local)?;
        match types.as_slice() {
            [0, HASH_TYPE, facts, jpeg] if is_blob(*facts) && is_blob(*jpeg) => {
                // Pages of a chain may have older versions in the database; the newest counts first.
                let versions = [Version::Newest, Version::Database].into_iter();
                let mut pairs = versions.filter_map(|version| pair_of(cell.row, &self.payload(cell, version)?));
                pairs.next().or_else(|| PairId::from_row(cell.row).map(Found::BrokenPair))
            }
            [0, pair, HASH_TYPE, facts] if integer_bytes(*pair).is_some() && is_blob(*facts) => {
                event_of(cell.row, &self.payload(cell, Version::Newest)?)
            }
            [0, HASH_TYPE, value] if is_blob(*value) => mark_of(cell.row, &self.payload(cell, Version::Newest)?),
            [0, _, _, _, bytes, synced, _] if integer_bytes(*bytes).is_some() => {
                let columns = columns(cell.local)?;
                let is_synced = integer(*synced, columns.get(5)?.1) == Some(SYNCED);
                PairId::from_row(cell.row).map(|id| Found::Listed { id, is_synced })
            }
            _ => None,
        }
    }

    /// The whole of a row.
    fn payload(&self, cell: &Cell<'_>, version: Version) -> Option<Vec<u8>> {
        let mut payload = Vec::with_capacity(cell.length.min(MAX_ROW_BYTES));
        payload.extend_from_slice(cell.local);
        let mut next = cell.next;
        let mut page = vec![0; PAGE];
        while payload.len() < cell.length {
            self.read_page(next, version, &mut page)?;
            let more = (cell.length - payload.len()).min(CHAIN_BYTES);
            payload.extend_from_slice(&page[4..4 + more]);
            next = be32(&page, 0);
        }
        Some(payload)
    }

    fn read_page(&self, number: u32, version: Version, page: &mut [u8]) -> Option<()> {
        let in_log = self.newest.get(&number).filter(|_| version == Version::Newest);
        match (in_log, &self.log_file) {
            (Some(at), Some(log)) => self.read(log, page, *at).then_some(()),
            _ => {
                let at = u64::from(number.checked_sub(1)?) * u64::from(PAGE_BYTES);
                self.read(&self.database, page, at).then_some(())
            }
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Version {
    Newest,
    Database,
}

fn pair_of(row: i64, payload: &[u8]) -> Option<Found> {
    let columns = columns(payload)?;
    let [_, (_, sha256), (_, facts), (_, jpeg)] = columns.as_slice() else { return None };
    let checked = pair::checked(row, sha256, facts, jpeg)?;
    let sha256 = (*sha256).try_into().ok()?;
    Some(Found::Pair { facts: Box::new(checked), bytes: facts.to_vec(), jpeg: jpeg.to_vec(), sha256 })
}

fn event_of(number: i64, payload: &[u8]) -> Option<Found> {
    let columns = columns(payload)?;
    let [_, (kind, pair), (_, sha256), (_, facts)] = columns.as_slice() else { return None };
    let event = event::checked(integer(*kind, pair)?, sha256, facts)?;
    Some(Found::Event { number, event })
}

fn mark_of(row: i64, payload: &[u8]) -> Option<Found> {
    let columns = columns(payload)?;
    let [_, (_, sha256), (_, value)] = columns.as_slice() else { return None };
    if event::hash(value) != *sha256 {
        return None;
    }
    let (last_name, commits) = MARK_ROWS;
    if row == last_name {
        serde_json::from_slice(value).ok().map(Found::Mark)
    } else if row == commits {
        serde_json::from_slice(value).ok().map(Found::Commits)
    } else {
        None
    }
}
