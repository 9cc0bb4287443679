//! An image encoder from a ViT, or from another BLIP.
//!
//! Source of the names: timm `vision_transformer.py`, which the authors' `models/vit.py` follows, and transformers
//! `modeling_vit.py`, `ViTModel`, as its published files have them; `modeling_blip.py`, `BlipVisionModel`.

use std::path::Path;

use checkpoint::{Tensor, interpolate_positions};

use super::WeightsError;
use super::parts::Part;
use super::start::{Start, size};

/// Ends of the class token's name, which tell whose names a file has.
const ANCHORS: [(&str, Names); 3] = [
    ("embeddings.cls_token", Names::HuggingFace),
    ("embeddings.class_embedding", Names::Blip),
    ("cls_token", Names::Timm),
];

/// How a file names its tensors.
#[derive(Clone, Copy)]
enum Names {
    Timm,
    HuggingFace,
    Blip,
}

impl Start<'_> {
    /// Fills the image encoder from a ViT's safetensors or PyTorch file, or a Hugging Face folder of one: names of timm,
    /// of `ViTModel`, or of a BLIP model, whose words do not matter here. The position table is interpolated to the
    /// model's image size.
    ///
    /// # Errors
    /// A file that is no ViT's or has other sizes; values that differ from an earlier source's.
    pub fn vision(&mut self, path: &Path) -> Result<(), WeightsError> {
        let (mut part, anchor) = Part::open(path, "ViT", &ANCHORS.map(|(anchor, _)| anchor))?;
        let names = ANCHORS[anchor].1;
        let vision = &self.config.vision;
        part.same_heads("image heads", vision.heads)?;
        let layers = match names {
            Names::Timm => part.layers("blocks."),
            Names::HuggingFace => part.layers("encoder.layer."),
            Names::Blip => part.layers("encoder.layers."),
        };
        part.same("image layers", layers, vision.layers)?;
        self.begin(path);
        let entries = self.layout.entries().iter().filter(|entry| entry.name.starts_with("vision."));
        let wanted: Vec<_> = entries.map(|entry| (entry, names.of(&entry.name))).collect();
        let lacking = wanted.iter().flat_map(|(_, names)| names).filter(|name| part.shape(name).is_none());
        let lacking: Vec<_> = lacking.cloned().collect();
        if !lacking.is_empty() {
            return Err(part.missing(lacking));
        }
        for (entry, names) in wanted {
            let mut tensor = joined(&mut part, &names)?;
            if entry.name == "vision.position_embedding" {
                tensor = self.positions(path, tensor)?;
            }
            if without_ones(&tensor.shape) != without_ones(&entry.shape) {
                return Err(size(path, (&names.join(", "), &entry.shape), &tensor.shape));
            }
            self.put(entry, &tensor.values);
        }
        let unused = part.unused();
        self.end(path, unused)
    }

    /// The position table for the model's grid.
    fn positions(&mut self, path: &Path, tensor: Tensor) -> Result<Tensor, WeightsError> {
        let vision = &self.config.vision;
        let (grid, ours) = (vision.grid(), [1, vision.tokens(), vision.width]);
        let (&[1, rows, width] | &[rows, width]) = tensor.shape.as_slice() else {
            return Err(size(path, ("the position table", &ours), &tensor.shape));
        };
        let from = rows.saturating_sub(1).isqrt();
        if from == 0 || 1 + from * from != rows || width != vision.width {
            return Err(size(path, ("the position table", &ours), &tensor.shape));
        }
        if from == grid {
            return Ok(tensor);
        }
        self.note(path, &format!("its positions were interpolated from {from} x {from} patches to {grid} x {grid}"));
        Ok(interpolate_positions(&Tensor { shape: vec![rows, width], values: tensor.values }, grid))
    }
}

