//! Layer normalization of rows, as ONNX's LayerNormalization over the last axis.
//!
//! ```text
//! mean     = sum(x) / width
//! variance = sum((x - mean)^2) / width
//! y        = ((x - mean) * (1 / sqrt(variance + epsilon))) * weight + bias      the last two steps fused
//! ```
//!
//! Both sums have 16 partial sums, of every sixteenth value in order, which are added 8 apart, 4 apart, 2 apart and last
//! the two that are left; squares are fused into theirs.

use rayon::prelude::*;

use super::lanes::{InstructionSet, Kernel, LANES, Lanes};

/// Partial sums of a row.
const PARTIAL_SUMS: usize = 2 * LANES;

/// Values that are worth waking other threads for.
const PARALLEL_VALUES: usize = 1 << 16;

/// Values that a thread takes at once.
const PIECE_VALUES: usize = 1 << 14;

/// What a layer norm has learned, one value a column, and its epsilon.
#[derive(Clone, Copy, Debug)]
pub struct LayerNorm<'a> {
    /// Factor of each column.
    pub weight: &'a [f32],
    /// Added to each column.
    pub bias: &'a [f32],
    /// Added to the variance.
    pub epsilon: f32,
}

/// Normalizes the rows of `x` into `y`: `[rows, width]` -> `[rows, width]`, where `width` is the weight's length.
///
/// A NaN or an infinity makes its row NaN. Uses rayon's current pool where there are many rows.
///
/// # Panics
/// When the width is zero, `bias` is not as long as `weight`, `x` is not of whole rows, or `y` is not as long as `x`.
pub fn layer_norm(x: &[f32], norm: LayerNorm<'_>, y: &mut [f32]) {
    layer_norm_on(InstructionSet::fastest(), x, norm, y);
}

/// [`layer_norm`] on an instruction set.
///
/// # Panics
/// As [`layer_norm`].
pub fn layer_norm_on(set: InstructionSet, x: &[f32], norm: LayerNorm<'_>, y: &mut [f32]) {
    let width = norm.weight.len();
    assert!(width > 0, "a row has at least one value");
    assert_eq!(norm.bias.len(), width, "one bias a column");
    assert!(x.len().is_multiple_of(width), "x is [rows, {width}]");
    assert_eq!(x.len(), y.len(), "y is as long as x");
    let piece = (PIECE_VALUES / width).max(1) * width;
    if x.len() >= PARALLEL_VALUES && rayon::current_num_threads() > 1 {
        let pieces = x.par_chunks(piece).zip(y.par_chunks_mut(piece));
        pieces.for_each(|(x, y)| set.run(Normalize { x, norm, y }));
    } else {
        set.run(Normalize { x, norm, y });
    }
}

struct Normalize<'a> {
    x: &'a [f32],
    norm: LayerNorm<'a>,
    y: &'a mut [f32],
}

impl Kernel for Normalize<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        let width = self.norm.weight.len();
        for (x, y) in self.x.chunks_exact(width).zip(self.y.chunks_exact_mut(width)) {
            let mean = sum(lanes, x) / width as f32;
            let variance = sum_of_squares(lanes, x, mean) / width as f32;
            scale(lanes, x, [mean, 1.0 / (variance + self.norm.epsilon).sqrt()], self.norm, y);
        }
    }
}

#[inline(always)]
fn sum<L: Lanes>(lanes: L, x: &[f32]) -> f32 {
    let (vectors, _) = x.as_chunks::<LANES>();
    let pairs = vectors.as_chunks::<2>().0;
    let mut sums = [lanes.splat(0.0); 2];
    for pair in pairs {
        for (sum, x) in sums.iter_mut().zip(pair) {
            *sum = lanes.add(*sum, lanes.load(x));
        }
    }
    let mut sums = partial_sums(lanes, sums);
    for (sum, x) in sums.iter_mut().zip(&x[pairs.len() * PARTIAL_SUMS..]) {
        *sum += x;
    }
    total(sums)
}

