//! Times of the CPU engine's operations at the sizes of a small BLIP: 64 pictures of 37 tokens, 192 wide, 3 heads.
//!
//! `cargo bench -p edgeblip-trainer --bench cpu [THREADS]`. Each answer is compared with the same operation in 64 bits
//! before it is timed.

use std::time::Instant;

use edgeblip_trainer::engine::cpu::{Cpu, CpuBuffer, CpuFlat, Real};
use edgeblip_trainer::engine::{
    AttentionShape, Device, Dropout, GradientSlice, Heads, HeadsGradient, LinearShape, Order, Result, RowsShape, Slice,
    random_bits,
};

/// Pictures.
const BATCH: usize = 64;
/// Tokens of a picture.
const TOKENS: usize = 37;
/// Values of a token.
const WIDTH: usize = 192;
/// Rows of a linear.
const ROWS: usize = BATCH * TOKENS;
/// Timed runs of an operation.
const RUNS: usize = 41;
/// Largest error, of the largest value of an answer.
const TOLERANCE: f64 = 1e-5;

fn main() -> Result<()> {
    let threads = std::env::args().skip(1).find_map(|word| word.parse().ok()).unwrap_or(1);
    let (cpu, exact) = (Bench::<f32>::new(threads)?, Bench::<f64>::new(threads)?);
    println!("{}; {}; milliseconds of {RUNS} runs", processor(), cpu.cpu.name());
    println!("{:<34}{:>9}{:>9}{:>9}{:>10}", "operation", "median", "least", "most", "GFLOP/s");
    for operation in Operation::ALL {
        check(operation, &cpu.run(operation)?, &exact.run(operation)?);
        let mut times = Vec::with_capacity(RUNS);
        for _ in 0..RUNS {
            let start = Instant::now();
            cpu.run(operation)?;
            times.push(start.elapsed().as_secs_f64() * 1e3);
        }
        times.sort_by(f64::total_cmp);
        let [median, least, most] = [times[RUNS / 2], times[0], times[RUNS - 1]];
        let rate = operation.products() / median / 1e6;
        println!("{:<34}{median:>9.3}{least:>9.3}{most:>9.3}{rate:>10.1}", format!("{operation:?}"));
    }
    Ok(())
}

/// What is timed.
#[derive(Clone, Copy, Debug)]
enum Operation {
    Linear(LinearShape),
    LinearGelu(LinearShape),
    InputGradient(LinearShape),
    GeluInputGradient(LinearShape),
    WeightGradient(LinearShape),
    Attention,
    AttentionGradient,
    LayerNorm,
    LayerNormGradient,
    Dropout,
}

impl Operation {
    const ALL: [Self; 14] = [
        Self::Linear(linear(192, 192)),
        Self::Linear(linear(192, 576)),
        Self::Linear(linear(768, 192)),
        Self::LinearGelu(linear(192, 768)),
        Self::InputGradient(linear(192, 192)),
        Self::InputGradient(linear(192, 576)),
        Self::GeluInputGradient(linear(768, 192)),
        Self::WeightGradient(linear(192, 768)),
        Self::WeightGradient(linear(768, 192)),
        Self::Attention,
        Self::AttentionGradient,
        Self::LayerNorm,
        Self::LayerNormGradient,
        Self::Dropout,
    ];

    /// Floating-point operations of its matrix products.
    fn products(self) -> f64 {
        let products = match self {
            Self::Linear(shape)
            | Self::LinearGelu(shape)
            | Self::InputGradient(shape)
            | Self::GeluInputGradient(shape)
            | Self::WeightGradient(shape) => shape.rows * shape.inputs * shape.outputs,
            Self::Attention => 2 * BATCH * TOKENS * TOKENS * WIDTH,
            Self::AttentionGradient => 5 * BATCH * TOKENS * TOKENS * WIDTH,
            Self::LayerNorm | Self::LayerNormGradient | Self::Dropout => 0,
        };
        2.0 * products as f64
    }
}

const fn linear(inputs: usize, outputs: usize) -> LinearShape {
    LinearShape { rows: ROWS, inputs, outputs }
}

/// Inputs of all operations.
struct Bench<F: Real> {
    cpu: Cpu<F>,
    x: [CpuBuffer<F>; 3],
    weight: CpuFlat<F>,
    statistics: CpuBuffer<F>,
    attended: (CpuBuffer<F>, CpuBuffer<F>),
    seed: <Cpu<F> as Device>::Indices,
}

