//! GELU in its exact form, `x (1 + erf(x / sqrt 2)) / 2`, the normal distribution's share below x times x.
//!
//! Computed as `max(x, 0) - |x| 2^Q(|x|)`, where 2^Q(a) is the share beyond a. The error stays below that of one rounding
//! of erf everywhere, and nothing cancels for negative x.
//!
//! Infinity stays, -infinity becomes 0, which is the limit (ONNX's Mul of it by 0 is NaN), and NaN is NaN.

use rayon::prelude::*;

use super::exponential::power_of_two;
use super::lanes::{InstructionSet, Kernel, LANES, Lanes};

/// `Q(a) = -1 + a P(a)`; these are the coefficients of P, lowest first. It falls without end.
///
/// Source: minimax of `2^Q(a)` for a in 0..7, in absolute error, 1.5e-8, by `goldens/polynomials.py`.
const SHARE: [f32; 8] = [
    -1.151_106_1,
    -0.459_197_4,
    -0.052_539_48,
    0.007_142_046_5,
    -0.000_210_060_48,
    -0.000_150_279_05,
    3.057_946_7e-5,
    -1.991_827_5e-6,
];

/// From here on the share is zero.
const FAR: f32 = 16.0;

/// Values that are worth waking other threads for.
const PARALLEL_VALUES: usize = 1 << 16;

/// Values that a thread takes at once, of whole vectors.
const PIECE_VALUES: usize = 1 << 13;

/// Replaces each x by its GELU.
///
/// Uses rayon's current pool where there are many.
pub fn gelu(x: &mut [f32]) {
    gelu_on(InstructionSet::fastest(), x);
}

/// [`gelu`] on an instruction set.
pub fn gelu_on(set: InstructionSet, x: &mut [f32]) {
    if x.len() >= PARALLEL_VALUES && rayon::current_num_threads() > 1 {
        x.par_chunks_mut(PIECE_VALUES).for_each(|x| set.run(Gelu(x)));
    } else {
        set.run(Gelu(x));
    }
}

struct Gelu<'a>(&'a mut [f32]);

impl Kernel for Gelu<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        let (vectors, rest) = self.0.as_chunks_mut();
        for x in vectors {
            lanes.store(gelu_vector(lanes, lanes.load(x)), x);
        }
        if !rest.is_empty() {
            let mut last = [0.0; LANES];
            last[..rest.len()].copy_from_slice(rest);
            lanes.store(gelu_vector(lanes, lanes.load(&last)), &mut last);
            rest.copy_from_slice(&last[..rest.len()]);
        }
    }
}

/// GELU of eight values, for whoever has them in a register.
#[inline(always)]
pub fn gelu_vector<L: Lanes>(lanes: L, x: L::Vector) -> L::Vector {
    let a = lanes.min(lanes.splat(FAR), lanes.abs(x));
    let share = power_of_two(lanes, exponent(lanes, a));
    lanes.neg_mul_add(a, share, lanes.max(x, lanes.splat(0.0)))
}

#[inline(always)]
fn exponent<L: Lanes>(lanes: L, a: L::Vector) -> L::Vector {
    let coefficient = |at: usize| lanes.splat(SHARE[at]);
    let square = lanes.mul(a, a);
    let fourth = lanes.mul(square, square);
    let lowest = lanes.mul_add(coefficient(0), a, lanes.splat(-1.0));
    let low = lanes.mul_add(coefficient(2), a, coefficient(1));
    let high = lanes.mul_add(coefficient(4), a, coefficient(3));
    let highest = lanes.mul_add(coefficient(7), square, lanes.mul_add(coefficient(6), a, coefficient(5)));
    let low = lanes.mul_add(low, square, lowest);
    let high = lanes.mul_add(highest, square, high);
    lanes.mul_add(high, fourth, low)
}

#[cfg(test)]
mod tests {
    use super::super::lanes::Scalar;
    use super::super::lanes::tests::{Values, assert_bits, floats_of, golden, with_threads};
    use super::*;

    fn run(set: InstructionSet, x: &[f32]) -> Vec<f32> {
        let mut y = x.to_vec();
        gelu_on(set, &mut y);
        y
    }

