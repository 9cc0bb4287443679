//! Which of many hashes lie within a few bits of one.
//!
//! Source: Norouzi, Punjani, Fleet, "Fast Search in Hamming Space with Multi-Index Hashing" (2012), section 3: hashes that
//! differ in at most `d` bits differ in at most `d / 4` bits in one of four equal bands (pigeonhole), so that it is enough
//! to look in each band's table at the few values so near.

const BANDS: usize = 4;
const BAND_BITS: u32 = 16;
const VALUES: usize = 1 << BAND_BITS;
/// Farthest that is looked for, in bits: 137 values a band.
pub const MAX_DISTANCE: u32 = 11;

/// Hashes that can be searched.
pub struct NearIndex {
    hashes: Vec<u64>,
    bands: [Band; BANDS],
    distance: u32,
    /// What to change in a band's value to come to those that are near enough, and the value itself.
    changes: Vec<u16>,
}

/// The hashes by 16 of their bits: those with value `v` are `members[starts[v]..starts[v + 1]]`.
struct Band {
    starts: Vec<u32>,
    members: Vec<u32>,
}

impl NearIndex {
    /// Puts hashes in order, to find those within `distance` bits, at most [`MAX_DISTANCE`].
    pub fn new(hashes: Vec<u64>, distance: u32) -> NearIndex {
        let distance = distance.min(MAX_DISTANCE);
        let radius = distance / BANDS as u32;
        let changes = (0..=u16::MAX).filter(|change| change.count_ones() <= radius).collect();
        let bands = std::array::from_fn(|band| Band::of(&hashes, band));
        NearIndex { hashes, bands, distance, changes }
    }

    /// Whether any of the hashes is near.
    pub fn has_near(&self, hash: u64) -> bool {
        self.bands.iter().enumerate().any(|(place, band)| {
            let value = value_of(hash, place);
            self.changes.iter().any(|change| {
                let candidates = band.members(value ^ change).iter();
                candidates.map(|member| self.hashes[*member as usize]).any(|other| self.is_near(hash, other))
            })
        })
    }

    fn is_near(&self, hash: u64, other: u64) -> bool {
        (hash ^ other).count_ones() <= self.distance
    }
}

impl Band {
    fn of(hashes: &[u64], place: usize) -> Band {
        let mut starts = vec![0_u32; VALUES + 1];
        for hash in hashes {
            starts[usize::from(value_of(*hash, place)) + 1] += 1;
        }
        for value in 0..VALUES {
            starts[value + 1] += starts[value];
        }
        let mut next = starts.clone();
        let mut members = vec![0; hashes.len()];
        for (number, hash) in (0_u32..).zip(hashes) {
            let place = &mut next[usize::from(value_of(*hash, place))];
            members[*place as usize] = number;
            *place += 1;
        }
        Band { starts, members }
    }

    fn members(&self, value: u16) -> &[u32] {
        let value = usize::from(value);
        &self.members[self.starts[value] as usize..self.starts[value + 1] as usize]
    }
}

fn value_of(hash: u64, place: usize) -> u16 {
    (hash >> (place as u32 * BAND_BITS)) as u16
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_hash_is_near_itself_and_what_is_one_bit_too_far_is_not() {
        for distance in 0..=MAX_DISTANCE {
            let index = NearIndex::new(vec![0], distance);
            assert!(index.has_near(0));
            for shift in 0..64 {
                let far = |bits: u32| ((1_u64 << bits) - 1).rotate_left(shift);
                assert!(index.has_near(far(distance)), "{distance} {shift}");
                assert!(!index.has_near(far(distance + 1)), "{distance} {shift}");
            }
        }
        assert!(!NearIndex::new(Vec::new(), 4).has_near(0));
    }

    proptest! {
        #[test]
        fn it_finds_what_comparing_all_with_all_finds(
            seeds in prop::collection::vec(any::<u64>(), 1..20),
            changes in prop::collection::vec((any::<prop::sample::Index>(), prop::collection::vec(0_u32..64, 0..14)), 1..60),
            distance in 0..=MAX_DISTANCE,
        ) {
            let index = NearIndex::new(seeds.clone(), distance);
            for (seed, bits) in changes {
                let hash = bits.iter().fold(*seed.get(&seeds), |hash, bit| hash ^ (1 << bit));
                let expected = seeds.iter().any(|other| (hash ^ other).count_ones() <= distance);
                prop_assert_eq!(index.has_near(hash), expected);
            }
        }
    }
}
