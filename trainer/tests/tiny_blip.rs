//! Twenty steps of pre-training against PyTorch: `reference/tiny_blip.py` made the golden, its README says how.

mod reference_names;

use std::collections::BTreeMap;
use std::path::PathBuf;

use blip::config::{Config, SpecialTokens, TextConfig, VisionConfig};
use edgeblip_trainer::engine::AdamW;
use edgeblip_trainer::engine::cpu::Cpu;
use edgeblip_trainer::model::{Blip, Layout, Shares, Sharing};
use edgeblip_trainer::objectives::{Batch, Objective, Settings};
use edgeblip_trainer::optimizer::{Decay, Decayed, Schedule};
use edgeblip_trainer::train::{Learner, LearnerSettings, Outcome, Shared, State};
use safetensors::SafeTensors;
use serde_json::Value;

use reference_names::file_name;

/// How far a number may be from PyTorch's, as a share of the tensor's largest.
const NEAR: f32 = 1e-4;

struct Golden {
    bytes: Vec<u8>,
    facts: Value,
}

impl Golden {
    fn read() -> Golden {
        let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/goldens");
        let read = |name: &str| std::fs::read(folder.join(name)).expect("the golden is as its README says");
        Golden {
            bytes: read("tiny_blip.safetensors"),
            facts: serde_json::from_slice(&read("tiny_blip.json")).expect("the golden is as its README says"),
        }
    }

    fn floats(&self, name: &str) -> Vec<f32> {
        let tensors = SafeTensors::deserialize(&self.bytes).expect("the golden is as its README says");
        let data = tensors.tensor(name).unwrap_or_else(|error| panic!("{name}: {error}")).data().to_vec();
        data.chunks_exact(4)
            .map(|value| f32::from_le_bytes(value.try_into().expect("the golden is as its README says")))
            .collect()
    }

    fn bytes(&self, name: &str) -> Vec<u8> {
        SafeTensors::deserialize(&self.bytes)
            .expect("the golden is as its README says")
            .tensor(name)
            .expect("the golden is as its README says")
            .data()
            .to_vec()
    }

    fn size(&self, name: &str) -> usize {
        self.facts["sizes"][name].as_u64().unwrap_or_else(|| panic!("no size {name}: {}", self.facts["sizes"])) as usize
    }

    fn number(&self, path: &str) -> f32 {
        self.facts.pointer(path).and_then(Value::as_f64).unwrap_or_else(|| panic!("no number at {path}")) as f32
    }

    fn config(&self) -> Config {
        let text = TextConfig {
            width: self.size("text_width"),
            layers: self.size("text_layers"),
            heads: self.size("text_heads"),
            feed_forward: self.size("text_feed_forward"),
            vocabulary_size: self.size("vocabulary"),
            positions: self.size("positions"),
            cross_width: self.size("vision_width"),
            norm_eps: 1e-12,
        };
        Config {
            vision: VisionConfig {
                width: self.size("vision_width"),
                layers: self.size("vision_layers"),
                heads: self.size("vision_heads"),
                feed_forward: self.size("vision_feed_forward"),
                patch_size: self.size("patch"),
                image_size: self.size("image"),
                norm_eps: 1e-6,
            },
            encoder: Some(text.clone()),
            decoder: Some(text),
            projection_width: Some(self.size("projection")),
        }
    }

    fn weights(&self, layout: &Layout, folder: &str) -> Vec<f32> {
        layout.entries().iter().flat_map(|entry| self.floats(&format!("{folder}/{}", file_name(&entry.name)))).collect()
    }

    /// The queue, a sample a row.
    fn queue(&self, name: &str) -> Vec<f32> {
        let (columns, width, values) = (self.size("queue"), self.size("projection"), self.floats(name));
        (0..columns)
            .flat_map(|row| (0..width).map(move |place| (row, place)))
            .map(|(row, place)| values[place * columns + row])
            .collect()
    }

