//! Whole pre-training steps, timed after their losses were shown. PyTorch's side is `tests/reference/speed.py`, which also
//! prepares the file that both read:
//!
//! ```sh
//! python tests/reference/speed.py prepare FILE --size small --batch 16
//! python tests/reference/speed.py time FILE --threads 1
//! cargo bench -p edgeblip-trainer --bench step -- FILE [--steps N] [--threads N] [--device cpu|cuda]
//! ```

#[path = "../tests/reference_names.rs"]
mod reference_names;

use std::collections::BTreeMap;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use blip::config::{Config, SpecialTokens, TextConfig, VisionConfig};
use edgeblip_trainer::engine::cpu::Cpu;
use edgeblip_trainer::engine::cuda::Cuda;
use edgeblip_trainer::engine::{AdamW, Device};
use edgeblip_trainer::model::{Blip, Shares, Sharing};
use edgeblip_trainer::objectives::{Batch, Objective, Settings};
use edgeblip_trainer::optimizer::{Decayed, Schedule};
use edgeblip_trainer::train::{Learner, LearnerSettings, Shared, State};
use safetensors::SafeTensors;
use serde_json::Value;

use reference_names::file_name;

/// Steps before the first that is timed.
const WARM_UP: usize = 2;
/// Steps whose losses are shown.
const SHOWN: usize = 3;

struct Arguments {
    file: String,
    steps: usize,
    threads: usize,
    device: String,
}

fn main() -> Result<()> {
    let arguments = arguments()?;
    let bytes = std::fs::read(&arguments.file).with_context(|| arguments.file.clone())?;
    match arguments.device.as_str() {
        "cpu" => run(Cpu::<f32>::new(arguments.threads)?, &bytes, arguments.steps),
        "cuda" => run(Cuda::open(0)?, &bytes, arguments.steps),
        other => bail!("there is no device {other:?}"),
    }
}

fn arguments() -> Result<Arguments> {
    let mut parsed = Arguments { file: String::new(), steps: 10, threads: 1, device: "cpu".to_owned() };
    let mut given = std::env::args().skip(1).filter(|argument| argument != "--bench");
    while let Some(argument) = given.next() {
        let mut value = || given.next().with_context(|| format!("{argument} wants a value"));
        match argument.as_str() {
            "--steps" => parsed.steps = value()?.parse()?,
            "--threads" => parsed.threads = value()?.parse()?,
            "--device" => parsed.device = value()?,
            _ => parsed.file = argument,
        }
    }
    if parsed.file.is_empty() {
        println!("left out: name a file made by tests/reference/speed.py prepare");
        std::process::exit(0);
    }
    Ok(parsed)
}

fn run<D: Device>(device: D, bytes: &[u8], steps: usize) -> Result<()> {
    let (_, metadata) = SafeTensors::read_metadata(bytes)?;
    let facts = metadata.metadata().as_ref().and_then(|facts| facts.get("benchmark")).context("no benchmark")?;
    let facts: Value = serde_json::from_str(facts)?;
    let tensors = SafeTensors::deserialize(bytes)?;
    let (settings, batch, config) = read(&tensors, &facts)?;
    let model = Blip::new(&config, Sharing::Joint);
    let mut weights = Vec::new();
    for entry in model.layout.entries() {
        weights.extend(floats(&tensors, &format!("parameters/{}", file_name(&entry.name)))?);
    }
    ensure!(weights.len() == model.layout.length(), "other sizes than the file's");
    let queue = facts["sizes"]["queue"].as_u64().context("queue")? as usize;
    let mut state = State::new(&model, weights, Objective::Joint, (queue, 0));
    let width = config.projection_width.unwrap_or(0);
    state.image_queue = turned(&floats(&tensors, "image_queue")?, width, queue);
    state.text_queue = turned(&floats(&tensors, "text_queue")?, width, queue);
    let name = device.name();
    let mut learner = Learner::new(device, model, settings, &state)?;
    let mut seconds = Vec::new();
    for step in 0..WARM_UP + steps {
        let names = (0..batch.pictures as u32).map(|sample| (step * batch.pictures) as u32 + sample).collect();
        let batch = Batch { names, ..batch.clone() };
        let shared = Shared { names: batch.names.clone(), words: batch.words(), padded: 0, number: 0 };
        let began = Instant::now();
        let outcome = learner.learn(&[batch], &[shared])?;
        if step < SHOWN {
            let [itc, itm, lm] = outcome.losses[..] else { bail!("three losses") };
            println!("step {step}: itc {itc:.5}, itm {itm:.5}, lm {lm:.5}");
        }
        if step >= WARM_UP {
            seconds.push(began.elapsed().as_secs_f64());
        }
    }
    seconds.sort_by(f64::total_cmp);
    let (least, median, most) = (seconds[0], seconds[seconds.len() / 2], seconds[seconds.len() - 1]);
    let pairs = batch.pictures as f64 / median;
    println!("{name}: {median:.4} s a step ({least:.4} to {most:.4}), {pairs:.1} pairs/s, {steps} steps");
    Ok(())
}

