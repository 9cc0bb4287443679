//! Jumps of the wall clock against the time since boot.

use std::time::Duration;

use super::{BootId, ClockQuality, Moment};

/// What is not told as a jump, in milliseconds.
const LEAST_MS: i64 = 1000;
/// How fast a time server may move the clock without a jump, in millionths. Source: `adjtimex(2)`, "MAXPHASE" and the
/// kernel's limit of 500 ppm; crystals add up to 100.
const SLEW_PPM: i64 = 600;

/// The wall clock was set to another time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Jump {
    /// Milliseconds that it went forward; below zero, back.
    pub by_ms: i64,
    /// What the time was from before.
    pub from: ClockQuality,
    /// What it is from now.
    pub to: ClockQuality,
}

/// Looks for jumps from one moment to the next.
#[derive(Debug, Default)]
pub struct Jumps {
    last: Option<Moment>,
    count: u64,
}

impl Jumps {
    /// A watch that has seen nothing.
    pub fn new() -> Jumps {
        Jumps::default()
    }

    /// Jumps so far.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Looks at the time; the jump since the last look, if there was one.
    pub fn look(&mut self, now: &Moment) -> Option<Jump> {
        let before = self.last.replace(*now)?;
        let wall = now.wall_ms?.checked_sub(before.wall_ms?)?;
        let elapsed = elapsed_ms(&before.boot, before.since_boot, now)?;
        let by_ms = wall.saturating_sub(elapsed);
        let slewed = elapsed.saturating_mul(SLEW_PPM) / 1_000_000;
        if by_ms.unsigned_abs() <= LEAST_MS.saturating_add(slewed).unsigned_abs() {
            return None;
        }
        self.count += 1;
        Some(Jump { by_ms, from: before.quality, to: now.quality })
    }
}

fn elapsed_ms(boot: &BootId, since_boot: Duration, now: &Moment) -> Option<i64> {
    let elapsed = now.since_boot.checked_sub(since_boot).filter(|_| *boot == now.boot)?;
    i64::try_from(elapsed.as_millis()).ok()
}
