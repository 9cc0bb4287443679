//! Rows to a common scale.

use super::linear::add_row;
use super::real::Real;
use super::workers::{Workers, dot, sum, sum_triples, vectorized};
use crate::engine::RowsShape;

/// Rows that one task takes.
const ROWS_PER_TASK: usize = 256;

/// Shortest length that a row is divided by. Source: `torch.nn.functional.normalize`, `eps`.
const SHORTEST: f64 = 1e-12;

/// `(x - mean) / sqrt(variance + epsilon) * gain + bias` by row, and for each row its mean and `1 / sqrt(...)`.
/// Source: Ba et al., arXiv 1607.06450, equation 3; the variance is that of `torch.nn.LayerNorm`, divided by `width`.
pub fn layer_norm<F: Real>(
    workers: &Workers,
    (out, statistics): (&mut [F], &mut [F]),
    (x, gain, bias): (&[F], &[F], &[F]),
    width: usize,
    epsilon: F,
) {
    assert!(x.len() == out.len() && gain.len() == width && bias.len() == width, "lengths");
    let size = ROWS_PER_TASK * width;
    let outs = out.chunks_mut(size).zip(statistics.chunks_mut(2 * ROWS_PER_TASK));
    let per_value = F::ONE / F::from_f64(width as f64);
    workers.each(outs.zip(x.chunks(size)), |_, ((out, statistics), x)| {
        vectorized(
            #[inline(always)]
            || {
                let rows = out.chunks_exact_mut(width).zip(x.chunks_exact(width));
                for ((out, x), statistics) in rows.zip(statistics.chunks_exact_mut(2)) {
                    let mean = sum(
                        x,
                        #[inline(always)]
                        |x| x,
                    ) * per_value;
                    let variance = sum(
                        x,
                        #[inline(always)]
                        |x| (x - mean) * (x - mean),
                    ) * per_value;
                    let scale = F::ONE / (variance + epsilon).sqrt();
                    statistics.copy_from_slice(&[mean, scale]);
                    for (((out, x), gain), bias) in out.iter_mut().zip(x).zip(gain).zip(bias) {
                        *out = ((*x - mean) * scale).mul_add(*gain, *bias);
                    }
                }
            },
        );
    });
}

/// Gradient of the input; those of gain and bias are added at two places.
pub fn layer_norm_gradient<F: Real>(
    workers: &Workers,
    out: &mut [F],
    (dy, x, statistics, gain): (&[F], &[F], &[F], &[F]),
    (into, starts): (&mut [F], [usize; 2]),
    width: usize,
) {
    assert!(out.len() == dy.len() && x.len() == dy.len() && gain.len() == width, "lengths");
    let size = ROWS_PER_TASK * width;
    let mut sums = vec![F::ZERO; dy.len().div_ceil(size) * 2 * width];
    let inputs = dy.chunks(size).zip(x.chunks(size)).zip(statistics.chunks(2 * ROWS_PER_TASK));
    workers.each(out.chunks_mut(size).zip(sums.chunks_mut(2 * width)).zip(inputs), |_, ((out, sums), inputs)| {
        let ((dy, x), statistics) = inputs;
        let (gain_sums, bias_sums) = sums.split_at_mut(width);
        vectorized(
            #[inline(always)]
            || {
                let rows = dy.chunks_exact(width).zip(x.chunks_exact(width)).zip(statistics.chunks_exact(2));
                for (out, ((dy, x), statistics)) in out.chunks_exact_mut(width).zip(rows) {
                    let statistics = [statistics[0], statistics[1]];
                    layer_norm_row_gradient(out, (dy, x, statistics, gain), gain_sums, bias_sums);
                }
            },
        );
    });
    for sums in sums.chunks_exact(2 * width) {
        add_row(&mut into[starts[0]..][..width], &sums[..width]);
        add_row(&mut into[starts[1]..][..width], &sums[width..]);
    }
}

/// With `g = dy gain` and `n` the normalised row: `(g - mean(g) - n mean(g n)) scale`.
#[inline(always)]
fn layer_norm_row_gradient<F: Real>(
    out: &mut [F],
    (dy, x, [mean, scale], gain): (&[F], &[F], [F; 2], &[F]),
    gain_sums: &mut [F],
    bias_sums: &mut [F],
) {
    let per_value = F::ONE / F::from_f64(dy.len() as f64);
    let g_sum = dot(dy, gain);
    let along = sum_triples(
        [dy, x, gain],
        #[inline(always)]
        |sum, [dy, x, gain]| (dy * gain).mul_add(x - mean, sum),
    );
    let (mean_g, slope) = (g_sum * per_value, along * scale * scale * per_value);
    let width = out.len();
    let (dy, x, gain) = (&dy[..width], &x[..width], &gain[..width]);
    let (gain_sums, bias_sums) = (&mut gain_sums[..width], &mut bias_sums[..width]);
    for i in 0..width {
        let distance = x[i] - mean;
        out[i] = (dy[i].mul_add(gain[i], -mean_g) - distance * slope) * scale;
        gain_sums[i] = (distance * scale).mul_add(dy[i], gain_sums[i]);
        bias_sums[i] += dy[i];
    }
}

/// Rows over their length, and the lengths. Source: `torch.nn.functional.normalize`.
pub fn l2<F: Real>(workers: &Workers, (out, lengths): (&mut [F], &mut [F]), x: &[F], shape: RowsShape) {
    let size = ROWS_PER_TASK * shape.width;
    let outs = out.chunks_mut(size).zip(lengths.chunks_mut(ROWS_PER_TASK));
    workers.each(outs.zip(x.chunks(size)), |_, ((out, lengths), x)| {
        vectorized(
            #[inline(always)]
            || {
                let rows = out.chunks_exact_mut(shape.width).zip(x.chunks_exact(shape.width));
                for ((out, x), length) in rows.zip(lengths) {
                    *length = F::from_f64(SHORTEST).or_larger(dot(x, x).sqrt());
                    for (out, x) in out.iter_mut().zip(x) {
                        *out = *x / *length;
                    }
                }
            },
        );
    });
}

/// With `n` the row of length one: `(dy - n (n dy)) / length`; `dy / length` for a row that has no length.
pub fn l2_gradient<F: Real>(workers: &Workers, out: &mut [F], (dy, rows, lengths): (&[F], &[F], &[F]), width: usize) {
    let size = ROWS_PER_TASK * width;
    let inputs = dy.chunks(size).zip(rows.chunks(size)).zip(lengths.chunks(ROWS_PER_TASK));
    workers.each(out.chunks_mut(size).zip(inputs), |_, (out, ((dy, rows), lengths))| {
        vectorized(
            #[inline(always)]
            || {
                let inputs = dy.chunks_exact(width).zip(rows.chunks_exact(width)).zip(lengths);
                for (out, ((dy, row), length)) in out.chunks_exact_mut(width).zip(inputs) {
                    let has_length = *length > F::from_f64(SHORTEST);
                    let along = if has_length { dot(dy, row) } else { F::ZERO };
                    for ((out, dy), value) in out.iter_mut().zip(dy).zip(row) {
                        *out = (*dy - *value * along) / *length;
                    }
                }
            },
        );
    });
}
