//! The sizes of an authors' checkpoint, from the shapes of its tensors.
//!
//! A size is what most of the tensors that show it say, so that one misshapen tensor is reported as such and does not
//! make all others look wrong. A size that no tensor shows belongs to tensors that are missing, and these are reported.

use blip::config::{Config, MAX_LAYERS, Role, TextConfig, VisionConfig};
use std::collections::BTreeMap;

/// Width of an attention head in every published BLIP; heads cannot be seen in the tensors.
pub const HEAD_WIDTH: usize = 64;
/// Epsilon of the image encoder's layer norms (BLIP `models/vit.py`).
const VISION_NORM_EPS: f32 = 1e-6;
/// Epsilon of the text stacks' layer norms (BLIP `configs/med_config.json`).
const TEXT_NORM_EPS: f32 = 1e-12;

/// Numbers of attention heads that the user gives; `None` is one for each [`HEAD_WIDTH`].
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Heads {
    pub vision: Option<usize>,
    pub text: Option<usize>,
}

/// Shapes by name.
pub(crate) struct Shapes<'a>(pub BTreeMap<&'a str, &'a [usize]>);

impl Shapes<'_> {
    /// The sizes of a model with these roles, not validated yet.
    pub fn sizes(&self, roles: &[Role], heads: Heads) -> Result<Config, String> {
        let answers = roles.contains(&Role::Answerer);
        let vision = self.vision(heads)?;
        let mut encoder = None;
        if answers || roles.contains(&Role::Matcher) {
            encoder = Some(self.text("text_encoder", vision.width, heads)?);
        }
        let mut decoder = None;
        if answers || roles.contains(&Role::Captioner) {
            let question_width = encoder.as_ref().filter(|_| answers).map(|encoder| encoder.width);
            decoder = Some(self.text("text_decoder.bert", question_width.unwrap_or(vision.width), heads)?);
        }
        let projection = [("vision_proj", ".weight", 0), ("text_proj", ".weight", 0), ("vision_proj", ".bias", 0)];
        let projection_width = roles.contains(&Role::Matcher).then(|| self.size(&projection).unwrap_or(1));
        Ok(Config { vision, encoder, decoder, projection_width })
    }

    fn vision(&self, heads: Heads) -> Result<VisionConfig, String> {
        let at = "visual_encoder.";
        let width =
            self.size(&[(at, "norm1.weight", 0), (at, "norm2.weight", 0), (at, "cls_token", 2)]).unwrap_or(HEAD_WIDTH);
        let patch_size = self.size(&[(at, "patch_embed.proj.weight", 3)]).unwrap_or(1);
        let tokens = self.size(&[(at, "pos_embed", 1)]).unwrap_or(2);
        let patches = tokens.saturating_sub(1);
        let grid = patches.isqrt();
        if grid * grid != patches {
            return Err(format!(
                "has a position table of {tokens} rows, which is not a class token and a square of patches"
            ));
        }
        Ok(VisionConfig {
            width,
            layers: self.layers("visual_encoder.blocks."),
            heads: head_count("vision", width, heads.vision)?,
            feed_forward: self
                .size(&[(at, "mlp.fc1.weight", 0), (at, "mlp.fc1.bias", 0), (at, "mlp.fc2.weight", 1)])
                .unwrap_or(1),
            patch_size,
            image_size: grid.saturating_mul(patch_size),
            norm_eps: VISION_NORM_EPS,
        })
    }

    fn text(&self, at: &str, cross_width: usize, heads: Heads) -> Result<TextConfig, String> {
        let width = self.size(&[(at, "LayerNorm.weight", 0), (at, "query.bias", 0)]).unwrap_or(HEAD_WIDTH);
        let feed_forward = [(at, "intermediate.dense.weight", 0), (at, "intermediate.dense.bias", 0)];
        let vocabulary = [
            (at, ".word_embeddings.weight", 0),
            ("text_decoder.cls.predictions.bias", "", 0),
            ("text_decoder.cls.predictions.decoder.weight", "", 0),
        ];
        Ok(TextConfig {
            width,
            layers: self.layers(&format!("{at}.encoder.layer.")),
            heads: head_count("text", width, heads.text)?,
            feed_forward: self.size(&feed_forward).unwrap_or(1),
            vocabulary_size: self.size(&vocabulary[..if at == "text_encoder" { 1 } else { 3 }]).unwrap_or(1),
            positions: self.size(&[(at, ".position_embeddings.weight", 0)]).unwrap_or(1),
            cross_width,
            norm_eps: TEXT_NORM_EPS,
        })
    }

    /// What most tensors say that start and end as given, each by the length of one axis; the smallest of equals.
    fn size(&self, places: &[(&str, &str, usize)]) -> Option<usize> {
        let mut votes = BTreeMap::<usize, usize>::new();
        for (start, end, axis) in places {
            for (_, shape) in self.0.iter().filter(|(name, _)| name.starts_with(start) && name.ends_with(end)) {
                if let Some(length) = shape.get(*axis) {
                    *votes.entry(*length).or_default() += 1;
                }
            }
        }
        votes.into_iter().rev().max_by_key(|(_, count)| *count).map(|(length, _)| length)
    }

    /// One more than the last layer; a number beyond any model's is left to be reported as unexpected.
    fn layers(&self, prefix: &str) -> usize {
        let number = |name: &str| name.strip_prefix(prefix)?.split('.').next()?.parse::<usize>().ok();
        let last = self.0.keys().filter_map(|name| number(name)).filter(|layer| *layer < MAX_LAYERS).max();
        last.map_or(1, |last| last + 1)
    }
}

