//! What the host's operator sees of pairs and says about them.
//!
//! The operator's words are the host's own and stand in a table of their own: the pairs and the boards' labels stay as they
//! came. A pair is what the filter, then the board's people, then the host's operator made of it, and the last word counts.

use std::io;
use std::path::PathBuf;

use exchange::{DeviceName, Digest};
use store::{LabelAction, PairId, State};

use crate::book::{BookError, HomePair, insert_host_label};
use crate::home::Home;

/// Fewest digits that may stand for a hash.
const MIN_DIGITS: usize = 4;
/// Pairs that are read at once on the way to those that are wanted.
const READ_AT_ONCE: usize = 256;

/// Why a pair is not found, shown or labelled.
#[derive(Debug, thiserror::Error)]
pub enum CurationError {
    /// The database.
    #[error(transparent)]
    Book(#[from] BookError),
    /// A text that names no pair.
    #[error(
        "{text:?} names no pair: give {MIN_DIGITS} to 64 digits of its hash (0 to 9, a to f), or its board and name, as in garden/3-17"
    )]
    Name {
        /// The text.
        text: String,
    },
    /// No pair is called so.
    #[error("there is no pair {name}: \"edgeblip-trainer pairs list\" shows those that are here")]
    Unknown {
        /// What it was called.
        name: PairName,
    },
    /// Several pairs are called so.
    #[error("{name} is more than one pair, {} and {} among them: give more digits of the hash", of[0], of[1])]
    Ambiguous {
        /// What it was called.
        name: PairName,
        /// Two of them.
        of: [Digest; 2],
    },
    /// A picture that cannot be read.
    #[error("{}: the picture of {pair} cannot be read: {source}", path.display())]
    Shelf {
        /// The shard.
        path: PathBuf,
        /// The pair.
        pair: Digest,
        /// Why.
        source: io::Error,
    },
    /// A picture that is not what came.
    #[error("{}: the picture of {pair} is not the one that came: bring the shard back from a backup", path.display())]
    Damaged {
        /// The shard.
        path: PathBuf,
        /// The pair.
        pair: Digest,
    },
}

/// What an operator calls a pair.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PairName {
    /// The first digits of its hash, or all of them.
    Digits(String),
    /// Its board, and its name there.
    OnBoard(DeviceName, PairId),
}

impl std::fmt::Display for PairName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            PairName::Digits(digits) => f.write_str(digits),
            PairName::OnBoard(device, id) => write!(f, "{device}/{id}"),
        }
    }
}

impl std::str::FromStr for PairName {
    type Err = CurationError;

    fn from_str(text: &str) -> Result<PairName, CurationError> {
        let unknown = || CurationError::Name { text: text.chars().take(80).collect() };
        if let Some((device, id)) = text.split_once('/') {
            let name = device.parse().ok().zip(id.parse().ok());
            return name.map(|(device, id)| PairName::OnBoard(device, id)).ok_or_else(unknown);
        }
        let is_digit = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
        let is_name = (MIN_DIGITS..=64).contains(&text.len()) && text.chars().all(is_digit);
        if is_name { Ok(PairName::Digits(text.to_owned())) } else { Err(unknown()) }
    }
}

/// Which pairs are listed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PairFilter {
    /// Only those of this board.
    pub device: Option<DeviceName>,
    /// Only those in this state, after what people said.
    pub state: Option<State>,
    /// Only those with a text that has this in it, in any case; also a text that the board's filter rejected.
    pub text: Option<String>,
    /// Only those that arrived after the pair of this number.
    pub after: i64,
    /// Most pairs.
    pub limit: usize,
}

/// Some pairs, and where to go on.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Page {
    /// In the order of arrival.
    pub pairs: Vec<HomePair>,
    /// [`PairFilter::after`] of the next page; nothing where this is the last.
    pub next: Option<i64>,
}

impl Home {
    /// A page of pairs. Only as many as it holds are in memory, however many are looked at.
    ///
    /// # Errors
    /// The database.
    pub fn pairs(&self, filter: &PairFilter) -> Result<Page, CurationError> {
        let wanted = filter.text.as_deref().map(str::to_lowercase);
        let is_wanted = |pair: &HomePair| {
            let has_text = |part: &str| {
                let mut texts = pair.texts().into_iter().chain(pair.pair.facts.texts.iter().cloned());
                texts.any(|text| text.words.as_str().to_lowercase().contains(part))
            };
            filter.state.is_none_or(|state| state == pair.state()) && wanted.as_deref().is_none_or(has_text)
        };
        let mut page = Page::default();
        let mut after = filter.after;
        while page.pairs.len() < filter.limit {
            let read = self.book.pairs_after(after, filter.device.as_ref(), READ_AT_ONCE)?;
            if read.is_empty() {
                return Ok(page);
            }
            for pair in read {
                if page.pairs.len() == filter.limit {
                    break;
                }
                after = pair.number;
                if is_wanted(&pair) {
                    page.pairs.push(pair);
                }
            }
        }
        page.next = Some(after);
        Ok(page)
    }

    /// The pairs that arrived last, the last one first.
    ///
    /// # Errors
    /// The database.
    pub fn arrivals(&self, limit: usize) -> Result<Vec<HomePair>, CurationError> {
        Ok(self.book.last_pairs(limit)?)
    }

    /// The one pair that is called so.
    ///
    /// # Errors
    /// None, or more than one.
    pub fn pair(&self, name: &PairName) -> Result<HomePair, CurationError> {
        let mut found = match name {
            PairName::Digits(digits) => {
                let ends = [format!("{digits:0<64}"), format!("{digits:f<64}")].map(|end| end.parse::<Digest>());
                let [Ok(first), Ok(last)] = ends else {
                    return Err(CurationError::Name { text: digits.clone() });
                };
                self.book.pairs_between(first.bytes(), last.bytes())?
            }
            PairName::OnBoard(device, id) => self.book.pairs_called(device, *id)?,
        };
        match (found.pop(), found.pop()) {
            (Some(pair), None) => Ok(pair),
            (None, _) => Err(CurationError::Unknown { name: name.clone() }),
            (Some(one), Some(other)) => {
                Err(CurationError::Ambiguous { name: name.clone(), of: [one.sha256(), other.sha256()] })
            }
        }
    }

    /// A pair's picture, as it came; nothing where its texts alone came.
    ///
    /// # Errors
    /// A shard that cannot be read, a picture that is not the pair's.
    pub fn picture(&self, pair: &HomePair) -> Result<Option<Vec<u8>>, CurationError> {
        let Some(at) = pair.picture_at else { return Ok(None) };
        let (path, sha256) = (self.shelf().path(pair.shard), pair.sha256());
        let picture = self.shelf().read(pair.shard, at, pair.pair.facts.jpeg_bytes);
        let picture = picture.map_err(|source| CurationError::Shelf { path: path.clone(), pair: sha256, source })?;
        if store::pair_hash(&pair.facts, &picture) != pair.pair.sha256 {
            return Err(CurationError::Damaged { path, pair: sha256 });
        }
        Ok(Some(picture))
    }

    /// Says something of a pair; gives what it is then.
    ///
    /// # Errors
    /// None, or more than one that is called so.
    pub fn label(&mut self, name: &PairName, action: &LabelAction, at_s: i64) -> Result<HomePair, CurationError> {
        let pair = self.pair(name)?.sha256();
        self.book.together(|transaction| insert_host_label(transaction, pair, action, at_s))?;
        self.pair(&PairName::Digits(pair.to_string()))
    }
}
