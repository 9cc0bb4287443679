//! Beam search: `beams` hypotheses grow side by side, and the best finished ones are kept.
//!
//! Source: transformers 5.23 `GenerationMixin._beam_search` with `early_stopping=False`. Where that code marks a
//! hypothesis with a score of -1e9, it is absent here, so there are fewer rows when the rules leave fewer tokens.

use super::processors::process;
use super::{DecodingError, Hypothesis, Next, Search, SearchError, log_softmax};

/// One hypothesis and one token that may follow it.
#[derive(Clone, Copy)]
struct Candidate {
    row: usize,
    token: u32,
    /// Of the hypothesis with the token.
    score: f64,
    /// Of the token alone, from the model.
    log_prob: f64,
}

pub(super) struct State {
    beams: usize,
    /// One for each row.
    running: Vec<Hypothesis>,
    /// Best first, at most `beams`.
    finished: Vec<Hypothesis>,
    length: usize,
}

impl State {
    pub(super) fn new(search: &Search, beams: usize) -> State {
        let running = vec![Hypothesis::new(search.prompt)];
        State { beams, running, finished: Vec::with_capacity(2 * beams), length: search.prompt.len() }
    }

    pub(super) fn advance(&mut self, search: &Search, logits: &[Vec<f64>]) -> Result<Next, SearchError> {
        let State { beams, running, finished, length } = self;
        let (beams, options) = (*beams, search.options);
        let candidates = best_candidates(running, logits, search, 2 * beams);
        if candidates.is_empty() && finished.is_empty() {
            return Err(DecodingError::NoToken { length: *length });
        }
        *length += 1;
        let generated = (*length - search.prompt.len()) as f64;
        let normalizer = libm::pow(generated, f64::from(options.length_penalty));
        let ends = |candidate: &Candidate| candidate.token == search.end || *length >= options.max_length;
        let extended =
            |candidate: &Candidate, score| running[candidate.row].extended(candidate.token, candidate.log_prob, score);

        let ended = candidates.iter().take(beams).filter(|candidate| ends(candidate));
        finished.extend(ended.map(|candidate| extended(candidate, candidate.score / normalizer)));
        finished.sort_by(|a, b| b.score.total_cmp(&a.score));
        finished.truncate(beams);

        let open: Vec<&Candidate> = candidates.iter().filter(|candidate| !ends(candidate)).take(beams).collect();
        let next: Vec<(usize, u32)> = open.iter().map(|candidate| (candidate.row, candidate.token)).collect();
        *running = open.into_iter().map(|candidate| extended(candidate, candidate.score)).collect();
        let worst = if finished.len() == beams { finished.last() } else { None };
        let can_win = |leader: &Hypothesis| worst.is_none_or(|worst| leader.score / normalizer > worst.score);
        if running.first().is_some_and(can_win) {
            return Ok(Next::Rows(next));
        }
        finished.truncate(search.captions);
        let done = std::mem::take(finished).into_iter().map(|hypothesis| {
            let score = hypothesis.score;
            hypothesis.decoded(score)
        });
        Ok(Next::Done(done.collect()))
    }
}

/// The `count` best continuations of all rows, best first; of equals the one from the earlier row, then the smaller id.
fn best_candidates(running: &[Hypothesis], logits: &[Vec<f64>], search: &Search, count: usize) -> Vec<Candidate> {
    let mut best: Vec<Candidate> = Vec::with_capacity(count + 1);
    for (row, (hypothesis, logits)) in running.iter().zip(logits).enumerate() {
        let log_probs = log_softmax(logits);
        let mut scores = log_probs.clone();
        process(&mut scores, &hypothesis.tokens, search.options, search.end);
        for (token, (&score, &log_prob)) in scores.iter().zip(&log_probs).enumerate() {
            let score = hypothesis.score + score;
            let is_full = best.len() == count;
            if score == f64::NEG_INFINITY || is_full && best.last().is_some_and(|last| score <= last.score) {
                continue;
            }
            let place = best.partition_point(|other| other.score >= score);
            best.insert(place, Candidate { row, token: token as u32, score, log_prob });
            best.truncate(count);
        }
    }
    best
}
