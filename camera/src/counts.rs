//! What became of every frame, and how large one may be.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// How much is taken from a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one JPEG.
    pub jpeg_bytes: usize,
    /// How long nothing may come before a source is opened anew.
    pub patience: Duration,
}

impl Default for Limits {
    /// 16 MiB, which is more than a JPEG of 12 million pixels takes, and ten seconds.
    fn default() -> Self {
        Self { jpeg_bytes: 16 << 20, patience: Duration::from_secs(10) }
    }
}

/// What became of the frames since a camera was started. All frames are accounted for: `captured` is the sum of
/// `delivered`, `replaced`, `paced`, `unmaskable` and the one that may be waiting. What never became a frame is
/// counted apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Frames that a source gave.
    pub captured: u64,
    /// Handed over.
    pub delivered: u64,
    /// Dropped because a newer one came before anybody asked.
    pub replaced: u64,
    /// Dropped because they came faster than the highest rate.
    pub paced: u64,
    /// Dropped because they cannot be decoded, and what must not be kept cannot be painted over.
    pub unmaskable: u64,
    /// Pictures of a stream that were cut short or contradict themselves.
    pub damaged: u64,
    /// Pictures larger than the limit.
    pub too_large: u64,
    /// Bytes of a stream that belong to no picture.
    pub stray_bytes: u64,
    /// Files of a folder that never became a picture.
    pub unreadable: u64,
    /// Times that a source was lost, or could not be opened.
    pub losses: u64,
}

/// [`Counts`] as they are counted, by the thread that looks and by the one that takes.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub captured: Counter,
    pub delivered: Counter,
    pub replaced: Counter,
    pub paced: Counter,
    pub unmaskable: Counter,
    pub damaged: Counter,
    pub too_large: Counter,
    pub stray_bytes: Counter,
    pub unreadable: Counter,
    pub losses: Counter,
}

#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Tally {
    pub fn counts(&self) -> Counts {
        Counts {
            captured: self.captured.get(),
            delivered: self.delivered.get(),
            replaced: self.replaced.get(),
            paced: self.paced.get(),
            unmaskable: self.unmaskable.get(),
            damaged: self.damaged.get(),
            too_large: self.too_large.get(),
            stray_bytes: self.stray_bytes.get(),
            unreadable: self.unreadable.get(),
            losses: self.losses.get(),
        }
    }
}
