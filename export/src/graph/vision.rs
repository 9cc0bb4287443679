//! The image encoder.

use blip::config::VisionConfig;
use blip::manifest::Element;

use super::attention::Heads;
use super::{Builder, Graph, Value, fixed, symbol};

/// Turns pixels into patch features: `pixel_values [batch, 3, S, S]` -> `image_features [batch, tokens, width]`.
///
/// Source: BLIP `models/vit.py`, `VisionTransformer.forward`.
pub fn vision(config: &VisionConfig) -> Graph {
    let mut b = Builder::new("vision", "vision.");
    let side = config.image_size;
    let pixels = b.input("pixel_values", Element::F32, vec![symbol("batch"), fixed(3), fixed(side), fixed(side)]);
    let mut state = embed(&mut b, &pixels, config);
    for layer in 0..config.layers {
        state = encoder_layer(&mut b, &state, layer, config);
    }
    let features = b.norm(&state, "norm", config.width, config.norm_eps);
    let shape = vec![symbol("batch"), fixed(config.tokens()), fixed(config.width)];
    b.output("image_features", &features, Element::F32, shape);
    b.finish()
}

/// Patches as rows times a matrix, which is what a convolution with stride equal to its size is.
fn embed(b: &mut Builder, pixels: &Value, config: &VisionConfig) -> Value {
    let (grid, patch) = (config.grid() as i64, config.patch_size as i64);
    let cut = b.reshape(pixels, &[0, 3, grid, patch, grid, patch]);
    let rows = b.transpose(&cut, &[0, 2, 4, 1, 3, 5]);
    let patches = b.reshape(&rows, &[0, grid * grid, 3 * patch * patch]);
    let inputs = 3 * config.patch_size * config.patch_size;
    let tokens = b.f32_linear(&patches, "patch_embedding", [config.width, inputs]);
    let class = b.parameter("class_embedding", vec![1, 1, config.width]);
    let batch = b.size(pixels, 0);
    let ones = b.integers(&[1]);
    let width = b.integers(&[config.width as i64]);
    let shape = b.node("Concat", &[&batch, &ones, &width], vec![super::Attribute::Int("axis", 0)]);
    let class = b.node("Expand", &[&class, &shape], Vec::new());
    let all = b.node("Concat", &[&class, &tokens], vec![super::Attribute::Int("axis", 1)]);
    let positions = b.parameter("position_embedding", vec![1, config.tokens(), config.width]);
    b.add(&all, &positions)
}

fn encoder_layer(b: &mut Builder, state: &Value, layer: usize, config: &VisionConfig) -> Value {
    let (width, heads) = (config.width, Heads::of(config.width, config.heads));
    let normed = b.norm(state, &format!("layers.{layer}.norm1"), width, config.norm_eps);
    let qkv = b.linear(&normed, &format!("layers.{layer}.qkv"), [3 * width, width]);
    let mixed = b.attention(&qkv, heads);
    let projected = b.linear(&mixed, &format!("layers.{layer}.projection"), [width, width]);
    let state = b.add(state, &projected);
    let normed = b.norm(&state, &format!("layers.{layer}.norm2"), width, config.norm_eps);
    let wide = b.linear(&normed, &format!("layers.{layer}.fc1"), [config.feed_forward, width]);
    let wide = b.gelu(&wide);
    let narrow = b.linear(&wide, &format!("layers.{layer}.fc2"), [width, config.feed_forward]);
    b.add(&state, &narrow)
}
