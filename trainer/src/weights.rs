//! Weights from checkpoints, and out again in Hugging Face's layout.