    fn batch(&self, step: u64) -> Batch {
        let (number, count, side) = ((step % 10) as usize, 6, self.size("image"));
        let bytes = self.bytes("batches/pictures");
        let bytes = &bytes[number * count * side * side * 3..][..count * side * side * 3];
        let mean = [0.481_454_66_f32, 0.457_827_5, 0.408_210_73];
        let deviation = [0.268_629_54_f32, 0.261_302_6, 0.275_777_1];
        let mut pixels = vec![0.0; bytes.len()];
        for (at, &byte) in bytes.iter().enumerate() {
            let (place, channel) = (at / 3, at % 3);
            let (picture, pixel) = (place / (side * side), place % (side * side));
            pixels[(picture * 3 + channel) * side * side + pixel] =
                (f32::from(byte) / 255.0 - mean[channel]) / deviation[channel];
        }
        let batch = &self.facts["batches"][number];
        let numbers = |value: &Value| -> Vec<u32> {
            value
                .as_array()
                .expect("the golden is as its README says")
                .iter()
                .map(|number| number.as_u64().expect("the golden is as its README says") as u32)
                .collect()
        };
        let texts = batch["ids"]
            .as_array()
            .expect("the golden is as its README says")
            .iter()
            .map(numbers)
            .zip(numbers(&batch["lengths"]));
        Batch {
            pixels,
            pictures: count,
            texts: texts
                .map(|(mut ids, length)| {
                    ids.truncate(length as usize);
                    ids
                })
                .collect(),
            prompt: 0,
            names: (0..count as u32).map(|sample| step as u32 * 6 + sample).collect(),
            answers: None,
        }
    }

    fn learner(&self, max_norm: f32) -> Learner<Cpu> {
        let model = Blip::new(&self.config(), Sharing::Joint);
        let schedule = |name: &str| self.number(&format!("/settings/schedule/{name}"));
        let id = |name: &str| self.size(name) as u32;
        let settings = LearnerSettings {
            step: Settings {
                objective: Objective::Joint,
                shares: Shares::default(),
                smoothing: self.number("/settings/label_smoothing"),
                checkpointed_vision: 0,
                checkpointed_text: 0,
            },
            adamw: AdamW { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.05, max_norm },
            decayed: Decayed::All,
            schedule: Schedule {
                rate: schedule("initial"),
                least: schedule("least"),
                warm_up_from: schedule("warm_up_from"),
                warm_up_steps: schedule("warm_up_steps") as u64,
                decay: Decay::EpochSteps,
                factor: schedule("decay_rate"),
                epochs: 2,
                steps_an_epoch: 10,
            },
            momentum: self.number("/settings/momentum"),
            alpha: self.number("/settings/alpha"),
            alpha_steps: 20,
            tokens: SpecialTokens {
                pad: id("pad"),
                unknown: 1,
                class: id("class_token"),
                separator: id("separator"),
                decoder_start: id("decoder_start"),
                encoder_start: id("encoder_start"),
            },
            seed: self.number("/settings/seed") as u64,
            batch: 6,
            padded: 0,
        };
        let mut state = State::new(&model, self.weights(&model.layout, "start/parameters"), Objective::Joint, (24, 0));
        state.image_queue = self.queue("start/image_queue");
        state.text_queue = self.queue("start/text_queue");
        Learner::new(Cpu::new(1).expect("the golden is as its README says"), model, settings, &state)
            .expect("the golden is as its README says")
    }
}

fn learn(learner: &mut Learner<Cpu>, golden: &Golden) -> Outcome {
    let batch = golden.batch(learner.steps());
    let shared = Shared { names: batch.names.clone(), words: batch.words(), padded: 0, number: 0 };
    learner.learn(&[batch], &[shared]).expect("the golden is as its README says")
}

fn distance(found: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(found.len(), expected.len());
    let largest = expected.iter().fold(1e-3_f32, |most, value| most.max(value.abs()));
    found.iter().zip(expected).fold(0.0_f32, |most, (a, b)| most.max((a - b).abs())) / largest
}

/// Values whose gradient is rounding alone: adding to every key's score changes no softmax.
fn without_effect(golden: &Golden, name: &str) -> Option<std::ops::Range<usize>> {
    match golden.facts["without_effect"].get(name)? {
        Value::Null => Some(0..usize::MAX),
        range => Some(
            range[0].as_u64().expect("the golden is as its README says") as usize
                ..range[1].as_u64().expect("the golden is as its README says") as usize,
        ),
    }
}

fn near(golden: &Golden, layout: &Layout, found: &[f32], folder: &str) {
    let mut worst = BTreeMap::new();
    for entry in layout.entries() {
        let name = file_name(&entry.name);
        let skipped = without_effect(golden, &name).unwrap_or(0..0);
        let keep = |values: &[f32]| -> Vec<f32> {
            let kept = values.iter().enumerate().filter(|(at, _)| !skipped.contains(at));
            kept.map(|(_, value)| *value).collect()
        };
        let place = entry.parameter;
        let mine = keep(&found[place.start..place.start + place.length]);
        let apart = distance(&mine, &keep(&golden.floats(&format!("{folder}/{name}"))));
        worst.insert((apart * 1e9) as u64, name);
    }
    let (apart, name) = worst.last_key_value().expect("the golden is as its README says");
    println!("{folder}: {:e} at most, in {name}", *apart as f32 / 1e9);
    assert!(*apart as f32 / 1e9 <= NEAR, "{folder}: {name} is {:e} apart", *apart as f32 / 1e9);
}

