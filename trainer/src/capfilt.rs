//! CapFilt: a captioner writes texts for pictures from the web, a filter throws out what does not match, and what is
//! left, with the texts that people wrote, is a new dataset.
//!
//! Source: Li et al., "BLIP" (arXiv 2201.12086), section 3.3; its authors published no code for it. Captioner and filter
//! start from one pre-trained model and are fine-tuned apart. A picture with a text that a person wrote gets no synthetic
//! text unless that is asked for: the paper's set is the filtered pairs from the web with the pairs of people.
//!
//! Work goes shard by shard. A shard's decisions are one file, written at once when the shard is done and named with a
//! hash of everything that they depend on: a run that was killed goes on at the first shard that is not there, and
//! several ranks share the shards without speaking to each other.

mod decide;
mod identity;
mod parts;
mod shard;
mod assemble;
mod summary;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use terminal::progress::Progress;

use crate::dataset::write::WriteError;
use crate::dataset::{Dataset, DatasetError, Format};
use crate::engine::Device;
use crate::evaluation::{EvaluationError, matching_figures};
use crate::generation::{GenerationError, Network, Writing};
use crate::report::ReportError;
use dataset::disk::DiskError;
use parts::{Header, Parts};

pub use assemble::{DATASET_FOLDER, DECISIONS_FILE, SHEET_FILE, SUMMARY_FILE};
pub use decide::{Decision, Reason};
pub use summary::{Counts, HEALTHY_SHARE, NUCLEUS_SHARE, Summary};

/// Most shards of a run.
pub const MAX_SHARDS: usize = 1 << 24;

/// Why CapFilt stops. What is done stays.
#[derive(Debug, thiserror::Error)]
pub enum CapfiltError {
    /// Settings out of range.
    #[error("{field} is {value}: {rule}")]
    Settings {
        /// Which.
        field: &'static str,
        /// What it is.
        value: String,
        /// What it must be.
        rule: &'static str,
    },
    /// A model.
    #[error(transparent)]
    Generation(#[from] GenerationError),
    /// The measurement of the filter.
    #[error(transparent)]
    Evaluation(#[from] EvaluationError),
    /// A picture that was there before.
    #[error(transparent)]
    Dataset(#[from] DatasetError),
    /// The new dataset.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// The sheet.
    #[error(transparent)]
    Report(#[from] ReportError),
    /// The folder of the new dataset.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// A file of the run.
    #[error("{}: {source}; see that there is room and run it again: what was done before is kept", file.display())]
    File {
        /// Which.
        file: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// A file of the run that is not what was written.
    #[error("{}: is damaged ({reason}); remove it and run again", file.display())]
    Damaged {
        /// Which.
        file: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The folder is another run's.
    #[error(
        "{}: was begun with other settings or other models; name another folder, or remove it to begin anew",
        folder.display()
    )]
    OtherRun {
        /// The folder.
        folder: PathBuf,
    },
    /// Some shards are not done.
    #[error(
        "{missing} of {shards} shards are not done, first {first}: run the rank that they belong to (shard modulo ranks)"
    )]
    Missing {
        /// How many.
        missing: usize,
        /// Of how many.
        shards: usize,
        /// The first.
        first: usize,
    },
    /// Nothing is left.
    #[error("nothing is left: {reason}")]
    Empty {
        /// Why.
        reason: String,
    },
    /// No score of the filter is as precise as asked for.
    #[error("no threshold gives a precision of {wanted}: fine-tune the filter, or ask for less")]
    NoThreshold {
        /// The precision.
        wanted: f64,
    },
}

/// Which pictures get synthetic texts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Captioned {
    /// Those without a text that a person wrote, as in the paper.
    #[default]
    Web,
    /// All.
    All,
}

/// How texts are made and judged. A run's shards all have the same.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CapfiltSettings {
    /// How texts are written, and how many for each picture.
    pub writing: Writing,
    /// Which pictures get them.
    pub captioned: Captioned,
    /// Texts whose ITM probability is below it are rejected. The authors' filter calls a match what is likelier than not.
    pub threshold: f32,
    /// Texts whose ITC cosine is below it are rejected too, if wanted.
    pub similarity: Option<f32>,
    /// Synthetic texts are one where so large a share of their words stands in the same order, 0 to 1.
    pub duplicate: f64,
    /// Draws the texts, with the picture's place in the dataset.
    pub seed: u64,
    /// Pictures in a shard.
    pub shard: usize,
    /// Pictures in a pass.
    pub batch: usize,
}

impl Default for CapfiltSettings {
    /// The paper's: nucleus sampling at 0.9, one text a picture. Source: section 3.3 and appendix; lengths from BLIP
    /// `configs/caption_coco.yaml`, penalty from `models/blip.py`, `generate`.
    fn default() -> CapfiltSettings {
        use blip::decoding::{DecodingOptions, Strategy};
        let options = DecodingOptions {
            strategy: Strategy::Nucleus { top_p: 0.9, temperature: 1.0, top_k: None },
            repetition_penalty: 1.1,
            no_repeat_ngram: 0,
            min_length: 5,
            max_length: 20,
            length_penalty: 1.0,
        };
        CapfiltSettings {
            writing: Writing { prompt: String::new(), options, texts: 1 },
            captioned: Captioned::Web,
            threshold: 0.5,
            similarity: None,
            duplicate: 0.9,
            seed: 0,
            shard: 1024,
            batch: 32,
        }
    }
}

