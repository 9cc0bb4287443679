//! Every tensor of a model: our name, its name in the file, and its shape.
//!
//! Source: BLIP `models/vit.py` and `models/med.py`; transformers `modeling_blip.py` and `modeling_blip_text.py`.

use blip::config::{Config, Role, TextConfig, VisionConfig};

/// Whose names a file uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layout {
    HuggingFace,
    Authors,
}

/// A tensor that the model needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected {
    /// Our name.
    pub name: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Its name in the file.
    pub file_name: String,
    /// Its shape in the file, where axes of length one may lead.
    pub file_shape: Vec<usize>,
}

/// Every tensor of a model of these sizes, as Hugging Face's files name it; a decoder's output matrix, which is its word
/// embedding, is not among them. The order is fixed and no file's.
pub fn hugging_face_tensors(config: &Config) -> Vec<Expected> {
    expected(config, Layout::HuggingFace)
}

/// A tensor that a file may repeat under a second name, and the name under which it counts.
pub(crate) const TIED: [[&str; 2]; 2] = [
    ["text_decoder.cls.predictions.decoder.weight", "text_decoder.bert.embeddings.word_embeddings.weight"],
    ["text_decoder.cls.predictions.decoder.bias", "text_decoder.cls.predictions.bias"],
];

const MOMENTUM_COPIES: [&str; 5] =
    ["visual_encoder_m.", "text_encoder_m.", "text_decoder_m.", "vision_proj_m.", "text_proj_m."];
const TRAINING_STATE: [&str; 6] = ["image_queue", "text_queue", "idx_queue", "queue_ptr", "ptr_queue", "temp"];

/// Whether a tensor is known to be no weight of the model: a constant, or state that only training needs.
pub(crate) fn is_skipped(name: &str, layout: Layout) -> bool {
    if name.ends_with(".position_ids") {
        return true;
    }
    layout == Layout::Authors
        && (TRAINING_STATE.contains(&name) || MOMENTUM_COPIES.iter().any(|module| name.starts_with(module)))
}

/// What the heads among `names` are for; nothing where they are those of no model.
pub(crate) fn roles<'a>(names: impl Iterator<Item = &'a str> + Clone) -> Vec<Role> {
    let has =
        |module: &str| names.clone().any(|name| name.strip_prefix(module).is_some_and(|rest| rest.starts_with('.')));
    let matches = has("itm_head") || has("vision_proj") || has("text_proj");
    match (has("text_encoder"), has("text_decoder"), matches) {
        (true, true, true) => vec![Role::Captioner, Role::Matcher],
        (true, true, false) => vec![Role::Answerer],
        (_, false, true) => vec![Role::Matcher],
        (_, true, _) => vec![Role::Captioner],
        (_, false, false) => Vec::new(),
    }
}

/// Every tensor that a model of these sizes needs, in a fixed order.
pub(crate) fn expected(config: &Config, layout: Layout) -> Vec<Expected> {
    let mut list = List { layout, tensors: Vec::new() };
    list.vision(&config.vision);
    if let Some(encoder) = &config.encoder {
        list.text("encoder", "text_encoder", encoder);
    }
    if let Some(decoder) = &config.decoder {
        list.text("decoder", "text_decoder.bert", decoder);
        list.head(decoder);
    }
    if let (Some(width), Some(encoder)) = (config.projection_width, &config.encoder) {
        list.linear("vision_projection", "vision_proj", [width, config.vision.width]);
        list.linear("text_projection", "text_proj", [width, encoder.width]);
        list.linear("itm_head", "itm_head", [2, encoder.width]);
    }
    list.tensors
}

struct List {
    layout: Layout,
    tensors: Vec<Expected>,
}

impl List {
    fn vision(&mut self, vision: &VisionConfig) {
        let VisionConfig { width, feed_forward, patch_size, .. } = *vision;
        let names = match self.layout {
            Layout::HuggingFace => &VISION_HUGGING_FACE,
            Layout::Authors => &VISION_AUTHORS,
        };
        let (class, positions) = (vec![1, 1, width], vec![1, vision.tokens(), width]);
        self.reshaped("vision.class_embedding", names.class, &[width], class);
        self.reshaped("vision.position_embedding", names.positions, &[vision.tokens(), width], positions);
        self.one(
            "vision.patch_embedding.weight",
            &format!("{}.weight", names.patches),
            &[width, 3, patch_size, patch_size],
        );
        self.one("vision.patch_embedding.bias", &format!("{}.bias", names.patches), &[width]);
        for layer in 0..vision.layers {
            let (ours, theirs) = (format!("vision.layers.{layer}"), format!("{}.{layer}", names.layers));
            self.norm(&format!("{ours}.norm1"), &format!("{theirs}.{}", names.norm1), width);
            self.linear(&format!("{ours}.qkv"), &format!("{theirs}.{}", names.qkv), [3 * width, width]);
            self.linear(&format!("{ours}.projection"), &format!("{theirs}.{}", names.projection), [width, width]);
            self.norm(&format!("{ours}.norm2"), &format!("{theirs}.{}", names.norm2), width);
            self.linear(&format!("{ours}.fc1"), &format!("{theirs}.mlp.fc1"), [feed_forward, width]);
            self.linear(&format!("{ours}.fc2"), &format!("{theirs}.mlp.fc2"), [width, feed_forward]);
        }
        self.norm("vision.norm", names.norm, width);
    }

