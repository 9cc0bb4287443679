//! Writes texts for pictures.

use blip::decoding::LanguageModel;
use blip::manifest::CaptionerFacts;

use crate::decoder::{Caption, Decoder, DecoderError, Writing};
use crate::inference::{Engine, InferenceError};
use crate::vision::{CrossAttention, Memory, View};

/// A caption that cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum CaptionError {
    /// The decoder stopped.
    #[error(transparent)]
    Decoder(#[from] DecoderError),
    /// The picture's keys and values could not be computed.
    #[error(transparent)]
    Inference(#[from] InferenceError),
}

/// Image-grounded text decoder with what it reads.
pub struct Captioner {
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
        let memory = self.memory(view)?;
        Ok(self.decoder.write(&memory, writing)?)
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
