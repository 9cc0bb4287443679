//! What the ranks exchange.

use super::driver::{Address, Collective};
use super::memory::{Buffer, Flat, Indices};
use super::{Cuda, Result};

impl Cuda {
    /// This device as one of `world` ranks, each with a GPU of its own. `exchange` is called once: on rank 0 with the name
    /// of the group, which it hands to all others, and elsewhere with nothing; it returns the name everywhere.
    ///
    /// # Errors
    /// NCCL is not there, a rank does not come, or two ranks have the same GPU.
    pub fn with_ranks(
        mut self,
        rank: usize,
        world: usize,
        exchange: impl FnOnce(Option<Vec<u8>>) -> Result<Vec<u8>>,
    ) -> Result<Cuda> {
        if world > 1 {
            let name = if rank == 0 { Some(self.context.driver.new_group()?) } else { None };
            self.context.driver.join(&exchange(name)?, rank, world)?;
        }
        (self.rank, self.world) = (rank, world);
        Ok(self)
    }

    fn exchange(&self, collective: Collective) -> Result<()> {
        // SAFETY: the callers below hold what the addresses belong to, and have made room for what comes.
        unsafe { self.context.driver.exchange(collective) }
    }

    /// The sum's order is NCCL's: the same in each run on the same machines, but not that of the ranks.
    pub(super) fn summed_over_ranks(&self, flat: &Flat) -> Result<()> {
        if self.world == 1 {
            return Ok(());
        }
        let count = flat.length();
        self.exchange(Collective::AllReduce { at: flat.part(0, count), count })?;
        flat.renew()
    }

    fn gathered(&self, from: Address, to: Address, bytes: usize) -> Result<()> {
        self.exchange(Collective::AllGather { from, to, bytes })
    }

    pub(super) fn gathered_buffers(&self, buffer: &Buffer) -> Result<Buffer> {
        if self.world == 1 {
            return Ok(buffer.clone());
        }
        let out = self.room(buffer.length() * self.world, buffer.element())?;
        self.gathered(buffer.at(), out.at(), buffer.length() * buffer.element().bytes())?;
        Ok(out)
    }

    pub(super) fn gathered_index_lists(&self, indices: &Indices) -> Result<Indices> {
        if self.world == 1 {
            return Ok(indices.clone());
        }
        let out = Indices::new(&self.context, indices.length() * self.world)?;
        self.gathered(indices.at(), out.at(), indices.length() * 4)?;
        Ok(out)
    }

    pub(super) fn summed_and_parted(&self, buffer: &Buffer) -> Result<Buffer> {
        if self.world == 1 {
            return Ok(buffer.clone());
        }
        let (count, element) = (buffer.length() / self.world, buffer.element());
        let out = self.room(count, element)?;
        self.exchange(Collective::ReduceScatter { from: buffer.of(count * self.world), to: out.at(), count, element })?;
        Ok(out)
    }
}
