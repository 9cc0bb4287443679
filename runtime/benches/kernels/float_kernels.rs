//! The float kernels, checked against 64-bit arithmetic.

use edgeblip::kernels::attention::{Attention, Elements, HeadRows, KeysValues, Seen, attention_on};
use edgeblip::kernels::gelu::gelu_on;
use edgeblip::kernels::half_rows::narrow;
use edgeblip::kernels::lanes::{InstructionSet, Scalar};
use edgeblip::kernels::layer_norm::{LayerNorm, layer_norm_on};
use half::f16;

use super::{Case, FEED_FORWARD, Implementation, Operation, Size, TOKENS, WIDTH};

const HEADS: usize = 12;
const HEAD_WIDTH: usize = WIDTH / HEADS;
const EPSILON: f32 = 1e-6;
/// Largest distance from the 64-bit answer.
const TOLERANCE: f64 = 3e-6;

pub const CASES: &[Case] = &[
    ("attention", Size::Large, || Box::new(PictureAttention::new())),
    ("attention-step", Size::Small, || Box::new(WordAttention::new())),
    ("layer-norm", Size::Large, || Box::new(Norm::new())),
    ("gelu", Size::Large, || Box::new(Gelu::new())),
];

fn set(of: Implementation) -> InstructionSet {
    match of {
        Implementation::Fastest => InstructionSet::fastest(),
        Implementation::Scalar => InstructionSet::Scalar(Scalar),
    }
}

/// # Panics
/// When a value is not about what 64-bit arithmetic says, or is not a number.
fn assert_close(found: &[f32], expected: impl IntoIterator<Item = f64>) {
    for (place, (found, expected)) in found.iter().zip(expected).enumerate() {
        let error = (f64::from(*found) - expected).abs();
        assert!(error < TOLERANCE, "value {place} is off by {error:.1e}");
    }
}

/// All tokens of a picture, out of the matrix that the layer before wrote.
struct PictureAttention {
    qkv: Vec<f32>,
    y: Vec<f32>,
}

impl PictureAttention {
    fn new() -> Self {
        Self { qkv: numbers(TOKENS * 3 * WIDTH, 1), y: vec![0.0; TOKENS * WIDTH] }
    }
}

impl Operation for PictureAttention {
    fn run(&mut self, on: Implementation) {
        let part = |part: usize| HeadRows::side_by_side(&self.qkv, 3 * WIDTH, part * WIDTH, HEAD_WIDTH);
        let fresh = KeysValues { keys: part(1), values: part(2) };
        let (heads, head_width) = (HEADS, HEAD_WIDTH);
        let call = Attention { heads, head_width, queries: part(0), past: None, fresh, seen: Seen::All };
        attention_on(set(on), &call, &mut self.y);
    }

    fn check(&self) {
        let row =
            |token: usize, part: usize, head: usize| &self.qkv[token * 3 * WIDTH + part * WIDTH + head * HEAD_WIDTH..];
        for (query, head) in [(0, 0), (7, 3), (575, 10), (576, 11)] {
            let exact = exact_attention(row(query, 0, head), |key| row(key, 1, head), |key| row(key, 2, head));
            assert_close(&self.y[query * WIDTH + head * HEAD_WIDTH..], exact);
        }
    }

    fn instruction_set(&self, of: Implementation) -> String {
        set(of).to_string()
    }
}

/// One word that looks at a picture, whose keys and values are kept as half floats.
struct WordAttention {
    q: Vec<f32>,
    keys: Vec<f16>,
    values: Vec<f16>,
    y: Vec<f32>,
}

impl WordAttention {
    fn new() -> Self {
        let cache = |seed| {
            let floats = numbers(TOKENS * WIDTH, seed);
            let mut halves = vec![f16::ZERO; floats.len()];
            narrow(&floats, &mut halves);
            halves
        };
        Self { q: numbers(WIDTH, 1), keys: cache(2), values: cache(3), y: vec![0.0; WIDTH] }
    }
}

impl Operation for WordAttention {
    fn run(&mut self, on: Implementation) {
        let cached = |cache| HeadRows::cached(Elements::F16(cache), TOKENS, TOKENS, HEAD_WIDTH);
        let fresh = KeysValues { keys: cached(&self.keys), values: cached(&self.values) };
        let queries = HeadRows::side_by_side(&self.q, WIDTH, 0, HEAD_WIDTH);
        let (heads, head_width) = (HEADS, HEAD_WIDTH);
        let call = Attention { heads, head_width, queries, past: None, fresh, seen: Seen::All };
        attention_on(set(on), &call, &mut self.y);
    }

