//! The training loop: data, steps, and what is kept of them.
//!
//! A run has a folder: `snapshots/` to go on from, `journal.jsonl` and TensorBoard's event files, `page.html`, which is live
//! while it runs and a report afterwards, `settings.toml` as they were in force, and at the end `model/` in Hugging
//! Face's layout.

mod start;
mod batches;
mod learner;
mod samples;
mod record;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

pub use learner::{Learner, LearnerSettings, Outcome, Shared, State};
pub use start::{Beginning, begin, open_data, roles};

use crate::augmentation::{Augmentation, RandAugment};
use crate::engine::{AdamW, Device, EngineError};
use crate::journal::StepRecord;
use crate::loader::{Broken, Items, Loader, LoaderSettings, Pass};
use crate::model::Shares;
use crate::objectives::{Batch, Settings as StepSettings};
use crate::optimizer::Schedule;
use crate::ranks::Group;
use crate::settings::{Settings, Task};
use batches::Reader;
use record::Record;

/// A run that cannot begin or go on.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say what each is")]
pub enum TrainError {
    #[error("there is nothing to learn from: name datasets with data.train")]
    NoData,
    #[error("model: {0}")]
    Sizes(String),
    #[error("data.tokens is {tokens}, the model has {positions} positions: ask for at most as many")]
    Tokens { tokens: usize, positions: usize },
    #[error(
        "the prompt is {prompt_tokens} tokens long, which leaves no room for words in {tokens}: shorten it, or raise data.tokens"
    )]
    Prompt { prompt_tokens: usize, tokens: usize },
    #[error("step {step}: a loss is not a number ({losses}); the batch and how to look at it are in {}", folder.display())]
    NotANumber { step: u64, losses: String, folder: PathBuf },
    #[error(
        "after step {step} a weight is no number, so it is not saved: the last good snapshot is in {}; a lower \
         optimizer.rate, or optimizer.clip, keeps weights small", folder.display()
    )]
    Overflow { step: u64, folder: PathBuf },
    #[error(
        "model.tokenizer, {}, and the tokenizer of {} differ at word {id}: {theirs:?} and {ours:?}; leave model.tokenizer \
         empty to use the checkpoint's", tokenizer.display(), checkpoint.display()
    )]
    Words { tokenizer: PathBuf, checkpoint: PathBuf, id: usize, theirs: String, ours: String },
    #[error("run.accumulate is {accumulate}, and an epoch has {batches} batches: ask for at most as many")]
    Accumulate { accumulate: usize, batches: u64 },
    #[error("losses.queue is {queue}: it must be a multiple of the whole batch, {whole} pictures over all ranks")]
    Queue { queue: usize, whole: usize },
    #[error("{what} on rank {rank} and {ours} on rank 0: give all ranks the same data")]
    Data { rank: usize, what: String, ours: u64 },
    #[error("{}: cannot be written: {source}", path.display())]
    Write { path: PathBuf, source: std::io::Error },
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error(transparent)]
    Ranks(#[from] crate::ranks::RanksError),
    #[error(transparent)]
    Dataset(#[from] crate::dataset::DatasetError),
    #[error(transparent)]
    Loader(#[from] crate::loader::LoaderError),
    #[error(transparent)]
    Checkpoint(#[from] checkpoint::CheckpointError),
    #[error(transparent)]
    Tokenizer(#[from] blip::tokenizer::TokenizerError),
    #[error(transparent)]
    Weights(#[from] crate::weights::WeightsError),
    #[error(transparent)]
    Snapshot(#[from] crate::snapshot::SnapshotError),
    #[error(transparent)]
    Journal(#[from] crate::journal::JournalError),
    #[error(transparent)]
    Report(#[from] crate::report::ReportError),
}

/// What to train, and where.
pub struct Job {
    /// What the run makes.
    pub task: Task,
    /// How.
    pub settings: Settings,
    /// Its folder.
    pub folder: PathBuf,
    /// The other ranks, if there are any.
    pub ranks: Option<Arc<Group>>,
}

/// What a run came to.
#[derive(Clone, Debug)]
pub struct Finished {
    /// Steps of the whole run.
    pub steps: u64,
    /// The last step's losses, by name.
    pub losses: Vec<(&'static str, f32)>,
    /// The folder with the model's roles.
    pub model: PathBuf,
    /// Pictures that this rank could not read.
    pub broken: u64,
    /// Files, rows and texts of the data that cannot be used.
    pub skipped: u64,
    /// Steps that were already done when it began.
    pub resumed_at: u64,
}

/// Trains until the settings' end. A run that was stopped goes on from its last snapshot.
///
/// # Errors
/// [`TrainError`] says each; nothing that was saved before is lost.
pub fn train<D: Device>(device: D, job: &Job) -> Result<Finished, TrainError> {
    let settings = &job.settings;
    let data = open_data(&settings.data.train)?;
    let mut beginning = begin(settings, job.task, &data)?;
    let skipped = data.skipped().count();
    if skipped > 0 {
        let named = data.skipped().first().join("; ");
        beginning.report.notes.push(format!("{skipped} things in the data cannot be used: {named}"));
    }
    let loader = Loader::new(Arc::clone(&data), loading(job, &beginning, &device))?;
    let (accumulate, batches) = (settings.run.accumulate, loader.steps());
    if accumulate as u64 > batches {
        return Err(TrainError::Accumulate { accumulate, batches });
    }
    let steps_an_epoch = batches / accumulate as u64;
    let total = match settings.run.steps {
        0 => settings.run.epochs * steps_an_epoch,
        steps => steps,
    };
    same_on_all_ranks(job, &loader, &beginning)?;
    let mut record = Record::open(job, total)?;
    let state = record.state(&beginning)?;
    let resumed_at = state.step;
    let reader = Reader::new(&beginning.tokenizer, settings, job.task)?;
    let learning = learning(job, &beginning, (steps_an_epoch, total));
    let mut learner = Learner::new(device, beginning.model.clone(), learning, &state)?;
    drop(state);
    record.begin(&learner, &beginning, &data)?;
    drop(data);

    let mut broken = Broken::default();
    let mut last = Vec::new();
    while learner.steps() < total {
        let (epoch, within) = (learner.steps() / steps_an_epoch, learner.steps() % steps_an_epoch);
        let mut batches = loader.epoch(epoch, within * settings.run.accumulate as u64)?;
        for _ in within..steps_an_epoch {
            if learner.steps() >= total {
                break;
            }
            let began = Instant::now();
            let (read, shared) = next_step(job, &reader, &mut batches, &learner)?;
            let mut outcome = learner.learn(&read, &shared)?;
            if let Some(ranks) = &job.ranks {
                mean(ranks, &mut outcome.losses)?;
            }
            if !outcome.is_finite() {
                return Err(record.keep_batch(&learner, &read, &outcome)?);
            }
            let pairs = read.iter().map(|batch| batch.pictures).sum::<usize>() * learner.device().world();
            let step = step_record(job, &learner, &outcome, epoch, pairs as f64 / began.elapsed().as_secs_f64());
            last.clone_from(&outcome.losses);
            record.step(&learner, &beginning, step)?;
        }
        if broken.join(batches.broken()) > 0 {
            record.broken(&broken);
        }
    }
    let model = record.finish(&learner, &beginning)?;
    if last.is_empty() {
        last = record.last_losses()?;
    }
    let losses = job.task.objective().losses().iter().copied().zip(last).collect();
    Ok(Finished { steps: total, losses, model, broken: broken.count(), skipped, resumed_at })
}

/// Refuses ranks with different data: other words, sizes and steps would follow. And a queue that the whole batch does not
/// fill in whole turns.
fn same_on_all_ranks(job: &Job, loader: &Loader, beginning: &Beginning) -> Result<(), TrainError> {
    let Some(ranks) = &job.ranks else { return Ok(()) };
    let (queue, whole) = (job.settings.losses.queue, job.settings.run.batch * ranks.world());
    if beginning.model.matching.is_some() && !queue.is_multiple_of(whole) {
        return Err(TrainError::Queue { queue, whole });
    }
    let own = [loader.len() as u64, beginning.preparation.vocabulary.len() as u64];
    let all = ranks.all_gather_u64(&own)?;
    let (all, _) = all.as_chunks::<2>();
    for (rank, theirs) in all.iter().enumerate() {
        let mut facts =
            ["the texts to learn from", "the words of the vocabulary"].into_iter().zip(theirs.iter().zip(&all[0]));
        if let Some((what, (theirs, ours))) = facts.find(|(_, (theirs, ours))| theirs != ours) {
            return Err(TrainError::Data { rank, what: format!("{what} are {theirs}"), ours: *ours });
        }
    }
    Ok(())
}

/// The mean over all ranks, in place.
fn mean(ranks: &Group, values: &mut [f32]) -> Result<(), TrainError> {
    ranks.all_reduce(values)?;
    values.iter_mut().for_each(|value| *value /= ranks.world() as f32);
    Ok(())
}

/// The batches of one step, and what the ranks must agree on about them.
fn next_step<D: Device>(
    job: &Job,
    reader: &Reader<'_>,
    batches: &mut crate::loader::Epoch,
    learner: &Learner<D>,
) -> Result<(Vec<Batch>, Vec<Shared>), TrainError> {
    let accumulate = job.settings.run.accumulate;
    let (mut read, mut shared) = (Vec::with_capacity(accumulate), Vec::with_capacity(accumulate));
    for number in 0..accumulate as u64 {
        let Some(batch) = batches.next() else { break };
        let batch = batch?;
        let world = learner.device().world() as u64;
        let whole = batch.len() as u64 * world;
        let first = (learner.steps() * accumulate as u64 + number) * whole;
        let first = first + learner.device().rank() as u64 * batch.len() as u64;
        let batch = reader.read(batch, first)?;
        shared.push(agree(job, &batch, number)?);
        read.push(batch);
    }
    Ok((read, shared))
}

fn agree(job: &Job, batch: &Batch, number: u64) -> Result<Shared, TrainError> {
    let mut shared = Shared { names: batch.names.clone(), words: batch.words(), padded: 0, number };
    if let Some(ranks) = &job.ranks {
        let questions = batch.answers.iter().flat_map(|answers| &answers.questions);
        let longest = batch.texts.iter().chain(questions).map(Vec::len).max().unwrap_or(1);
        shared.names = ranks.all_gather_u32(&batch.names)?;
        let facts = ranks.all_gather_u32(&[shared.words as u32, longest as u32])?;
        shared.words = facts.iter().step_by(2).map(|words| *words as usize).sum();
        shared.padded = facts.iter().skip(1).step_by(2).map(|tokens| *tokens as usize).max().unwrap_or(longest);
    }
    Ok(shared)
}

fn loading<D: Device>(job: &Job, beginning: &Beginning, device: &D) -> LoaderSettings {
    let Settings { data, run, augmentation, .. } = &job.settings;
    let rand_augment = (augmentation.operations > 0).then(|| RandAugment {
        count: augmentation.operations,
        level: augmentation.level,
        ..RandAugment::default()
    });
    LoaderSettings {
        batch: run.batch,
        seed: run.seed,
        image_size: beginning.config.vision.image_size,
        normalization: beginning.preparation.normalization,
        threads: data.threads,
        ahead: data.ahead,
        rank: device.rank(),
        world: device.world(),
        augmentation: augmentation.enabled.then(|| Augmentation {
            scale: [augmentation.least_crop, 1.0],
            flip: augmentation.flip,
            rand_augment,
            ..Augmentation::finetuning()
        }),
        broken_share: data.broken_share,
        pass: Pass::Training,
        items: if job.task == Task::Answerer { Items::Questions } else { Items::Texts },
    }
}

fn learning(job: &Job, beginning: &Beginning, (steps_an_epoch, total): (u64, u64)) -> LearnerSettings {
    let Settings { losses, dropout, optimizer, run, .. } = &job.settings;
    LearnerSettings {
        step: StepSettings {
            objective: job.task.objective(),
            shares: Shares { hidden: dropout.hidden, attention: dropout.attention, path: dropout.path },
            smoothing: losses.smoothing,
            checkpointed_vision: run.checkpointed_vision_layers,
            checkpointed_text: run.checkpointed_text_layers,
        },
        adamw: AdamW {
            beta1: optimizer.beta1,
            beta2: optimizer.beta2,
            epsilon: optimizer.epsilon,
            weight_decay: optimizer.weight_decay,
            max_norm: if optimizer.clip > 0.0 { optimizer.clip } else { f32::INFINITY },
        },
        decayed: optimizer.decayed,
        schedule: Schedule {
            rate: optimizer.rate,
            least: optimizer.least_rate,
            warm_up_from: optimizer.warm_up_from,
            warm_up_steps: optimizer.warm_up_steps,
            decay: optimizer.decay,
            factor: optimizer.decay_factor,
            epochs: total.div_ceil(steps_an_epoch),
            steps_an_epoch,
        },
        momentum: losses.momentum,
        alpha: losses.alpha,
        alpha_steps: losses.alpha_epochs * steps_an_epoch,
        tokens: beginning.preparation.tokens,
        seed: run.seed,
        batch: run.batch,
        padded: 0,
    }
}

fn step_record<D: Device>(job: &Job, learner: &Learner<D>, outcome: &Outcome, epoch: u64, pace: f64) -> StepRecord {
    let names = job.task.objective().losses().iter().map(|name| (*name).to_owned());
    let losses = names.zip(outcome.losses.iter().map(|loss| f64::from(*loss))).collect();
    let temperature = outcome.temperature.map(|value| ("temperature".to_owned(), f64::from(value)));
    StepRecord {
        step: learner.steps(),
        epoch,
        time: now(),
        losses,
        learning_rate: outcome.learning_rate.into(),
        pairs_per_second: pace,
        gradient_norm: outcome.gradient_norm.into(),
        others: temperature.into_iter().collect(),
        captions: Vec::new(),
    }
}

/// Seconds since 1970.
fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs_f64()
}
