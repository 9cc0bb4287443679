//! The likeliest token at every step.
//!
//! Source: transformers 5.23 `GenerationMixin._sample` with `do_sample=False`.

use super::processors::process;
use super::{DecodingError, Hypothesis, Next, Search, SearchError, log_total};

pub(super) struct State {
    caption: Hypothesis,
}

impl State {
    pub(super) fn new(search: &Search) -> State {
        State { caption: Hypothesis::new(search.prompt) }
    }

    pub(super) fn advance(&mut self, search: &Search, mut logits: Vec<Vec<f64>>) -> Result<Next, SearchError> {
        let caption = &mut self.caption;
        let row = &mut logits[0];
        let length = caption.tokens.len();
        let (normalizer, unprocessed) = (log_total(row), row.clone());
        process(row, &caption.tokens, search.options, search.end);
        let token = likeliest(row).ok_or(DecodingError::NoToken { length })?;
        caption.log_prob += unprocessed[token] - normalizer;
        caption.tokens.push(token as u32);
        if token as u32 == search.end || caption.tokens.len() >= search.options.max_length {
            let score = caption.log_prob;
            return Ok(Next::Done(vec![caption.clone().decoded(score)]));
        }
        Ok(Next::Rows(vec![(0, token as u32)]))
    }
}

/// Index of the largest score, the first of equals; nothing where every token is forbidden.
fn likeliest(scores: &[f64]) -> Option<usize> {
    let mut best = None;
    for (index, &score) in scores.iter().enumerate() {
        if score > best.map_or(f64::NEG_INFINITY, |best: usize| scores[best]) {
            best = Some(index);
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_of_equals_wins_and_nothing_wins_where_all_is_forbidden() {
        assert_eq!(likeliest(&[0.0, 3.0, 3.0]), Some(1));
        assert_eq!(likeliest(&[f64::NEG_INFINITY; 2]), None);
    }
}
