//! On the host: pairs out of a shard that anybody may have written.

use std::collections::BTreeSet;
use std::io::Read;
use std::ops::Range;

use store::{Event, Label, PairFacts, PairId, StoredPair};
use tar::{Archive, EntryType};

use super::{MAX_FACTS_BYTES, MAX_LABELS, MAX_SHARD_BYTES, Sent};
use crate::digest::Digest;

/// What is in a shard.
#[derive(Clone, Debug, PartialEq)]
pub enum Item {
    /// A pair, whose hash is right and whose fields are ours.
    Pair(Box<ReceivedPair>),
    /// A pair that is none.
    Refused {
        /// What it was sent as, as far as it says.
        sent: Option<Sent>,
        /// Why.
        fault: PairFault,
    },
    /// A pair is to be removed.
    Forgotten(Event),
}

/// A pair as it came.
#[derive(Clone, Debug, PartialEq)]
pub struct ReceivedPair {
    /// With its picture, which nobody has decoded yet.
    pub pair: StoredPair,
    /// Its facts, as the hash covers them.
    pub facts: Vec<u8>,
    /// Where in the shard its picture begins, in bytes; nothing where it has none.
    pub picture_at: Option<u64>,
}

impl ReceivedPair {
    /// What a receipt says of it.
    pub fn sent(&self) -> Sent {
        let StoredPair { facts, sha256, labels, .. } = &self.pair;
        Sent { id: facts.id, sha256: Some(Digest::from(*sha256)), labels: labels.len() }
    }
}

/// A file that is no shard. Nothing of it is taken.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum ShardError {
    /// It is too long.
    #[error("it has {bytes} bytes, and a shard has {MAX_SHARD_BYTES} at most")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// It is named after other bytes: cut, or changed on its way.
    #[error("its bytes are not those that it is named after")]
    Digest,
    /// It is no tar, or not one of ours.
    #[error("it is no tar of ours: {0}")]
    Tar(String),
    /// A member that no shard has.
    #[error("it holds {name:?}, which no shard does")]
    Member {
        /// Its name.
        name: String,
    },
}

