//! A picture with its texts and everything known about them, as data that never changes once it is stored.

mod id;
mod vector;

use blip::caption::{Caption, Origin};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

pub use id::{PairId, PairIdError};
pub use vector::Vector;

/// Largest picture that is kept, in bytes.
pub const MAX_JPEG_BYTES: usize = 32 << 20;
/// Most texts of one pair.
pub const MAX_TEXTS: usize = 64;
/// What the hash of a pair starts with, so that no other kind of record has the same one.
const HASH_MARK: &[u8] = b"edgeblip pair 1\n";

/// How far a wall clock can be trusted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ClockQuality {
    /// Set from the network.
    Ntp,
    /// Set from a clock chip with a battery.
    Rtc,
    /// Set from satellites.
    Gps,
    /// Nobody set it since the board started.
    #[default]
    Guessed,
}

/// When something happened. The wall time is data: nothing is put in order by it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    /// Milliseconds since the board started.
    pub since_boot_ms: u64,
    /// Milliseconds since 1970, UTC.
    pub wall_ms: Option<i64>,
    /// Where the wall time is from.
    pub quality: ClockQuality,
}

impl Stamp {
    /// The wall time, if the clock can be trusted.
    pub fn trusted_ms(self) -> Option<i64> {
        self.wall_ms.filter(|_| self.quality != ClockQuality::Guessed)
    }
}

/// What the filter did with a text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Decision {
    /// It goes with the picture.
    Kept,
    /// It is stored for auditing only, for this reason.
    Rejected(Caption),
}

/// A text with what is known about it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Text {
    /// The text.
    pub words: Caption,
    /// Where it is from.
    pub origin: Origin,
    /// Probability of a match, by the image-text matching head.
    pub itm: Option<f32>,
    /// Similarity by the contrastive head.
    pub itc: Option<f32>,
    /// Its log-probability under the captioner.
    pub log_prob: Option<f32>,
    /// What the filter decided.
    pub decision: Decision,
    /// The bundle that wrote or judged it; nothing if none did.
    pub model: Option<Caption>,
}

/// What the board knew about itself when the picture was taken.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sensor {
    /// The source of the picture, as configured.
    pub camera: Caption,
    /// What made it be taken.
    pub trigger: Caption,
    /// Exposure in microseconds.
    pub exposure_us: Option<u32>,
    /// Of the processor, in degrees Celsius.
    pub temperature_c: Option<f32>,
    /// The firmware's throttling flags, as it gives them.
    pub throttled: Option<u32>,
}

/// Where the board is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Place {
    /// Which deployment it belongs to.
    pub deployment: Caption,
    /// What the place is called.
    pub name: Caption,
    /// Name of the time zone.
    pub time_zone: Option<Caption>,
    /// Latitude and longitude in degrees, rounded as the operator wants.
    pub coordinates: Option<[f64; 2]>,
}

/// What a caller hands over.
#[derive(Clone, Debug, PartialEq)]
pub struct Pair {
    /// The picture, as captured or encoded once. Nothing where the filter rejected it and only its texts are kept.
    pub jpeg: Option<Vec<u8>>,
    /// Its texts.
    pub texts: Vec<Text>,
    /// Camera and board.
    pub sensor: Sensor,
    /// Where.
    pub place: Option<Place>,
    /// When.
    pub taken: Stamp,
    /// The bundle that looked at it.
    pub bundle: Option<Caption>,
    /// The picture's ITC vector by that bundle, to find it again by a text.
    pub vector: Option<Vector>,
}

/// Everything about a pair but the picture's bytes. Stored as JSON with the fields in this order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PairFacts {
    /// Its name in this folder.
    pub id: PairId,
    /// The boot, as the system names it.
    pub boot_id: Caption,
    /// Length of the picture; 0 where there is none.
    pub jpeg_bytes: u64,
    /// Its texts.
    pub texts: Vec<Text>,
    /// Camera and board.
    pub sensor: Sensor,
    /// Where.
    pub place: Option<Place>,
    /// When.
    pub taken: Stamp,
    /// The bundle that looked at it.
    pub bundle: Option<Caption>,
    /// The picture's ITC vector by that bundle.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vector: Option<Vector>,
}

/// What becomes of a pair: the filter's word, or the last person's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// At least one text goes with the picture.
    Kept,
    /// No text does; it is here for auditing, or its texts alone are.
    Rejected,
}

/// A pair that cannot be stored as it is.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum PairError {
    /// No picture, or a picture that is too large.
    #[error("the picture has {bytes} bytes: 1 to {MAX_JPEG_BYTES} are kept")]
    Size {
        /// Its length.
        bytes: usize,
    },
    /// A text that is of use only with its picture.
    #[error("the pair has no picture, and a text that is kept or by a person: neither is kept alone")]
    NoPicture,
    /// Too many texts.
    #[error("the pair has {texts} texts, and {MAX_TEXTS} is the most that is kept")]
    Texts {
        /// How many.
        texts: usize,
    },
    /// A score or a coordinate that is no number.
    #[error("the pair's {what} is not a finite number")]
    NotFinite {
        /// Which one.
        what: &'static str,
    },
}

