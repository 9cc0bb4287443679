//! A checkpoint: complete, or one error.

use crate::configuration::{self, DecoderTokens, GenerationDefaults, ModelConfig};
use crate::error::{CheckpointError, Misshapen};
use crate::names::{self, Expected, Layout, TIED};
use crate::positions;
use crate::sizes::{Heads, Shapes};
use crate::tensor::Tensor;
use crate::vocabulary::{self, Vocabulary};
use crate::weights::Weights;
use blip::config::{Config, Role, SpecialTokens};
use blip::pixels::Normalization;
use blip::tokenizer::WordPieceSettings;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

const POSITIONS: &str = "vision.position_embedding";

/// What a checkpoint's files do not say, or what should be otherwise.
#[derive(Clone, Debug, Default)]
pub struct OpenOptions {
    /// Side of the input in pixels; the position table is interpolated if it was trained for another.
    pub image_size: Option<usize>,
    /// Attention heads of the image encoder, for a file without a configuration whose heads are not
    /// [`crate::HEAD_WIDTH`] wide.
    pub vision_heads: Option<usize>,
    /// Attention heads of the text stacks, likewise.
    pub text_heads: Option<usize>,
    /// A folder with a tokenizer, or its `tokenizer.json` or `vocab.txt`. Without it, a folder's own is read, and an
    /// authors' file has bert-base-uncased's.
    pub tokenizer: Option<PathBuf>,
}

/// A checkpoint whose every tensor is there, in its place and in its shape. Values are read when they are asked for.
pub struct Checkpoint {
    weights: Weights,
    config: Config,
    roles: Vec<Role>,
    expected: Vec<Expected>,
    by_name: BTreeMap<String, usize>,
    vocabulary: Vocabulary,
    tokens: SpecialTokens,
    normalization: Normalization,
    generation: GenerationDefaults,
    temperature: Option<f32>,
    warnings: Vec<String>,
}

/// What the two kinds of checkpoint say differently.
struct Description {
    layout: Layout,
    /// The file that says the sizes.
    file: PathBuf,
    config: Config,
    roles: Vec<Role>,
    /// Whether a decoder's output matrix that is not in the file is the word embedding.
    ties_words: bool,
    decoder_tokens: DecoderTokens,
    vocabulary: Vocabulary,
    normalization: Normalization,
    generation: GenerationDefaults,
    temperature: Option<f32>,
}

impl Checkpoint {
    /// Opens a Hugging Face folder, or an authors' `.pth` file.
    ///
    /// # Errors
    /// A file that cannot be read or is not what it should be; sizes of no model; in one error every tensor that is
    /// missing, unexpected or misshapen; a vocabulary that does not fit.
    pub fn open(path: &Path, options: &OpenOptions) -> Result<Checkpoint, CheckpointError> {
        let (weights, description) = match path.is_dir() {
            true => describe_folder(path, options)?,
            false => describe_file(path, options)?,
        };
        Checkpoint::assemble(weights, description, options)
    }

