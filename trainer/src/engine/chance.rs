//! What is random, drawn from counters: it depends on the seed and the place and on nothing else.

use super::Direction;

/// Mixes 64 bits. Source: Steele, Lea, Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014; constants of
/// `java.util.SplittableRandom`.
pub fn splitmix64(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// The seed of a step: what [`Dropout::seed`] and [`Device::draw_negatives`] are given, low word first.
pub fn step_seed(seed: u64, step: u64) -> [u32; 2] {
    let mixed = splitmix64(seed ^ step.wrapping_mul(0x9E37_79B9_7F4A_7C15));
    [mixed as u32, (mixed >> 32) as u32]
}

/// The random bits of one place: `seed` is the step's, `counter` the place.
pub fn random_bits(seed: u64, counter: u64) -> u64 {
    splitmix64(seed ^ counter)
}

/// The column that a draw gives: the first whose running sum of `weights` exceeds `u * total`, or the last with a weight
/// above zero. Sums run in 64 bits and in column order, so every device draws the same. `sample` is the global index of the
/// row; nothing where all weights are zero.
pub fn draw(weights: impl Iterator<Item = f32> + Clone, seed: u64, sample: u64, direction: Direction) -> Option<usize> {
    let bits = random_bits(seed, 2 * sample + direction as u64);
    let u = (bits >> 40) as f64 / (1u64 << 24) as f64;
    let total: f64 = weights.clone().map(f64::from).sum();
    let mut sum = 0.0;
    let mut last = None;
    for (column, weight) in weights.enumerate() {
        if weight > 0.0 {
            sum += f64::from(weight);
            last = Some(column);
            if sum > u * total {
                break;
            }
        }
    }
    last
}

/// Whether dropout keeps the group at `index`. Source of the scheme: inverted dropout, Srivastava et al., JMLR 2014.
pub fn keeps(seed: u64, site: u32, index: u64, share: f32) -> bool {
    let bits = random_bits(seed, (u64::from(site) << 40) | index);
    (bits >> 40) as f32 / (1u32 << 24) as f32 >= share
}
