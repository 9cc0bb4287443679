//! Training as a user runs it: the program, what it leaves in its folder, and what it says.
//!
//! `EDGEBLIP_LONG=1` kills runs as often as a release is checked with.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

mod place;
mod resumed;
mod saved;
mod captions;
mod ranks;
mod tasks;
mod bad_settings;
mod bad_data;
mod command_line;
