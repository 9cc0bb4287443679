//! NEON: queries, then columns, four a register; keys and weights multiply by element.

use std::arch::aarch64::{float32x4_t, vdupq_n_f32, vfmaq_laneq_f32, vld1q_dup_f32, vld1q_f32, vst1q_f32};
use std::arch::asm;

use super::super::lanes::Neon;
use super::block::{Rows, Tiles};
use super::scalar;

/// Keys that are scored at once.
const KEYS: usize = 8;

impl Tiles for Neon {
    fn scores<const ROWS: usize>(self, queries: &[[f32; ROWS]], keys: Rows<'_>, scores: &mut [[f32; ROWS]]) {
        // SAFETY: every aarch64 processor has NEON.
        unsafe { score(queries, keys, scores) }
    }

    fn mix<const ROWS: usize>(self, weights: &[[f32; ROWS]], values: Rows<'_>, mixed: &mut [f32]) {
        // SAFETY: every aarch64 processor has NEON.
        unsafe { mix(weights, values, mixed) }
    }
}

#[target_feature(enable = "neon")]
fn score<const ROWS: usize>(queries: &[[f32; ROWS]], keys: Rows<'_>, scores: &mut [[f32; ROWS]]) {
    assert_eq!(queries.len(), keys.width(), "a query value for each column");
    assert_eq!(scores.len(), keys.count(), "a score for each key");
    let (tiles, rest) = scores.as_chunks_mut::<KEYS>();
    let mut first = 0;
    for scores in tiles {
        score_keys(queries, keys, first, scores);
        first += KEYS;
    }
    let (tiles, rest) = rest.as_chunks_mut::<{ KEYS / 2 }>();
    for scores in tiles {
        score_keys(queries, keys, first, scores);
        first += KEYS / 2;
    }
    for scores in rest.as_chunks_mut::<1>().0 {
        score_keys(queries, keys, first, scores);
        first += 1;
    }
}

#[target_feature(enable = "neon")]
fn mix<const ROWS: usize>(weights: &[[f32; ROWS]], values: Rows<'_>, mixed: &mut [f32]) {
    assert_eq!(weights.len(), values.count(), "a weight for each value");
    let column = match (ROWS, mixed.len() / values.width()) {
        (4, 4) => {
            let column = mix_columns::<ROWS, 4, 4>(0, weights, values, mixed);
            mix_columns::<ROWS, 4, 1>(column, weights, values, mixed)
        }
        (8, 8) => {
            let column = mix_columns::<ROWS, 8, 2>(0, weights, values, mixed);
            mix_columns::<ROWS, 8, 1>(column, weights, values, mixed)
        }
        (_, rows) => unreachable!("{rows} rows mixed by weights of {ROWS}"),
    };
    scalar::mix_from_column(column, weights, values, mixed);
}

/// Scores the `COUNT` keys from `first` on for all queries.
#[inline]
#[target_feature(enable = "neon")]
fn score_keys<const ROWS: usize, const COUNT: usize>(
    queries: &[[f32; ROWS]],
    keys: Rows<'_>,
    first: usize,
    scores: &mut [[f32; ROWS]; COUNT],
) {
    match ROWS {
        4 => score_tile::<ROWS, 1, COUNT>(queries, keys, first, scores),
        _ => score_tile::<ROWS, 2, COUNT>(queries, keys, first, scores),
    }
}

/// `ROWS` is 4 x `VECTORS`.
#[inline]
#[target_feature(enable = "neon")]
fn score_tile<const ROWS: usize, const VECTORS: usize, const COUNT: usize>(
    queries: &[[f32; ROWS]],
    keys: Rows<'_>,
    first: usize,
    scores: &mut [[f32; ROWS]; COUNT],
) {
    assert_eq!(ROWS, 4 * VECTORS, "whole vectors of queries");
    assert!(first + COUNT <= keys.count() && keys.width() == queries.len(), "keys as wide as the queries");
    let key: [*const f32; COUNT] =
        std::array::from_fn(|key| apart(keys.as_ptr().wrapping_add((first + key) * keys.stride())));
    let mut sums = [[vdupq_n_f32(0.0); VECTORS]; COUNT];
    let (fours, rest) = queries.as_chunks::<4>();
    for (four, queries) in fours.iter().enumerate() {
        // SAFETY: 4 columns of a key in `keys`, which has as many as there are queries.
        let keys = key.map(|key| unsafe { vld1q_f32(key.add(4 * four)) });
        add_column::<ROWS, VECTORS, COUNT, 0>(&mut sums, &queries[0], &keys);
        add_column::<ROWS, VECTORS, COUNT, 1>(&mut sums, &queries[1], &keys);
        add_column::<ROWS, VECTORS, COUNT, 2>(&mut sums, &queries[2], &keys);
        add_column::<ROWS, VECTORS, COUNT, 3>(&mut sums, &queries[3], &keys);
    }
    for (column, queries) in rest.iter().enumerate() {
        // SAFETY: a column of a key in `keys`, which has as many as there are queries.
        let keys = key.map(|key| unsafe { vld1q_dup_f32(key.add(4 * fours.len() + column)) });
        add_column::<ROWS, VECTORS, COUNT, 0>(&mut sums, queries, &keys);
    }
    for (scores, sums) in scores.iter_mut().zip(sums) {
        for (scores, sum) in scores.as_chunks_mut().0.iter_mut().zip(sums) {
            store(sum, scores);
        }
    }
}

/// The same pointer, which the compiler then keeps in a register of its own: derived from each other, the pointers of a
/// tile would be added up again at every step.
#[inline(always)]
fn apart(mut pointer: *const f32) -> *const f32 {
    // SAFETY: does nothing.
    unsafe { asm!("/* {0} */", inout(reg) pointer, options(pure, nomem, nostack, preserves_flags)) };
    pointer
}

