//! The store as its one writer sees it.

mod opening;
mod room;
mod upkeep;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use blip::caption::Caption;

use crate::database::{Access, Database, MAX_FILE_BYTES, PAGE_BYTES, Row, Summary};
use crate::error::{Failure, StoreError, Trouble};
use crate::folder::{self, Folder};
use crate::group::Group;
use crate::pair::{Pair, PairId};
use crate::reader::Reader;

pub use opening::{Opened, SetAside};
pub use upkeep::Receipt;

/// How much room there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of everything in the folder.
    pub budget: u64,
    /// Bytes of one database, at most [`MAX_FILE_BYTES`].
    pub file_bytes: u64,
    /// Bytes of the log beside a database at which it is folded in.
    pub log_bytes: u64,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { budget: 8 << 30, file_bytes: MAX_FILE_BYTES, log_bytes: 8 << 20 }
    }
}

/// What the store did since it was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Pairs that were acknowledged.
    pub acknowledged: u64,
    /// Pairs that were not taken, by reason.
    pub refused: BTreeMap<&'static str, u64>,
    /// Pairs that were removed to make room, by reason.
    pub evicted: BTreeMap<&'static str, u64>,
    /// Pairs that were found damaged and could not be salvaged.
    pub lost: u64,
}

/// A folder of pairs, and the right to write there. It is for one thread; nothing in it waits.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    boot_id: Caption,
    limits: Limits,
    folder: Option<Folder>,
    files: BTreeMap<u32, Summary>,
    /// The database that groups are written to.
    active: Option<Database>,
    /// The name of the next pair.
    next: Option<PairId>,
    group: Group,
    trouble: Option<Trouble>,
    /// What was found damaged since the last report.
    report: Opened,
    tally: Tally,
}

impl Store {
    /// Takes a folder, which is made if it is not there. `boot_id` is what the system calls the time since it started:
    /// after a restart of the program alone, numbers go on.
    ///
    /// Whatever is in the folder, the store opens: what is damaged is salvaged and set aside, and [`Opened`] says so. On
    /// a disk that takes nothing the store is open and in [`Store::trouble`].
    ///
    /// # Errors
    /// [`StoreError::Owned`], where another process writes there. No other.
    pub fn open(path: &Path, boot_id: Caption, limits: Limits) -> Result<(Store, Opened), StoreError> {
        let mut store = Store {
            path: path.to_owned(),
            boot_id,
            limits,
            folder: None,
            files: BTreeMap::new(),
            active: None,
            next: None,
            group: Group::default(),
            trouble: None,
            report: Opened::default(),
            tally: Tally::default(),
        };
        match store.start() {
            Ok(()) => {}
            Err(StoreError::Trouble(trouble)) => store.stop(trouble),
            Err(error) => return Err(error),
        }
        let opened = store.take_report();
        Ok((store, opened))
    }

    /// What keeps the store from taking pairs.
    pub fn trouble(&self) -> Option<&Trouble> {
        self.trouble.as_ref()
    }

    /// What it did since it was opened.
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// What was found damaged since this was asked last.
    pub fn take_report(&mut self) -> Opened {
        let mut report = std::mem::take(&mut self.report);
        report.trouble = self.trouble.clone();
        report.files = self.files.len();
        report.pairs = self.files.values().map(|summary| summary.pairs).sum();
        report
    }

    /// Changes how much room there is, from the next group on: of a lower budget so much is evicted then.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// For reading what is acknowledged.
    pub fn reader(&self) -> Reader {
        Reader::new(&self.path)
    }

    /// Adds a pair to the group that waits, and gives it a name. It is **not** kept yet: it is when [`Store::commit`]
    /// or [`Store::flush`] returns that name.
    ///
    /// # Errors
    /// A pair that cannot be stored as it is, a group that is full, a disk that takes nothing.
    pub fn put(&mut self, pair: Pair, now: Duration) -> Result<PairId, StoreError> {
        let taken = self.check(&pair).and_then(|()| self.name());
        let id = match taken {
            Ok(id) => id,
            Err(error) => {
                *self.tally.refused.entry(reason(&error)).or_default() += 1;
                return Err(error);
            }
        };
        let (facts, jpeg) = pair.into_facts(id, self.boot_id.clone());
        self.group.push(Row::new(&facts, jpeg), now);
        self.next = id.next();
        Ok(id)
    }

    fn check(&self, pair: &Pair) -> Result<(), StoreError> {
        if let Some(trouble) = &self.trouble {
            return Err(trouble.clone().into());
        }
        pair.check()?;
        if self.group.is_full() {
            return Err(StoreError::GroupFull { waiting: self.group.rows().len() });
        }
        Ok(())
    }

    fn name(&self) -> Result<PairId, StoreError> {
        let detail = "all names of pairs are used up";
        let none = || Trouble::Failing { folder: self.path.clone(), detail: detail.to_owned() };
        self.next.ok_or_else(|| none().into())
    }

    /// Pairs that are not acknowledged yet.
    pub fn waiting(&self) -> usize {
        self.group.rows().len()
    }

