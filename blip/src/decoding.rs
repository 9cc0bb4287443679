//! From next-token logits to captions: greedy, beam search and nucleus sampling.
//!
//! The answers are those of `generate` in Hugging Face transformers 5.23. Every sum, exponential and logarithm is taken
//! in `f64` with `libm`, so equal logits give equal captions on every platform.

use serde::{Deserialize, Serialize};

mod processors;
mod greedy;
mod beam;
mod nucleus;
mod searching;

pub use searching::{Next, SearchError, Searching};

/// Largest number of hypotheses that a beam search may follow.
pub const MAX_BEAMS: usize = 64;
/// Largest number of captions that one search may return.
pub const MAX_CAPTIONS: usize = 64;
/// Largest `max_length`, in tokens.
pub const MAX_LENGTH: usize = 4096;
/// Largest magnitude of the length penalty.
pub const MAX_LENGTH_PENALTY: f32 = 10.0;

/// How the next token is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "lowercase", deny_unknown_fields)]
pub enum Strategy {
    /// The likeliest token at every step.
    Greedy,
    /// The likeliest sequence among those that a few parallel hypotheses reach.
    Beam {
        /// Hypotheses followed at once; with 1 this is [`Strategy::Greedy`].
        beams: usize,
    },
    /// A random token from the likeliest ones.
    Nucleus {
        /// Share of the probability that the kept tokens must reach, in (0, 1].
        top_p: f32,
        /// Divides the logits: below 1 sharper, above 1 flatter.
        temperature: f32,
        /// Most tokens kept before `top_p` is applied; those that tie with the last one are kept too.
        top_k: Option<usize>,
    },
}

/// A search, as the bundle's manifest or a user describes it. Lengths count every token: start, prompt and end.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DecodingOptions {
    /// How the next token is chosen.
    pub strategy: Strategy,
    /// Above 1 makes a token that is already there less likely, 1 does nothing. The prompt counts.
    pub repetition_penalty: f32,
    /// No run of so many tokens occurs twice; 0 allows everything. The prompt counts.
    pub no_repeat_ngram: usize,
    /// The end token is not chosen before so many tokens are there.
    pub min_length: usize,
    /// No caption is longer.
    pub max_length: usize,
    /// A beam's score is its log-probability over the generated length to this power.
    pub length_penalty: f32,
}

/// Options that no search can follow.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{field} is {value}: {rule}")]
pub struct OptionsError {
    field: &'static str,
    value: String,
    rule: String,
}

impl DecodingOptions {
    /// Checks every option against its range and against the others.
    ///
    /// # Errors
    /// The first option out of its range, by name.
    pub fn validate(&self) -> Result<(), OptionsError> {
        match self.strategy {
            Strategy::Greedy => {}
            Strategy::Beam { beams } => between("beams", beams, 1, MAX_BEAMS)?,
            Strategy::Nucleus { top_p, temperature, top_k } => {
                if !(top_p > 0.0 && top_p <= 1.0) {
                    return Err(wrong("top_p", top_p, "it must be above 0 and at most 1"));
                }
                positive("temperature", temperature)?;
                between("top_k", top_k.unwrap_or(1), 1, usize::MAX)?;
            }
        }
        positive("repetition_penalty", self.repetition_penalty)?;
        between("max_length", self.max_length, 1, MAX_LENGTH)?;
        if self.min_length > self.max_length {
            let rule = format!("it must be at most max_length, {}", self.max_length);
            return Err(wrong("min_length", self.min_length, rule));
        }
        let penalty = self.length_penalty;
        if penalty.is_nan() || penalty.abs() > MAX_LENGTH_PENALTY {
            let rule = format!("it must lie between -{MAX_LENGTH_PENALTY} and {MAX_LENGTH_PENALTY}");
            return Err(wrong("length_penalty", penalty, rule));
        }
        Ok(())
    }
}

fn between(field: &'static str, value: usize, least: usize, most: usize) -> Result<(), OptionsError> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    let rule = if most == usize::MAX {
        format!("it must be at least {least}")
    } else {
        format!("it must lie between {least} and {most}")
    };
    Err(wrong(field, value, rule))
}

fn positive(field: &'static str, value: f32) -> Result<(), OptionsError> {
    if value.is_finite() && value > 0.0 {
        return Ok(());
    }
    Err(wrong(field, value, "it must be a number above 0"))
}

