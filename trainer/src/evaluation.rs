//! How good a model is on a dataset: captions, retrieval, matching, answers, and an int8 bundle beside it.

mod pictures;
mod judge;
mod captions;
mod retrieval;
mod matching;
mod answers;
mod bundle;
mod show;

use blip::decoding::{DecodingOptions, Strategy};
use serde::{Deserialize, Serialize};
use terminal::progress::Progress;

use crate::dataset::Dataset;
use crate::engine::{Device, EngineError};
use crate::generation::{GenerationError, Network, Writing};
use crate::metrics::MetricError;

pub use answers::{AnswerFigures, AnswerWay, Answered};
pub use bundle::{BundleFigures, BundleSettings};
pub use captions::{CaptionFigures, CaptionScores, Example};
pub use judge::{Claim, cosine, probability};
pub use matching::{MatchingFigures, Row, Shelf, matching_figures};
pub use pictures::{Broken, Decoded, each_batch};
pub use retrieval::{RecallFigures, RetrievalFigures, RetrievalSettings};

/// Most images times texts whose similarities are held: 4 GiB.
pub const MAX_SIMILARITIES: usize = 1 << 30;

/// Why there are no figures.
#[derive(Debug, thiserror::Error)]
pub enum EvaluationError {
    /// The model.
    #[error(transparent)]
    Generation(#[from] GenerationError),
    /// The device.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// A score.
    #[error(transparent)]
    Metric(#[from] MetricError),
    /// Not one picture of the dataset can be read.
    #[error("no picture of the dataset can be read; the first: {first}")]
    NoPictures {
        /// Name and reason.
        first: String,
    },
    /// A dataset without what is to be measured.
    #[error("the dataset has no {what}: measure something else, or give a dataset that has them")]
    Nothing {
        /// Texts or questions.
        what: &'static str,
    },
    /// A dataset that is too large to hold all similarities.
    #[error("{images} pictures with {texts} texts have too many similarities: evaluate on a part of them")]
    TooMany {
        /// Pictures.
        images: usize,
        /// Texts.
        texts: usize,
    },
    /// A program that is not there, or that failed.
    #[error("{program}: {what}")]
    Program {
        /// Which.
        program: String,
        /// What happened, and what to do.
        what: String,
    },
    /// A temporary file.
    #[error("no temporary file: {0}")]
    Temporary(#[from] std::io::Error),
}

/// What is measured, and how.
#[derive(Clone, Debug)]
pub struct EvaluationSettings {
    /// Pictures in a pass.
    pub batch: usize,
    /// Draws the wrong texts of the matching figures.
    pub seed: u64,
    /// How captions are written; the first text of each picture counts.
    pub captions: Writing,
    /// How retrieval ranks.
    pub retrieval: RetrievalSettings,
    /// How questions are answered.
    pub answers: AnswerWay,
    /// Thresholds of the matching table.
    pub thresholds: Vec<f64>,
    /// Precisions for which a threshold is looked for.
    pub precisions: Vec<f64>,
    /// The Python that has pycocoevalcap, for METEOR.
    pub python: String,
    /// An int8 bundle to make and to compare with, if wanted.
    pub bundle: Option<BundleSettings>,
    /// Examples that are kept for the page.
    pub examples: usize,
}

impl Default for EvaluationSettings {
    /// The authors'. Source: BLIP `configs/caption_coco.yaml`, `configs/retrieval_coco.yaml`, and `generate` in
    /// `models/blip_vqa.py`, `forward`.
    fn default() -> EvaluationSettings {
        EvaluationSettings {
            batch: 32,
            seed: 0,
            captions: beam_of_three([5, 20]),
            retrieval: RetrievalSettings { candidates: 256 },
            answers: AnswerWay::Generated(beam_of_three([1, 10])),
            thresholds: (1..10).map(|tenth| f64::from(tenth) / 10.0).collect(),
            precisions: vec![0.9, 0.95, 0.99],
            python: "python3".to_owned(),
            bundle: None,
            examples: 20,
        }
    }
}

fn beam_of_three([min_length, max_length]: [usize; 2]) -> Writing {
    let options = DecodingOptions {
        strategy: Strategy::Beam { beams: 3 },
        repetition_penalty: 1.0,
        no_repeat_ngram: 0,
        min_length,
        max_length,
        length_penalty: 1.0,
    };
    Writing { prompt: String::new(), options, texts: 1 }
}

/// The models; what is not there is not measured.
pub struct Models<'m, D: Device> {
    /// Writes captions.
    pub captioner: Option<Network<'m, D>>,
    /// Matches and retrieves.
    pub matcher: Option<Network<'m, D>>,
    /// Answers questions.
    pub answerer: Option<Network<'m, D>>,
}

/// Everything that was measured.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// Pictures of the dataset.
    pub pictures: usize,
    /// Those that could not be read.
    pub broken: Broken,
    /// Captions.
    pub captions: Option<CaptionFigures>,
    /// Retrieval.
    pub retrieval: Option<RetrievalFigures>,
    /// Matching.
    pub matching: Option<MatchingFigures>,
    /// Answers.
    pub answers: Option<AnswerFigures>,
    /// The bundle.
    pub bundle: Option<BundleFigures>,
}

/// Measures what the models can do.
///
/// # Errors
/// A dataset without texts (or, for an answerer, questions), pictures none of which can be read, a program that is
/// missing or fails, or the device.
pub fn evaluate<D: Device>(
    dataset: &Dataset,
    models: &Models<'_, D>,
    settings: &EvaluationSettings,
    progress: &Progress,
) -> Result<Evaluation, EvaluationError> {
    let mut found = Evaluation { pictures: dataset.len(), ..Evaluation::default() };
    let run = Run { dataset, settings, progress };
    if let Some(captioner) = &models.captioner {
        let written = captions::write(&run, captioner, &mut found.broken)?;
        found.captions = Some(captions::score(&run, &written)?);
        if let Some(bundle) = &settings.bundle {
            found.bundle = Some(bundle::compare(&run, bundle, &written)?);
        }
    }
    if let Some(matcher) = &models.matcher {
        found.retrieval = Some(retrieval::measure(&run, matcher, &mut found.broken)?);
        found.matching = Some(matching::measure(&run, matcher, &mut found.broken)?);
    }
    if let Some(answerer) = &models.answerer {
        found.answers = Some(answers::measure(&run, answerer, &mut found.broken)?);
    }
    Ok(found)
}

/// What every measurement needs.
struct Run<'r> {
    dataset: &'r Dataset,
    settings: &'r EvaluationSettings,
    progress: &'r Progress,
}

impl Run<'_> {
    /// Hands over the dataset's pictures batch by batch, and counts those that cannot be read.
    fn each(
        &self,
        stage: &str,
        broken: &mut Broken,
        mut task: impl FnMut(&Decoded) -> Result<(), EvaluationError>,
    ) -> Result<(), EvaluationError> {
        self.progress.stage(stage, self.dataset.len());
        let mut read = 0;
        each_batch(self.dataset, 0..self.dataset.len(), self.settings.batch, |batch: Decoded| {
            batch.broken.iter().for_each(|(entry, line)| broken.note(*entry, line));
            if !batch.entries.is_empty() {
                task(&batch)?;
            }
            read += batch.entries.len();
            (0..batch.entries.len() + batch.broken.len()).for_each(|_| self.progress.step());
            Ok::<(), EvaluationError>(())
        })?;
        if read == 0 {
            let first = broken.first.first().cloned().unwrap_or_default();
            return Err(EvaluationError::NoPictures { first });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