    /// When the group is to be committed, on the clock of [`Store::put`]; nothing while it is empty.
    pub fn due(&self) -> Option<Duration> {
        self.group.due()
    }

    /// Commits the group if it is full or has waited for two seconds.
    ///
    /// # Errors
    /// As [`Store::flush`].
    pub fn commit(&mut self, now: Duration) -> Result<Vec<PairId>, StoreError> {
        if self.due().is_some_and(|due| due <= now) { self.flush() } else { Ok(Vec::new()) }
    }

    /// Commits what waits, and acknowledges it.
    ///
    /// # Errors
    /// A disk that takes nothing: the pairs wait until [`Store::try_again`] succeeds.
    pub fn flush(&mut self) -> Result<Vec<PairId>, StoreError> {
        if let Some(trouble) = &self.trouble {
            return Err(trouble.clone().into());
        }
        if self.group.rows().is_empty() {
            return Ok(Vec::new());
        }
        let acknowledged = self.write_group().inspect_err(|error| self.note(error))?;
        self.tally.acknowledged += acknowledged.len() as u64;
        // The pairs are safe in the log: what goes wrong from here on is trouble for the next ones.
        if let Err(StoreError::Trouble(trouble)) = self.fold_log() {
            self.stop(trouble);
        }
        Ok(acknowledged)
    }

    fn write_group(&mut self) -> Result<Vec<PairId>, StoreError> {
        // A database that turns out to be damaged is salvaged, and another one takes the group.
        for _ in 0..2 {
            let number = self.make_room(self.group.bytes())?;
            let Some(active) = &mut self.active else { continue };
            match active.insert(self.group.rows()) {
                Ok(()) => {
                    self.count_pages(number)?;
                    return Ok(self.group.take().iter().map(|row| row.id).collect());
                }
                Err(Failure::Trouble(trouble)) => return Err(trouble.into()),
                Err(failure) => self.heal(number, &failure.to_string())?,
            }
        }
        let detail = "two databases in a row were damaged".to_owned();
        Err(Trouble::Failing { folder: self.path.clone(), detail }.into())
    }

    fn fold_log(&mut self) -> Result<(), StoreError> {
        let Some(number) = self.active.as_ref().map(|active| active.number) else { return Ok(()) };
        let most = self.limits.log_bytes;
        self.with_file(number, |database| if database.log_bytes()? < most { Ok(()) } else { database.fold() })
    }

    /// Asks a disk that took nothing again, from the beginning: what the system kept of files that it could not write
    /// is not to be trusted. Returns the names of the pairs that waited.
    ///
    /// # Errors
    /// As [`Store::flush`], and [`StoreError::Owned`] if another process took the folder meanwhile.
    pub fn try_again(&mut self) -> Result<Vec<PairId>, StoreError> {
        self.trouble = None;
        self.start().inspect_err(|error| self.note(error))?;
        self.flush()
    }

    fn note(&mut self, error: &StoreError) {
        if let StoreError::Trouble(trouble) = error {
            self.stop(trouble.clone());
        }
    }

    fn stop(&mut self, trouble: Trouble) {
        self.active = None;
        self.trouble = Some(trouble);
    }

    /// Works on one database. If it turns out to be damaged it is salvaged, and the caller may ask again.
    fn with_file<T>(
        &mut self,
        number: u32,
        work: impl FnOnce(&mut Database) -> Result<T, Failure>,
    ) -> Result<T, StoreError> {
        let outcome = match &mut self.active {
            Some(active) if active.number == number => work(active),
            _ => Database::open(&self.path, number, Access::Write).and_then(|mut database| {
                let value = work(&mut database);
                database.close();
                value
            }),
        };
        match outcome {
            Ok(value) => Ok(value),
            Err(failure @ (Failure::Damaged(_) | Failure::Newer)) => {
                let path = folder::place(&self.path, folder::Kind::Pairs, number);
                self.heal(number, &failure.to_string()).inspect_err(|error| self.note(error))?;
                Err(failure.into_error(&path))
            }
            Err(Failure::Trouble(trouble)) => {
                self.stop(trouble.clone());
                Err(trouble.into())
            }
        }
    }

    /// Bytes of the databases and of what was set aside.
    pub fn bytes(&self) -> u64 {
        let databases: u64 = self.files.values().map(|summary| summary.pages * u64::from(PAGE_BYTES)).sum();
        databases + self.foreign_bytes()
    }
}

fn reason(error: &StoreError) -> &'static str {
    match error {
        StoreError::Trouble(Trouble::Full { .. }) => "disk full",
        StoreError::Trouble(Trouble::OverBudget { .. }) => "over budget",
        StoreError::Trouble(Trouble::ReadOnly { .. }) => "disk read-only",
        StoreError::Trouble(Trouble::Failing { .. }) => "disk failing",
        StoreError::GroupFull { .. } => "group full",
        StoreError::Pair(_) => "not storable",
        StoreError::Owned { .. }
        | StoreError::NotThere { .. }
        | StoreError::NoPicture { .. }
        | StoreError::Damaged { .. } => "other",
    }
}
