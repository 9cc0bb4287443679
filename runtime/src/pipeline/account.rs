//! What becomes of every frame: captured = kept + rejected + dropped, by reason.

use std::collections::BTreeMap;

use camera::Counts;
use store::{StoreError, Trouble};

/// Why a frame is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Dropped {
    /// A newer one came before it was looked at.
    Replaced,
    /// It came faster than the highest rate.
    Paced,
    /// What must not be kept could not be painted over.
    Unmaskable,
    /// Nothing asked for it.
    NotWanted,
    /// The model is still at earlier ones.
    Busy,
    /// It cannot be decoded.
    Unreadable,
    /// It is nearly one that was kept a moment ago.
    Duplicate,
    /// The model stopped at it.
    Failed,
    /// The disk is full.
    DiskFull,
    /// The store's budget is used up.
    OverBudget,
    /// The disk is read-only.
    ReadOnly,
    /// The disk fails.
    DiskFailing,
    /// The store does not take such a pair.
    NotStorable,
    /// The program stopped before its turn.
    Stopping,
}

impl Dropped {
    /// Its name in counters and logs.
    pub fn name(self) -> &'static str {
        match self {
            Dropped::Replaced => "replaced",
            Dropped::Paced => "paced",
            Dropped::Unmaskable => "unmaskable",
            Dropped::NotWanted => "not-wanted",
            Dropped::Busy => "busy",
            Dropped::Unreadable => "unreadable",
            Dropped::Duplicate => "duplicate",
            Dropped::Failed => "failed",
            Dropped::DiskFull => "disk-full",
            Dropped::OverBudget => "over-budget",
            Dropped::ReadOnly => "read-only",
            Dropped::DiskFailing => "disk-failing",
            Dropped::NotStorable => "not-storable",
            Dropped::Stopping => "stopping",
        }
    }

    /// Whether the same picture would fare the same another time.
    pub fn is_final(self) -> bool {
        use Dropped::{Duplicate, Failed, NotStorable, Unreadable};
        matches!(self, Unreadable | Duplicate | Failed | NotStorable)
    }
}

impl From<&Trouble> for Dropped {
    fn from(trouble: &Trouble) -> Dropped {
        match trouble {
            Trouble::Full { .. } => Dropped::DiskFull,
            Trouble::OverBudget { .. } => Dropped::OverBudget,
            Trouble::ReadOnly { .. } => Dropped::ReadOnly,
            Trouble::Failing { .. } => Dropped::DiskFailing,
        }
    }
}

impl From<&StoreError> for Dropped {
    fn from(error: &StoreError) -> Dropped {
        match error {
            StoreError::Trouble(trouble) => trouble.into(),
            StoreError::Pair(_) => Dropped::NotStorable,
            _ => Dropped::DiskFailing,
        }
    }
}

/// Frames that were handed over, and what became of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// Frames that the camera handed over.
    pub delivered: u64,
    /// Frames whose pair is safe on the disk.
    pub kept: u64,
    /// Frames that the filter rejected, whether they are kept for auditing or not.
    pub rejected: u64,
    /// Of these, pairs that are safe on the disk for auditing.
    pub audited: u64,
    /// Of those that are rejected, pictures whose texts could not be stored.
    pub texts_lost: u64,
    /// Of those that are kept, pairs that waited in the store for their captions, and have been looked at since.
    pub later: u64,
    /// The others, by reason.
    pub dropped: BTreeMap<Dropped, u64>,
}

impl Account {
    /// One frame is dropped.
    pub(super) fn drop_one(&mut self, reason: Dropped) {
        *self.dropped.entry(reason).or_default() += 1;
    }

    /// Frames that were dropped.
    pub fn dropped(&self) -> u64 {
        self.dropped.values().sum()
    }

    /// Frames of which it is not known yet what becomes of them.
    pub fn in_flight(&self) -> u64 {
        self.delivered.saturating_sub(self.kept + self.rejected + self.dropped())
    }

    /// This account with what a camera dropped before anybody saw it.
    #[must_use]
    pub fn with(mut self, camera: &Counts) -> Account {
        for (reason, count) in [
            (Dropped::Replaced, camera.replaced),
            (Dropped::Paced, camera.paced),
            (Dropped::Unmaskable, camera.unmaskable),
        ] {
            if count > 0 {
                *self.dropped.entry(reason).or_default() += count;
            }
        }
        self
    }
}
