//! Heat and supply: what the board measures of itself, and how much it slows down before its firmware does.

mod sensors;

pub use sensors::{Reading, Sensors, Throttled};

use crate::config::Limits;

/// Degrees that it must get cooler before it gets faster again.
const PLAY: f64 = 3.0;

/// Why intervals are longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Because {
    /// They are not.
    Nothing,
    /// It is warm.
    Warm,
    /// The supply's voltage is low.
    UnderVoltage,
    /// The firmware has slowed the processor down already.
    Throttled,
}

/// How many times as long the intervals are, at least 1, and why.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pace {
    /// Times as long.
    pub stretch: f64,
    /// What asks for the most.
    pub because: Because,
}

/// Slows down with heat at once, and speeds up when it has become cooler by some degrees.
#[derive(Clone, Debug, Default)]
pub struct Slowing {
    /// The temperature that counts: it follows the measured one with play.
    counted: Option<f64>,
}

impl Slowing {
    /// A cool board.
    pub fn new() -> Slowing {
        Slowing::default()
    }

    /// How slow to be after a reading.
    pub fn pace(&mut self, reading: &Reading, limits: &Limits) -> Pace {
        if let Some(celsius) = reading.celsius {
            self.counted = Some(self.counted.unwrap_or(celsius).clamp(celsius, celsius + PLAY));
        }
        let warm = Pace { stretch: self.stretch_of_heat(limits), because: Because::Warm };
        let throttled = reading.throttled.is_some_and(Throttled::is_throttled);
        let under_voltage =
            reading.under_voltage == Some(true) || reading.throttled.is_some_and(Throttled::is_under_voltage);
        [
            (true, warm),
            (under_voltage, Pace { stretch: limits.under_voltage, because: Because::UnderVoltage }),
            (throttled, Pace { stretch: limits.slowest, because: Because::Throttled }),
        ]
        .into_iter()
        .filter(|(holds, pace)| *holds && pace.stretch > 1.0)
        .map(|(_, pace)| pace)
        .fold(Pace { stretch: 1.0, because: Because::Nothing }, |most, pace| {
            if pace.stretch > most.stretch { pace } else { most }
        })
    }

    /// From 1 at `warm` to `slowest` at `hot`, each degree by the same factor.
    fn stretch_of_heat(&self, limits: &Limits) -> f64 {
        let Some(counted) = self.counted else { return 1.0 };
        let share = (counted - limits.warm_celsius) / (limits.hot_celsius - limits.warm_celsius);
        limits.slowest.powf(share.clamp(0.0, 1.0))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn limits() -> Limits {
        Limits { warm_celsius: 70.0, hot_celsius: 80.0, slowest: 16.0, under_voltage: 4.0, ..Limits::default() }
    }

    fn at(celsius: f64) -> Reading {
        Reading { celsius: Some(celsius), ..Reading::default() }
    }

    #[test]
    fn heat_stretches_at_once_and_lets_go_with_play() {
        let mut slowing = Slowing::new();
        let mut stretch = |celsius| slowing.pace(&at(celsius), &limits()).stretch;
        assert_eq!(stretch(50.0), 1.0);
        assert_eq!(stretch(75.0), 4.0);
        assert_eq!(stretch(73.0), 4.0);
        assert_eq!(stretch(72.0), 4.0);
        assert!(stretch(70.0) < 4.0);
        assert_eq!(stretch(90.0), 16.0);
        assert_eq!(stretch(60.0), 1.0);
    }

    #[test]
    fn a_low_voltage_and_a_throttled_processor_stretch_too() {
        let reading = |under_voltage, bits: u32| Reading {
            celsius: Some(40.0),
            under_voltage: Some(under_voltage),
            throttled: Some(Throttled(bits)),
        };
        let pace = |reading: &Reading| Slowing::new().pace(reading, &limits());
        assert_eq!(pace(&reading(false, 0)), Pace { stretch: 1.0, because: Because::Nothing });
        assert_eq!(pace(&reading(true, 0)), Pace { stretch: 4.0, because: Because::UnderVoltage });
        assert_eq!(pace(&reading(false, 0x1_0001)).because, Because::UnderVoltage);
        assert_eq!(pace(&reading(true, 0x5)), Pace { stretch: 16.0, because: Because::Throttled });
        // What has been and is no more does not count.
        assert_eq!(pace(&reading(false, 0x5_0000)).because, Because::Nothing);
    }

    #[test]
    fn without_sensors_nothing_is_slowed() {
        assert_eq!(Slowing::new().pace(&Reading::default(), &limits()).stretch, 1.0);
    }

    proptest! {
        #[test]
        fn a_pace_lies_between_one_and_the_slowest(readings in prop::collection::vec(-40.0..130.0, 1..50)) {
            let mut slowing = Slowing::new();
            for celsius in readings {
                let stretch = slowing.pace(&at(celsius), &limits()).stretch;
                prop_assert!((1.0..=16.0).contains(&stretch));
                prop_assert!(celsius < 80.0 || stretch == 16.0);
                prop_assert!(celsius > 67.0 || stretch == 1.0);
            }
        }
    }
}
