//! A bundle's heads, loaded when they are wanted.

use std::collections::BTreeMap;
use std::sync::Arc;

use blip::config::Role;
use blip::manifest::VisionFacts;
use blip::pixels::Rgb8;

use crate::answerer::Answerer;
use crate::bundle::{Bundle, CacheError};
use crate::captioner::Captioner;
use crate::inference::{Engine, InferenceError, Profile};
use crate::matcher::Matcher;
use crate::vision::{ImageEncoder, View};

/// A head that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// The bundle has no such head.
    #[error("the bundle has no {role}: export one with `edgeblip-export --{role} CHECKPOINT`")]
    Missing {
        /// The head.
        role: Role,
    },
    /// A graph cannot be loaded or run.
    #[error(transparent)]
    Inference(#[from] InferenceError),
}

/// Heads of one bundle and the image encoders that they read, each loaded once.
pub struct Model {
    engine: Engine,
    encoders: BTreeMap<String, ImageEncoder>,
    captioner: Option<Captioner>,
    matcher: Option<Matcher>,
    answerer: Option<Answerer>,
}

impl Model {
    /// Loads the heads in `roles`, to compute on `threads` threads.
    ///
    /// # Errors
    /// A head that the bundle does not have, or a graph that cannot be loaded.
    pub fn load(bundle: Arc<Bundle>, roles: &[Role], threads: usize) -> Result<Model, ModelError> {
        let engine = Engine::new(bundle, threads)?;
        let encoders = BTreeMap::new();
        let mut model = Model { engine, encoders, captioner: None, matcher: None, answerer: None };
        for &role in roles {
            model.load_role(role)?;
        }
        Ok(model)
    }

    fn load_role(&mut self, role: Role) -> Result<(), ModelError> {
        let bundle = Arc::clone(self.engine.bundle());
        let manifest = bundle.manifest();
        let missing = || ModelError::Missing { role };
        match role {
            Role::Captioner => {
                let facts = manifest.captioner.as_ref().ok_or_else(missing)?;
                self.load_encoder(&facts.vision)?;
                self.captioner = Some(Captioner::load(&self.engine, facts)?);
            }
            Role::Matcher => {
                let facts = manifest.matcher.as_ref().ok_or_else(missing)?;
                self.load_encoder(&facts.vision)?;
                self.matcher = Some(Matcher::load(&self.engine, facts)?);
            }
            Role::Answerer => {
                let facts = manifest.answerer.as_ref().ok_or_else(missing)?;
                self.load_encoder(&facts.vision)?;
                self.answerer = Some(Answerer::load(&self.engine, facts)?);
            }
        }
        Ok(())
    }

    fn load_encoder(&mut self, facts: &VisionFacts) -> Result<(), InferenceError> {
        if !self.encoders.contains_key(&facts.graph) {
            self.encoders.insert(facts.graph.clone(), ImageEncoder::load(&self.engine, facts)?);
        }
        Ok(())
    }

    /// The bundle.
    pub fn bundle(&self) -> &Bundle {
        self.engine.bundle()
    }

    /// Why the next start takes as long as this one, where a cache was to make it shorter.
    pub fn cache_error(&self) -> Option<&CacheError> {
        self.engine.cache_error()
    }

    /// What the operators of the loaded graphs take.
    pub fn profile(&self) -> &Profile {
        self.engine.profile()
    }

    /// Looks at a picture with every loaded encoder.
    ///
    /// # Errors
    /// A graph that stops.
    pub fn see(&self, picture: &Rgb8) -> Result<View, InferenceError> {
        View::new(picture, self.encoders.values())
    }

    /// The captioner.
    ///
    /// # Errors
    /// [`ModelError::Missing`] if it was not loaded.
    pub fn captioner(&self) -> Result<&Captioner, ModelError> {
        self.captioner.as_ref().ok_or(ModelError::Missing { role: Role::Captioner })
    }

    /// The matcher.
    ///
    /// # Errors
    /// [`ModelError::Missing`] if it was not loaded.
    pub fn matcher(&self) -> Result<&Matcher, ModelError> {
        self.matcher.as_ref().ok_or(ModelError::Missing { role: Role::Matcher })
    }

    /// The answerer.
    ///
    /// # Errors
    /// [`ModelError::Missing`] if it was not loaded.
    pub fn answerer(&self) -> Result<&Answerer, ModelError> {
        self.answerer.as_ref().ok_or(ModelError::Missing { role: Role::Answerer })
    }
}
