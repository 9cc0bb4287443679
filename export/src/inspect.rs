//! What is in a bundle or a checkpoint, in words or as JSON.

use std::path::Path;

use blip::config::{Config, Role, SpecialTokens};
use blip::manifest::{MANIFEST, Manifest};
use checkpoint::{Checkpoint, CheckpointError, OpenOptions};
use edgeblip::bundle::{Bundle, BundleError};
use serde::Serialize;

/// Something that is neither a bundle nor a checkpoint.
#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    /// It has a manifest but is not a bundle.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// It has no manifest and is not a checkpoint.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
}

/// One tensor of a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TensorFacts {
    /// Our name for it.
    pub name: String,
    /// Shape.
    pub shape: Vec<usize>,
}

/// What was found.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "lowercase", tag = "kind")]
pub enum Inspection {
    /// A bundle; every file was checked.
    Bundle {
        /// Its name: the SHA-256 of the manifest.
        id: String,
        /// What it says about itself.
        manifest: Box<Manifest>,
    },
    /// A checkpoint; it is complete.
    Checkpoint {
        /// Heads.
        roles: Vec<Role>,
        /// Sizes.
        config: Box<Config>,
        /// Ids with a meaning of their own.
        tokens: SpecialTokens,
        /// Tensors.
        tensors: Vec<TensorFacts>,
        /// What a user should know.
        warnings: Vec<String>,
    },
}

/// Looks at a bundle's folder, a checkpoint's folder or a `.pth` file.
///
/// # Errors
/// What [`Bundle::open`] or [`Checkpoint::open`] says.
pub fn inspect(path: &Path, options: &OpenOptions) -> Result<Inspection, InspectError> {
    if path.join(MANIFEST).exists() {
        let bundle = Bundle::open(path)?;
        return Ok(Inspection::Bundle { id: bundle.id().to_owned(), manifest: Box::new(bundle.manifest().clone()) });
    }
    let checkpoint = Checkpoint::open(path, options)?;
    let tensors = checkpoint.names().map(|(name, shape)| TensorFacts { name: name.to_owned(), shape: shape.to_vec() });
    Ok(Inspection::Checkpoint {
        roles: checkpoint.roles().to_vec(),
        config: Box::new(checkpoint.config().clone()),
        tokens: checkpoint.tokens(),
        tensors: tensors.collect(),
        warnings: checkpoint.warnings().to_vec(),
    })
}
