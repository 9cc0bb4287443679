//! What a step of AdamW reads and changes.

use std::ops::Range;

use super::Device;

/// Places in the vector that [`Device::adamw`] reads, so that a captured step can be given new values.
pub mod scalars {
    /// Learning rate.
    pub const LEARNING_RATE: usize = 0;
    /// `1 - beta1^step`.
    pub const FIRST_CORRECTION: usize = 1;
    /// `1 - beta2^step`.
    pub const SECOND_CORRECTION: usize = 2;
    /// Weight of the momentum encoders' opinion in the ITC targets.
    pub const ALPHA: usize = 3;
    /// Share of the momentum copy that stays.
    pub const MOMENTUM: usize = 4;
    /// Length of the vector.
    pub const COUNT: usize = 8;
}

/// Constants of AdamW. Source: Loshchilov and Hutter, arXiv 1711.05101, algorithm 2; PyTorch `torch.optim.AdamW`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamW {
    /// Decay of the first moment.
    pub beta1: f32,
    /// Decay of the second moment.
    pub beta2: f32,
    /// Keeps the division finite.
    pub epsilon: f32,
    /// Decoupled weight decay.
    pub weight_decay: f32,
    /// Largest norm of the whole gradient; larger ones are scaled down to it. Infinite for none.
    pub max_norm: f32,
}

/// Parameters and what AdamW keeps of them; all of one length.
pub struct AdamWState<'a, D: Device> {
    /// The parameters.
    pub weights: &'a mut D::Flat,
    /// Their gradients.
    pub gradients: &'a D::Flat,
    /// First moments.
    pub first: &'a mut D::Flat,
    /// Second moments.
    pub second: &'a mut D::Flat,
    /// Which of them change.
    pub range: Range<usize>,
}
