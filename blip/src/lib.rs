//! BLIP as facts and pure functions.
//!
//! No I/O and no `unsafe`: everything here is the same on a board and on a host. Modules stand in the order in which
//! the data meets them, and a module uses only those above it.

#![forbid(unsafe_code)]

pub mod config;
pub mod tokenizer;
pub mod caption;
pub mod pixels;
pub mod decoding;
pub mod manifest;