    fn check(&self) {
        let wide = |cache: &[f16]| -> Vec<f32> { cache.iter().map(|half| half.to_f32()).collect() };
        let (keys, values) = (wide(&self.keys), wide(&self.values));
        for head in [0, 11] {
            let start = |key| (head * TOKENS + key) * HEAD_WIDTH;
            let query = &self.q[head * HEAD_WIDTH..];
            let exact = exact_attention(query, |key| &keys[start(key)..], |key| &values[start(key)..]);
            assert_close(&self.y[head * HEAD_WIDTH..], exact);
        }
    }

    fn instruction_set(&self, of: Implementation) -> String {
        set(of).to_string()
    }
}

fn exact_attention<'a>(
    query: &[f32],
    key: impl Fn(usize) -> &'a [f32],
    value: impl Fn(usize) -> &'a [f32],
) -> Vec<f64> {
    let product = |a: &[f32], b: &[f32]| -> f64 {
        a.iter().zip(b).take(HEAD_WIDTH).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
    };
    let scores: Vec<f64> = (0..TOKENS).map(|at| product(query, key(at)) / (HEAD_WIDTH as f64).sqrt()).collect();
    let weights: Vec<f64> = scores.iter().map(|score| libm::exp(*score)).collect();
    let sum: f64 = weights.iter().sum();
    let mixed = |column| (0..TOKENS).map(|at| weights[at] * f64::from(value(at)[column])).sum::<f64>() / sum;
    (0..HEAD_WIDTH).map(mixed).collect()
}

struct Norm {
    x: Vec<f32>,
    weight: Vec<f32>,
    bias: Vec<f32>,
    y: Vec<f32>,
}

impl Norm {
    fn new() -> Self {
        let x = numbers(TOKENS * WIDTH, 1);
        Self { y: vec![0.0; x.len()], x, weight: numbers(WIDTH, 2), bias: numbers(WIDTH, 3) }
    }
}

impl Operation for Norm {
    fn run(&mut self, on: Implementation) {
        let norm = LayerNorm { weight: &self.weight, bias: &self.bias, epsilon: EPSILON };
        layer_norm_on(set(on), &self.x, norm, &mut self.y);
    }

    fn check(&self) {
        for (x, y) in self.x.chunks(WIDTH).zip(self.y.chunks(WIDTH)) {
            let mean = x.iter().map(|x| f64::from(*x)).sum::<f64>() / WIDTH as f64;
            let variance = x.iter().map(|x| (f64::from(*x) - mean).powi(2)).sum::<f64>() / WIDTH as f64;
            let normal = x.iter().map(|x| (f64::from(*x) - mean) / (variance + f64::from(EPSILON)).sqrt());
            let scaled = normal.zip(self.weight.iter().zip(&self.bias));
            assert_close(y, scaled.map(|(x, (weight, bias))| x * f64::from(*weight) + f64::from(*bias)));
        }
    }

    fn instruction_set(&self, of: Implementation) -> String {
        set(of).to_string()
    }
}

struct Gelu {
    x: Vec<f32>,
    y: Vec<f32>,
}

impl Gelu {
    fn new() -> Self {
        let x = numbers(TOKENS * FEED_FORWARD, 1);
        Self { y: x.clone(), x }
    }
}

impl Operation for Gelu {
    /// In place, so the values of one run are copied for the next: two instructions in every eight or so.
    fn run(&mut self, on: Implementation) {
        self.y.copy_from_slice(&self.x);
        gelu_on(set(on), &mut self.y);
    }

    fn check(&self) {
        let exact = |x: f64| 0.5 * x * libm::erfc(-x * std::f64::consts::FRAC_1_SQRT_2);
        assert_close(&self.y, self.x.iter().map(|x| exact(f64::from(*x))));
    }

    fn instruction_set(&self, of: Implementation) -> String {
        set(of).to_string()
    }
}

/// Numbers in -2..2 that look like nothing in particular.
fn numbers(count: usize, mut state: u32) -> Vec<f32> {
    let next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 22) as f32 - 2.0
    };
    std::iter::repeat_with(next).take(count).collect()
}
