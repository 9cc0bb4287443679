//! Buffers, and the memory that a step leaves for the next one.
//!
//! The system clears fresh memory page by page when it is first touched, which costs as much as a layer norm over it.
//! So the memory of a dropped buffer is kept for the next one of its length. All buffers and what is kept together never
//! exceed what buffers alone have taken at some time.

use std::collections::HashMap;
use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::real::Real;

/// Values that several may hold and nobody changes.
#[derive(Clone)]
pub struct CpuBuffer<F: Real>(Arc<Values<F>>);

impl<F: Real> CpuBuffer<F> {
    /// The values, if nobody else holds them.
    pub fn get_mut(&mut self) -> Option<&mut [F]> {
        Arc::get_mut(&mut self.0).map(|values| &mut values.values[..])
    }
}

impl<F: Real> Deref for CpuBuffer<F> {
    type Target = [F];

    fn deref(&self) -> &[F] {
        &self.0.values
    }
}

/// A long vector that is changed in place.
pub struct CpuFlat<F: Real>(pub(super) Vec<F>);

struct Values<F: Real> {
    values: Vec<F>,
    home: Weak<Memory<F>>,
}

impl<F: Real> Drop for Values<F> {
    fn drop(&mut self) {
        if let Some(home) = self.home.upgrade() {
            home.give_back(std::mem::take(&mut self.values));
        }
    }
}

/// Vectors that are free.
pub struct Memory<F: Real> {
    shelf: Mutex<Shelf<F>>,
}

struct Shelf<F> {
    by_length: HashMap<usize, Vec<Vec<F>>>,
    /// Values in `by_length`.
    kept: usize,
    /// Values in use.
    used: usize,
    /// The most that `used` has been.
    most_used: usize,
}

impl<F: Real> Memory<F> {
    /// Nothing yet.
    pub fn new() -> Self {
        Self { shelf: Mutex::new(Shelf { by_length: HashMap::new(), kept: 0, used: 0, most_used: 0 }) }
    }

    /// A vector whose values are left over from somebody else. Tests and debug builds find "not a number" there.
    pub fn take(&self, length: usize) -> Vec<F> {
        let mut values = self.shelf().take(length).unwrap_or_else(|| vec![F::ZERO; length]);
        if cfg!(any(test, debug_assertions)) {
            values.fill(F::NAN);
        }
        values
    }

    /// Ends the use of a vector from [`Memory::take`].
    pub fn give_back(&self, values: Vec<F>) {
        self.shelf().give_back(values);
    }

    /// Makes a buffer of a vector from [`Memory::take`].
    pub fn buffer(self: &Arc<Self>, values: Vec<F>) -> CpuBuffer<F> {
        CpuBuffer(Arc::new(Values { values, home: Arc::downgrade(self) }))
    }

    fn shelf(&self) -> MutexGuard<'_, Shelf<F>> {
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<F> Shelf<F> {
    fn take(&mut self, length: usize) -> Option<Vec<F>> {
        self.used += length;
        self.most_used = self.most_used.max(self.used);
        let found = self.by_length.get_mut(&length).and_then(Vec::pop);
        if found.is_some() {
            self.kept -= length;
        }
        while self.used + self.kept > self.most_used {
            let Some(length) = self.by_length.keys().next().copied() else { break };
            let dropped = self.by_length.remove(&length).unwrap_or_default();
            self.kept -= length * dropped.len();
        }
        found
    }

    fn give_back(&mut self, values: Vec<F>) {
        let length = values.len();
        self.used -= length;
        self.kept += length;
        self.by_length.entry(length).or_default().push(values);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::Memory;

    #[test]
    fn memory_of_a_dropped_buffer_serves_the_next_of_its_length() {
        let memory = Arc::new(Memory::<f32>::new());
        let first = memory.buffer(memory.take(100));
        let place = first.as_ptr();
        let second = first.clone();
        drop(first);
        let other = memory.take(100);
        assert_ne!(other.as_ptr(), place, "still held");
        drop(second);
        let again = memory.take(100);
        assert_eq!(again.as_ptr(), place);
    }

    #[test]
    fn what_is_kept_never_exceeds_what_was_used() {
        let memory = Arc::new(Memory::<f32>::new());
        for length in 1..200 {
            let buffer = memory.buffer(memory.take(length));
            drop(buffer);
            let shelf = memory.shelf();
            assert!(shelf.used == 0 && shelf.kept <= shelf.most_used && shelf.most_used == length);
        }
    }
}
