//! A pair as a row of a dataset.

use blip::caption::Origin;
use exchange::Digest;
use sha2::{Digest as _, Sha256};
use store::State;

use crate::book::{HomePair, Word};

/// A row, but for the picture.
pub(super) struct Row {
    pub(super) sha256: Digest,
    pub(super) device: String,
    pub(super) day: Option<String>,
    pub(super) text: String,
    pub(super) source: &'static str,
    pub(super) itm: Option<f32>,
    pub(super) itc: Option<f32>,
    pub(super) word: Word,
}

impl Row {
    /// Of a pair that is kept, and has a picture and a text; the best text is the row's.
    pub(super) fn of(pair: &HomePair) -> Option<Row> {
        if pair.state() != State::Kept || pair.picture_at.is_none() {
            return None;
        }
        let text = pair.texts().into_iter().next().filter(|text| !text.words.as_str().is_empty())?;
        Some(Row {
            sha256: pair.sha256(),
            device: pair.device.clone(),
            day: pair.day(),
            source: source(text.origin),
            text: text.words.as_str().to_owned(),
            itm: text.itm,
            itc: text.itc,
            word: pair.word(),
        })
    }

    /// SHA-256 over everything that is written of it; the pair's own hash stands for the picture.
    pub(super) fn digest(&self) -> [u8; 32] {
        let mut hasher = Sha256::new();
        hasher.update(self.sha256.bytes());
        for part in [&self.device, self.day.as_deref().unwrap_or_default(), &self.text, self.source, self.word.name()] {
            hasher.update((part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
        for score in [self.itm, self.itc] {
            hasher.update(score.map_or([0xff; 4], f32::to_le_bytes));
        }
        hasher.finalize().into()
    }
}

/// Who wrote a text.
fn source(origin: Origin) -> &'static str {
    match origin {
        Origin::Caption | Origin::Candidate => "model",
        Origin::Human => "human",
        Origin::Sidecar => "sidecar",
        Origin::Tag => "tag",
        Origin::Place => "place",
    }
}
