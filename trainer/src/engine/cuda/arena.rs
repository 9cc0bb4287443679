//! Which parts of the device's memory are in use.
//!
//! Blocks are asked for once and kept. A request takes the smallest free range that holds it, the lowest of equals, and a
//! range that is given back joins its free neighbours: the same requests in the same order get the same addresses. Since a
//! device does its work in order, a range may be handed out again before the work that last used it is done.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::driver::Address;

/// Every range begins at a multiple of this and is a multiple of it long.
pub(super) const ALIGNMENT: usize = 256;
/// Smallest block: many small requests share one.
const BLOCK: usize = 64 << 20;

/// For what a block was asked: what a recording uses must stay its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Pool {
    /// Whatever is done at once.
    Everyday,
    /// Recorded work, which is done again and again at the same addresses.
    Recorded,
}

/// Free ranges of one pool's blocks.
#[derive(Default)]
struct Ranges {
    blocks: BTreeMap<Address, usize>,
    by_length: BTreeSet<(usize, Address)>,
    by_address: BTreeMap<Address, usize>,
}

/// Blocks and what is free of them.
#[derive(Default)]
pub(super) struct Arena {
    everyday: Ranges,
    recorded: Ranges,
    taken: HashMap<Address, (Pool, usize)>,
}

/// Bytes that a request takes.
pub(super) fn rounded(bytes: usize) -> usize {
    bytes.max(1).next_multiple_of(ALIGNMENT)
}

/// Bytes of the block to ask for where nothing free holds a request.
pub(super) fn block_for(bytes: usize) -> usize {
    rounded(bytes).max(BLOCK)
}

impl Arena {
    fn ranges(&mut self, pool: Pool) -> &mut Ranges {
        match pool {
            Pool::Everyday => &mut self.everyday,
            Pool::Recorded => &mut self.recorded,
        }
    }

    /// A free range, if one is long enough.
    pub(super) fn take(&mut self, pool: Pool, bytes: usize) -> Option<Address> {
        let bytes = rounded(bytes);
        let ranges = self.ranges(pool);
        let (length, address) = *ranges.by_length.range((bytes, 0)..).next()?;
        ranges.remove(address, length);
        if length > bytes {
            ranges.insert(address + bytes as Address, length - bytes);
        }
        self.taken.insert(address, (pool, bytes));
        Some(address)
    }

    /// A range is no longer in use.
    pub(super) fn give_back(&mut self, address: Address) {
        let Some((pool, bytes)) = self.taken.remove(&address) else { return };
        self.ranges(pool).join(address, bytes);
    }

    /// A new block, all of it free.
    pub(super) fn add_block(&mut self, pool: Pool, address: Address, bytes: usize) {
        let ranges = self.ranges(pool);
        ranges.blocks.insert(address, bytes);
        ranges.insert(address, bytes);
    }

    /// Takes out the everyday blocks of which nothing is in use.
    pub(super) fn unused_blocks(&mut self) -> Vec<Address> {
        let ranges = &mut self.everyday;
        let whole = |(address, bytes): (&Address, &usize)| {
            (ranges.by_address.get(address) == Some(bytes)).then_some((*address, *bytes))
        };
        let unused: Vec<(Address, usize)> = ranges.blocks.iter().filter_map(whole).collect();
        for (address, bytes) in &unused {
            ranges.blocks.remove(address);
            ranges.remove(*address, *bytes);
        }
        unused.into_iter().map(|(address, _)| address).collect()
    }

    /// Takes out all blocks.
    pub(super) fn all_blocks(&mut self) -> Vec<Address> {
        let mut blocks: Vec<Address> = self.everyday.blocks.keys().copied().collect();
        blocks.extend(self.recorded.blocks.keys());
        *self = Arena::default();
        blocks
    }
}

impl Ranges {
    fn insert(&mut self, address: Address, length: usize) {
        self.by_length.insert((length, address));
        self.by_address.insert(address, length);
    }

    fn remove(&mut self, address: Address, length: usize) {
        self.by_length.remove(&(length, address));
        self.by_address.remove(&address);
    }

    /// Frees a range, together with the free ranges beside it in the same block.
    fn join(&mut self, mut address: Address, mut length: usize) {
        let after = address + length as Address;
        if let Some(&next) = self.by_address.get(&after)
            && !self.blocks.contains_key(&after)
        {
            self.remove(after, next);
            length += next;
        }
        if let Some((&before, &previous)) = self.by_address.range(..address).next_back()
            && before + previous as Address == address
            && !self.blocks.contains_key(&address)
        {
            self.remove(before, previous);
            address = before;
            length += previous;
        }
        self.insert(address, length);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arena() -> Arena {
        let mut arena = Arena::default();
        arena.add_block(Pool::Everyday, 4096, 4096);
        arena.add_block(Pool::Everyday, 8192, 2048);
        arena
    }

    #[test]
    fn the_same_requests_get_the_same_addresses() {
        let run = |arena: &mut Arena| {
            let first = arena.take(Pool::Everyday, 300).unwrap();
            let second = arena.take(Pool::Everyday, 1000).unwrap();
            arena.give_back(first);
            let third = arena.take(Pool::Everyday, 100).unwrap();
            let fourth = arena.take(Pool::Everyday, 2000).unwrap();
            for address in [second, third, fourth] {
                arena.give_back(address);
            }
            [first, second, third, fourth]
        };
        let mut arena = arena();
        assert_eq!(run(&mut arena), run(&mut arena));
    }

    #[test]
    fn ranges_do_not_overlap_and_a_full_arena_gives_nothing() {
        let mut arena = arena();
        let mut taken = Vec::new();
        while let Some(address) = arena.take(Pool::Everyday, 257) {
            taken.push(address);
        }
        taken.sort_unstable();
        assert_eq!(taken.len(), 12);
        assert!(taken.windows(2).all(|pair| pair[1] - pair[0] >= 512));
        assert_eq!(arena.take(Pool::Recorded, 1), None);
    }

    #[test]
    fn what_is_given_back_joins_its_neighbours_but_not_the_next_block() {
        let mut arena = arena();
        let parts: Vec<Address> = (0..24).map(|_| arena.take(Pool::Everyday, 256).unwrap()).collect();
        for address in parts.iter().rev().step_by(2).chain(parts.iter().step_by(2)) {
            arena.give_back(*address);
        }
        assert_eq!(arena.take(Pool::Everyday, 4097), None);
        assert_eq!(arena.take(Pool::Everyday, 4096), Some(4096));
        assert_eq!(arena.unused_blocks(), [8192]);
        assert_eq!(arena.take(Pool::Everyday, 1), None);
    }
}
