//! BLIP in full: trains from pairs, filters and re-captions them (CapFilt), measures, and writes weights that
//! `edgeblip-export` and transformers read.
//!
//! Modules stand in the order in which the data meets them, and a module uses only those above it.

pub mod scenes;
pub mod dataset;
pub mod augmentation;
pub mod loader;
pub mod ranks;
pub mod engine;
pub mod tape;
pub mod model;
pub mod objectives;
pub mod optimizer;
pub mod weights;
pub mod generation;
pub mod metrics;
pub mod journal;
pub mod report;
pub mod snapshot;
pub mod settings;
pub mod train;
pub mod evaluation;
pub mod capfilt;
