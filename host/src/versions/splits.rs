//! What is learned from, and what is measured on.

use std::fmt;
use std::str::FromStr;

use exchange::Digest;
use serde::{Deserialize, Serialize};

/// What the hash of a group starts with.
const HASH_MARK: &str = "edgeblip split 1\n";

/// A part of a dataset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Split {
    /// To learn from.
    Train,
    /// To choose by.
    Validation,
    /// To report.
    Test,
}

impl Split {
    /// Every one, in the order of files and reports.
    pub const ALL: [Split; 3] = [Split::Train, Split::Validation, Split::Test];

    /// As Hugging Face calls it.
    pub fn name(self) -> &'static str {
        match self {
            Split::Train => "train",
            Split::Validation => "validation",
            Split::Test => "test",
        }
    }

    pub(super) fn named(name: &str) -> Option<Split> {
        Split::ALL.into_iter().find(|split| split.name() == name)
    }
}

/// How many of a hundred groups go where: `90/5/5`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Shares {
    train: u8,
    validation: u8,
}

/// A text that names no shares.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error("{text:?}: shares are three whole numbers whose sum is 100, as in 90/5/5: train, validation, test")]
pub struct SharesError {
    text: String,
}

impl Default for Shares {
    fn default() -> Shares {
        Shares { train: 90, validation: 5 }
    }
}

impl Shares {
    /// Where a group goes that was in no version: by the hash of board and day, so that every host would say the same.
    pub fn split_of(self, device: &str, day: &str) -> Split {
        let hash = Digest::of(format!("{HASH_MARK}{device}\n{day}").as_bytes()).bytes();
        let number = hash.iter().take(8).fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
        // The first 64 bits as a fraction of a hundred.
        let place = ((u128::from(number) * 100) >> 64) as u8;
        match place {
            place if place < self.train => Split::Train,
            place if place < self.train + self.validation => Split::Validation,
            _ => Split::Test,
        }
    }
}

impl FromStr for Shares {
    type Err = SharesError;

    fn from_str(text: &str) -> Result<Shares, SharesError> {
        let parts: Vec<u8> = text.split('/').map_while(|part| part.parse().ok()).collect();
        match parts[..] {
            [train, validation, test]
                if text.split('/').count() == 3
                    && u32::from(train) + u32::from(validation) + u32::from(test) == 100 =>
            {
                Ok(Shares { train, validation })
            }
            _ => Err(SharesError { text: text.chars().take(80).collect() }),
        }
    }
}

impl fmt::Display for Shares {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.train, self.validation, 100 - self.train - self.validation)
    }
}

impl TryFrom<String> for Shares {
    type Error = SharesError;

    fn try_from(text: String) -> Result<Shares, SharesError> {
        text.parse()
    }
}

impl From<Shares> for String {
    fn from(shares: Shares) -> String {
        shares.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_go_where_their_hash_says_in_the_shares_that_are_asked_for() {
        let mut counts = [0_u32; 3];
        for day in 0..10_000 {
            counts[Shares::default().split_of("garden", &day.to_string()) as usize] += 1;
        }
        assert!((8_850..9_150).contains(&counts[0]), "{counts:?}");
        assert!((400..600).contains(&counts[1]) && (400..600).contains(&counts[2]), "{counts:?}");
        // printf 'edgeblip split 1\ngarden\n2026-01-31' | sha256sum: 0b58f90d..., which is 4.4 of 100.
        for (shares, split) in [("5/0/95", Split::Train), ("4/1/95", Split::Validation), ("4/0/96", Split::Test)] {
            assert_eq!(shares.parse::<Shares>().unwrap().split_of("garden", "2026-01-31"), split);
        }
    }

    #[test]
    fn shares_are_three_numbers_that_are_all() {
        assert_eq!("90/5/5".parse(), Ok(Shares::default()));
        assert_eq!("0/50/50".parse::<Shares>().unwrap().to_string(), "0/50/50");
        for text in ["", "90/5", "90/5/6", "90/5/5/0", "256/0/-156", "90/5/5/", "a/b/c", "90/5/5x", "200/200/200"] {
            assert!(text.parse::<Shares>().is_err(), "{text}");
        }
    }
}