    fn assemble(
        weights: Weights,
        description: Description,
        options: &OpenOptions,
    ) -> Result<Checkpoint, CheckpointError> {
        let Description { layout, file, mut config, roles, mut vocabulary, .. } = description;
        let Description { normalization, generation, temperature, .. } = description;
        let invalid = |source| CheckpointError::Config { file: file.clone(), source };
        config.validate().map_err(invalid)?;
        let mut expected = names::expected(&config, layout);
        compare(&weights, &expected, layout, config.decoder.is_some(), description.ties_words)?;
        let mut warnings = warnings(&roles);
        if let Some(image_size) = options.image_size.filter(|asked| *asked != config.vision.image_size) {
            warnings.push(format!(
                "it was trained on pictures of {} pixels and is to see {image_size}: its position table is interpolated",
                config.vision.image_size
            ));
            config.vision.image_size = image_size;
            config.validate().map_err(invalid)?;
            let table = expected.iter_mut().find(|tensor| tensor.name == POSITIONS);
            table.into_iter().for_each(|table| table.shape[0] = config.vision.tokens());
        }
        let rows: Vec<_> =
            [&config.encoder, &config.decoder].into_iter().flatten().map(|text| text.vocabulary_size).collect();
        if let [encoder, decoder] = rows.as_slice()
            && encoder != decoder
        {
            let reason = format!("has {encoder} words in its text encoder and {decoder} in its decoder");
            return Err(CheckpointError::Unsupported { file, reason });
        }
        let tokens = vocabulary.complete(rows.first().copied().unwrap_or_default())?;
        if config.decoder.is_some() {
            vocabulary::agree(&tokens, description.decoder_tokens)
                .map_err(|reason| CheckpointError::Unsupported { file, reason })?;
        }
        let by_name = expected.iter().zip(0..).map(|(tensor, index)| (tensor.name.clone(), index)).collect();
        Ok(Checkpoint {
            weights,
            config,
            roles,
            expected,
            by_name,
            vocabulary,
            tokens,
            normalization,
            generation,
            temperature,
            warnings,
        })
    }

    /// The sizes, with the image size that was asked for.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// What its heads are for: one role, or captioner and matcher for the authors' pre-training files.
    pub fn roles(&self) -> &[Role] {
        &self.roles
    }

    /// The words in the order of their ids, special ones included.
    pub fn vocabulary(&self) -> &[String] {
        &self.vocabulary.words
    }

    /// The ids of the tokens with a meaning of their own.
    pub fn tokens(&self) -> SpecialTokens {
        self.tokens
    }

    /// How texts are prepared for the vocabulary.
    pub fn word_piece_settings(&self) -> WordPieceSettings {
        self.vocabulary.settings
    }

    /// How pixels are normalized: as the folder says, else as the authors do.
    pub fn normalization(&self) -> Normalization {
        self.normalization
    }

    /// What is subtracted from each channel, which lies between 0 and 1.
    pub fn mean(&self) -> [f32; 3] {
        self.normalization.mean
    }

    /// What each channel is divided by afterwards.
    pub fn std(&self) -> [f32; 3] {
        self.normalization.std
    }

    /// How texts are generated where the user does not say.
    pub fn generation_defaults(&self) -> &GenerationDefaults {
        &self.generation
    }

    /// The learned temperature of ITC: the authors' `temp`, or what our trainer wrote. Published Hugging Face files have
    /// none.
    pub fn temperature(&self) -> Option<f32> {
        self.temperature
    }

    /// Our names with the shapes that [`Checkpoint::tensor`] gives, in a fixed order.
    pub fn names(&self) -> impl ExactSizeIterator<Item = (&str, &[usize])> {
        self.expected.iter().map(|tensor| (tensor.name.as_str(), tensor.shape.as_slice()))
    }

    /// Reads a tensor by our name.
    ///
    /// # Errors
    /// A name that is not among [`Checkpoint::names`], a file that cannot be read, a value that is not finite.
    pub fn tensor(&self, name: &str) -> Result<Tensor, CheckpointError> {
        let Some(index) = self.by_name.get(name) else { return Err(CheckpointError::NoSuchTensor(name.to_owned())) };
        let Expected { shape, file_name, file_shape, .. } = &self.expected[*index];
        let values = self.weights.values(file_name)?;
        if let (POSITIONS, [_, rows, width]) = (name, file_shape.as_slice())
            && *rows != shape[0]
        {
            let table = Tensor { shape: vec![*rows, *width], values };
            return Ok(positions::interpolate(&table, self.config.vision.grid()));
        }
        Ok(Tensor { shape: shape.clone(), values })
    }

    /// The files that hold the tensors.
    pub fn files(&self) -> &[PathBuf] {
        &self.weights.files
    }

    /// What the user should know before relying on the checkpoint, a sentence each.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }
}

