//! Nucleus sampling: a random token from the likeliest ones that together reach `top_p`.
//!
//! Source: transformers 5.23 `GenerationMixin._sample` and the warpers of `generation/logits_process.py`. The random
//! numbers are our own: ChaCha20, one stream for each caption.

use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use super::processors::process;
use super::{DecodingError, DecodingOptions, Hypothesis, Next, Search, SearchError, log_total};

/// What bends the distribution before a token is drawn; the fields are those of [`super::Strategy::Nucleus`].
#[derive(Clone, Copy)]
pub(super) struct Warp {
    pub(super) top_p: f32,
    pub(super) temperature: f32,
    pub(super) top_k: Option<usize>,
}

/// One caption that has not ended.
struct Sample {
    caption: usize,
    hypothesis: Hypothesis,
    random: ChaCha20Rng,
}

pub(super) struct State {
    warp: Warp,
    open: Vec<Sample>,
    ended: Vec<(usize, Hypothesis)>,
    length: usize,
}

impl State {
    pub(super) fn new(search: &Search, warp: Warp) -> State {
        let stream = |caption: usize| {
            let mut random = ChaCha20Rng::seed_from_u64(search.seed);
            random.set_stream(caption as u64);
            Sample { caption, hypothesis: Hypothesis::new(search.prompt), random }
        };
        let open = (0..search.captions).map(stream).collect();
        State { warp, open, ended: Vec::with_capacity(search.captions), length: search.prompt.len() }
    }

    pub(super) fn advance(&mut self, search: &Search, logits: &[Vec<f64>]) -> Result<Next, SearchError> {
        let (options, length) = (search.options, self.length);
        let is_first = length == search.prompt.len();
        let mut next = Vec::with_capacity(self.open.len());
        let mut still_open = Vec::with_capacity(self.open.len());
        for (index, mut sample) in std::mem::take(&mut self.open).into_iter().enumerate() {
            let row = if is_first { 0 } else { index };
            let weights = distribution(&logits[row], &sample.hypothesis.tokens, options, (search.end, self.warp));
            let token = draw(&weights, &mut sample.random).ok_or(DecodingError::NoToken { length })?;
            sample.hypothesis.log_prob += logits[row][token] - log_total(&logits[row]);
            sample.hypothesis.tokens.push(token as u32);
            if token as u32 == search.end || length + 1 >= options.max_length {
                self.ended.push((sample.caption, sample.hypothesis));
            } else {
                next.push((row, token as u32));
                still_open.push(sample);
            }
        }
        self.open = still_open;
        self.length += 1;
        if !self.open.is_empty() {
            return Ok(Next::Rows(next));
        }
        self.ended.sort_by_key(|(caption, _)| *caption);
        let done = std::mem::take(&mut self.ended).into_iter().map(|(_, hypothesis)| {
            let score = hypothesis.log_prob;
            hypothesis.decoded(score)
        });
        Ok(Next::Done(done.collect()))
    }
}

/// Weights to draw by, one for each token, the largest 1; all 0 where every token is forbidden.
fn distribution(logits: &[f64], tokens: &[u32], options: &DecodingOptions, (end, warp): (u32, Warp)) -> Vec<f64> {
    let mut scores = logits.to_vec();
    process(&mut scores, tokens, options, end);
    let temperature = f64::from(warp.temperature);
    scores.iter_mut().for_each(|score| *score /= temperature);
    if let Some(top_k) = warp.top_k {
        keep_top_k(&mut scores, top_k);
    }
    let most = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if most == f64::NEG_INFINITY {
        return vec![0.0; scores.len()];
    }
    let mut weights: Vec<f64> = scores.iter().map(|score| libm::exp(score - most)).collect();
    if warp.top_p < 1.0 {
        keep_top_p(&mut weights, f64::from(warp.top_p));
    }
    weights
}

/// Forbids what is below the `top_k`-th largest score. Source: `TopKLogitsWarper`.
fn keep_top_k(scores: &mut [f64], top_k: usize) {
    if top_k >= scores.len() {
        return;
    }
    let mut sorted = scores.to_vec();
    let (_, &mut least, _) = sorted.select_nth_unstable_by(top_k - 1, |a, b| b.total_cmp(a));
    scores.iter_mut().filter(|score| **score < least).for_each(|score| *score = f64::NEG_INFINITY);
}

