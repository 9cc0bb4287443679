//! How much of the disk each board may have: counted in memory, and on the disk only where memory says that it is too much.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use exchange::DeviceName;

use crate::folder::{Folder, Waiting};

/// For how long a board whose share is used up is sent away, in seconds.
pub(crate) const AGAIN_S: u64 = 300;
/// Seconds of a day.
const DAY_S: u64 = 86_400;

/// How much is taken.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Most bytes of a board's that wait to be taken in.
    pub waiting_bytes: u64,
    /// Most bytes that a board may send in a day, UTC.
    pub day_bytes: Option<u64>,
    /// Bytes of the disk that stay free.
    pub keep_free: u64,
}

/// What is here and on its way, by board. Copies count together.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shares {
    boards: Arc<Mutex<HashMap<DeviceName, Arc<Mutex<Share>>>>>,
    /// Bytes that are on their way, of all together.
    coming: Arc<AtomicU64>,
}

/// A board's.
#[derive(Debug, Default)]
struct Share {
    /// Nothing before it was counted first.
    waiting: Option<Waiting>,
    coming: u64,
    day: u64,
    day_bytes: u64,
}

/// Whether bytes are taken.
pub(crate) enum Admission {
    /// There is room for them as long as this is there.
    Room(Reservation),
    /// The disk is as full as it may be.
    Full {
        /// Seconds after which to ask again.
        after_s: u64,
    },
    /// The board has had its share.
    UsedUp {
        /// Seconds after which to ask again.
        after_s: u64,
    },
}

/// Room for bytes that are on their way.
pub(crate) struct Reservation {
    bytes: u64,
    share: Option<Arc<Mutex<Share>>>,
    coming: Arc<AtomicU64>,
}

impl Shares {
    /// Asks for room for so many bytes, of a board or of the operator. It may look at the disk.
    pub(crate) fn reserve(
        &self,
        folder: &Folder,
        limits: &Limits,
        device: Option<&DeviceName>,
        bytes: u64,
        now_s: u64,
    ) -> io::Result<Admission> {
        let others = self.coming.fetch_add(bytes, Ordering::Relaxed);
        let mut reservation = Reservation { bytes, share: None, coming: Arc::clone(&self.coming) };
        if folder.free_bytes()? < limits.keep_free.saturating_add(others).saturating_add(bytes) {
            return Ok(Admission::Full { after_s: AGAIN_S });
        }
        let Some(device) = device else { return Ok(Admission::Room(reservation)) };
        let share = self.of(device);
        let mut counted = share.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(after_s) = counted.refuse(folder, limits, device, bytes, now_s)? {
            return Ok(Admission::UsedUp { after_s });
        }
        counted.coming += bytes;
        drop(counted);
        reservation.share = Some(share);
        Ok(Admission::Room(reservation))
    }

    fn of(&self, device: &DeviceName) -> Arc<Mutex<Share>> {
        let mut boards = self.boards.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(boards.entry(device.clone()).or_default())
    }
}

impl Share {
    /// After how many seconds a board may ask again that asks for too much.
    fn refuse(
        &mut self,
        folder: &Folder,
        limits: &Limits,
        device: &DeviceName,
        bytes: u64,
        now_s: u64,
    ) -> io::Result<Option<u64>> {
        let wanted = self.coming.saturating_add(bytes);
        let is_over = |waiting: &Waiting| waiting.bytes.saturating_add(wanted) > limits.waiting_bytes;
        let waiting = match self.waiting {
            Some(waiting) if !is_over(&waiting) => waiting,
            // Nothing was taken away since it was counted.
            Some(waiting) if waiting.since.is_some() && waiting.since == folder.waiting_since(device)? => waiting,
            _ => folder.count_waiting(device)?,
        };
        self.waiting = Some(waiting);
        if self.day != now_s / DAY_S {
            (self.day, self.day_bytes) = (now_s / DAY_S, 0);
        }
        if limits.day_bytes.is_some_and(|most| self.day_bytes.saturating_add(wanted) > most) {
            return Ok(Some(DAY_S - now_s % DAY_S));
        }
        Ok(is_over(&waiting).then_some(AGAIN_S))
    }
}

impl Reservation {
    /// The bytes are there.
    pub(crate) fn arrived(self) {
        let Some(share) = &self.share else { return };
        let mut share = share.lock().unwrap_or_else(PoisonError::into_inner);
        share.day_bytes = share.day_bytes.saturating_add(self.bytes);
        if let Some(waiting) = &mut share.waiting {
            waiting.bytes = waiting.bytes.saturating_add(self.bytes);
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.coming.fetch_sub(self.bytes, Ordering::Relaxed);
        if let Some(share) = &self.share {
            share.lock().unwrap_or_else(PoisonError::into_inner).coming -= self.bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 20_000 * DAY_S;

    fn scene() -> (tempfile::TempDir, Folder, Shares, DeviceName) {
        let place = tempfile::tempdir().unwrap();
        let folder = Folder::open(place.path()).unwrap();
        (place, folder, Shares::default(), "garden".parse().unwrap())
    }

    fn limits(waiting_bytes: u64) -> Limits {
        Limits { waiting_bytes, day_bytes: None, keep_free: 0 }
    }

    #[test]
    fn what_is_on_its_way_counts_until_it_is_given_up() {
        let (_place, folder, shares, garden) = scene();
        let ask = |bytes| shares.reserve(&folder, &limits(1000), Some(&garden), bytes, DAY).unwrap();
        let Admission::Room(first) = ask(600) else { panic!("there is room") };
        assert!(matches!(ask(600), Admission::UsedUp { after_s: AGAIN_S }));
        drop(first);
        assert!(matches!(ask(600), Admission::Room(_)));
    }

    #[test]
    fn a_host_that_starts_again_counts_what_lies_there() {
        let (place, folder, shares, garden) = scene();
        for kind in ["shards", "health"] {
            let lying = place.path().join("objects/devices/garden").join(kind);
            std::fs::create_dir_all(&lying).unwrap();
            std::fs::write(lying.join("file"), [0; 400]).unwrap();
        }
        let ask = || shares.reserve(&folder, &limits(1000), Some(&garden), 300, DAY).unwrap();
        assert!(matches!(ask(), Admission::UsedUp { .. }));
        std::fs::remove_file(place.path().join("objects/devices/garden/shards/file")).unwrap();
        assert!(matches!(ask(), Admission::Room(_)), "the inbox has taken it in");
    }

    #[test]
    fn a_day_s_share_comes_back_at_midnight() {
        let (_place, folder, shares, garden) = scene();
        let limits = Limits { day_bytes: Some(1000), ..limits(u64::MAX) };
        let ask = |now_s| shares.reserve(&folder, &limits, Some(&garden), 600, now_s).unwrap();
        let Admission::Room(first) = ask(DAY) else { panic!("there is room") };
        first.arrived();
        assert!(matches!(ask(DAY + 86_000), Admission::UsedUp { after_s: 400 }));
        assert!(matches!(ask(DAY + DAY_S), Admission::Room(_)));
    }

    #[test]
    fn a_disk_keeps_what_it_is_to_keep() {
        let (_place, folder, shares, garden) = scene();
        let limits = Limits { keep_free: u64::MAX, ..limits(u64::MAX) };
        for device in [None, Some(&garden)] {
            assert!(matches!(shares.reserve(&folder, &limits, device, 1, DAY).unwrap(), Admission::Full { .. }));
        }
    }
}
