//! A clock that is told what time it is.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::{BootId, Clock, ClockQuality, Moment};

/// A clock that goes only when it is told to: days pass at once.
#[derive(Debug)]
pub struct SimulatedClock(Mutex<Moment>);

impl SimulatedClock {
    /// A board that has just started at a time.
    pub fn new(boot: BootId, wall_ms: Option<i64>, quality: ClockQuality) -> SimulatedClock {
        SimulatedClock(Mutex::new(Moment { boot, since_boot: Duration::ZERO, wall_ms, quality }))
    }

    /// Lets time pass.
    pub fn advance(&self, by: Duration) {
        self.change(|moment| {
            moment.since_boot = moment.since_boot.saturating_add(by);
            let by_ms = i64::try_from(by.as_millis()).unwrap_or(i64::MAX);
            moment.wall_ms = moment.wall_ms.map(|wall_ms| wall_ms.saturating_add(by_ms));
        });
    }

    /// Sets the wall clock.
    pub fn set(&self, wall_ms: Option<i64>, quality: ClockQuality) {
        self.change(|moment| {
            moment.wall_ms = wall_ms;
            moment.quality = quality;
        });
    }

    /// Starts the board again; the wall clock stays where it was.
    pub fn reboot(&self, boot: BootId) {
        self.change(|moment| {
            moment.boot = boot;
            moment.since_boot = Duration::ZERO;
        });
    }

    fn change(&self, change: impl FnOnce(&mut Moment)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl Clock for SimulatedClock {
    fn now(&self) -> Moment {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
