//! What a run starts from: data, words, sizes, and weights.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use blip::config::{Config, Role, TextConfig, VisionConfig};
use blip::pixels::Normalization;
use blip::tokenizer::{Tokenizer, Vocabulary as Words, WordPieceSettings};
use checkpoint::{Checkpoint, GenerationDefaults, OpenOptions, Vocabulary};

use super::TrainError;
use crate::dataset::{Dataset, DatasetOptions};
use crate::model::{Blip, Random, Sharing};
use crate::settings::{ModelSettings, Settings, Task};
use crate::weights::{Conflicts, Preparation, Report, Start};

/// Words of a vocabulary made from captions, at most: as many as bert-base-uncased has.
const MOST_WORDS: usize = 30_522;

/// Most parameters of a model, and most values of a queue: several times those of BLIP-large.
const MAX_PARAMETERS: usize = 1 << 31;

/// A model before its first step.
pub struct Beginning {
    /// Its parts.
    pub model: Blip,
    /// Its sizes.
    pub config: Config,
    /// Its words, and how pixels and texts become what it reads.
    pub preparation: Preparation,
    /// Its words, ready.
    pub tokenizer: Tokenizer,
    /// Its weights.
    pub weights: Vec<f32>,
    /// Where they are from.
    pub report: Report,
}

/// Opens all places of a list as one dataset.
///
/// # Errors
/// As [`Dataset::open`].
pub fn open_data(places: &[String]) -> Result<Arc<Dataset>, TrainError> {
    if places.is_empty() {
        return Err(TrainError::NoData);
    }
    let datasets = places.iter().map(|place| Dataset::open(place, &DatasetOptions::default()));
    let datasets = datasets.collect::<Result<Vec<_>, _>>()?;
    Ok(Arc::new(Dataset::joined(datasets)?))
}

/// Makes the model that the settings describe, with its first weights.
///
/// # Errors
/// A checkpoint or vocabulary that cannot be read or does not fit, and sizes of no model.
pub fn begin(settings: &Settings, task: Task, data: &Dataset) -> Result<Beginning, TrainError> {
    let from = &settings.model;
    let options = OpenOptions {
        image_size: Some(from.image_size),
        tokenizer: (!from.tokenizer.is_empty() && from.tokenizer != CAPTIONS).then(|| PathBuf::from(&from.tokenizer)),
        ..OpenOptions::default()
    };
    let paths = from.from.iter().filter(|place| *place != RANDOM).map(PathBuf::from);
    let checkpoints = paths.map(|path| Ok((Checkpoint::open(&path, &options)?, path)));
    let checkpoints = checkpoints.collect::<Result<Vec<_>, TrainError>>()?;
    for (checkpoint, path) in &checkpoints {
        compare_words(checkpoint, path, &options)?;
    }
    let preparation = match checkpoints.first() {
        Some((checkpoint, _)) => Preparation::of(checkpoint),
        None => prepare(from, data)?,
    };
    let config = match checkpoints.first() {
        Some((checkpoint, _)) => {
            let mut widths = checkpoints.iter().map(|(checkpoint, _)| checkpoint.config().projection_width);
            let projection_width = widths.find_map(|width| width).unwrap_or(from.projection_width);
            widen(checkpoint.config().clone(), projection_width, task)
        }
        None => sizes(from, task, preparation.vocabulary.len()),
    };
    config.validate().map_err(|error| TrainError::Sizes(error.to_string()))?;
    if settings.data.tokens > longest(&config) {
        return Err(TrainError::Tokens { tokens: settings.data.tokens, positions: longest(&config) });
    }
    let sharing = if task == Task::Pretrain { Sharing::Joint } else { Sharing::Apart };
    let model = Blip::new(&config, sharing);
    let (length, queue) = (model.layout.length(), settings.losses.queue * config.projection_width.unwrap_or(0));
    if length > MAX_PARAMETERS || queue > MAX_PARAMETERS {
        let reason = format!("{length} parameters, and {queue} values in a queue: at most {MAX_PARAMETERS} of each");
        return Err(TrainError::Sizes(reason));
    }
    let random = Random { deviation: from.deviation, seed: settings.run.seed };
    let mut start = Start::random((&model.layout, &config), &preparation.vocabulary, random, Conflicts::FirstWins);
    for (checkpoint, path) in &checkpoints {
        start.checkpoint(path, checkpoint)?;
    }
    if !from.vision_from.is_empty() {
        start.vision(Path::new(&from.vision_from))?;
    }
    if !from.text_from.is_empty() {
        start.text(Path::new(&from.text_from))?;
    }
    let (weights, mut report) = start.finish();
    if from.tokenizer == CAPTIONS && !checkpoints.is_empty() {
        report.notes.push("model.tokenizer makes no words: the checkpoint brings its own".to_owned());
    }
    let words = Words::new(preparation.vocabulary.clone())?;
    let tokenizer = Tokenizer::new(words, preparation.settings, preparation.tokens)?;
    Ok(Beginning { model, config, preparation, tokenizer, weights, report })
}

/// Refuses a tokenizer that was named beside a checkpoint which was trained with other words.
fn compare_words(checkpoint: &Checkpoint, path: &Path, options: &OpenOptions) -> Result<(), TrainError> {
    let brings_words = ["tokenizer.json", "vocab.txt"].iter().any(|name| path.join(name).is_file());
    let Some(tokenizer) = options.tokenizer.as_ref().filter(|_| brings_words) else { return Ok(()) };
    let own = Checkpoint::open(path, &OpenOptions { tokenizer: None, ..options.clone() })?;
    let mut pairs = checkpoint.vocabulary().iter().zip(own.vocabulary()).enumerate();
    let Some((id, (theirs, ours))) = pairs.find(|(_, (theirs, ours))| theirs != ours) else { return Ok(()) };
    let (theirs, ours) = (terminal::printable(theirs), terminal::printable(ours));
    Err(TrainError::Words { tokenizer: tokenizer.clone(), checkpoint: path.to_owned(), id, theirs, ours })
}

