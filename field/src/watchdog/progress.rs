//! Counters of work done, which stages count up and the watchdog reads.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// The stages of a program, each with its steps.
#[derive(Clone, Debug, Default)]
pub struct Progress(Arc<Mutex<Vec<Stage>>>);

impl Progress {
    /// No stages yet.
    pub fn new() -> Progress {
        Progress::default()
    }

    /// A new stage, which rests.
    pub fn stage(&self, name: &'static str) -> Stage {
        let stage = Stage(Arc::new(Counter { name, steps: AtomicU64::new(0), busy: AtomicBool::new(false) }));
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(stage.clone());
        stage
    }

    /// Every stage, in the order in which they were made.
    pub fn stages(&self) -> Vec<Stage> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Steps of all stages.
    pub fn steps(&self) -> u64 {
        self.stages().iter().fold(0, |sum, stage| sum.wrapping_add(stage.steps()))
    }
}

/// One stage. Clones are of the same stage.
#[derive(Clone, Debug)]
pub struct Stage(Arc<Counter>);

#[derive(Debug)]
struct Counter {
    name: &'static str,
    steps: AtomicU64,
    busy: AtomicBool,
}

impl Stage {
    /// Its name.
    pub fn name(&self) -> &'static str {
        self.0.name
    }

    /// It has work from now on.
    pub fn begin(&self) {
        self.step();
        self.0.busy.store(true, Ordering::Release);
    }

    /// It has got something done: a frame, a token, a pair on the disk.
    pub fn step(&self) {
        self.0.steps.fetch_add(1, Ordering::AcqRel);
    }

    /// It has no work for now.
    pub fn rest(&self) {
        self.0.busy.store(false, Ordering::Release);
        self.step();
    }

    /// Steps so far.
    pub fn steps(&self) -> u64 {
        self.0.steps.load(Ordering::Acquire)
    }

    /// Whether it has work.
    pub fn is_busy(&self) -> bool {
        self.0.busy.load(Ordering::Acquire)
    }
}
