//! Powers of two, eight at a time: what softmax and GELU are made of.

use super::lanes::{Kernel, LANES, Lanes, total};

/// 2^r for -1/2 <= r <= 1/2 is `1 + r P(r)`; these are the coefficients of P, lowest first.
///
/// Source: minimax in relative error, 9.2e-8, by `goldens/polynomials.py`.
#[expect(clippy::approx_constant, reason = "near ln 2, which is not the best first coefficient of so few")]
const POWER: [f32; 5] = [0.693_147, 0.240_222_42, 0.055_507_336, 0.009_671_513, 0.001_326_472_7];

/// Smallest exponent that has a power: below it, powers are zero, which spares the subnormals.
const SMALLEST_EXPONENT: f32 = -126.0;

/// 2^x for x below 127.5, within 2e-7 of the answer; zero for x below -126, exactly 1 for zero, NaN for NaN.
#[inline(always)]
pub fn power_of_two<L: Lanes>(lanes: L, x: L::Vector) -> L::Vector {
    let whole = lanes.round(x);
    let r = lanes.sub(x, whole);
    let square = lanes.mul(r, r);
    let coefficient = |at: usize| lanes.splat(POWER[at]);
    let low = lanes.mul_add(coefficient(0), r, lanes.splat(1.0));
    let middle = lanes.mul_add(coefficient(2), r, coefficient(1));
    let high = lanes.mul_add(coefficient(4), r, coefficient(3));
    let middle = lanes.mul_add(high, square, middle);
    let power = lanes.mul_add(middle, square, low);
    lanes.zero_below(lanes.times_power_of_two(power, whole), x, lanes.splat(SMALLEST_EXPONENT))
}

/// What softmax does before it divides, over keys, for `ROWS` queries at once: scores are `[keys, ROWS]`, in powers of two.
///
/// Replaces each score by `2^(score - largest score of the query)` and returns their sums: those of the even keys added
/// in order, then those of the odd keys, then both. A query whose scores have a NaN or are all -infinity sums to NaN.
///
/// # Panics
/// When the keys are not even in number: fill them up with a key of -infinity, which has no weight.
pub struct Weigh<'a, const ROWS: usize>(pub &'a mut [[f32; ROWS]]);

impl<const ROWS: usize> Kernel for Weigh<'_, ROWS> {
    type Output = [f32; ROWS];

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) -> [f32; ROWS] {
        const { assert!(ROWS == 4 || ROWS == 8 || ROWS == 16, "two keys fill whole vectors") };
        assert!(self.0.len().is_multiple_of(2), "keys are even in number");
        let vectors = self.0.as_flattened_mut().as_chunks_mut::<LANES>().0;
        match ROWS {
            4 => spread(weigh_vectors::<L, 1>(lanes, vectors).as_flattened()),
            16 => spread(weigh_vectors::<L, 4>(lanes, vectors).as_flattened()),
            _ => spread(weigh_vectors::<L, 2>(lanes, vectors).as_flattened()),
        }
    }
}

/// [`Weigh`] for one query: eight keys stand side by side, and each place has a sum of its own, all added as [`total`] does.
///
/// # Panics
/// When the keys are not a multiple of eight in number: fill them up with keys of -infinity.
pub struct WeighAlone<'a>(pub &'a mut [f32]);

impl Kernel for WeighAlone<'_> {
    type Output = f32;

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) -> f32 {
        let (vectors, rest) = self.0.as_chunks_mut::<LANES>();
        assert!(rest.is_empty(), "keys are a multiple of eight in number");
        let mut largest = lanes.splat(f32::NEG_INFINITY);
        for scores in vectors.iter() {
            largest = lanes.max(largest, lanes.load(scores));
        }
        let [largest] = stored(lanes, [largest]);
        let largest = largest.into_iter().reduce(|a, b| if a > b { a } else { b }).expect("a vector has lanes");
        let largest = lanes.splat(largest);
        let mut sum = lanes.splat(0.0);
        for scores in vectors {
            let weights = power_of_two(lanes, lanes.sub(lanes.load(scores), largest));
            sum = lanes.add(sum, weights);
            lanes.store(weights, scores);
        }
        let [sums] = stored(lanes, [sum]);
        total(sums)
    }
}

