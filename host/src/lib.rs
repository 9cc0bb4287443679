//! What comes home: boards that are known, shards that arrive, pairs that are kept, receipts that are signed.
//!
//! A host is a folder:
//!
//! ```text
//! host.key       its secret key, which signs receipts
//! inbox.db       boards, pairs, receipts: SQLite
//! objects/       where boards put shards and find receipts, unless that is somewhere else
//! shards/        what has come home: tars, in which each pair stands once
//! quarantine/    what no shard is, for a look
//! ```
//!
//! Modules stand in the order in which the data meets them, and a module uses only those above it.

#![forbid(unsafe_code)]

pub mod decoder;
mod book;
mod shelf;
mod home;
pub mod devices;
pub mod inbox;

pub use book::BookError;
pub use decoder::{Decoder, Program};
pub use devices::{Device, Standing};
pub use home::{Home, HomeError};
pub use inbox::{Inbox, InboxError, Summary};
