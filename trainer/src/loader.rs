//! Batches, decoded on threads ahead of the device.
//!
//! The order of an epoch is one permutation of all items, which the seed and the epoch determine. Step `s` of `world`
//! ranks reads `world * batch` of it in a row, and rank `r` has the `r`-th `batch` of those: together the ranks read
//! what one rank with the larger batch would.

mod order;
mod workers;

use std::collections::HashSet;
use std::sync::Arc;

use blip::pixels::{MAX_SIDE, Normalization};

use crate::augmentation::Augmentation;
use crate::dataset::{Dataset, Question};
use order::Order;
use workers::{Outcome, Workers};

/// Broken pictures in an epoch that are borne whatever their share is.
pub const MIN_BROKEN: u64 = 10;
/// Broken pictures that are named; all are counted.
const MAX_NAMED: usize = 10;
/// Most values in the pixels of a batch: 8 GiB.
const MAX_VALUES: usize = 1 << 31;
/// Most threads that decode.
const MAX_THREADS: usize = 1024;

/// What an epoch is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pass {
    /// In a random order; the last batch is left out if it is not full; the next item of the order stands in for one
    /// whose picture is broken.
    Training,
    /// In the dataset's order; the last batches may be smaller, or empty on some ranks; a broken picture is left out.
    Evaluation,
}

/// What an item is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Items {
    /// A picture and one of its texts; each text comes once an epoch.
    ///
    /// Source: BLIP `data/coco_karpathy_dataset.py` and `data/pretrain_dataset.py`: a row is a picture and a caption.
    Texts,
    /// A picture, which comes once an epoch: in training with a random one of its texts, if it has one; in evaluation
    /// with its first text, or an empty one.
    Pictures,
    /// A picture and one of its questions; each question comes once an epoch.
    Questions,
}

/// How batches are made.
#[derive(Clone, Debug, PartialEq)]
pub struct LoaderSettings {
    /// Items in a batch of one rank.
    pub batch: usize,
    /// Determines the order and the augmentation.
    pub seed: u64,
    /// Sides of a picture for the model, in pixels.
    pub image_size: usize,
    /// Brings values to the model's range.
    pub normalization: Normalization,
    /// Threads that decode.
    pub threads: usize,
    /// Batches that may be ready before they are asked for.
    pub ahead: usize,
    /// This process's number, below `world`.
    pub rank: usize,
    /// Processes that share an epoch.
    pub world: usize,
    /// Random crops and the like; without it a picture is resized as for inference.
    pub augmentation: Option<Augmentation>,
    /// The share of a rank's items in an epoch whose pictures may be broken; [`MIN_BROKEN`] always may.
    pub broken_share: f64,
    /// What the epochs are for.
    pub pass: Pass,
    /// What an item is.
    pub items: Items,
}

impl Default for LoaderSettings {
    fn default() -> Self {
        Self {
            batch: 16,
            seed: 0,
            image_size: 224,
            normalization: Normalization::default(),
            threads: 2,
            ahead: 2,
            rank: 0,
            world: 1,
            augmentation: None,
            broken_share: 0.05,
            pass: Pass::Training,
            items: Items::Texts,
        }
    }
}

/// Why there are no batches, or no more.
#[derive(Debug, thiserror::Error)]
pub enum LoaderError {
    /// Settings that contradict each other.
    #[error("{0}")]
    Settings(String),
    /// No text, or no question, in the whole dataset.
    #[error("no picture of the dataset has {0}: give it some, or choose another kind of item")]
    NoItems(&'static str),
    /// Too many pictures that cannot be read.
    #[error(
        "{count} pictures of the epoch cannot be read, more than the {limit} that are borne; repair them, or raise the \
         broken share; the first: {}", first.join("; ")
    )]
    Broken {
        /// Different broken pictures until now.
        count: u64,
        /// How many are borne.
        limit: u64,
        /// The first ones, each with its reason.
        first: Vec<String>,
    },
    /// The system gives no thread.
    #[error("no thread to decode on: {0}")]
    Threads(#[from] std::io::Error),
}

