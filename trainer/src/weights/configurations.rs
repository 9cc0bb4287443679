//! `config.json`, `generation_config.json` and `preprocessor_config.json`.
//!
//! Source: transformers 5.23 `configuration_blip.py` and `image_processing_blip.py`, and what `save_pretrained` writes.

use blip::config::{Config, Role, TextConfig, VisionConfig};
use serde::Serialize;

use super::Preparation;

/// Deviation of weights at the start. Source: BLIP `configs/med_config.json`, `initializer_range`.
const DEVIATION: f32 = 0.02;
/// Width of ITC vectors where a model has none. Source: transformers `BlipConfig`, `image_text_hidden_size`.
const PROJECTION_WIDTH: usize = 256;
/// Pillow's number for bicubic.
const BICUBIC: u32 = 3;
/// What transformers writes into a text's and a vision's configuration, and reads in neither.
const PROJECTION_DIM: [usize; 2] = [768, 512];

/// `config.json`.
pub fn model(role: Role, config: &Config, preparation: &Preparation, temperature: Option<f32>) -> Vec<u8> {
    let text = config.encoder.as_ref().or(config.decoder.as_ref()).expect("every role has a text stack");
    let projection = config.projection_width.unwrap_or(PROJECTION_WIDTH);
    pretty(&Model {
        architectures: [match role {
            Role::Captioner => "BlipForConditionalGeneration",
            Role::Matcher => "BlipForImageTextRetrieval",
            Role::Answerer => "BlipForQuestionAnswering",
        }],
        dtype: "float32",
        edgeblip: temperature.map(|temperature| Ours { temperature }),
        image_text_hidden_size: projection,
        initializer_factor: 1.0,
        initializer_range: DEVIATION,
        label_smoothing: 0.0,
        logit_scale_init_value: 2.6592,
        model_type: "blip",
        projection_dim: projection,
        text_config: text_keys(text, config.vision.width, preparation),
        tie_word_embeddings: true,
        vision_config: vision_keys(&config.vision),
    })
}

fn text_keys(text: &TextConfig, encoder_hidden_size: usize, preparation: &Preparation) -> TextKeys {
    let tokens = &preparation.tokens;
    TextKeys {
        attention_probs_dropout_prob: 0.0,
        bos_token_id: tokens.decoder_start,
        encoder_hidden_size,
        eos_token_id: tokens.separator,
        hidden_act: "gelu",
        hidden_dropout_prob: 0.0,
        hidden_size: text.width,
        initializer_range: DEVIATION,
        intermediate_size: text.feed_forward,
        is_decoder: true,
        label_smoothing: 0.0,
        layer_norm_eps: text.norm_eps,
        max_position_embeddings: text.positions,
        model_type: "blip_text_model",
        num_attention_heads: text.heads,
        num_hidden_layers: text.layers,
        pad_token_id: tokens.pad,
        projection_dim: PROJECTION_DIM[0],
        sep_token_id: tokens.separator,
        tie_word_embeddings: true,
        use_cache: true,
        vocab_size: text.vocabulary_size,
    }
}

fn vision_keys(vision: &VisionConfig) -> VisionKeys {
    VisionKeys {
        attention_dropout: 0.0,
        hidden_act: "gelu",
        hidden_size: vision.width,
        image_size: vision.image_size,
        initializer_range: DEVIATION,
        intermediate_size: vision.feed_forward,
        layer_norm_eps: vision.norm_eps,
        model_type: "blip_vision_model",
        num_attention_heads: vision.heads,
        num_hidden_layers: vision.layers,
        patch_size: vision.patch_size,
        projection_dim: PROJECTION_DIM[1],
    }
}

/// `generation_config.json`.
pub fn generation(preparation: &Preparation) -> Vec<u8> {
    let (tokens, defaults) = (&preparation.tokens, &preparation.generation);
    pretty(&Generation {
        bos_token_id: tokens.decoder_start,
        eos_token_id: tokens.separator,
        max_length: defaults.max_length,
        min_length: defaults.min_length,
        num_beams: defaults.num_beams,
        pad_token_id: tokens.pad,
    })
}

/// `preprocessor_config.json`.
pub fn preprocessor(image_size: usize, preparation: &Preparation) -> Vec<u8> {
    pretty(&Preprocessor {
        do_convert_rgb: true,
        do_normalize: true,
        do_rescale: true,
        do_resize: true,
        image_mean: preparation.normalization.mean,
        image_processor_type: "BlipImageProcessor",
        image_std: preparation.normalization.std,
        resample: BICUBIC,
        rescale_factor: 1.0 / 255.0,
        size: Size { height: image_size, width: image_size },
    })
}

/// JSON as transformers writes it: indented, with a line end.
pub fn pretty(value: &impl Serialize) -> Vec<u8> {
    let mut bytes = serde_json::to_vec_pretty(value).expect("words and finite numbers are JSON");
    bytes.push(b'\n');
    bytes
}

#[derive(Serialize)]
struct Model {
    architectures: [&'static str; 1],
    dtype: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    edgeblip: Option<Ours>,
    image_text_hidden_size: usize,
    initializer_factor: f32,
    initializer_range: f32,
    label_smoothing: f32,
    logit_scale_init_value: f32,
    model_type: &'static str,
    projection_dim: usize,
    text_config: TextKeys,
    tie_word_embeddings: bool,
    vision_config: VisionKeys,
}

/// What Hugging Face's configuration has no key for.
#[derive(Serialize)]
struct Ours {
    temperature: f32,
}

#[derive(Serialize)]
struct TextKeys {
    attention_probs_dropout_prob: f32,
    bos_token_id: u32,
    encoder_hidden_size: usize,
    eos_token_id: u32,
    hidden_act: &'static str,
    hidden_dropout_prob: f32,
    hidden_size: usize,
    initializer_range: f32,
    intermediate_size: usize,
    is_decoder: bool,
    label_smoothing: f32,
    layer_norm_eps: f32,
    max_position_embeddings: usize,
    model_type: &'static str,
    num_attention_heads: usize,
    num_hidden_layers: usize,
    pad_token_id: u32,
    projection_dim: usize,
    sep_token_id: u32,
    tie_word_embeddings: bool,
    use_cache: bool,
    vocab_size: usize,
}

#[derive(Serialize)]
struct VisionKeys {
    attention_dropout: f32,
    hidden_act: &'static str,
    hidden_size: usize,
    image_size: usize,
    initializer_range: f32,
    intermediate_size: usize,
    layer_norm_eps: f32,
    model_type: &'static str,
    num_attention_heads: usize,
    num_hidden_layers: usize,
    patch_size: usize,
    projection_dim: usize,
}

#[derive(Serialize)]
struct Generation {
    bos_token_id: u32,
    eos_token_id: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_length: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    min_length: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    num_beams: Option<usize>,
    pad_token_id: u32,
}

#[derive(Serialize)]
struct Preprocessor {
    do_convert_rgb: bool,
    do_normalize: bool,
    do_rescale: bool,
    do_resize: bool,
    image_mean: [f32; 3],
    image_processor_type: &'static str,
    image_std: [f32; 3],
    resample: u32,
    rescale_factor: f64,
    size: Size,
}

#[derive(Serialize)]
struct Size {
    height: usize,
    width: usize,
}
