//! The best share of a stream, without waiting for its end.

use std::collections::VecDeque;

/// Scores that a new one is compared with.
const WINDOW: usize = 256;
/// How much one decision moves the bar, of 1.
const STEP: f64 = 0.05;

/// Says of each score of a stream whether it is among the best, so that the wanted share of them is.
///
/// A score becomes its rank among the last ones, and the rank must reach a bar. Each decision moves the bar: up by
/// `STEP * (1 - share)` if the score was taken, down by `STEP * share` if not. As ranks lie in [0, 1], so does the bar, but
/// for a step; hence after any stream of any length, sorted or constant, the number of scores taken is within `1 / STEP + 2`
/// of its share. Source: Gibbs and Candès, "Adaptive conformal inference under distribution shift", 2021, proposition 4.1.
#[derive(Clone, Debug)]
pub struct TopShare {
    share: f64,
    bar: f64,
    window: VecDeque<f32>,
}

impl TopShare {
    /// Wants a share, in (0, 1].
    pub fn new(share: f64) -> TopShare {
        TopShare { share, bar: 1.0 - share, window: VecDeque::with_capacity(WINDOW) }
    }

    /// Wants another share from now on.
    pub fn set_share(&mut self, share: f64) {
        if share != self.share {
            self.share = share;
            self.bar = 1.0 - share;
        }
    }

    /// Whether a score, which is a number, is among the best.
    pub fn is_among(&mut self, score: f32) -> bool {
        if self.share >= 1.0 {
            return true;
        }
        let is_among = self.rank(score) >= self.bar;
        self.bar += STEP * (f64::from(u8::from(is_among)) - self.share);
        if self.window.len() == WINDOW {
            self.window.pop_front();
        }
        self.window.push_back(score);
        is_among
    }

    /// Share of the last scores that are lower, equal ones counting half.
    fn rank(&self, score: f32) -> f64 {
        if self.window.is_empty() {
            return 0.5;
        }
        let lower = self.window.iter().filter(|other| **other < score).count();
        let equal = self.window.iter().filter(|other| **other == score).count();
        (lower as f64 + equal as f64 / 2.0) / self.window.len() as f64
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// How far the number of scores taken may be from its share.
    const APART: f64 = 1.0 / STEP + 2.0;

    fn taken(share: f64, scores: impl IntoIterator<Item = f32>) -> Vec<bool> {
        let mut top = TopShare::new(share);
        scores.into_iter().map(|score| top.is_among(score)).collect()
    }

    fn count(taken: &[bool]) -> f64 {
        taken.iter().filter(|taken| **taken).count() as f64
    }

    /// Uniform in [0, 1), the same on every machine. Source: Steele, Lea and Flood, SplitMix64, 2014.
    fn uniform(number: u64) -> f32 {
        let mut bits = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((bits ^ (bits >> 31)) >> 40) as f32 / (1_u64 << 24) as f32
    }

    #[test]
    fn it_takes_the_best_and_not_just_as_many() {
        let scores: Vec<f32> = (1..=5000).map(uniform).collect();
        let taken = taken(0.3, scores.iter().copied());
        let right = scores.iter().zip(&taken).filter(|(score, taken)| **taken == (**score >= 0.7)).count();
        assert!(right >= 4600, "{right} of 5000");
        assert!((count(&taken) - 1500.0).abs() <= APART);
    }

    #[test]
    fn it_holds_the_share_of_scores_that_are_all_alike_or_get_ever_better_or_worse() {
        for share in [0.02, 0.3, 0.5, 0.97] {
            for scores in
                [vec![0.99; 3000], (0..3000).map(|n| n as f32).collect(), (0..3000).map(|n| -n as f32).collect()]
            {
                let count = count(&taken(share, scores));
                assert!((count - share * 3000.0).abs() <= APART, "{share}: {count}");
            }
        }
    }

    #[test]
    fn the_whole_share_takes_everything() {
        assert!(taken(1.0, [0.0, -1.0, 1.0]).iter().all(|taken| *taken));
    }

    proptest! {
        #[test]
        fn it_holds_the_share_of_any_stream(
            share in 0.001_f64..1.0,
            scores in prop::collection::vec(prop_oneof![0.0_f32..1.0, Just(0.0), Just(1.0)], 0..600),
        ) {
            let taken = taken(share, scores.iter().copied());
            // At every point of the stream, and not just at its end.
            for length in 0..=taken.len() {
                let apart = count(&taken[..length]) - share * length as f64;
                prop_assert!(apart.abs() <= APART, "{apart} after {length}");
            }
        }
    }
}
