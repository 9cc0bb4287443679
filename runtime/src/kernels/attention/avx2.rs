//! AVX2: eight queries, then eight columns a register; keys and weights are broadcast.

use std::arch::x86_64::{
    __m256, _mm256_broadcast_ss, _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_setzero_ps, _mm256_storeu_ps,
};

use super::super::lanes::Avx2;
use super::block::{Rows, Tiles};
use super::scalar;

/// Keys that are scored at once.
const KEYS: usize = 8;

/// Queries of eight.
const ROWS: usize = 8;

impl Tiles for Avx2 {
    fn scores<const ROWS: usize>(self, queries: &[[f32; ROWS]], keys: Rows<'_>, scores: &mut [[f32; ROWS]]) {
        // SAFETY: `self` proves the features.
        unsafe { score::<ROWS>(queries, keys, scores) }
    }

    fn mix<const ROWS: usize>(self, weights: &[[f32; ROWS]], values: Rows<'_>, mixed: &mut [f32]) {
        // SAFETY: `self` proves the features.
        unsafe { mix::<ROWS>(weights, values, mixed) }
    }
}

#[target_feature(enable = "avx2,fma")]
fn score<const ANY: usize>(queries: &[[f32; ANY]], keys: Rows<'_>, scores: &mut [[f32; ANY]]) {
    // Four queries are half a register, which the compiler fills by itself.
    let (Some(queries), Some(scores)) = (eights(queries), eights_mut(scores)) else {
        return scalar::scores(queries, keys, scores);
    };
    assert_eq!(queries.len(), keys.width(), "a query value for each column");
    assert_eq!(scores.len(), keys.count(), "a score for each key");
    let (tiles, rest) = scores.as_chunks_mut::<KEYS>();
    let mut first = 0;
    for scores in tiles {
        score_tile(queries, keys, first, scores);
        first += KEYS;
    }
    for scores in rest.as_chunks_mut::<1>().0 {
        score_tile(queries, keys, first, scores);
        first += 1;
    }
}

fn eights<const ANY: usize>(rows: &[[f32; ANY]]) -> Option<&[[f32; ROWS]]> {
    (ANY == ROWS).then_some(rows.as_flattened().as_chunks().0)
}

fn eights_mut<const ANY: usize>(rows: &mut [[f32; ANY]]) -> Option<&mut [[f32; ROWS]]> {
    if ANY == ROWS { Some(rows.as_flattened_mut().as_chunks_mut().0) } else { None }
}

/// Scores the `COUNT` keys from `first` on for all queries.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn score_tile<const COUNT: usize>(
    queries: &[[f32; ROWS]],
    keys: Rows<'_>,
    first: usize,
    scores: &mut [[f32; ROWS]; COUNT],
) {
    assert!(first + COUNT <= keys.count() && keys.width() == queries.len(), "keys as wide as the queries");
    let key: [*const f32; COUNT] = std::array::from_fn(|key| keys.as_ptr().wrapping_add((first + key) * keys.stride()));
    let mut sums = [_mm256_setzero_ps(); COUNT];
    for (column, queries) in queries.iter().enumerate() {
        let queries = load(queries);
        for (sum, key) in sums.iter_mut().zip(key) {
            // SAFETY: a column of a key in `keys`, which has as many as there are queries.
            let key = unsafe { &*key.add(column) };
            *sum = _mm256_fmadd_ps(queries, _mm256_broadcast_ss(key), *sum);
        }
    }
    for (scores, sum) in scores.iter_mut().zip(sums) {
        store(sum, scores);
    }
}

#[target_feature(enable = "avx2,fma")]
fn mix<const ANY: usize>(weights: &[[f32; ANY]], values: Rows<'_>, mixed: &mut [f32]) {
    assert_eq!(weights.len(), values.count(), "a weight for each value");
    let width = values.width();
    let mut column = 0;
    for vectors in [4, 2, 1] {
        while column + 8 * vectors <= width {
            for (quad, mixed) in mixed.chunks_mut(4 * width).enumerate() {
                let first = 4 * quad;
                match (mixed.len() / width, vectors) {
                    (4, 4) => {
                        mix_tile::<ANY, 4, 2>([first, column], weights, values, mixed);
                        mix_tile::<ANY, 4, 2>([first, column + 16], weights, values, mixed);
                    }
                    (4, 2) => mix_tile::<ANY, 4, 2>([first, column], weights, values, mixed),
                    (4, _) => mix_tile::<ANY, 4, 1>([first, column], weights, values, mixed),
                    (rows, _) => unreachable!("{rows} rows mixed by weights of {ANY}"),
                }
            }
            column += 8 * vectors;
        }
    }
    scalar::mix_from_column(column, weights, values, mixed);
}

/// Mixes `VECTORS` x 8 columns from `column` on for `LIVE` queries from `first` on.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn mix_tile<const ANY: usize, const LIVE: usize, const VECTORS: usize>(
    [first, column]: [usize; 2],
    weights: &[[f32; ANY]],
    values: Rows<'_>,
    mixed: &mut [f32],
) {
    let (width, stride) = (values.width(), values.stride());
    assert!(column + 8 * VECTORS <= width && weights.len() == values.count(), "columns and weights of the values");
    let mut sums = [[_mm256_setzero_ps(); VECTORS]; LIVE];
    for (sums, mixed) in sums.iter_mut().zip(mixed.chunks_exact(width)) {
        for (sum, mixed) in sums.iter_mut().zip(mixed[column..].as_chunks().0) {
            *sum = load(mixed);
        }
    }
    for (key, weights) in weights.iter().enumerate() {
        let value = values.as_ptr().wrapping_add(key * stride + column);
        let mut vectors = [_mm256_setzero_ps(); VECTORS];
        for (vector, loaded) in vectors.iter_mut().enumerate() {
            // SAFETY: `VECTORS` x 8 columns from `column` on of a row of `values`, which has them and a row for each weight.
            *loaded = unsafe { _mm256_loadu_ps(value.add(8 * vector)) };
        }
        for (sums, weight) in sums.iter_mut().zip(&weights[first..first + LIVE]) {
            let weight = _mm256_broadcast_ss(weight);
            for (sum, vector) in sums.iter_mut().zip(vectors) {
                *sum = _mm256_fmadd_ps(weight, vector, *sum);
            }
        }
    }
    for (sums, mixed) in sums.iter().zip(mixed.chunks_exact_mut(width)) {
        for (sum, mixed) in sums.iter().zip(mixed[column..].as_chunks_mut().0) {
            store(*sum, mixed);
        }
    }
}

#[inline]
#[target_feature(enable = "avx2,fma")]
fn load(from: &[f32; 8]) -> __m256 {
    // SAFETY: `from` is 8 floats.
    unsafe { _mm256_loadu_ps(from.as_ptr()) }
}

#[inline]
#[target_feature(enable = "avx2,fma")]
fn store(a: __m256, to: &mut [f32; 8]) {
    // SAFETY: `to` is 8 floats.
    unsafe { _mm256_storeu_ps(to.as_mut_ptr(), a) };
}
