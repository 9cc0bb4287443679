//! Runs a bundle before anybody else does: every graph loads, the golden answers are made, int8 is held against f32.

use std::path::Path;
use std::sync::Arc;

use blip::config::Role;
use blip::pixels::Rgb8;
use edgeblip::bundle::{Bundle, BundleError};
use edgeblip::captioner::CaptionError;
use edgeblip::golden::{GoldenError, answers, test_card};
use edgeblip::inference::InferenceError;
use edgeblip::model::{Model, ModelError};
use serde::Serialize;

/// A bundle that does not run.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// It cannot be opened.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// A head cannot be loaded.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// A graph stopped.
    #[error(transparent)]
    Inference(#[from] InferenceError),
    /// The captioner stopped.
    #[error(transparent)]
    Caption(#[from] CaptionError),
    /// The self-test stopped.
    #[error(transparent)]
    Golden(#[from] GoldenError),
}

/// How far the int8 bundle is from an f32 bundle of the same weights.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Comparison {
    /// Pictures looked at.
    pub pictures: usize,
    /// Smallest cosine between the image features of a token, over pictures, encoders and tokens.
    pub feature_cosine: f32,
    /// Pictures for which both captioners would write the same first token; nothing without a captioner.
    pub first_token_agrees: Option<usize>,
}

/// What was seen of one bundle.
struct Seen {
    features: Vec<Vec<f32>>,
    width: usize,
    first_tokens: Vec<usize>,
}

/// Loads every head of the bundle in `folder` and returns its golden answers, as the bundle stores them.
///
/// # Errors
/// A file, graph or head that does not work.
pub fn golden(folder: &Path) -> Result<Vec<u8>, VerifyError> {
    let bundle = Arc::new(Bundle::open(folder)?);
    let roles = bundle.manifest().roles();
    Ok(answers(&Model::load(bundle, &roles, threads())?)?.to_json())
}

/// Shows the same pictures to two bundles of the same weights.
///
/// # Errors
/// A file, graph or head that does not work.
pub fn compare(int8: &Path, fp32: &Path) -> Result<Comparison, VerifyError> {
    let pictures = pictures()?;
    let mut feature_cosine = 1.0f32;
    let mut first_token_agrees = None;
    for role in Bundle::open(int8)?.manifest().roles() {
        let (left, right) = (see(int8, role, &pictures)?, see(fp32, role, &pictures)?);
        for (left_picture, right_picture) in left.features.iter().zip(&right.features) {
            let tokens = left_picture.chunks_exact(left.width).zip(right_picture.chunks_exact(right.width));
            feature_cosine = tokens.map(|(a, b)| cosine(a, b)).fold(feature_cosine, f32::min);
        }
        if role == Role::Captioner {
            let agrees = left.first_tokens.iter().zip(&right.first_tokens).filter(|(a, b)| a == b).count();
            first_token_agrees = Some(agrees);
        }
    }
    Ok(Comparison { pictures: pictures.len(), feature_cosine, first_token_agrees })
}

/// One head at a time, so that only one is in memory.
fn see(folder: &Path, role: Role, pictures: &[Rgb8]) -> Result<Seen, VerifyError> {
    let bundle = Arc::new(Bundle::open(folder)?);
    let facts = bundle.manifest();
    let vision = match role {
        Role::Captioner => facts.captioner.as_ref().map(|head| &head.vision),
        Role::Matcher => facts.matcher.as_ref().map(|head| &head.vision),
        Role::Answerer => facts.answerer.as_ref().map(|head| &head.vision),
    };
    let vision = vision.ok_or(ModelError::Missing { role })?.clone();
    let model = Model::load(Arc::clone(&bundle), &[role], threads())?;
    let mut seen = Seen { features: Vec::new(), width: vision.config.width, first_tokens: Vec::new() };
    for picture in pictures {
        let mut view = model.see(picture)?;
        seen.features.push(view.features(&vision.graph).as_f32().unwrap_or_default().to_vec());
        if role == Role::Captioner {
            let logits = model.captioner()?.next_logits(&mut view, &[facts.tokens.decoder_start])?;
            let best = logits.iter().enumerate().max_by(|left, right| left.1.total_cmp(right.1));
            seen.first_tokens.push(best.map_or(0, |(token, _)| token));
        }
    }
    Ok(seen)
}

/// The test card and its mirror images and negative.
fn pictures() -> Result<Vec<Rgb8>, VerifyError> {
    let card = test_card().map_err(GoldenError::from)?;
    let (width, height) = (card.width(), card.height());
    let redrawn = |change: &dyn Fn(usize, usize) -> [u8; 3]| {
        let pixels = (0..height).flat_map(|y| (0..width).flat_map(move |x| change(x, y))).collect();
        Rgb8::new(width, height, pixels).map_err(GoldenError::from)
    };
    let at = |x: usize, y: usize| -> [u8; 3] {
        let start = (y * width + x) * 3;
        [card.values()[start], card.values()[start + 1], card.values()[start + 2]]
    };
    let mirrored = redrawn(&|x, y| at(width - 1 - x, y))?;
    let upside_down = redrawn(&|x, y| at(x, height - 1 - y))?;
    let negative = redrawn(&|x, y| at(x, y).map(|value| 255 - value))?;
    Ok(vec![card.clone(), mirrored, upside_down, negative])
}

fn cosine(left: &[f32], right: &[f32]) -> f32 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum::<f64>();
    let lengths = (dot(left, left) * dot(right, right)).sqrt();
    if lengths > 0.0 { (dot(left, right) / lengths) as f32 } else { 1.0 }
}

fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
