//! Whether ITM tells a picture's own text from another's, and what its scores are worth.

use serde::{Deserialize, Serialize};
use terminal::progress::Progress;

use super::judge::Claim;
use super::{Broken, EvaluationError, EvaluationSettings, Run};
use crate::dataset::Dataset;
use crate::engine::{Device, splitmix64};
use crate::generation::Network;
use crate::metrics::{Judgements, Operating};

/// Shelves of the calibration.
const SHELVES: usize = 10;
/// How often another text is drawn where the first ones are the picture's own.
const DRAWS: u64 = 64;

/// Pairs whose scores lie close together.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Shelf {
    /// Lowest score.
    pub from: f64,
    /// Pairs.
    pub pairs: usize,
    /// Mean score.
    pub score: f64,
    /// Share that belongs together.
    pub matches: f64,
}

/// What comes of keeping pairs from a threshold on.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// Pairs with this score or a higher one are kept.
    pub threshold: f64,
    /// Share of the kept that belong together.
    pub precision: f64,
    /// Share of those that belong together that are kept.
    pub recall: f64,
    /// Pairs that are kept.
    pub kept: usize,
}

impl From<Operating> for Row {
    fn from(o: Operating) -> Row {
        Row { threshold: o.threshold, precision: o.precision, recall: o.recall, kept: o.kept }
    }
}

/// What was measured of matching.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MatchingFigures {
    /// Pairs, half of which do not belong together.
    pub pairs: usize,
    /// Area under the ROC curve, 0 to 1.
    pub roc_auc: f64,
    /// Area under precision over recall, 0 to 1.
    pub average_precision: f64,
    /// Expected calibration error, 0 to 1.
    pub calibration_error: f64,
    /// Scores against shares.
    pub calibration: Vec<Shelf>,
    /// For the thresholds that were asked for.
    pub thresholds: Vec<Row>,
    /// For the precisions that were asked for: the lowest threshold that gives it, where one does.
    pub precisions: Vec<(f64, Option<Row>)>,
}

pub(super) fn measure<D: Device>(
    run: &Run<'_>,
    matcher: &Network<'_, D>,
    broken: &mut Broken,
) -> Result<MatchingFigures, EvaluationError> {
    let mut pairs = Vec::new();
    run.each("matching", broken, |batch| {
        let pixels = batch.pixels(matcher.image_size(), &matcher.normalization);
        let seen = matcher.see(&pixels, batch.entries.len())?;
        let (mut claims, mut truths) = (Vec::new(), Vec::new());
        for (picture, entry) in batch.entries.iter().enumerate() {
            let Some(own) = run.dataset.entry(*entry).texts.first() else { continue };
            let Some(other) = text_of_another(run.dataset, *entry, run.settings.seed) else { continue };
            claims.extend([Claim { picture, text: &own.text }, Claim { picture, text: other }]);
            truths.extend([true, false]);
        }
        let scores = matcher.match_probabilities(&seen, &claims)?;
        pairs.extend(scores.into_iter().map(f64::from).zip(truths));
        Ok(())
    })?;
    if pairs.is_empty() {
        return Err(EvaluationError::Nothing { what: "texts of two different pictures" });
    }
    figures(pairs, &run.settings.thresholds, &run.settings.precisions)
}

/// The figures of pairs of a dataset alone, with the threshold for one precision.
///
/// # Errors
/// As [`super::evaluate`].
pub fn matching_figures<D: Device>(
    dataset: &Dataset,
    matcher: &Network<'_, D>,
    (precision, seed): (f64, u64),
    progress: &Progress,
) -> Result<MatchingFigures, EvaluationError> {
    let settings = EvaluationSettings {
        seed,
        thresholds: Vec::new(),
        precisions: vec![precision],
        ..EvaluationSettings::default()
    };
    measure(&Run { dataset, settings: &settings, progress }, matcher, &mut Broken::default())
}

fn figures(
    pairs: Vec<(f64, bool)>,
    thresholds: &[f64],
    precisions: &[f64],
) -> Result<MatchingFigures, EvaluationError> {
    let count = pairs.len();
    let judged = Judgements::new(pairs)?;
    let calibration = judged.calibration(SHELVES);
    let shelf =
        |bin: &crate::metrics::Bin| Shelf { from: bin.from, pairs: bin.pairs, score: bin.score, matches: bin.matches };
    Ok(MatchingFigures {
        pairs: count,
        roc_auc: judged.roc_auc(),
        average_precision: judged.average_precision(),
        calibration_error: calibration.error,
        calibration: calibration.bins.iter().map(shelf).collect(),
        thresholds: judged.table(thresholds).into_iter().map(Row::from).collect(),
        precisions: precisions
            .iter()
            .map(|precision| (*precision, judged.threshold_for(*precision).map(Row::from)))
            .collect(),
    })
}

/// A text of another picture that is not also this one's, drawn by the seed and the entry alone.
fn text_of_another(dataset: &Dataset, entry: usize, seed: u64) -> Option<&str> {
    let own = dataset.entry(entry);
    for draw in 0..DRAWS {
        let bits = splitmix64(splitmix64(seed ^ entry as u64) ^ draw);
        let other = dataset.entry((bits % dataset.len() as u64) as usize);
        let Some(text) = other.texts.first() else { continue };
        if other.image != own.image && own.texts.iter().all(|own| own.text != text.text) {
            return Some(&text.text);
        }
    }
    None
}