/// Adds the sums of odd keys to those of even keys.
#[inline(always)]
fn spread<const ROWS: usize>(sums: &[f32]) -> [f32; ROWS] {
    std::array::from_fn(|row| sums[row] + sums[ROWS + row])
}

/// Two keys are `VECTORS` vectors; returns the sums of even and odd keys apart.
#[inline(always)]
fn weigh_vectors<L: Lanes, const VECTORS: usize>(lanes: L, scores: &mut [[f32; LANES]]) -> [[f32; LANES]; VECTORS] {
    let pairs = scores.as_chunks_mut::<VECTORS>().0;
    let mut largest = [lanes.splat(f32::NEG_INFINITY); VECTORS];
    for pair in pairs.iter() {
        for (largest, scores) in largest.iter_mut().zip(pair) {
            *largest = lanes.max(*largest, lanes.load(scores));
        }
    }
    let largest = largest_of_both(lanes, largest);
    let mut sums = [lanes.splat(0.0); VECTORS];
    for pair in pairs {
        for ((sum, scores), largest) in sums.iter_mut().zip(pair).zip(largest) {
            let weights = power_of_two(lanes, lanes.sub(lanes.load(scores), largest));
            *sum = lanes.add(*sum, weights);
            lanes.store(weights, scores);
        }
    }
    stored(lanes, sums)
}

/// The larger of even and odd keys, in the places of both.
#[inline(always)]
fn largest_of_both<L: Lanes, const VECTORS: usize>(lanes: L, largest: [L::Vector; VECTORS]) -> [L::Vector; VECTORS] {
    let mut found = stored(lanes, largest);
    let flat = found.as_flattened_mut();
    let (even, odd) = flat.split_at_mut(flat.len() / 2);
    for (even, odd) in even.iter_mut().zip(odd) {
        *even = if *even > *odd { *even } else { *odd };
        *odd = *even;
    }
    found.map(|largest| lanes.load(&largest))
}

#[inline(always)]
fn stored<L: Lanes, const VECTORS: usize>(lanes: L, vectors: [L::Vector; VECTORS]) -> [[f32; LANES]; VECTORS] {
    vectors.map(|vector| {
        let mut found = [0.0; LANES];
        lanes.store(vector, &mut found);
        found
    })
}

#[cfg(test)]
mod tests {
    use super::super::lanes::InstructionSet;
    use super::super::lanes::tests::{Values, assert_bits, floats_of, golden};
    use super::*;