fn describe_folder(folder: &Path, options: &OpenOptions) -> Result<(Weights, Description), CheckpointError> {
    let file = folder.join("config.json");
    let unsupported = |reason| CheckpointError::Unsupported { file: file.clone(), reason };
    let keys = ModelConfig::read(&file)?;
    let mut roles = keys.roles().map_err(unsupported)?;
    let weights = Weights::of_folder(folder)?;
    if roles.is_empty() {
        roles = names::roles(weights.tensors.keys().map(String::as_str));
    }
    if roles.len() != 1 {
        let reason = "names no architecture, and the tensors' names do not tell it".to_owned();
        return Err(unsupported(reason));
    }
    let config = keys.sizes(&roles).map_err(unsupported)?;
    let text_heads = config.encoder.as_ref().or(config.decoder.as_ref()).map(|text| text.heads);
    let heads = [("vision", Some(config.vision.heads), options.vision_heads), ("text", text_heads, options.text_heads)];
    for (part, said, asked) in heads {
        if let (Some(said), Some(asked)) = (said, asked)
            && said != asked
        {
            return Err(unsupported(format!("says {said} {part} heads, {asked} are asked for: leave the option out")));
        }
    }
    let description = Description {
        layout: Layout::HuggingFace,
        config,
        roles,
        ties_words: keys.ties_words(),
        decoder_tokens: keys.decoder_tokens(),
        vocabulary: Vocabulary::read(options.tokenizer.as_deref().unwrap_or(folder))?,
        normalization: configuration::normalization(folder)?,
        generation: configuration::generation_defaults(folder)?,
        temperature: keys.temperature(),
        file,
    };
    Ok((weights, description))
}

fn describe_file(path: &Path, options: &OpenOptions) -> Result<(Weights, Description), CheckpointError> {
    let unsupported = |reason| CheckpointError::Unsupported { file: path.to_owned(), reason };
    let weights = Weights::of_file(path)?;
    let all = weights.tensors.iter().filter(|(name, _)| !names::is_skipped(name, Layout::Authors));
    let shapes: BTreeMap<_, _> = all.map(|(name, tensor)| (name.as_str(), tensor.shape.as_slice())).collect();
    if shapes.keys().any(|name| name.starts_with("vision_model.")) {
        return Err(unsupported(
            "has Hugging Face's names: give the folder that it and its config.json are in".to_owned(),
        ));
    }
    let roles = names::roles(shapes.keys().copied());
    if roles.is_empty() {
        return Err(unsupported("has neither a captioner's, a matcher's nor an answerer's heads".to_owned()));
    }
    let heads = Heads { vision: options.vision_heads, text: options.text_heads };
    let config = Shapes(shapes).sizes(&roles, heads).map_err(unsupported)?;
    let description = Description {
        layout: Layout::Authors,
        file: path.to_owned(),
        config,
        roles,
        ties_words: true,
        decoder_tokens: DecoderTokens { start: None, end: None },
        vocabulary: options.tokenizer.as_deref().map_or_else(|| Ok(Vocabulary::built_in()), Vocabulary::read)?,
        normalization: Normalization::default(),
        generation: GenerationDefaults::default(),
        temperature: temperature(&weights)?,
    };
    Ok((weights, description))
}

/// The authors' learned temperature, where the file has one that is a single number.
fn temperature(weights: &Weights) -> Result<Option<f32>, CheckpointError> {
    match weights.tensors.get("temp") {
        Some(stored) if stored.shape.iter().product::<usize>() == 1 && stored.dtype.is_float() => {
            Ok(weights.values("temp")?.first().copied())
        }
        _ => Ok(None),
    }
}

