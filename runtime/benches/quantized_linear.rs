//! Times of a quantized linear layer at the sizes of BLIP: 577 tokens of a picture, one token of a text, three beams.
//!
//! `cargo bench -p edgeblip --bench quantized_linear` checks each answer against scalar, then times it on one thread.
//! With `-- OPERATION RUNS` it only runs one operation that often, for `tests/reference/instructions`.

use std::time::Instant;

use edgeblip::kernels::quantized_linear::{Epilogue, InstructionSet, PackedWeights, instruction_set, quantize_rows};

/// Runs of an operation that are timed, after one that is not.
const RUNS: usize = 21;

/// Name, rows, inputs, outputs, and what is measured.
const OPERATIONS: &[(&str, usize, usize, usize, Part)] = &[
    ("picture-768-3072", 577, 768, 3072, Part::Whole),
    ("picture-3072-768", 577, 3072, 768, Part::Residual),
    ("picture-768-768", 577, 768, 768, Part::Whole),
    ("picture-quantize", 577, 768, 768, Part::Quantization),
    ("token-768-3072", 1, 768, 3072, Part::Whole),
    ("beams-768-3072", 3, 768, 3072, Part::Whole),
];

#[derive(Clone, Copy)]
enum Part {
    /// The layer.
    Whole,
    /// The layer and a residual.
    Residual,
    /// Only the quantization of its rows.
    Quantization,
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with("--")).collect();
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).use_current_thread().build();
    pool.expect("this is the first pool of the thread").install(|| match words.as_slice() {
        [] => time_all(),
        [name, runs] => run_one(name, runs.parse().expect("RUNS is a number")),
        _ => panic!("give OPERATION and RUNS, or nothing"),
    });
}

fn time_all() {
    println!("{}; 1 thread; {}; milliseconds of {RUNS} runs", processor(), instruction_set());
    println!("{:<20}{:>10}{:>10}{:>10}", "operation", "median", "least", "most");
    for &(name, rows, inputs, outputs, part) in OPERATIONS {
        let mut operation = Operation::new([rows, inputs, outputs], part);
        operation.run();
        operation.check();
        let mut times: Vec<f64> = (0..RUNS).map(|_| operation.time()).collect();
        times.sort_by(f64::total_cmp);
        println!("{name:<20}{:>10.3}{:>10.3}{:>10.3}", times[RUNS / 2], times[0], times[RUNS - 1]);
    }
}

fn run_one(name: &str, runs: usize) {
    let found = OPERATIONS.iter().find(|operation| operation.0 == name);
    let Some(&(_, rows, inputs, outputs, part)) = found else { panic!("no operation is named {name}") };
    let mut operation = Operation::new([rows, inputs, outputs], part);
    for _ in 0..runs {
        operation.run();
    }
    operation.check();
    println!("{name} on {}", instruction_set());
}

struct Operation {
    sizes: [usize; 3],
    part: Part,
    x: Vec<f32>,
    weights: Vec<i8>,
    scales: Vec<f32>,
    packed: PackedWeights,
    bias: Vec<f32>,
    residual: Vec<f32>,
    y: Vec<f32>,
    q: Vec<i8>,
    q_scales: Vec<f32>,
}

impl Operation {
    fn new(sizes: [usize; 3], part: Part) -> Self {
        let [rows, inputs, outputs] = sizes;
        let mut values = Values(1);
        let weights: Vec<i8> = (0..inputs * outputs).map(|_| (values.next() * 127.0) as i8).collect();
        let scales = values.floats(outputs);
        Self {
            sizes,
            part,
            x: values.floats(rows * inputs),
            packed: PackedWeights::pack(&weights, &scales, outputs, inputs),
            weights,
            scales,
            bias: values.floats(outputs),
            residual: values.floats(rows * outputs),
            y: vec![0.0; rows * outputs],
            q: vec![0; rows * inputs],
            q_scales: vec![0.0; rows],
        }
    }

    fn run(&mut self) {
        let epilogue = match self.part {
            Part::Quantization => return quantize_rows(&self.x, self.sizes[1], &mut self.q, &mut self.q_scales),
            Part::Whole => Epilogue::None,
            Part::Residual => Epilogue::Residual(&self.residual),
        };
        instruction_set().quantized_linear(&self.x, &self.packed, &self.bias, epilogue, &mut self.y);
    }

    fn time(&mut self) -> f64 {
        let start = Instant::now();
        self.run();
        start.elapsed().as_secs_f64() * 1e3
    }

    /// Compares the first and the last rows, which the other rows have no part in, with what scalar answers.
    fn check(&self) {
        let [rows, inputs, outputs] = self.sizes;
        let scalar = InstructionSet::Scalar;
        let packed = PackedWeights::pack_for(scalar, &self.weights, &self.scales, outputs, inputs);
        for row in [0, rows / 2, rows - 1] {
            let x = &self.x[row * inputs..][..inputs];
            let epilogue = match self.part {
                Part::Quantization => {
                    let (mut q, mut q_scale) = (vec![0; inputs], [0.0]);
                    scalar.quantize_rows(x, inputs, &mut q, &mut q_scale);
                    assert_eq!(q, self.q[row * inputs..][..inputs], "row {row}");
                    assert_eq!(q_scale[0].to_bits(), self.q_scales[row].to_bits(), "row {row}");
                    continue;
                }
                Part::Whole => Epilogue::None,
                Part::Residual => Epilogue::Residual(&self.residual[row * outputs..][..outputs]),
            };
            let mut y = vec![0.0; outputs];
            scalar.quantized_linear(x, &packed, &self.bias, epilogue, &mut y);
            let found = self.y[row * outputs..][..outputs].iter().map(|y| y.to_bits());
            assert!(found.eq(y.iter().map(|y| y.to_bits())), "row {row} is not what scalar answers");
        }
    }
}

/// A small generator of values between -1 and 1.
struct Values(u64);

impl Values {
    fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) as f32 / (1_u64 << 30) as f32 - 1.0
    }

    fn floats(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| self.next()).collect()
    }
}

/// The board where the system names it, else the processor.
fn processor() -> String {
    if let Ok(model) = std::fs::read_to_string("/proc/device-tree/model") {
        return model.trim_end_matches('\0').to_owned();
    }
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':').map(|(_, name)| name));
    line.map_or_else(|| "processor unknown".to_owned(), |name| name.trim().to_owned())
}
