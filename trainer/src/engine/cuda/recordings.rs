//! Programs that are recorded once and then played: a CUDA graph each.
//!
//! What a recording uses of the arena stays its own. All recordings share that part: they run one after the other, and none
//! keeps anything there that another may not overwrite, since results are copied out of it after each run.

use std::collections::HashMap;

use super::memory::Buffer;
use super::{Cuda, Result};

/// What is known of a program.
pub(super) enum Recording {
    /// It ran once: libraries have chosen their algorithms and shadows are there.
    Seen,
    /// It can be played.
    Recorded {
        /// The driver's number for it.
        number: u64,
        /// Where it leaves its results.
        results: Vec<Buffer>,
    },
}

/// Programs by key.
pub(super) type Recordings = HashMap<u64, Recording>;

impl Cuda {
    pub(super) fn replayed(&self, key: u64, program: &mut dyn FnMut() -> Result<Vec<Buffer>>) -> Result<Vec<Buffer>> {
        if !self.recordings.borrow().contains_key(&key) {
            let results = program()?;
            self.recordings.borrow_mut().insert(key, Recording::Seen);
            return Ok(results);
        }
        let is_new = matches!(self.recordings.borrow().get(&key), Some(Recording::Seen));
        if is_new {
            let (number, results) = self.recorded(program)?;
            self.recordings.borrow_mut().insert(key, Recording::Recorded { number, results });
        }
        let recordings = self.recordings.borrow();
        let Some(Recording::Recorded { number, results }) = recordings.get(&key) else {
            unreachable!("the program has just been recorded")
        };
        // SAFETY: the results are held here, the rest of the recording's memory lies in blocks that only recordings use, and
        // what the program reads lives on by the contract of `Device::replay`.
        unsafe { self.context.driver.play(*number) }?;
        results.iter().map(|result| self.copied(result)).collect()
    }

    fn recorded(&self, program: &mut dyn FnMut() -> Result<Vec<Buffer>>) -> Result<(u64, Vec<Buffer>)> {
        self.context.release_unused()?;
        self.context.record()?;
        let results = program();
        let number = self.context.end_recording();
        let results = results?;
        Ok((number?, results))
    }

    fn copied(&self, from: &Buffer) -> Result<Buffer> {
        let to = self.room(from.length(), from.element())?;
        self.context.copy(from.at(), to.at(), from.length() * from.element().bytes())?;
        Ok(to)
    }
}
