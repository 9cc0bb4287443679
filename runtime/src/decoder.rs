//! The image-grounded text decoder: one step after another over a cache of keys and values.

use std::sync::Arc;

use blip::config::TextConfig;
use blip::decoding::{DecodingError, DecodingOptions, LanguageModel, Search, decode};
use blip::manifest::StackFacts;
use blip::tokenizer::TokenizerError;

use crate::bundle::Bundle;
use crate::inference::{CachedGraph, Engine, InferenceError, KeyValueCache, Tensor};
use crate::vision::Memory;

/// A text that cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum DecoderError {
    /// The prompt is not a text that the model can read.
    #[error("prompt: {0}")]
    Prompt(#[from] TokenizerError),
    /// More tokens than the model has positions for.
    #[error("max length is {max_length} tokens, the model has {positions} positions: ask for at most {positions}")]
    Positions {
        /// Tokens asked for.
        max_length: usize,
        /// Rows of the position table.
        positions: usize,
    },
    /// The search stopped.
    #[error(transparent)]
    Search(#[from] DecodingError<InferenceError>),
}

/// What to write.
#[derive(Clone, Debug)]
pub struct Writing {
    /// Words that the text starts with; empty for none.
    pub prompt: String,
    /// How to search.
    pub options: DecodingOptions,
    /// Seed of the nucleus samples.
    pub seed: u64,
    /// Texts wanted.
    pub texts: usize,
}

/// A text with the tokens that it came from.
#[derive(Clone, Debug, PartialEq)]
pub struct Caption {
    /// The words, prompt included.
    pub text: String,
    /// Start token and prompt first, end token last if it was generated.
    pub token_ids: Vec<u32>,
    /// Natural logarithm of the model's probability of the generated tokens.
    pub log_prob: f32,
}

/// A loaded decoder.
pub struct Decoder {
    bundle: Arc<Bundle>,
    graph: CachedGraph,
    config: TextConfig,
}

impl Decoder {
    /// Loads the decoder that `facts` names.
    ///
    /// # Errors
    /// As [`Engine::load_decoder`].
    pub fn load(engine: &Engine, facts: &StackFacts) -> Result<Decoder, InferenceError> {
        let graph = engine.load_decoder(&facts.graph)?;
        Ok(Decoder { bundle: Arc::clone(engine.bundle()), graph, config: facts.config.clone() })
    }

    /// Writes texts about what `memory` holds, the best first.
    ///
    /// # Errors
    /// A prompt or length that the model has no room for, options out of range, or a graph that stops.
    pub fn write(&self, memory: &Memory, writing: &Writing) -> Result<Vec<Caption>, DecoderError> {
        self.check_length(&writing.options)?;
        let tokenizer = self.bundle.tokenizer();
        let search = Search {
            prompt: &tokenizer.prompt(&writing.prompt)?,
            end: self.bundle.manifest().tokens.separator,
            options: &writing.options,
            seed: writing.seed,
            captions: writing.texts,
        };
        let texts = decode(&mut self.start(memory), &search)?.into_iter();
        let text = |tokens: &[u32]| tokenizer.decode(tokens);
        Ok(texts.map(|d| Caption { text: text(&d.tokens), log_prob: d.log_prob, token_ids: d.tokens }).collect())
    }

    /// A decoding that has not read anything yet.
    pub fn start<'a>(&'a self, memory: &'a Memory) -> Decoding<'a> {
        Decoding { decoder: self, memory, cache: self.graph.cache() }
    }

    fn check_length(&self, options: &DecodingOptions) -> Result<(), DecoderError> {
        let (max_length, positions) = (options.max_length, self.config.positions);
        if max_length > positions {
            return Err(DecoderError::Positions { max_length, positions });
        }
        Ok(())
    }
}

/// Texts in the making, with what the decoder remembers of them.
pub struct Decoding<'a> {
    decoder: &'a Decoder,
    memory: &'a Memory,
    cache: KeyValueCache,
}

impl Decoding<'_> {
    fn read(&mut self, ids: Tensor) -> Result<Vec<f32>, InferenceError> {
        let logits = self.decoder.graph.run(&mut self.cache, ids, &self.memory.0)?;
        Ok(logits.as_f32().map(<[f32]>::to_vec).unwrap_or_default())
    }
}

impl LanguageModel for Decoding<'_> {
    type Error = InferenceError;

    fn start(&mut self, prompt: &[u32]) -> Result<Vec<f32>, InferenceError> {
        self.cache = self.decoder.graph.cache();
        self.read(Tensor::from_ids(prompt))
    }

    fn step(&mut self, rows: &[(usize, u32)]) -> Result<Vec<f32>, InferenceError> {
        self.cache.branch(rows.iter().map(|&(parent, _)| parent));
        let ids: Vec<i64> = rows.iter().map(|&(_, token)| i64::from(token)).collect();
        self.read(Tensor::from_i64(&[rows.len(), 1], &ids))
    }
}
