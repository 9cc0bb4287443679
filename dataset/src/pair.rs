//! A picture file with its texts.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Longest text that is kept, in bytes; 10,000 English words fit.
pub const MAX_TEXT_BYTES: usize = 64 << 10;

/// Where a text is from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// Written for the picture by a person: CapFilt keeps it.
    Human,
    /// Found with the picture: CapFilt judges it.
    #[default]
    Web,
    /// Written by a captioner: CapFilt judges it.
    Synthetic,
}

/// A text of a picture.
#[derive(Clone, Debug, PartialEq)]
pub struct Text {
    /// As it was found, neither cleaned nor cut; it may be empty.
    pub text: String,
    /// Where it is from.
    pub origin: Origin,
    /// What a judge gave it, where one did.
    pub score: Option<f32>,
}

/// A picture's file and its texts, on the way into a dataset or out to disk.
#[derive(Clone, Debug, PartialEq)]
pub struct Pair {
    /// Names the picture within the dataset.
    pub key: String,
    /// The picture file.
    pub picture: Vec<u8>,
    /// Its texts.
    pub texts: Vec<Text>,
    /// What is known of it besides.
    pub truth: Option<Value>,
}
