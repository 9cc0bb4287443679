//! The name of a pair.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

const SEQUENCE_BITS: u32 = 40;
const MAX_BOOT: u32 = (1 << (63 - SEQUENCE_BITS)) - 1;

/// The name of a pair in its folder, and its place in the order: first the boot's ordinal, then the number within the
/// boot. The wall clock has no say in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PairId {
    boot: u32,
    sequence: u64,
}

/// A text that names no pair.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error("{text:?} names no pair: a name is a boot and a number, as in 3-17")]
pub struct PairIdError {
    text: String,
}

impl PairId {
    /// The first pair of a boot; nothing where there are more boots than can be counted.
    pub(crate) fn first_of(boot: u32) -> Option<PairId> {
        PairId::new(boot, 1)
    }

    fn new(boot: u32, sequence: u64) -> Option<PairId> {
        (boot <= MAX_BOOT && sequence < 1 << SEQUENCE_BITS).then_some(PairId { boot, sequence })
    }

    /// The next one of the same boot.
    pub(crate) fn next(self) -> Option<PairId> {
        PairId::new(self.boot, self.sequence + 1)
    }

    /// Which boot it is of, counted by the store.
    pub fn boot(self) -> u32 {
        self.boot
    }

    /// Its number within the boot.
    pub fn sequence(self) -> u64 {
        self.sequence
    }

    /// The key of its row: keys are in the order of the names.
    pub(crate) fn to_row(self) -> i64 {
        // Boots take 23 bits and numbers 40, so the sign stays free.
        (i64::from(self.boot) << SEQUENCE_BITS) | i64::try_from(self.sequence).unwrap_or(0)
    }

    /// The name that a row's key is of.
    pub(crate) fn from_row(row: i64) -> Option<PairId> {
        let row = u64::try_from(row).ok()?;
        PairId::new(u32::try_from(row >> SEQUENCE_BITS).ok()?, row & ((1 << SEQUENCE_BITS) - 1))
    }
}

impl fmt::Display for PairId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.boot, self.sequence)
    }
}

impl FromStr for PairId {
    type Err = PairIdError;

    fn from_str(text: &str) -> Result<PairId, PairIdError> {
        let id = text
            .split_once('-')
            .and_then(|(boot, sequence)| PairId::new(boot.parse().ok()?, sequence.parse().ok()?))
            .filter(|id| id.to_string() == text);
        id.ok_or_else(|| PairIdError { text: text.chars().take(64).collect() })
    }
}

impl TryFrom<String> for PairId {
    type Error = PairIdError;

    fn try_from(text: String) -> Result<PairId, PairIdError> {
        text.parse()
    }
}

impl From<PairId> for String {
    fn from(id: PairId) -> String {
        id.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_in_the_order_of_boots_and_numbers() {
        let ids: Vec<PairId> = [(0, 9), (1, 1), (1, 2), (1, 1 << 39), (2, 0), (MAX_BOOT, (1 << 40) - 1)]
            .map(|(boot, sequence)| PairId::new(boot, sequence).unwrap())
            .to_vec();
        assert!(ids.is_sorted());
        assert!(ids.iter().map(|id| id.to_row()).is_sorted());
        for id in ids {
            assert_eq!(PairId::from_row(id.to_row()), Some(id));
            assert_eq!(id.to_string().parse(), Ok(id));
        }
        assert_eq!(PairId::new(MAX_BOOT + 1, 0), None);
        assert_eq!(PairId::new(0, 1 << 40), None);
        assert_eq!(PairId::from_row(-1), None);
    }

    #[test]
    fn texts_that_name_no_pair_are_refused() {
        for text in ["", "1", "1-", "-1", "01-2", "1-+2", "1-2-3", "a-b", "99999999-1", "1-9999999999999"] {
            assert!(text.parse::<PairId>().is_err(), "{text}");
        }
    }
}