#[test]
fn twenty_steps_are_those_of_pytorch() {
    let golden = Golden::read();
    let mut learner = golden.learner(f32::INFINITY);
    for step in golden.facts["steps"].as_array().expect("the golden is as its README says") {
        let outcome = learn(&mut learner, &golden);
        let number = |name: &str| step[name].as_f64().expect("the golden is as its README says") as f32;
        for (place, name) in ["itc", "itm", "lm"].into_iter().enumerate() {
            let apart = (outcome.losses[place] - number(name)).abs();
            assert!(apart <= NEAR, "step {}: {name} is {}, not {}", step["step"], outcome.losses[place], number(name));
        }
        assert!((outcome.gradient_norm / number("gradient_norm") - 1.0).abs() <= NEAR, "{outcome:?}, {step}");
        assert!((outcome.learning_rate - number("learning_rate")).abs() <= 1e-9);
        if learner.steps() == 1 {
            near(
                &golden,
                &learner.model().layout,
                &learner.gradients().expect("the golden is as its README says"),
                "step-1/gradients",
            );
        }
        let state = learner.state().expect("the golden is as its README says");
        assert_eq!(state.queue_at, step["queue_pointer"].as_u64().expect("the golden is as its README says") as usize);
        if [1, 10, 20].contains(&state.step) {
            for (name, queue) in [("image_queue", &state.image_queue), ("text_queue", &state.text_queue)] {
                let apart = distance(queue, &golden.queue(&format!("step-{}/{name}", state.step)));
                assert!(apart <= NEAR, "step {}: {name} is {apart:e} apart", state.step);
            }
            momentum(&golden, &learner, &state);
        }
    }
    near(
        &golden,
        &learner.model().layout,
        &learner.state().expect("the golden is as its README says").weights,
        "step-20/parameters",
    );
}

/// Sum, norm and first values of every momentum copy.
fn momentum(golden: &Golden, learner: &Learner<Cpu>, state: &State) {
    let rows = golden.floats(&format!("step-{}/momentum", state.step));
    let names = golden.facts["momentum"].as_array().expect("the golden is as its README says");
    let layout = &learner.model().layout;
    let mut compared = 0;
    for entry in layout.entries().iter().filter(|entry| entry.parameter.start < layout.momentum_length()) {
        let name = file_name(&entry.name);
        let row = names.iter().position(|known| known.as_str() == Some(&name)).unwrap_or_else(|| panic!("{name}"));
        let (row, place) = (&rows[row * 10..][..10], entry.parameter);
        let values = &state.momentum[place.start..place.start + place.length];
        let norm = values.iter().map(|value| value * value).sum::<f32>().sqrt();
        if without_effect(golden, &name).is_none() {
            assert!((norm - row[1]).abs() <= NEAR * row[1].max(1.0), "{name}: norm {norm}, not {}", row[1]);
            let first = &values[..values.len().min(8)];
            assert!(distance(first, &row[2..2 + first.len()]) <= NEAR, "{name}: {first:?}, not {row:?}");
        }
        compared += 1;
    }
    assert_eq!(compared, names.len());
}

#[test]
fn clipping_is_pytorchs() {
    let golden = Golden::read();
    let mut learner = golden.learner(golden.number("/clipped/max_norm"));
    for step in golden.facts["clipped"]["steps"].as_array().expect("the golden is as its README says") {
        let outcome = learn(&mut learner, &golden);
        let norm = step["gradient_norm"].as_f64().expect("the golden is as its README says") as f32;
        assert!((outcome.gradient_norm / norm - 1.0).abs() <= NEAR, "{outcome:?}, {step}");
    }
}

#[test]
fn a_layer_that_runs_again_changes_nothing_but_the_order_of_sums() {
    let golden = Golden::read();
    let mut plain = golden.learner(f32::INFINITY);
    let mut again = golden.learner(f32::INFINITY);
    again.checkpoint_layers(2, 2);
    for _ in 0..3 {
        let (plain, again) = (learn(&mut plain, &golden), learn(&mut again, &golden));
        assert!(distance(&again.losses, &plain.losses) <= 1e-6, "{again:?}, {plain:?}");
    }
}
