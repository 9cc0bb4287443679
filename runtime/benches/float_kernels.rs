//! Times of the float kernels at the sizes of BLIP-base.
//!
//! `cargo bench -p edgeblip --bench float_kernels` checks each answer against 64-bit arithmetic and times it on one thread.
//! With `-- OPERATION RUNS` it only runs one operation that often, for `tests/reference/instructions`.

use std::time::{Duration, Instant};

use edgeblip::kernels::attention::{Attention, Elements, HeadRows, KeysValues, Seen, attention};
use edgeblip::kernels::gelu::gelu;
use edgeblip::kernels::half_rows::narrow;
use edgeblip::kernels::lanes::InstructionSet;
use edgeblip::kernels::layer_norm::{LayerNorm, layer_norm};
use half::f16;

/// 24 x 24 patches and the class token.
const TOKENS: usize = 577;
const HEADS: usize = 12;
const HEAD_WIDTH: usize = 64;
const WIDTH: usize = HEADS * HEAD_WIDTH;
const FEED_FORWARD: usize = 4 * WIDTH;

/// Runs of an operation that are timed.
const RUNS: usize = 21;
/// Largest distance from the 64-bit answer.
const TOLERANCE: f64 = 3e-6;

/// Runs an operation so many times, and gives its times and its worst error.
type Operation = fn(usize) -> (Vec<Duration>, f64);

const OPERATIONS: &[(&str, Operation)] =
    &[("attention", run_attention), ("attention-step", run_step), ("layer-norm", run_layer_norm), ("gelu", run_gelu)];

fn main() {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with("--")).collect();
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).use_current_thread().build();
    pool.expect("this is the first pool of the thread").install(|| match words.as_slice() {
        [] => {
            println!("1 thread; {}; milliseconds of {RUNS} runs", InstructionSet::fastest());
            println!("{:<20}{:>10}{:>10}{:>10}{:>14}", "operation", "median", "least", "most", "worst error");
            OPERATIONS.iter().for_each(time);
        }
        [name, runs] => {
            let found = OPERATIONS.iter().find(|operation| operation.0 == name);
            let Some((name, run)) = found else { panic!("no operation is named {name}") };
            let (_, error) = run(runs.parse().expect("RUNS is a number"));
            assert!(error < TOLERANCE, "{name} is off by {error:.1e}");
            println!("{name} on {}", InstructionSet::fastest());
        }
        _ => panic!("give OPERATION and RUNS, or nothing"),
    });
}

fn time((name, run): &(&str, Operation)) {
    let (mut times, error) = run(RUNS);
    assert!(error < TOLERANCE, "{name} is off by {error:.1e}");
    times.sort();
    let [median, least, most] = [RUNS / 2, 0, RUNS - 1].map(|at| times[at].as_secs_f64() * 1e3);
    println!("{name:<20}{median:>10.3}{least:>10.3}{most:>10.3}{error:>14.1e}");
}

fn timed(runs: usize, mut run: impl FnMut()) -> Vec<Duration> {
    let one = |_| {
        let start = Instant::now();
        run();
        start.elapsed()
    };
    (0..runs).map(one).collect()
}

/// Numbers in -2..2 that look like nothing in particular.
fn numbers(count: usize, mut state: u32) -> Vec<f32> {
    let next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 22) as f32 - 2.0
    };
    std::iter::repeat_with(next).take(count).collect()
}

fn worst(found: &[f32], expected: impl IntoIterator<Item = f64>) -> f64 {
    let errors = found.iter().zip(expected).map(|(found, expected)| (f64::from(*found) - expected).abs());
    errors.fold(0.0, |worst, error| if error <= worst { worst } else { error })
}