#[inline(always)]
fn sum_of_squares<L: Lanes>(lanes: L, x: &[f32], mean: f32) -> f32 {
    let (vectors, _) = x.as_chunks::<LANES>();
    let pairs = vectors.as_chunks::<2>().0;
    let mut sums = [lanes.splat(0.0); 2];
    let means = lanes.splat(mean);
    for pair in pairs {
        for (sum, x) in sums.iter_mut().zip(pair) {
            let distance = lanes.sub(lanes.load(x), means);
            *sum = lanes.mul_add(distance, distance, *sum);
        }
    }
    let mut sums = partial_sums(lanes, sums);
    for (sum, x) in sums.iter_mut().zip(&x[pairs.len() * PARTIAL_SUMS..]) {
        let distance = x - mean;
        *sum = distance.mul_add(distance, *sum);
    }
    total(sums)
}

#[inline(always)]
fn partial_sums<L: Lanes>(lanes: L, vectors: [L::Vector; 2]) -> [f32; PARTIAL_SUMS] {
    let mut sums = [0.0; PARTIAL_SUMS];
    for (vector, sums) in vectors.into_iter().zip(sums.as_chunks_mut().0) {
        lanes.store(vector, sums);
    }
    sums
}

#[inline(always)]
fn total(mut sums: [f32; PARTIAL_SUMS]) -> f32 {
    for apart in [8, 4, 2, 1] {
        for lane in 0..apart {
            sums[lane] += sums[lane + apart];
        }
    }
    sums[0]
}

#[inline(always)]
fn scale<L: Lanes>(lanes: L, x: &[f32], [mean, factor]: [f32; 2], norm: LayerNorm<'_>, y: &mut [f32]) {
    let (vectors, x) = x.as_chunks::<LANES>();
    let (weights, weight) = norm.weight.as_chunks::<LANES>();
    let (biases, bias) = norm.bias.as_chunks::<LANES>();
    let (answers, y) = y.as_chunks_mut::<LANES>();
    let (means, factors) = (lanes.splat(mean), lanes.splat(factor));
    for (((x, weight), bias), y) in vectors.iter().zip(weights).zip(biases).zip(answers) {
        let normal = lanes.mul(lanes.sub(lanes.load(x), means), factors);
        lanes.store(lanes.mul_add(normal, lanes.load(weight), lanes.load(bias)), y);
    }
    for (((x, weight), bias), y) in x.iter().zip(weight).zip(bias).zip(y) {
        *y = ((x - mean) * factor).mul_add(*weight, *bias);
    }
}

#[cfg(test)]
mod tests {
    use super::super::lanes::tests::{Values, assert_bits, floats_of, golden, with_threads};
    use super::*;

    /// The contract word for word.
    fn plainly(x: &[f32], norm: LayerNorm<'_>) -> Vec<f32> {
        let width = norm.weight.len();
        let sum = |values: &[f32], add: &dyn Fn(f32, f32) -> f32| {
            let mut sums: Vec<f32> = (0..16)
                .map(|lane| values.iter().skip(lane).step_by(16).fold(0.0, |sum, value| add(sum, *value)))
                .collect();
            for apart in [8, 4, 2, 1] {
                sums = (0..apart).map(|lane| sums[lane] + sums[lane + apart]).collect();
            }
            sums[0]
        };
        let mut y = Vec::new();
        for x in x.chunks(width) {
            let mean = sum(x, &|sum, x| sum + x) / width as f32;
            let variance = sum(x, &|sum, x| (x - mean).mul_add(x - mean, sum)) / width as f32;
            let factor = 1.0 / (variance + norm.epsilon).sqrt();
            for ((x, weight), bias) in x.iter().zip(norm.weight).zip(norm.bias) {
                y.push(((x - mean) * factor).mul_add(*weight, *bias));
            }
        }
        y
    }

