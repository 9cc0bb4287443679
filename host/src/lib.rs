//! What comes home: boards that are known, shards that arrive, pairs that are kept, receipts that are signed.
//!
//! A host is a folder:
//!
//! ```text
//! host.key       its secret key, which signs receipts
//! release.key    the secret key that signs releases of models
//! inbox.db       boards, pairs, receipts: SQLite
//! objects/       where boards put shards and find receipts, unless that is somewhere else
//! shards/        what has come home: tars, in which each pair stands once
//! quarantine/    what no shard is, for a look
//! versions/      datasets that were made of the pairs, by number
//! ```
//!
//! Modules stand in the order in which the data meets them, and a module uses only those above it.

#![forbid(unsafe_code)]

pub mod likeness;
pub mod decoder;
mod book;
mod shelf;
mod home;
pub mod devices;
pub mod curation;
pub mod versions;
pub mod deletion;
pub mod retention;
pub mod backup;
pub mod inbox;
pub mod releases;
#[cfg(test)]
mod tests;

use std::time::{SystemTime, UNIX_EPOCH};

pub use book::{BookError, HomePair, Word, day_of};
pub use curation::{CurationError, Page, PairFilter, PairName};
pub use decoder::{Decoder, Program};
pub use devices::{Device, Standing};
pub use home::{Home, HomeError};
pub use inbox::{Inbox, InboxError, Summary};
pub use releases::{PublishError, Releases};

/// Seconds since 1970, by this machine's clock.
pub fn now_s() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}
