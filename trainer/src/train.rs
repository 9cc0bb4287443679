//! The training loop.

mod learner;

pub use learner::{Learner, LearnerSettings, Outcome, Shared, State};
