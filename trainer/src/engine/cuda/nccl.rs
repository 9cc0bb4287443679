//! Exchanges between GPUs by NCCL.

use std::ffi::c_void;

use cudarc::driver::sys::CUstream;
use cudarc::nccl::{result, sys};

use super::driver::{Collective, Element};

/// A group that this rank has joined.
pub(super) struct Group {
    communicator: sys::ncclComm_t,
}

type Result<T> = std::result::Result<T, String>;

fn said<T>(call: &str, returned: std::result::Result<T, result::NcclError>) -> Result<T> {
    returned.map_err(|error| format!("{call}: {:?}", error.0))
}

/// A new group's name.
pub(super) fn new_name() -> Result<Vec<u8>> {
    let name = said("ncclGetUniqueId", result::get_uniqueid())?;
    Ok(name.internal.iter().map(|byte| *byte as u8).collect())
}

impl Group {
    /// Waits until all ranks have joined. The device's context is this thread's.
    pub(super) fn join(name: &[u8], rank: usize, world: usize) -> Result<Group> {
        let mut id = sys::ncclUniqueId { internal: [0; 128] };
        if name.len() != id.internal.len() {
            return Err(format!("the name of an NCCL group has {} bytes, not {}", id.internal.len(), name.len()));
        }
        for (to, from) in id.internal.iter_mut().zip(name) {
            *to = *from as std::ffi::c_char;
        }
        let mut communicator = std::ptr::null_mut();
        // SAFETY: NCCL writes the communicator.
        said("ncclCommInitRank", unsafe { result::comm_init_rank(&mut communicator, world as i32, id, rank as i32) })?;
        Ok(Group { communicator })
    }

    /// # Safety
    /// The ranges lie within allocations of the device that the group was joined with, whose stream this is.
    pub(super) unsafe fn exchange(&self, collective: Collective, stream: CUstream) -> Result<()> {
        let stream = stream.cast();
        // SAFETY: the caller's promise; the communicator is alive.
        let returned = unsafe {
            match collective {
                Collective::AllReduce { at, count } => result::all_reduce(
                    at as *const c_void,
                    at as *mut c_void,
                    count,
                    sys::ncclDataType_t::ncclFloat32,
                    sys::ncclRedOp_t::ncclSum,
                    self.communicator,
                    stream,
                ),
                Collective::AllGather { from, to, bytes } => result::all_gather(
                    from as *const c_void,
                    to as *mut c_void,
                    bytes,
                    sys::ncclDataType_t::ncclUint8,
                    self.communicator,
                    stream,
                ),
                Collective::ReduceScatter { from, to, count, element } => result::reduce_scatter(
                    from as *const c_void,
                    to as *mut c_void,
                    count,
                    match element {
                        Element::F32 => sys::ncclDataType_t::ncclFloat32,
                        Element::Bf16 => sys::ncclDataType_t::ncclBfloat16,
                    },
                    sys::ncclRedOp_t::ncclSum,
                    self.communicator,
                    stream,
                ),
            }
        };
        said("an exchange by NCCL", returned).map(|_| ())
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // SAFETY: joined in `join`, left here only. That it fails at the end of a program helps nobody.
        let _ = unsafe { result::comm_abort(self.communicator) };
    }
}
