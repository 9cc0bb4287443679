//! The arithmetic that a picture spends its time in: one safe function an operation, an implementation an instruction set.

pub mod quantized_embedding;
pub mod quantized_linear;
