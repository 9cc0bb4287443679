//! Writes texts for many pictures at once, over cached keys and values.
//!
//! Each picture has a search of its own (`blip::decoding`); one pass of the decoder answers all of them. A search's
//! random numbers depend on its own seed alone, so that a picture's texts do not depend on those it is written with.

mod answers;
mod words;

use blip::caption::clean_question_for_training;
use blip::decoding::{DecodingOptions, Next, Search, SearchError, Searching};
use blip::pixels::Normalization;
use blip::tokenizer::{Tokenizer, TokenizerError};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::engine::{Device, EngineError, Order, RowsShape, TokensShape};
use crate::model::{Blip, Continued, LanguageHead, Memory, Pass, TextStack, Texts};
use crate::tape::{Tape, Var};

pub use answers::{Chosen, RANK_SMOOTHING, Ranking};
pub use words::{MAX_TEXT_TOKENS, cut_to, padded};

/// A text that cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum GenerationError {
    /// The device.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// A prompt, question or answer that the model cannot read.
    #[error(transparent)]
    Tokens(#[from] TokenizerError),
    /// A picture's search.
    #[error("picture {picture} of the batch: {source}")]
    Search {
        /// Its place in the batch, from 0.
        picture: usize,
        /// Why.
        source: SearchError,
    },
    /// A model without what the work needs.
    #[error("the model has no {part}: give {wanted}")]
    Missing {
        /// The part.
        part: &'static str,
        /// A checkpoint that has it.
        wanted: &'static str,
    },
    /// More tokens than the model has positions for.
    #[error("max length is {max_length} tokens, the model has {positions} positions: ask for at most {positions}")]
    Positions {
        /// Tokens asked for.
        max_length: usize,
        /// Rows of the position table.
        positions: usize,
    },
    /// Lists that belong together and are not of one length.
    #[error("{found} {what} for {pictures} pictures")]
    Count {
        /// What is counted.
        what: &'static str,
        /// How many there are.
        found: usize,
        /// How many there should be.
        pictures: usize,
    },
}

/// A model with its values and its words, on a device.
pub struct Network<'m, D: Device> {
    /// Where it computes.
    pub device: &'m D,
    /// What it computes.
    pub model: &'m Blip,
    /// With these values.
    pub parameters: &'m D::Flat,
    /// Its words.
    pub tokenizer: &'m Tokenizer,
    /// How its pixels are normalized.
    pub normalization: Normalization,
    /// The token that its image-grounded encoder starts from: `[ENC]` as it was trained, or another one for comparison
    /// with code that leaves `[CLS]` there.
    pub encoder_token: u32,
}

impl<D: Device> Clone for Network<'_, D> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<D: Device> Copy for Network<'_, D> {}

/// Pictures that a model has seen.
pub struct Seen<D: Device> {
    /// `[pictures, tokens, width]`.
    pub states: Var<D>,
    /// Their shape.
    pub shape: TokensShape,
}

/// What to write.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Writing {
    /// Words that each text starts with; empty for none. The authors caption with "a picture of ".
    pub prompt: String,
    /// How to search.
    pub options: DecodingOptions,
    /// Texts for each picture.
    pub texts: usize,
}

/// A text with what it came from.
#[derive(Clone, Debug, PartialEq)]
pub struct Written {
    /// The words, prompt left out.
    pub text: String,
    /// Start token and prompt first, end token last if it was generated.
    pub ids: Vec<u32>,
    /// Natural logarithm of the model's probability of the generated tokens.
    pub log_prob: f32,
}

impl<'m, D: Device> Network<'m, D> {
    /// Sides of a picture for this model, in pixels.
    pub fn image_size(&self) -> usize {
        self.model.vision.config.image_size
    }

    /// Pixels `[pictures, 3, S, S]` through the image encoder.
    ///
    /// # Errors
    /// As the device.
    pub fn see(&self, pixels: &[f32], pictures: usize) -> Result<Seen<D>, GenerationError> {
        let mut tape = Tape::forgetting(self.device, self.parameters);
        let pixels = self.device.upload(pixels)?;
        let states = self.model.vision.forward(&mut tape, &pixels, pictures, Pass::still())?;
        Ok(Seen { states, shape: self.model.vision.shape(pictures) })
    }