    fn text(&mut self, ours: &str, theirs: &str, text: &TextConfig) {
        let TextConfig { width, feed_forward, .. } = *text;
        let embeddings = format!("{theirs}.embeddings");
        let words = [text.vocabulary_size, width];
        self.one(&format!("{ours}.embeddings.words"), &format!("{embeddings}.word_embeddings.weight"), &words);
        let positions = [text.positions, width];
        self.one(
            &format!("{ours}.embeddings.positions"),
            &format!("{embeddings}.position_embeddings.weight"),
            &positions,
        );
        self.norm(&format!("{ours}.embeddings.norm"), &format!("{embeddings}.LayerNorm"), width);
        for layer in 0..text.layers {
            let (ours, theirs) = (format!("{ours}.layers.{layer}"), format!("{theirs}.encoder.layer.{layer}"));
            for (attention, module, memory) in
                [("self", "attention", width), ("cross", "crossattention", text.cross_width)]
            {
                let (ours, theirs) = (format!("{ours}.{attention}"), format!("{theirs}.{module}"));
                self.linear(&format!("{ours}.query"), &format!("{theirs}.self.query"), [width, width]);
                self.linear(&format!("{ours}.key"), &format!("{theirs}.self.key"), [width, memory]);
                self.linear(&format!("{ours}.value"), &format!("{theirs}.self.value"), [width, memory]);
                self.linear(&format!("{ours}.output"), &format!("{theirs}.output.dense"), [width, width]);
                self.norm(&format!("{ours}.norm"), &format!("{theirs}.output.LayerNorm"), width);
            }
            let intermediate = format!("{theirs}.intermediate.dense");
            self.linear(&format!("{ours}.intermediate"), &intermediate, [feed_forward, width]);
            self.linear(&format!("{ours}.output"), &format!("{theirs}.output.dense"), [width, feed_forward]);
            self.norm(&format!("{ours}.norm"), &format!("{theirs}.output.LayerNorm"), width);
        }
    }

    fn head(&mut self, text: &TextConfig) {
        let theirs = "text_decoder.cls.predictions";
        self.linear("decoder.head.transform", &format!("{theirs}.transform.dense"), [text.width, text.width]);
        self.norm("decoder.head.norm", &format!("{theirs}.transform.LayerNorm"), text.width);
        self.one("decoder.head.bias", &format!("{theirs}.bias"), &[text.vocabulary_size]);
    }

    fn linear(&mut self, ours: &str, theirs: &str, [out, width]: [usize; 2]) {
        self.one(&format!("{ours}.weight"), &format!("{theirs}.weight"), &[out, width]);
        self.one(&format!("{ours}.bias"), &format!("{theirs}.bias"), &[out]);
    }

    fn norm(&mut self, ours: &str, theirs: &str, width: usize) {
        self.one(&format!("{ours}.weight"), &format!("{theirs}.weight"), &[width]);
        self.one(&format!("{ours}.bias"), &format!("{theirs}.bias"), &[width]);
    }

    fn one(&mut self, ours: &str, theirs: &str, shape: &[usize]) {
        self.reshaped(ours, theirs, shape, shape.to_vec());
    }

    fn reshaped(&mut self, ours: &str, theirs: &str, shape: &[usize], file_shape: Vec<usize>) {
        let (name, file_name) = (ours.to_owned(), theirs.to_owned());
        self.tensors.push(Expected { name, shape: shape.to_vec(), file_name, file_shape });
    }
}

struct VisionNames {
    class: &'static str,
    positions: &'static str,
    patches: &'static str,
    layers: &'static str,
    norm1: &'static str,
    qkv: &'static str,
    projection: &'static str,
    norm2: &'static str,
    norm: &'static str,
}

const VISION_HUGGING_FACE: VisionNames = VisionNames {
    class: "vision_model.embeddings.class_embedding",
    positions: "vision_model.embeddings.position_embedding",
    patches: "vision_model.embeddings.patch_embedding",
    layers: "vision_model.encoder.layers",
    norm1: "layer_norm1",
    qkv: "self_attn.qkv",
    projection: "self_attn.projection",
    norm2: "layer_norm2",
    norm: "vision_model.post_layernorm",
};

const VISION_AUTHORS: VisionNames = VisionNames {
    class: "visual_encoder.cls_token",
    positions: "visual_encoder.pos_embed",
    patches: "visual_encoder.patch_embed.proj",
    layers: "visual_encoder.blocks",
    norm1: "norm1",
    qkv: "attn.qkv",
    projection: "attn.proj",
    norm2: "norm2",
    norm: "visual_encoder.norm",
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_tell_the_role() {
        let roles = |names: &[&str]| super::roles(names.iter().copied());
        assert_eq!(roles(&["visual_encoder.norm.bias", "text_decoder.bert.x"]), [Role::Captioner]);
        assert_eq!(roles(&["text_encoder.x", "itm_head.bias"]), [Role::Matcher]);
        assert_eq!(roles(&["text_encoder.x", "text_decoder.x"]), [Role::Answerer]);
        assert_eq!(roles(&["text_encoder.x", "text_decoder.x", "text_proj.bias"]), [Role::Captioner, Role::Matcher]);
        assert_eq!(roles(&["text_encoder.x", "visual_encoder.x", "text_encoder_m.x"]), []);
    }

    #[test]
    fn training_state_is_skipped_by_name_and_weights_are_not() {
        for name in ["image_queue", "idx_queue", "temp", "vision_proj_m.bias", "text_encoder.embeddings.position_ids"] {
            assert!(is_skipped(name, Layout::Authors), "{name}");
        }
        for name in ["text_proj.bias", "visual_encoder.temp", "image_queue.more", "x_m.weight"] {
            assert!(!is_skipped(name, Layout::Authors), "{name}");
        }
        assert!(!is_skipped("temp", Layout::HuggingFace));
    }
}
