//! Places that take objects by name: S3, WebDAV, a folder or a stick.
//!
//! [`Remote`] is what a board asks of one, [`Objects`] any of them. Why a request failed is told in words that the caller
//! acts on. Modules stand in the order in which the data meets them, and a module uses only those above it.

#![forbid(unsafe_code)]

mod remote;
pub mod trust;
mod signing;
mod pacing;
mod connection;
mod objects;

pub use objects::{Objects, ObjectsError, Options};
pub use remote::{Remote, RemoteError};
