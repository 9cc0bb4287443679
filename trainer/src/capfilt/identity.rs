//! Hashes of all that decisions depend on.

use std::ops::Range;

use serde_json::json;
use sha2::{Digest, Sha256};

use super::{CapfiltError, CapfiltSettings};
use crate::dataset::Dataset;
use crate::engine::Device;
use crate::generation::{GenerationError, Network};

/// Changes when the same inputs give other decisions than before.
const VERSION: u32 = 1;

/// Of settings and models.
pub(super) fn of_run<D: Device>(
    settings: &CapfiltSettings,
    networks: [&Network<'_, D>; 2],
) -> Result<String, CapfiltError> {
    let mut hash = Sha256::new();
    hash.update(json!({"version": VERSION, "settings": settings}).to_string());
    for network in networks {
        hash.update(of_network(network)?);
    }
    Ok(hex(&hash.finalize()))
}

/// Of a shard: its pictures' names and texts. The picture files are not read for it, so a picture that is replaced under
/// its name goes unnoticed.
pub(super) fn of_shard(run: &str, dataset: &Dataset, entries: Range<usize>) -> String {
    let mut hash = Sha256::new();
    hash.update(run);
    hash.update(json!([entries.start, entries.end]).to_string());
    for entry in &dataset.entries()[entries] {
        let texts: Vec<_> = entry.texts.iter().map(|text| (&text.text, text.origin)).collect();
        hash.update(json!([entry.key, texts]).to_string());
    }
    hex(&hash.finalize())
}

/// Of several hashes.
pub(super) fn joined<'h>(hashes: impl Iterator<Item = &'h str>) -> String {
    let mut hash = Sha256::new();
    hashes.for_each(|part| hash.update(part));
    hex(&hash.finalize())
}

fn of_network<D: Device>(network: &Network<'_, D>) -> Result<String, CapfiltError> {
    let model = network.model;
    let mut hash = Sha256::new();
    let stacks = [model.encoder.as_ref(), model.decoder.as_ref().map(|(stack, _)| stack)];
    let facts = json!({
        "vision": model.vision.config,
        "stacks": stacks.map(|stack| stack.map(|stack| &stack.config)),
        "tokenizer": network.tokenizer.to_json(),
        "mean": network.normalization.mean,
        "std": network.normalization.std,
        "encoder_token": network.encoder_token,
    });
    hash.update(facts.to_string());
    let values = network.device.read_flat(network.parameters).map_err(GenerationError::from)?;
    for entry in model.layout.entries() {
        hash.update(json!([entry.name, entry.shape]).to_string());
        let parameter = entry.parameter;
        for value in &values[parameter.start..][..parameter.length] {
            hash.update(value.to_le_bytes());
        }
    }
    Ok(hex(&hash.finalize()))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
