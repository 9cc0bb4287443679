//! The CPU reference: it defines the answer.
