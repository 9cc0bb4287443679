//! Releases taken up by a board: fetched, verified, tried in a slot, kept or given back.
//!
//! ```text
//! updates/state.json     what is believed, what runs, what is tried, what was given back
//! updates/slots/a, b     two bundles; the third is the factory's, which lies elsewhere and never changes
//! updates/partial/SHA    files that are on their way
//! ```
//!
//! A slot is written only while nothing runs from it, and counts only when the state says so, which it does after everything in the
//! slot is on the disk. A test and a try are counted before they begin: whatever a bad release does to the board, it has three of
//! each.
//!
//! Modules stand in the order in which the data meets them, and a module uses only those above it.

#![forbid(unsafe_code)]

mod state;
mod files;
mod slots;
mod fetching;
mod reports;
mod watch;

pub use fetching::{Fetched, Offered};
pub use slots::{Chosen, Claim, UpdateError, Updates};
pub use state::{Denied, Filled, Slot, State, Trial};
pub use watch::{Watch, Written};

use std::path::{Path, PathBuf};

/// Where a board keeps releases, by the folder of its pairs: beside it.
pub fn folder_beside(pairs: &Path) -> PathBuf {
    pairs.parent().unwrap_or(pairs).join("updates")
}
