//! Holds no code: the package exists for its test binary.