/// Finds every tensor that is missing, unexpected or misshapen, and then every second name whose values differ.
fn compare(
    weights: &Weights,
    expected: &[Expected],
    layout: Layout,
    decodes: bool,
    ties_words: bool,
) -> Result<(), CheckpointError> {
    let wanted: BTreeMap<_, _> =
        expected.iter().map(|tensor| (tensor.file_name.as_str(), &tensor.file_shape)).collect();
    let mut shapes = wanted.clone();
    let mut required: BTreeSet<&str> = wanted.keys().copied().collect();
    for [second, first] in TIED.iter().filter(|_| decodes) {
        shapes.insert(second, wanted[first]);
        if !ties_words && *second == TIED[0][0] {
            required.insert(second);
        }
    }
    let found = weights.tensors.iter().filter(|(name, _)| !names::is_skipped(name, layout));
    let (mut unexpected, mut misshapen) = (Vec::new(), Vec::new());
    for (name, tensor) in found {
        match shapes.get(name.as_str()) {
            None => unexpected.push(name.clone()),
            Some(shape) if **shape != tensor.shape => {
                misshapen.push(Misshapen { name: name.clone(), found: tensor.shape.clone(), expected: shape.to_vec() })
            }
            Some(_) => (),
        }
    }
    let missing: Vec<_> = required.into_iter().filter(|name| !weights.tensors.contains_key(*name)).collect();
    if !(missing.is_empty() && unexpected.is_empty() && misshapen.is_empty()) {
        let missing = missing.into_iter().map(str::to_owned).collect();
        return Err(CheckpointError::Tensors { file: weights.named_by.clone(), missing, unexpected, misshapen });
    }
    let unread = |name: &&str| weights.tensors.get(*name).filter(|tensor| !tensor.dtype.is_float());
    if let Some((name, tensor)) = shapes.keys().find_map(|name| unread(name).map(|tensor| (*name, tensor))) {
        let file = weights.files[tensor.file].clone();
        let reason = format!("is stored as {:?}, which is no weight", tensor.dtype);
        return Err(CheckpointError::Values { file, tensor: name.to_owned(), reason });
    }
    TIED.iter().filter(|_| decodes).try_for_each(|[second, first]| tie(weights, second, first))
}

/// Checks that `second`, where the file has it, is what `first` is.
fn tie(weights: &Weights, second: &str, first: &str) -> Result<(), CheckpointError> {
    let Some(stored) = weights.tensors.get(second) else { return Ok(()) };
    if weights.tensors.get(first) == Some(stored) || weights.values(second)? == weights.values(first)? {
        return Ok(());
    }
    let (file, tensor) = (weights.files[stored.file].clone(), second.to_owned());
    let reason = format!("differs from {first:?}, with which BLIP's decoder shares it; untied decoders are not read");
    Err(CheckpointError::Values { file, tensor, reason })
}

fn warnings(roles: &[Role]) -> Vec<String> {
    let pre_trained = roles.contains(&Role::Captioner) && roles.contains(&Role::Matcher);
    let repeats = "this is a pre-training checkpoint: as a captioner it repeats itself, so fine-tune it first";
    pre_trained.then(|| repeats.to_owned()).into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_is_where_the_file_has_it() {
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
        let sums = std::fs::read(fixtures.join("sums.json")).unwrap();
        let sums: BTreeMap<String, BTreeMap<String, [f64; 2]>> = serde_json::from_slice(&sums).unwrap();
        for (model, sums) in sums {
            let checkpoint = Checkpoint::open(&fixtures.join(&model), &OpenOptions::default()).unwrap();
            let seconds = TIED.iter().filter(|[second, _]| sums.contains_key(*second)).count();
            assert_eq!(checkpoint.expected.len() + seconds, sums.len());
            for expected in &checkpoint.expected {
                let tensor = checkpoint.tensor(&expected.name).unwrap();
                assert_eq!(tensor.shape.iter().product::<usize>(), tensor.values.len());
                let values = tensor.values.iter().map(|value| f64::from(*value));
                let found: [f64; 2] =
                    [values.clone().sum(), values.zip(1..).map(|(value, place)| value * f64::from(place)).sum()];
                for (found, golden) in found.into_iter().zip(sums[&expected.file_name]) {
                    assert!((found - golden).abs() < 1e-9 * (1.0 + golden.abs()), "{model} {}", expected.name);
                }
            }
        }
    }
}