fn read(tensors: &SafeTensors<'_>, facts: &Value) -> Result<(LearnerSettings, Batch, Config)> {
    let sizes: BTreeMap<String, f64> = serde_json::from_value(facts["sizes"].clone())?;
    let size = |name: &str| sizes.get(name).copied().with_context(|| format!("no size {name}"));
    let whole = |name: &str| Ok::<usize, anyhow::Error>(size(name)? as usize);
    let id = |name: &str| Ok::<u32, anyhow::Error>(size(name)? as u32);
    let text = TextConfig {
        width: whole("text_width")?,
        layers: whole("text_layers")?,
        heads: whole("text_heads")?,
        feed_forward: whole("text_feed_forward")?,
        vocabulary_size: whole("vocabulary")?,
        positions: whole("positions")?,
        cross_width: whole("vision_width")?,
        norm_eps: size("text_eps")? as f32,
    };
    let config = Config {
        vision: VisionConfig {
            width: whole("vision_width")?,
            layers: whole("vision_layers")?,
            heads: whole("vision_heads")?,
            feed_forward: whole("vision_feed_forward")?,
            patch_size: whole("patch")?,
            image_size: whole("image")?,
            norm_eps: size("vision_eps")? as f32,
        },
        encoder: Some(text.clone()),
        decoder: Some(text),
        projection_width: Some(whole("projection")?),
    };
    let setting = |name: &str| facts["settings"][name].as_f64().with_context(|| format!("no setting {name}"));
    let rate = setting("learning_rate")? as f32;
    let pictures = facts["batch"].as_u64().context("batch")? as usize;
    let settings = LearnerSettings {
        step: Settings {
            objective: Objective::Joint,
            shares: Shares::default(),
            smoothing: 0.1,
            checkpointed_vision: 0,
            checkpointed_text: 0,
        },
        adamw: AdamW {
            beta1: 0.9,
            beta2: 0.999,
            epsilon: setting("eps")? as f32,
            weight_decay: setting("weight_decay")? as f32,
            max_norm: f32::INFINITY,
        },
        decayed: Decayed::All,
        schedule: Schedule::constant(rate),
        momentum: setting("momentum")? as f32,
        alpha: setting("alpha")? as f32,
        alpha_steps: 0,
        tokens: SpecialTokens {
            pad: id("pad")?,
            unknown: id("pad")?,
            class: id("class_token")?,
            separator: id("separator")?,
            decoder_start: id("decoder_start")?,
            encoder_start: id("encoder_start")?,
        },
        seed: setting("seed")? as u64,
        batch: pictures,
        padded: 0,
    };
    let (ids, lengths) = (numbers(tensors, "ids")?, numbers(tensors, "lengths")?);
    let tokens = ids.len() / pictures;
    let texts = ids.chunks(tokens).zip(&lengths).map(|(row, length)| row[..*length as usize].to_vec()).collect();
    let batch = Batch { pixels: floats(tensors, "pixels")?, pictures, texts, ..Batch::default() };
    Ok((settings, batch, config))
}

fn floats(tensors: &SafeTensors<'_>, name: &str) -> Result<Vec<f32>> {
    let data = tensors.tensor(name).with_context(|| name.to_owned())?;
    Ok(data.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect())
}

fn numbers(tensors: &SafeTensors<'_>, name: &str) -> Result<Vec<u32>> {
    let data = tensors.tensor(name).with_context(|| name.to_owned())?;
    Ok(data.data().chunks_exact(8).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect())
}

/// `[width, rows]` as `[rows, width]`.
fn turned(values: &[f32], width: usize, rows: usize) -> Vec<f32> {
    (0..rows).flat_map(|row| (0..width).map(move |place| values[place * rows + row])).collect()
}
