//! What happened at each step, for people and for TensorBoard.