    /// Some of the pictures, in any order and as often as wanted.
    ///
    /// # Errors
    /// As the device.
    pub fn gather(&self, seen: &Seen<D>, pictures: &[u32]) -> Result<Seen<D>, GenerationError> {
        let mut tape = Tape::forgetting(self.device, self.parameters);
        let all = RowsShape { rows: seen.shape.batch, width: seen.shape.tokens * seen.shape.width };
        let states = tape.gather_rows(&seen.states, &self.device.upload_indices(pictures)?, all)?;
        Ok(Seen { states, shape: TokensShape { batch: pictures.len(), ..seen.shape } })
    }

    /// Writes about each picture, the best text first (nucleus: in the order of their streams). Each picture has a seed.
    ///
    /// # Errors
    /// A model without a decoder, options that no search can follow, a prompt that leaves no room, or the device.
    pub fn write(
        &self,
        seen: &Seen<D>,
        seeds: &[u64],
        writing: &Writing,
    ) -> Result<Vec<Vec<Written>>, GenerationError> {
        let memory = Memory { states: &seen.states, shape: seen.shape, rows: None, lengths: None };
        self.write_beside(&memory, seeds, writing)
    }

    /// Answers a question about each picture.
    ///
    /// # Errors
    /// As [`Network::write`]; a model without a question encoder, or other than one question for each picture.
    pub fn answer(
        &self,
        seen: &Seen<D>,
        questions: &[String],
        seeds: &[u64],
        writing: &Writing,
    ) -> Result<Vec<Vec<Written>>, GenerationError> {
        let asked = self.ask(seen, questions)?;
        self.write_beside(&asked.memory(), seeds, writing)
    }

    /// Reads a question about each picture.
    pub(crate) fn ask(&self, seen: &Seen<D>, questions: &[String]) -> Result<Asked<D>, GenerationError> {
        let missing = GenerationError::Missing { part: "question encoder", wanted: "an answerer" };
        let encoder = self.model.encoder.as_ref().ok_or(missing)?;
        let pictures = seen.shape.batch;
        if questions.len() != pictures {
            return Err(GenerationError::Count { what: "questions", found: questions.len(), pictures });
        }
        let separator = self.tokenizer.tokens().separator;
        let mut rows = Vec::with_capacity(pictures);
        for question in questions {
            let ids = self.tokenizer.classified(&clean_question_for_training(question), self.encoder_token)?;
            rows.push(cut_to(ids, encoder.config.positions.min(MAX_TEXT_TOKENS), separator));
        }
        let (ids, lengths, tokens) = padded(&rows, self.tokenizer.tokens().pad);
        let lengths = self.device.upload_indices(&lengths)?;
        let texts = Texts { ids: &self.device.upload_indices(&ids)?, lengths: &lengths, batch: pictures, tokens };
        let memory = Memory { states: &seen.states, shape: seen.shape, rows: None, lengths: None };
        let mut tape = Tape::forgetting(self.device, self.parameters);
        let states = encoder.forward(&mut tape, &texts, Some(&memory), Order::Free, Pass::still())?;
        Ok(Asked { states, shape: encoder.shape(pictures, tokens), lengths })
    }