/// Items for one step of one rank. All lists are as long as [`Batch::len`], but for texts or questions, of which only
/// those that were asked for are there.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    /// The epoch.
    pub epoch: u64,
    /// The step in the epoch.
    pub step: u64,
    /// `[B, 3, S, S]`: normalized.
    pub pixels: Vec<f32>,
    /// Texts as the dataset has them, not yet cleaned for training.
    pub texts: Vec<String>,
    /// Questions with their answers.
    pub questions: Vec<Question>,
    /// Which picture each is: equal for two texts of one picture.
    pub images: Vec<u64>,
    /// Each one's place in the epoch's order over all ranks; keys randomness that must not depend on ranks.
    pub positions: Vec<u64>,
    /// Each one's number among the items.
    pub indices: Vec<u64>,
    /// Each one's picture: an index for [`Dataset::entry`].
    pub entries: Vec<usize>,
}

impl Batch {
    /// Items in it.
    pub fn len(&self) -> usize {
        self.images.len()
    }

    /// Whether this rank has none at this step.
    pub fn is_empty(&self) -> bool {
        self.images.is_empty()
    }
}

/// Pictures that could not be read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Broken {
    seen: HashSet<usize>,
    first: Vec<String>,
}

impl Broken {
    /// How many different ones.
    pub fn count(&self) -> u64 {
        self.seen.len() as u64
    }

    /// The first ones, printable, each with its reason.
    pub fn first(&self) -> &[String] {
        &self.first
    }

    fn note(&mut self, entry: usize, line: String) {
        if self.seen.insert(entry) && self.first.len() < MAX_NAMED {
            self.first.push(line);
        }
    }

    /// Adds another epoch's, each picture once; how many are new.
    pub fn join(&mut self, other: &Broken) -> u64 {
        let known = self.count();
        self.seen.extend(&other.seen);
        let room = MAX_NAMED.saturating_sub(self.first.len());
        let lines: Vec<_> = other.first.iter().filter(|line| !self.first.contains(line)).take(room).cloned().collect();
        self.first.extend(lines);
        self.count() - known
    }
}

/// Makes batches of a dataset, epoch by epoch.
#[derive(Debug)]
pub struct Loader {
    dataset: Arc<Dataset>,
    settings: Arc<LoaderSettings>,
    /// Entry and text, or question, of each item.
    items: Arc<Vec<(u32, u32)>>,
    steps: u64,
}

impl Loader {
    /// Prepares the items.
    ///
    /// # Errors
    /// Settings out of range, a dataset without items of the kind, and, for training, with fewer than one batch for
    /// all ranks.
    pub fn new(dataset: Arc<Dataset>, settings: LoaderSettings) -> Result<Loader, LoaderError> {
        check(&settings)?;
        let items = order::items(&dataset, &settings);
        if items.is_empty() {
            let missing = if settings.items == Items::Questions { "a question" } else { "a text" };
            return Err(LoaderError::NoItems(missing));
        }
        let together = settings.batch * settings.world;
        let steps = match settings.pass {
            Pass::Training => items.len() / together,
            Pass::Evaluation => items.len().div_ceil(together),
        };
        if steps == 0 {
            let (found, batch, world) = (items.len(), settings.batch, settings.world);
            let reason = format!(
                "the dataset has {found} items, fewer than a batch of {batch} for each of {world} ranks: choose a \
                 smaller batch"
            );
            return Err(LoaderError::Settings(reason));
        }
        Ok(Loader { dataset, settings: Arc::new(settings), items: Arc::new(items), steps: steps as u64 })
    }

    /// Items in an epoch of all ranks, those of a last batch that is left out included.
    #[expect(clippy::len_without_is_empty, reason = "a loader without items cannot be made")]
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Steps in an epoch, at least one, the same on every rank.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// The settings it was made with.
    pub fn settings(&self) -> &LoaderSettings {
        &self.settings
    }