fn wrong(field: &'static str, value: impl ToString, rule: impl Into<String>) -> OptionsError {
    OptionsError { field, value: value.to_string(), rule: rule.into() }
}

/// A decoder as a search sees it: rows of tokens that grow by one token a step.
pub trait LanguageModel {
    /// Why a step failed.
    type Error: std::error::Error + 'static;

    /// Reads a whole prompt as the only row; returns the logits after its last token, `[1, V]`.
    ///
    /// # Errors
    /// Whatever keeps the model from answering.
    fn start(&mut self, prompt: &[u32]) -> Result<Vec<f32>, Self::Error>;

    /// Replaces the rows: new row `i` is old row `rows[i].0` with the token `rows[i].1` appended. An old row may be
    /// continued several times or not at all. Returns `[rows.len(), V]`, row after row.
    ///
    /// # Errors
    /// Whatever keeps the model from answering.
    fn step(&mut self, rows: &[(usize, u32)]) -> Result<Vec<f32>, Self::Error>;
}

/// What to search for.
#[derive(Clone, Copy, Debug)]
pub struct Search<'a> {
    /// The first tokens of every caption: the start token, then the words of the prompt.
    pub prompt: &'a [u32],
    /// The token that ends a caption.
    pub end: u32,
    /// How to search.
    pub options: &'a DecodingOptions,
    /// Seed of the nucleus samples. Caption `i` draws from stream `i`, so it does not depend on how many are asked for.
    pub seed: u64,
    /// Captions wanted: 1 for greedy, at most `beams` for a beam search, independent samples for nucleus.
    pub captions: usize,
}

/// One caption as tokens.
#[derive(Clone, Debug, PartialEq)]
pub struct Decoded {
    /// The prompt, the generated tokens, and the end token if it was generated. No padding.
    pub tokens: Vec<u32>,
    /// Sum of the natural logarithms of the model's own probabilities of the generated tokens, end token included.
    pub log_prob: f32,
    /// What a beam search ranks by: log-probability after the penalties over length; elsewhere `log_prob`.
    pub score: f32,
}

/// Why there is no caption.
#[derive(Debug, thiserror::Error)]
pub enum DecodingError<E: std::error::Error + 'static> {
    /// The options contradict themselves or the number of captions.
    #[error(transparent)]
    Options(#[from] OptionsError),
    /// Nothing to start from.
    #[error("the prompt is empty: it must have at least the start token")]
    EmptyPrompt,
    /// The prompt leaves no room for a caption.
    #[error("the prompt has {prompt} tokens, start token included, and max_length is {max_length}: shorten it")]
    PromptTooLong {
        /// Tokens in the prompt.
        prompt: usize,
        /// The option.
        max_length: usize,
    },
    /// The model could not answer.
    #[error("the model failed after {length} tokens")]
    Model {
        /// Tokens in a row.
        length: usize,
        /// The model's own words.
        source: E,
    },
    /// The model's answer is not one row of logits for each row of tokens.
    #[error("the model gave {found} logits for {rows} rows, and a vocabulary needs at least {least} a row")]
    LogitsShape {
        /// Logits that came.
        found: usize,
        /// Rows asked for.
        rows: usize,
        /// The end token's id and one, or the size of the first answer.
        least: usize,
    },
    /// The logits are not numbers to choose by.
    #[error("the logits after {length} tokens have no maximum: the model's weights or its input are broken")]
    NotFinite {
        /// Tokens in the row.
        length: usize,
    },
    /// The rules forbid every token.
    #[error("no token is allowed after {length} tokens: relax no_repeat_ngram or min_length")]
    NoToken {
        /// Tokens in the row.
        length: usize,
    },
}

/// Searches for captions, the best first (nucleus: in the order of their streams).
///
/// A beam search returns fewer captions than asked for if the rules leave fewer.
///
/// # Errors
/// Wrong options, a prompt that is empty or too long, a model that fails or answers with something other than logits,
/// and rules that forbid every token.
pub fn decode<M: LanguageModel>(model: &mut M, search: &Search) -> Result<Vec<Decoded>, DecodingError<M::Error>> {
    let mut searching = Searching::new(search).map_err(DecodingError::of_search)?;
    let mut logits = model.start(search.prompt);
    loop {
        let length = searching.length();
        let answer = logits.map_err(|source| DecodingError::Model { length, source })?;
        match searching.advance(&answer).map_err(DecodingError::of_search)? {
            Next::Rows(rows) => logits = model.step(&rows),
            Next::Done(found) => return Ok(found),
        }
    }
}