/// The value of `model.from` for no checkpoint.
const RANDOM: &str = "random";
/// The value of `model.tokenizer` for the words of the training texts.
const CAPTIONS: &str = "captions";

fn prepare(from: &ModelSettings, data: &Dataset) -> Result<Preparation, TrainError> {
    let (vocabulary, settings, tokens) = match from.tokenizer.as_str() {
        CAPTIONS => {
            let words = words_of(data);
            let mut tokens = blip::config::SpecialTokens {
                pad: 0,
                unknown: 1,
                class: 2,
                separator: 3,
                decoder_start: 0,
                encoder_start: 0,
            };
            tokens.decoder_start = words.len() as u32 - 2;
            tokens.encoder_start = words.len() as u32 - 1;
            (words, WordPieceSettings::default(), tokens)
        }
        place => {
            let mut vocabulary = match place {
                "" => Vocabulary::built_in(),
                path => Vocabulary::read(Path::new(path))?,
            };
            let has_both = vocabulary.words.iter().any(|word| word == "[ENC]");
            let rows = vocabulary.words.len() + if has_both { 0 } else { 2 };
            let tokens = vocabulary.complete(rows)?;
            (vocabulary.words, vocabulary.settings, tokens)
        }
    };
    let generation = GenerationDefaults::default();
    Ok(Preparation { vocabulary, settings, tokens, normalization: Normalization::default(), generation })
}

/// The words of all texts, the most frequent first, between the special ones.
fn words_of(data: &Dataset) -> Vec<String> {
    let mut counts = BTreeMap::<String, u64>::new();
    let texts = data.entries().iter().flat_map(|entry| {
        let asked = entry.questions.iter().flat_map(|question| {
            question.answers.iter().map(|answer| &answer.text).chain(std::iter::once(&question.text))
        });
        entry.texts.iter().map(|text| &text.text).chain(asked)
    });
    for text in texts {
        let clean = blip::caption::clean_for_training(text);
        for word in clean.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()) {
            *counts.entry(word.to_owned()).or_default() += 1;
        }
    }
    let mut words: Vec<(String, u64)> = counts.into_iter().collect();
    words.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    let special = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let mut vocabulary = special(&["[PAD]", "[UNK]", "[CLS]", "[SEP]"]);
    vocabulary.extend(words.into_iter().map(|(word, _)| word).take(MOST_WORDS));
    vocabulary.extend(special(&["[DEC]", "[ENC]"]));
    vocabulary
}

fn sizes(from: &ModelSettings, task: Task, words: usize) -> Config {
    let text = |cross_width| TextConfig {
        width: from.text_width,
        layers: from.text_layers,
        heads: from.text_heads,
        feed_forward: from.text_feed_forward,
        vocabulary_size: words,
        positions: from.positions,
        cross_width,
        norm_eps: TEXT_EPSILON,
    };
    let vision = VisionConfig {
        width: from.vision_width,
        layers: from.vision_layers,
        heads: from.vision_heads,
        feed_forward: from.vision_feed_forward,
        patch_size: from.patch_size,
        image_size: from.image_size,
        norm_eps: VISION_EPSILON,
    };
    let (encodes, decodes) = (task != Task::Captioner, task != Task::Matcher);
    let read = if task == Task::Answerer { from.text_width } else { from.vision_width };
    Config {
        encoder: encodes.then(|| text(from.vision_width)),
        decoder: decodes.then(|| text(read)),
        projection_width: matches!(task, Task::Pretrain | Task::Matcher).then_some(from.projection_width),
        vision,
    }
}

/// Source: BLIP `models/vit.py`, `norm_layer`; `configs/med_config.json`, `layer_norm_eps`.
const VISION_EPSILON: f32 = 1e-6;
const TEXT_EPSILON: f32 = 1e-12;

/// A checkpoint's sizes, with the parts that the task needs: a part that the checkpoint has not is of the other stack's
/// sizes.
fn widen(mut config: Config, projection_width: usize, task: Task) -> Config {
    let either = config.encoder.clone().or_else(|| config.decoder.clone());
    let text = |width: usize| either.clone().map(|text| TextConfig { cross_width: width, ..text });
    let vision_width = config.vision.width;
    let text_width = either.as_ref().map_or(0, |text| text.width);
    config.encoder = match task {
        Task::Captioner => None,
        _ => config.encoder.clone().or_else(|| text(vision_width)),
    };
    config.decoder = match task {
        Task::Matcher => None,
        Task::Answerer => text(text_width),
        _ => config.decoder.clone().or_else(|| text(vision_width)),
    };
    config.projection_width = match task {
        Task::Pretrain | Task::Matcher => Some(projection_width),
        _ => None,
    };
    config
}

fn longest(config: &Config) -> usize {
    [&config.encoder, &config.decoder].into_iter().flatten().map(|text| text.positions).min().unwrap_or(0)
}

/// The roles that a task's model is written as.
pub fn roles(task: Task) -> &'static [Role] {
    match task {
        Task::Pretrain => &[Role::Captioner, Role::Matcher],
        Task::Captioner => &[Role::Captioner],
        Task::Matcher => &[Role::Matcher],
        Task::Answerer => &[Role::Answerer],
    }
}
