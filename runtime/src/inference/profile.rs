//! Which operators a picture's time goes to.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// What all calls of one operator in one graph took.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct OperatorTime {
    /// The graph's file.
    pub graph: String,
    /// The operator.
    pub operator: String,
    /// Instruction set of our kernel, or "tract" where tract's own code runs.
    pub kernel: String,
    /// How often it ran.
    pub calls: u64,
    /// Wall time of all calls.
    #[serde(serialize_with = "seconds")]
    pub time: Duration,
}

/// Collects what operators take, once it is asked to.
#[derive(Debug, Default)]
pub struct Profile {
    is_on: AtomicBool,
    times: Mutex<BTreeMap<[String; 3], (u64, Duration)>>,
}

impl Profile {
    /// Counts from now on, from zero.
    pub fn start(&self) {
        self.times.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.is_on.store(true, Ordering::Relaxed);
    }

    /// What was counted, the longest first.
    pub fn rows(&self) -> Vec<OperatorTime> {
        let times = self.times.lock().unwrap_or_else(PoisonError::into_inner);
        let row = |([graph, operator, kernel], (calls, time)): (&[String; 3], &(u64, Duration))| OperatorTime {
            graph: graph.clone(),
            operator: operator.clone(),
            kernel: kernel.clone(),
            calls: *calls,
            time: *time,
        };
        let mut rows: Vec<_> = times.iter().map(row).collect();
        rows.sort_by_key(|row| std::cmp::Reverse(row.time));
        rows
    }

    pub(super) fn is_on(&self) -> bool {
        self.is_on.load(Ordering::Relaxed)
    }

    pub(super) fn add(&self, key: [String; 3], time: Duration) {
        let mut times = self.times.lock().unwrap_or_else(PoisonError::into_inner);
        let (calls, total) = times.entry(key).or_default();
        *calls += 1;
        *total += time;
    }
}

fn seconds<S: serde::Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(time.as_secs_f64())
}
