//! Multi-head attention in standard operators.

use super::{Builder, Constant, Value};

/// Shape of an attention: heads and the width of one.
#[derive(Clone, Copy)]
pub(super) struct Heads {
    pub(super) count: usize,
    pub(super) width: usize,
}

impl Heads {
    pub(super) fn of(width: usize, count: usize) -> Self {
        Self { count, width: width / count }
    }
}

impl Builder {
    /// `[batch, length, width]` -> `[batch, heads, length, head width]`.
    pub(super) fn split_heads(&mut self, value: &Value, heads: Heads) -> Value {
        let apart = self.reshape(value, &[0, 0, heads.count as i64, heads.width as i64]);
        self.transpose(&apart, &[0, 2, 1, 3])
    }

    /// Softmax attention; all of `[batch, heads, length, head width]`, the result `[batch, length, width]`.
    ///
    /// `mask` is added to the scores, `[length, memory]`.
    pub(super) fn attention(&mut self, [query, key, value]: [&Value; 3], mask: Option<&Value>, heads: Heads) -> Value {
        let scale = self.constant(Constant::F32(1.0 / (heads.width as f32).sqrt()));
        let query = self.node("Mul", &[query, &scale], Vec::new());
        let key = self.transpose(key, &[0, 1, 3, 2]);
        let mut scores = self.node("MatMul", &[&query, &key], Vec::new());
        if let Some(mask) = mask {
            scores = self.add(&scores, mask);
        }
        let weights = self.node("Softmax", &[&scores], vec![super::Attribute::Int("axis", -1)]);
        let mixed = self.node("MatMul", &[&weights, value], Vec::new());
        let together = self.transpose(&mixed, &[0, 2, 1, 3]);
        self.reshape(&together, &[0, 0, (heads.count * heads.width) as i64])
    }
}
