//! The image encoder.

use blip::config::VisionConfig;

use super::{
    Pass,
    layout::{Builder, Initial},
};
use crate::engine::{AttentionShape, Device, Order, PatchesShape, Result, TokensShape};
use crate::tape::{Asking, Linear, Norm, Parameter, Tape, Var};

/// A ViT with a class token, a learned position table and pre-norm layers.
#[derive(Clone, Debug)]
pub struct Vision {
    /// Its sizes.
    pub config: VisionConfig,
    class: Parameter,
    positions: Parameter,
    patches: Linear,
    layers: Vec<VisionLayer>,
    norm: Norm,
}

/// One layer of [`Vision`].
#[derive(Clone, Copy, Debug)]
pub struct VisionLayer {
    norm1: Norm,
    qkv: Linear,
    projection: Linear,
    norm2: Norm,
    fc1: Linear,
    fc2: Linear,
}

impl Vision {
    pub(super) fn build(b: &mut Builder, config: &VisionConfig) -> Vision {
        let VisionConfig { width, patch_size, feed_forward, norm_eps, .. } = *config;
        let class = b.add("vision.class_embedding", &[1, 1, width], Initial::TruncatedNormal);
        let tokens = [1, config.tokens(), width];
        let positions = b.add("vision.position_embedding", &tokens, Initial::TruncatedNormal);
        let inputs = 3 * patch_size * patch_size;
        let square = [width, 3, patch_size, patch_size];
        let patches = Linear {
            weight: b.add("vision.patch_embedding.weight", &square, Initial::Uniform(inputs)),
            bias: b.add("vision.patch_embedding.bias", &[width], Initial::Uniform(inputs)),
            inputs,
            outputs: width,
        };
        let layer = |b: &mut Builder, number: usize| {
            let name = |part: &str| format!("vision.layers.{number}.{part}");
            VisionLayer {
                norm1: b.norm(&name("norm1"), width, norm_eps),
                qkv: b.linear(&name("qkv"), [3 * width, width], Initial::TruncatedNormal),
                projection: b.linear(&name("projection"), [width, width], Initial::TruncatedNormal),
                norm2: b.norm(&name("norm2"), width, norm_eps),
                fc1: b.linear(&name("fc1"), [feed_forward, width], Initial::TruncatedNormal),
                fc2: b.linear(&name("fc2"), [width, feed_forward], Initial::TruncatedNormal),
            }
        };
        let layers = (0..config.layers).map(|number| layer(b, number)).collect();
        let norm = b.norm("vision.norm", width, norm_eps);
        Vision { config: config.clone(), class, positions, patches, layers, norm }
    }

    /// The shape of what [`Vision::forward`] gives for `batch` pictures.
    pub fn shape(&self, batch: usize) -> TokensShape {
        TokensShape { batch, tokens: self.config.tokens(), width: self.config.width }
    }

    /// Pixels `[batch, 3, S, S]` -> `[batch, tokens, width]`.
    ///
    /// Source: BLIP `models/vit.py`, `VisionTransformer.forward`.
    ///
    /// # Errors
    /// As the device.
    pub fn forward<'p, D: Device>(
        &self,
        tape: &mut Tape<'p, D>,
        pixels: &D::Buffer,
        batch: usize,
        pass: Pass<'p, D>,
    ) -> Result<Var<D>> {
        let VisionConfig { image_size: side, patch_size: patch, heads, .. } = self.config;
        let shape = self.shape(batch);
        let cut = PatchesShape { batch, side, patch };
        let mut x = tape.picture_tokens(pixels, &self.patches, [self.class, self.positions], cut)?;
        for (number, &layer) in self.layers.iter().enumerate() {
            let last = self.layers.len().saturating_sub(1).max(1);
            let share = pass.shares.path * number as f32 / last as f32;
            x = if number + pass.checkpointed >= self.layers.len() {
                tape.checkpoint(&[&x], move |tape, inputs| {
                    layer.forward(tape, &inputs[0], (shape, heads), (number, share, pass))
                })?
            } else {
                layer.forward(tape, &x, (shape, heads), (number, share, pass))?
            };
        }
        tape.norm(&x, &self.norm, shape.rows().rows)
    }
}

impl VisionLayer {
    /// Source: BLIP `models/vit.py`, `Block.forward`.
    fn forward<'p, D: Device>(
        &self,
        tape: &mut Tape<'p, D>,
        x: &Var<D>,
        (shape, heads): (TokensShape, usize),
        (number, share, pass): (usize, f32, Pass<'p, D>),
    ) -> Result<Var<D>> {
        let TokensShape { batch, tokens, width } = shape;
        let rows = shape.rows().rows;
        let attention = AttentionShape { batch, heads, width, queries: tokens, keys: tokens, order: Order::Free };
        let normed = tape.norm(x, &self.norm1, rows)?;
        let qkv = tape.linear(&normed, &self.qkv, rows)?;
        let mixed = tape.attention(Asking::Packed(&qkv), None, None, attention)?;
        let mut projected = tape.linear(&mixed, &self.projection, rows)?;
        if let Some(drop) = pass.drop(share, number, 0) {
            projected = tape.dropout(&projected, drop, tokens * width)?;
        }
        let x = tape.add(x, &projected)?;
        let normed = tape.norm(&x, &self.norm2, rows)?;
        let mut narrow = tape.feed_forward(&normed, [&self.fc1, &self.fc2], rows)?;
        if let Some(drop) = pass.drop(share, number, 1) {
            narrow = tape.dropout(&narrow, drop, tokens * width)?;
        }
        tape.add(&x, &narrow)
    }
}
