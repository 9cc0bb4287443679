//! Captioning and filtering: a new dataset from a noisy one.