/// A process among those that share the shards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// Its number, below `world`.
    pub rank: usize,
    /// How many there are.
    pub world: usize,
}

/// What a call of [`Capfilt::work`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Worked {
    /// Shards that were made.
    pub made: usize,
    /// Shards that were there.
    pub found: usize,
}

/// A run of CapFilt into a folder.
pub struct Capfilt<'c, D: Device> {
    dataset: &'c Dataset,
    captioner: Network<'c, D>,
    filter: Network<'c, D>,
    settings: CapfiltSettings,
    parts: Parts,
    identity: String,
}

impl<'c, D: Device> Capfilt<'c, D> {
    /// Begins a run, or goes on with one.
    ///
    /// # Errors
    /// Settings out of range, models that cannot write or judge, a folder that cannot be written or is another run's.
    pub fn begin(
        dataset: &'c Dataset,
        [captioner, filter]: [Network<'c, D>; 2],
        settings: CapfiltSettings,
        folder: &Path,
    ) -> Result<Capfilt<'c, D>, CapfiltError> {
        settings.check(dataset.len())?;
        captioner.decoder()?;
        if filter.model.matching.is_none() {
            let missing =
                GenerationError::Missing { part: "ITC projections and ITM head", wanted: "a matcher as filter" };
            return Err(missing.into());
        }
        let identity = identity::of_run(&settings, [&captioner, &filter])?;
        let parts = Parts::open(folder, &settings, &identity)?;
        Ok(Capfilt { dataset, captioner, filter, settings, parts, identity })
    }

    /// Number of shards.
    pub fn shards(&self) -> usize {
        self.dataset.len().div_ceil(self.settings.shard)
    }

    /// Shards that are not done, in order.
    ///
    /// # Errors
    /// A folder that cannot be read.
    pub fn missing(&self) -> Result<Vec<usize>, CapfiltError> {
        let mut missing = Vec::new();
        for shard in 0..self.shards() {
            if !self.parts.is_done(&self.header(shard))? {
                missing.push(shard);
            }
        }
        Ok(missing)
    }

    /// Does the shards of a rank that are not done.
    ///
    /// # Errors
    /// A model that stops, or a disk that is full; shards that are done stay.
    pub fn work(&self, share: Share, progress: &Progress) -> Result<Worked, CapfiltError> {
        let mut worked = Worked::default();
        let own: Vec<usize> = (0..self.shards()).filter(|shard| shard % share.world.max(1) == share.rank).collect();
        for (place, shard) in own.iter().enumerate() {
            if self.parts.is_done(&self.header(*shard))? {
                worked.found += 1;
                continue;
            }
            progress.stage(&format!("shard {} of {}", place + 1, own.len()), self.settings.shard);
            self.work_on(*shard, progress)?;
            worked.made += 1;
        }
        progress.finish();
        Ok(worked)
    }

    /// Puts the shards together: dataset, decisions, summary and sheet, with so many pictures on the sheet.
    ///
    /// # Errors
    /// Shards that are not done, nothing that is left, or a disk that is full.
    pub fn assemble(&self, format: Format, sheet: usize, progress: &Progress) -> Result<Summary, CapfiltError> {
        let missing = self.missing()?;
        if let Some(first) = missing.first() {
            return Err(CapfiltError::Missing { missing: missing.len(), shards: self.shards(), first: *first });
        }
        assemble::assemble(self, format, sheet, progress)
    }

    /// What a shard's file must begin with.
    fn header(&self, shard: usize) -> Header {
        let start = shard * self.settings.shard;
        let end = self.dataset.len().min(start + self.settings.shard);
        let identity = identity::of_shard(&self.identity, self.dataset, start..end);
        Header { shard, start, end, identity }
    }
}

impl CapfiltSettings {
    fn check(&self, pictures: usize) -> Result<(), CapfiltError> {
        let fault =
            |field, value: &dyn ToString, rule| Err(CapfiltError::Settings { field, value: value.to_string(), rule });
        if !(0.0..=1.0).contains(&self.threshold) {
            return fault("threshold", &self.threshold, "it lies between 0 and 1");
        }
        if self.similarity.is_some_and(|similarity| !(-1.0..=1.0).contains(&similarity)) {
            return fault("similarity", &self.similarity.unwrap_or_default(), "it lies between -1 and 1");
        }
        if !(0.0..=1.0).contains(&self.duplicate) {
            return fault("duplicate", &self.duplicate, "it lies between 0 and 1");
        }
        if self.batch == 0 {
            return fault("batch", &self.batch, "it is at least 1");
        }
        if self.shard == 0 || pictures.div_ceil(self.shard) > MAX_SHARDS {
            return fault("shard", &self.shard, "it is at least 1, and large enough for 16,777,216 shards at most");
        }
        Ok(())
    }
}

/// The lowest threshold at which the filter is so precise on pairs of people, each picture once with its own and once
/// with another's text.
///
/// # Errors
/// As [`crate::evaluation::evaluate`]; a precision that no threshold gives.
pub fn calibrated_threshold<D: Device>(
    people: &Dataset,
    filter: &Network<'_, D>,
    (precision, seed): (f64, u64),
    progress: &Progress,
) -> Result<f32, CapfiltError> {
    let figures = matching_figures(people, filter, (precision, seed), progress)?;
    let found = figures.precisions.first().and_then(|(_, row)| *row);
    found.map(|row| row.threshold as f32).ok_or(CapfiltError::NoThreshold { wanted: precision })
}

#[cfg(test)]
mod tests;
