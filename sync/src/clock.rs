//! Time as an argument.

use std::time::Duration;

/// A moment on a board whose clock may lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moment {
    /// What the system calls the time since it started.
    pub boot: String,
    /// How long that is. It stands still for nobody, and is comparable only within a boot.
    pub since_boot: Duration,
    /// Seconds since 1970, as the system believes.
    pub wall_s: i64,
}

/// What became of a wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waited {
    /// It is over.
    Whole,
    /// Somebody wants us to stop.
    Stop,
}

/// What tells the time and lets it pass.
pub trait Clock {
    /// Now.
    fn now(&self) -> Moment;

    /// Waits, unless somebody wants us to stop.
    fn wait(&mut self, time: Duration) -> Waited;
}
