//! Where the board stands, as exactly as its people want it known.

/// A place on Earth, in degrees of WGS 84.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Coordinates {
    latitude: f64,
    longitude: f64,
}

impl Coordinates {
    /// The place; `None` if there is none at these degrees.
    pub fn new(latitude: f64, longitude: f64) -> Option<Coordinates> {
        let is_place = (-90.0..=90.0).contains(&latitude) && (-180.0..=180.0).contains(&longitude);
        is_place.then_some(Coordinates { latitude, longitude })
    }

    /// Degrees north.
    pub fn latitude(&self) -> f64 {
        self.latitude
    }

    /// Degrees east.
    pub fn longitude(&self) -> f64 {
        self.longitude
    }

    /// The place with so many decimals of a degree, and nothing of the rest.
    #[must_use]
    pub fn rounded(&self, decimals: u8) -> Coordinates {
        let step = 10_f64.powi(decimals.min(15).into());
        // Zero has no sign, which would tell a side of the equator.
        let round = |degrees: f64| (degrees * step).round() / step + 0.0;
        Coordinates { latitude: round(self.latitude), longitude: round(self.longitude) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_place_lies_on_earth() {
        assert!(Coordinates::new(-90.0, 180.0).is_some());
        for (latitude, longitude) in [(90.1, 0.0), (0.0, -180.1), (f64::NAN, 0.0), (0.0, f64::INFINITY)] {
            assert_eq!(Coordinates::new(latitude, longitude), None);
        }
    }

    #[test]
    fn rounding_leaves_the_decimals_that_are_wanted() {
        let place = Coordinates::new(52.520_008, -13.404_954).unwrap();
        let written = |decimals| {
            let place = place.rounded(decimals);
            format!("{} {}", place.latitude(), place.longitude())
        };
        assert_eq!(written(3), "52.52 -13.405");
        assert_eq!(written(1), "52.5 -13.4");
        assert_eq!(written(0), "53 -13");
        assert_eq!(written(7), "52.520008 -13.404954");
        let near_zero = Coordinates::new(-0.000_04, 0.000_04).unwrap().rounded(3);
        assert!(near_zero.latitude().is_sign_positive());
    }

    proptest! {
        #[test]
        fn a_rounded_place_is_near_and_stays_where_it_is(
            latitude in -90.0..=90.0_f64, longitude in -180.0..=180.0_f64, decimals in 0_u8..8,
        ) {
            let rounded = Coordinates::new(latitude, longitude).unwrap().rounded(decimals);
            let most = 0.5 * 0.1_f64.powi(decimals.into()) + 1e-9;
            prop_assert!((rounded.latitude() - latitude).abs() <= most);
            prop_assert!((rounded.longitude() - longitude).abs() <= most);
            prop_assert_eq!(rounded.rounded(decimals), rounded);
            prop_assert!(Coordinates::new(rounded.latitude(), rounded.longitude()).is_some());
        }
    }
}
