//! AVX-512: sixteen queries, then sixteen columns a register. What is narrower is AVX2's.

use std::arch::x86_64::{
    __m512, _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_set1_ps, _mm512_setzero_ps, _mm512_storeu_ps,
};

use super::super::lanes::Avx512;
use super::block::{Rows, Tiles};

/// Floats of a register.
const WIDE: usize = 16;
/// Keys that are scored at once.
const KEYS: usize = 8;
/// Queries that are mixed at once.
const ROWS: usize = 4;

impl Tiles for Avx512 {
    const IS_WIDE: bool = true;

    fn scores<const ANY: usize>(self, queries: &[[f32; ANY]], keys: Rows<'_>, scores: &mut [[f32; ANY]]) {
        if ANY != WIDE {
            return self.avx2().scores(queries, keys, scores);
        }
        let (queries, scores) = (queries.as_flattened().as_chunks().0, scores.as_flattened_mut().as_chunks_mut().0);
        // SAFETY: `self` proves the features.
        unsafe { score(queries, keys, scores) }
    }

    fn mix<const ANY: usize>(self, weights: &[[f32; ANY]], values: Rows<'_>, mixed: &mut [f32]) {
        if !values.width().is_multiple_of(WIDE) {
            return self.avx2().mix(weights, values, mixed);
        }
        // SAFETY: `self` proves the features.
        unsafe { mix(weights, values, mixed) }
    }
}

#[target_feature(enable = "avx512f")]
fn score(queries: &[[f32; WIDE]], keys: Rows<'_>, scores: &mut [[f32; WIDE]]) {
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

/// Scores the `COUNT` keys from `first` on for all queries.
#[inline]
#[target_feature(enable = "avx512f")]
fn score_tile<const COUNT: usize>(
    queries: &[[f32; WIDE]],
    keys: Rows<'_>,
    first: usize,
    scores: &mut [[f32; WIDE]; COUNT],
) {
    assert!(first + COUNT <= keys.count() && keys.width() == queries.len(), "keys as wide as the queries");
    let key: [*const f32; COUNT] = std::array::from_fn(|key| keys.as_ptr().wrapping_add((first + key) * keys.stride()));
    let mut sums = [_mm512_setzero_ps(); COUNT];
    for (column, queries) in queries.iter().enumerate() {
        let queries = load(queries);
        for (sum, key) in sums.iter_mut().zip(key) {
            // SAFETY: a column of a key in `keys`, which has as many as there are queries.
            let key = unsafe { *key.add(column) };
            *sum = _mm512_fmadd_ps(queries, _mm512_set1_ps(key), *sum);
        }
    }
    for (scores, sum) in scores.iter_mut().zip(sums) {
        store(sum, scores);
    }
}

#[target_feature(enable = "avx512f")]
fn mix<const ANY: usize>(weights: &[[f32; ANY]], values: Rows<'_>, mixed: &mut [f32]) {
    assert_eq!(weights.len(), values.count(), "a weight for each value");
    let width = values.width();
    assert_eq!(mixed.len(), ANY * width, "a row for each query");
    let mut column = 0;
    for vectors in [4, 2, 1] {
        while column + WIDE * vectors <= width {
            for (four, mixed) in mixed.chunks_exact_mut(ROWS * width).enumerate() {
                let at = [ROWS * four, column];
                match vectors {
                    4 => mix_tile::<ANY, 4>(at, weights, values, mixed),
                    2 => mix_tile::<ANY, 2>(at, weights, values, mixed),
                    _ => mix_tile::<ANY, 1>(at, weights, values, mixed),
                }
            }
            column += WIDE * vectors;
        }
    }
}

/// Mixes `VECTORS` x 16 columns from `column` on for four queries from `first` on.
#[inline]
#[target_feature(enable = "avx512f")]
fn mix_tile<const ANY: usize, const VECTORS: usize>(
    [first, column]: [usize; 2],
    weights: &[[f32; ANY]],
    values: Rows<'_>,
    mixed: &mut [f32],
) {
    let (width, stride) = (values.width(), values.stride());
    assert!(column + WIDE * VECTORS <= width && weights.len() == values.count(), "columns and weights of the values");
    let mut sums = [[_mm512_setzero_ps(); VECTORS]; ROWS];
    for (sums, mixed) in sums.iter_mut().zip(mixed.chunks_exact(width)) {
        for (sum, mixed) in sums.iter_mut().zip(mixed[column..].as_chunks().0) {
            *sum = load(mixed);
        }
    }
    for (key, weights) in weights.iter().enumerate() {
        let value = values.as_ptr().wrapping_add(key * stride + column);
        let mut vectors = [_mm512_setzero_ps(); VECTORS];
        for (vector, loaded) in vectors.iter_mut().enumerate() {
            // SAFETY: `VECTORS` x 16 columns from `column` on of a row of `values`, which has them and a row for each weight.
            *loaded = unsafe { _mm512_loadu_ps(value.add(WIDE * vector)) };
        }
        for (sums, weight) in sums.iter_mut().zip(&weights[first..first + ROWS]) {
            let weight = _mm512_set1_ps(*weight);
            for (sum, vector) in sums.iter_mut().zip(vectors) {
                *sum = _mm512_fmadd_ps(weight, vector, *sum);
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
#[target_feature(enable = "avx512f")]
fn load(from: &[f32; WIDE]) -> __m512 {
    // SAFETY: `from` is 16 floats.
    unsafe { _mm512_loadu_ps(from.as_ptr()) }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn store(a: __m512, to: &mut [f32; WIDE]) {
    // SAFETY: `to` is 16 floats.
    unsafe { _mm512_storeu_ps(to.as_mut_ptr(), a) };
}