    struct Powers<'a>(&'a [f32; LANES]);

    impl Kernel for Powers<'_> {
        type Output = [f32; LANES];

        #[inline(always)]
        fn run<L: Lanes>(self, lanes: L) -> [f32; LANES] {
            stored(lanes, [power_of_two(lanes, lanes.load(self.0))])[0]
        }
    }

    fn powers(set: InstructionSet, x: &[f32]) -> Vec<f32> {
        let mut powers = Vec::new();
        for x in x.chunks(8) {
            let mut vector = [0.0; LANES];
            vector[..x.len()].copy_from_slice(x);
            powers.extend(&set.run(Powers(&vector))[..x.len()]);
        }
        powers
    }

    #[test]
    fn powers_are_near_and_the_same_everywhere() {
        let mut x: Vec<f32> = (0..200_000).map(|at| at as f32 * -126.0 / 200_000.0).collect();
        x.extend((0..20_000).map(|at| at as f32 * 127.4 / 20_000.0));
        let scalar = powers(InstructionSet::Scalar(super::super::lanes::Scalar), &x);
        let mut worst = 0.0_f64;
        for (x, found) in x.iter().zip(&scalar) {
            let exact = libm::exp2(f64::from(*x));
            worst = worst.max(((f64::from(*found) - exact) / exact).abs());
        }
        println!("worst relative error of a power {worst:e}");
        assert!(worst < 2e-7, "{worst:e}");
        for set in InstructionSet::available() {
            assert_bits(&powers(set, &x), &scalar, &format!("{set}"));
        }
    }

    #[test]
    fn powers_of_extremes() {
        let x =
            [0.0, -0.0, -126.0, -126.001, -1e9, f32::MIN, f32::NEG_INFINITY, f32::NAN, -f32::NAN, 1.0, 127.0, -1e-45];
        let expected =
            [1.0, 1.0, 2.0_f32.powi(-126), 0.0, 0.0, 0.0, 0.0, f32::NAN, f32::NAN, 2.0, 2.0_f32.powi(127), 1.0];
        for set in InstructionSet::available() {
            assert_bits(&powers(set, &x), &expected, &format!("{set}"));
        }
    }

    fn weighed<const ROWS: usize>(set: InstructionSet, scores: &[f32]) -> (Vec<f32>, [f32; ROWS]) {
        let mut scores = scores.as_chunks::<ROWS>().0.to_vec();
        let sums = set.run(Weigh(&mut scores));
        (scores.as_flattened().to_vec(), sums)
    }

    fn check<const ROWS: usize>(scores: &[f32]) {
        let (expected, expected_sums) = plainly_weighed::<ROWS>(scores);
        for set in InstructionSet::available() {
            let what = format!("{set} {} keys, {ROWS} rows", scores.len() / ROWS);
            let (found, sums) = weighed::<ROWS>(set, scores);
            assert_bits(&found, &expected, &what);
            assert_bits(&sums, &expected_sums, &what);
        }
    }

    /// The contract word for word.
    fn plainly_weighed<const ROWS: usize>(scores: &[f32]) -> (Vec<f32>, [f32; ROWS]) {
        let scalar = InstructionSet::Scalar(super::super::lanes::Scalar);
        let mut weights = scores.to_vec();
        let sums = std::array::from_fn(|row| {
            let of_row = || scores.iter().copied().skip(row).step_by(ROWS);
            let has_nan = of_row().any(f32::is_nan);
            let largest = if has_nan { f32::NAN } else { of_row().fold(f32::NEG_INFINITY, f32::max) };
            let shifted: Vec<f32> = of_row().map(|score| score - largest).collect();
            let row_weights = powers(scalar, &shifted);
            for (at, weight) in row_weights.iter().enumerate() {
                weights[at * ROWS + row] = *weight;
            }
            let even: f32 = row_weights.iter().step_by(2).fold(0.0, |sum, weight| sum + weight);
            let odd: f32 = row_weights.iter().skip(1).step_by(2).fold(0.0, |sum, weight| sum + weight);
            even + odd
        });
        (weights, sums)
    }

    #[test]
    fn every_number_of_keys_is_weighed_alike() {
        for keys in (0..40).step_by(2).chain([578]) {
            let scores: Vec<f32> = Values(keys as u64).floats(keys * 8).iter().map(|score| score * 30.0).collect();
            if keys > 0 {
                check::<8>(&scores);
                check::<4>(&scores[..keys * 4]);
            }
        }
    }

    #[test]
    fn rows_with_infinities_stay_apart() {
        for bad in [f32::INFINITY, f32::NEG_INFINITY] {
            for at in 0..48 {
                let mut scores = Values(at as u64).floats(48);
                scores[at] = bad;
                check::<8>(&scores);
                check::<4>(&scores);
            }
        }
        check::<8>(&[f32::NEG_INFINITY; 32]);
    }

    #[test]
    fn a_row_with_a_nan_sums_to_nan_and_leaves_the_others_alone() {
        for at in 0..48 {
            let mut scores = Values(5).floats(48);
            let (_, expected) = plainly_weighed::<8>(&scores);
            scores[at] = f32::NAN;
            for set in InstructionSet::available() {
                let (_, mut sums) = weighed::<8>(set, &scores);
                assert!(sums[at % 8].is_nan(), "{set}");
                sums[at % 8] = expected[at % 8];
                assert_bits(&sums, &expected, &format!("{set}"));
            }
        }
    }

    #[test]
    fn powers_are_those_of_numpy() {
        let golden = golden();
        let (x, expected) = (floats_of(&golden["powers"]["x"]), floats_of(&golden["powers"]["y"]));
        for set in InstructionSet::available() {
            for (found, expected) in powers(set, &x).iter().zip(&expected) {
                assert!((found - expected).abs() <= 2.6e-7 * expected, "{set}: {found} is not {expected}");
            }
        }
    }
}
