//! What the options allow at one step, before a strategy chooses.
//!
//! Source: transformers 5.23 `generation/logits_process.py`, in the order of `GenerationMixin._get_logits_processor`.

use super::DecodingOptions;

/// Applies repetition penalty, forbidden n-grams and least length to one row of scores.
///
/// `scores` are logits (greedy, nucleus) or log-probabilities (beam); a forbidden token becomes minus infinity. `tokens`
/// are all tokens of the row, prompt included.
pub(super) fn process(scores: &mut [f64], tokens: &[u32], options: &DecodingOptions, end: u32) {
    if options.repetition_penalty != 1.0 {
        penalize_repetition(scores, tokens, f64::from(options.repetition_penalty));
    }
    if options.no_repeat_ngram > 0 {
        forbid_ngrams(scores, tokens, options.no_repeat_ngram);
    }
    if tokens.len() < options.min_length {
        forbid(scores, end);
    }
}

/// Source: `RepetitionPenaltyLogitsProcessor`.
fn penalize_repetition(scores: &mut [f64], tokens: &[u32], penalty: f64) {
    let mut seen = tokens.to_vec();
    seen.sort_unstable();
    seen.dedup();
    for token in seen {
        if let Some(score) = scores.get_mut(token as usize) {
            *score = if *score < 0.0 { *score * penalty } else { *score / penalty };
        }
    }
}

/// Source: `NoRepeatNGramLogitsProcessor`.
fn forbid_ngrams(scores: &mut [f64], tokens: &[u32], size: usize) {
    if tokens.len() < size {
        return;
    }
    let suffix = &tokens[tokens.len() + 1 - size..];
    for window in tokens.windows(size) {
        if window[..size - 1] == *suffix {
            forbid(scores, window[size - 1]);
        }
    }
}

fn forbid(scores: &mut [f64], token: u32) {
    if let Some(score) = scores.get_mut(token as usize) {
        *score = f64::NEG_INFINITY;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_seen_twice_is_penalized_once_and_an_unknown_one_not_at_all() {
        let mut scores = [2.0, -2.0, 1.0];
        penalize_repetition(&mut scores, &[0, 0, 1, 99], 2.0);
        assert_eq!(scores, [1.0, -4.0, 1.0]);
    }

    #[test]
    fn single_tokens_and_pairs_do_not_come_twice() {
        let mut scores = [0.0; 5];
        forbid_ngrams(&mut scores, &[1, 3], 1);
        assert_eq!(scores, [0.0, f64::NEG_INFINITY, 0.0, f64::NEG_INFINITY, 0.0]);
        let mut scores = [0.0; 5];
        forbid_ngrams(&mut scores, &[1, 3, 1, 4, 1], 2);
        assert_eq!(scores, [0.0, 0.0, 0.0, f64::NEG_INFINITY, f64::NEG_INFINITY]);
        let mut scores = [0.0; 5];
        forbid_ngrams(&mut scores, &[1], 2);
        assert_eq!(scores, [0.0; 5]);
    }
}
