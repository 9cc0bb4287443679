//! Matching as a classifier of pairs: how well its scores rank, and what they mean.

use super::MetricError;

/// Scores of pairs, 0 to 1, and whether each pair belongs together; both kinds are there.
#[derive(Clone, Debug)]
pub struct Judgements {
    /// From the highest score down.
    ranked: Vec<(f64, bool)>,
    matches: usize,
}

/// Pairs whose scores lie close together.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bin {
    /// Scores of the bin are higher than this; the highest of the bin before.
    pub from: f64,
    /// Pairs in it.
    pub pairs: usize,
    /// Mean score, 0 where there are no pairs.
    pub score: f64,
    /// Share that does belong together, 0 where there are no pairs.
    pub matches: f64,
}

/// Whether a score of 0.8 is right in 8 of 10 cases.
#[derive(Clone, Debug, PartialEq)]
pub struct Calibration {
    /// Of equal width, from 0 to 1.
    pub bins: Vec<Bin>,
    /// Expected calibration error, 0 to 1: the mean distance of score and share over all pairs.
    ///
    /// Source: Guo et al. 2017 (arXiv 1706.04599), equation 3, on the score of the class "match".
    pub error: f64,
}

/// What comes of keeping pairs from a threshold on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Operating {
    /// Pairs with this score or a higher one are kept.
    pub threshold: f64,
    /// Share of the kept that belong together; 1 where none is kept.
    pub precision: f64,
    /// Share of those that belong together that are kept.
    pub recall: f64,
    /// Pairs that are kept.
    pub kept: usize,
}

impl Judgements {
    /// Takes each pair's score and whether it belongs together.
    ///
    /// # Errors
    /// A score that is NaN, or pairs of one kind only.
    pub fn new(pairs: impl IntoIterator<Item = (f64, bool)>) -> Result<Self, MetricError> {
        let mut ranked: Vec<(f64, bool)> = pairs.into_iter().collect();
        if let Some(index) = ranked.iter().position(|(score, _)| score.is_nan()) {
            return Err(MetricError::NotANumber { what: "matching", index });
        }
        let matches = ranked.iter().filter(|(_, is_match)| *is_match).count();
        if matches == 0 || matches == ranked.len() {
            return Err(MetricError::OneClass);
        }
        ranked.sort_by(|a, b| b.0.total_cmp(&a.0));
        Ok(Self { ranked, matches })
    }

    /// The chance that a pair that belongs together scores higher than one that does not; a tie counts half.
    ///
    /// Source: the Mann-Whitney form of the area under the ROC curve, equal to scikit-learn's `roc_auc_score`.
    pub fn roc_auc(&self) -> f64 {
        let mut higher = 0;
        let mut area = 0.0;
        for tie in self.ties() {
            let matches = tie.iter().filter(|(_, is_match)| *is_match).count();
            let others = tie.len() - matches;
            area += others as f64 * (higher as f64 + 0.5 * matches as f64);
            higher += matches;
        }
        area / (self.matches as f64 * (self.ranked.len() - self.matches) as f64)
    }

    /// The area under precision over recall, by steps.
    ///
    /// Source: scikit-learn's `average_precision_score`.
    pub fn average_precision(&self) -> f64 {
        let (mut kept, mut right, mut sum) = (0, 0, 0.0);
        for tie in self.ties() {
            let matches = tie.iter().filter(|(_, is_match)| *is_match).count();
            kept += tie.len();
            right += matches;
            sum += matches as f64 * right as f64 / kept as f64;
        }
        sum / self.matches as f64
    }

