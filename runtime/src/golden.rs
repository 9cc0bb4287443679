//! A bundle's self-test: what it answers to a picture that every program can draw.

use blip::decoding::DecodingOptions;
use blip::pixels::{Rgb8, Rgb8Error};
use serde::{Deserialize, Serialize};

use crate::answerer::AnswerError;
use crate::captioner::CaptionError;
use crate::decoder::{Caption, Writing};
use crate::inference::InferenceError;
use crate::matcher::MatchError;
use crate::model::{Model, ModelError};
use crate::vision::View;

/// Side of the test card, in pixels.
const CARD_SIDE: usize = 96;
/// How far a probability or cosine may move between instruction sets.
const TOLERANCE: f32 = 1e-3;
/// How far a log-probability may move between instruction sets.
const LOG_PROB_TOLERANCE: f32 = 1e-2;

/// A self-test that cannot be run or fails.
#[derive(Debug, thiserror::Error)]
pub enum GoldenError {
    /// The stored answers are not readable.
    #[error("golden answers are not readable: {0}")]
    Syntax(#[from] serde_json::Error),
    /// An answer differs.
    #[error("self-test: {what} is {found}, the bundle was made with {expected}: do not use this bundle here")]
    Differs {
        /// What was asked.
        what: &'static str,
        /// The answer here.
        found: String,
        /// The answer where the bundle was made.
        expected: String,
    },
    /// The test card cannot be drawn.
    #[error(transparent)]
    Card(#[from] Rgb8Error),
    /// A head is missing.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// A graph stopped.
    #[error(transparent)]
    Inference(#[from] InferenceError),
    /// The captioner stopped.
    #[error(transparent)]
    Caption(#[from] CaptionError),
    /// The matcher stopped.
    #[error(transparent)]
    Match(#[from] MatchError),
    /// The answerer stopped.
    #[error(transparent)]
    Answer(#[from] AnswerError),
}

/// A text and its probability.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GoldenText {
    /// Ids, start token first.
    pub token_ids: Vec<u32>,
    /// Natural logarithm of the probability of the generated tokens.
    pub log_prob: f32,
}

/// Answers to the test card; a head that the bundle lacks has none.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Golden {
    /// The captioner's text with the bundle's own decoding.
    pub caption: Option<GoldenText>,
    /// ITM of an empty text.
    pub itm: Option<f32>,
    /// ITC of an empty text.
    pub itc: Option<f32>,
    /// The answer to an empty question.
    pub answer: Option<GoldenText>,
}

impl Golden {
    /// The answers as a bundle stores them.
    pub fn to_json(&self) -> Vec<u8> {
        let mut bytes = serde_json::to_vec_pretty(self).expect("answers hold nothing that JSON cannot");
        bytes.push(b'\n');
        bytes
    }
}

/// The test card: colour ramps with a frame, a disc and a cross, in integer arithmetic.
///
/// # Errors
/// None: the size is within every limit.
pub fn test_card() -> Result<Rgb8, Rgb8Error> {
    let side = CARD_SIDE as i64;
    let mut values = Vec::with_capacity(CARD_SIDE * CARD_SIDE * 3);
    for y in 0..side {
        for x in 0..side {
            let (dx, dy) = (x - side / 3, y - side / 2);
            let colour = if dx * dx + dy * dy < side * side / 16 {
                [220, 40, 30]
            } else if x == y || x + y == side {
                [250, 250, 240]
            } else {
                [x * 255 / side, y * 255 / side, (x + y) * 127 / side]
            };
            values.extend(colour.map(|value| value as u8));
        }
    }
    Rgb8::new(CARD_SIDE, CARD_SIDE, values)
}

/// Asks every head of `model` that its bundle has.
///
/// # Errors
/// A head that was not loaded, or one that stops.
pub fn answers(model: &Model) -> Result<Golden, GoldenError> {
    let manifest = model.bundle().manifest();
    let mut view = model.see(&test_card()?)?;
    let mut golden = Golden::default();
    if manifest.captioner.is_some() {
        golden.caption = caption(model, &mut view)?;
    }
    if manifest.matcher.is_some() {
        let matcher = model.matcher()?;
        golden.itm = Some(matcher.match_probability(&mut view, "")?);
        golden.itc = Some(matcher.embed_text("")?.cosine(&matcher.embed_image(&view)?));
    }
    if let Some(facts) = &manifest.answerer {
        let answers = model.answerer()?.answer(&mut view, "", &writing("", facts.decoding))?;
        golden.answer = answers.into_iter().next().map(GoldenText::from);
    }
    Ok(golden)
}

fn caption(model: &Model, view: &mut View) -> Result<Option<GoldenText>, GoldenError> {
    let captioner = model.captioner()?;
    let facts = captioner.facts();
    let captions = captioner.describe(view, &writing(&facts.prompt, facts.decoding))?;
    Ok(captions.into_iter().next().map(GoldenText::from))
}

fn writing(prompt: &str, options: DecodingOptions) -> Writing {
    Writing { prompt: prompt.to_owned(), options, seed: 0, texts: 1 }
}

fn expected(model: &Model) -> Result<Golden, GoldenError> {
    let bytes = model.bundle().golden().map_err(InferenceError::from)?;
    Ok(serde_json::from_slice(bytes)?)
}

/// Asks the captioner alone and compares with its answer in the bundle.
///
/// # Errors
/// [`GoldenError::Differs`] if it differs.
pub fn check_captioner(model: &Model) -> Result<(), GoldenError> {
    check_captioner_within(model, LOG_PROB_TOLERANCE)
}

/// As [`check_captioner`], with another tolerance for its log-probability.
///
/// # Errors
/// As [`check_captioner`].
pub fn check_captioner_within(model: &Model, tolerance: f32) -> Result<(), GoldenError> {
    let mut view = model.see(&test_card()?)?;
    same_text("the caption", &caption(model, &mut view)?, &expected(model)?.caption, tolerance)
}

/// Asks every head and compares with the answers in the bundle.
///
/// # Errors
/// [`GoldenError::Differs`] names the first answer that differs.
pub fn check(model: &Model) -> Result<(), GoldenError> {
    check_within(model, LOG_PROB_TOLERANCE)
}

/// As [`check`], with another tolerance for log-probabilities: that of a release's health contract.
///
/// # Errors
/// As [`check`].
pub fn check_within(model: &Model, tolerance: f32) -> Result<(), GoldenError> {
    let expected = expected(model)?;
    let found = answers(model)?;
    same_text("the caption", &found.caption, &expected.caption, tolerance)?;
    same_number("ITM", found.itm, expected.itm)?;
    same_number("ITC", found.itc, expected.itc)?;
    same_text("the answer", &found.answer, &expected.answer, tolerance)
}

fn same_text(
    what: &'static str,
    found: &Option<GoldenText>,
    expected: &Option<GoldenText>,
    tolerance: f32,
) -> Result<(), GoldenError> {
    let same = match (found, expected) {
        (Some(found), Some(expected)) => {
            found.token_ids == expected.token_ids && (found.log_prob - expected.log_prob).abs() <= tolerance
        }
        _ => found == expected,
    };
    if same {
        return Ok(());
    }
    Err(GoldenError::Differs { what, found: format!("{found:?}"), expected: format!("{expected:?}") })
}

fn same_number(what: &'static str, found: Option<f32>, expected: Option<f32>) -> Result<(), GoldenError> {
    let same = match (found, expected) {
        (Some(found), Some(expected)) => (found - expected).abs() <= TOLERANCE,
        _ => found == expected,
    };
    if same {
        return Ok(());
    }
    Err(GoldenError::Differs { what, found: format!("{found:?}"), expected: format!("{expected:?}") })
}

impl From<Caption> for GoldenText {
    fn from(caption: Caption) -> Self {
        Self { token_ids: caption.token_ids, log_prob: caption.log_prob }
    }
}
