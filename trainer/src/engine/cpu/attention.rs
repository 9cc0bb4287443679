//! Multi-head attention, one sequence and head at a time.
//!
//! Source: Vaswani et al., arXiv 1706.03762, section 3.2; the backward recomputes the probabilities from the logarithm of
//! each softmax's sum, as Dao et al., arXiv 2205.14135, appendix B.2, do.

use std::sync::Arc;

use super::Cpu;
use super::memory::Memory;
use super::product::{Before, Matrix, product};
use super::real::Real;
use super::workers::{Workers, dot, largest, vectorized};
use crate::engine::{AttentionShape, Dropout, Heads, Order, keeps};

/// Queries, keys and values.
pub enum Inputs<'a, F> {
    /// `[batch, tokens, 3 * width]`.
    Packed(&'a [F]),
    /// `[batch, queries, width]`, and twice `[batch, keys, width]`.
    Split([&'a [F]; 3]),
}

/// Where gradients go, laid out as [`Inputs`].
pub enum Outputs<'a, F> {
    /// As [`Inputs::Packed`].
    Packed(&'a mut [F]),
    /// As [`Inputs::Split`].
    Split([&'a mut [F]; 3]),
}

/// What decides which probabilities count.
pub struct Mask<'a> {
    /// Keys of each sequence that count.
    pub lengths: Option<&'a [u32]>,
    /// Share, seed and site.
    pub dropout: Option<(f32, u64, u32)>,
}

/// What the forward returned, and the gradient of its result.
pub struct Saved<'a, F> {
    /// Gradient of the result.
    pub dy: &'a [F],
    /// The result.
    pub out: &'a [F],
    /// Logarithm of each softmax's sum.
    pub logs: &'a [F],
}

/// Which of the three.
#[derive(Clone, Copy)]
enum Part {
    Queries,
    Keys,
    Values,
}

/// Attention, and the logarithm of each softmax's sum.
pub fn forward<F: Real>(
    (workers, memory): (&Workers, &Arc<Memory<F>>),
    (out, logs): (&mut [F], &mut [F]),
    inputs: &Inputs<'_, F>,
    mask: &Mask<'_>,
    shape: AttentionShape,
) {
    let outs = out.chunks_mut(shape.queries * shape.width).zip(logs.chunks_mut(shape.heads * shape.queries));
    workers.each(outs, |sequence, (out, logs)| {
        let mut scores = memory.take(shape.queries * shape.keys);
        for (head, logs) in logs.chunks_exact_mut(shape.queries).enumerate() {
            let part = |part| inputs.part(part, [sequence, head], shape);
            product(
                (&mut scores, shape.keys),
                part(Part::Queries),
                part(Part::Keys).transposed(),
                scale(shape),
                Before::Overwritten,
            );
            softmax(&mut scores, logs, |query| visible(mask, sequence, query, shape), shape.keys);
            if let Some(dropout) = mask.dropout {
                drop_out(&mut scores, dropout, (sequence * shape.heads + head) as u64);
            }
            let scores = Matrix::new(&scores, [shape.queries, shape.keys], shape.keys);
            product(
                (&mut out[head * shape.head_width()..], shape.width),
                scores,
                part(Part::Values),
                F::ONE,
                Before::Overwritten,
            );
        }
        memory.give_back(scores);
    });
}

/// Gradients of queries, keys and values.
pub fn gradient<F: Real>(
    (workers, memory): (&Workers, &Arc<Memory<F>>),
    outputs: Outputs<'_, F>,
    inputs: &Inputs<'_, F>,
    (saved, mask): (&Saved<'_, F>, &Mask<'_>),
    shape: AttentionShape,
) {
    workers.each(outputs.sequences(shape), |sequence, mut outputs| {
        let size = shape.queries * shape.keys;
        let mut scratch = [memory.take(size), memory.take(size)];
        for head in 0..shape.heads {
            head_gradient(&mut scratch, &mut outputs, inputs, (saved, mask), ([sequence, head], shape));
        }
        scratch.into_iter().for_each(|scratch| memory.give_back(scratch));
    });
}

/// With probabilities `p`, kept ones `k` and `d = dy vᵀ`: `dv = kᵀ dy`, `ds = p (d - rowsum(dy out))`, `dq = ds k`,
/// `dk = dsᵀ q`.
fn head_gradient<F: Real>(
    [probabilities, scores]: &mut [Vec<F>; 2],
    outputs: &mut Outputs<'_, F>,
    inputs: &Inputs<'_, F>,
    (saved, mask): (&Saved<'_, F>, &Mask<'_>),
    ([sequence, head], shape): ([usize; 2], AttentionShape),
) {
    let AttentionShape { queries, keys, width, .. } = shape;
    let size = [queries, keys];
    let part = |part| inputs.part(part, [sequence, head], shape);
    let start = sequence * queries * width + head * shape.head_width();
    let dy = Matrix::new(&saved.dy[start..], [queries, shape.head_width()], width);
    let logs = &saved.logs[(sequence * shape.heads + head) * queries..][..queries];

    product(
        (probabilities, keys),
        part(Part::Queries),
        part(Part::Keys).transposed(),
        scale(shape),
        Before::Overwritten,
    );
    exponentials(probabilities, logs, |query| visible(mask, sequence, query, shape), keys);
    product((scores, keys), dy, part(Part::Values).transposed(), F::ONE, Before::Overwritten);

    let (into, step) = outputs.part(Part::Values, head, shape);
    if let Some(dropout) = mask.dropout {
        let index = (sequence * shape.heads + head) as u64;
        drop_out(scores, dropout, index);
        let mut kept = probabilities.clone();
        drop_out(&mut kept, dropout, index);
        product((into, step), Matrix::new(&kept, size, keys).transposed(), dy, F::ONE, Before::Overwritten);
    } else {
        product((into, step), Matrix::new(probabilities, size, keys).transposed(), dy, F::ONE, Before::Overwritten);
    }

    vectorized(
        #[inline(always)]
        || {
            for (query, (scores, probabilities)) in
                scores.chunks_exact_mut(keys).zip(probabilities.chunks_exact(keys)).enumerate()
            {
                let at = start + query * width;
                let range = at..at + shape.head_width();
                let along = dot(&saved.dy[range.clone()], &saved.out[range]);
                for (score, probability) in scores.iter_mut().zip(probabilities) {
                    *score = *probability * (*score - along);
                }
            }
        },
    );
    let scores = Matrix::new(scores, size, keys);
    let (into, step) = outputs.part(Part::Queries, head, shape);
    product((into, step), scores, part(Part::Keys), scale(shape), Before::Overwritten);
    let (into, step) = outputs.part(Part::Keys, head, shape);
    product((into, step), scores.transposed(), part(Part::Queries), scale(shape), Before::Overwritten);
}

impl<'a> Mask<'a> {
    /// The values of what a device was given.
    pub fn of<F: Real>(lengths: Option<&'a Arc<Vec<u32>>>, dropout: Option<Dropout<'_, Cpu<F>>>) -> Self {
        Mask { lengths: lengths.map(|lengths| &lengths[..]), dropout: dropout.map(|dropout| dropout.scheme()) }
    }
}

impl AttentionShape {
    fn head_width(&self) -> usize {
        self.width / self.heads
    }

    /// Tokens of one of the three.
    fn tokens(&self, part: Part) -> usize {
        match part {
            Part::Queries => self.queries,
            Part::Keys | Part::Values => self.keys,
        }
    }
}

impl<'a, F: Real> Inputs<'a, F> {
    /// The values of buffers.
    pub fn of(heads: &Heads<'a, Cpu<F>>) -> Self {
        match heads {
            Heads::Packed(values) => Inputs::Packed(values),
            Heads::Split { q, k, v } => Inputs::Split([q, k, v]),
        }
    }

    /// `[tokens, head width]` of one sequence and head.
    fn part(&self, part: Part, [sequence, head]: [usize; 2], shape: AttentionShape) -> Matrix<'_, F> {
        let (tokens, column) = (shape.tokens(part), head * shape.head_width());
        let (values, column, step) = match self {
            Self::Packed(values) => (*values, column + part as usize * shape.width, 3 * shape.width),
            Self::Split(parts) => (parts[part as usize], column, shape.width),
        };
        Matrix::new(&values[sequence * tokens * step + column..], [tokens, shape.head_width()], step)
    }
}

impl<'a, F: Real> Outputs<'a, F> {
    /// Cut by sequences.
    fn sequences(self, shape: AttentionShape) -> impl Iterator<Item = Outputs<'a, F>> {
        let (queries, keys) = (shape.queries * shape.width, shape.keys * shape.width);
        let (packed, split) = match self {
            Self::Packed(values) => (Some(values.chunks_mut(3 * queries).map(Outputs::Packed)), None),
            Self::Split([q, k, v]) => {
                let others = k.chunks_mut(keys).zip(v.chunks_mut(keys));
                (None, Some(q.chunks_mut(queries).zip(others).map(|(q, (k, v))| Outputs::Split([q, k, v]))))
            }
        };
        packed.into_iter().flatten().chain(split.into_iter().flatten())
    }

    /// Where a head's rows of one sequence begin, and how far they are apart.
    fn part(&mut self, part: Part, head: usize, shape: AttentionShape) -> (&mut [F], usize) {
        let column = head * shape.head_width();
        match self {
            Self::Packed(values) => (&mut values[column + part as usize * shape.width..], 3 * shape.width),
            Self::Split(parts) => (&mut parts[part as usize][column..], shape.width),
        }
    }
}