    /// Begins to decode an epoch at a step: zero, or where a run was interrupted.
    ///
    /// # Errors
    /// A system that gives no threads.
    pub fn epoch(&self, epoch: u64, start_step: u64) -> Result<Epoch, LoaderError> {
        let start = start_step.min(self.steps);
        let order = Order::new(self.items.clone(), self.settings.clone(), epoch);
        let own = self.items.len() as u64 / self.settings.world as u64;
        let limit = ((own as f64 * self.settings.broken_share) as u64).max(MIN_BROKEN);
        let workers = Workers::start(self.dataset.clone(), order, (start, self.steps), limit)?;
        Ok(Epoch {
            dataset: self.dataset.clone(),
            settings: self.settings.clone(),
            workers,
            epoch,
            step: start,
            steps: self.steps,
            limit,
            broken: Broken::default(),
        })
    }
}

fn check(settings: &LoaderSettings) -> Result<(), LoaderError> {
    let LoaderSettings { batch, image_size, threads, ahead, rank, world, broken_share, .. } = *settings;
    let values = image_size.checked_mul(image_size).and_then(|values| values.checked_mul(batch)?.checked_mul(3));
    let fault = if batch == 0 || world == 0 || ahead == 0 {
        Some("batch, world and ahead are at least 1".to_owned())
    } else if rank >= world {
        Some(format!("rank {rank} is not below the number of ranks, {world}"))
    } else if !(1..=MAX_THREADS).contains(&threads) {
        Some(format!("threads lie between 1 and {MAX_THREADS}"))
    } else if !(1..=MAX_SIDE).contains(&image_size) || values.is_none_or(|values| values > MAX_VALUES) {
        Some(format!("a batch of {batch} pictures of {image_size} x {image_size} does not fit in memory"))
    } else if batch.checked_mul(world).and_then(|all| all.checked_mul(ahead)).is_none() {
        Some("batch, world and ahead are too large together".to_owned())
    } else if !(0.0..=1.0).contains(&broken_share) {
        Some("the broken share lies between 0 and 1".to_owned())
    } else {
        None
    };
    fault.map_or(Ok(()), |reason| Err(LoaderError::Settings(reason)))
}

/// The batches of an epoch, in their order. Dropping it ends its threads.
pub struct Epoch {
    dataset: Arc<Dataset>,
    settings: Arc<LoaderSettings>,
    workers: Workers,
    epoch: u64,
    step: u64,
    steps: u64,
    limit: u64,
    broken: Broken,
}

impl Epoch {
    /// Pictures that could not be read, among the batches that were taken.
    pub fn broken(&self) -> &Broken {
        &self.broken
    }

    fn batch(&mut self) -> Result<Batch, LoaderError> {
        let (batch, side) = (self.settings.batch, self.settings.image_size);
        let mut made = Batch { epoch: self.epoch, step: self.step, ..Batch::default() };
        made.pixels.reserve_exact(batch * 3 * side * side);
        for _ in 0..batch {
            let Outcome { sample, broken } = self.workers.next();
            let is_broken = !broken.is_empty();
            for (entry, line) in broken {
                self.broken.note(entry, line);
            }
            let is_lost = is_broken && sample.is_none() && self.settings.pass == Pass::Training;
            if is_lost || self.broken.count() > self.limit {
                let (count, first) = (self.broken.count(), self.broken.first.clone());
                return Err(LoaderError::Broken { count, limit: self.limit, first });
            }
            let Some(sample) = sample else { continue };
            let entry = self.dataset.entry(sample.entry);
            made.pixels.extend_from_slice(&sample.pixels);
            match self.settings.items {
                Items::Questions => made.questions.extend(entry.questions.get(sample.part).cloned()),
                _ => made.texts.push(entry.texts.get(sample.part).map_or(String::new(), |text| text.text.clone())),
            }
            made.images.push(entry.image);
            made.positions.push(sample.position);
            made.indices.push(sample.index);
            made.entries.push(sample.entry);
        }
        Ok(made)
    }
}

impl Iterator for Epoch {
    type Item = Result<Batch, LoaderError>;

    /// The next batch; nothing comes after an error.
    fn next(&mut self) -> Option<Self::Item> {
        if self.step >= self.steps {
            return None;
        }
        let batch = self.batch();
        self.step = if batch.is_ok() { self.step + 1 } else { self.steps };
        Some(batch)
    }
}

#[cfg(test)]
mod tests;