/// All tokens of a picture, out of the matrix that the layer before wrote.
fn run_attention(runs: usize) -> (Vec<Duration>, f64) {
    let qkv = numbers(TOKENS * 3 * WIDTH, 1);
    let part = |part: usize| HeadRows::side_by_side(&qkv, 3 * WIDTH, part * WIDTH, HEAD_WIDTH);
    let fresh = KeysValues { keys: part(1), values: part(2) };
    let (heads, head_width) = (HEADS, HEAD_WIDTH);
    let call = Attention { heads, head_width, queries: part(0), past: None, fresh, seen: Seen::All };
    let mut y = vec![0.0; TOKENS * WIDTH];
    let times = timed(runs, || attention(&call, &mut y));
    let row = |token: usize, part: usize, head: usize| &qkv[token * 3 * WIDTH + part * WIDTH + head * HEAD_WIDTH..];
    let mut error = 0.0_f64;
    for (query, head) in [(0, 0), (7, 3), (575, 10), (576, 11)] {
        let exact = exact_attention(row(query, 0, head), |key| row(key, 1, head), |key| row(key, 2, head));
        error = error.max(worst(&y[query * WIDTH + head * HEAD_WIDTH..], exact));
    }
    (times, error)
}

/// One word that looks at a picture, whose keys and values are kept as half floats.
fn run_step(runs: usize) -> (Vec<Duration>, f64) {
    let cache = |seed| {
        let floats = numbers(TOKENS * WIDTH, seed);
        let mut halves = vec![f16::ZERO; floats.len()];
        narrow(&floats, &mut halves);
        halves
    };
    let (q, keys, values) = (numbers(WIDTH, 1), cache(2), cache(3));
    let cached = |cache| HeadRows::cached(Elements::F16(cache), TOKENS, TOKENS, HEAD_WIDTH);
    let fresh = KeysValues { keys: cached(&keys), values: cached(&values) };
    let queries = HeadRows::side_by_side(&q, WIDTH, 0, HEAD_WIDTH);
    let (heads, head_width) = (HEADS, HEAD_WIDTH);
    let call = Attention { heads, head_width, queries, past: None, fresh, seen: Seen::All };
    let mut y = vec![0.0; WIDTH];
    let times = timed(runs, || attention(&call, &mut y));
    let wide = |cache: &[f16]| -> Vec<f32> { cache.iter().map(|half| half.to_f32()).collect() };
    let (keys, values) = (wide(&keys), wide(&values));
    let mut error = 0.0_f64;
    for head in [0, 11] {
        let start = |key| (head * TOKENS + key) * HEAD_WIDTH;
        let exact = exact_attention(&q[head * HEAD_WIDTH..], |key| &keys[start(key)..], |key| &values[start(key)..]);
        error = error.max(worst(&y[head * HEAD_WIDTH..], exact));
    }
    (times, error)
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

fn run_layer_norm(runs: usize) -> (Vec<Duration>, f64) {
    let (x, weight, bias) = (numbers(TOKENS * WIDTH, 1), numbers(WIDTH, 2), numbers(WIDTH, 3));
    let mut y = vec![0.0; x.len()];
    let times = timed(runs, || layer_norm(&x, LayerNorm { weight: &weight, bias: &bias, epsilon: 1e-6 }, &mut y));
    let mut error = 0.0_f64;
    for (x, y) in x.chunks(WIDTH).zip(y.chunks(WIDTH)) {
        let mean = x.iter().map(|x| f64::from(*x)).sum::<f64>() / WIDTH as f64;
        let variance = x.iter().map(|x| (f64::from(*x) - mean).powi(2)).sum::<f64>() / WIDTH as f64;
        let normal = x.iter().map(|x| (f64::from(*x) - mean) / (variance + 1e-6).sqrt());
        let exact =
            normal.zip(weight.iter().zip(&bias)).map(|(x, (weight, bias))| x * f64::from(*weight) + f64::from(*bias));
        error = error.max(worst(y, exact));
    }
    (times, error)
}

/// In place, so the values of one run are copied for the next: two instructions in every eight or so.
fn run_gelu(runs: usize) -> (Vec<Duration>, f64) {
    let x = numbers(TOKENS * FEED_FORWARD, 1);
    let mut y = x.clone();
    let times = timed(runs, || {
        y.copy_from_slice(&x);
        gelu(&mut y);
    });
    let exact = |x: f64| 0.5 * x * libm::erfc(-x * std::f64::consts::FRAC_1_SQRT_2);
    (times, worst(&y, x.iter().map(|x| exact(f64::from(*x)))))
}
