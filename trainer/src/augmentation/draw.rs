//! Random numbers of one sample.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use super::Side;

/// A stream of random numbers that three numbers determine.
#[derive(Clone, Debug)]
pub struct Draw(ChaCha8Rng);

impl Draw {
    /// The stream of a sample: `place` is its place in the epoch's order. The stream at place [`u64::MAX`] is the
    /// epoch's own, for its order.
    pub fn new(seed: u64, epoch: u64, place: u64) -> Self {
        let mut key = [0; 32];
        for (part, number) in key.chunks_exact_mut(8).zip([seed, epoch, place]) {
            part.copy_from_slice(&number.to_le_bytes());
        }
        Self(ChaCha8Rng::from_seed(key))
    }

    /// Between 0 and 1, below 1, at steps of 2^-53.
    pub fn share(&mut self) -> f64 {
        (self.0.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Between `low` and `high`.
    pub fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.share()
    }

    /// A number below `count`, each equally likely to 2^-32 and better.
    ///
    /// # Panics
    /// If `count` is zero.
    pub fn below(&mut self, count: usize) -> usize {
        assert!(count > 0, "there is a number to draw");
        ((u128::from(self.0.next_u64()) * count as u128) >> 64) as usize
    }

    /// One way or the other.
    pub fn side(&mut self) -> Side {
        if self.share() < 0.5 { Side::Minus } else { Side::Plus }
    }
}
