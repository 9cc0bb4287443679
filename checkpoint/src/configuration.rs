//! The JSON files of a Hugging Face folder: sizes, normalization and generation defaults.
//!
//! Source: transformers `configuration_blip.py` for the keys and for what a missing key means.

use crate::error::CheckpointError;
use crate::file::{MAX_CONFIG_BYTES, read_json, read_json_if_there};
use blip::config::{Config, Role, TextConfig, VisionConfig};
use blip::pixels::Normalization;
use serde::Deserialize;
use std::path::Path;

/// Pillow's number for bicubic.
const BICUBIC: u32 = 3;

/// What `generation_config.json` says; nothing where there is none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct GenerationDefaults {
    /// Most tokens, start token and prompt included.
    pub max_length: Option<usize>,
    /// Fewest tokens, start token and prompt included.
    pub min_length: Option<usize>,
    /// Beams; 1 is greedy.
    pub num_beams: Option<usize>,
}

/// `config.json`, with transformers' defaults where a key is missing.
#[derive(Deserialize)]
pub(crate) struct ModelConfig {
    #[serde(default)]
    architectures: Option<Vec<String>>,
    #[serde(default)]
    text_config: Option<TextKeys>,
    #[serde(default)]
    vision_config: Option<VisionKeys>,
    #[serde(default = "projection_width")]
    image_text_hidden_size: usize,
    #[serde(default = "yes")]
    tie_word_embeddings: bool,
    #[serde(default)]
    edgeblip: OurKeys,
}

/// What Hugging Face's configuration has no key for.
#[derive(Default, Deserialize)]
#[serde(default)]
struct OurKeys {
    temperature: Option<f32>,
}

#[derive(Clone, Deserialize)]
#[serde(default)]
struct TextKeys {
    vocab_size: usize,
    hidden_size: usize,
    intermediate_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    max_position_embeddings: usize,
    hidden_act: String,
    layer_norm_eps: f64,
    bos_token_id: Option<u32>,
    sep_token_id: Option<u32>,
}

impl Default for TextKeys {
    fn default() -> TextKeys {
        TextKeys {
            vocab_size: 30524,
            hidden_size: 768,
            intermediate_size: 3072,
            num_hidden_layers: 12,
            num_attention_heads: 8,
            max_position_embeddings: 512,
            hidden_act: "gelu".to_owned(),
            layer_norm_eps: 1e-12,
            bos_token_id: Some(30522),
            sep_token_id: Some(102),
        }
    }
}

#[derive(Clone, Deserialize)]
#[serde(default)]
struct VisionKeys {
    hidden_size: usize,
    intermediate_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    image_size: Side,
    patch_size: Side,
    hidden_act: String,
    layer_norm_eps: f64,
}

impl Default for VisionKeys {
    fn default() -> VisionKeys {
        VisionKeys {
            hidden_size: 768,
            intermediate_size: 3072,
            num_hidden_layers: 12,
            num_attention_heads: 12,
            image_size: Side::One(384),
            patch_size: Side::One(16),
            hidden_act: "gelu".to_owned(),
            layer_norm_eps: 1e-5,
        }
    }
}

/// A square's side, or both sides of a rectangle.
#[derive(Clone, Copy, Deserialize)]
#[serde(untagged)]
enum Side {
    One(usize),
    Two([usize; 2]),
}

fn projection_width() -> usize {
    256
}

fn yes() -> bool {
    true
}

/// What the decoder starts and ends with in transformers' `generate`: `bos_token_id` and `sep_token_id`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DecoderTokens {
    pub start: Option<u32>,
    pub end: Option<u32>,
}

impl ModelConfig {
    pub fn read(path: &Path) -> Result<ModelConfig, CheckpointError> {
        read_json(path, MAX_CONFIG_BYTES)
    }

    /// What the architecture is for; nothing where none is named.
    pub fn roles(&self) -> Result<Vec<Role>, String> {
        match self.architectures.as_deref().unwrap_or_default() {
            [] => Ok(Vec::new()),
            [name, ..] => match name.as_str() {
                "BlipForConditionalGeneration" => Ok(vec![Role::Captioner]),
                "BlipForImageTextRetrieval" => Ok(vec![Role::Matcher]),
                "BlipForQuestionAnswering" => Ok(vec![Role::Answerer]),
                other => Err(format!(
                    "is of architecture {other:?}; BlipForConditionalGeneration, BlipForImageTextRetrieval and \
                     BlipForQuestionAnswering are read"
                )),
            },
        }
    }

