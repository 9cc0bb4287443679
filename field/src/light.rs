//! What the status LED says, by blinking.

use std::time::Duration;

/// How the board does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// It waits: a short flash every three seconds.
    Idle,
    /// It works: half a second on, half a second off.
    Busy,
    /// Nothing more is kept, for the disk is full or cannot be written: two flashes, and a pause.
    Full,
    /// Something does not work: fast, without a pause.
    Error,
}

/// Milliseconds on and off in turn, over and over; on comes first.
const fn pattern(status: Status) -> &'static [u64] {
    match status {
        Status::Idle => &[50, 2950],
        Status::Busy => &[500, 500],
        Status::Full => &[150, 150, 150, 1550],
        Status::Error => &[100, 100],
    }
}

/// Whether the LED is lit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Light {
    /// It is.
    On,
    /// It is not.
    Off,
}

/// What the LED is at a time, and how long it stays so.
pub fn light(status: Status, at: Duration) -> (Light, Duration) {
    let pattern = pattern(status);
    let whole = Duration::from_millis(pattern.iter().sum());
    let mut within = Duration::from_nanos(u64::try_from(at.as_nanos() % whole.as_nanos()).unwrap_or_default());
    for (place, part) in pattern.iter().enumerate() {
        let part = Duration::from_millis(*part);
        if let Some(left) = part.checked_sub(within).filter(|left| !left.is_zero()) {
            return (if place % 2 == 0 { Light::On } else { Light::Off }, left);
        }
        within = within.saturating_sub(part);
    }
    // The parts sum up to the whole, and what is within it lies in one of them.
    (Light::Off, whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Status; 4] = [Status::Idle, Status::Busy, Status::Full, Status::Error];

    #[test]
    fn every_status_blinks_in_its_own_way() {
        let seen = |status| (0..6000).map(|ms| light(status, Duration::from_millis(ms)).0).collect::<Vec<_>>();
        let lit = |status| seen(status).iter().filter(|light| **light == Light::On).count();
        assert_eq!(ALL.map(lit), [100, 3000, 900, 3000]);
        let changes = |status| seen(status).windows(2).filter(|pair| pair[0] != pair[1]).count();
        assert_eq!(ALL.map(changes), [3, 11, 11, 59]);
    }

    #[test]
    fn a_light_stays_for_as_long_as_it_says_and_not_longer() {
        for status in ALL {
            let mut at = Duration::from_micros(123_457);
            for _ in 0..100 {
                let (now, left) = light(status, at);
                assert!(!left.is_zero());
                assert_eq!(light(status, at + left - Duration::from_nanos(1)).0, now);
                at += left;
                assert_ne!(light(status, at).0, now);
            }
        }
        light(Status::Idle, Duration::MAX);
    }
}
