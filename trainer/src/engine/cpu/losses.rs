//! Similarities and losses.

use super::product::{Before, Matrix, product};
use super::real::Real;
use super::workers::{VALUES_PER_TASK, Workers, dot, largest, sum, vectorized};
use crate::engine::{EngineError, LinearShape, NegativesShape, Result, RowsShape, draw};

/// What keeps every column possible in a draw of negatives. Source: BLIP `models/blip_pretrain.py`, `weights_i2t`.
const LEAST_WEIGHT: f64 = 1e-4;

/// `a bankᵀ / temperature`.
pub fn similarity<F: Real>(
    workers: &Workers,
    out: &mut [F],
    (a, bank, temperature): (&[F], &[F], F),
    shape: LinearShape,
) {
    let bank = Matrix::new(bank, [shape.outputs, shape.inputs], shape.inputs).transposed();
    each_rows(workers, out, shape.outputs, |first, rows, out| {
        let a = Matrix::new(&a[first * shape.inputs..], [rows, shape.inputs], shape.inputs);
        product((out, shape.outputs), a, bank, F::ONE / temperature, Before::Overwritten);
    });
}

/// Gradients of `a`, which is `dy bank / temperature`, and of the temperature, `-sum(dy similarity) / temperature`.
pub fn similarity_gradient<F: Real>(
    workers: &Workers,
    out: &mut [F],
    into: &mut F,
    (dy, similarity, bank, temperature): (&[F], &[F], &[F], F),
    shape: LinearShape,
) {
    let bank = Matrix::new(bank, [shape.outputs, shape.inputs], shape.inputs);
    each_rows(workers, out, shape.inputs, |first, rows, out| {
        let dy = Matrix::new(&dy[first * shape.outputs..], [rows, shape.outputs], shape.outputs);
        product((out, shape.inputs), dy, bank, F::ONE / temperature, Before::Overwritten);
    });
    let mut sums = vec![F::ZERO; shape.rows];
    let rows = dy.chunks(shape.outputs).zip(similarity.chunks(shape.outputs));
    workers.each(sums.iter_mut().zip(rows), |_, (sum, (dy, similarity))| {
        *sum = vectorized(
            #[inline(always)]
            || dot(dy, similarity),
        );
    });
    *into += -total(&sums) / temperature;
}

/// `alpha softmax(opinion) + (1 - alpha) truth`, where the truth is shared by the columns that have the row's name.
/// Source: BLIP `models/blip_retrieval.py`, `sim_i2t_targets`; ALBEF, arXiv 2107.07651, equation 6.
pub fn soft_targets<F: Real>(
    workers: &Workers,
    out: &mut [F],
    opinion: &[F],
    alpha: F,
    (rows, columns): (&[u32], &[u32]),
) {
    let width = columns.len();
    assert!(opinion.len() == rows.len() * width && out.len() == opinion.len(), "lengths");
    let inputs = opinion.chunks(width).zip(rows);
    workers.each(out.chunks_mut(width).zip(inputs), |_, (out, (opinion, name))| {
        vectorized(
            #[inline(always)]
            || {
                softmax(out, opinion, alpha);
                let same = columns.iter().filter(|column| *column == name).count().max(1);
                let share = (F::ONE - alpha) / F::from_f64(same as f64);
                for (out, column) in out.iter_mut().zip(columns) {
                    *out += if column == name { share } else { F::ZERO };
                }
            },
        );
    });
}

/// Mean over rows of `-sum(target log softmax(logits))`. `saved`: for each row the logarithm of the softmax's sum, and
/// the targets' sum.
pub fn soft_cross_entropy<F: Real>(
    workers: &Workers,
    saved: &mut [F],
    (logits, targets): (&[F], &[F]),
    shape: RowsShape,
) -> F {
    assert!(logits.len() == shape.rows * shape.width && targets.len() == logits.len(), "lengths");
    let mut losses = vec![F::ZERO; shape.rows];
    let inputs = logits.chunks(shape.width).zip(targets.chunks(shape.width));
    workers.each(losses.iter_mut().zip(saved.chunks_mut(2)).zip(inputs), |_, ((loss, saved), (logits, targets))| {
        vectorized(
            #[inline(always)]
            || {
                let log = log_of_sum(logits);
                let targets_sum = sum(
                    targets,
                    #[inline(always)]
                    |target| target,
                );
                *loss = log * targets_sum - dot(logits, targets);
                saved.copy_from_slice(&[log, targets_sum]);
            },
        );
    });
    total(&losses) / F::from_f64(shape.rows as f64)
}

/// `(softmax(logits) sum(targets) - targets) scale / rows`.
pub fn soft_cross_entropy_gradient<F: Real>(
    workers: &Workers,
    out: &mut [F],
    (logits, targets, saved): (&[F], &[F], &[F]),
    shape: RowsShape,
    scale: F,
) {
    let factor = scale / F::from_f64(shape.rows as f64);
    let inputs = logits.chunks(shape.width).zip(targets.chunks(shape.width)).zip(saved.chunks(2));
    workers.each(out.chunks_mut(shape.width).zip(inputs), |_, (out, ((logits, targets), saved))| {
        let (log, targets_sum) = (saved[0], saved[1]);
        vectorized(
            #[inline(always)]
            || {
                for ((out, logit), target) in out.iter_mut().zip(logits).zip(targets) {
                    *out = ((*logit - log).exp() * targets_sum - *target) * factor;
                }
            },
        );
    });
}

