//! The layers of a text stack: BERT, with or without a causal mask, with or without cross-attention.

use blip::config::TextConfig;
use blip::manifest::{Dimension, Element};

use super::attention::Heads;
use super::{Builder, Style, Value, fixed, symbol};

/// What self-attention sees besides the tokens of this call.
pub(super) enum SelfAttention {
    /// All tokens of the text.
    Whole,
    /// The tokens before, kept as keys and values.
    Cached { past: Vec<[Value; 2]>, cache: Element },
}

/// Keys and values of the cross-attention, `[1, heads, memory, head width]`, by layer.
pub(super) struct Cross(pub(super) Vec<[Value; 2]>);

impl Builder {
    /// Ids `[batch, length]`.
    pub(super) fn token_ids(&mut self) -> Value {
        self.input("input_ids", Element::I64, vec![symbol("batch"), symbol("length")])
    }

    /// Embeds ids that stand at positions `from..to` (values of shape `[1]`).
    ///
    /// Source: BLIP `models/med.py`, `BertEmbeddings.forward`.
    pub(super) fn embed_tokens(&mut self, ids: &Value, [from, to]: [&Value; 2], config: &TextConfig) -> Value {
        let words = self.embedding(ids, "embeddings.words", [config.vocabulary_size, config.width]);
        let table = self.parameter("embeddings.positions", vec![config.positions, config.width]);
        let positions = self.slice(&table, from, to, 0);
        let sum = self.add(&words, &positions);
        self.norm(&sum, "embeddings.norm", config.width, config.norm_eps)
    }

    /// Declares the inputs `NAME_key_N` and `NAME_value_N` of every layer.
    pub(super) fn layer_inputs(
        &mut self,
        name: &str,
        [batch, length]: [Dimension; 2],
        config: &TextConfig,
        style: Style,
    ) -> Vec<[Value; 2]> {
        let heads = Heads::of(config.width, config.heads);
        let shape = vec![batch, fixed(heads.count), length, fixed(heads.width)];
        (0..config.layers)
            .map(|layer| {
                ["key", "value"].map(|kind| self.input(&format!("{name}_{kind}_{layer}"), style.cache(), shape.clone()))
            })
            .collect()
    }

    /// Cross-attention keys and values as inputs, computed by the `cross` graph.
    pub(super) fn cross_inputs(&mut self, config: &TextConfig, style: Style) -> Cross {
        Cross(self.layer_inputs("cross", [fixed(1), symbol("memory")], config, style))
    }

    /// Runs every layer; returns the last state and, where there is a cache, each layer's keys and values of this call's
    /// tokens.
    ///
    /// Source: BLIP `models/med.py`, `BertLayer.forward`.
    pub(super) fn text_layers(
        &mut self,
        state: &Value,
        attention: &SelfAttention,
        cross: Option<&Cross>,
        config: &TextConfig,
    ) -> (Value, Vec<[Value; 2]>) {
        let mut state = state.clone();
        let mut fresh = Vec::with_capacity(config.layers);
        for layer in 0..config.layers {
            let (seen, keys_values) = self.self_attention(&state, attention, layer, config);
            fresh.extend(keys_values);
            state = match cross {
                Some(cross) => self.cross_attention(&seen, &cross.0[layer], layer, config),
                None => seen,
            };
            state = self.feed_forward(&state, layer, config);
        }
        (state, fresh)
    }

    fn self_attention(
        &mut self,
        state: &Value,
        attention: &SelfAttention,
        layer: usize,
        config: &TextConfig,
    ) -> (Value, Option<[Value; 2]>) {
        let heads = Heads::of(config.width, config.heads);
        let names = ["query", "key", "value"].map(|kind| format!("layers.{layer}.self.{kind}"));
        let qkv = self.stacked_linear(state, &names, [config.width, config.width]);
        let (mixed, fresh) = match attention {
            SelfAttention::Whole => (self.attention(&qkv, heads), None),
            SelfAttention::Cached { past, cache } => {
                let (mixed, fresh) = self.cached_attention(&qkv, &past[layer], heads, *cache);
                (mixed, Some(fresh))
            }
        };
        (self.attention_output(&mixed, state, &format!("layers.{layer}.self"), config), fresh)
    }

    fn cross_attention(&mut self, state: &Value, memory: &[Value; 2], layer: usize, config: &TextConfig) -> Value {
        let heads = Heads::of(config.width, config.heads);
        let query = self.linear(state, &format!("layers.{layer}.cross.query"), [config.width, config.width]);
        let mixed = self.cross_mix(&query, memory, heads);
        self.attention_output(&mixed, state, &format!("layers.{layer}.cross"), config)
    }

    fn attention_output(&mut self, mixed: &Value, state: &Value, name: &str, config: &TextConfig) -> Value {
        let output = self.linear(mixed, &format!("{name}.output"), [config.width, config.width]);
        let sum = self.add(&output, state);
        self.norm(&sum, &format!("{name}.norm"), config.width, config.norm_eps)
    }

    fn feed_forward(&mut self, state: &Value, layer: usize, config: &TextConfig) -> Value {
        let wide = self.linear(state, &format!("layers.{layer}.intermediate"), [config.feed_forward, config.width]);
        let wide = self.gelu(&wide);
        let narrow = self.linear(&wide, &format!("layers.{layer}.output"), [config.width, config.feed_forward]);
        let sum = self.add(&narrow, state);
        self.norm(&sum, &format!("layers.{layer}.norm"), config.width, config.norm_eps)
    }
}
