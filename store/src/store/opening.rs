//! Taking a folder as it is: every database is admitted, salvaged, or left alone and named.

use std::path::PathBuf;

use super::Store;
use crate::carve::Pages;
use crate::database::{Access, Database, Mark};
use crate::error::{Failure, StoreError, Trouble};
use crate::folder::{self, Folder, Kind};
use crate::pair::PairId;
use crate::salvage::{self, Salvaged};

/// What was found, and what was done about it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Opened {
    /// Databases in use.
    pub files: usize,
    /// Pairs in them.
    pub pairs: u64,
    /// Pairs that were brought out of damaged databases and logs.
    pub salvaged: u64,
    /// Pairs that were there and could not be brought out.
    pub lost: Vec<PairId>,
    /// Pairs of a commit that the power cut short, which nobody was told are kept; or, if the end of a log was damaged
    /// later, of its last commit: the two look the same.
    pub unfinished: Vec<PairId>,
    /// Damaged databases, under their new names.
    pub set_aside: Vec<SetAside>,
    /// Damaged databases for whose salvage there is no room yet: the next start tries again.
    pub unsalvaged: Vec<PathBuf>,
    /// Databases by a later version of this program, which stay where they are for it.
    pub newer: Vec<PathBuf>,
    /// What keeps the store from taking pairs.
    pub trouble: Option<Trouble>,
}

/// A database that was set aside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetAside {
    /// Where it is now.
    pub path: PathBuf,
    /// What was found.
    pub why: String,
}

/// A database that is well.
struct Admitted {
    mark: Option<Mark>,
    replaces: Option<u32>,
}

impl Store {
    /// Looks at everything anew. Called when the store is opened, and after trouble.
    pub(super) fn start(&mut self) -> Result<(), StoreError> {
        self.active = None;
        self.files.clear();
        self.report.newer.clear();
        self.report.unsalvaged.clear();
        if self.folder.is_none() {
            let taken = Folder::take(&self.path).map_err(|refusal| refusal.into_error(&self.path))?;
            self.folder = Some(taken);
        }
        let folder = self.folder()?;
        folder.clean()?;
        let mut numbers = folder::numbers(&self.path, Kind::Pairs)?;
        let mut last = None;
        let mut elsewhere = None;
        // From the newest on: one that was salvaged says which older one it replaces.
        while let Some(number) = numbers.pop() {
            let Some(admitted) = self.admit_or_salvage(number)? else {
                elsewhere = elsewhere.max(salvage::last_name(&folder::place(&self.path, Kind::Pairs, number)));
                continue;
            };
            if let Some(replaced) = admitted.replaces
                && let Some(place) = numbers.iter().position(|number| *number == replaced)
            {
                numbers.remove(place);
                let path = self.folder()?.rename(replaced, Kind::Pairs, Kind::Damaged)?;
                self.report.set_aside.push(SetAside { path, why: format!("{number} was salvaged from it before") });
            }
            if last.as_ref().map(|mark: &Mark| mark.last) < admitted.mark.as_ref().map(|mark| mark.last) {
                last = admitted.mark;
            }
        }
        let missing = self.report.lost.iter().chain(&self.report.unfinished).copied();
        let elsewhere = salvage::last_likely(missing, elsewhere.max(last.as_ref().map(|mark| mark.last)));
        let elsewhere = elsewhere.map(|last| Mark { last, boot_id: String::new() });
        // Of two that are equal the last one counts, which has a boot.
        let last = elsewhere.into_iter().chain(last).max_by_key(|mark| mark.last);
        self.next = self.name_after(last).max(self.next);
        Ok(())
    }

    pub(super) fn folder(&self) -> Result<&Folder, StoreError> {
        let detail = "the folder was not there when the store was opened".to_owned();
        let none = || Trouble::Failing { folder: self.path.clone(), detail };
        self.folder.as_ref().ok_or_else(|| none().into())
    }

