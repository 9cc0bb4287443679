//! The field runtime as a user runs it.

#![allow(clippy::unwrap_used, reason = "what helps a test may fail as the test does")]

mod program;
mod sources;
mod served;