impl Names {
    /// The tensors that, one after the other, are ours.
    fn of(self, ours: &str) -> Vec<String> {
        let ours = ours.strip_prefix("vision.").unwrap_or(ours);
        if let Some(rest) = ours.strip_prefix("layers.") {
            let (layer, rest) = rest.split_once('.').unwrap_or((rest, ""));
            let (module, kind) = rest.rsplit_once('.').unwrap_or((rest, ""));
            return self.layer(module).iter().map(|module| self.in_layer(layer, module, kind)).collect();
        }
        let [class, positions, patches, norm] = match self {
            Names::Timm => ["cls_token", "pos_embed", "patch_embed.proj", "norm"],
            Names::HuggingFace => [
                "embeddings.cls_token",
                "embeddings.position_embeddings",
                "embeddings.patch_embeddings.projection",
                "layernorm",
            ],
            Names::Blip => [
                "embeddings.class_embedding",
                "embeddings.position_embedding",
                "embeddings.patch_embedding",
                "post_layernorm",
            ],
        };
        vec![match ours {
            "class_embedding" => class.to_owned(),
            "position_embedding" => positions.to_owned(),
            _ => {
                let (module, kind) = ours.rsplit_once('.').unwrap_or((ours, ""));
                format!("{}.{kind}", if module == "norm" { norm } else { patches })
            }
        }]
    }

    fn in_layer(self, layer: &str, module: &str, kind: &str) -> String {
        match self {
            Names::Timm => format!("blocks.{layer}.{module}.{kind}"),
            Names::HuggingFace => format!("encoder.layer.{layer}.{module}.{kind}"),
            Names::Blip => format!("encoder.layers.{layer}.{module}.{kind}"),
        }
    }

    fn layer(self, ours: &str) -> &'static [&'static str] {
        match (self, ours) {
            (Names::Timm, "norm1") => &["norm1"],
            (Names::Timm, "qkv") => &["attn.qkv"],
            (Names::Timm, "projection") => &["attn.proj"],
            (Names::Timm, "norm2") => &["norm2"],
            (Names::Timm, "fc1") => &["mlp.fc1"],
            (Names::Timm, _) => &["mlp.fc2"],
            (Names::HuggingFace, "norm1") => &["layernorm_before"],
            (Names::HuggingFace, "qkv") => {
                &["attention.attention.query", "attention.attention.key", "attention.attention.value"]
            }
            (Names::HuggingFace, "projection") => &["attention.output.dense"],
            (Names::HuggingFace, "norm2") => &["layernorm_after"],
            (Names::HuggingFace, "fc1") => &["intermediate.dense"],
            (Names::HuggingFace, _) => &["output.dense"],
            (Names::Blip, "norm1") => &["layer_norm1"],
            (Names::Blip, "qkv") => &["self_attn.qkv"],
            (Names::Blip, "projection") => &["self_attn.projection"],
            (Names::Blip, "norm2") => &["layer_norm2"],
            (Names::Blip, "fc1") => &["mlp.fc1"],
            (Names::Blip, _) => &["mlp.fc2"],
        }
    }
}

/// Tensors one after the other along their first axis.
fn joined(part: &mut Part, names: &[String]) -> Result<Tensor, WeightsError> {
    let mut all = part.tensor(&names[0])?;
    for name in &names[1..] {
        let next = part.tensor(name)?;
        if next.shape.is_empty() || next.shape[1..] != all.shape[1..] {
            return Err(size(&part.path, (name, &all.shape), &next.shape));
        }
        all.shape[0] += next.shape[0];
        all.values.extend(next.values);
    }
    Ok(all)
}

fn without_ones(shape: &[usize]) -> Vec<usize> {
    shape.iter().copied().filter(|length| *length != 1).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_names_are_found_under_theirs() {
        for (ours, timm, hugging_face) in [
            ("vision.class_embedding", "cls_token", "embeddings.cls_token"),
            ("vision.patch_embedding.bias", "patch_embed.proj.bias", "embeddings.patch_embeddings.projection.bias"),
            ("vision.norm.weight", "norm.weight", "layernorm.weight"),
            ("vision.layers.11.fc2.bias", "blocks.11.mlp.fc2.bias", "encoder.layer.11.output.dense.bias"),
            ("vision.layers.3.norm1.weight", "blocks.3.norm1.weight", "encoder.layer.3.layernorm_before.weight"),
        ] {
            assert_eq!(Names::Timm.of(ours), [timm]);
            assert_eq!(Names::HuggingFace.of(ours), [hugging_face]);
        }
        let three = Names::HuggingFace.of("vision.layers.0.qkv.weight");
        assert_eq!(three[2], "encoder.layer.0.attention.attention.value.weight");
    }
}
