//! A captioner with BLIP-base's layers, heads and tokens, and an eighth of its width: its plans, and little work.

use std::path::Path;

use anyhow::{Context, Result};
use blip::config::{Config, TextConfig, VisionConfig};
use checkpoint::{Checkpoint, Expected, OpenOptions, hugging_face_tensors};
use serde_json::{Map, Value, json};
use tempfile::TempDir;

use crate::bundles::{copy, repository};

/// The folder whose words, positions and settings this model has.
const TINY: &str = "tests/goldens/tiny-b/captioner";
const WIDTH: usize = 96;
const FEED_FORWARD: usize = 4 * WIDTH;
const LAYERS: usize = 12;
const HEADS: usize = 12;
const PATCH_SIZE: usize = 16;
const IMAGE_SIZE: usize = 384;
/// Largest magnitude of a weight.
const LARGEST: f32 = 0.05;

/// A Hugging Face folder whose weights look like nothing in particular.
pub fn checkpoint() -> Result<TempDir> {
    let folder = copy(Path::new(TINY))?;
    let path = folder.path().join("config.json");
    let mut stated: Value = serde_json::from_slice(&std::fs::read(&path)?)?;
    for part in ["vision_config", "text_config"] {
        stated[part]["hidden_size"] = json!(WIDTH);
        stated[part]["intermediate_size"] = json!(FEED_FORWARD);
        stated[part]["num_hidden_layers"] = json!(LAYERS);
        stated[part]["num_attention_heads"] = json!(HEADS);
    }
    stated["vision_config"]["patch_size"] = json!(PATCH_SIZE);
    stated["vision_config"]["image_size"] = json!(IMAGE_SIZE);
    stated["text_config"]["encoder_hidden_size"] = json!(WIDTH);
    std::fs::write(&path, stated.to_string())?;
    std::fs::write(folder.path().join("model.safetensors"), safetensors(&hugging_face_tensors(&config()?))?)?;
    Ok(folder)
}

/// The same sizes, for the names and shapes of the tensors.
fn config() -> Result<Config> {
    let tiny = Checkpoint::open(&repository(TINY), &OpenOptions::default())?;
    let Config { vision, decoder, .. } = tiny.config().clone();
    let decoder = decoder.context("a captioner has a decoder")?;
    let (width, layers, heads, feed_forward) = (WIDTH, LAYERS, HEADS, FEED_FORWARD);
    let (patch_size, image_size) = (PATCH_SIZE, IMAGE_SIZE);
    Ok(Config {
        vision: VisionConfig { width, layers, heads, feed_forward, patch_size, image_size, ..vision },
        decoder: Some(TextConfig { width, layers, heads, feed_forward, cross_width: width, ..decoder }),
        encoder: None,
        projection_width: None,
    })
}

/// A file with every tensor: matrices of many values, layer norms of ones, biases of zeros.
fn safetensors(tensors: &[Expected]) -> Result<Vec<u8>> {
    let (mut header, mut data, mut state) = (Map::new(), Vec::new(), 1_u64);
    let mut value = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        ((state >> 33) as f32 / (1_u64 << 30) as f32 - 1.0) * LARGEST
    };
    for Expected { file_name, file_shape, .. } in tensors {
        let start = data.len();
        for _ in 0..file_shape.iter().product::<usize>() {
            let value = match file_shape.len() {
                1 if file_name.ends_with("weight") => 1.0,
                1 => 0.0,
                _ => value(),
            };
            data.extend(f32::to_le_bytes(value));
        }
        let facts = json!({"dtype": "F32", "shape": file_shape, "data_offsets": [start, data.len()]});
        header.insert(file_name.clone(), facts);
    }
    let header = serde_json::to_vec(&header)?;
    Ok([&(header.len() as u64).to_le_bytes(), &header[..], &data].concat())
}
