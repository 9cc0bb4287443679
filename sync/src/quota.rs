//! How many bytes go out in a day.

use serde::{Deserialize, Serialize};

const DAY_S: i64 = 24 * 60 * 60;

/// Bytes of the present day, UTC. A clock that goes back does not give them back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quota {
    day: i64,
    bytes: u64,
}

impl Quota {
    /// What may still go out; nothing without a limit.
    pub fn left(&self, most: Option<u64>, wall_s: i64) -> Option<u64> {
        let used = if wall_s.div_euclid(DAY_S) > self.day { 0 } else { self.bytes };
        most.map(|most| most.saturating_sub(used))
    }

    /// Counts what went out.
    pub fn count(&mut self, bytes: u64, wall_s: i64) {
        let day = wall_s.div_euclid(DAY_S);
        if day > self.day {
            *self = Quota { day, bytes: 0 };
        }
        self.bytes = self.bytes.saturating_add(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_has_its_bytes_and_a_clock_that_goes_back_gives_no_more() {
        let mut quota = Quota::default();
        assert_eq!(quota.left(None, DAY_S), None);
        quota.count(60, DAY_S + 5);
        assert_eq!(quota.left(Some(100), DAY_S + 9), Some(40));
        quota.count(60, 3);
        assert_eq!(quota.left(Some(100), 3), Some(0));
        assert_eq!(quota.left(Some(100), 2 * DAY_S), Some(100));
        quota.count(1, 2 * DAY_S);
        assert_eq!(quota.left(Some(100), 2 * DAY_S), Some(99));
    }
}