    /// Scores against shares in `bins` bins of equal width; scores outside of 0 to 1 are in the first or the last.
    pub fn calibration(&self, bins: usize) -> Calibration {
        let bins = bins.max(1);
        let mut sums = vec![(0_usize, 0.0, 0_usize); bins];
        for (score, is_match) in &self.ranked {
            let bin = (1..bins).take_while(|edge| (*edge as f64 / bins as f64) < *score).count();
            sums[bin] = (sums[bin].0 + 1, sums[bin].1 + score, sums[bin].2 + usize::from(*is_match));
        }
        let bin = |(place, (pairs, scores, matches)): (usize, &(usize, f64, usize))| {
            let some = (*pairs).max(1) as f64;
            Bin {
                from: place as f64 / bins as f64,
                pairs: *pairs,
                score: scores / some,
                matches: *matches as f64 / some,
            }
        };
        let bins: Vec<Bin> = sums.iter().enumerate().map(bin).collect();
        let weighed = bins.iter().map(|bin| bin.pairs as f64 * (bin.score - bin.matches).abs());
        let error = weighed.sum::<f64>() / self.ranked.len() as f64;
        Calibration { bins, error }
    }

    /// What comes of keeping pairs whose score is `threshold` or higher.
    pub fn at(&self, threshold: f64) -> Operating {
        let kept = self.ranked.partition_point(|(score, _)| *score >= threshold);
        let right = self.ranked[..kept].iter().filter(|(_, is_match)| *is_match).count();
        let precision = if kept == 0 { 1.0 } else { right as f64 / kept as f64 };
        Operating { threshold, precision, recall: right as f64 / self.matches as f64, kept }
    }

    /// A row for each threshold.
    pub fn table(&self, thresholds: &[f64]) -> Vec<Operating> {
        thresholds.iter().map(|threshold| self.at(*threshold)).collect()
    }

    /// The smallest of the scores that, as a threshold, gives this precision; none where no score does.
    pub fn threshold_for(&self, precision: f64) -> Option<Operating> {
        let (mut kept, mut right) = (0, 0);
        let mut best = None;
        for tie in self.ties() {
            kept += tie.len();
            right += tie.iter().filter(|(_, is_match)| *is_match).count();
            let found = right as f64 / kept as f64;
            if found >= precision {
                let recall = right as f64 / self.matches as f64;
                best = Some(Operating { threshold: tie[0].0, precision: found, recall, kept });
            }
        }
        best
    }

    /// Pairs of one score at a time, from the highest down.
    fn ties(&self) -> impl Iterator<Item = &[(f64, bool)]> {
        self.ranked.chunk_by(|a, b| a.0 == b.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_kind_of_pair_alone_is_refused() {
        assert_eq!(Judgements::new([(0.5, true)]).unwrap_err(), MetricError::OneClass);
        assert_eq!(
            Judgements::new([(0.5, true), (f64::NAN, false)]).unwrap_err(),
            MetricError::NotANumber { what: "matching", index: 1 }
        );
    }

    #[test]
    fn the_smallest_threshold_of_a_precision_keeps_the_most() {
        let pairs = [(0.9, true), (0.8, false), (0.7, true), (0.6, true), (0.5, true), (0.4, false)];
        let judged = Judgements::new(pairs).unwrap();
        let at_80 = judged.threshold_for(0.8).unwrap();
        assert_eq!((at_80.threshold, at_80.kept, at_80.recall), (0.5, 5, 1.0));
        assert_eq!(judged.threshold_for(1.0).unwrap().threshold, 0.9);
        assert_eq!(judged.at(0.85).precision, 1.0);
        assert_eq!(judged.at(2.0), Operating { threshold: 2.0, precision: 1.0, recall: 0.0, kept: 0 });
        let hopeless = Judgements::new([(0.9, false), (0.1, true)]).unwrap();
        assert_eq!(hopeless.threshold_for(0.6), None);
    }

    #[test]
    fn scores_at_and_beyond_the_ends_are_in_the_outer_bins() {
        let judged = Judgements::new([(0.0, false), (1.0, true), (1.5, true), (-0.5, false)]).unwrap();
        let calibration = judged.calibration(4);
        assert_eq!(calibration.bins.iter().map(|bin| bin.pairs).collect::<Vec<_>>(), [2, 0, 0, 2]);
    }
}