    /// Whether the decoder's output matrix is its word embedding.
    pub fn ties_words(&self) -> bool {
        self.tie_word_embeddings
    }

    /// The learned temperature of ITC, where the file is of our trainer.
    pub fn temperature(&self) -> Option<f32> {
        self.edgeblip.temperature
    }

    pub fn decoder_tokens(&self) -> DecoderTokens {
        let text = self.text_config.clone().unwrap_or_default();
        DecoderTokens { start: text.bos_token_id, end: text.sep_token_id }
    }

    /// The sizes of a model with these roles, not validated yet.
    pub fn sizes(&self, roles: &[Role]) -> Result<Config, String> {
        let (text, vision) =
            (self.text_config.clone().unwrap_or_default(), self.vision_config.clone().unwrap_or_default());
        for (part, activation) in [("text", &text.hidden_act), ("vision", &vision.hidden_act)] {
            if activation != "gelu" {
                return Err(format!("has {part} hidden_act {activation:?}; only \"gelu\" is supported"));
            }
        }
        let stack = |cross_width| -> Result<TextConfig, String> {
            Ok(TextConfig {
                width: text.hidden_size,
                layers: text.num_hidden_layers,
                heads: text.num_attention_heads,
                feed_forward: text.intermediate_size,
                vocabulary_size: text.vocab_size,
                positions: text.max_position_embeddings,
                cross_width,
                norm_eps: epsilon("text", text.layer_norm_eps)?,
            })
        };
        let answers = roles.contains(&Role::Answerer);
        let encodes = answers || roles.contains(&Role::Matcher);
        let decodes = answers || roles.contains(&Role::Captioner);
        let decoder_memory = if answers { text.hidden_size } else { vision.hidden_size };
        Ok(Config {
            vision: VisionConfig {
                width: vision.hidden_size,
                layers: vision.num_hidden_layers,
                heads: vision.num_attention_heads,
                feed_forward: vision.intermediate_size,
                patch_size: side("patch_size", vision.patch_size)?,
                image_size: side("image_size", vision.image_size)?,
                norm_eps: epsilon("vision", vision.layer_norm_eps)?,
            },
            encoder: encodes.then(|| stack(vision.hidden_size)).transpose()?,
            decoder: decodes.then(|| stack(decoder_memory)).transpose()?,
            projection_width: roles.contains(&Role::Matcher).then_some(self.image_text_hidden_size),
        })
    }
}

fn side(field: &str, side: Side) -> Result<usize, String> {
    match side {
        Side::One(side) => Ok(side),
        Side::Two([height, width]) if height == width => Ok(width),
        Side::Two(sides) => Err(format!("has vision {field} {sides:?}; only squares are supported")),
    }
}

fn epsilon(part: &str, value: f64) -> Result<f32, String> {
    match value > 0.0 && value < 1.0 && value as f32 > 0.0 {
        true => Ok(value as f32),
        false => Err(format!("has {part} layer_norm_eps {value}; it must lie between 0 and 1")),
    }
}

#[derive(Default, Deserialize)]
struct PreprocessorKeys {
    image_mean: Option<[f32; 3]>,
    image_std: Option<[f32; 3]>,
    resample: Option<u32>,
    rescale_factor: Option<f64>,
    do_resize: Option<bool>,
    do_rescale: Option<bool>,
    do_normalize: Option<bool>,
    do_center_crop: Option<bool>,
}

#[derive(Default, Deserialize)]
struct ProcessorKeys {
    image_processor: Option<PreprocessorKeys>,
}

/// How a folder normalizes pixels: from `preprocessor_config.json`, else from the newer `processor_config.json`.
pub(crate) fn normalization(folder: &Path) -> Result<Normalization, CheckpointError> {
    let mut path = folder.join("preprocessor_config.json");
    let keys = if path.exists() {
        read_json::<PreprocessorKeys>(&path, MAX_CONFIG_BYTES)?
    } else {
        path = folder.join("processor_config.json");
        read_json_if_there::<ProcessorKeys>(&path)?.image_processor.unwrap_or_default()
    };
    checked(keys).map_err(|reason| CheckpointError::Unsupported { file: path, reason })
}

