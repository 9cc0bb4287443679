//! BLIP weights from files: complete, or one error.
//!
//! [`Checkpoint::open`] reads a Hugging Face folder or the authors' `.pth`, gives every tensor our own name, and
//! refuses a file that misses a tensor, has one too many or one of another shape. Nothing is executed, and every size
//! is checked before it is believed. Modules stand in the order in which the data meets them, and a module uses only
//! those above it.

#![forbid(unsafe_code)]

pub mod tensor;
pub mod safetensors;
pub mod pickle;
pub mod archive;
mod error;
mod file;
mod torch;
mod weights;
mod names;
mod configuration;
mod sizes;
mod positions;
mod vocabulary;
mod open;

pub use configuration::GenerationDefaults;
pub use error::{CheckpointError, Misshapen};
pub use file::MAX_CONFIG_BYTES;
pub use names::{Expected, hugging_face_tensors};
pub use open::{Checkpoint, OpenOptions};
pub use positions::interpolate as interpolate_positions;
pub use sizes::HEAD_WIDTH;
pub use tensor::Tensor;
pub use vocabulary::Vocabulary;
pub use weights::{MAX_INDEX_BYTES, MAX_SHARDS, TensorFile};
