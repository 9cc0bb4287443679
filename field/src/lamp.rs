//! A lamp that is on while a frame is taken, and never for longer than it may.

use std::time::Duration;

use crate::config::Pins;
use crate::light::Light;

/// When the lamp is on.
#[derive(Clone, Debug)]
pub struct Lamp {
    lead: Duration,
    longest: Duration,
    on: Option<On>,
}

#[derive(Clone, Copy, Debug)]
struct On {
    since: Duration,
    /// Frames that are still to be taken in its light.
    frames: u32,
}

impl Lamp {
    /// A lamp that is off.
    pub fn new(pins: &Pins) -> Lamp {
        let [lead, longest] = times(pins);
        Lamp { lead, longest, on: None }
    }

    /// Takes over a configuration that has changed, for the light that is on too.
    pub fn set(&mut self, pins: &Pins) {
        [self.lead, self.longest] = times(pins);
    }

    /// A frame is to be taken: lights the lamp. Answers when the frame may be taken.
    pub fn want(&mut self, now: Duration) -> Duration {
        let on = match self.on {
            Some(on) if self.is_allowed(&on, now) => On { frames: on.frames.saturating_add(1), ..on },
            _ => On { since: now, frames: 1 },
        };
        self.on = Some(on);
        now.max(on.since.saturating_add(self.lead))
    }

    /// A frame has been taken, or will not be.
    pub fn done(&mut self) {
        self.on =
            self.on.and_then(|on| Some(On { frames: on.frames.checked_sub(1)?, ..on }).filter(|on| on.frames > 0));
    }

    /// What the lamp is now.
    pub fn light(&mut self, now: Duration) -> Light {
        // One that was on for as long as it may stays off until the next frame is wanted.
        self.on = self.on.filter(|on| self.is_allowed(on, now));
        if self.on.is_some() { Light::On } else { Light::Off }
    }

    /// When it goes off by itself.
    pub fn goes_off(&self) -> Option<Duration> {
        self.on.map(|on| on.since.saturating_add(self.longest))
    }

    fn is_allowed(&self, on: &On, now: Duration) -> bool {
        now.saturating_sub(on.since) < self.longest
    }
}

/// How long before the frame it is on, and how long at most.
fn times(pins: &Pins) -> [Duration; 2] {
    [pins.lamp_lead_ms, pins.lamp_longest_ms].map(|ms| Duration::from_millis(ms.into()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn lamp() -> Lamp {
        Lamp::new(&Pins { lamp_lead_ms: 200, lamp_longest_ms: 1000, ..Pins::default() })
    }

    #[test]
    fn it_is_on_before_the_frame_and_off_after_it() {
        let mut lamp = lamp();
        assert_eq!(lamp.light(5 * MS), Light::Off);
        assert_eq!(lamp.want(10 * MS), 210 * MS);
        assert_eq!(lamp.light(210 * MS), Light::On);
        lamp.done();
        assert_eq!(lamp.light(211 * MS), Light::Off);
        assert_eq!(lamp.goes_off(), None);
    }

    #[test]
    fn frames_that_overlap_share_its_light() {
        let mut lamp = lamp();
        assert_eq!(lamp.want(Duration::ZERO), 200 * MS);
        assert_eq!(lamp.want(300 * MS), 300 * MS);
        lamp.done();
        assert_eq!(lamp.light(400 * MS), Light::On);
        lamp.done();
        assert_eq!(lamp.light(400 * MS), Light::Off);
        lamp.done();
    }

    #[test]
    fn a_frame_that_never_comes_does_not_keep_it_on() {
        let mut lamp = lamp();
        lamp.want(Duration::ZERO);
        assert_eq!(lamp.goes_off(), Some(1000 * MS));
        assert_eq!(lamp.light(999 * MS), Light::On);
        assert_eq!(lamp.light(1000 * MS), Light::Off);
        assert_eq!(lamp.want(1500 * MS), 1700 * MS);
        assert_eq!(lamp.light(1500 * MS), Light::On);
    }

    #[test]
    fn times_that_change_hold_for_the_light_that_is_on() {
        let mut lamp = Lamp::new(&Pins { lamp_lead_ms: 200, lamp_longest_ms: 3000, ..Pins::default() });
        assert_eq!(lamp.want(Duration::ZERO), 200 * MS);
        lamp.set(&Pins { lamp_lead_ms: 500, lamp_longest_ms: 1000, ..Pins::default() });
        assert_eq!((lamp.want(100 * MS), lamp.goes_off()), (500 * MS, Some(1000 * MS)));
        assert_eq!(lamp.light(1000 * MS), Light::Off);
    }

    proptest! {
        #[test]
        fn it_is_never_on_for_longer_than_it_may(steps in prop::collection::vec((0_u32..400, 0_u8..3), 1..200)) {
            let mut lamp = lamp();
            let (mut now, mut since) = (Duration::ZERO, None);
            for (wait, step) in steps {
                now += wait * MS;
                match step {
                    0 => {
                        // A new light may begin in the moment in which the old one had to end.
                        since = since.filter(|since| now - *since < 1000 * MS);
                        prop_assert!(lamp.want(now) <= now + 200 * MS);
                    }
                    1 => lamp.done(),
                    _ => {}
                }
                match lamp.light(now) {
                    Light::On => {
                        let since = *since.get_or_insert(now);
                        prop_assert!(now - since < 1000 * MS);
                    }
                    Light::Off => since = None,
                }
            }
        }
    }
}
