//! Whether a camera streams, and when a lost one is looked for again. Time is an argument.

use std::time::Duration;

/// Whether frames come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// The source has not given a frame yet, nor failed to.
    Starting,
    /// Frames come.
    Streaming,
    /// It is lost, and looked for again and again.
    Waiting {
        /// When it was lost, since the epoch of [`crate::Options`].
        since: Duration,
        /// How often it was tried in vain.
        tries: u32,
        /// What was wrong the last time.
        reason: String,
    },
    /// The source is at its end: there will be no more frames.
    Finished {
        /// Why it ended too early, if it did.
        fault: Option<String>,
    },
}

/// How long a lost source is left alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// After the first failure. It doubles with each one.
    pub first: Duration,
    /// At most.
    pub longest: Duration,
    /// A source that has given frames for so long is well again: its next failure counts as the first.
    pub steady: Duration,
}

impl Default for Backoff {
    /// One second, at most a minute, and well after ten seconds.
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self { first: seconds(1), longest: seconds(60), steady: seconds(10) }
    }
}

/// The state of a camera, and what its backoff needs to know.
#[derive(Debug)]
pub(crate) struct Health {
    backoff: Backoff,
    state: State,
    /// Failures without a steady stream between them.
    failures: u32,
    streaming_since: Option<Duration>,
}

impl Health {
    pub fn new(backoff: Backoff) -> Self {
        Self { backoff, state: State::Starting, failures: 0, streaming_since: None }
    }

    pub fn state(&self) -> &State {
        &self.state
    }

    /// A frame came.
    pub fn streams(&mut self, now: Duration) {
        let since = *self.streaming_since.get_or_insert(now);
        if now.saturating_sub(since) >= self.backoff.steady {
            self.failures = 0;
        }
        self.state = State::Streaming;
    }

    /// The source failed: how long to leave it alone.
    pub fn failed(&mut self, now: Duration, reason: String) -> Duration {
        self.streaming_since = None;
        let (since, tries) = match self.state {
            State::Waiting { since, tries, .. } => (since, tries.saturating_add(1)),
            _ => (now, 1),
        };
        self.state = State::Waiting { since, tries, reason };
        let doublings = self.failures.min(31);
        self.failures = self.failures.saturating_add(1);
        self.backoff.first.saturating_mul(1 << doublings).min(self.backoff.longest)
    }

    pub fn finished(&mut self, fault: Option<String>) {
        self.state = State::Finished { fault };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn waiting(since: u64, tries: u32) -> State {
        State::Waiting { since: seconds(since), tries, reason: "gone".to_owned() }
    }

    #[test]
    fn waits_double_up_to_the_longest() {
        let mut health = Health::new(Backoff::default());
        let waits: Vec<u64> = (0..9).map(|now| health.failed(seconds(now), "gone".to_owned()).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        assert_eq!(health.state(), &waiting(0, 9));
        for now in 9..100 {
            assert_eq!(health.failed(seconds(now), "gone".to_owned()), seconds(60));
        }
    }

    #[test]
    fn source_that_fails_right_after_a_frame_is_not_hammered() {
        let mut health = Health::new(Backoff::default());
        for (round, wait) in [1, 2, 4, 8].into_iter().enumerate() {
            let now = seconds(10 + round as u64);
            health.streams(now);
            assert_eq!(health.state(), &State::Streaming);
            assert_eq!(health.failed(now, "gone".to_owned()), seconds(wait));
            assert_eq!(health.state(), &waiting(now.as_secs(), 1));
        }
    }

    #[test]
    fn steady_stream_makes_the_next_failure_the_first() {
        let mut health = Health::new(Backoff::default());
        for now in 0..5 {
            health.failed(seconds(now), "gone".to_owned());
        }
        health.streams(seconds(100));
        health.streams(seconds(109));
        assert_eq!(health.failed(seconds(109), "gone".to_owned()), seconds(32));
        health.streams(seconds(200));
        health.streams(seconds(210));
        assert_eq!(health.failed(seconds(211), "gone".to_owned()), seconds(1));
    }
}
