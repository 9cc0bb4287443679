//! The answer, in plain Rust that every processor runs.

use super::super::lanes::Scalar;
use super::block::{Rows, Tiles};

impl Tiles for Scalar {
    fn scores<const ROWS: usize>(self, queries: &[[f32; ROWS]], keys: Rows<'_>, scores: &mut [[f32; ROWS]]) {
        self::scores(queries, keys, scores);
    }

    fn mix<const ROWS: usize>(self, weights: &[[f32; ROWS]], values: Rows<'_>, mixed: &mut [f32]) {
        mix_from_column(0, weights, values, mixed);
    }
}

#[inline(always)]
pub fn scores<const ROWS: usize>(queries: &[[f32; ROWS]], keys: Rows<'_>, scores: &mut [[f32; ROWS]]) {
    assert_eq!(queries.len(), keys.width(), "a query value for each column");
    assert_eq!(scores.len(), keys.count(), "a score for each key");
    for (scores, key) in scores.iter_mut().zip(keys.iter()) {
        let mut sums = [0.0; ROWS];
        for (queries, key) in queries.iter().zip(key) {
            for (sum, query) in sums.iter_mut().zip(queries) {
                *sum = query.mul_add(*key, *sum);
            }
        }
        *scores = sums;
    }
}

/// The columns from `first` on, one by one.
#[inline(always)]
pub fn mix_from_column<const ROWS: usize>(first: usize, weights: &[[f32; ROWS]], values: Rows<'_>, mixed: &mut [f32]) {
    assert_eq!(weights.len(), values.count(), "a weight for each value");
    for column in first..values.width() {
        let mut sums = [0.0; ROWS];
        for (sum, mixed) in sums.iter_mut().zip(mixed.chunks_exact(values.width())) {
            *sum = mixed[column];
        }
        for (weights, value) in weights.iter().zip(values.iter()) {
            for (sum, weight) in sums.iter_mut().zip(weights) {
                *sum = weight.mul_add(value[column], *sum);
            }
        }
        for (sum, mixed) in sums.iter().zip(mixed.chunks_exact_mut(values.width())) {
            mixed[column] = *sum;
        }
    }
}
