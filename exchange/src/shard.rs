//! Shards: tars in which pairs travel, also read by WebDataset's own readers.
//!
//! Of each pair, in this order, with KEY its hash ([`store::pair_hash`]):
//!
//! ```text
//! KEY.jpg           the picture
//! KEY.txt           the text that goes with it, if any does
//! KEY.json          its facts, byte for byte as the hash covers them
//! KEY.labels.json   what people said of it, if they did
//! NAME.forgotten.json   of a pair that is gone: its tombstone
//! ```
//!
//! The same pairs with the same labels are the same bytes, and a shard is named by their SHA-256: sending it twice is no
//! harm.

mod packing;
mod reading;

use store::PairId;

use crate::digest::Digest;

pub use packing::{PackError, PackedShard, Packer};
pub use reading::{Item, PairFault, ReceivedPair, ShardError, places_of, read, with_only};

/// Bytes at which a shard takes no further pair. One that alone is larger travels alone.
pub const SHARD_BYTES: usize = 8 << 20;
/// Most bytes of any shard: the largest picture with its texts.
pub const MAX_SHARD_BYTES: usize = store::pair::MAX_JPEG_BYTES + (2 << 20);
/// Most bytes of facts, or of labels.
pub const MAX_FACTS_BYTES: usize = 512 << 10;
/// Most labels of a pair that travel.
pub const MAX_LABELS: usize = 512;

/// What the board remembers of a pair that it sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Sent {
    /// The pair.
    pub id: PairId,
    /// Its hash; nothing for a tombstone.
    pub sha256: Option<Digest>,
    /// How many labels it had.
    pub labels: usize,
}

#[cfg(test)]
mod tests;