fn head_count(part: &str, width: usize, given: Option<usize>) -> Result<usize, String> {
    match given {
        Some(heads) => Ok(heads),
        None if width.is_multiple_of(HEAD_WIDTH) => Ok(width / HEAD_WIDTH),
        None => Err(format!(
            "has {part} width {width}, which is no multiple of {HEAD_WIDTH}: say how many {part} heads it has"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::{Layout, expected};

    fn large() -> Config {
        let text = TextConfig {
            width: 768,
            layers: 12,
            heads: 12,
            feed_forward: 3072,
            vocabulary_size: 30524,
            positions: 512,
            cross_width: 1024,
            norm_eps: 1e-12,
        };
        Config {
            vision: VisionConfig {
                width: 1024,
                layers: 24,
                heads: 16,
                feed_forward: 4096,
                patch_size: 16,
                image_size: 384,
                norm_eps: 1e-6,
            },
            encoder: Some(text.clone()),
            decoder: Some(text),
            projection_width: Some(256),
        }
    }

    fn sizes(
        config: &Config,
        roles: &[Role],
        change: impl Fn(&mut BTreeMap<&str, &[usize]>),
    ) -> Result<Config, String> {
        let tensors = expected(config, Layout::Authors);
        let shapes = tensors.iter().map(|tensor| (tensor.file_name.as_str(), tensor.file_shape.as_slice()));
        let mut shapes = shapes.collect();
        change(&mut shapes);
        Shapes(shapes).sizes(roles, Heads::default())
    }

    #[test]
    fn shapes_of_the_large_model_give_its_sizes() {
        let config = large();
        assert_eq!(sizes(&config, &[Role::Captioner, Role::Matcher], |_| ()), Ok(config));
    }

    #[test]
    fn answerer_reads_the_question_at_the_text_width() {
        let mut config = large();
        config.projection_width = None;
        config.decoder.as_mut().unwrap().cross_width = 768;
        assert_eq!(sizes(&config, &[Role::Answerer], |_| ()), Ok(config));
    }

    #[test]
    fn one_misshapen_or_missing_tensor_does_not_change_the_sizes() {
        let roles = [Role::Captioner, Role::Matcher];
        let changed = sizes(&large(), &roles, |shapes| {
            shapes.insert("visual_encoder.cls_token", &[1, 1, 5]);
            shapes.insert("visual_encoder.blocks.0.norm1.weight", &[7]);
            shapes.insert("visual_encoder.blocks.900.norm1.weight", &[1024]);
            shapes.remove("visual_encoder.blocks.0.mlp.fc1.weight");
            shapes.insert("text_decoder.bert.embeddings.word_embeddings.weight", &[]);
        });
        assert_eq!(changed, Ok(large()));
    }

    #[test]
    fn sizes_that_cannot_be_seen_are_asked_for() {
        let mut config = large();
        config.vision.width = 100;
        let message = sizes(&config, &[Role::Captioner], |_| ()).unwrap_err();
        assert!(message.contains("vision width 100") && message.contains("say how many vision heads"));
        let message = sizes(&large(), &[Role::Captioner], |shapes| {
            shapes.insert("visual_encoder.pos_embed", &[1, 8, 1024]);
        });
        assert!(message.unwrap_err().contains("position table of 8 rows"));
    }
}
