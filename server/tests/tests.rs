//! The place over real connections.

#![allow(clippy::unwrap_used, reason = "what helps a test may fail as the test does")]

mod world;
mod raw;
mod place;
mod attacks;
mod patience;
mod tls;
