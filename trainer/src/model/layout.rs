//! Where each parameter stands, and what it starts from.

use std::collections::BTreeMap;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use crate::tape::{Linear, Norm, Parameter};

/// What a parameter starts from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Initial {
    /// The same value everywhere.
    Constant(f32),
    /// Normal, mean 0. Source: BLIP `models/med.py`, `_init_weights`.
    Normal,
    /// Normal cut off at two deviations. Source: BLIP `models/vit.py`, `trunc_normal_`; here cut at two deviations and
    /// not, as there, at 2.0, which no value reaches.
    TruncatedNormal,
    /// Uniform between plus and minus `1 / sqrt(inputs)`. Source: PyTorch `nn.Linear.reset_parameters`.
    Uniform(usize),
}

/// One named tensor.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Its name, as crate `checkpoint` has it.
    pub name: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Where it stands.
    pub parameter: Parameter,
    /// What it starts from.
    pub initial: Initial,
}

/// Every parameter of a model, in the order in which they stand.
#[derive(Clone, Debug, Default)]
pub struct Layout {
    entries: Vec<Entry>,
    names: BTreeMap<String, usize>,
    momentum: usize,
}

impl Layout {
    /// Every tensor, in order.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The tensor of this name.
    pub fn entry(&self, name: &str) -> Option<&Entry> {
        self.names.get(name).map(|place| &self.entries[*place])
    }

    /// Values of all parameters.
    pub fn length(&self) -> usize {
        self.entries.last().map_or(0, |entry| entry.parameter.start + entry.parameter.length)
    }

    /// Values at the beginning that have a momentum copy: image encoder, text encoder and projections.
    pub fn momentum_length(&self) -> usize {
        self.momentum
    }
}

/// How random weights are drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Random {
    /// Of what is normal, cut off or not.
    pub deviation: f32,
    /// Another seed gives other weights.
    pub seed: u64,
}

impl Random {
    /// As the authors draw them. Source: BLIP `configs/med_config.json`, `initializer_range`; `models/vit.py`,
    /// `_init_weights`.
    pub fn seeded(seed: u64) -> Random {
        Random { deviation: 0.02, seed }
    }
}

/// Values to start training from; those of a tensor depend on `random` and its name alone.
pub fn initial_values(layout: &Layout, random: Random) -> Vec<f32> {
    let mut values = Vec::with_capacity(layout.length());
    for entry in layout.entries() {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&random.seed.to_le_bytes());
        for (place, byte) in entry.name.bytes().enumerate() {
            key[8 + place % 24] = key[8 + place % 24].wrapping_mul(31).wrapping_add(byte);
        }
        let mut chance = ChaCha8Rng::from_seed(key);
        values.extend((0..entry.parameter.length).map(|_| draw(entry.initial, random.deviation, &mut chance)));
    }
    values
}

fn draw(initial: Initial, deviation: f32, random: &mut ChaCha8Rng) -> f32 {
    let mut unit = || ((random.next_u32() >> 8) as f64 + 0.5) / f64::from(1 << 24);
    // Box and Muller, "A note on the generation of random normal deviates", 1958.
    let mut normal = || (-2.0 * unit().ln()).sqrt() * (2.0 * std::f64::consts::PI * unit()).cos();
    match initial {
        Initial::Constant(value) => value,
        Initial::Normal => (normal() * f64::from(deviation)) as f32,
        Initial::TruncatedNormal => loop {
            let value = normal();
            if value.abs() <= 2.0 {
                break (value * f64::from(deviation)) as f32;
            }
        },
        Initial::Uniform(inputs) => ((2.0 * unit() - 1.0) / (inputs as f64).sqrt()) as f32,
    }
}

/// Appends parameters.
#[derive(Default)]
pub(super) struct Builder {
    layout: Layout,
}

impl Builder {
    pub fn add(&mut self, name: &str, shape: &[usize], initial: Initial) -> Parameter {
        let length = shape.iter().product();
        let parameter = Parameter { start: self.layout.length(), length };
        self.layout.names.insert(name.to_owned(), self.layout.entries.len());
        self.layout.entries.push(Entry { name: name.to_owned(), shape: shape.to_vec(), parameter, initial });
        parameter
    }

    pub fn linear(&mut self, name: &str, [outputs, inputs]: [usize; 2], initial: Initial) -> Linear {
        let weight = self.add(&format!("{name}.weight"), &[outputs, inputs], initial);
        let bias = self.add(&format!("{name}.bias"), &[outputs], Initial::Constant(0.0));
        Linear { weight, bias, inputs, outputs }
    }

    /// Linears that read the same: their weights stand one after the other, and so do their biases, so that they are one.
    pub fn stacked(&mut self, names: &[String], [outputs, inputs]: [usize; 2]) -> Linear {
        let start = self.layout.length();
        for name in names {
            self.add(&format!("{name}.weight"), &[outputs, inputs], Initial::Normal);
        }
        let middle = self.layout.length();
        for name in names {
            self.add(&format!("{name}.bias"), &[outputs], Initial::Constant(0.0));
        }
        Linear {
            weight: Parameter { start, length: middle - start },
            bias: Parameter { start: middle, length: self.layout.length() - middle },
            inputs,
            outputs: outputs * names.len(),
        }
    }

    /// A linear that starts as PyTorch's do.
    pub fn projection(&mut self, name: &str, [outputs, inputs]: [usize; 2]) -> Linear {
        let weight = self.add(&format!("{name}.weight"), &[outputs, inputs], Initial::Uniform(inputs));
        let bias = self.add(&format!("{name}.bias"), &[outputs], Initial::Uniform(inputs));
        Linear { weight, bias, inputs, outputs }
    }

    pub fn norm(&mut self, name: &str, width: usize, epsilon: f32) -> Norm {
        let gain = self.add(&format!("{name}.weight"), &[width], Initial::Constant(1.0));
        let bias = self.add(&format!("{name}.bias"), &[width], Initial::Constant(0.0));
        Norm { gain, bias, epsilon }
    }

    pub fn end_momentum(&mut self) {
        self.layout.momentum = self.layout.length();
    }

    pub fn finish(self) -> Layout {
        self.layout
    }
}
