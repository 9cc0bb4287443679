//! AdamW, learning rates over time, and what is kept between steps.

use std::ops::Range;

use crate::engine::{AdamW, AdamWState, Device, Result, scalars};
use crate::model::Layout;

/// How the learning rate falls.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Decay {
    /// Times a factor with every epoch, but not below the least. Source: BLIP `utils.py`, `step_lr_schedule`.
    EpochSteps,
    /// Half a cosine, in steps of an epoch. Source: BLIP `utils.py`, `cosine_lr_schedule`.
    EpochCosine,
    /// Half a cosine, step by step.
    Cosine,
    /// Not at all.
    Constant,
}

/// The learning rate over time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Schedule {
    /// Highest rate.
    pub rate: f32,
    /// Least rate.
    pub least: f32,
    /// Where the warm-up starts.
    pub warm_up_from: f32,
    /// Steps of the warm-up; it lasts through the first epoch at most.
    pub warm_up_steps: u64,
    /// How the rate falls afterwards.
    pub decay: Decay,
    /// Factor of [`Decay::EpochSteps`].
    pub factor: f32,
    /// Epochs of the whole run.
    pub epochs: u64,
    /// Steps of an epoch.
    pub steps_an_epoch: u64,
}

impl Schedule {
    /// The same rate in every step.
    pub fn constant(rate: f32) -> Schedule {
        Schedule {
            rate,
            least: rate,
            warm_up_from: rate,
            warm_up_steps: 0,
            decay: Decay::Constant,
            factor: 1.0,
            epochs: 1,
            steps_an_epoch: 1,
        }
    }

    /// The rate of a step, counted from zero.
    ///
    /// Source: BLIP `utils.py`, `warmup_lr_schedule`, which holds in the first epoch, and the decays named at [`Decay`].
    pub fn at(&self, step: u64) -> f32 {
        let steps_an_epoch = self.steps_an_epoch.max(1);
        let epoch = step / steps_an_epoch;
        if epoch == 0 && self.warm_up_steps > 0 {
            let share = step as f32 / self.warm_up_steps as f32;
            let warming = self.warm_up_from + (self.rate - self.warm_up_from) * share;
            if step < self.warm_up_steps {
                return warming.min(self.rate);
            }
        }
        let cosine = |share: f64| {
            let height = 0.5 * (1.0 + (std::f64::consts::PI * share.min(1.0)).cos());
            (self.rate - self.least) * height as f32 + self.least
        };
        match self.decay {
            Decay::EpochSteps => self.least.max(self.rate * self.factor.powi(epoch.min(i32::MAX as u64) as i32)),
            Decay::EpochCosine => cosine(epoch as f64 / self.epochs.max(1) as f64),
            Decay::Cosine => cosine(step as f64 / (self.epochs * steps_an_epoch).max(1) as f64),
            Decay::Constant => self.rate,
        }
    }
}

/// Which parameters weight decay pulls towards zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Decayed {
    /// All of them. Source: BLIP `pretrain.py`, `train_caption.py`, `train_retrieval.py` and `train_vqa.py`, where
    /// `torch.optim.AdamW` gets `model.parameters()` as one group.
    #[default]
    All,
    /// Those with more than one axis that is longer than 1: not biases, norms, the class token and the temperature.
    Matrices,
}

/// Parameters that stand together and have one weight decay.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    /// Where they stand.
    pub range: Range<usize>,
    /// Their weight decay.
    pub weight_decay: f32,
}

impl Decayed {
    /// The groups of a model, in order: together they are all its parameters.
    pub fn groups(self, layout: &Layout, weight_decay: f32) -> Vec<Group> {
        let mut groups: Vec<Group> = Vec::new();
        for entry in layout.entries() {
            let is_matrix = entry.shape.iter().filter(|size| **size > 1).count() > 1;
            let weight_decay = if self == Decayed::All || is_matrix { weight_decay } else { 0.0 };
            let end = entry.parameter.start + entry.parameter.length;
            match groups.last_mut() {
                Some(group) if group.weight_decay == weight_decay => group.range.end = end,
                _ => groups.push(Group { range: entry.parameter.start..end, weight_decay }),
            }
        }
        groups
    }
}

/// Gradients and moments of all parameters.
pub struct Optimizer<D: Device> {
    /// What the backward pass adds to.
    pub gradients: D::Flat,
    /// First moments.
    pub first: D::Flat,
    /// Second moments.
    pub second: D::Flat,
    constants: AdamW,
    groups: Vec<Group>,
}

impl<D: Device> Optimizer<D> {
    /// An optimizer with these moments; each group has its own weight decay instead of the constants'.
    ///
    /// # Errors
    /// As the device.
    pub fn new(device: &D, constants: AdamW, groups: Vec<Group>, [first, second]: [&[f32]; 2]) -> Result<Optimizer<D>> {
        Ok(Optimizer {
            gradients: device.flat(&vec![0.0; first.len()])?,
            first: device.flat(first)?,
            second: device.flat(second)?,
            constants,
            groups,
        })
    }

    /// Changes the parameters by the gradients; gives the gradients' squared norm. With several ranks, gradients are
    /// averaged first.
    ///
    /// # Errors
    /// As the device.
    pub fn step(&mut self, device: &D, weights: &mut D::Flat, scalars: &D::Buffer) -> Result<D::Buffer> {
        if device.world() > 1 {
            device.all_reduce(&mut self.gradients)?;
            device.scale_flat(&mut self.gradients, 1.0 / device.world() as f32)?;
        }
        let norm = device.squared_norm(&self.gradients)?;
        let Optimizer { gradients, first, second, constants, groups } = self;
        for Group { range, weight_decay } in groups {
            let state = AdamWState { weights, gradients, first, second, range: range.clone() };
            device.adamw(state, AdamW { weight_decay: *weight_decay, ..*constants }, &norm, scalars)?;
        }
        Ok(norm)
    }

