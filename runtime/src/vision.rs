//! The image encoder: a picture once in, features for every head that reads them.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use blip::manifest::VisionFacts;
use blip::pixels::{Rgb8, preprocess};

use crate::inference::{Engine, Graph, InferenceError, Tensor};

/// Turns pixels into patch features.
///
/// `[1, 3, S, S]` -> `[1, tokens, width]`: the class token, then the patches by row.
pub struct ImageEncoder {
    graph: Graph,
    facts: VisionFacts,
}

impl ImageEncoder {
    /// Loads the encoder that `facts` names.
    ///
    /// # Errors
    /// As [`Engine::load`].
    pub fn load(engine: &Engine, facts: &VisionFacts) -> Result<ImageEncoder, InferenceError> {
        let graph = engine.load(&facts.graph, &[("batch", 1)])?;
        Ok(ImageEncoder { graph, facts: facts.clone() })
    }

    /// The pixels that the encoder wants, `[1, 3, S, S]`.
    pub fn pixels(&self, picture: &Rgb8) -> Tensor {
        let side = self.facts.config.image_size;
        Tensor::from_f32(&[1, 3, side, side], &preprocess(picture, side, &self.facts.normalization))
    }

    /// Encodes pixels.
    ///
    /// # Errors
    /// As [`Graph::run`].
    pub fn encode(&self, pixels: &Tensor) -> Result<Tensor, InferenceError> {
        let mut outputs = self.graph.run(std::slice::from_ref(pixels))?;
        Ok(outputs.swap_remove(0))
    }
}

/// Computes what a text stack's cross-attention reads.
pub struct CrossAttention {
    name: String,
    graph: Graph,
}

/// Keys and values of every cross-attention layer, in the order in which the text graphs take them.
#[derive(Clone)]
pub struct Memory(pub(crate) Arc<Vec<Tensor>>);

impl CrossAttention {
    /// Loads the graph `name`; `memory` is the number of states, where it is always the same.
    ///
    /// # Errors
    /// As [`Engine::load`].
    pub fn load(engine: &Engine, name: &str, memory: Option<usize>) -> Result<CrossAttention, InferenceError> {
        let sizes: Vec<(&str, usize)> = memory.map(|size| ("memory", size)).into_iter().collect();
        Ok(CrossAttention { name: name.to_owned(), graph: engine.load(name, &sizes)? })
    }

    /// Computes keys and values of `states`, `[1, memory, width]`.
    ///
    /// # Errors
    /// As [`Graph::run`].
    pub fn remember(&self, states: &Tensor) -> Result<Memory, InferenceError> {
        Ok(Memory(Arc::new(self.graph.run(std::slice::from_ref(states))?)))
    }
}

/// A picture as the heads see it. What two heads share is computed once.
pub struct View {
    features: HashMap<String, Tensor>,
    memories: HashMap<(String, String), Memory>,
    /// Time for resizing and normalising.
    pub preprocess: Duration,
    /// Time in the image encoders.
    pub vision: Duration,
}

impl View {
    /// Looks at a picture with every encoder in `encoders`.
    ///
    /// # Errors
    /// As [`Graph::run`].
    pub fn new<'a>(
        picture: &Rgb8,
        encoders: impl IntoIterator<Item = &'a ImageEncoder>,
    ) -> Result<View, InferenceError> {
        let mut view = View {
            features: HashMap::new(),
            memories: HashMap::new(),
            preprocess: Duration::ZERO,
            vision: Duration::ZERO,
        };
        for encoder in encoders {
            let start = Instant::now();
            let pixels = encoder.pixels(picture);
            view.preprocess += start.elapsed();
            let start = Instant::now();
            view.features.insert(encoder.facts.graph.clone(), encoder.encode(&pixels)?);
            view.vision += start.elapsed();
        }
        Ok(view)
    }

    /// Features of the encoder `graph`, `[1, tokens, width]`.
    ///
    /// # Panics
    /// If the view was made without that encoder.
    pub fn features(&self, graph: &str) -> &Tensor {
        self.features.get(graph).expect("the view was made with the encoder of every loaded head")
    }

    /// What `cross` reads of this picture through the encoder `graph`.
    ///
    /// # Errors
    /// As [`Graph::run`].
    pub fn memory(&mut self, cross: &CrossAttention, graph: &str) -> Result<Memory, InferenceError> {
        let key = (cross.name.clone(), graph.to_owned());
        if let Some(memory) = self.memories.get(&key) {
            return Ok(memory.clone());
        }
        let memory = cross.remember(self.features(graph))?;
        self.memories.insert(key, memory.clone());
        Ok(memory)
    }
}
