//! The image-grounded text decoder: one step after another over a cache of keys and values.

use blip::config::TextConfig;
use blip::decoding::{Decoded, DecodingError, DecodingOptions, LanguageModel, Search, decode};
use blip::manifest::{Element, StackFacts};

use crate::inference::{Engine, Graph, InferenceError, Tensor};
use crate::vision::Memory;

/// A text that cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum DecoderError {
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

/// A loaded decoder.
pub struct Decoder {
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
        Ok(Decoder { graph, config: facts.config.clone(), cache })
    }

    /// Searches for texts about `memory`.
    ///
    /// # Errors
    /// A length beyond the position table, options out of range, or a graph that stops.
    pub fn write(&self, memory: &Memory, search: &Search) -> Result<Vec<Decoded>, DecoderError> {
        self.check_length(search.options)?;
        Ok(decode(&mut self.start(memory), search)?)
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
