//! Several processes that train one model.

/// Another rank is gone, slow, or of another mind.
#[derive(Debug, thiserror::Error)]
pub enum RanksError {}
