//! Where a board keeps image-text pairs for weeks, through power cuts.
//!
//! One folder, in it SQLite databases of at most [`MAX_FILE_BYTES`] each, so that damage to one leaves the others. A
//! pair is acknowledged when [`Store::commit`] or [`Store::flush`] has returned its name: from then on it survives a
//! power cut. Opening never refuses because of what is in the folder: what is damaged is salvaged, set aside and listed.
//!
//! Time is an argument, nothing waits, and a disk that is full, read-only or failing is a [`Trouble`] that the caller
//! lives with until [`Store::try_again`] succeeds.

#![forbid(unsafe_code)]

pub mod pair;
pub mod event;
mod error;
mod folder;
mod database;
mod log;
mod carve;
mod salvage;
mod group;
mod verify;
mod reader;
mod store;

pub use blip::caption::Origin;
pub use database::MAX_FILE_BYTES;
pub use error::{StoreError, Trouble};
pub use event::{Event, Label, LabelAction, texts};
pub use pair::{
    ClockQuality, Decision, Pair, PairFacts, PairId, PairIdError, Place, Sensor, Stamp, State, Text, Vector,
    hash as pair_hash,
};
pub use reader::{Counts, Entry, Filter, Order, Original, Reader, Stats, StoredPair};
pub use store::{Limits, Opened, Receipt, SetAside, Store, Tally};
pub use verify::{Fault, Verification};