    fn check(x: &[f32], norm: LayerNorm<'_>) {
        let expected = plainly(x, norm);
        for set in InstructionSet::available() {
            let mut y = vec![7.0; x.len()];
            layer_norm_on(set, x, norm, &mut y);
            assert_bits(&y, &expected, &format!("{set} width {}", norm.weight.len()));
        }
    }

    #[test]
    fn every_width_is_the_same_everywhere() {
        for width in (1..=70).chain([767, 768, 769]) {
            let mut values = Values(width as u64);
            let (weight, bias) = (values.floats(width), values.floats(width));
            check(&values.floats(width * 3), LayerNorm { weight: &weight, bias: &bias, epsilon: 1e-12 });
        }
    }

    #[test]
    fn unaligned_slices_are_the_same() {
        let mut values = Values(1);
        let (x, weight, bias) = (values.floats(8 + 37 * 2), values.floats(8 + 37), values.floats(8 + 37));
        for start in 0..8 {
            let norm = LayerNorm { weight: &weight[start..][..37], bias: &bias[start..][..37], epsilon: 1e-6 };
            let x = &x[8 - start..][..37 * 2];
            let expected = plainly(x, norm);
            for set in InstructionSet::available() {
                let mut y = vec![7.0; 8 + 37 * 2];
                layer_norm_on(set, x, norm, &mut y[start..][..37 * 2]);
                assert_bits(&y[start..][..37 * 2], &expected, &format!("{set} from {start}"));
                assert!(y[..start].iter().chain(&y[start + 37 * 2..]).all(|y| *y == 7.0), "{set} wrote outside y");
            }
        }
    }

    #[test]
    fn extremes_are_the_same_and_bad_rows_stay_apart() {
        let mut values = Values(2);
        let (weight, bias) = (values.floats(40), values.floats(40));
        let norm = LayerNorm { weight: &weight, bias: &bias, epsilon: 1e-6 };
        for factor in [0.0, 1e-45, 1e-30, 1e18, 1e30, f32::MAX / 8.0] {
            check(&values.floats(80).iter().map(|x| x * factor).collect::<Vec<_>>(), norm);
        }
        check(&[[3.25; 40], [-1e-40; 40]].concat(), norm);
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            for at in [0, 17, 39] {
                let mut x = values.floats(120);
                x[40 + at] = bad;
                check(&x, norm);
                assert!(plainly(&x, norm)[40..80].iter().all(|y| y.is_nan()));
                assert!(plainly(&x, norm)[80..].iter().all(|y| y.is_finite()));
            }
        }
    }

    #[test]
    fn threads_do_not_change_a_bit() {
        let mut values = Values(3);
        let (weight, bias) = (values.floats(100), values.floats(100));
        let x = values.floats(100 * 700);
        assert!(x.len() >= PARALLEL_VALUES);
        with_threads(|| check(&x, LayerNorm { weight: &weight, bias: &bias, epsilon: 1e-6 }));
    }

    #[test]
    fn rows_are_normalized_as_numpy_does() {
        for case in golden()["layer_norm"].as_array().unwrap() {
            let [x, weight, bias, expected] = ["x", "weight", "bias", "y"].map(|name| floats_of(&case[name]));
            let epsilon = case["epsilon"].as_f64().unwrap() as f32;
            for set in InstructionSet::available() {
                let mut y = vec![0.0; x.len()];
                layer_norm_on(set, &x, LayerNorm { weight: &weight, bias: &bias, epsilon }, &mut y);
                for (found, expected) in y.iter().zip(&expected) {
                    let tolerance = 2e-6 * expected.abs().max(1.0);
                    assert!((found - expected).abs() <= tolerance, "{set} {}: {found} is not {expected}", case["kind"]);
                }
            }
        }
    }

    #[test]
    #[should_panic(expected = "x is [rows, 4]")]
    fn rows_of_another_width_are_refused() {
        layer_norm(&[1.0; 7], LayerNorm { weight: &[1.0; 4], bias: &[0.0; 4], epsilon: 1e-6 }, &mut [0.0; 7]);
    }
}
