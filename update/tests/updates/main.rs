//! Releases on a board, over a place that does everything wrong, with power cuts.

#![allow(clippy::unwrap_used, reason = "what helps a test may fail as the test does")]

mod place;
mod fetching;
mod slots;
mod life;
mod power;
#[expect(dead_code, reason = "the rig of the store; half of it is needed here")]
#[path = "../../../store/tests/disk.rs"]
mod disk;
