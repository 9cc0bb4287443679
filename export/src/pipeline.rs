//! The whole path: checkpoints -> graphs and weights beside the place -> verified -> moved into place.

use std::path::Path;

use blip::config::Role;
use blip::manifest::{Manifest, Precision};
use checkpoint::OpenOptions;
use edgeblip::bundle::hex;
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::bundle::{BundleError, Settings, stage};
use crate::onnx::QuantizedTensor;
use crate::place::{Place, PlaceError, check_free};
use crate::verify::{Comparison, VerifyError, compare, golden};
use crate::weights::{Request, Weights, WeightsError};
use terminal::progress::Progress;

/// An export that did not happen; nothing is left behind.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// A checkpoint cannot be used.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// There is no place for the bundle.
    #[error(transparent)]
    Place(#[from] PlaceError),
    /// The bundle cannot be written.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// The bundle was written but does not run.
    #[error("verifying the bundle: {0}")]
    Verify(#[from] VerifyError),
}

/// What an export did.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The bundle's name: the SHA-256 of its manifest.
    pub id: String,
    /// Heads.
    pub heads: Vec<Role>,
    /// Bytes of every file together.
    pub bytes: u64,
    /// Quantized tensors, worst first.
    pub quantized: Vec<QuantizedTensor>,
    /// int8 against fp32; nothing for an fp32 bundle.
    pub comparison: Option<Comparison>,
    /// What a user should know about the checkpoints.
    pub warnings: Vec<String>,
    /// The manifest.
    pub manifest: Manifest,
}

/// Makes the bundle `out` from checkpoints.
///
/// # Errors
/// A place that is taken, a checkpoint that is not complete, a disk that is full, a bundle that does not run. In each
/// case nothing is left behind.
pub fn export(
    request: &Request,
    options: &OpenOptions,
    settings: &Settings,
    out: &Path,
    progress: &Progress,
) -> Result<Report, ExportError> {
    check_free(out)?;
    let weights = Weights::open(request, options)?;
    let place = Place::prepare(out)?;
    let mut staged = stage(&weights, settings, &place, progress)?;
    progress.stage("running every graph", 0);
    staged.set_golden(&golden(staged.path())?)?;
    let comparison = match settings.precision {
        Precision::Fp32 => None,
        Precision::Int8 => {
            let settings = Settings { precision: Precision::Fp32, ..settings.clone() };
            let reference = stage(&weights, &settings, &place, progress)?;
            progress.stage("comparing int8 with fp32", 0);
            Some(compare(staged.path(), reference.path())?)
        }
    };
    progress.finish();
    let report = Report {
        id: hex(&Sha256::digest(staged.manifest.to_json())),
        heads: staged.manifest.roles(),
        bytes: staged.manifest.files.values().map(|file| file.bytes).sum(),
        quantized: staged.quantized.clone(),
        comparison,
        warnings: weights.checkpoints().flat_map(|(_, checkpoint)| checkpoint.warnings().to_vec()).collect(),
        manifest: staged.manifest.clone(),
    };
    staged.publish(place)?;
    Ok(report)
}