impl Pair {
    pub(crate) fn check(&self) -> Result<(), PairError> {
        match &self.jpeg {
            Some(jpeg) if jpeg.is_empty() || jpeg.len() > MAX_JPEG_BYTES => {
                return Err(PairError::Size { bytes: jpeg.len() });
            }
            None if self.texts.iter().any(Text::needs_its_picture) => return Err(PairError::NoPicture),
            Some(_) | None => {}
        }
        if self.texts.len() > MAX_TEXTS {
            return Err(PairError::Texts { texts: self.texts.len() });
        }
        match not_finite(&self.texts, &self.sensor, self.place.as_ref()) {
            Some(what) => Err(PairError::NotFinite { what }),
            None => Ok(()),
        }
    }

    /// Its facts, once it has a name, and the picture.
    pub(crate) fn into_facts(self, id: PairId, boot_id: Caption) -> (PairFacts, Vec<u8>) {
        let Pair { jpeg, texts, sensor, place, taken, bundle, vector } = self;
        let jpeg = jpeg.unwrap_or_default();
        let jpeg_bytes = jpeg.len() as u64;
        (PairFacts { id, boot_id, jpeg_bytes, texts, sensor, place, taken, bundle, vector }, jpeg)
    }
}

/// What of a pair's numbers is none.
fn not_finite(texts: &[Text], sensor: &Sensor, place: Option<&Place>) -> Option<&'static str> {
    let mut scores = texts.iter().flat_map(|text| [text.itm, text.itc, text.log_prob]).flatten();
    let mut coordinates = place.and_then(|place| place.coordinates).into_iter().flatten();
    if scores.any(|score| !score.is_finite()) {
        Some("score")
    } else if sensor.temperature_c.is_some_and(|temperature| !temperature.is_finite()) {
        Some("temperature")
    } else if coordinates.any(|degrees| !degrees.is_finite()) {
        Some("coordinate")
    } else {
        None
    }
}

impl Text {
    fn needs_its_picture(&self) -> bool {
        self.decision == Decision::Kept || self.origin == Origin::Human
    }
}

impl PairFacts {
    /// Whether its picture is kept, and not its texts alone.
    pub fn has_picture(&self) -> bool {
        self.jpeg_bytes > 0
    }

    /// Whether all its scores, degrees and coordinates are numbers.
    pub fn is_finite(&self) -> bool {
        not_finite(&self.texts, &self.sensor, self.place.as_ref()).is_none()
    }

    /// Kept if any text is.
    pub fn state(&self) -> State {
        let kept = self.texts.iter().any(|text| text.decision == Decision::Kept);
        if kept { State::Kept } else { State::Rejected }
    }

    /// Whether a person wrote one of the texts.
    pub fn has_human_text(&self) -> bool {
        self.texts.iter().any(|text| text.origin == Origin::Human)
    }

    /// How much it is worth keeping: the best score of a kept text, or of any where none is kept; 0 without scores.
    pub fn score(&self) -> f32 {
        let score = |text: &&Text| text.itm.or(text.itc);
        let kept = self.texts.iter().filter(|text| text.decision == Decision::Kept).filter_map(|text| score(&text));
        let best = kept.reduce(f32::max).or_else(|| self.texts.iter().filter_map(|text| score(&text)).reduce(f32::max));
        best.unwrap_or(0.0)
    }
}

/// SHA-256 over everything of a pair: a mark, the length of the facts as 8 bytes little-endian, the facts as they are
/// stored, and the picture, if it has one. Facts are hashed as bytes, so no two encodings of the same facts need to
/// agree.
pub fn hash(facts: &[u8], jpeg: &[u8]) -> [u8; 32] {
    let mut hasher = Sha256::new();
    hasher.update(HASH_MARK);
    hasher.update((facts.len() as u64).to_le_bytes());
    hasher.update(facts);
    hasher.update(jpeg);
    hasher.finalize().into()
}

/// A row that is what was stored: the hash is right, and the facts are of the pair that the row is named after.
pub(crate) fn checked(row: i64, sha256: &[u8], facts: &[u8], jpeg: &[u8]) -> Option<PairFacts> {
    if hash(facts, jpeg) != sha256 {
        return None;
    }
    let facts: PairFacts = serde_json::from_slice(facts).ok()?;
    (facts.id.to_row() == row && facts.jpeg_bytes == jpeg.len() as u64).then_some(facts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_that_of_the_stated_bytes() {
        // printf 'edgeblip pair 1\n\x02\0\0\0\0\0\0\0{}jpeg' | sha256sum
        let hex: String = hash(b"{}", b"jpeg").iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "314a5d280909dcaedec2f042c9492eef0c669376eb7cae8a279d56cd94476a50");
    }
}
