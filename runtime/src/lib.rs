//! BLIP on small boards: pictures to captions, match scores, answers and search vectors.
//!
//! Modules stand in the order in which the data meets them, and a module uses only those above it.

pub use picture;

pub mod cores;
pub mod kernels;
pub mod bundle;
pub mod inference;
pub mod vision;
pub mod decoder;
pub mod captioner;
pub mod matcher;
pub mod answerer;
pub mod model;
pub mod search;
pub mod golden;
pub mod installation;
pub mod trial;
pub mod filter;
pub mod export;
pub mod face;
pub mod pipeline;
pub mod page;
pub mod mqtt;
