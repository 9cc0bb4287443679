//! A ViT and a BERT that transformers wrote, and what they compute; see `tests/reference/parts.py`.

use std::path::{Path, PathBuf};

use blip::config::{Config, TextConfig, VisionConfig};
use checkpoint::{Checkpoint, OpenOptions};
use serde::Deserialize;

use super::*;
use crate::engine::cpu::Cpu;
use crate::engine::{Device, Order};
use crate::model::{Blip, Pass, Random, Sharing, Texts, initial_values};
use crate::tape::Tape;

#[derive(Deserialize)]
struct Answers {
    pixels: Vec<f32>,
    image_states: Vec<f32>,
    ids: Vec<u32>,
    text_states: Vec<f32>,
    logits: Vec<f32>,
}

fn golden(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/parts").join(path)
}

fn answers() -> Answers {
    serde_json::from_slice(&std::fs::read(golden("answers.json")).unwrap()).unwrap()
}

fn config() -> Config {
    let text = TextConfig {
        width: 8,
        layers: 2,
        heads: 2,
        feed_forward: 12,
        vocabulary_size: 14,
        positions: 10,
        cross_width: 12,
        norm_eps: 1e-12,
    };
    let vision = VisionConfig {
        width: 12,
        layers: 2,
        heads: 3,
        feed_forward: 20,
        patch_size: 4,
        image_size: 12,
        norm_eps: 1e-6,
    };
    Config { vision, encoder: Some(text.clone()), decoder: Some(text), projection_width: Some(6) }
}

fn words() -> Vec<String> {
    let words = std::fs::read_to_string(golden("bert/vocab.txt")).unwrap();
    words.lines().chain(["[DEC]", "[ENC]"]).map(str::to_owned).collect()
}

fn near(found: &[f32], expected: &[f32]) {
    let furthest = found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0f32, f32::max);
    assert!(found.len() == expected.len() && furthest < 1e-5, "{furthest}");
}

#[test]
fn an_image_encoder_from_a_vit_computes_what_the_vit_does() {
    let (config, words, answers) = (config(), words(), answers());
    for file in ["vit", "vit/model.safetensors", "vit-timm.safetensors"] {
        let model = Blip::new(&config, Sharing::Joint);
        let mut start = Start::random((&model.layout, &config), &words, Random::seeded(1), Conflicts::Refuse);
        start.vision(&golden(file)).unwrap();
        let (values, report) = start.finish();
        assert!(report.random.iter().all(|name| !name.starts_with("vision.")), "{:?}", report.random);
        let unused = report.unused.iter().flat_map(|(_, names)| names).all(|name| name.starts_with("pooler."));
        assert!(unused && report.filled[0].1 == 30, "{report:?}");
        let device = Cpu::<f32>::new(1).unwrap();
        let (parameters, pixels) = (device.flat(&values).unwrap(), device.upload(&answers.pixels).unwrap());
        let mut tape = Tape::forgetting(&device, &parameters);
        let states = model.vision.forward(&mut tape, &pixels, 1, Pass::still()).unwrap();
        near(&device.download(&states.buffer).unwrap(), &answers.image_states);
    }
}

#[test]
fn an_image_encoder_from_another_blip_is_that_encoder() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/starter/captioner");
    let checkpoint = Checkpoint::open(&folder, &OpenOptions::default()).unwrap();
    let theirs = checkpoint.config().clone();
    let words = words();
    let own = Config { vision: theirs.vision.clone(), ..config() };
    let model = Blip::new(&own, Sharing::Joint);
    let mut start = Start::random((&model.layout, &own), &words, Random::seeded(1), Conflicts::Refuse);
    start.vision(&folder).unwrap();
    let (values, report) = start.finish();
    assert!(report.random.iter().all(|name| !name.starts_with("vision.")), "{:?}", report.random);
    for entry in model.layout.entries().iter().filter(|entry| entry.name.starts_with("vision.")) {
        let parameter = entry.parameter;
        let found = &values[parameter.start..][..parameter.length];
        assert_eq!(found, checkpoint.tensor(&entry.name).unwrap().values, "{}", entry.name);
    }

    let wrong = Config { vision: VisionConfig { heads: 2, ..theirs.vision }, ..config() };
    let model = Blip::new(&wrong, Sharing::Joint);
    let mut start = Start::random((&model.layout, &wrong), &words, Random::seeded(1), Conflicts::Refuse);
    assert!(start.vision(&folder).unwrap_err().to_string().contains("heads"));
}

