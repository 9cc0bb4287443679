//! Writes texts for a batch of pictures.