fn checked(keys: PreprocessorKeys) -> Result<Normalization, String> {
    for (key, value, needed) in [
        ("do_resize", keys.do_resize, true),
        ("do_rescale", keys.do_rescale, true),
        ("do_normalize", keys.do_normalize, true),
        ("do_center_crop", keys.do_center_crop, false),
    ] {
        if value.is_some_and(|value| value != needed) {
            return Err(format!("says {key} {}, BLIP's pixels need {needed}", !needed));
        }
    }
    if keys.resample.is_some_and(|filter| filter != BICUBIC) {
        return Err("asks for another resample than 3, bicubic, which BLIP's pixels need".to_owned());
    }
    if keys.rescale_factor.is_some_and(|factor| (factor * 255.0 - 1.0).abs() > 1e-3) {
        return Err("asks for another rescale_factor than 1/255, which BLIP's pixels need".to_owned());
    }
    let Normalization { mean, std } = Normalization::default();
    let (mean, std) = (keys.image_mean.unwrap_or(mean), keys.image_std.unwrap_or(std));
    let sound = mean.iter().all(|mean| mean.is_finite()) && std.iter().all(|std| std.is_finite() && *std > 0.0);
    match sound {
        true => Ok(Normalization { mean, std }),
        false => Err(format!("has image_mean {mean:?} and image_std {std:?}; they must be finite, and std above 0")),
    }
}

/// The generation defaults of a folder.
pub(crate) fn generation_defaults(folder: &Path) -> Result<GenerationDefaults, CheckpointError> {
    read_json_if_there(&folder.join("generation_config.json"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(json: &str) -> ModelConfig {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn missing_keys_mean_what_transformers_means() {
        let config = config(r#"{"architectures": ["BlipForConditionalGeneration"], "text_config": null}"#);
        let sizes = config.sizes(&config.roles().unwrap()).unwrap();
        assert_eq!((sizes.vision.width, sizes.vision.heads, sizes.vision.image_size), (768, 12, 384));
        assert_eq!(sizes.vision.norm_eps, 1e-5);
        let decoder = sizes.decoder.unwrap();
        assert_eq!((decoder.heads, decoder.vocabulary_size, decoder.positions), (8, 30524, 512));
        assert_eq!((sizes.encoder, sizes.projection_width), (None, None));
        assert_eq!(config.decoder_tokens().end, Some(102));
    }

    #[test]
    fn cross_attention_reads_the_image_and_an_answer_reads_the_question() {
        let config = config(r#"{"vision_config": {"hidden_size": 1024}, "text_config": {"encoder_hidden_size": 7}}"#);
        assert_eq!(config.roles().unwrap(), []);
        let matcher = config.sizes(&[Role::Matcher]).unwrap();
        assert_eq!((matcher.encoder.unwrap().cross_width, matcher.projection_width), (1024, Some(256)));
        let answerer = config.sizes(&[Role::Answerer]).unwrap();
        assert_eq!(answerer.encoder.unwrap().cross_width, 1024);
        assert_eq!(answerer.decoder.unwrap().cross_width, 768);
        assert_eq!(answerer.projection_width, None);
    }

    #[test]
    fn what_we_cannot_compute_is_refused() {
        let refused = |json: &str| config(json).sizes(&[Role::Captioner]).unwrap_err();
        assert!(refused(r#"{"text_config": {"hidden_act": "relu"}}"#).contains("text hidden_act \"relu\""));
        assert!(refused(r#"{"vision_config": {"image_size": [384, 224]}}"#).contains("[384, 224]"));
        assert!(refused(r#"{"vision_config": {"layer_norm_eps": -1}}"#).contains("layer_norm_eps -1"));
        assert!(config(r#"{"architectures": ["BlipModel"]}"#).roles().unwrap_err().contains("BlipModel"));
        assert!(serde_json::from_str::<ModelConfig>(r#"{"text_config": {"hidden_size": -8}}"#).is_err());
    }

    #[test]
    fn pixels_that_are_not_blips_are_refused() {
        let checked = |json: &str| super::checked(serde_json::from_str(json).unwrap());
        assert_eq!(checked("{}").unwrap(), Normalization::default());
        let half = checked(r#"{"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5], "resample": 3}"#).unwrap();
        assert_eq!((half.mean, half.std), ([0.5; 3], [0.5; 3]));
        assert!(checked(r#"{"do_center_crop": true}"#).unwrap_err().contains("do_center_crop true"));
        assert!(checked(r#"{"resample": 2}"#).is_err());
        assert!(checked(r#"{"rescale_factor": 1.0}"#).is_err());
        assert!(checked(r#"{"image_std": [1, 0, 1]}"#).is_err());
    }
}
