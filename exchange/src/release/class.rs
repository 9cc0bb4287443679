//! Which boards a release is for, and which programs.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Longest name of a class, in bytes.
const MAX_CLASS: usize = 63;

/// A kind of board: "any", an architecture such as "aarch64", or a model such as "raspberry-pi-4-model-b".
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct BoardClass(String);

/// A text that is no class.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "{text:?} is no class of boards: any, an architecture such as aarch64, or a model such as raspberry-pi-4-model-b"
)]
pub struct BoardClassError {
    text: String,
}

impl BoardClass {
    /// Every board.
    pub fn any() -> BoardClass {
        BoardClass("any".to_owned())
    }

    /// The class that a model's own name makes: words of letters and digits, without a revision.
    ///
    /// `Raspberry Pi 4 Model B Rev 1.4` is `raspberry-pi-4-model-b`.
    pub fn of_model(model: &str) -> Option<BoardClass> {
        let model = model.trim_end_matches('\0');
        let model = model.split_once(" Rev ").map_or(model, |(model, _)| model);
        let words = model.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
        words.collect::<Vec<_>>().join("-").to_ascii_lowercase().parse().ok()
    }
}

impl fmt::Display for BoardClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for BoardClass {
    type Err = BoardClassError;

    fn from_str(text: &str) -> Result<BoardClass, BoardClassError> {
        let is_plain = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
        let is_word = |word: &str| !word.is_empty() && word.bytes().all(is_plain);
        if text.len() <= MAX_CLASS && text.split(['-', '_']).all(is_word) {
            Ok(BoardClass(text.to_owned()))
        } else {
            Err(BoardClassError { text: text.chars().take(80).collect() })
        }
    }
}

impl TryFrom<String> for BoardClass {
    type Error = BoardClassError;

    fn try_from(text: String) -> Result<BoardClass, BoardClassError> {
        text.parse()
    }
}

impl From<BoardClass> for String {
    fn from(class: BoardClass) -> String {
        class.0
    }
}

/// A version of the program: three numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Version([u32; 3]);

/// A text that is no version.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error("{text:?} is no version: that has three numbers with dots between them")]
pub struct VersionError {
    text: String,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [major, minor, patch] = self.0;
        write!(f, "{major}.{minor}.{patch}")
    }
}

impl FromStr for Version {
    type Err = VersionError;

    fn from_str(text: &str) -> Result<Version, VersionError> {
        let fault = || VersionError { text: text.chars().take(80).collect() };
        let is_number = |part: &&str| part.bytes().all(|byte| byte.is_ascii_digit());
        let number = |part: &str| Some(part).filter(is_number)?.parse().ok();
        let numbers: Option<Vec<u32>> = text.split('.').map(number).collect();
        numbers.and_then(|numbers| numbers.try_into().ok()).map(Version).ok_or_else(fault)
    }
}

impl TryFrom<String> for Version {
    type Error = VersionError;

    fn try_from(text: String) -> Result<Version, VersionError> {
        text.parse()
    }
}

impl From<Version> for String {
    fn from(version: Version) -> String {
        version.to_string()
    }
}

/// What a board says of itself when it is offered a release.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Board {
    /// What it is; "any" need not be among them.
    pub classes: Vec<BoardClass>,
    /// The program that runs there.
    pub version: Version,
}

impl Board {
    /// Whether one of these classes is its own.
    pub fn is_of(&self, classes: &[BoardClass]) -> bool {
        classes.iter().any(|class| *class == BoardClass::any() || self.classes.contains(class))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_are_classes_and_versions_are_ordered_as_numbers() {
        let class = |model| BoardClass::of_model(model).unwrap().to_string();
        assert_eq!(class("Raspberry Pi 4 Model B Rev 1.4\0"), "raspberry-pi-4-model-b");
        assert_eq!(class("Raspberry Pi Zero 2 W Rev 1.0"), "raspberry-pi-zero-2-w");
        assert_eq!(class("Radxa ROCK 5B"), "radxa-rock-5b");
        assert_eq!(BoardClass::of_model(" \0"), None);
        for text in ["", "-", "Any", "a b", "a/b", "é"] {
            assert!(text.parse::<BoardClass>().is_err(), "{text}");
        }
        assert!("x86_64".parse::<BoardClass>().is_ok());
        let version = |text: &str| text.parse::<Version>().unwrap();
        assert!(version("0.10.0") > version("0.9.12") && version("0.9.12").to_string() == "0.9.12");
        for text in ["", "1", "1.2", "1.2.3.4", "1.2.x", "+1.2.3", "1.2.-3", "1.2.99999999999"] {
            assert!(text.parse::<Version>().is_err(), "{text}");
        }
    }
}
