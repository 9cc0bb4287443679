//! What a board does besides looking and captioning: its configuration, clock, pins and heat, when it takes a frame, and
//! what of it is worth keeping.
//!
//! Decisions are functions of what they are given: time, readings and scores are arguments, so that a day passes in a
//! test as fast as it is counted. For Linux. Modules stand in the order in which the data meets them, and a module uses
//! only those above it.

#![deny(unsafe_code)]

pub mod hours;
pub mod region;
pub mod board;
pub mod config;
pub mod log;
pub mod clock;
pub mod position;
pub mod gpsd;
pub mod signals;
pub mod watchdog;
pub mod heat;
pub mod light;
pub mod lamp;
pub mod pins;
pub mod ring;
pub mod trigger;
pub mod duplicates;
pub mod filter;
