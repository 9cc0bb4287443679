//! The arithmetic that a picture spends its time in: one safe function an operation, an implementation an instruction set.

pub mod lanes;
pub mod half_rows;
pub mod exponential;
pub mod layer_norm;
pub mod gelu;
pub mod attention;
pub mod quantized_embedding;
pub mod quantized_linear;
