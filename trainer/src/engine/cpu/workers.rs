//! Threads, and loops in the widest instructions that the processor has.
//!
//! Work is cut by fixed sizes, never by the number of threads, so that the number does not change an answer.

use rayon::prelude::*;

use super::real::Real;
use crate::engine::{EngineError, Result};

/// Values that one task of an elementwise operation takes.
pub const VALUES_PER_TASK: usize = 1 << 16;

/// Partial sums that run beside each other in a long sum.
const LANES: usize = 32;

/// Threads.
pub struct Workers {
    pool: Option<rayon::ThreadPool>,
}

impl Workers {
    /// One thread is the caller's own.
    ///
    /// # Errors
    /// Where the system refuses threads.
    pub fn new(threads: usize) -> Result<Self> {
        if threads <= 1 {
            return Ok(Self { pool: None });
        }
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
        let pool = pool.map_err(|error| EngineError::Failed { device: "cpu".to_owned(), what: error.to_string() })?;
        Ok(Self { pool: Some(pool) })
    }

    /// Number of threads.
    pub fn count(&self) -> usize {
        self.pool.as_ref().map_or(1, rayon::ThreadPool::current_num_threads)
    }

    /// Runs `task` for each item and its place.
    pub fn each<I: Send>(&self, items: impl Iterator<Item = I>, task: impl Fn(usize, I) + Sync) {
        match &self.pool {
            None => items.enumerate().for_each(|(place, item)| task(place, item)),
            Some(pool) => {
                let items: Vec<I> = items.collect();
                if let [_] = items[..] {
                    items.into_iter().for_each(|item| task(0, item));
                } else {
                    pool.install(|| items.into_par_iter().enumerate().for_each(|(place, item)| task(place, item)));
                }
            }
        }
    }

    /// `term` of each pair of values.
    pub fn zip<F: Real>(&self, out: &mut [F], a: &[F], b: &[F], term: impl Fn(F, F) -> F + Sync) {
        assert!(a.len() == out.len() && b.len() == out.len(), "values of one length");
        let inputs = a.chunks(VALUES_PER_TASK).zip(b.chunks(VALUES_PER_TASK));
        self.each(out.chunks_mut(VALUES_PER_TASK).zip(inputs), |_, (out, (a, b))| {
            vectorized(
                #[inline(always)]
                || {
                    for ((out, a), b) in out.iter_mut().zip(a).zip(b) {
                        *out = term(*a, *b);
                    }
                },
            );
        });
    }

    /// Changes each value by the one beside it.
    pub fn update<F: Real>(&self, values: &mut [F], by: &[F], term: impl Fn(F, F) -> F + Sync) {
        assert!(by.len() == values.len(), "values of one length");
        self.each(values.chunks_mut(VALUES_PER_TASK).zip(by.chunks(VALUES_PER_TASK)), |_, (values, by)| {
            vectorized(
                #[inline(always)]
                || {
                    for (value, by) in values.iter_mut().zip(by) {
                        *value = term(*value, *by);
                    }
                },
            );
        });
    }
}

/// Runs `work` compiled for the widest instructions that are here. What it calls must be inlined.
#[inline(always)]
pub fn vectorized<R>(work: impl FnOnce() -> R) -> R {
    pulp::Arch::new().dispatch(work)
}

/// Sum of a term of each value.
#[inline(always)]
pub fn sum<F: Real>(values: &[F], term: impl Fn(F) -> F) -> F {
    fold(
        values,
        F::ZERO,
        #[inline(always)]
        |sum, value| sum + term(value),
        #[inline(always)]
        |a, b| a + b,
    )
}

/// Largest value; what cannot be compared is passed over. `lowest` where there is none.
#[inline(always)]
pub fn largest<F: Real>(values: &[F], lowest: F) -> F {
    fold(
        values,
        lowest,
        #[inline(always)]
        |most, value| most.or_larger(value),
        #[inline(always)]
        |a, b| a.or_larger(b),
    )
}

#[inline(always)]
fn fold<F: Real>(values: &[F], start: F, step: impl Fn(F, F) -> F, join: impl Fn(F, F) -> F) -> F {
    let mut lanes = [start; LANES];
    let (chunks, rest) = values.as_chunks::<LANES>();
    for chunk in chunks {
        for lane in 0..LANES {
            lanes[lane] = step(lanes[lane], chunk[lane]);
        }
    }
    for (lane, value) in lanes.iter_mut().zip(rest) {
        *lane = step(*lane, *value);
    }
    joined(lanes, join)
}

/// Inner product.
#[inline(always)]
pub fn dot<F: Real>(a: &[F], b: &[F]) -> F {
    let mut lanes = [F::ZERO; LANES];
    let (a_chunks, a_rest) = a.as_chunks::<LANES>();
    let (b_chunks, b_rest) = b.as_chunks::<LANES>();
    for (a, b) in a_chunks.iter().zip(b_chunks) {
        for lane in 0..LANES {
            lanes[lane] = a[lane].mul_add(b[lane], lanes[lane]);
        }
    }
    for (lane, (a, b)) in lanes.iter_mut().zip(a_rest.iter().zip(b_rest)) {
        *lane = a.mul_add(*b, *lane);
    }
    joined(
        lanes,
        #[inline(always)]
        |a, b| a + b,
    )
}

/// Folds what stands at one place of three rows into a sum.
#[inline(always)]
pub fn sum_triples<F: Real>([a, b, c]: [&[F]; 3], step: impl Fn(F, [F; 3]) -> F) -> F {
    let mut lanes = [F::ZERO; LANES];
    let (a_chunks, a_rest) = a.as_chunks::<LANES>();
    let (b_chunks, b_rest) = b.as_chunks::<LANES>();
    let (c_chunks, c_rest) = c.as_chunks::<LANES>();
    for ((a, b), c) in a_chunks.iter().zip(b_chunks).zip(c_chunks) {
        for lane in 0..LANES {
            lanes[lane] = step(lanes[lane], [a[lane], b[lane], c[lane]]);
        }
    }
    for (lane, ((a, b), c)) in lanes.iter_mut().zip(a_rest.iter().zip(b_rest).zip(c_rest)) {
        *lane = step(*lane, [*a, *b, *c]);
    }
    joined(
        lanes,
        #[inline(always)]
        |a, b| a + b,
    )
}

#[inline(always)]
fn joined<F: Real>(mut lanes: [F; LANES], join: impl Fn(F, F) -> F) -> F {
    let mut width = LANES / 2;
    while width > 0 {
        for lane in 0..width {
            lanes[lane] = join(lanes[lane], lanes[lane + width]);
        }
        width /= 2;
    }
    lanes[0]
}
