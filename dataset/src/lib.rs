//! Image-text pairs on disk, in the formats that others read.
//!
//! [`write::DatasetWriter`] takes pairs one by one, and only their names stay in memory. Whatever fails, no reader finds a
//! dataset that is not whole.

#![forbid(unsafe_code)]

pub mod disk;
pub mod pair;
pub mod format;
pub mod write;

pub use format::Format;
pub use pair::{MAX_TEXT_BYTES, Origin, Pair, Text};
