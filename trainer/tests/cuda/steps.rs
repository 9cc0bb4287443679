//! Whole steps, with texts that are now longer and now shorter: each length is recorded apart and played again.

use anyhow::{Result, ensure};
use blip::config::{Config, SpecialTokens, TextConfig, VisionConfig};
use edgeblip_trainer::engine::cpu::Cpu;
use edgeblip_trainer::engine::{AdamW, Device};
use edgeblip_trainer::model::{Blip, Shares, Sharing};
use edgeblip_trainer::objectives::{Batch, Objective, Settings};
use edgeblip_trainer::optimizer::{Decayed, Schedule};
use edgeblip_trainer::train::{Learner, LearnerSettings, Shared, State};

/// Tokens of each step's longest text: the fourth of a length is the second that is played.
const LENGTHS: [usize; 15] = [5, 8, 5, 6, 8, 5, 6, 8, 5, 6, 8, 6, 5, 5, 8];
const PICTURES: usize = 4;
const SIDE: usize = 16;
const WORDS: u32 = 40;
/// How far a loss in bf16 may be from the CPU's, as a share of it.
const NEAR: f32 = 0.01;

fn config() -> Config {
    let text = TextConfig {
        width: 32,
        layers: 1,
        heads: 2,
        feed_forward: 64,
        vocabulary_size: WORDS as usize,
        positions: 16,
        cross_width: 32,
        norm_eps: 1e-12,
    };
    let vision = VisionConfig {
        width: 32,
        layers: 1,
        heads: 2,
        feed_forward: 64,
        patch_size: 8,
        image_size: SIDE,
        norm_eps: 1e-6,
    };
    Config { vision, encoder: Some(text.clone()), decoder: Some(text), projection_width: Some(16) }
}

fn learner<D: Device>(device: D) -> Result<Learner<D>> {
    let model = Blip::new(&config(), Sharing::Joint);
    let value = |at: usize| ((at * 7919 % 1009) as f32 / 1009.0 - 0.5) * 0.6;
    let mut weights: Vec<f32> = (0..model.layout.length()).map(value).collect();
    if let Some(matching) = &model.matching {
        weights[matching.temperature.start] = 0.07;
    }
    let settings = LearnerSettings {
        step: Settings {
            objective: Objective::Joint,
            shares: Shares::default(),
            smoothing: 0.1,
            checkpointed_vision: 0,
            checkpointed_text: 0,
        },
        adamw: AdamW { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.05, max_norm: f32::INFINITY },
        decayed: Decayed::All,
        schedule: Schedule::constant(3e-3),
        momentum: 0.9,
        alpha: 0.4,
        alpha_steps: 0,
        tokens: SpecialTokens { pad: 0, unknown: 1, class: 2, separator: 3, decoder_start: 4, encoder_start: 5 },
        seed: 1,
        batch: PICTURES,
        padded: 0,
    };
    let state = State::new(&model, weights, Objective::Joint, (16, 3));
    Ok(Learner::new(device, model, settings, &state)?)
}

fn batch(step: usize, longest: usize) -> Batch {
    let pixel = |at: usize| ((at * 31 + step * 977) % 255) as f32 / 127.5 - 1.0;
    let word = |at: usize| 6 + ((at * 13 + step * 5) as u32) % (WORDS - 6);
    let text = |picture: usize| {
        let length = longest - picture % 2;
        let words = (1..length - 1).map(|place| word(picture * 16 + place));
        [2].into_iter().chain(words).chain([3]).collect()
    };
    Batch {
        pixels: (0..PICTURES * 3 * SIDE * SIDE).map(pixel).collect(),
        pictures: PICTURES,
        texts: (0..PICTURES).map(text).collect(),
        names: (0..PICTURES).map(|picture| (step * PICTURES + picture) as u32).collect(),
        ..Batch::default()
    }
}

fn losses<D: Device>(device: D) -> Result<Vec<Vec<f32>>> {
    let mut learner = learner(device)?;
    let step = |(step, longest): (usize, &usize)| {
        let batch = batch(step, *longest);
        let shared = Shared { names: batch.names.clone(), words: batch.words(), padded: 0, number: 0 };
        Ok(learner.learn(&[batch], &[shared])?.losses)
    };
    LENGTHS.iter().enumerate().map(step).collect()
}

/// ITC's and LM's losses on a device are near the CPU's. ITM's is left out: of negatives that are nearly alike rounding chooses.
pub fn compare<D: Device>(device: D) -> Result<()> {
    let (found, expected) = (losses(device)?, losses(Cpu::<f32>::new(2)?)?);
    for (step, (found, expected)) in found.iter().zip(&expected).enumerate() {
        println!("step {step}: {found:?}, the CPU's {expected:?}");
        let is_near = |at: usize| (found[at] / expected[at] - 1.0).abs() <= NEAR;
        ensure!(is_near(0) && is_near(2), "step {step}: {found:?}, not {expected:?}");
    }
    Ok(())
}
