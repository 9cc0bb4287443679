//! Writes texts for pictures.

use std::sync::Arc;

use blip::decoding::{Decoded, DecodingOptions, LanguageModel, Search};
use blip::manifest::CaptionerFacts;
use blip::tokenizer::{Tokenizer, TokenizerError};

use crate::bundle::Bundle;
use crate::decoder::{Decoder, DecoderError};
use crate::inference::{Engine, InferenceError};
use crate::vision::{CrossAttention, Memory, View};

/// A caption that cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum CaptionError {
    /// The prompt is not a text that the model can read.
    #[error("prompt: {0}")]
    Prompt(#[from] TokenizerError),
    /// The decoder stopped.
    #[error(transparent)]
    Decoder(#[from] DecoderError),
    /// The picture's keys and values could not be computed.
    #[error(transparent)]
    Inference(#[from] InferenceError),
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

impl Caption {
    pub(crate) fn new(tokenizer: &Tokenizer, decoded: Decoded) -> Caption {
        Caption { text: tokenizer.decode(&decoded.tokens), log_prob: decoded.log_prob, token_ids: decoded.tokens }
    }
}

/// Image-grounded text decoder with what it reads.
pub struct Captioner {
    bundle: Arc<Bundle>,
    facts: CaptionerFacts,
    cross: CrossAttention,
    decoder: Decoder,
}

impl Captioner {
    /// Loads the captioner that `facts` describes.
    ///
    /// # Errors
    /// As [`Engine::load`].
    pub fn load(engine: &Engine, facts: &CaptionerFacts) -> Result<Captioner, InferenceError> {
        Ok(Captioner {
            bundle: Arc::clone(engine.bundle()),
            facts: facts.clone(),
            cross: CrossAttention::load(engine, &facts.decoder.cross, Some(facts.vision.config.tokens()))?,
            decoder: Decoder::load(engine, &facts.decoder)?,
        })
    }

    /// What the manifest says of this head.
    pub fn facts(&self) -> &CaptionerFacts {
        &self.facts
    }

    /// Writes texts about a picture, the best first.
    ///
    /// # Errors
    /// A prompt or length that the model has no room for, options out of range, or a graph that stops.
    pub fn describe(&self, view: &mut View, writing: &Writing) -> Result<Vec<Caption>, CaptionError> {
        let tokenizer = self.bundle.tokenizer();
        let prompt = tokenizer.prompt(&writing.prompt)?;
        let search = Search {
            prompt: &prompt,
            end: self.bundle.manifest().tokens.separator,
            options: &writing.options,
            seed: writing.seed,
            captions: writing.texts,
        };
        let memory = self.memory(view)?;
        let texts = self.decoder.write(&memory, &search)?;
        Ok(texts.into_iter().map(|decoded| Caption::new(tokenizer, decoded)).collect())
    }

    /// Logits after `tokens`, `[vocabulary]`: what the model would write next.
    ///
    /// # Errors
    /// As [`Captioner::describe`].
    pub fn next_logits(&self, view: &mut View, tokens: &[u32]) -> Result<Vec<f32>, CaptionError> {
        let memory = self.memory(view)?;
        Ok(self.decoder.start(&memory).start(tokens)?)
    }

    /// What the decoder's cross-attention reads of a picture.
    ///
    /// # Errors
    /// A graph that stops.
    pub fn memory(&self, view: &mut View) -> Result<Memory, InferenceError> {
        view.memory(&self.cross, &self.facts.vision.graph)
    }

    /// The decoder, for searches of one's own.
    pub fn decoder(&self) -> &Decoder {
        &self.decoder
    }
}
