//! Into sequences of tokens and out of them: copies and sums in a fixed order.

use super::linear::add_row;
use super::real::Real;
use super::workers::{Workers, vectorized};
use crate::engine::{AppendShape, PatchesShape, RowsShape, TokensShape};

/// Word plus position.
pub fn embedding<F: Real>(
    workers: &Workers,
    out: &mut [F],
    ids: &[u32],
    (words, positions): (&[F], &[F]),
    shape: TokensShape,
) {
    assert!(ids.len() == shape.batch * shape.tokens, "an id for each token");
    let width = shape.width;
    workers.each(out.chunks_mut(shape.tokens * width).zip(ids.chunks(shape.tokens)), |_, (out, ids)| {
        let rows = out.chunks_exact_mut(width).zip(positions.chunks_exact(width));
        for ((out, position), id) in rows.zip(ids) {
            out.copy_from_slice(&words[*id as usize * width..][..width]);
            add_row(out, position);
        }
    });
}

/// Adds the gradients of words and positions, which start at `starts`.
pub fn embedding_gradient<F: Real>(into: &mut [F], dy: &[F], ids: &[u32], starts: [usize; 2], shape: TokensShape) {
    assert!(dy.len() == shape.length() && ids.len() == shape.batch * shape.tokens, "lengths");
    vectorized(
        #[inline(always)]
        || {
            for (place, (dy, id)) in dy.chunks_exact(shape.width).zip(ids).enumerate() {
                let word = starts[0] + *id as usize * shape.width;
                add_row(&mut into[word..][..shape.width], dy);
                let position = starts[1] + place % shape.tokens * shape.width;
                add_row(&mut into[position..][..shape.width], dy);
            }
        },
    );
}

/// Pixels `[batch, 3, side, side]` to patches `[batch * patches, 3 * patch * patch]`.
pub fn patches<F: Real>(workers: &Workers, out: &mut [F], pixels: &[F], shape: PatchesShape) {
    let PatchesShape { side, patch, .. } = shape;
    let (across, area) = (side / patch, side * side);
    assert!(pixels.len() == shape.batch * 3 * area && out.len() == pixels.len(), "lengths");
    workers.each(out.chunks_mut(3 * area).zip(pixels.chunks(3 * area)), |_, (out, pixels)| {
        for (place, out) in out.chunks_exact_mut(3 * patch * patch).enumerate() {
            let corner = (place / across * patch) * side + place % across * patch;
            for (line, out) in out.chunks_exact_mut(patch).enumerate() {
                let from = line / patch * area + corner + line % patch * side;
                out.copy_from_slice(&pixels[from..][..patch]);
            }
        }
    });
}

/// The class token, then the patches, all plus positions.
pub fn vision_tokens<F: Real>(
    workers: &Workers,
    out: &mut [F],
    (patches, class, positions): (&[F], &[F], &[F]),
    shape: TokensShape,
) {
    let sequence = shape.tokens * shape.width;
    assert!(patches.len() == shape.length() - shape.batch * shape.width, "the class token is no patch");
    workers.each(out.chunks_mut(sequence).enumerate(), |_, (place, out)| {
        let (first, others) = out.split_at_mut(shape.width);
        first.copy_from_slice(class);
        others.copy_from_slice(&patches[place * (sequence - shape.width)..][..sequence - shape.width]);
        add_row(out, positions);
    });
}

/// Gradient of the patches; those of class token and positions are added at `starts`.
pub fn vision_tokens_gradient<F: Real>(
    out: &mut [F],
    into: &mut [F],
    dy: &[F],
    starts: [usize; 2],
    shape: TokensShape,
) {
    let (sequence, width) = (shape.tokens * shape.width, shape.width);
    for (place, dy) in dy.chunks_exact(sequence).enumerate() {
        add_row(&mut into[starts[0]..][..width], &dy[..width]);
        add_row(&mut into[starts[1]..][..sequence], dy);
        out[place * (sequence - width)..][..sequence - width].copy_from_slice(&dy[width..]);
    }
}

/// The first token of each sequence.
pub fn first_token<F: Real>(out: &mut [F], x: &[F], shape: TokensShape) {
    let rows = out.chunks_exact_mut(shape.width).zip(x.chunks_exact(shape.tokens * shape.width));
    rows.for_each(|(out, x)| out.copy_from_slice(&x[..shape.width]));
}

/// Zero for the other tokens.
pub fn first_token_gradient<F: Real>(out: &mut [F], dy: &[F], shape: TokensShape) {
    out.fill(F::ZERO);
    let rows = out.chunks_exact_mut(shape.tokens * shape.width).zip(dy.chunks_exact(shape.width));
    rows.for_each(|(out, dy)| out[..shape.width].copy_from_slice(dy));
}

/// Rows of `width` values: row `i` of the result is row `rows[i]`.
pub fn gather<T: Copy>(out: &mut [T], values: &[T], rows: &[u32], width: usize) {
    assert!(out.len() == rows.len() * width, "a row for each place");
    for (out, row) in out.chunks_exact_mut(width.max(1)).zip(rows) {
        out.copy_from_slice(&values[*row as usize * width..][..width]);
    }
}

/// Adds each row of `dy` to the row that it was read from.
pub fn gather_gradient<F: Real>(out: &mut [F], dy: &[F], rows: &[u32], shape: RowsShape) {
    assert!(out.len() == shape.rows * shape.width && dy.len() == rows.len() * shape.width, "lengths");
    out.fill(F::ZERO);
    vectorized(
        #[inline(always)]
        || {
            for (dy, row) in dy.chunks_exact(shape.width).zip(rows) {
                add_row(&mut out[*row as usize * shape.width..][..shape.width], dy);
            }
        },
    );
}

/// Row `rows[i]` of `tokens`, then row `i` of `more`.
pub fn append<T: Copy>(out: &mut [T], (tokens, more): (&[T], &[T]), rows: &[u32], shape: AppendShape) {
    let [before, added] = [shape.before * shape.width, shape.added * shape.width];
    assert!(rows.len() == shape.rows && more.len() == shape.rows * added, "a row for each place");
    for ((out, more), row) in out.chunks_exact_mut(before + added).zip(more.chunks_exact(added)).zip(rows) {
        let (old, new) = out.split_at_mut(before);
        old.copy_from_slice(&tokens[*row as usize * before..][..before]);
        new.copy_from_slice(more);
    }
}
