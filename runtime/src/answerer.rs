//! Answers questions about pictures.

use std::sync::Arc;

use blip::manifest::AnswererFacts;

use crate::bundle::Bundle;
use crate::decoder::{Caption, Decoder, DecoderError, Writing};
use crate::inference::{Engine, Graph, InferenceError, Tensor};
use crate::matcher::{MatchError, classified};
use crate::vision::{CrossAttention, View};

/// A question that cannot be answered.
#[derive(Debug, thiserror::Error)]
pub enum AnswerError {
    /// The question is not one that the model can read.
    #[error("question: {0}")]
    Question(#[from] MatchError),
    /// The decoder stopped.
    #[error(transparent)]
    Decoder(#[from] DecoderError),
    /// A graph stopped.
    #[error(transparent)]
    Inference(#[from] InferenceError),
}

/// Question encoder, which reads the picture, and answer decoder, which reads the question's states.
pub struct Answerer {
    bundle: Arc<Bundle>,
    facts: AnswererFacts,
    picture: CrossAttention,
    question: Graph,
    states: CrossAttention,
    decoder: Decoder,
}

impl Answerer {
    /// Loads the answerer that `facts` describes.
    ///
    /// # Errors
    /// As [`Engine::load`].
    pub fn load(engine: &Engine, facts: &AnswererFacts) -> Result<Answerer, InferenceError> {
        Ok(Answerer {
            bundle: Arc::clone(engine.bundle()),
            facts: facts.clone(),
            picture: CrossAttention::load(engine, &facts.question.cross, Some(facts.vision.config.tokens()))?,
            question: engine.load(&facts.question.graph, &[("batch", 1)])?,
            states: CrossAttention::load(engine, &facts.decoder.cross, None)?,
            decoder: Decoder::load(engine, &facts.decoder)?,
        })
    }

    /// What the manifest says of this head.
    pub fn facts(&self) -> &AnswererFacts {
        &self.facts
    }

    /// Answers `question`, the best answer first.
    ///
    /// # Errors
    /// A question or length that the model has no room for, options out of range, or a graph that stops.
    pub fn answer(&self, view: &mut View, question: &str, writing: &Writing) -> Result<Vec<Caption>, AnswerError> {
        let positions = self.facts.question.config.positions;
        let ids = classified(&self.bundle, question, self.facts.encoder_token, positions)?;
        let mut inputs = vec![Tensor::from_ids(&ids)];
        inputs.extend(view.memory(&self.picture, &self.facts.vision.graph)?.0.iter().cloned());
        let states = self.question.run(&inputs)?;
        let memory = self.states.remember(&states[0])?;
        Ok(self.decoder.write(&memory, writing)?)
    }
}