/// Adds the products of one column, which the keys have in lane `LANE`.
#[inline]
#[target_feature(enable = "neon")]
fn add_column<const ROWS: usize, const VECTORS: usize, const COUNT: usize, const LANE: i32>(
    sums: &mut [[float32x4_t; VECTORS]; COUNT],
    queries: &[f32; ROWS],
    keys: &[float32x4_t; COUNT],
) {
    for (vector, queries) in queries.as_chunks().0.iter().enumerate() {
        let queries = load(queries);
        for (sums, keys) in sums.iter_mut().zip(keys) {
            sums[vector] = vfmaq_laneq_f32::<LANE>(sums[vector], queries, *keys);
        }
    }
}

/// Mixes `VECTORS` x 4 columns at a time for the first `LIVE` queries, from column `first` on; returns the next column.
#[inline]
#[target_feature(enable = "neon")]
fn mix_columns<const ROWS: usize, const LIVE: usize, const VECTORS: usize>(
    first: usize,
    weights: &[[f32; ROWS]],
    values: Rows<'_>,
    mixed: &mut [f32],
) -> usize {
    let mut column = first;
    while column + 4 * VECTORS <= values.width() {
        mix_tile::<ROWS, LIVE, VECTORS>(column, weights, values, mixed);
        column += 4 * VECTORS;
    }
    column
}

#[inline]
#[target_feature(enable = "neon")]
fn mix_tile<const ROWS: usize, const LIVE: usize, const VECTORS: usize>(
    column: usize,
    weights: &[[f32; ROWS]],
    values: Rows<'_>,
    mixed: &mut [f32],
) {
    let (width, stride) = (values.width(), values.stride());
    assert!(column + 4 * VECTORS <= width && weights.len() == values.count(), "columns and weights of the values");
    assert!(mixed.len() >= LIVE * width, "a row for each query");
    let mixed = mixed.as_mut_ptr().wrapping_add(column);
    let mut sums = [[vdupq_n_f32(0.0); VECTORS]; LIVE];
    for (row, sums) in sums.iter_mut().enumerate() {
        for (vector, sum) in sums.iter_mut().enumerate() {
            // SAFETY: 4 columns of one of the `LIVE` rows, which end before `width`.
            *sum = unsafe { vld1q_f32(mixed.add(row * width + 4 * vector)) };
        }
    }
    let (fours, rest) = weights.as_chunks::<4>();
    let mut value = values.as_ptr().wrapping_add(column);
    for four in fours {
        for weights in four {
            // SAFETY: `VECTORS` x 4 columns from `column` on of a row of `values`, which has one for each weight.
            let vectors = std::array::from_fn(|vector| unsafe { vld1q_f32(value.add(4 * vector)) });
            add_row::<ROWS, LIVE, VECTORS>(&mut sums, &vectors, weights);
            value = value.wrapping_add(stride);
        }
    }
    for (row, weights) in rest.iter().enumerate() {
        let value = values.as_ptr().wrapping_add((4 * fours.len() + row) * stride + column);
        // SAFETY: as above.
        let vectors = std::array::from_fn(|vector| unsafe { vld1q_f32(value.add(4 * vector)) });
        add_row::<ROWS, LIVE, VECTORS>(&mut sums, &vectors, weights);
    }
    for (row, sums) in sums.iter().enumerate() {
        for (vector, sum) in sums.iter().enumerate() {
            // SAFETY: as at the start.
            unsafe { vst1q_f32(mixed.add(row * width + 4 * vector), *sum) };
        }
    }
}

/// Adds the products of one row of values and its weights.
#[inline]
#[target_feature(enable = "neon")]
fn add_row<const ROWS: usize, const LIVE: usize, const VECTORS: usize>(
    sums: &mut [[float32x4_t; VECTORS]; LIVE],
    value: &[float32x4_t; VECTORS],
    weights: &[f32; ROWS],
) {
    for (quad, weights) in weights.as_chunks().0.iter().enumerate().take(LIVE.div_ceil(4)) {
        let weights = load(weights);
        add_products::<LIVE, VECTORS, 0>(sums, quad, value, weights);
        add_products::<LIVE, VECTORS, 1>(sums, quad, value, weights);
        add_products::<LIVE, VECTORS, 2>(sums, quad, value, weights);
        add_products::<LIVE, VECTORS, 3>(sums, quad, value, weights);
    }
}

/// Adds the products of the query `LANE` of a quad, if it is live.
#[inline]
#[target_feature(enable = "neon")]
fn add_products<const LIVE: usize, const VECTORS: usize, const LANE: i32>(
    sums: &mut [[float32x4_t; VECTORS]; LIVE],
    quad: usize,
    value: &[float32x4_t; VECTORS],
    weights: float32x4_t,
) {
    if let Some(sums) = sums.get_mut(4 * quad + LANE as usize) {
        for (sum, value) in sums.iter_mut().zip(value) {
            *sum = vfmaq_laneq_f32::<LANE>(*sum, *value, weights);
        }
    }
}

#[inline]
#[target_feature(enable = "neon")]
fn load(from: &[f32; 4]) -> float32x4_t {
    // SAFETY: `from` is 4 floats.
    unsafe { vld1q_f32(from.as_ptr()) }
}

#[inline]
#[target_feature(enable = "neon")]
fn store(a: float32x4_t, to: &mut [f32; 4]) {
    // SAFETY: `to` is 4 floats.
    unsafe { vst1q_f32(to.as_mut_ptr(), a) };
}
