//! Weights from checkpoints, and out again in Hugging Face's layout.
//!
//! In: a [`Start`] has every value at random; checkpoints, and parts of other models, then fill what they have, and a
//! [`Report`] names what stayed random and what was not used. Out: [`write()`] makes a folder for each role that
//! transformers loads with no key missing or left over. A folder is complete or not there.

mod tensors;
mod start;
mod parts;
mod bert;
mod vit;
mod tokenizer;
mod configurations;
mod folder;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod part_tests;

use std::path::PathBuf;

use blip::config::{Role, SpecialTokens};
use blip::pixels::Normalization;
use blip::tokenizer::WordPieceSettings;
use checkpoint::{Checkpoint, CheckpointError, GenerationDefaults};

use dataset::disk::DiskError;

pub use folder::{Trained, write};
pub use start::{Conflicts, Report, Start};
pub(crate) use tensors::{Planned, TensorWriter, Values, hex};

/// Range in which the temperature is kept. Source: BLIP `models/blip_pretrain.py`, `self.temp.clamp_(0.001,0.5)`.
pub const TEMPERATURES: [f32; 2] = [0.001, 0.5];

/// How texts and pixels become what a model reads, and how it writes: what a checkpoint has beside its weights.
#[derive(Clone, Debug)]
pub struct Preparation {
    /// The words in the order of their ids.
    pub vocabulary: Vec<String>,
    /// How texts are split into them.
    pub settings: WordPieceSettings,
    /// Which of them have a meaning of their own.
    pub tokens: SpecialTokens,
    /// How pixels are normalized.
    pub normalization: Normalization,
    /// How texts are generated where nobody says.
    pub generation: GenerationDefaults,
}

impl Preparation {
    /// What a checkpoint says.
    pub fn of(checkpoint: &Checkpoint) -> Preparation {
        Preparation {
            vocabulary: checkpoint.vocabulary().to_vec(),
            settings: checkpoint.word_piece_settings(),
            tokens: checkpoint.tokens(),
            normalization: checkpoint.normalization(),
            generation: checkpoint.generation_defaults().clone(),
        }
    }
}

/// Weights that do not fit, or that cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum WeightsError {
    /// A file that is not what it should be.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// A size that differs from the model's.
    #[error("{}: its {what} is {theirs}, the model's is {ours}", source_file.display())]
    Size {
        /// Which checkpoint.
        source_file: PathBuf,
        /// Which size, or which tensor's shape.
        what: String,
        /// In the checkpoint.
        theirs: String,
        /// In the model.
        ours: String,
    },
    /// Words in another order.
    #[error("{}: its word {id} is {theirs:?}, the model's is {ours:?}: use its tokenizer", source_file.display())]
    Word {
        /// Which checkpoint.
        source_file: PathBuf,
        /// The first that differs.
        id: usize,
        /// In the checkpoint.
        theirs: String,
        /// In the model.
        ours: String,
    },
    /// Tensors that an earlier source gave other values.
    #[error(
        "{}: {} tensors differ from those of {}, as {}: leave one of them out, or say that the first wins",
        source_file.display(), tensors.len(), first.display(), tensors[0]
    )]
    Conflict {
        /// Which checkpoint.
        source_file: PathBuf,
        /// The one before it.
        first: PathBuf,
        /// Our names of the tensors; at least one.
        tensors: Vec<String>,
    },
    /// A model whose tensors are not all there.
    #[error("{}: it has no {}: it is no {model}", source_file.display(), tensors.join(", "))]
    Missing {
        /// Which file.
        source_file: PathBuf,
        /// What was looked for.
        model: &'static str,
        /// Names that the file lacks.
        tensors: Vec<String>,
    },
    /// A checkpoint of which the model can use nothing.
    #[error("{}: the model has no use for any of its tensors", source_file.display())]
    Useless {
        /// Which.
        source_file: PathBuf,
    },
    /// A temperature that training never reaches.
    #[error("{}: its temperature is {value}, it must lie between 0.001 and 0.5", source_file.display())]
    Temperature {
        /// Which checkpoint.
        source_file: PathBuf,
        /// Its value.
        value: f32,
    },
    /// A role that the model cannot have.
    #[error("the model has not the parts of a {role}")]
    Role {
        /// Which.
        role: Role,
    },
    /// A folder that cannot be written.
    #[error(transparent)]
    Write(#[from] DiskError),
}
