//! The way home: pairs to the host in shards, receipts back, over networks that come and go.
//!
//! A pair leaves a board only after the host's signed receipt says that it is safe there, whatever an answer of the
//! network says. Clock, network and chance are arguments. Modules stand in the order in which the data meets them, and a
//! module uses only those above it.

#![forbid(unsafe_code)]

pub mod clock;
pub mod backoff;
pub mod quota;
pub mod identity;
pub mod ledger;
pub mod settling;
pub mod round;
pub mod status;

pub use backoff::Backoff;
pub use clock::{Clock, Moment, Waited};
pub use identity::{Identity, IdentityError};
pub use ledger::{Ledger, LedgerError, Refusal};
pub use round::{Limits, Report, Round, State};

use std::path::{Path, PathBuf};

/// Where a board keeps what is under way, by the folder of its pairs: beside it.
pub fn folder_beside(pairs: &Path) -> PathBuf {
    pairs.parent().unwrap_or(pairs).join("sync")
}
