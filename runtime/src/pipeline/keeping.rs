//! The way to the disk: groups that are committed in time, a disk that takes nothing and is asked again.

use std::collections::VecDeque;
use std::path::Path;
use std::time::Duration;

use camera::FileStamp;
use field::filter::Fate;
use store::{Entry, Filter, Label, Limits, Pair, PairId, Stamp, Store, StoreError, StoredPair, Trouble};
use sync::settling;
use sync::{Identity, Ledger};

use super::account::{Account, Dropped};

/// From one try of a disk that takes nothing to the next.
const RETRY: Duration = Duration::from_secs(10);
/// From one look for receipts to the next.
const RECEIPTS: Duration = Duration::from_secs(15);
/// From one look for pairs that are too old to the next.
const EXPIRY: Duration = Duration::from_secs(3600);

/// Where pairs are kept.
pub trait Keep {
    /// As [`Store::put`].
    ///
    /// # Errors
    /// As [`Store::put`].
    fn put(&mut self, pair: Pair, now: Duration) -> Result<PairId, StoreError>;

    /// As [`Store::due`].
    fn due(&self) -> Option<Duration>;

    /// As [`Store::flush`].
    ///
    /// # Errors
    /// As [`Store::flush`].
    fn flush(&mut self) -> Result<Vec<PairId>, StoreError>;

    /// As [`Store::try_again`].
    ///
    /// # Errors
    /// As [`Store::try_again`].
    fn try_again(&mut self) -> Result<Vec<PairId>, StoreError>;

    /// As [`Store::set_limits`].
    fn set_limits(&mut self, limits: Limits);

    /// As [`Store::trouble`].
    fn trouble(&self) -> Option<&Trouble>;

    /// As [`Store::expire`].
    ///
    /// # Errors
    /// As [`Store::expire`].
    fn expire(&mut self, days: u32, now: Stamp) -> Result<u64, StoreError>;

    /// As [`Store::mark_synced`].
    ///
    /// # Errors
    /// As [`Store::mark_synced`].
    fn mark_synced(&mut self, receipts: &[store::Receipt]) -> Result<(), StoreError>;

    /// The next pairs behind one.
    ///
    /// # Errors
    /// As [`store::Reader::list`].
    fn list(&self, since: Option<PairId>) -> Result<Vec<Entry>, StoreError>;

    /// As [`store::Reader::get`].
    ///
    /// # Errors
    /// As [`store::Reader::get`].
    fn get(&self, id: PairId) -> Result<StoredPair, StoreError>;

    /// As [`Store::withdraw`].
    ///
    /// # Errors
    /// As [`Store::withdraw`].
    fn withdraw(&mut self, ids: &[PairId]) -> Result<(), StoreError>;

    /// As [`Store::label`].
    ///
    /// # Errors
    /// As [`Store::label`].
    fn label(&mut self, id: PairId, label: Label) -> Result<(), StoreError>;
}

impl Keep for Store {
    fn put(&mut self, pair: Pair, now: Duration) -> Result<PairId, StoreError> {
        Store::put(self, pair, now)
    }

    fn due(&self) -> Option<Duration> {
        Store::due(self)
    }

    fn flush(&mut self) -> Result<Vec<PairId>, StoreError> {
        Store::flush(self)
    }

    fn try_again(&mut self) -> Result<Vec<PairId>, StoreError> {
        let names = Store::try_again(self);
        let report = self.take_report();
        if report.salvaged > 0 || !report.lost.is_empty() {
            log::warn!(salvaged = report.salvaged, lost = report.lost.len(); "pairs were salvaged");
        }
        names
    }

    fn set_limits(&mut self, limits: Limits) {
        Store::set_limits(self, limits);
    }

    fn trouble(&self) -> Option<&Trouble> {
        Store::trouble(self)
    }

    fn expire(&mut self, days: u32, now: Stamp) -> Result<u64, StoreError> {
        Store::expire(self, days, now)
    }

    fn mark_synced(&mut self, receipts: &[store::Receipt]) -> Result<(), StoreError> {
        Store::mark_synced(self, receipts)
    }

