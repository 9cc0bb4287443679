//! Records the forward pass and plays it backward.
