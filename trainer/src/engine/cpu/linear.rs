//! Linear layers and the GELU after them.

use super::product::{Before, Matrix, product};
use super::real::Real;
use super::workers::{VALUES_PER_TASK, Workers, vectorized};
use crate::engine::{LinearShape, RowsShape};

/// Rows that one task takes: their results are still in the cache when what follows the product reads them.
const ROWS_PER_TASK: usize = 256;

/// Rows of a weight's gradient that one task takes.
const WEIGHT_ROWS_PER_TASK: usize = 256;

/// `x wᵀ + bias`.
pub fn forward<F: Real>(
    workers: &Workers,
    out: &mut [F],
    (x, weight, bias): (&[F], &[F], Option<&[F]>),
    shape: LinearShape,
) {
    let weight = Matrix::new(weight, [shape.outputs, shape.inputs], shape.inputs).transposed();
    each_rows(workers, out, x, [shape.outputs, shape.inputs], |_, out, x, rows| {
        rows_product(out, x, weight, [rows, shape.inputs, shape.outputs]);
        if let Some(bias) = bias {
            add_to_rows(out, bias);
        }
    });
}

/// GELU of `x wᵀ + bias`, and what went into it. Source: Hendrycks and Gimpel, arXiv 1606.08415, section 2: `x` times
/// the normal distribution's share below it.
pub fn forward_gelu<F: Real>(
    workers: &Workers,
    (out, before): (&mut [F], &mut [F]),
    (x, weight, bias): (&[F], &[F], &[F]),
    shape: LinearShape,
) {
    let weight = Matrix::new(weight, [shape.outputs, shape.inputs], shape.inputs).transposed();
    let size = ROWS_PER_TASK * shape.outputs.max(1);
    let outs = out.chunks_mut(size).zip(before.chunks_mut(size));
    workers.each(outs.zip(x.chunks(ROWS_PER_TASK * shape.inputs.max(1))), |_, ((out, before), x)| {
        rows_product(before, x, weight, [out.len() / shape.outputs, shape.inputs, shape.outputs]);
        bias_and_gelu(out, before, bias);
    });
}

/// Largest product, in values, that `gemm` computes in another order of sums than larger ones, as it does that of one row.
const SMALL_PRODUCT: usize = 256;

/// `x wᵀ` of which no row depends on how many rows there are: few rows get empty ones for company.
fn rows_product<F: Real>(out: &mut [F], x: &[F], weight: Matrix<'_, F>, [rows, inputs, outputs]: [usize; 3]) {
    let least = (SMALL_PRODUCT / outputs.max(1) + 1).max(2);
    if rows >= least || rows == 0 {
        let x = Matrix::new(x, [rows, inputs], inputs);
        return product((out, outputs), x, weight, F::ONE, Before::Overwritten);
    }
    let mut filled = vec![F::ZERO; least * inputs];
    filled[..x.len()].copy_from_slice(x);
    let mut results = vec![F::ZERO; least * outputs];
    let x = Matrix::new(&filled, [least, inputs], inputs);
    product((&mut results, outputs), x, weight, F::ONE, Before::Overwritten);
    out.copy_from_slice(&results[..out.len()]);
}

/// `dy w`.
pub fn input_gradient<F: Real>(workers: &Workers, out: &mut [F], (dy, weight): (&[F], &[F]), shape: LinearShape) {
    let weight = Matrix::new(weight, [shape.outputs, shape.inputs], shape.inputs);
    each_rows(workers, out, dy, [shape.inputs, shape.outputs], |_, out, dy, rows| {
        let dy = Matrix::new(dy, [rows, shape.outputs], shape.outputs);
        product((out, shape.inputs), dy, weight, F::ONE, Before::Overwritten);
    });
}

/// `dy w` times the GELU's derivative at `before`.
pub fn gelu_input_gradient<F: Real>(
    workers: &Workers,
    out: &mut [F],
    (dy, weight, before): (&[F], &[F], &[F]),
    shape: LinearShape,
) {
    let weight = Matrix::new(weight, [shape.outputs, shape.inputs], shape.inputs);
    let size = ROWS_PER_TASK * shape.inputs;
    each_rows(workers, out, dy, [shape.inputs, shape.outputs], |task, out, dy, rows| {
        let dy = Matrix::new(dy, [rows, shape.outputs], shape.outputs);
        product((out, shape.inputs), dy, weight, F::ONE, Before::Overwritten);
        let before = &before[task * size..][..out.len()];
        vectorized(
            #[inline(always)]
            || {
                for (out, before) in out.iter_mut().zip(before) {
                    *out *= gelu_derivative(*before);
                }
            },
        );
    });
}

