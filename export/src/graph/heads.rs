//! The graphs around a text stack: what each head reads and answers.

use blip::config::{TextConfig, VisionConfig};
use blip::manifest::{Dimension, Element};

use super::attention::Heads;
use super::text::SelfAttention;
use super::{Attribute, Builder, Graph, Style, Value, fixed, symbol};

/// Keys and values of every cross-attention layer: `states [1, memory, cross width]` ->
/// `cross_key_N`, `cross_value_N` `[1, heads, memory, head width]`. Computed once a picture (or question).
pub fn cross(config: &TextConfig, part: &str, style: Style) -> Graph {
    let mut b = Builder::new("cross", part);
    let states = b.input("states", Element::F32, vec![fixed(1), symbol("memory"), fixed(config.cross_width)]);
    let heads = Heads::of(config.width, config.heads);
    for layer in 0..config.layers {
        let names = ["key", "value"].map(|kind| format!("layers.{layer}.cross.{kind}"));
        let both = b.stacked_linear(&states, &names, [config.width, config.cross_width]);
        let parts = b.keys_and_values(&both, heads, style.cache());
        for (kind, value) in ["key", "value"].into_iter().zip(&parts) {
            let shape = vec![fixed(1), fixed(heads.count), symbol("memory"), fixed(heads.width)];
            b.output(&format!("cross_{kind}_{layer}"), value, style.cache(), shape);
        }
    }
    b.finish()
}

/// The image-grounded text decoder with its cache.
///
/// `input_ids [batch, length]`, `past_key_N`, `past_value_N` `[batch, heads, past, head width]` and the cross-attention's
/// keys and values -> `logits [batch, vocabulary]` of the last token, `new_key_N`, `new_value_N`
/// `[batch, heads, length, head width]` of this call's tokens.
///
/// Source: BLIP `models/med.py`, `BertLMHeadModel.forward`.
pub fn decoder(config: &TextConfig, style: Style) -> Graph {
    let mut b = Builder::new("decoder", "decoder.");
    let ids = b.token_ids();
    let past_inputs = b.layer_inputs("past", [symbol("batch"), symbol("past")], config, style);
    let memory = b.cross_inputs(config, style);
    let (past, length) = (b.size(&"past_key_0".to_owned(), 2), b.size(&ids, 1));
    let total = b.add(&past, &length);
    let state = b.embed_tokens(&ids, [&past, &total], config);
    let attention = SelfAttention::Cached { past: past_inputs, cache: style.cache() };
    let (state, fresh) = b.text_layers(&state, &attention, Some(&memory), config);
    let logits = language_head(&mut b, &state, config);
    b.output("logits", &logits, Element::F32, vec![symbol("batch"), fixed(config.vocabulary_size)]);
    let heads = Heads::of(config.width, config.heads);
    let shape = vec![symbol("batch"), fixed(heads.count), symbol("length"), fixed(heads.width)];
    for (layer, values) in fresh.iter().enumerate() {
        for (kind, value) in ["key", "value"].into_iter().zip(values) {
            b.output(&format!("new_{kind}_{layer}"), value, style.cache(), shape.clone());
        }
    }
    b.finish()
}

/// Logits of the last token, `[batch, length, width]` -> `[batch, vocabulary]`.
///
/// Source: BLIP `models/med.py`, `BertLMPredictionHead.forward`.
fn language_head(b: &mut Builder, state: &Value, config: &TextConfig) -> Value {
    let last = token(b, state, -1);
    let transformed = b.linear(&last, "head.transform", [config.width, config.width]);
    let transformed = b.gelu(&transformed);
    let transformed = b.norm(&transformed, "head.norm", config.width, config.norm_eps);
    b.tied_linear(&transformed, "embeddings.words", "head.bias", [config.vocabulary_size, config.width])
}

/// ITM: `input_ids [batch, length]` and the cross-attention's keys and values -> `itm_logits [batch, 2]`.
///
/// Source: BLIP `models/blip_retrieval.py`, `forward` (the `itm_head` on token 0).
pub fn matcher(config: &TextConfig, style: Style) -> Graph {
    let mut b = Builder::new("matcher", "encoder.");
    let state = grounded(&mut b, config, style);
    let first = token(&mut b, &state, 0);
    b.root();
    let logits = b.f32_linear(&first, "itm_head", [2, config.width]);
    b.output("itm_logits", &logits, Element::F32, vec![symbol("batch"), fixed(2)]);
    b.finish()
}

/// The question encoder: `input_ids [batch, length]` and the cross-attention's keys and values ->
/// `question_states [batch, length, width]`.
///
/// Source: BLIP `models/blip_vqa.py`, `forward`.
pub fn question(config: &TextConfig, style: Style) -> Graph {
    let mut b = Builder::new("question", "encoder.");
    let state = grounded(&mut b, config, style);
    b.output("question_states", &state, Element::F32, text_shape(config));
    b.finish()
}

/// ITC, the text's side: `input_ids [batch, length]` -> `text_embedding [batch, D]`, of length one.
///
/// Source: BLIP `models/blip_retrieval.py`, `forward` (`text_proj` on token 0, mode `text`).
pub fn text_embedding(config: &TextConfig, width: usize) -> Graph {
    let mut b = Builder::new("text", "encoder.");
    let ids = b.token_ids();
    let state = embed_whole(&mut b, &ids, config);
    let (state, _) = b.text_layers(&state, &SelfAttention::Whole, None, config);
    let first = token(&mut b, &state, 0);
    project(&mut b, &first, "text", [width, config.width]);
    b.finish()
}

/// ITC, the picture's side: `image_features [batch, tokens, vision width]` -> `image_embedding [batch, D]`, of length one.
///
/// Source: BLIP `models/blip_retrieval.py`, `forward` (`vision_proj` on the class token).
pub fn image_embedding(config: &VisionConfig, width: usize) -> Graph {
    let mut b = Builder::new("image", "");
    let shape = vec![symbol("batch"), fixed(config.tokens()), fixed(config.width)];
    let features = b.input("image_features", Element::F32, shape);
    let class = token(&mut b, &features, 0);
    project(&mut b, &class, "vision", [width, config.width]);
    b.finish()
}

fn project(b: &mut Builder, state: &Value, side: &str, shape: [usize; 2]) {
    b.root();
    let projected = b.linear(state, &format!("{side}_projection"), shape);
    let unit = b.unit(&projected);
    let name = if side == "vision" { "image_embedding" } else { "text_embedding" };
    b.output(name, &unit, Element::F32, vec![symbol("batch"), fixed(shape[0])]);
}

fn grounded(b: &mut Builder, config: &TextConfig, style: Style) -> Value {
    let ids = b.token_ids();
    let memory = b.cross_inputs(config, style);
    let state = embed_whole(b, &ids, config);
    b.text_layers(&state, &SelfAttention::Whole, Some(&memory), config).0
}

fn embed_whole(b: &mut Builder, ids: &Value, config: &TextConfig) -> Value {
    let (zero, length) = (b.integers(&[0]), b.size(ids, 1));
    b.embed_tokens(ids, [&zero, &length], config)
}

/// One token of `[batch, length, width]`, as `[batch, width]`; -1 is the last.
fn token(b: &mut Builder, state: &Value, index: i64) -> Value {
    let index = b.constant(super::Constant::I64(Vec::new(), vec![index]));
    b.node("Gather", &[state, &index], vec![Attribute::Int("axis", 1)])
}

fn text_shape(config: &TextConfig) -> Vec<Dimension> {
    vec![symbol("batch"), symbol("length"), fixed(config.width)]
}
