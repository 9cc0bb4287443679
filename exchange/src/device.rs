//! Boards by name, and where their things lie.
//!
//! ```text
//! devices/NAME/shards/SHA256.tar      written by the board, taken away by the host
//! devices/NAME/receipts/SHA256.json   written by the host, read by the board
//! ```

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;

/// Longest name of a board, in characters.
const MAX_NAME: usize = 63;

/// The name that the host gives a board: small letters, digits and single hyphens between them, as in host names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DeviceName(String);

/// A text that names no board.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error("{text:?} is no name for a board: one has small letters, digits and hyphens between them, {MAX_NAME} at most")]
pub struct DeviceNameError {
    text: String,
}

impl DeviceName {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Where everything of this board lies.
    pub fn place(&self) -> String {
        format!("devices/{self}")
    }

    /// Where its shards lie.
    pub fn shards(&self) -> String {
        format!("devices/{self}/shards")
    }

    /// Where one of its shards lies.
    pub fn shard(&self, shard: Digest) -> String {
        format!("devices/{self}/shards/{shard}.tar")
    }

    /// Where the receipt for one of its shards lies.
    pub fn receipt(&self, shard: Digest) -> String {
        format!("devices/{self}/receipts/{shard}.json")
    }
}

/// The shard that a file is named after; nothing if it is none.
pub fn shard_of(file: &str) -> Option<Digest> {
    file.strip_suffix(".tar")?.parse().ok()
}

impl fmt::Display for DeviceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for DeviceName {
    type Err = DeviceNameError;

    fn from_str(text: &str) -> Result<DeviceName, DeviceNameError> {
        let is_word = |word: &str| {
            !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
        };
        if text.len() <= MAX_NAME && text.split('-').all(is_word) {
            Ok(DeviceName(text.to_owned()))
        } else {
            Err(DeviceNameError { text: text.chars().take(80).collect() })
        }
    }
}

impl TryFrom<String> for DeviceName {
    type Error = DeviceNameError;

    fn try_from(text: String) -> Result<DeviceName, DeviceNameError> {
        text.parse()
    }
}

impl From<DeviceName> for String {
    fn from(name: DeviceName) -> String {
        name.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_plain() {
        for text in ["garden", "pi-4", "a", "0", &"a".repeat(MAX_NAME)] {
            assert_eq!(text.parse::<DeviceName>().unwrap().as_str(), text);
        }
        for text in ["", "-", "a-", "-a", "a--b", "A", "a.b", "a/b", "..", "a b", "é", &"a".repeat(MAX_NAME + 1)] {
            assert!(text.parse::<DeviceName>().is_err(), "{text}");
        }
    }
}