/// Drops the smallest weights whose share, added up from the smallest, stays within `1 - top_p`; never the largest.
/// Of equal weights the one with the larger id goes first. Source: `TopPLogitsWarper`.
fn keep_top_p(weights: &mut [f64], top_p: f64) {
    let total: f64 = weights.iter().sum();
    // What is at most an even share of what may be dropped is dropped together, and need not be sorted.
    let small = (1.0 - top_p) * total / weights.len() as f64;
    let mut sum = 0.0;
    let mut order = Vec::new();
    for (index, weight) in weights.iter().enumerate() {
        if *weight > small {
            order.push(index);
        } else {
            sum += weight;
        }
    }
    order.sort_by(|&a, &b| weights[a].total_cmp(&weights[b]).then(b.cmp(&a)));
    let Some((_, all_but_largest)) = order.split_last() else { return };
    let dropped = all_but_largest.iter().take_while(|index| {
        sum += weights[**index];
        sum / total <= 1.0 - top_p
    });
    let least = order[dropped.count()];
    let (weight, id) = (weights[least], least);
    for (index, other) in weights.iter_mut().enumerate() {
        if *other < weight || *other == weight && index > id {
            *other = 0.0;
        }
    }
}

/// Draws an index with a chance in proportion to its weight; nothing where every weight is 0.
fn draw(weights: &[f64], random: &mut ChaCha20Rng) -> Option<usize> {
    let total: f64 = weights.iter().sum();
    // 53 random bits: every multiple of 2^-53 in [0, 1).
    let uniform = (random.next_u64() >> 11) as f64 / (1_u64 << 53) as f64;
    let mut sum = 0.0;
    let reached = weights.iter().position(|weight| {
        sum += weight;
        sum > uniform * total
    });
    reached.or_else(|| weights.iter().rposition(|&weight| weight > 0.0))
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::super::Strategy;
    use super::*;

    const GOLDENS: &str = include_str!("../../tests/goldens/decoding.json");

    fn numbers(value: &Value) -> Vec<f64> {
        value.as_array().unwrap().iter().map(|number| number.as_f64().unwrap()).collect()
    }

    #[test]
    fn distributions_equal_those_of_the_reference_warpers() {
        let goldens: Value = serde_json::from_str(GOLDENS).unwrap();
        let end = goldens["end"].as_u64().unwrap() as u32;
        let cases = goldens["distributions"].as_array().unwrap();
        assert_eq!(cases.len(), 18);
        for case in cases {
            let warp = Warp {
                top_p: case["top_p"].as_f64().unwrap() as f32,
                temperature: case["temperature"].as_f64().unwrap() as f32,
                top_k: case["top_k"].as_u64().map(|top_k| top_k as usize),
            };
            let options = DecodingOptions {
                strategy: Strategy::Greedy,
                repetition_penalty: case["repetition_penalty"].as_f64().unwrap() as f32,
                no_repeat_ngram: case["no_repeat_ngram_size"].as_u64().unwrap() as usize,
                min_length: case["min_length"].as_u64().unwrap() as usize,
                max_length: 20,
                length_penalty: 1.0,
            };
            let history: Vec<u32> = numbers(&case["history"]).iter().map(|&token| token as u32).collect();
            let weights = distribution(&numbers(&case["logits"]), &history, &options, (end, warp));
            let total: f64 = weights.iter().sum();
            for (weight, expected) in weights.iter().zip(numbers(&case["probabilities"])) {
                assert_eq!(*weight > 0.0, expected > 0.0, "{case}");
                assert!((weight / total - expected).abs() < 1e-6, "{case}");
            }
        }
    }

    #[test]
    fn tokens_are_drawn_as_often_as_their_weights_say() {
        let weights = [0.0, 1.0, 0.5, 0.0, 0.25, 0.25];
        let mut random = ChaCha20Rng::seed_from_u64(1);
        let mut counts = [0_u32; 6];
        let draws = 40_000;
        for _ in 0..draws {
            counts[draw(&weights, &mut random).unwrap()] += 1;
        }
        for (count, weight) in counts.iter().zip(weights) {
            // Five standard deviations of a binomial count at p = 1/2 are 500.
            assert!((f64::from(*count) - weight / 2.0 * f64::from(draws)).abs() < 500.0, "{counts:?}");
        }
        assert_eq!((counts[0], counts[3]), (0, 0));
    }

    #[test]
    fn nothing_is_drawn_where_everything_is_forbidden() {
        assert_eq!(draw(&[0.0; 4], &mut ChaCha20Rng::seed_from_u64(1)), None);
    }

    #[test]
    fn of_equal_tokens_at_the_border_the_smaller_id_stays() {
        let mut weights = [1.0, 1.0, 1.0, 1.0];
        keep_top_p(&mut weights, 0.4);
        assert_eq!(weights, [1.0, 1.0, 0.0, 0.0]);
    }
}
