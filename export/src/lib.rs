//! Turns trained BLIP checkpoints into a bundle: ONNX graphs, int8 or f32, around one file of weights.
//!
//! Modules stand in the order in which the data meets them, and a module uses only those above it.

#![forbid(unsafe_code)]

pub mod weights;
pub mod graph;
pub mod quantize;
pub mod weight_file;
pub mod place;
pub mod onnx;
pub mod bundle;
pub mod verify;
pub mod pipeline;
pub mod inspect;
