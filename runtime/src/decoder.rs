//! The image-grounded text decoder: one step after another over a cache of keys and values.

use std::sync::Arc;

use blip::config::TextConfig;
use blip::decoding::{DecodingError, DecodingOptions, LanguageModel, Search, decode};
use blip::manifest::{Element, StackFacts};
use blip::tokenizer::TokenizerError;

use crate::bundle::Bundle;
use crate::inference::{Engine, Graph, InferenceError, Tensor};
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
    graph: Graph,
    config: TextConfig,
    cache: Element,
}

impl Decoder {
    /// Loads the decoder that `facts` names.
    ///
    /// # Errors
    /// As [`Engine::load`].
    pub fn load(engine: &Engine, facts: &StackFacts) -> Result<Decoder, InferenceError> {
        let graph = engine.load(&facts.graph, &[])?;
        let cache = graph.element("past_key_0").ok_or_else(|| InferenceError::Graph {
            graph: facts.graph.clone(),
            what: "it has no input past_key_0".to_owned(),
        })?;
        Ok(Decoder { bundle: Arc::clone(engine.bundle()), graph, config: facts.config.clone(), cache })
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
        Decoding { decoder: self, memory, past: Vec::new(), new: Vec::new() }
    }

    fn check_length(&self, options: &DecodingOptions) -> Result<(), DecoderError> {
        let (max_length, positions) = (options.max_length, self.config.positions);
        if max_length > positions {
            return Err(DecoderError::Positions { max_length, positions });
        }
        Ok(())
    }
}

/// Rows of tokens in the making, with their caches.
pub struct Decoding<'a> {
    decoder: &'a Decoder,
    memory: &'a Memory,
    /// Keys and values of every layer for the tokens before the last call.
    past: Vec<Tensor>,
    /// Keys and values of every layer for the tokens of the last call.
    new: Vec<Tensor>,
}

impl Decoding<'_> {
    fn run(&mut self, ids: Tensor, past: Vec<Tensor>) -> Result<Vec<f32>, InferenceError> {
        let mut inputs = Vec::with_capacity(1 + past.len() + self.memory.0.len());
        inputs.push(ids);
        inputs.extend(past.iter().cloned());
        inputs.extend(self.memory.0.iter().cloned());
        let mut outputs = self.decoder.graph.run(&inputs)?;
        let logits = outputs.remove(0);
        self.past = past;
        self.new = outputs;
        Ok(logits.as_f32().map(<[f32]>::to_vec).unwrap_or_default())
    }
}

impl LanguageModel for Decoding<'_> {
    type Error = InferenceError;

    fn start(&mut self, prompt: &[u32]) -> Result<Vec<f32>, InferenceError> {
        let config = &self.decoder.config;
        let shape = [1, config.heads, 0, config.width / config.heads];
        let past = vec![Tensor::empty(self.decoder.cache, &shape); 2 * config.layers];
        self.run(Tensor::from_ids(prompt), past)
    }

    fn step(&mut self, rows: &[(usize, u32)]) -> Result<Vec<f32>, InferenceError> {
        let parents: Vec<usize> = rows.iter().map(|&(parent, _)| parent).collect();
        let ids: Vec<i64> = rows.iter().map(|&(_, token)| i64::from(token)).collect();
        let join = |(past, new): (&Tensor, &Tensor)| Tensor::continued(past, new, &parents);
        let past = self.past.iter().zip(&self.new).map(join).collect();
        self.run(Tensor::from_i64(&[rows.len(), 1], &ids), past)
    }
}
