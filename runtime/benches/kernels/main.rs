//! Times of the kernels at the sizes of BLIP-base: 577 tokens of a picture, one token of a text, three beams.
//!
//! `cargo bench -p edgeblip --bench kernels` checks each answer before it times it: on the fastest instruction set with
//! one thread, the large ones with two as well, and on scalar, so that every run has its own yardstick.
//! With `-- OPERATION RUNS` it only runs one operation that often, for `tests/reference/instructions`.

mod float_kernels;
mod quantized_linear;

use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, SamplingMode};
use rayon::{ThreadPool, ThreadPoolBuilder};

/// 24 x 24 patches and the class token.
const TOKENS: usize = 577;
const WIDTH: usize = 768;
const FEED_FORWARD: usize = 4 * WIDTH;

const SAMPLES: usize = 30;
/// Some take seconds.
const SCALAR_SAMPLES: usize = 10;

/// Inputs, and room for an answer.
trait Operation: Send {
    /// Computes the answer once.
    fn run(&mut self, on: Implementation);

    /// Compares the last answer with one that does not come from the instruction set which is timed.
    ///
    /// # Panics
    /// When they differ.
    fn check(&self);

    /// The instruction set behind an implementation.
    fn instruction_set(&self, of: Implementation) -> String;
}

/// Which of a kernel's implementations runs.
#[derive(Clone, Copy)]
enum Implementation {
    Fastest,
    Scalar,
}

/// Whether two threads are worth their waking.
#[derive(Clone, Copy, PartialEq)]
enum Size {
    Large,
    Small,
}

/// A name, a size, and how the inputs are made.
type Case = (&'static str, Size, fn() -> Box<dyn Operation>);

fn main() {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let cases = quantized_linear::CASES.iter().chain(float_kernels::CASES);
    if let [name, runs] = words.as_slice()
        && let Ok(runs) = runs.parse::<u32>()
    {
        let Some((_, _, make)) = cases.into_iter().find(|case| case.0 == name) else {
            panic!("no operation is named {name}")
        };
        return run_only(name, make().as_mut(), runs);
    }
    let times = (Duration::from_millis(500), Duration::from_secs(2));
    let criterion = Criterion::default().sample_size(SAMPLES).warm_up_time(times.0).measurement_time(times.1);
    let mut criterion = criterion.configure_from_args();
    cases.for_each(|case| time(&mut criterion, case));
    criterion.final_summary();
}

fn run_only(name: &str, operation: &mut dyn Operation, runs: u32) {
    let pool = ThreadPoolBuilder::new().num_threads(1).use_current_thread().build();
    pool.expect("this is the first pool of the thread").install(|| {
        for _ in 0..runs {
            operation.run(Implementation::Fastest);
        }
    });
    operation.check();
    println!("{name} on {}", operation.instruction_set(Implementation::Fastest));
}

/// Cargo passes `--bench` when it benches; a test runs everything once, for which the fastest is enough.
fn time(criterion: &mut Criterion, &(name, size, make): &Case) {
    let is_bench = std::env::args().any(|word| word == "--bench");
    let mut operation = make();
    let mut group = criterion.benchmark_group(name);
    group.sampling_mode(SamplingMode::Flat);
    let fastest = operation.instruction_set(Implementation::Fastest);
    let mut ways = vec![(Implementation::Fastest, 1)];
    if size == Size::Large {
        ways.push((Implementation::Fastest, 2));
    }
    if is_bench && fastest != operation.instruction_set(Implementation::Scalar) {
        ways.push((Implementation::Scalar, 1));
    }
    for (on, threads) in ways {
        let pool = threads_of(threads);
        pool.install(|| operation.run(on));
        operation.check();
        if matches!(on, Implementation::Scalar) {
            group.sample_size(SCALAR_SAMPLES);
        }
        let id = BenchmarkId::new(operation.instruction_set(on), threads);
        group.bench_function(id, |bencher| {
            bencher.iter_custom(|runs| pool.install(|| duration_of(operation.as_mut(), on, runs)));
        });
    }
}

fn threads_of(threads: usize) -> ThreadPool {
    ThreadPoolBuilder::new().num_threads(threads).build().expect("a few threads can be started")
}

fn duration_of(operation: &mut dyn Operation, on: Implementation, runs: u64) -> Duration {
    let start = Instant::now();
    for _ in 0..runs {
        operation.run(on);
    }
    start.elapsed()
}