impl<E: std::error::Error + 'static> DecodingError<E> {
    fn of_search(error: SearchError) -> DecodingError<E> {
        match error {
            DecodingError::Options(error) => DecodingError::Options(error),
            DecodingError::EmptyPrompt => DecodingError::EmptyPrompt,
            DecodingError::PromptTooLong { prompt, max_length } => DecodingError::PromptTooLong { prompt, max_length },
            DecodingError::Model { source, .. } => match source {},
            DecodingError::LogitsShape { found, rows, least } => DecodingError::LogitsShape { found, rows, least },
            DecodingError::NotFinite { length } => DecodingError::NotFinite { length },
            DecodingError::NoToken { length } => DecodingError::NoToken { length },
        }
    }
}

/// One caption in the making.
#[derive(Clone)]
struct Hypothesis {
    tokens: Vec<u32>,
    /// Of the model's own probabilities.
    log_prob: f64,
    /// Of what the search ranks by.
    score: f64,
}

impl Hypothesis {
    fn new(prompt: &[u32]) -> Hypothesis {
        Hypothesis { tokens: prompt.to_vec(), log_prob: 0.0, score: 0.0 }
    }

    fn extended(&self, token: u32, log_prob: f64, score: f64) -> Hypothesis {
        let mut tokens = Vec::with_capacity(self.tokens.len() + 1);
        tokens.extend_from_slice(&self.tokens);
        tokens.push(token);
        Hypothesis { tokens, log_prob: self.log_prob + log_prob, score }
    }

    fn decoded(self, score: f64) -> Decoded {
        Decoded { tokens: self.tokens, log_prob: self.log_prob as f32, score: score as f32 }
    }
}

/// Natural logarithm of the softmax. The largest logit is finite.
fn log_softmax(logits: &[f64]) -> Vec<f64> {
    let normalizer = log_total(logits);
    logits.iter().map(|logit| logit - normalizer).collect()
}

/// Natural logarithm of the sum of exponentials. The largest logit is finite.
fn log_total(logits: &[f64]) -> f64 {
    let most = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let total: f64 = logits.iter().map(|logit| libm::exp(logit - most)).sum();
    most + libm::log(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options() -> DecodingOptions {
        DecodingOptions {
            strategy: Strategy::Nucleus { top_p: 0.9, temperature: 1.0, top_k: None },
            repetition_penalty: 1.1,
            no_repeat_ngram: 0,
            min_length: 5,
            max_length: 20,
            length_penalty: 1.0,
        }
    }

    #[test]
    fn options_survive_json() {
        for strategy in [Strategy::Greedy, Strategy::Beam { beams: 3 }, options().strategy] {
            let options = DecodingOptions { strategy, ..options() };
            let text = serde_json::to_string(&options).unwrap();
            assert_eq!(serde_json::from_str::<DecodingOptions>(&text).unwrap(), options, "{text}");
        }
    }

    #[test]
    fn every_option_out_of_range_is_named() {
        let nucleus = |top_p, temperature, top_k| DecodingOptions {
            strategy: Strategy::Nucleus { top_p, temperature, top_k },
            ..options()
        };
        let beam = |beams| DecodingOptions { strategy: Strategy::Beam { beams }, ..options() };
        let cases = [
            ("beams", beam(0)),
            ("beams", beam(MAX_BEAMS + 1)),
            ("top_p", nucleus(0.0, 1.0, None)),
            ("top_p", nucleus(1.5, 1.0, None)),
            ("top_p", nucleus(f32::NAN, 1.0, None)),
            ("temperature", nucleus(0.9, 0.0, None)),
            ("temperature", nucleus(0.9, f32::INFINITY, None)),
            ("top_k", nucleus(0.9, 1.0, Some(0))),
            ("repetition_penalty", DecodingOptions { repetition_penalty: -1.0, ..options() }),
            ("min_length", DecodingOptions { min_length: 21, ..options() }),
            ("max_length", DecodingOptions { max_length: 0, ..options() }),
            ("max_length", DecodingOptions { max_length: usize::MAX, ..options() }),
            ("length_penalty", DecodingOptions { length_penalty: f32::NAN, ..options() }),
        ];
        assert_eq!(options().validate(), Ok(()));
        for (field, options) in cases {
            assert_eq!(options.validate().unwrap_err().field, field, "{options:?}");
        }
    }
}
