//! The number that a [`Cpu`](super::Cpu) computes with: `f32`, or `f64` to check derivatives.

use std::fmt::Debug;
use std::ops::{Add, AddAssign, Div, Mul, MulAssign, Neg, Sub};

/// A floating-point number.
pub trait Real:
    Copy
    + Debug
    + Default
    + PartialOrd
    + Send
    + Sync
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
    + AddAssign
    + MulAssign
    + 'static
{
    /// Nothing.
    const ZERO: Self;
    /// The unit.
    const ONE: Self;
    /// Not a number.
    const NAN: Self;

    /// The nearest value.
    fn from_f64(value: f64) -> Self;
    /// The same value.
    fn to_f64(self) -> f64;
    /// `self * factor + term`, rounded once.
    fn mul_add(self, factor: Self, term: Self) -> Self;
    /// Square root.
    fn sqrt(self) -> Self;
    /// Natural logarithm.
    fn ln(self) -> Self;
    /// `e^self`. In `f32` within 2 units in the last place, zero below -87.3 and `e^88.3` above 88.3.
    fn exp(self) -> Self;
    /// The normal distribution's share below `self`, and its density there. In `f32` both are within 2.5e-7.
    fn normal(self) -> (Self, Self);

    /// The nearest value.
    #[inline(always)]
    fn from_f32(value: f32) -> Self {
        Self::from_f64(f64::from(value))
    }

    /// The nearest value.
    #[inline(always)]
    fn to_f32(self) -> f32 {
        self.to_f64() as f32
    }

    /// The larger one; `self` where they cannot be compared.
    #[inline(always)]
    fn or_larger(self, other: Self) -> Self {
        if other > self { other } else { self }
    }
}

/// `1 / sqrt(2 pi)`.
const DENSITY_AT_ZERO: f64 = 0.398_942_280_401_432_7;

impl Real for f64 {
    const ZERO: Self = 0.0;
    const ONE: Self = 1.0;
    const NAN: Self = f64::NAN;

    #[inline(always)]
    fn from_f64(value: f64) -> Self {
        value
    }

    #[inline(always)]
    fn to_f64(self) -> f64 {
        self
    }

    #[inline(always)]
    fn mul_add(self, factor: Self, term: Self) -> Self {
        f64::mul_add(self, factor, term)
    }

    #[inline(always)]
    fn sqrt(self) -> Self {
        f64::sqrt(self)
    }

    #[inline(always)]
    fn ln(self) -> Self {
        f64::ln(self)
    }

    #[inline(always)]
    fn exp(self) -> Self {
        f64::exp(self)
    }

    #[inline(always)]
    fn normal(self) -> (Self, Self) {
        let share = 0.5 * libm::erfc(-self * std::f64::consts::FRAC_1_SQRT_2);
        (share, DENSITY_AT_ZERO * f64::exp(-0.5 * self * self))
    }
}

impl Real for f32 {
    const ZERO: Self = 0.0;
    const ONE: Self = 1.0;
    const NAN: Self = f32::NAN;

    #[inline(always)]
    fn from_f64(value: f64) -> Self {
        value as f32
    }

    #[inline(always)]
    fn from_f32(value: f32) -> Self {
        value
    }

    #[inline(always)]
    fn to_f64(self) -> f64 {
        f64::from(self)
    }

    #[inline(always)]
    fn mul_add(self, factor: Self, term: Self) -> Self {
        f32::mul_add(self, factor, term)
    }

    #[inline(always)]
    fn sqrt(self) -> Self {
        f32::sqrt(self)
    }

    #[inline(always)]
    fn ln(self) -> Self {
        f32::ln(self)
    }

    #[inline(always)]
    fn exp(self) -> Self {
        exp(self)
    }

    #[inline(always)]
    fn normal(self) -> (Self, Self) {
        let density_without_factor = exp(-0.5 * self * self);
        let tail = tail(self.abs()) * density_without_factor;
        let share = if self > 0.0 { 1.0 - tail } else { tail };
        (share, DENSITY_AT_ZERO as f32 * density_without_factor)
    }
}

