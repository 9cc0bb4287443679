//! Copies from the host that do not wait: through memory that the GPU reads by itself.

use std::ffi::c_void;

use cudarc::driver::result::DriverError;
use cudarc::driver::sys;

use super::driver::Address;

/// Bytes of a slot.
const SLOT: usize = 8 << 20;
/// Slots: so many copies may be on their way.
const SLOTS: usize = 4;

/// Pinned memory, and an event that says when the GPU has read it.
struct Slot {
    memory: *mut c_void,
    read: sys::CUevent,
}

/// A ring of slots, made at the first copy.
#[derive(Default)]
pub(super) struct Staging {
    slots: Vec<Slot>,
    next: usize,
}

impl Staging {
    /// Copies; `bytes` may be dropped when this returns.
    ///
    /// # Safety
    /// At `to` there is room, the stream is alive, and its context is this thread's.
    pub(super) unsafe fn send(&mut self, to: Address, bytes: &[u8], stream: sys::CUstream) -> Result<(), DriverError> {
        for (part, chunk) in bytes.chunks(SLOT).enumerate() {
            let slot = self.free_slot()?;
            // SAFETY: the GPU has read what was in the slot, which is as long as a chunk may be; the rest is the caller's
            // promise.
            unsafe {
                std::ptr::copy_nonoverlapping(chunk.as_ptr(), slot.memory.cast(), chunk.len());
                let to = to + (part * SLOT) as Address;
                sys::cuMemcpyHtoDAsync_v2(to, slot.memory, chunk.len(), stream).result()?;
                sys::cuEventRecord(slot.read, stream).result()?;
            }
        }
        Ok(())
    }

    /// The oldest slot, once the GPU has read it.
    fn free_slot(&mut self) -> Result<&Slot, DriverError> {
        if self.slots.len() < SLOTS {
            let (mut memory, mut read) = (std::ptr::null_mut(), std::ptr::null_mut());
            // SAFETY: the driver writes a pointer and an event, which `free` lets go.
            unsafe {
                sys::cuEventCreate(&mut read, sys::CUevent_flags::CU_EVENT_DISABLE_TIMING as u32).result()?;
                sys::cuMemAllocHost_v2(&mut memory, SLOT).result()?;
            }
            self.slots.push(Slot { memory, read });
            self.next = 0;
            return Ok(&self.slots[self.slots.len() - 1]);
        }
        let slot = &self.slots[self.next];
        self.next = (self.next + 1) % SLOTS;
        // SAFETY: the event is alive.
        unsafe { sys::cuEventSynchronize(slot.read).result()? };
        Ok(slot)
    }

    /// Lets everything go.
    ///
    /// # Safety
    /// No copy is on its way, and the context is this thread's.
    pub(super) unsafe fn free(&mut self) {
        for slot in self.slots.drain(..) {
            // SAFETY: made in `free_slot`, freed here only.
            unsafe {
                sys::cuMemFreeHost(slot.memory);
                sys::cuEventDestroy_v2(slot.read);
            }
        }
    }
}