    fn name_after(&self, mark: Option<Mark>) -> Option<PairId> {
        let Some(mark) = mark else { return PairId::first_of(1) };
        if mark.boot_id == self.boot_id.as_str() {
            return mark.last.next();
        }
        PairId::first_of(mark.last.boot() + 1).or_else(|| mark.last.next())
    }

    fn admit_or_salvage(&mut self, number: u32) -> Result<Option<Admitted>, StoreError> {
        match self.admit(number) {
            Ok(admitted) => Ok(Some(admitted)),
            Err(Failure::Newer) => {
                self.report.newer.push(folder::place(&self.path, Kind::Pairs, number));
                Ok(None)
            }
            Err(Failure::Trouble(trouble)) => Err(trouble.into()),
            Err(Failure::Damaged(why)) => match self.heal_one(number, &why) {
                Err(StoreError::Trouble(Trouble::Full { .. })) => {
                    self.report.unsalvaged.push(folder::place(&self.path, Kind::Pairs, number));
                    Ok(None)
                }
                healed => healed,
            },
        }
    }

    /// Opens a database, takes what its log has behind a fault, folds the log in, and counts.
    fn admit(&mut self, number: u32) -> Result<Admitted, Failure> {
        let path = folder::place(&self.path, Kind::Pairs, number);
        Database::check_header(&self.path, number)?;
        // Before SQLite opens the log, since it may write to it.
        let pages =
            Pages::open(&path).map_err(|error| Failure::Trouble(crate::error::of_system(&self.path, &error)))?;
        if pages.log_was_damaged() {
            return Err(Failure::Damaged("its log is not what was written".to_owned()));
        }
        let mut database = Database::open(&self.path, number, Access::Write)?;
        let summary = database.summary()?;
        // SQLite may never have written pages that are free.
        if pages.missing(summary.pages) > summary.free_pages {
            return Err(Failure::Damaged("its end is missing".to_owned()));
        }
        if pages.log().has_more() {
            let Salvaged { pairs, lost, .. } = salvage::rescue(&mut database, &pages)?;
            self.report.salvaged += pairs;
            // A start that does not get further finds them again.
            self.report.unfinished.retain(|id| !lost.contains(id));
            self.report.unfinished.extend(lost);
        }
        database.fold_wholly()?;
        let (summary, mark, replaces) = (database.summary()?, database.mark()?, database.replaces()?);
        database.close();
        self.files.insert(number, summary);
        Ok(Admitted { mark, replaces })
    }

    fn note_lost(&mut self, lost: Vec<PairId>) {
        let known = self.report.lost.len();
        self.report.lost.extend(lost);
        self.report.lost.sort_unstable();
        self.report.lost.dedup();
        self.tally.lost += (self.report.lost.len() - known) as u64;
    }

    /// Salvages a damaged database now.
    pub(super) fn heal(&mut self, number: u32, why: &str) -> Result<(), StoreError> {
        self.heal_one(number, why).map(drop)
    }

    fn heal_one(&mut self, number: u32, why: &str) -> Result<Option<Admitted>, StoreError> {
        if self.active.as_ref().is_some_and(|active| active.number == number) {
            self.active = None;
        }
        self.files.remove(&number);
        let new = folder::last_number(&self.path)? + 1;
        let path = folder::place(&self.path, Kind::Pairs, number);
        let healed = salvage::salvage(self.folder()?, number, new);
        let Salvaged { pairs, lost, set_aside } = healed.map_err(|failure| failure.into_error(&path))?;
        self.report.salvaged += pairs;
        self.note_lost(lost);
        self.report.set_aside.extend(set_aside.map(|path| SetAside { path, why: why.to_owned() }));
        match self.admit(new) {
            Ok(admitted) => Ok(Some(admitted)),
            Err(Failure::Trouble(trouble)) => Err(trouble.into()),
            // It was whole a moment ago: this disk does not give back what it takes.
            Err(failure) => {
                let detail = failure.into_error(&folder::place(&self.path, Kind::Pairs, new)).to_string();
                Err(Trouble::Failing { folder: self.path.clone(), detail }.into())
            }
        }
    }
}
