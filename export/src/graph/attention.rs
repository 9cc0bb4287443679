//! Multi-head attention: calls of our functions, over rows in which the heads stand side by side.

use blip::manifest::{ATTENTION, CACHED_ATTENTION, CROSS_ATTENTION, Element, KEYS_AND_VALUES};

use super::{Attribute, Builder, Value};

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

    /// Number of heads, and what the scores are multiplied by.
    fn attributes(self) -> Vec<Attribute> {
        let scale = 1.0 / (self.width as f32).sqrt();
        vec![Attribute::Int("heads", self.count as i64), Attribute::Float("scale", scale)]
    }
}

impl Builder {
    /// Every token sees all: queries, keys and values `[batch, length, 3 x width]` -> `[batch, length, width]`.
    pub(super) fn attention(&mut self, qkv: &Value, heads: Heads) -> Value {
        let [mixed] = self.call(ATTENTION, &[qkv], heads.attributes());
        mixed
    }

    /// Each token sees itself and what stands before it, in this call and in the cache.
    ///
    /// `[batch, length, 3 x width]` and a cache `[batch, heads, past, head width]` -> `[batch, length, width]`, and keys and
    /// values of this call's tokens as the cache has them.
    pub(super) fn cached_attention(
        &mut self,
        qkv: &Value,
        past: &[Value; 2],
        heads: Heads,
        cache: Element,
    ) -> (Value, [Value; 2]) {
        let mut attributes = heads.attributes();
        attributes.push(element(cache));
        let [mixed, key, value] = self.call(CACHED_ATTENTION, &[qkv, &past[0], &past[1]], attributes);
        (mixed, [key, value])
    }

    /// Every token sees the whole memory: queries `[batch, length, width]`, keys and values
    /// `[1, heads, memory, head width]` -> `[batch, length, width]`.
    pub(super) fn cross_mix(&mut self, query: &Value, memory: &[Value; 2], heads: Heads) -> Value {
        let [mixed] = self.call(CROSS_ATTENTION, &[query, &memory[0], &memory[1]], heads.attributes());
        mixed
    }

    /// `[batch, length, 2 x width]` -> keys and values, `[batch, heads, length, head width]` each.
    pub(super) fn keys_and_values(&mut self, both: &Value, heads: Heads, cache: Element) -> [Value; 2] {
        let attributes = vec![Attribute::Int("heads", heads.count as i64), element(cache)];
        self.call(KEYS_AND_VALUES, &[both], attributes)
    }
}

/// Element type of a cache, as ONNX numbers it.
fn element(cache: Element) -> Attribute {
    let number = match cache {
        Element::F32 => 1,
        Element::I64 => 7,
        Element::F16 => 10,
    };
    Attribute::Int("cache", number)
}