/// `e^x` without branches, so that loops over it become vector code: `2^n e^r` with `|r| <= ln 2 / 2`.
///
/// Source of the scheme: Cody and Waite, "Software Manual for the Elementary Functions", 1980, chapter 6. The polynomial
/// for `(e^r - 1 - r) / r^2` is a least-squares fit reweighted to an even error, 3.1e-9 of `e^r`.
#[inline(always)]
fn exp(x: f32) -> f32 {
    const LOWEST: f32 = -87.3;
    const HIGHEST: f32 = 88.3;
    /// Adding it rounds to a whole number, which the low bits then hold.
    const ROUNDER: f32 = 12_582_912.0;
    /// `ln 2` in two parts, of which the first has few bits.
    const LN_2: [f32; 2] = [0.693_359_4, -2.121_944_4e-4];
    const POLYNOMIAL: [f32; 5] = [0.499_999_93, 0.166_665_2, 0.041_668_393, 0.008_368_78, 0.001_381_446_5];
    let bounded = if x > HIGHEST { HIGHEST } else { x };
    let bounded = if bounded < LOWEST { LOWEST } else { bounded };
    let shifted = bounded.mul_add(std::f32::consts::LOG2_E, ROUNDER);
    let n = shifted - ROUNDER;
    let r = n.mul_add(-LN_2[1], n.mul_add(-LN_2[0], bounded));
    let mut sum = POLYNOMIAL[4];
    for place in (0..4).rev() {
        sum = sum.mul_add(r, POLYNOMIAL[place]);
    }
    let fraction = (sum * r).mul_add(r, r) + 1.0;
    let exponent = shifted.to_bits().wrapping_sub(ROUNDER.to_bits()).wrapping_add(127);
    let value = fraction * f32::from_bits(exponent << 23);
    if x < LOWEST { 0.0 } else { value }
}

/// The normal distribution's share above `x >= 0`, divided by `e^(-x^2 / 2)`: a polynomial in `1 / (1 + 0.29 x)`.
///
/// Source of the form: Abramowitz and Stegun, formula 26.2.17. The coefficients are a least-squares fit reweighted to an
/// even relative error, 1.3e-8 for x to 6.5.
#[inline(always)]
fn tail(x: f32) -> f32 {
    const POLYNOMIAL: [f32; 8] = [
        0.115_424_424,
        0.119_731_84,
        0.079_866_55,
        0.180_823_86,
        -0.146_668_84,
        0.303_885_73,
        -0.192_419_02,
        0.039_355_45,
    ];
    let t = 1.0 / x.mul_add(0.29, 1.0);
    let mut sum = POLYNOMIAL[7];
    for place in (0..7).rev() {
        sum = sum.mul_add(t, POLYNOMIAL[place]);
    }
    sum * t
}

#[cfg(test)]
mod tests {
    use super::Real;

    #[test]
    fn exp_is_within_two_units_in_the_last_place() {
        for step in -870_000..880_000 {
            let x = step as f32 * 1e-4;
            let expected = f64::from(x).exp();
            let unit = f64::from((expected as f32).next_up()) - f64::from(expected as f32);
            let error = (f64::from(Real::exp(x)) - expected).abs() / unit;
            assert!(error <= 2.0, "exp({x}) is {error} units off");
        }
    }

    #[test]
    fn exp_at_the_extremes_is_zero_large_or_not_a_number() {
        assert_eq!(Real::exp(f32::NEG_INFINITY), 0.0);
        assert_eq!(Real::exp(-100f32), 0.0);
        assert_eq!(Real::exp(0f32), 1.0);
        assert!(Real::exp(f32::INFINITY) > 2e38);
        assert!(Real::exp(f32::NAN).is_nan());
    }

    #[test]
    fn normal_is_that_of_libm() {
        for step in -120_000..120_000 {
            let x = step as f32 * 1e-4;
            let (share, density) = Real::normal(x);
            let (expected, expected_density) = Real::normal(f64::from(x));
            assert!((f64::from(share) - expected).abs() < 2.5e-7, "share at {x}: {share} for {expected}");
            assert!((f64::from(density) - expected_density).abs() < 2.5e-7, "density at {x}");
        }
        assert!(Real::normal(f32::NAN).0.is_nan());
    }
}
