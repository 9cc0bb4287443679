//! Training as a user runs it: the program, what it leaves in its folder, and what it says.
//!
//! `EDGEBLIP_LONG=1` kills runs as often as a release is checked with.

mod place;
mod resumed;
mod saved;
mod ranks;
mod tasks;
mod bad_settings;
mod bad_data;
mod command_line;