    fn list(&self, since: Option<PairId>) -> Result<Vec<Entry>, StoreError> {
        self.reader().list(Filter { since, ..Filter::default() })
    }

    fn get(&self, id: PairId) -> Result<StoredPair, StoreError> {
        self.reader().get(id)
    }

    fn withdraw(&mut self, ids: &[PairId]) -> Result<(), StoreError> {
        Store::withdraw(self, ids)
    }

    fn label(&mut self, id: PairId, label: Label) -> Result<(), StoreError> {
        Store::label(self, id, label)
    }
}

/// What the filter said of a pair that is on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    Kept,
    Audited,
    /// The texts of a picture that is rejected, and counted as that already.
    Texts,
    /// It takes the place of a pair that waited for its captions.
    Later {
        /// The pair.
        id: PairId,
        /// What becomes of its picture.
        fate: Fate,
    },
}

impl Standing {
    /// Whether the picture is kept with its texts.
    pub(super) fn has_picture(self) -> bool {
        !matches!(self, Standing::Texts | Standing::Later { fate: Fate::Dropped(_), .. })
    }
}

/// A pair that is not acknowledged yet.
#[derive(Debug)]
struct Waiting {
    id: PairId,
    standing: Standing,
    file: Option<FileStamp>,
}

/// Puts pairs into a store and counts them when they are safe.
#[derive(Debug)]
pub(super) struct Keeper<K> {
    store: K,
    /// At most as many as make a group.
    waiting: VecDeque<Waiting>,
    /// Files whose fate is settled, for the record of a folder.
    settled: Vec<FileStamp>,
    retry_at: Option<Duration>,
    expire_at: Duration,
    receipts_at: Duration,
}

impl<K: Keep> Keeper<K> {
    pub(super) fn new(store: K) -> Keeper<K> {
        let (waiting, settled) = (VecDeque::new(), Vec::new());
        Keeper { store, waiting, settled, retry_at: None, expire_at: Duration::ZERO, receipts_at: Duration::ZERO }
    }

    pub(super) fn trouble(&self) -> Option<&Trouble> {
        self.store.trouble()
    }

