//! Measures a model on a dataset.
