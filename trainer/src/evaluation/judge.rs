//! Vectors of pictures and texts, and whether they match.

use blip::caption::clean_for_training;
use rayon::prelude::*;

use crate::engine::{Device, Order, RowsShape};
use crate::generation::{GenerationError, MAX_TEXT_TOKENS, Network, Seen, cut_to, padded};
use crate::model::{Memory, Pass, Texts};
use crate::objectives::{image_features, unit_texts};
use crate::tape::Tape;

/// Texts that are read in one pass.
const TEXTS_A_PASS: usize = 256;
/// Pairs that are judged in one pass.
const PAIRS_A_PASS: usize = 128;

/// A picture of those that were seen, and a text.
#[derive(Clone, Copy, Debug)]
pub struct Claim<'a> {
    /// Place of the picture.
    pub picture: usize,
    /// What is said about it.
    pub text: &'a str,
}

impl<D: Device> Network<'_, D> {
    /// Unit vectors of pictures for ITC, `[pictures, P]`.
    ///
    /// # Errors
    /// A model that is no matcher, or the device.
    pub fn image_vectors(&self, seen: &Seen<D>) -> Result<Vec<f32>, GenerationError> {
        self.check_matcher()?;
        let mut tape = Tape::forgetting(self.device, self.parameters);
        let vectors = image_features(self.model, &mut tape, &seen.states, seen.shape.batch)?;
        Ok(self.device.download(&vectors.buffer)?)
    }

    /// Unit vectors of texts for ITC, `[texts, P]`.
    ///
    /// # Errors
    /// As [`Network::image_vectors`]; a text that is longer than the tokenizer takes.
    pub fn text_vectors<T: AsRef<str> + Sync>(&self, texts: &[T]) -> Result<Vec<f32>, GenerationError> {
        self.check_matcher()?;
        let mut vectors = Vec::new();
        for texts in texts.chunks(TEXTS_A_PASS) {
            let rows = self.rows(texts, self.tokenizer.tokens().class)?;
            let (ids, lengths, tokens) = padded(&rows, self.tokenizer.tokens().pad);
            let (ids, lengths) = (self.device.upload_indices(&ids)?, self.device.upload_indices(&lengths)?);
            let batch = Texts { ids: &ids, lengths: &lengths, batch: texts.len(), tokens };
            let mut tape = Tape::forgetting(self.device, self.parameters);
            let found = unit_texts(self.model, &mut tape, &batch, Pass::still())?;
            vectors.extend(self.device.download(&found.buffer)?);
        }
        Ok(vectors)
    }

    /// ITM's two logits for each claim: no match, match.
    ///
    /// Claims about one picture should follow each other: its keys and values are then computed once.
    ///
    /// # Errors
    /// As [`Network::text_vectors`].
    pub fn match_logits(&self, seen: &Seen<D>, claims: &[Claim<'_>]) -> Result<Vec<[f32; 2]>, GenerationError> {
        let (Some(encoder), Some(matching)) = (&self.model.encoder, &self.model.matching) else {
            return Err(NO_MATCHER);
        };
        let mut found = Vec::with_capacity(claims.len());
        for claims in claims.chunks(PAIRS_A_PASS) {
            let texts: Vec<&str> = claims.iter().map(|claim| claim.text).collect();
            let rows = self.rows(&texts, self.encoder_token)?;
            let (ids, lengths, tokens) = padded(&rows, self.tokenizer.tokens().pad);
            let (ids, lengths) = (self.device.upload_indices(&ids)?, self.device.upload_indices(&lengths)?);
            let (pictures, places) = distinct(claims);
            let mut shape = seen.shape;
            let all = RowsShape { rows: shape.batch, width: shape.tokens * shape.width };
            let mut tape = Tape::forgetting(self.device, self.parameters);
            let states = tape.gather_rows(&seen.states, &self.device.upload_indices(&pictures)?, all)?;
            shape.batch = pictures.len();
            let places = self.device.upload_indices(&places)?;
            let memory = Memory { states: &states, shape, rows: Some(&places), lengths: None };
            let batch = Texts { ids: &ids, lengths: &lengths, batch: claims.len(), tokens };
            let states = encoder.forward(&mut tape, &batch, Some(&memory), Order::Free, Pass::still())?;
            let first = tape.first_token(&states, encoder.shape(claims.len(), tokens))?;
            let logits = tape.logits(&first, &matching.itm_head, claims.len())?;
            found.extend_from_slice(self.device.download(&logits.buffer)?.as_chunks().0);
        }
        Ok(found)
    }

    /// The probability that each claim is true, 0 to 1.
    ///
    /// Source: BLIP `models/blip_itm.py`, softmax over the ITM head, here with the encoder token in front.
    ///
    /// # Errors
    /// As [`Network::match_logits`].
    pub fn match_probabilities(&self, seen: &Seen<D>, claims: &[Claim<'_>]) -> Result<Vec<f32>, GenerationError> {
        Ok(self.match_logits(seen, claims)?.into_iter().map(probability).collect())
    }

    fn check_matcher(&self) -> Result<(), GenerationError> {
        if self.model.matching.is_none() || self.model.encoder.is_none() { Err(NO_MATCHER) } else { Ok(()) }
    }

    /// Token ids of cleaned texts.
    fn rows<T: AsRef<str> + Sync>(&self, texts: &[T], first: u32) -> Result<Vec<Vec<u32>>, GenerationError> {
        let positions = self.model.encoder.as_ref().map_or(MAX_TEXT_TOKENS, |encoder| encoder.config.positions);
        let separator = self.tokenizer.tokens().separator;
        let row = |text: &T| {
            let ids = self.tokenizer.classified(&clean_for_training(text.as_ref()), first)?;
            Ok(cut_to(ids, positions.min(MAX_TEXT_TOKENS), separator))
        };
        texts.par_iter().map(row).collect()
    }
}

const NO_MATCHER: GenerationError =
    GenerationError::Missing { part: "ITC projections and ITM head", wanted: "a matcher" };

/// The probability of the second of two classes.
pub fn probability([no, yes]: [f32; 2]) -> f32 {
    1.0 / (1.0 + (no - yes).exp())
}

/// The pictures that claims are about, and each claim's place among them; runs of one picture count once.
fn distinct(claims: &[Claim<'_>]) -> (Vec<u32>, Vec<u32>) {
    let mut pictures = Vec::new();
    let places = claims.iter().map(|claim| {
        if pictures.last() != Some(&(claim.picture as u32)) {
            pictures.push(claim.picture as u32);
        }
        pictures.len() as u32 - 1
    });
    let places = places.collect();
    (pictures, places)
}

/// Cosine of two unit vectors.
pub fn cosine(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}