    /// Frames that are on their way to the disk.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.iter().filter(|pair| matches!(pair.standing, Standing::Kept | Standing::Audited)).count()
    }

    /// There is another amount of room.
    pub(super) fn set_limits(&mut self, limits: Limits) {
        self.store.set_limits(limits);
    }

    pub(super) fn store(&self) -> &K {
        &self.store
    }

    /// Takes a pair out that has waited for its captions, and has them or will never have.
    pub(super) fn replace(&mut self, id: PairId, account: &mut Account) {
        account.later += 1;
        if let Err(error) = self.store.withdraw(&[id]) {
            log::warn!(pair:% = id, error:% = error; "a pair without captions stays beside the one with them");
        }
    }

    pub(super) fn settle(&mut self, file: Option<FileStamp>) {
        self.settled.extend(file);
    }

    pub(super) fn take_settled(&mut self) -> Vec<FileStamp> {
        std::mem::take(&mut self.settled)
    }

    /// When something is to be done next.
    pub(super) fn next_due(&self) -> Option<Duration> {
        if self.trouble().is_some() { self.retry_at } else { self.store.due() }
    }

    /// Puts a pair into the group that waits; a full one is committed first.
    pub(super) fn put(
        &mut self,
        pair: Pair,
        standing: Standing,
        file: Option<FileStamp>,
        now: Duration,
        account: &mut Account,
    ) {
        self.commit(now, account);
        match self.store.put(pair, now) {
            Ok(id) => self.waiting.push_back(Waiting { id, standing, file }),
            Err(error) => {
                let reason = Dropped::from(&error);
                if reason == Dropped::NotStorable {
                    log::warn!(error:% = error; "a pair cannot be stored");
                }
                if reason.is_final() {
                    self.settle(file);
                }
                match standing {
                    Standing::Kept | Standing::Audited => account.drop_one(reason),
                    Standing::Texts => account.texts_lost += 1,
                    // A pair that is stored already waits for another time.
                    Standing::Later { .. } => {}
                }
            }
        }
        self.commit(now, account);
    }

    /// Commits a group that is due, and asks a disk again that took nothing.
    pub(super) fn commit(&mut self, now: Duration, account: &mut Account) {
        if self.trouble().is_some() {
            // A trouble that has just come up is given time.
            if *self.retry_at.get_or_insert(now.saturating_add(RETRY)) > now {
                return;
            }
            self.retry_at = Some(now.saturating_add(RETRY));
            match self.store.try_again() {
                Ok(names) => {
                    self.retry_at = None;
                    log::info!(pairs = names.len(); "the store takes pairs again");
                    self.acknowledge(&names, account);
                }
                Err(error) => log::debug!(error:% = error; "the store takes no pairs yet"),
            }
        } else if self.store.due().is_some_and(|due| due <= now) {
            self.flush(account);
        }
    }

    fn flush(&mut self, account: &mut Account) {
        match self.store.flush() {
            Ok(names) => self.acknowledge(&names, account),
            Err(error) => log::error!(error:% = error; "nothing is kept for now; captions go on"),
        }
    }

    fn acknowledge(&mut self, names: &[PairId], account: &mut Account) {
        let (safe, waiting) = std::mem::take(&mut self.waiting).into_iter().partition(|pair| names.contains(&pair.id));
        self.waiting = waiting;
        let safe: VecDeque<Waiting> = safe;
        for pair in safe {
            match pair.standing {
                Standing::Kept => account.kept += 1,
                Standing::Audited => (account.rejected, account.audited) = (account.rejected + 1, account.audited + 1),
                Standing::Texts => {}
                Standing::Later { id, .. } => self.replace(id, account),
            }
            self.settle(pair.file);
        }
    }

    /// Removes what is too old, now and then.
    pub(super) fn expire(&mut self, days: Option<u32>, now: Duration, stamp: Stamp) {
        let Some(days) = days.filter(|_| now >= self.expire_at && self.trouble().is_none()) else { return };
        self.expire_at = now.saturating_add(EXPIRY);
        match self.store.expire(days, stamp) {
            Ok(0) => {}
            Ok(pairs) => log::info!(pairs = pairs, days = days; "pairs that are too old are removed"),
            Err(error) => log::warn!(error:% = error; "pairs that are too old cannot be removed"),
        }
    }

    /// Marks what receipts say is at home, now and then: "edgeblip sync" fetches them and may not write here.
    pub(super) fn hear_receipts(&mut self, pairs: &Path, now: Duration) {
        if now < self.receipts_at || self.trouble().is_some() {
            return;
        }
        self.receipts_at = now.saturating_add(RECEIPTS);
        let folder = sync::folder_beside(pairs);
        let ledger = Ledger::at(&folder);
        if ledger.arrivals().is_ok_and(|arrived| arrived.is_empty()) {
            return;
        }
        let Ok(Some(grant)) = Identity::at(&folder).grant() else { return };
        match settling::settle(&ledger, &grant, |receipts| self.store.mark_synced(receipts)) {
            Ok(settled) => log::info!(safe = settled.safe, refused = settled.refused; "the host has signed for pairs"),
            Err(error) => log::warn!(error:% = error; "receipts wait"),
        }
    }

    /// Commits what waits, and gives up what cannot be committed.
    pub(super) fn seal(&mut self, account: &mut Account) {
        if self.trouble().is_some() {
            // The last chance.
            if let Ok(names) = self.store.try_again() {
                self.acknowledge(&names, account);
            }
        } else {
            self.flush(account);
        }
        let reason = self.trouble().map_or(Dropped::Stopping, Dropped::from);
        for _ in 0..self.waiting() {
            account.drop_one(reason);
        }
        account.texts_lost += self.waiting.iter().filter(|pair| pair.standing == Standing::Texts).count() as u64;
        self.waiting.clear();
    }

    /// Adds a person's word about a pair.
    pub(super) fn label(&mut self, id: PairId, label: Label) -> Result<(), StoreError> {
        self.store.label(id, label)
    }

    /// The store.
    pub(super) fn into_store(self) -> K {
        self.store
    }
}
