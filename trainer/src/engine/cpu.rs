//! The CPU reference: it defines the answer.
//!
//! Every sum runs in an order that sizes alone decide, so the number of threads changes no bit of any result. Random
//! places and numbers come from the functions of [`engine`](super).

mod real;
mod workers;
mod memory;
mod product;
mod linear;
mod normalize;
mod attention;
mod sequences;
mod losses;
mod vectors;
mod device;
mod group;
#[cfg(test)]
mod tests;

use std::sync::Arc;

pub use memory::{CpuBuffer, CpuFlat};
pub use real::Real;

use super::{Dropout, Result, Slice};
use memory::Memory;
use workers::Workers;

/// What the ranks of a training do together. Sums run in rank order.
pub trait Collective: Send + Sync {
    /// This process among [`Collective::world`].
    fn rank(&self) -> usize;
    /// Number of processes.
    fn world(&self) -> usize;
    /// Sum over ranks, in place.
    ///
    /// # Errors
    /// Where another rank is gone, slow or of another mind; so for the others.
    fn all_reduce(&self, values: &mut [f32]) -> Result<()>;
    /// All ranks' values one after the other.
    ///
    /// # Errors
    /// As [`Collective::all_reduce`].
    fn all_gather(&self, values: &[f32]) -> Result<Vec<f32>>;
    /// All ranks' values one after the other.
    ///
    /// # Errors
    /// As [`Collective::all_reduce`].
    fn all_gather_u32(&self, values: &[u32]) -> Result<Vec<u32>>;
    /// Sum over ranks, of which each rank gets its own part.
    ///
    /// # Errors
    /// As [`Collective::all_reduce`].
    fn reduce_scatter(&self, values: &[f32]) -> Result<Vec<f32>>;
}

/// Threads, memory, and perhaps other ranks.
#[derive(Clone)]
pub struct Cpu<F: Real = f32> {
    workers: Arc<Workers>,
    memory: Arc<Memory<F>>,
    ranks: Option<Arc<dyn Collective>>,
}

impl<F: Real> Cpu<F> {
    /// A device of `threads` threads; zero is taken as one.
    ///
    /// # Errors
    /// Where the system refuses threads.
    pub fn new(threads: usize) -> Result<Self> {
        Ok(Self { workers: Arc::new(Workers::new(threads)?), memory: Arc::new(Memory::new()), ranks: None })
    }

    /// The same device as one of several ranks.
    #[must_use]
    pub fn with_ranks(self, ranks: Arc<dyn Collective>) -> Self {
        Self { ranks: Some(ranks), ..self }
    }

    /// Number of threads.
    pub fn threads(&self) -> usize {
        self.workers.count()
    }

    /// Values in the precision that this device computes with.
    pub fn buffer(&self, values: &[F]) -> CpuBuffer<F> {
        let mut kept = self.memory.take(values.len());
        kept.copy_from_slice(values);
        self.memory.buffer(kept)
    }

    /// A long vector in the precision that this device computes with.
    pub fn vector(&self, values: &[F]) -> CpuFlat<F> {
        CpuFlat(values.to_vec())
    }

    /// What `write` puts into `length` values, of which it leaves none as it finds them.
    fn filled(&self, length: usize, write: impl FnOnce(&mut [F])) -> CpuBuffer<F> {
        let mut values = self.memory.take(length);
        write(&mut values);
        self.memory.buffer(values)
    }

    /// Two buffers.
    fn filled_pair(&self, lengths: [usize; 2], write: impl FnOnce(&mut [F], &mut [F])) -> (CpuBuffer<F>, CpuBuffer<F>) {
        let [mut first, mut second] = lengths.map(|length| self.memory.take(length));
        write(&mut first, &mut second);
        (self.memory.buffer(first), self.memory.buffer(second))
    }
}

impl<F: Real> CpuFlat<F> {
    /// The values.
    pub fn values(&self) -> &[F] {
        &self.0
    }

    fn part(&mut self, start: usize, length: usize) -> &mut [F] {
        &mut self.0[start..][..length]
    }
}

impl<'a, F: Real> Slice<'a, Cpu<F>> {
    /// The values.
    fn values(self) -> &'a [F] {
        &self.flat.0[self.start..][..self.length]
    }
}

impl<F: Real> Dropout<'_, Cpu<F>> {
    /// Share, seed and site.
    fn scheme(&self) -> (f32, u64, u32) {
        (self.share, seed_of(self.seed), self.site)
    }
}

/// Low word, high word.
fn seed_of(words: &[u32]) -> u64 {
    u64::from(words[0]) | u64::from(words[1]) << 32
}

/// The ranks' sum in the place of this rank's values.
fn sum_over<F: Real>(ranks: &dyn Collective, flat: &mut CpuFlat<F>) -> Result<()> {
    let mut values: Vec<f32> = flat.0.iter().map(|value| value.to_f32()).collect();
    ranks.all_reduce(&mut values)?;
    flat.0.iter_mut().zip(values).for_each(|(value, sum)| *value = F::from_f32(sum));
    Ok(())
}
