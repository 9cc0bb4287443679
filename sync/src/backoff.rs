//! How long to leave a network alone that failed.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::Moment;

/// The longest wait after the first failure.
pub const FIRST: Duration = Duration::from_secs(4);
/// The longest wait after any.
pub const LONGEST: Duration = Duration::from_secs(30 * 60);

/// Exponential backoff with full jitter: after the n-th failure in a row, any time up to `FIRST` doubled n - 1 times, so
/// that boards which lost one network do not come back at one moment.
///
/// Source: M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Backoff {
    failures: u32,
    until: Option<Until>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Until {
    boot: String,
    since_boot_ms: u64,
}

impl Backoff {
    /// Failures in a row.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// How much of the wait is left. A restart of the board ends the wait, but not the count.
    pub fn left(&self, now: &Moment) -> Duration {
        let until = self.until.as_ref().filter(|until| until.boot == now.boot);
        until.map_or(Duration::ZERO, |until| Duration::from_millis(until.since_boot_ms).saturating_sub(now.since_boot))
    }

    /// It failed again. `asked` is the least that the server wants to be left alone; `draw` is from 0 to 1.
    pub fn fail(&mut self, now: &Moment, asked: Option<Duration>, draw: f64) -> Duration {
        self.failures = self.failures.saturating_add(1);
        let doubled = 2u32.checked_pow(self.failures - 1).and_then(|factor| FIRST.checked_mul(factor));
        let most = doubled.map_or(LONGEST, |most| most.min(LONGEST));
        let wait = asked.unwrap_or_default().min(LONGEST) + most.mul_f64(draw.clamp(0.0, 1.0));
        let until = now.since_boot.saturating_add(wait).as_millis();
        self.until = Some(Until { boot: now.boot.clone(), since_boot_ms: u64::try_from(until).unwrap_or(u64::MAX) });
        wait
    }

    /// It went well.
    pub fn succeed(&mut self) {
        *self = Backoff::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(boot: &str, seconds: u64) -> Moment {
        Moment { boot: boot.to_owned(), since_boot: Duration::from_secs(seconds), wall_s: 0 }
    }

    #[test]
    fn waits_double_to_an_end_and_are_spread() {
        let mut backoff = Backoff::default();
        let longest: Vec<u64> = (0..14).map(|_| backoff.fail(&at("a", 0), None, 1.0).as_secs()).collect();
        assert_eq!(longest, [4, 8, 16, 32, 64, 128, 256, 512, 1024, 1800, 1800, 1800, 1800, 1800]);
        assert_eq!(backoff.fail(&at("a", 0), None, 0.0), Duration::ZERO);
        assert_eq!(backoff.fail(&at("a", 0), None, 0.25).as_secs(), 450);
        assert_eq!(backoff.fail(&at("a", 0), Some(Duration::from_secs(60)), 0.0).as_secs(), 60);
        backoff.failures = u32::MAX;
        assert_eq!(backoff.fail(&at("a", 0), Some(Duration::MAX), 1.0), 2 * LONGEST);
    }

    #[test]
    fn the_count_survives_a_restart_and_the_wait_does_not() {
        let mut backoff = Backoff::default();
        for _ in 0..8 {
            backoff.fail(&at("a", 100), None, 1.0);
        }
        let kept: Backoff = serde_json::from_str(&serde_json::to_string(&backoff).unwrap()).unwrap();
        assert_eq!(kept.left(&at("a", 112)).as_secs(), 500);
        assert_eq!(kept.left(&at("a", 9999)), Duration::ZERO);
        assert_eq!(kept.left(&at("b", 0)), Duration::ZERO);
        assert_eq!(kept.failures(), 8);
        backoff.succeed();
        assert_eq!(backoff.left(&at("a", 100)), Duration::ZERO);
    }
}
