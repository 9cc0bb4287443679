//! Scores of captions, retrieval, answers and matching.

pub mod answers;
mod contractions;
pub mod captions;
pub mod matching;
pub mod meteor;
pub mod retrieval;
pub mod words;

pub use answers::{AnswerRule, normalized_answer, vqa_accuracy};
pub use captions::{Bleu, CaptionSet, Captioned, Scores};
pub use matching::{Bin, Calibration, Judgements, Operating};
pub use meteor::{JavaScore, meteor, spice};
pub use retrieval::{Recall, Retrieval, Similarities};
pub use words::tokenized;

/// Why there is no score.
#[derive(Debug, thiserror::Error, PartialEq)]
pub enum MetricError {
    /// Nothing to score.
    #[error("{what}: there is nothing to score")]
    Empty {
        /// The metric.
        what: &'static str,
    },
    /// A caption or question without a reference.
    #[error("{what}: item {index} has no reference")]
    NoReference {
        /// The metric.
        what: &'static str,
        /// Which one, from 0.
        index: usize,
    },
    /// Lists that belong together and are not of one length.
    #[error("{what}: {found} values where {expected} are needed")]
    Length {
        /// The metric.
        what: &'static str,
        /// How many there are.
        found: usize,
        /// How many there should be.
        expected: usize,
    },
    /// NaN cannot be ranked.
    #[error("{what}: score {index} is not a number")]
    NotANumber {
        /// The metric.
        what: &'static str,
        /// Which one, from 0.
        index: usize,
    },
    /// An index beyond the list that it points into.
    #[error("{what}: item {index} points at {target}, beyond the last")]
    Beyond {
        /// The metric.
        what: &'static str,
        /// Which one, from 0.
        index: usize,
        /// Where it points.
        target: usize,
    },
    /// Only matches, or only mismatches.
    #[error("matching: needs at least one pair that matches and one that does not")]
    OneClass,
}

#[cfg(test)]
mod goldens;
