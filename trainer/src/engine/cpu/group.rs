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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use crate::engine::Device;
    use crate::engine::cpu::Cpu;
    use crate::ranks::{Group, Limits};

    #[test]
    fn devices_of_two_ranks_exchange_over_tcp() {
        let groups = Group::loopback(2, Limits::default()).unwrap();
        std::thread::scope(|scope| {
            for group in groups {
                scope.spawn(move || {
                    let device = Cpu::<f32>::new(1).unwrap().with_ranks(Arc::new(group));
                    let rank = device.rank();
                    let mut flat = device.flat(&[1.0, rank as f32]).unwrap();
                    device.all_reduce(&mut flat).unwrap();
                    assert_eq!((device.world(), device.read_flat(&flat).unwrap()), (2, vec![2.0, 1.0]));
                    let all = device.all_gather(&device.upload(&[rank as f32]).unwrap()).unwrap();
                    assert_eq!(device.download(&all).unwrap(), [0.0, 1.0]);
                    let indices = device.upload_indices(&[7 + rank as u32]).unwrap();
                    let indices = device.all_gather_indices(&indices).unwrap();
                    assert_eq!(device.download_indices(&indices).unwrap(), [7, 8]);
                    let part = device.reduce_scatter(&device.upload(&[1.0, 10.0]).unwrap()).unwrap();
                    assert_eq!(device.download(&part).unwrap(), [[2.0], [20.0]][rank]);
                });
            }
        });
    }
}
