//! What happened, as Prometheus reads it.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use axum::Router;
use axum::routing::get;
use hyper::header::CONTENT_TYPE;

use crate::folder::Folder;

/// Upper ends of the classes of latency, in seconds.
const CLASSES: [f64; 9] = [0.001, 0.005, 0.02, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0];

/// Which operation of S3 a request turned out to be.
#[derive(Clone, Debug, Default)]
pub(crate) struct Operation(Arc<OnceLock<&'static str>>);

impl Operation {
    /// It is this one.
    pub(crate) fn is(&self, name: &'static str) {
        // A request is one operation only.
        let _ = self.0.set(name);
    }
}

/// A request that is not answered yet.
pub(crate) struct InFlight {
    counters: Counters,
    since: Instant,
    operation: Operation,
}

impl InFlight {
    pub(crate) fn operation(&self) -> &Operation {
        &self.operation
    }

    /// It is answered.
    pub(crate) fn answered(self, status: u16) {
        let operation = self.operation.0.get().copied().unwrap_or("none");
        self.counters.answered(operation, status, self.since.elapsed());
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.counters.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What happened since the host began. Copies count together.
#[derive(Clone, Debug, Default)]
pub struct Counters(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    /// Requests by operation and status.
    requests: Mutex<BTreeMap<(&'static str, u16), u64>>,
    in_flight: AtomicU64,
    classes: [AtomicU64; CLASSES.len()],
    answered: AtomicU64,
    microseconds: AtomicU64,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    refused: Mutex<BTreeMap<&'static str, u64>>,
    connections: AtomicU64,
}

impl Counters {
    /// A request begins.
    pub(crate) fn asked(&self) -> InFlight {
        self.0.in_flight.fetch_add(1, Ordering::Relaxed);
        InFlight { counters: self.clone(), since: Instant::now(), operation: Operation::default() }
    }

    fn answered(&self, operation: &'static str, status: u16, time: Duration) {
        let mut requests = self.0.requests.lock().unwrap_or_else(PoisonError::into_inner);
        *requests.entry((operation, status)).or_default() += 1;
        drop(requests);
        let seconds = time.as_secs_f64();
        for (class, most) in self.0.classes.iter().zip(CLASSES) {
            class.fetch_add(u64::from(seconds <= most), Ordering::Relaxed);
        }
        self.0.answered.fetch_add(1, Ordering::Relaxed);
        let microseconds = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        self.0.microseconds.fetch_add(microseconds, Ordering::Relaxed);
    }

    pub(crate) fn took(&self, bytes: u64) {
        self.0.bytes_in.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn gave(&self, bytes: u64) {
        self.0.bytes_out.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn refused(&self, reason: &'static str) {
        *self.0.refused.lock().unwrap_or_else(PoisonError::into_inner).entry(reason).or_default() += 1;
    }

    pub(crate) fn connected(&self) {
        self.0.connections.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn disconnected(&self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }

    /// All of it, in Prometheus' text format.
    ///
    /// Source: <https://prometheus.io/docs/instrumenting/exposition_formats/>.
    pub fn text(&self, free_bytes: u64) -> String {
        let mut text = String::new();
        let counts = &self.0;
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        text.push_str("# TYPE edgeblip_host_requests_total counter\n");
        for ((operation, status), count) in counts.requests.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            let labels = format!("operation=\"{operation}\",status=\"{status}\"");
            // Writing to a String does not fail; so below.
            let _ = writeln!(text, "edgeblip_host_requests_total{{{labels}}} {count}");
        }
        text.push_str("# TYPE edgeblip_host_refused_total counter\n");
        for (reason, count) in counts.refused.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            let _ = writeln!(text, "edgeblip_host_refused_total{{reason=\"{reason}\"}} {count}");
        }
        text.push_str("# TYPE edgeblip_host_request_seconds histogram\n");
        for (class, most) in counts.classes.iter().zip(CLASSES) {
            let _ = writeln!(text, "edgeblip_host_request_seconds_bucket{{le=\"{most}\"}} {}", load(class));
        }
        let (answered, seconds) = (load(&counts.answered), load(&counts.microseconds) as f64 / 1e6);
        let _ = writeln!(text, "edgeblip_host_request_seconds_bucket{{le=\"+Inf\"}} {answered}");
        let _ = writeln!(text, "edgeblip_host_request_seconds_sum {seconds}");
        let _ = writeln!(text, "edgeblip_host_request_seconds_count {answered}");
        for (name, kind, value) in [
            ("received_bytes_total", "counter", load(&counts.bytes_in)),
            ("sent_bytes_total", "counter", load(&counts.bytes_out)),
            ("connections", "gauge", load(&counts.connections)),
            ("requests_in_flight", "gauge", load(&counts.in_flight)),
            ("free_bytes", "gauge", free_bytes),
        ] {
            let _ = writeln!(text, "# TYPE edgeblip_host_{name} {kind}\nedgeblip_host_{name} {value}");
        }
        text
    }
}

/// `/metrics` and `/healthz`, to which other pages are added.
pub fn router(counters: Counters, folder: Folder) -> Router {
    let text = move || async move {
        let free_bytes = folder.free_bytes().unwrap_or(0);
        ([(CONTENT_TYPE, "text/plain; version=0.0.4")], counters.text(free_bytes))
    };
    Router::new().route("/metrics", get(text)).route("/healthz", get(|| async { "ok\n" }))
}
