//! What is wrong with a configuration, all of it at once.

use std::fmt;
use std::path::PathBuf;

/// Everything that is wrong with a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Faults {
    /// The file.
    pub path: PathBuf,
    /// At least one, by line.
    pub faults: Vec<(usize, Fault)>,
}

impl std::error::Error for Faults {}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, (line, fault)) in self.faults.iter().enumerate() {
            let separator = if place == 0 { "" } else { "\n" };
            write!(f, "{separator}{}:{line}: {fault}", self.path.display())?;
        }
        Ok(())
    }
}

/// One thing that is wrong with a configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// No TOML.
    #[error("this is no TOML: {reason}")]
    Syntax {
        /// What the reader of TOML says.
        reason: String,
    },
    /// A section or key that is not there.
    #[error("there is no setting {key:?}{}", meant(near))]
    Unknown {
        /// Section and key, as far as they are given.
        key: String,
        /// The one that is meant, if one is near.
        near: Option<String>,
    },
    /// A setting outside of a section, or a section that is a value.
    #[error("{key:?} stands outside of its section: settings are written below [section]")]
    Outside {
        /// The key.
        key: String,
    },
    /// A value that is not allowed.
    #[error("{key} is {value}; allowed is {allowed}")]
    Value {
        /// Section and key.
        key: String,
        /// The value, as TOML.
        value: String,
        /// What is allowed.
        allowed: String,
    },
    /// A value that does not go with another.
    #[error("{key} is {value}: {rule}")]
    Together {
        /// Section and key.
        key: String,
        /// The value, as TOML.
        value: String,
        /// What must hold.
        rule: String,
    },
}

fn meant(near: &Option<String>) -> String {
    near.as_ref().map_or_else(String::new, |near| format!("; did you mean {near:?}?"))
}

/// The name that `typed` is nearest to, if it is near enough to be meant.
pub(super) fn nearest<'a>(typed: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let most = (typed.chars().count() / 3).max(2);
    let (apart, name) = names.map(|name| (distance(name, typed), name)).min()?;
    (apart <= most).then_some(name)
}

/// Letters to insert, remove or change. Source: Wagner and Fischer, "The string-to-string correction problem", 1974.
fn distance(one: &str, other: &str) -> usize {
    let mut row: Vec<usize> = (0..=other.chars().count()).collect();
    for (above, letter) in one.chars().enumerate() {
        let mut diagonal = above;
        let mut left = above + 1;
        for (cell, other) in row.iter_mut().skip(1).zip(other.chars()) {
            let changed = diagonal + usize::from(letter != other);
            diagonal = *cell;
            left = changed.min(*cell + 1).min(left + 1);
            *cell = left;
        }
        if let Some(first) = row.first_mut() {
            *first = above + 1;
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_count_letters() {
        for (one, other, apart) in
            [("", "", 0), ("", "abc", 3), ("kitten", "sitting", 3), ("flaw", "lawn", 2), ("ä", "a", 1)]
        {
            assert_eq!(distance(one, other), apart);
            assert_eq!(distance(other, one), apart);
        }
    }

    #[test]
    fn a_name_that_is_not_near_is_not_meant() {
        let names = ["burst", "before", "every_s"];
        assert_eq!(nearest("brust", names.into_iter()), Some("burst"));
        assert_eq!(nearest("every", names.into_iter()), Some("every_s"));
        assert_eq!(nearest("colour", names.into_iter()), None);
    }
}