/// `dy` times the GELU's derivative at `before`.
pub fn gelu_gradient<F: Real>(workers: &Workers, out: &mut [F], dy: &[F], before: &[F]) {
    workers.zip(
        out,
        dy,
        before,
        #[inline(always)]
        |dy, before| dy * gelu_derivative(before),
    );
}

/// Adds `dyᵀ x`.
pub fn weight_gradient<F: Real>(workers: &Workers, into: &mut [F], (dy, x): (&[F], &[F]), shape: LinearShape) {
    let LinearShape { rows, inputs, outputs } = shape;
    assert!(into.len() == inputs * outputs && dy.len() == rows * outputs && x.len() == rows * inputs, "lengths");
    if rows == 0 {
        return;
    }
    let x = Matrix::new(x, [rows, inputs], inputs);
    workers.each(into.chunks_mut(WEIGHT_ROWS_PER_TASK * inputs.max(1)), |task, into| {
        let part = Matrix::new(&dy[task * WEIGHT_ROWS_PER_TASK..], [rows, into.len() / inputs], outputs);
        product((into, inputs), part.transposed(), x, F::ONE, Before::Added);
    });
}

/// Adds the sum of rows.
pub fn bias_gradient<F: Real>(workers: &Workers, into: &mut [F], dy: &[F], shape: RowsShape) {
    assert!(into.len() == shape.width && dy.len() == shape.rows * shape.width, "lengths");
    let width = shape.width.max(1);
    let rows_per_task = (VALUES_PER_TASK / width).max(1);
    let mut sums = vec![F::ZERO; shape.rows.div_ceil(rows_per_task) * width];
    workers.each(sums.chunks_mut(width).zip(dy.chunks(rows_per_task * width)), |_, (sum, dy)| {
        vectorized(
            #[inline(always)]
            || {
                for row in dy.chunks_exact(width) {
                    add_row(sum, row);
                }
            },
        );
    });
    sums.chunks_exact(width).for_each(|sum| add_row(into, sum));
}

/// Adds a row to another.
#[inline(always)]
pub fn add_row<F: Real>(into: &mut [F], row: &[F]) {
    for (into, value) in into.iter_mut().zip(row) {
        *into += *value;
    }
}

/// Cuts `out` and `x`, whose rows have `widths` values, into tasks: place, rows of both, number of rows.
fn each_rows<F: Real>(
    workers: &Workers,
    out: &mut [F],
    x: &[F],
    widths: [usize; 2],
    task: impl Fn(usize, &mut [F], &[F], usize) + Sync,
) {
    let [out_width, width] = widths.map(|width| width.max(1));
    assert!(out.len() / out_width == x.len() / width, "rows come in as they go out");
    let parts = out.chunks_mut(ROWS_PER_TASK * out_width).zip(x.chunks(ROWS_PER_TASK * width));
    workers.each(parts, |place, (out, x)| {
        let rows = out.len() / out_width;
        task(place, out, x, rows);
    });
}

fn add_to_rows<F: Real>(rows: &mut [F], bias: &[F]) {
    vectorized(
        #[inline(always)]
        || {
            for row in rows.chunks_exact_mut(bias.len()) {
                add_row(row, bias);
            }
        },
    );
}

fn bias_and_gelu<F: Real>(out: &mut [F], before: &mut [F], bias: &[F]) {
    vectorized(
        #[inline(always)]
        || {
            for (out, before) in out.chunks_exact_mut(bias.len()).zip(before.chunks_exact_mut(bias.len())) {
                for ((out, before), bias) in out.iter_mut().zip(before).zip(bias) {
                    *before += *bias;
                    *out = *before * before.normal().0;
                }
            }
        },
    );
}

/// `d/dx x Φ(x) = Φ(x) + x φ(x)`.
#[inline(always)]
fn gelu_derivative<F: Real>(x: F) -> F {
    let (share, density) = x.normal();
    x.mul_add(density, share)
}