impl<F: Real> Bench<F> {
    fn new(threads: usize) -> Result<Self> {
        let cpu = Cpu::new(threads)?;
        let x = [1, 3, 4].map(|times| cpu.buffer(&values(times as u64, times * ROWS * WIDTH)));
        let weight = cpu.vector(&values(9, 4 * WIDTH * WIDTH));
        let norm = slice(&weight, WIDTH);
        let statistics = cpu.layer_norm(&x[0], norm, norm, NORM, 1e-6)?.1;
        let attended = cpu.attention(Heads::Packed(&x[1]), None, None, ATTENTION)?;
        let seed = cpu.upload_indices(&[1, 2])?;
        Ok(Self { cpu, x, weight, statistics, attended, seed })
    }

    /// A buffer of `ROWS` rows.
    fn wide(&self, width: usize) -> &CpuBuffer<F> {
        self.x.iter().find(|x| x.len() == ROWS * width).expect("one of the three widths")
    }

    fn run(&self, operation: Operation) -> Result<CpuBuffer<F>> {
        let Self { cpu, x, weight, .. } = self;
        let weight_of = |shape: LinearShape| slice(weight, shape.inputs * shape.outputs);
        let norm = slice(weight, WIDTH);
        match operation {
            Operation::Linear(shape) => {
                let bias = Some(slice(weight, shape.outputs));
                cpu.linear(self.wide(shape.inputs), weight_of(shape), bias, shape)
            }
            Operation::LinearGelu(shape) => {
                let bias = slice(weight, shape.outputs);
                Ok(cpu.linear_gelu(self.wide(shape.inputs), weight_of(shape), bias, shape)?.0)
            }
            Operation::InputGradient(shape) => {
                cpu.linear_input_gradient(self.wide(shape.outputs), weight_of(shape), shape)
            }
            Operation::GeluInputGradient(shape) => {
                let before = self.wide(shape.inputs);
                cpu.linear_gelu_input_gradient(self.wide(shape.outputs), weight_of(shape), before, shape)
            }
            Operation::WeightGradient(shape) => {
                let mut into = cpu.vector(&vec![F::ZERO; shape.inputs * shape.outputs]);
                let place = GradientSlice { flat: &mut into, start: 0 };
                cpu.linear_weight_gradient(self.wide(shape.outputs), self.wide(shape.inputs), place, shape)?;
                Ok(cpu.buffer(into.values()))
            }
            Operation::Attention => Ok(cpu.attention(Heads::Packed(&x[1]), None, None, ATTENTION)?.0),
            Operation::AttentionGradient => {
                let saved = (&self.attended.0, &self.attended.1);
                match cpu.attention_gradient(&x[0], Heads::Packed(&x[1]), saved, None, None, ATTENTION)? {
                    HeadsGradient::Packed(gradient) => Ok(gradient),
                    HeadsGradient::Split { q, .. } => Ok(q),
                }
            }
            Operation::LayerNorm => Ok(cpu.layer_norm(&x[0], norm, norm, NORM, 1e-6)?.0),
            Operation::LayerNormGradient => {
                let mut into = cpu.vector(&[F::ZERO; 2 * WIDTH]);
                let place = GradientSlice { flat: &mut into, start: 0 };
                cpu.layer_norm_gradient(&x[0], &x[0], &self.statistics, norm, place, WIDTH, NORM)
            }
            Operation::Dropout => cpu.dropout(&x[0], Dropout { share: 0.1, seed: &self.seed, site: 1 }, 1),
        }
    }
}

const NORM: RowsShape = RowsShape { rows: ROWS, width: WIDTH };

const ATTENTION: AttentionShape =
    AttentionShape { batch: BATCH, heads: 3, width: WIDTH, queries: TOKENS, keys: TOKENS, order: Order::Free };

fn slice<F: Real>(flat: &CpuFlat<F>, length: usize) -> Slice<'_, Cpu<F>> {
    Slice { flat, start: 0, length }
}

/// Values from -1 to 1 that 32 bits hold.
fn values<F: Real>(seed: u64, length: usize) -> Vec<F> {
    let value = |place| (random_bits(seed << 32, place) >> 40) as f64 / (1u64 << 23) as f64 - 1.0;
    (0..length as u64).map(|place| F::from_f64(value(place))).collect()
}

fn check(operation: Operation, found: &CpuBuffer<f32>, expected: &CpuBuffer<f64>) {
    let largest = expected.iter().fold(0.0, |most: f64, value| most.max(value.abs()));
    let errors = found.iter().zip(expected.iter()).map(|(found, expected)| (f64::from(*found) - expected).abs());
    let error = errors.fold(0.0, f64::max) / largest;
    assert!(error < TOLERANCE, "{operation:?} is off by {error:e} of its largest value");
}

/// What the processor calls itself, where the system says.
fn processor() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':').map(|(_, name)| name));
    line.map_or_else(|| "processor unknown".to_owned(), |name| name.trim().to_owned())
}