    fn check(x: &[f32]) {
        let expected = run(InstructionSet::Scalar(Scalar), x);
        for set in InstructionSet::available() {
            assert_bits(&run(set, x), &expected, &format!("{set} {}", x.len()));
        }
    }

    fn exact(x: f32) -> f64 {
        let x = f64::from(x);
        0.5 * x * libm::erfc(-x * std::f64::consts::FRAC_1_SQRT_2)
    }

    /// Every 1,013th float: all signs and magnitudes.
    fn magnitudes() -> Vec<f32> {
        (0..u32::MAX).step_by(1013).map(f32::from_bits).filter(|x| !x.is_nan() && *x != f32::NEG_INFINITY).collect()
    }

    #[test]
    fn the_error_is_small_at_all_magnitudes() {
        let x: Vec<f32> = magnitudes().into_iter().chain((-800_000..800_000).map(|at| at as f32 * 1e-5)).collect();
        let (mut absolute, mut relative) = ([0.0_f64; 2], [0.0_f64; 2]);
        for (&x, y) in x.iter().zip(run(InstructionSet::fastest(), &x)).filter(|(x, _)| x.is_finite()) {
            let exact = exact(x);
            let error = (f64::from(y) - exact).abs();
            if x.abs() < 16.0 && error > absolute[0] {
                absolute = [error, f64::from(x)];
            }
            let scaled = error / exact.abs().max(f64::from(x.abs()) / 2.0).max(f64::from(f32::MIN_POSITIVE));
            if scaled > relative[0] {
                relative = [scaled, f64::from(x)];
            }
        }
        println!(
            "worst error {:e} at {}; of x/2 or the answer {:e} at {}",
            absolute[0], absolute[1], relative[0], relative[1]
        );
        assert!(relative[0] < 2.5e-7, "{relative:?}");
    }

    #[test]
    fn every_magnitude_is_the_same_everywhere() {
        check(&magnitudes());
    }

    #[test]
    fn every_length_and_start_is_the_same() {
        let x = Values(1).floats(64);
        for length in 0..=40 {
            check(&x[..length]);
        }
        let expected = run(InstructionSet::Scalar(Scalar), &x);
        for set in InstructionSet::available() {
            for start in 0..8 {
                let mut y = x.clone();
                gelu_on(set, &mut y[start..50 + start]);
                assert_bits(&y[start..50 + start], &expected[start..50 + start], &format!("{set} from {start}"));
                assert_bits(&y[..start], &x[..start], &format!("{set} before {start}"));
                assert_bits(&y[50 + start..], &x[50 + start..], &format!("{set} after {start}"));
            }
        }
    }

    #[test]
    fn extremes_have_their_limits() {
        let x = [f32::INFINITY, f32::NEG_INFINITY, f32::NAN, -f32::NAN, 0.0, f32::MAX, f32::MIN, 20.0, -20.0, -13.0];
        let expected = [f32::INFINITY, 0.0, f32::NAN, f32::NAN, 0.0, f32::MAX, 0.0, 20.0, 0.0, 0.0];
        for set in InstructionSet::available() {
            assert_bits(&run(set, &x), &expected, &format!("{set}"));
        }
        check(&[f32::from_bits(0x7f80_0001), 1e-45, -1e-45, f32::MIN_POSITIVE, -f32::MIN_POSITIVE, -0.0]);
    }

    #[test]
    fn threads_do_not_change_a_bit() {
        let x = Values(2).floats(PARALLEL_VALUES + 13);
        with_threads(|| check(&x));
    }

    #[test]
    fn values_are_those_of_scipy() {
        let golden = golden();
        let (x, expected) = (floats_of(&golden["gelu"]["x"]), floats_of(&golden["gelu"]["y"]));
        for set in InstructionSet::available() {
            for ((x, found), expected) in x.iter().zip(run(set, &x)).zip(&expected) {
                let tolerance = 2.5e-7 * expected.abs().max(x.abs() / 2.0);
                assert!((found - expected).abs() <= tolerance, "{set}: gelu({x}) is {expected}, not {found}");
            }
        }
    }
}
