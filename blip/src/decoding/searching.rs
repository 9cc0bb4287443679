//! A search that waits for logits, so that many can share one pass of a model.

use super::nucleus::Warp;
use super::{Decoded, DecodingError, MAX_CAPTIONS, Search, Strategy, beam, between, greedy, nucleus};

/// Why a search that computes no logits itself stops; never [`DecodingError::Model`].
pub type SearchError = DecodingError<std::convert::Infallible>;

/// What a [`Searching`] wants.
#[derive(Clone, Debug, PartialEq)]
pub enum Next {
    /// Logits of these rows, which replace the ones before: row `i` is old row `.0` with the token `.1` appended. An old
    /// row may be continued several times or not at all.
    Rows(Vec<(usize, u32)>),
    /// Nothing: these are the captions, as [`super::decode`] returns them.
    Done(Vec<Decoded>),
}

/// A [`Search`] in progress. Its first logits are those after the prompt, one row.
pub struct Searching<'a> {
    search: Search<'a>,
    /// Tokens of every row.
    length: usize,
    /// Rows whose logits come next.
    rows: usize,
    vocabulary: Option<usize>,
    state: State,
}

enum State {
    Greedy(greedy::State),
    Beam(beam::State),
    Nucleus(nucleus::State),
}

impl<'a> Searching<'a> {
    /// Begins.
    ///
    /// # Errors
    /// Wrong options, and a prompt that is empty or too long.
    pub fn new(search: &Search<'a>) -> Result<Searching<'a>, SearchError> {
        let options = search.options;
        options.validate()?;
        if search.prompt.is_empty() {
            return Err(DecodingError::EmptyPrompt);
        }
        if search.prompt.len() >= options.max_length {
            return Err(DecodingError::PromptTooLong { prompt: search.prompt.len(), max_length: options.max_length });
        }
        let most = match options.strategy {
            Strategy::Greedy => 1,
            Strategy::Beam { beams } => beams,
            Strategy::Nucleus { .. } => MAX_CAPTIONS,
        };
        between("captions", search.captions, 1, most)?;
        let state = match options.strategy {
            Strategy::Greedy | Strategy::Beam { beams: 1 } => State::Greedy(greedy::State::new(search)),
            Strategy::Beam { beams } => State::Beam(beam::State::new(search, beams)),
            Strategy::Nucleus { top_p, temperature, top_k } => {
                State::Nucleus(nucleus::State::new(search, Warp { top_p, temperature, top_k }))
            }
        };
        Ok(Searching { search: *search, length: search.prompt.len(), rows: 1, vocabulary: None, state })
    }

    /// Tokens of each row whose logits come next.
    pub fn length(&self) -> usize {
        self.length
    }

    /// Most rows that a search of these options and this number of captions asks for at once.
    pub fn most_rows(search: &Search) -> usize {
        match search.options.strategy {
            Strategy::Greedy => 1,
            Strategy::Beam { beams } => beams,
            Strategy::Nucleus { .. } => search.captions,
        }
    }

    /// Takes the logits that were asked for, `[rows, V]`.
    ///
    /// # Errors
    /// Logits of another shape or that are not numbers, and rules that forbid every token.
    pub fn advance(&mut self, logits: &[f32]) -> Result<Next, SearchError> {
        let logits = self.checked(logits)?;
        let next = match &mut self.state {
            State::Greedy(state) => state.advance(&self.search, logits)?,
            State::Beam(state) => state.advance(&self.search, &logits)?,
            State::Nucleus(state) => state.advance(&self.search, &logits)?,
        };
        self.length += 1;
        self.rows = match &next {
            Next::Rows(rows) => rows.len(),
            Next::Done(_) => 0,
        };
        Ok(next)
    }

    fn checked(&mut self, logits: &[f32]) -> Result<Vec<Vec<f64>>, SearchError> {
        let (rows, length, found) = (self.rows, self.length, logits.len());
        let width = *self.vocabulary.get_or_insert(found / rows.max(1));
        let least = width.max((self.search.end as usize).saturating_add(1));
        if width < least || width.checked_mul(rows) != Some(found) {
            return Err(DecodingError::LogitsShape { found, rows, least });
        }
        let largest = |row: &[f32]| row.iter().fold(f32::NEG_INFINITY, |most, &logit| most.max(logit));
        let broken = |row: &[f32]| row.iter().any(|logit| logit.is_nan()) || !largest(row).is_finite();
        if logits.chunks_exact(width).any(broken) {
            return Err(DecodingError::NotFinite { length });
        }
        Ok(logits.chunks_exact(width).map(|row| row.iter().map(|&logit| f64::from(logit)).collect()).collect())
    }
}
