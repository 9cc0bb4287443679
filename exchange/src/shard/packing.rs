//! On the board: pairs into a shard.

use store::{Event, Original, PairFacts};
use tar::{Builder, EntryType, Header};

use super::{MAX_FACTS_BYTES, MAX_LABELS, SHARD_BYTES, Sent};
use crate::digest::Digest;

/// Bytes of a tar's block, and of a member's header.
const BLOCK: usize = 512;

/// A shard in the making, in memory.
pub struct Packer {
    tar: Builder<Vec<u8>>,
    bytes: usize,
    sent: Vec<Sent>,
}

/// A shard that can be sent.
#[derive(Clone, PartialEq, Eq)]
pub struct PackedShard {
    /// Its name.
    pub digest: Digest,
    /// The tar.
    pub bytes: Vec<u8>,
    /// What is in it.
    pub sent: Vec<Sent>,
}

/// A pair that no shard takes.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum PackError {
    /// It goes into the next shard.
    #[error("the shard is full")]
    Full,
    /// A pair that the host would refuse.
    #[error("the pair has {what}, more than travels")]
    TooLong {
        /// What there is too much of.
        what: String,
    },
    /// Facts that cannot be read.
    #[error("the pair's facts cannot be read")]
    Facts,
}

impl Default for Packer {
    fn default() -> Packer {
        Packer::new()
    }
}

impl Packer {
    /// An empty one.
    pub fn new() -> Packer {
        // Two blocks end a tar.
        Packer { tar: Builder::new(Vec::new()), bytes: 2 * BLOCK, sent: Vec::new() }
    }

    /// Takes a pair.
    ///
    /// # Errors
    /// A shard that has no room for it, a pair that the host would refuse.
    pub fn add(&mut self, pair: &Original) -> Result<(), PackError> {
        let facts: PairFacts = serde_json::from_slice(&pair.facts).map_err(|_| PackError::Facts)?;
        let labels = if pair.labels.is_empty() { Vec::new() } else { json(&pair.labels) };
        let what = match (pair.facts.len().max(labels.len()) > MAX_FACTS_BYTES, pair.labels.len() > MAX_LABELS) {
            (false, false) => None,
            (true, _) => Some(format!("{} KiB of texts and labels", pair.facts.len().max(labels.len()) >> 10)),
            (false, true) => Some(format!("{} labels", pair.labels.len())),
        };
        if let Some(what) = what {
            return Err(PackError::TooLong { what });
        }
        let key = Digest::from(pair.sha256);
        let text = store::texts(&facts, &pair.labels).first().map(|text| text.words.as_str().to_owned());
        let members = [
            ("jpg", pair.jpeg.as_slice()),
            ("txt", text.as_deref().unwrap_or_default().as_bytes()),
            ("json", pair.facts.as_slice()),
            ("labels.json", labels.as_slice()),
        ];
        let members: Vec<(String, &[u8])> = members
            .into_iter()
            .filter(|(ending, bytes)| !bytes.is_empty() || (*ending == "txt" && text.is_some()))
            .map(|(ending, bytes)| (format!("{key}.{ending}"), bytes))
            .collect();
        self.take(&members, Sent { id: pair.id, sha256: Some(key), labels: pair.labels.len() })
    }

    /// Takes a tombstone.
    ///
    /// # Errors
    /// A shard that has no room for it.
    pub fn add_tombstone(&mut self, event: &Event) -> Result<(), PackError> {
        let id = event.pair;
        self.take(&[(format!("{id}.forgotten.json"), &json(event))], Sent { id, sha256: None, labels: 0 })
    }

    fn take(&mut self, members: &[(String, &[u8])], sent: Sent) -> Result<(), PackError> {
        let more: usize = members.iter().map(|(_, bytes)| BLOCK + bytes.len().next_multiple_of(BLOCK)).sum();
        if !self.sent.is_empty() && self.bytes + more > SHARD_BYTES {
            return Err(PackError::Full);
        }
        for (name, bytes) in members {
            let mut header = Header::new_ustar();
            header.set_entry_type(EntryType::Regular);
            header.set_mode(0o644);
            header.set_size(bytes.len() as u64);
            self.tar.append_data(&mut header, name, *bytes).expect("memory takes it, and the name is short");
        }
        self.bytes += more;
        self.sent.push(sent);
        Ok(())
    }

    /// The shard; nothing if nothing is in it.
    pub fn finish(self) -> Option<PackedShard> {
        if self.sent.is_empty() {
            return None;
        }
        let bytes = self.tar.into_inner().expect("memory takes it");
        Some(PackedShard { digest: Digest::of(&bytes), bytes, sent: self.sent })
    }
}

fn json(value: &impl serde::Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("labels are plain values")
}
