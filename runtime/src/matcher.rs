//! Says whether a text matches a picture, and gives both as vectors that can be compared.

use std::sync::Arc;

use blip::manifest::{EncoderToken, MatcherFacts};
use blip::tokenizer::TokenizerError;

use crate::bundle::Bundle;
use crate::inference::{Engine, Graph, InferenceError, Tensor};
use crate::vision::{CrossAttention, View};

/// A score that cannot be given.
#[derive(Debug, thiserror::Error)]
pub enum MatchError {
    /// The text is not one that the model can read.
    #[error("text: {0}")]
    Text(#[from] TokenizerError),
    /// The text is longer than the position table.
    #[error("the text has {found} tokens, the model has {positions} positions: shorten it")]
    TooLong {
        /// Tokens of the text, first and last included.
        found: usize,
        /// Rows of the position table.
        positions: usize,
    },
    /// A graph stopped.
    #[error(transparent)]
    Inference(#[from] InferenceError),
}

/// A vector of length one.
#[derive(Clone, Debug, PartialEq)]
pub struct Embedding(pub Vec<f32>);

impl Embedding {
    /// Cosine of the angle to another vector of the same bundle.
    pub fn cosine(&self, other: &Embedding) -> f32 {
        self.0.iter().zip(&other.0).map(|(left, right)| left * right).sum()
    }
}

/// Image-grounded text encoder with its ITM head, and the two sides of ITC.
pub struct Matcher {
    bundle: Arc<Bundle>,
    facts: MatcherFacts,
    cross: CrossAttention,
    encoder: Graph,
    image: Graph,
    text: Graph,
}

impl Matcher {
    /// Loads the matcher that `facts` describes.
    ///
    /// # Errors
    /// As [`Engine::load`].
    pub fn load(engine: &Engine, facts: &MatcherFacts) -> Result<Matcher, InferenceError> {
        Ok(Matcher {
            bundle: Arc::clone(engine.bundle()),
            facts: facts.clone(),
            cross: CrossAttention::load(engine, &facts.encoder.cross, Some(facts.vision.config.tokens()))?,
            encoder: engine.load(&facts.encoder.graph, &[("batch", 1)])?,
            image: engine.load(&facts.image_embedding, &[("batch", 1)])?,
            text: engine.load(&facts.text_embedding, &[("batch", 1)])?,
        })
    }

    /// What the manifest says of this head.
    pub fn facts(&self) -> &MatcherFacts {
        &self.facts
    }

    /// ITM: the probability that `text` matches the picture.
    ///
    /// Softmax over two logits, the second of which is "match". Source: BLIP `models/blip_itm.py`, `forward`.
    ///
    /// # Errors
    /// A text that the model has no room for, or a graph that stops.
    pub fn match_probability(&self, view: &mut View, text: &str) -> Result<f32, MatchError> {
        let ids = self.ids(text, self.facts.encoder_token)?;
        let memory = view.memory(&self.cross, &self.facts.vision.graph)?;
        let mut inputs = vec![ids];
        inputs.extend(memory.0.iter().cloned());
        let logits = first_row(&self.encoder, &inputs)?;
        Ok(1.0 / (1.0 + (logits[0] - logits[1]).exp()))
    }

    /// ITC: the picture's vector.
    ///
    /// # Errors
    /// A graph that stops.
    pub fn embed_image(&self, view: &View) -> Result<Embedding, MatchError> {
        let features = view.features(&self.facts.vision.graph).clone();
        Ok(Embedding(first_row(&self.image, &[features])?))
    }

    /// ITC: the text's vector.
    ///
    /// # Errors
    /// A text that the model has no room for, or a graph that stops.
    pub fn embed_text(&self, text: &str) -> Result<Embedding, MatchError> {
        let ids = self.ids(text, EncoderToken::Class)?;
        Ok(Embedding(first_row(&self.text, &[ids])?))
    }

    fn ids(&self, text: &str, first: EncoderToken) -> Result<Tensor, MatchError> {
        Ok(Tensor::from_ids(&classified(&self.bundle, text, first, self.facts.encoder.config.positions)?))
    }
}

/// Ids of a text with a first token and the separator, checked against the position table.
pub(crate) fn classified(
    bundle: &Bundle,
    text: &str,
    first: EncoderToken,
    positions: usize,
) -> Result<Vec<u32>, MatchError> {
    let tokens = &bundle.manifest().tokens;
    let first = match first {
        EncoderToken::Encoder => tokens.encoder_start,
        EncoderToken::Class => tokens.class,
    };
    let ids = bundle.tokenizer().classified(text, first)?;
    if ids.len() > positions {
        return Err(MatchError::TooLong { found: ids.len(), positions });
    }
    Ok(ids)
}

fn first_row(graph: &Graph, inputs: &[Tensor]) -> Result<Vec<f32>, InferenceError> {
    let outputs = graph.run(inputs)?;
    Ok(outputs[0].as_f32().map(<[f32]>::to_vec).unwrap_or_default())
}
