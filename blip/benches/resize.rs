//! Times of the pictures that a model reads, made from ones that a camera or a telephone takes.
//!
//! `cargo bench -p blip --bench resize` checks each answer against Pillow's, then times it on one thread. With
//! `-- OPERATION RUNS` it only runs one operation that often, for `tests/reference/instructions`.

use std::hint::black_box;
use std::time::Instant;

use blip::pixels::{Normalization, Rgb8, normalize, resize};

/// Runs of an operation that are timed, after one that is not.
const RUNS: usize = 11;
/// Both sides of the answer.
const SIDE: usize = 384;

/// Name, width, height, and the CRC-32 of what Pillow 13.0.0 makes of [`picture`]:
///
/// ```python
/// index = numpy.arange(height * width * 3, dtype=numpy.uint32)
/// values = (index * numpy.uint32(2654435761) >> 24).astype(numpy.uint8).reshape(height, width, 3)
/// zlib.crc32(Image.fromarray(values).resize((384, 384), Image.Resampling.BICUBIC).tobytes())
/// ```
const OPERATIONS: &[(&str, usize, usize, u32)] = &[
    ("640x480", 640, 480, 0xCD80_B211),
    ("1920x1080", 1920, 1080, 0x7EC6_A3C6),
    ("1080x1920", 1080, 1920, 0xCD44_1CFF),
    ("4000x3000", 4000, 3000, 0xE021_390B),
    ("200x150", 200, 150, 0x44CC_1B1B),
];

fn main() {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with("--")).collect();
    match words.as_slice() {
        [] => time_all(),
        [name, runs] if name == "normalize" => run_normalize(runs.parse().expect("RUNS is a number")),
        [name, runs] => run_one(name, runs.parse().expect("RUNS is a number")),
        _ => panic!("give OPERATION and RUNS, or nothing"),
    }
}

fn time_all() {
    println!("1 thread; milliseconds of {RUNS} runs");
    println!("{:<12}{:>10}{:>10}{:>10}", "operation", "median", "least", "most");
    for &(name, width, height, sum) in OPERATIONS {
        let picture = picture(width, height);
        check(name, &resize(&picture, SIDE), sum);
        time(name, || drop(black_box(resize(&picture, SIDE))));
    }
    let (picture, normalization) = (picture(SIDE, SIDE), Normalization::default());
    check_normalize(&picture, &normalization, &normalize(&picture, &normalization));
    time("normalize", || drop(black_box(normalize(&picture, &normalization))));
}

fn time(name: &str, run: impl Fn()) {
    let timed = |_| {
        let start = Instant::now();
        run();
        start.elapsed().as_secs_f64() * 1e3
    };
    let mut times: Vec<f64> = (0..RUNS).map(timed).collect();
    times.sort_by(f64::total_cmp);
    println!("{name:<12}{:>10.3}{:>10.3}{:>10.3}", times[RUNS / 2], times[0], times[RUNS - 1]);
}

fn run_one(name: &str, runs: usize) {
    let found = OPERATIONS.iter().find(|operation| operation.0 == name);
    let Some(&(_, width, height, sum)) = found else { panic!("no operation is named {name}") };
    let picture = picture(width, height);
    for run in 0..runs {
        let answer = black_box(resize(&picture, SIDE));
        if run == 0 {
            check(name, &answer, sum);
        }
    }
    println!("{name} on compiled");
}

fn run_normalize(runs: usize) {
    let (picture, normalization) = (picture(SIDE, SIDE), Normalization::default());
    for run in 0..runs {
        let answer = black_box(normalize(&picture, &normalization));
        if run == 0 {
            check_normalize(&picture, &normalization, &answer);
        }
    }
    println!("normalize on compiled");
}

fn check(name: &str, answer: &Rgb8, sum: u32) {
    let found = crc_32(answer.values());
    assert_eq!(found, sum, "{name} is not what Pillow makes of it");
}

fn check_normalize(picture: &Rgb8, normalization: &Normalization, answer: &[f32]) {
    let pixels = SIDE * SIDE;
    for (index, &value) in picture.values().iter().enumerate() {
        let (pixel, channel) = (index / 3, index % 3);
        let share = (f64::from(value) * (1.0 / 255.0)) as f32;
        let expected = (share - normalization.mean[channel]) / normalization.std[channel];
        assert_eq!(answer[channel * pixels + pixel].to_bits(), expected.to_bits(), "value {index}");
    }
}

/// Values without order, the same everywhere.
fn picture(width: usize, height: usize) -> Rgb8 {
    let values =
        (0..(width * height * 3) as u32).map(|index| (index.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    Rgb8::new(width, height, values).expect("the size is one that a picture may have")
}

fn crc_32(bytes: &[u8]) -> u32 {
    let step = |crc: u32, _| if crc & 1 == 1 { (crc >> 1) ^ 0xEDB8_8320 } else { crc >> 1 };
    !bytes.iter().fold(u32::MAX, |crc, &byte| (0..8).fold(crc ^ u32::from(byte), step))
}
