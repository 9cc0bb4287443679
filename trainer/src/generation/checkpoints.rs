//! The repository's own checkpoints, for tests.

use std::path::{Path, PathBuf};

use blip::pixels::{Normalization, Rgb8, preprocess};
use blip::tokenizer::{Tokenizer, Vocabulary};
use checkpoint::{Checkpoint, OpenOptions};
use serde_json::Value;

use super::Network;
use crate::engine::Device;
use crate::engine::cpu::{Cpu, CpuFlat};
use crate::model::{Blip, Sharing, TEMPERATURE};

/// A file of the repository.
pub(crate) fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

/// A checkpoint on the CPU.
pub(crate) struct Opened {
    pub(crate) device: Cpu,
    pub(crate) model: Blip,
    pub(crate) parameters: CpuFlat<f32>,
    pub(crate) tokenizer: Tokenizer,
    pub(crate) normalization: Normalization,
}

impl Opened {
    pub(crate) fn new(folder: &str) -> Opened {
        let checkpoint = Checkpoint::open(&repository(folder), &OpenOptions::default()).unwrap();
        let model = Blip::new(checkpoint.config(), Sharing::Apart);
        let mut values = Vec::with_capacity(model.layout.length());
        for entry in model.layout.entries() {
            match &entry.name[..] {
                "temperature" => values.push(TEMPERATURE),
                name => values.extend_from_slice(&checkpoint.tensor(name).unwrap().values),
            }
        }
        let device = Cpu::new(1).unwrap();
        let vocabulary = Vocabulary::new(checkpoint.vocabulary().to_vec()).unwrap();
        let tokenizer = Tokenizer::new(vocabulary, checkpoint.word_piece_settings(), checkpoint.tokens()).unwrap();
        let parameters = device.flat(&values).unwrap();
        Opened { device, model, parameters, tokenizer, normalization: checkpoint.normalization() }
    }

    pub(crate) fn network(&self) -> Network<'_, Cpu> {
        Network {
            device: &self.device,
            model: &self.model,
            parameters: &self.parameters,
            tokenizer: &self.tokenizer,
            normalization: self.normalization,
            encoder_token: self.tokenizer.tokens().encoder_start,
        }
    }

    pub(crate) fn pixels(&self, pictures: &[Rgb8]) -> Vec<f32> {
        let side = self.model.vision.config.image_size;
        pictures.iter().flat_map(|picture| preprocess(picture, side, &self.normalization)).collect()
    }
}

/// A golden json.
pub(crate) fn golden(path: &str) -> Value {
    serde_json::from_slice(&std::fs::read(repository(path)).unwrap()).unwrap()
}

/// The 200 scenes that the starter never saw, with transformers' answers.
pub(crate) fn held_out() -> Vec<(Value, Rgb8)> {
    let scenes = golden("tests/goldens/starter/held-out.json");
    let open = |scene: &Value| {
        let name = scene["file"].as_str().unwrap();
        let picture = picture::open(&repository(&format!("tests/goldens/starter/held-out/{name}"))).unwrap();
        (scene.clone(), picture)
    };
    scenes.as_array().unwrap().iter().map(open).collect()
}
