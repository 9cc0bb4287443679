//! What a board and its host hand each other, as bytes: shards of pairs, receipts, enrolments, releases of models.
//!
//! Nothing here opens a file or a connection. What comes from outside is checked before it is a value; what was signed is
//! read from the very bytes that the signature covers. Modules stand in the order in which the data meets them, and a
//! module uses only those above it.

#![forbid(unsafe_code)]

pub mod digest;
pub mod key;
pub mod signed;
pub mod device;
pub mod release;
pub mod enrolment;
pub mod shard;
pub mod receipt;

pub use device::DeviceName;
pub use digest::Digest;
pub use enrolment::{Credentials, EnrolmentRequest, Grant};
pub use key::{PublicKey, SecretKey};
pub use receipt::{Receipt, Verdict};
pub use release::{Release, Trust};
pub use shard::{Item, PackedShard, Packer, ReceivedPair, Sent};
pub use signed::{SignedError, Statement};