    pub(crate) fn decoder(&self) -> Result<&'m (TextStack, LanguageHead), GenerationError> {
        let missing = GenerationError::Missing { part: "text decoder", wanted: "a captioner or an answerer" };
        self.model.decoder.as_ref().ok_or(missing)
    }

    fn write_beside(
        &self,
        memory: &Memory<'_, D>,
        seeds: &[u64],
        writing: &Writing,
    ) -> Result<Vec<Vec<Written>>, GenerationError> {
        let (decoder, _) = self.decoder()?;
        let (max_length, positions) = (writing.options.max_length, decoder.config.positions);
        if max_length > positions {
            return Err(GenerationError::Positions { max_length, positions });
        }
        let pictures = memory.shape.batch;
        if seeds.len() != pictures {
            return Err(GenerationError::Count { what: "seeds", found: seeds.len(), pictures });
        }
        let prompt = self.tokenizer.prompt(&writing.prompt)?;
        let end = self.tokenizer.tokens().separator;
        let search =
            |seed: u64| Search { prompt: &prompt, end, options: &writing.options, seed, captions: writing.texts };
        let begin = |(picture, seed): (usize, &u64)| {
            Searching::new(&search(*seed)).map_err(|source| GenerationError::Search { picture, source })
        };
        let open: Vec<_> = seeds.iter().enumerate().map(begin).collect::<Result<_, _>>()?;
        let slots = Searching::most_rows(&search(0));
        let mut found = self.drive(memory, &prompt, open, slots)?;
        let text = |ids: &[u32]| self.tokenizer.decode(ids.get(prompt.len()..).unwrap_or_default()).trim().to_owned();
        let written =
            |d: blip::decoding::Decoded| Written { text: text(&d.tokens), log_prob: d.log_prob, ids: d.tokens };
        Ok(found.iter_mut().map(|captions| captions.drain(..).map(written).collect()).collect())
    }

    /// Runs all searches to their end. Each picture has `slots` rows in every pass after the first, so that the shapes of
    /// its own arithmetic do not depend on the other pictures.
    fn drive(
        &self,
        memory: &Memory<'_, D>,
        prompt: &[u32],
        open: Vec<Searching<'_>>,
        slots: usize,
    ) -> Result<Vec<Vec<blip::decoding::Decoded>>, GenerationError> {
        let (decoder, head) = self.decoder()?;
        let mut tape = Tape::forgetting(self.device, self.parameters);
        let mut cache = decoder.read(&mut tape, memory)?;
        let mut found = vec![Vec::new(); open.len()];
        let ids = prompt.repeat(open.len());
        let mut open: Vec<Open<'_>> =
            (0..).zip(open).map(|(picture, search)| Open { picture, search, rows: 1 }).collect();
        let first = Continued { parents: None, ids: &ids, tokens: prompt.len() };
        let mut states = decoder.advance(&mut tape, &mut cache, &first)?;
        let mut old_slots = 1;
        loop {
            let rows = open.len() * old_slots;
            let logits = self.device.download(&head.forward(&mut tape, &states, rows)?.buffer)?;
            let mut still = Still::default();
            let mut next_open = Vec::with_capacity(open.len());
            let answers = advance(&mut open, &logits, old_slots)?;
            for (place, (mut open, next)) in open.into_iter().zip(answers).enumerate() {
                match next {
                    Next::Done(captions) => found[open.picture] = captions,
                    Next::Rows(rows) => {
                        open.rows = rows.len();
                        still.add(place, &rows, [old_slots, slots], self.tokenizer.tokens().pad);
                        next_open.push(open);
                    }
                }
            }
            if next_open.is_empty() {
                return Ok(found);
            }
            if next_open.len() < cache.samples() {
                cache.keep(self.device, &still.samples, decoder.config.width)?;
            }
            open = next_open;
            old_slots = slots;
            let continued = Continued { parents: Some(&still.parents), ids: &still.ids, tokens: 1 };
            states = decoder.advance(&mut tape, &mut cache, &continued)?;
        }
    }
}

/// A picture whose search goes on.
struct Open<'a> {
    picture: usize,
    search: Searching<'a>,
    /// Rows that it asked for, at most as many as it has slots.
    rows: usize,
}

/// The rows of the next pass.
#[derive(Default)]
struct Still {
    samples: Vec<u32>,
    parents: Vec<u32>,
    ids: Vec<u32>,
}

impl Still {
    /// A slot that is not asked for continues the picture's first row with a token that nobody reads.
    fn add(&mut self, place: usize, rows: &[(usize, u32)], [old_slots, slots]: [usize; 2], pad: u32) {
        self.samples.push(place as u32);
        for slot in 0..slots {
            let (parent, token) = rows.get(slot).copied().unwrap_or((0, pad));
            self.parents.push((place * old_slots + parent) as u32);
            self.ids.push(token);
        }
    }
}

/// Gives each search its logits.
fn advance(open: &mut [Open<'_>], logits: &[f32], slots: usize) -> Result<Vec<Next>, GenerationError> {
    let picture_logits = logits.len() / open.len();
    let each = open.par_iter_mut().zip(logits.par_chunks_exact(picture_logits));
    each.map(|(open, logits)| {
        let own = &logits[..open.rows * (picture_logits / slots)];
        open.search.advance(own).map_err(|source| GenerationError::Search { picture: open.picture, source })
    })
    .collect()
}

/// Questions that a model has read beside their pictures.
pub(crate) struct Asked<D: Device> {
    pub(crate) states: Var<D>,
    pub(crate) shape: TokensShape,
    pub(crate) lengths: D::Indices,
}

impl<D: Device> Asked<D> {
    pub(crate) fn memory(&self) -> Memory<'_, D> {
        Memory { states: &self.states, shape: self.shape, rows: None, lengths: Some(&self.lengths) }
    }
}

#[cfg(test)]
pub(crate) mod checkpoints;
#[cfg(test)]
mod tests;