/// `1 / sqrt(head width)`.
fn scale<F: Real>(shape: AttentionShape) -> F {
    F::from_f64(1.0 / (shape.head_width() as f64).sqrt())
}

/// Number of keys that a query reads, from the first.
fn visible(mask: &Mask<'_>, sequence: usize, query: usize, shape: AttentionShape) -> usize {
    let length = mask.lengths.map_or(shape.keys, |lengths| (lengths[sequence] as usize).min(shape.keys));
    match shape.order {
        Order::Free => length,
        Order::Causal => length.min(query + 1),
    }
}

/// Softmax of each row's visible values, zero for the others, and the logarithm of its sum.
fn softmax<F: Real>(scores: &mut [F], logs: &mut [F], visible: impl Fn(usize) -> usize, keys: usize) {
    vectorized(
        #[inline(always)]
        || {
            for (query, (row, log)) in scores.chunks_exact_mut(keys).zip(logs).enumerate() {
                let (row, hidden) = row.split_at_mut(visible(query));
                hidden.fill(F::ZERO);
                let most = largest(row, row[0]);
                for value in row.iter_mut() {
                    *value = (*value - most).exp();
                }
                let sum = super::workers::sum(
                    row,
                    #[inline(always)]
                    |value| value,
                );
                let factor = F::ONE / sum;
                for value in row.iter_mut() {
                    *value *= factor;
                }
                *log = most + sum.ln();
            }
        },
    );
}

/// `e^(score - log)` for visible values, zero for the others.
fn exponentials<F: Real>(scores: &mut [F], logs: &[F], visible: impl Fn(usize) -> usize, keys: usize) {
    vectorized(
        #[inline(always)]
        || {
            for (query, (row, log)) in scores.chunks_exact_mut(keys).zip(logs).enumerate() {
                let (row, hidden) = row.split_at_mut(visible(query));
                hidden.fill(F::ZERO);
                for value in row.iter_mut() {
                    *value = (*value - *log).exp();
                }
            }
        },
    );
}

/// Dropout on the scores of the head at `index` among all sequences' heads.
fn drop_out<F: Real>(scores: &mut [F], (share, seed, site): (f32, u64, u32), index: u64) {
    let factor = F::ONE / (F::ONE - F::from_f32(share));
    let first = index * scores.len() as u64;
    vectorized(
        #[inline(always)]
        || {
            for (place, score) in scores.iter_mut().enumerate() {
                *score = if keeps(seed, site, first + place as u64, share) { *score * factor } else { F::ZERO };
            }
        },
    );
}