#[test]
fn text_stacks_from_a_bert_compute_what_the_bert_does() {
    let (config, words, answers) = (config(), words(), answers());
    for (file, compared) in [("bert", true), ("bert-older.safetensors", false)] {
        let model = Blip::new(&config, Sharing::Joint);
        let mut start = Start::random((&model.layout, &config), &words, Random::seeded(1), Conflicts::Refuse);
        start.text(&golden(file)).unwrap();
        let (values, report) = start.finish();
        let cross = |name: &String| name.contains(".cross.");
        let text = |name: &&String| name.starts_with("encoder.") || name.starts_with("decoder.");
        assert!(report.random.iter().filter(text).all(cross), "{:?}", report.random);
        let told = |words: &str| report.notes.iter().any(|note| note.contains(words));
        assert!(told("its token types are left out") && told("the rows of [DEC] and [ENC] stay random"), "{report:?}");
        assert_eq!(told("its words were not compared"), !compared, "{report:?}");
        let rows = model.layout.entry("encoder.embeddings.words").unwrap().parameter;
        let random = initial_values(&model.layout, Random::seeded(1));
        let last = rows.start + 12 * 8..rows.start + 14 * 8;
        assert_eq!(values[last.clone()], random[last]);
        let device = Cpu::<f32>::new(1).unwrap();
        let parameters = device.flat(&values).unwrap();
        let (ids, lengths) = (device.upload_indices(&answers.ids).unwrap(), device.upload_indices(&[6]).unwrap());
        let texts = Texts { ids: &ids, lengths: &lengths, batch: 1, tokens: 6 };
        let (decoder, head) = model.decoder.as_ref().unwrap();
        for stack in [model.encoder.as_ref().unwrap(), decoder] {
            let mut tape = Tape::forgetting(&device, &parameters);
            let states = stack.forward(&mut tape, &texts, None, Order::Free, Pass::still()).unwrap();
            near(&device.download(&states.buffer).unwrap(), &answers.text_states);
            let logits = head.forward(&mut tape, &states, 6).unwrap();
            let logits = device.download(&logits.buffer).unwrap();
            let known: Vec<_> = logits.chunks(14).flat_map(|row| row[..12].to_vec()).collect();
            near(&known, &answers.logits);
        }
    }
}

#[test]
fn parts_of_other_sizes_or_words_are_refused_by_name() {
    let refused = |change: &dyn Fn(&mut Config, &mut Vec<String>), file: &str| {
        let (mut config, mut words) = (config(), words());
        change(&mut config, &mut words);
        let model = Blip::new(&config, Sharing::Joint);
        let mut start = Start::random((&model.layout, &config), &words, Random::seeded(1), Conflicts::Refuse);
        let done = if file.starts_with("vit") { start.vision(&golden(file)) } else { start.text(&golden(file)) };
        done.unwrap_err().to_string()
    };
    fn texts(config: &mut Config, change: impl Fn(&mut TextConfig)) {
        [&mut config.encoder, &mut config.decoder].into_iter().flatten().for_each(change);
    }
    assert!(refused(&|config, _| config.vision.layers = 3, "vit").contains("image layers is 2, the model's is 3"));
    assert!(refused(&|config, _| config.vision.heads = 4, "vit").contains("image heads is 3, the model's is 4"));
    let patches = refused(&|config, _| (config.vision.patch_size, config.vision.image_size) = (6, 18), "vit");
    assert!(patches.contains("[12, 3, 4, 4]"), "{patches}");
    assert!(refused(&|_, _| (), "bert/../vit").contains("is no BERT"));
    let size = refused(&|config, _| texts(config, |text| text.vocabulary_size = 13), "bert");
    assert!(size.contains("vocabulary size is 12, the model's is 13"), "{size}");
    let positions = refused(&|config, _| texts(config, |text| text.positions = 11), "bert");
    assert!(positions.contains("embeddings.positions is [10, 8], the model's is [11, 8]"), "{positions}");
    assert!(refused(&|_, words| words.swap(5, 6), "bert").contains("its word 5 is \"a\", the model's is \"red\""));
}

#[test]
fn the_positions_of_a_vit_are_interpolated_and_said_to_be() {
    let mut config = config();
    config.vision.image_size = 20;
    let (model, words) = (Blip::new(&config, Sharing::Joint), words());
    let mut start = Start::random((&model.layout, &config), &words, Random::seeded(1), Conflicts::Refuse);
    start.vision(&golden("vit")).unwrap();
    let (_, report) = start.finish();
    assert!(report.notes[0].contains("interpolated from 3 x 3 patches to 5 x 5"), "{report:?}");
    assert!(!report.random.contains(&"vision.position_embedding".to_owned()));
}