/// Right answers: which, how much each counts, and the share that all answers have of each.
pub struct Labels<'a, F> {
    /// A column for each row.
    pub labels: &'a [u32],
    /// A weight for each row.
    pub weights: &'a [F],
    /// 0 to 1.
    pub smoothing: F,
}

/// Sum over rows of weight times cross-entropy. `saved`: for each row the logarithm of the softmax's sum.
pub fn cross_entropy<F: Real>(
    workers: &Workers,
    saved: &mut [F],
    logits: &[F],
    right: &Labels<'_, F>,
    shape: RowsShape,
) -> F {
    assert!(logits.len() == shape.rows * shape.width && right.labels.len() == shape.rows, "lengths");
    let mut losses = vec![F::ZERO; shape.rows];
    let answers = right.labels.iter().zip(right.weights);
    let rows = losses.iter_mut().zip(saved.iter_mut()).zip(logits.chunks(shape.width).zip(answers));
    let per_column = right.smoothing / F::from_f64(shape.width as f64);
    workers.each(rows, |_, ((loss, saved), (logits, (label, weight)))| {
        *saved = F::ZERO;
        if *weight == F::ZERO {
            return;
        }
        vectorized(
            #[inline(always)]
            || {
                let log = log_of_sum(logits);
                let of_label = (F::ONE - right.smoothing) * logits[*label as usize];
                let of_all = sum(
                    logits,
                    #[inline(always)]
                    |logit| logit,
                ) * per_column;
                *loss = (log - of_label - of_all) * *weight;
                *saved = log;
            },
        );
    });
    total(&losses)
}

/// `(softmax(logits) - smoothed labels) weight scale`.
pub fn cross_entropy_gradient<F: Real>(
    workers: &Workers,
    out: &mut [F],
    (logits, saved): (&[F], &[F]),
    right: &Labels<'_, F>,
    (shape, scale): (RowsShape, F),
) {
    let answers = right.labels.iter().zip(right.weights).zip(saved);
    let rows = out.chunks_mut(shape.width).zip(logits.chunks(shape.width).zip(answers));
    let per_column = right.smoothing / F::from_f64(shape.width as f64);
    workers.each(rows, |_, (out, (logits, ((label, weight), log)))| {
        if *weight == F::ZERO {
            return out.fill(F::ZERO);
        }
        let factor = *weight * scale;
        vectorized(
            #[inline(always)]
            || {
                for (out, logit) in out.iter_mut().zip(logits) {
                    *out = ((*logit - *log).exp() - per_column) * factor;
                }
            },
        );
        out[*label as usize] += -(F::ONE - right.smoothing) * factor;
    });
}

/// A column for each row.
///
/// # Errors
/// Where a row has nothing to draw, since every candidate has its name.
pub fn draw_negatives<F: Real>(
    workers: &Workers,
    similarity: &[F],
    (rows, columns): (&[u32], &[u32]),
    seed: u64,
    shape: &NegativesShape,
) -> Result<Vec<u32>> {
    assert!(similarity.len() == shape.rows * shape.columns && rows.len() == shape.rows, "lengths");
    let candidates = &columns[..shape.candidates];
    let mut drawn = vec![None; shape.rows];
    workers.each(drawn.iter_mut().zip(similarity.chunks(shape.columns)), |row, (drawn, similarity)| {
        let mut weights = vec![F::ZERO; shape.candidates];
        vectorized(
            #[inline(always)]
            || softmax(&mut weights, &similarity[..shape.candidates], F::ONE),
        );
        for (weight, column) in weights.iter_mut().zip(candidates) {
            *weight = if *column == rows[row] { F::ZERO } else { *weight + F::from_f64(LEAST_WEIGHT) };
        }
        let sample = (shape.first + row) as u64;
        *drawn = draw(weights.iter().map(|weight| weight.to_f32()), seed, sample, shape.direction);
    });
    let drawn = drawn.into_iter().enumerate();
    drawn.map(|(row, column)| column.map(|column| column as u32).ok_or_else(|| nothing_to_draw(row))).collect()
}

fn nothing_to_draw(row: usize) -> EngineError {
    EngineError::Failed {
        device: "cpu".to_owned(),
        what: format!("no hard negative for row {row}: every candidate has its name"),
    }
}

/// Rows of about as many values as one task takes: the first, their number, what they give.
fn each_rows<F: Real>(workers: &Workers, out: &mut [F], width: usize, task: impl Fn(usize, usize, &mut [F]) + Sync) {
    let width = width.max(1);
    let rows = (VALUES_PER_TASK / width).max(1);
    workers.each(out.chunks_mut(rows * width), |place, out| {
        let count = out.len() / width;
        task(place * rows, count, out);
    });
}

/// `factor softmax(values)`.
#[inline(always)]
fn softmax<F: Real>(out: &mut [F], values: &[F], factor: F) {
    let most = largest(values, values[0]);
    for (out, value) in out.iter_mut().zip(values) {
        *out = (*value - most).exp();
    }
    let factor = factor
        / sum(
            out,
            #[inline(always)]
            |value| value,
        );
    for out in out {
        *out *= factor;
    }
}

/// `log(sum(e^value))`.
#[inline(always)]
fn log_of_sum<F: Real>(values: &[F]) -> F {
    let most = largest(values, values[0]);
    most + sum(
        values,
        #[inline(always)]
        |value| (value - most).exp(),
    )
    .ln()
}

fn total<F: Real>(values: &[F]) -> F {
    F::from_f64(values.iter().map(|value| value.to_f64()).sum())
}