/// Why one pair of a shard is not taken. The host says so in the receipt.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum PairFault {
    /// A member is missing.
    #[error("it has no {0}")]
    Missing(&'static str),
    /// It is not what the board stored.
    #[error("its hash is not that of its picture and its facts")]
    Hash,
    /// What it says of itself cannot be read.
    #[error("its {what} cannot be read: {reason}")]
    Unreadable {
        /// Which member.
        what: &'static str,
        /// Why.
        reason: String,
    },
    /// Its parts contradict each other.
    #[error("its {0} do not agree")]
    Contradiction(&'static str),
}

/// A member as it came.
struct Member {
    key: String,
    kind: Kind,
    at: u64,
    bytes: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Picture,
    Text,
    Facts,
    Labels,
    Tombstone,
}

impl Kind {
    const ENDINGS: [(Kind, &'static str); 5] = [
        (Kind::Picture, "jpg"),
        (Kind::Text, "txt"),
        (Kind::Facts, "json"),
        (Kind::Labels, "labels.json"),
        (Kind::Tombstone, "forgotten.json"),
    ];
}

/// The pairs of a shard that is named after its bytes.
///
/// # Errors
/// A file that is no shard.
pub fn read(digest: Digest, bytes: &[u8]) -> Result<Vec<Item>, ShardError> {
    if bytes.len() > MAX_SHARD_BYTES {
        return Err(ShardError::TooLong { bytes: bytes.len() });
    }
    if Digest::of(bytes) != digest {
        return Err(ShardError::Digest);
    }
    let mut members = members(bytes)?.into_iter().peekable();
    let mut items = Vec::new();
    while let Some(first) = members.next() {
        if first.kind == Kind::Tombstone {
            items.push(tombstone(&first));
            continue;
        }
        let mut parts = vec![first];
        // The parts of a pair stand together, in their order, each once.
        while let Some(next) =
            members.next_if(|next| parts.last().is_some_and(|last| next.key == last.key && next.kind > last.kind))
        {
            parts.push(next);
        }
        items.push(pair(parts));
    }
    Ok(items)
}

/// Where in a shard the members of a pair stand, in bytes.
///
/// # Errors
/// A file that is no shard.
pub fn places_of(bytes: &[u8], pair: Digest) -> Result<Vec<Range<u64>>, ShardError> {
    let key = pair.to_string();
    let of_pair = members(bytes)?.into_iter().filter(|member| member.key == key);
    Ok(of_pair.map(|member| member.at..member.at + member.bytes.len() as u64).collect())
}

/// A shard in which only these pairs are left: zeros stand in the place of everything else, and nothing moves.
///
/// # Errors
/// A file that is no shard.
pub fn with_only(bytes: &[u8], pairs: &BTreeSet<Digest>) -> Result<Vec<u8>, ShardError> {
    let mut left = bytes.to_vec();
    for member in members(bytes)? {
        let is_wanted = member.key.parse().is_ok_and(|key: Digest| pairs.contains(&key));
        let start = usize::try_from(member.at).unwrap_or(usize::MAX);
        if let Some(place) = left.get_mut(start..start.saturating_add(member.bytes.len())).filter(|_| !is_wanted) {
            place.fill(0);
        }
    }
    Ok(left)
}

fn members(bytes: &[u8]) -> Result<Vec<Member>, ShardError> {
    let tar_fault = |error: std::io::Error| ShardError::Tar(error.to_string());
    let mut members = Vec::new();
    let mut archive = Archive::new(bytes);
    // Raw: a header that changes the meaning of the next one is a member like any other, and none of ours.
    for entry in archive.entries().map_err(tar_fault)?.raw(true) {
        let mut entry = entry.map_err(tar_fault)?;
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let refused = || ShardError::Member { name: name.escape_default().take(120).collect() };
        if entry.header().entry_type() != EntryType::Regular {
            return Err(refused());
        }
        let (key, kind) = named(&name).ok_or_else(refused)?;
        let size = usize::try_from(entry.size()).unwrap_or(usize::MAX);
        if size > bytes.len() {
            return Err(ShardError::Tar("it ends within a member".to_owned()));
        }
        let at = entry.raw_file_position();
        let mut bytes = Vec::with_capacity(size);
        entry.read_to_end(&mut bytes).map_err(tar_fault)?;
        members.push(Member { key: key.to_owned(), kind, at, bytes });
    }
    Ok(members)
}

fn named(name: &str) -> Option<(&str, Kind)> {
    let (key, ending) = name.split_once('.')?;
    let (kind, _) = Kind::ENDINGS.into_iter().find(|(_, known)| *known == ending)?;
    let is_key = match kind {
        Kind::Tombstone => key.parse::<PairId>().is_ok(),
        _ => key.parse::<Digest>().is_ok(),
    };
    is_key.then_some((key, kind))
}

fn tombstone(member: &Member) -> Item {
    let unreadable = |reason: String| PairFault::Unreadable { what: "tombstone", reason };
    let event = match serde_json::from_slice::<Event>(&member.bytes) {
        Ok(event) if event.is_tombstone() && event.pair.to_string() == member.key => return Item::Forgotten(event),
        Ok(_) => unreadable("it is of something else".to_owned()),
        Err(error) => unreadable(error.to_string()),
    };
    let sent = member.key.parse().ok().map(|id| Sent { id, sha256: None, labels: 0 });
    Item::Refused { sent, fault: event }
}

fn pair(parts: Vec<Member>) -> Item {
    let key = parts.first().and_then(|part| part.key.parse::<Digest>().ok());
    let mut all = Parts::default();
    for Member { kind, at, bytes, .. } in parts {
        match kind {
            Kind::Picture => (all.jpeg, all.picture_at) = (Some(bytes), Some(at)),
            Kind::Text => all.text = Some(bytes),
            Kind::Facts => all.facts = Some(bytes),
            Kind::Labels => all.labels = Some(bytes),
            Kind::Tombstone => {}
        }
    }
    let mut sent = None;
    match checked(key, all, &mut sent) {
        Ok(pair) => Item::Pair(Box::new(pair)),
        Err(fault) => Item::Refused { sent, fault },
    }
}

#[derive(Default)]
struct Parts {
    jpeg: Option<Vec<u8>>,
    picture_at: Option<u64>,
    text: Option<Vec<u8>>,
    facts: Option<Vec<u8>>,
    labels: Option<Vec<u8>>,
}

/// The pair that the parts make; `sent` is what can be told of it even if they make none.
fn checked(key: Option<Digest>, parts: Parts, sent: &mut Option<Sent>) -> Result<ReceivedPair, PairFault> {
    let facts_bytes = parts.facts.ok_or(PairFault::Missing("facts"))?;
    let facts: PairFacts = parsed("facts", &facts_bytes)?;
    let labels: Vec<Label> = parts.labels.as_deref().map_or(Ok(Vec::new()), |bytes| parsed("labels", bytes))?;
    *sent = Some(Sent { id: facts.id, sha256: key, labels: labels.len() });
    let jpeg = parts.jpeg.unwrap_or_default();
    let sha256 = store::pair_hash(&facts_bytes, &jpeg);
    if key != Some(Digest::from(sha256)) {
        return Err(PairFault::Hash);
    }
    if labels.len() > MAX_LABELS {
        let reason = format!("there are {} of them", labels.len());
        return Err(PairFault::Unreadable { what: "labels", reason });
    }
    if facts.jpeg_bytes != jpeg.len() as u64 {
        return Err(PairFault::Contradiction("picture and facts"));
    }
    if facts.texts.len() > store::pair::MAX_TEXTS || !facts.is_finite() {
        return Err(PairFault::Unreadable {
            what: "facts",
            reason: "too many texts, or a score that is no number".into(),
        });
    }
    let jpeg = facts.has_picture().then_some(jpeg);
    let pair = StoredPair { facts, jpeg, sha256, labels };
    let first = pair.texts().first().map(|text| text.words.as_str().as_bytes().to_vec());
    if first != parts.text {
        return Err(PairFault::Contradiction("text and facts"));
    }
    Ok(ReceivedPair { pair, facts: facts_bytes, picture_at: parts.picture_at })
}

fn parsed<T: serde::de::DeserializeOwned>(what: &'static str, bytes: &[u8]) -> Result<T, PairFault> {
    if bytes.len() > MAX_FACTS_BYTES {
        return Err(PairFault::Unreadable { what, reason: format!("it has {} bytes", bytes.len()) });
    }
    serde_json::from_slice(bytes).map_err(|error| PairFault::Unreadable { what, reason: error.to_string() })
}