    /// The values that a step reads from its scalars; `step` counts from zero.
    pub fn scalars(&self, rate: f32, step: u64) -> [f32; scalars::COUNT] {
        let correction = |beta: f32| (1.0 - f64::from(beta).powf((step + 1) as f64)) as f32;
        let mut values = [0.0; scalars::COUNT];
        values[scalars::LEARNING_RATE] = rate;
        values[scalars::FIRST_CORRECTION] = correction(self.constants.beta1);
        values[scalars::SECOND_CORRECTION] = correction(self.constants.beta2);
        values
    }
}

#[cfg(test)]
mod tests {
    use blip::config::{Config, TextConfig, VisionConfig};

    use super::*;
    use crate::engine::cpu::Cpu;
    use crate::model::{Blip, Sharing};

    const PRETRAINING: Schedule = Schedule {
        rate: 3e-4,
        least: 1e-6,
        warm_up_from: 1e-6,
        warm_up_steps: 3000,
        decay: Decay::EpochSteps,
        factor: 0.9,
        epochs: 20,
        steps_an_epoch: 5000,
    };

    fn tiny() -> Layout {
        let text = TextConfig {
            width: 8,
            layers: 1,
            heads: 2,
            feed_forward: 16,
            vocabulary_size: 11,
            positions: 6,
            cross_width: 8,
            norm_eps: 1e-12,
        };
        let vision = VisionConfig {
            width: 8,
            layers: 1,
            heads: 2,
            feed_forward: 16,
            patch_size: 2,
            image_size: 4,
            norm_eps: 1e-6,
        };
        let config = Config { encoder: Some(text.clone()), decoder: Some(text), projection_width: Some(4), vision };
        Blip::new(&config, Sharing::Joint).layout
    }

    #[test]
    fn where_matrices_decay_biases_norms_class_token_and_temperature_do_not() {
        let layout = tiny();
        let groups = Decayed::Matrices.groups(&layout, 0.05);
        assert!(groups.windows(2).all(|pair| pair[0].range.end == pair[1].range.start));
        assert_eq!((groups[0].range.start, groups[groups.len() - 1].range.end), (0, layout.length()));
        for entry in layout.entries() {
            let group = groups.iter().find(|group| group.range.contains(&entry.parameter.start)).unwrap();
            assert!(entry.parameter.start + entry.parameter.length <= group.range.end, "{}", entry.name);
            let spared =
                ["bias", "norm", "class_embedding", "temperature"].iter().any(|part| entry.name.contains(part));
            assert_eq!(group.weight_decay, if spared { 0.0 } else { 0.05 }, "{}", entry.name);
        }
        assert_eq!(Decayed::All.groups(&layout, 0.05), [Group { range: 0..layout.length(), weight_decay: 0.05 }]);
    }

    #[test]
    fn a_step_without_gradients_changes_what_decays_and_nothing_else() {
        let (layout, cpu) = (tiny(), Cpu::<f32>::new(1).unwrap());
        let (ones, zeros) = (vec![1.0; layout.length()], vec![0.0; layout.length()]);
        let constants = AdamW { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.5, max_norm: f32::INFINITY };
        let groups = Decayed::Matrices.groups(&layout, constants.weight_decay);
        let mut optimizer = Optimizer::new(&cpu, constants, groups, [&zeros, &zeros]).unwrap();
        let mut weights = cpu.flat(&ones).unwrap();
        let scalars = cpu.upload(&optimizer.scalars(0.5, 0)).unwrap();
        optimizer.step(&cpu, &mut weights, &scalars).unwrap();
        let weights = cpu.read_flat(&weights).unwrap();
        for entry in layout.entries() {
            let spared =
                ["bias", "norm", "class_embedding", "temperature"].iter().any(|part| entry.name.contains(part));
            let values = &weights[entry.parameter.start..entry.parameter.start + entry.parameter.length];
            assert!(values.iter().all(|value| *value == if spared { 1.0 } else { 0.75 }), "{}", entry.name);
        }
    }

    #[test]
    fn warm_up_is_a_line_and_ends_at_the_rate() {
        assert_eq!(PRETRAINING.at(0), 1e-6);
        assert!((PRETRAINING.at(1500) - 1.505e-4).abs() < 1e-9);
        assert_eq!(PRETRAINING.at(3000), 3e-4);
        assert_eq!(PRETRAINING.at(4999), 3e-4);
    }

    #[test]
    fn an_epoch_lowers_the_rate_by_its_factor_down_to_the_least() {
        assert!((PRETRAINING.at(5000) - 2.7e-4).abs() < 1e-9);
        assert!((PRETRAINING.at(10_000) - 2.43e-4).abs() < 1e-9);
        assert_eq!(PRETRAINING.at(5000 * 10_000), 1e-6);
    }

    #[test]
    fn a_cosine_ends_at_the_least() {
        let schedule = Schedule { decay: Decay::Cosine, warm_up_steps: 0, ..PRETRAINING };
        assert_eq!(schedule.at(0), 3e-4);
        assert!((schedule.at(50_000) - 1.505e-4).abs() < 1e-8);
        assert!((schedule.at(100_000) - 1e-6).abs() < 1e-9);
    }
}
