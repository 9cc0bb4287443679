//! Ranks over TCP do what a CPU device asks of its ranks.

use super::{Collective, Result};
use crate::ranks::Group;

impl Collective for Group {
    fn rank(&self) -> usize {
        Group::rank(self)
    }

    fn world(&self) -> usize {
        Group::world(self)
    }

    fn all_reduce(&self, values: &mut [f32]) -> Result<()> {
        Ok(Group::all_reduce(self, values)?)
    }

    fn all_gather(&self, values: &[f32]) -> Result<Vec<f32>> {
        Ok(Group::all_gather(self, values)?)
    }

    fn all_gather_u32(&self, values: &[u32]) -> Result<Vec<u32>> {
        Ok(Group::all_gather_u32(self, values)?)
    }

    fn reduce_scatter(&self, values: &[f32]) -> Result<Vec<f32>> {
        Ok(Group::reduce_scatter(self, values)?)
    }
}
