//! The host's own place: a subset of S3 over a careful folder.
//!
//! Objects lie in the host's `objects/` as files of their names, so that `file://` reads the same place. An object is there wholly or not at
//! all: it is written beside, hashed on the way, synced, and only then has its name. Boards put shards and health reports, and read receipts and
//! releases; the operator's key may do everything, listing and deleting included.
//!
//! Modules stand in the order in which a request meets them, and a module uses only those above it.

#![forbid(unsafe_code)]

mod patience;
mod key;
mod folder;
mod counters;
mod listing;
mod shares;
mod access;
mod place;
mod listening;

pub use access::{Access, AccessError};
pub use counters::{Counters, router};
pub use folder::Folder;
pub use listening::{ListenError, Listener, Stop, certificate};
pub use patience::Patience;
pub use place::{BUCKET, Place};
pub use shares::Limits;
