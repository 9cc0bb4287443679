//! What each stage of the field pipeline takes, from a camera's JPEG to a pair that a power cut leaves, with the built-in
//! model.
//!
//! `cargo bench -p edgeblip --bench frame` first takes one frame the whole way, and stops unless its caption is the known
//! one and its pair is read back from the disk as it was put there.

use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use blip::caption::Caption;
use blip::config::Role;
use blip::pixels::Rgb8;
use camera::motion::{LUMA_SIDE, MotionDetector, Sensitivity};
use camera::{Frame, Image, Mask};
use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion};
use edgeblip::bundle::Bundle;
use edgeblip::filter::{Describe, Judgement, Scored, Wanted, judge};
use edgeblip::model::Model;
use field::config::Settings;
use field::filter::{Fate, Filter};
use picture::{JpegQuality, encode_jpeg};
use store::{Limits, Pair, Sensor, Stamp, Store};

/// Pixels of a frame, as the default configuration asks for.
const SIZE: (usize, usize) = (1280, 720);
/// Pairs of one group.
const GROUP: u64 = 8;
const PICTURE: &str = "examples/images/07.png";
const CAPTION: &str = "two bears on sand";

fn main() {
    let times = (Duration::from_millis(500), Duration::from_secs(3));
    let criterion = Criterion::default().sample_size(20).warm_up_time(times.0).measurement_time(times.1);
    let mut criterion = criterion.configure_from_args();
    let jpeg = jpeg();
    let settings = Settings::default();
    let mut group = criterion.benchmark_group("frame");
    let described = [1, 2].map(|threads| model(&mut group, &jpeg, &settings, threads));
    assert_eq!(described[0].texts[0].words.as_str(), CAPTION, "the answer is known");
    looking(&mut group, &jpeg, &settings);
    let [judgement, _] = described;
    keeping(&mut group, &pair(&jpeg, judgement));
    group.finish();
    criterion.final_summary();
}

/// A camera's frame: an example picture, as large as cameras are asked for.
fn jpeg() -> Vec<u8> {
    let small =
        picture::open(&Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(PICTURE)).expect("it is committed");
    let (width, height) = SIZE;
    let row = |y: usize| y * small.height() / height * small.width();
    let places = (0..height).flat_map(|y| (0..width).map(move |x| (row(y), x)));
    let values = places.flat_map(|(row, x)| {
        let start = (row + x * small.width() / width) * 3;
        small.values()[start..start + 3].iter().copied()
    });
    let picture = Rgb8::new(width, height, values.collect()).expect("three values a pixel");
    encode_jpeg(&picture, JpegQuality::default()).expect("it can be written")
}

fn frame(jpeg: &[u8]) -> Frame {
    Frame::new(Image::Jpeg(jpeg.to_vec()), "benchmark")
}

/// What every frame costs that is looked at, before anything is known about it.
fn looking(group: &mut BenchmarkGroup<'_, WallTime>, jpeg: &[u8], settings: &Settings) {
    let triggers = &settings.triggers;
    let sensitivity = Sensitivity {
        threshold: triggers.motion_threshold,
        area: triggers.motion_area as f32,
        most: triggers.motion_most as f32,
        background: Duration::from_secs_f64(triggers.motion_background_s),
        ignored: Mask::default(),
    };
    let mut detector = MotionDetector::new(sensitivity);
    let (frame, start) = (frame(jpeg), Instant::now());
    group.bench_function(BenchmarkId::new("motion", 1), |bencher| {
        bencher.iter(|| {
            let luma = frame.luma(LUMA_SIDE).expect("it can be decoded");
            let motion = detector.see(&luma, start.elapsed());
            assert!(!motion.is_motion, "the picture stands still");
        });
    });
    group.bench_function(BenchmarkId::new("decode", 1), |bencher| bencher.iter(|| frame.to_rgb()));
}

/// What the model's thread does with a frame.
fn model(group: &mut BenchmarkGroup<'_, WallTime>, jpeg: &[u8], settings: &Settings, threads: usize) -> Judgement {
    let bundle = Arc::new(Bundle::built_in().expect("the built-in bundle is whole"));
    let model = Model::load(bundle, &[Role::Captioner, Role::Matcher], threads).expect("the built-in model loads");
    let picture = frame(jpeg).to_rgb().expect("it can be decoded");
    group.bench_function(BenchmarkId::new("see", threads), |bencher| bencher.iter(|| model.see(&picture)));
    let look = || {
        let sight = Describe::see(&model, &picture).expect("it can be seen");
        model.vector(&sight).expect("it has a vector");
        sight
    };
    let describe = |sight: &mut _| -> Vec<Scored> {
        let wanted = Wanted { captions: &settings.captions, raw: &[], seed: 0 };
        model.describe(sight, &wanted).expect("it was seen")
    };
    group.bench_function(BenchmarkId::new("describe", threads), |bencher| {
        bencher.iter_batched_ref(look, |sight| describe(sight), criterion::BatchSize::PerIteration);
    });
    let scored = describe(&mut look());
    let name = Caption::new("benchmark").expect("it can be printed");
    let mut filter = Filter::new(&settings.filter);
    if threads == 1 {
        group.bench_function(BenchmarkId::new("filter", threads), |bencher| {
            bencher.iter(|| judge(&mut filter, b"1", black_box(scored.clone()), 0, &name));
        });
    }
    let judgement = judge(&mut filter, b"1", scored, 0, &name);
    assert_eq!(judgement.fate, Fate::Kept, "the matcher says yes");
    judgement
}

fn pair(jpeg: &[u8], judgement: Judgement) -> Pair {
    let name = |name: &str| Caption::new(name).expect("it can be printed");
    let (camera, trigger) = (name("benchmark"), name("interval"));
    let sensor = Sensor { camera, trigger, exposure_us: None, temperature_c: None, throttled: None };
    let (texts, taken, bundle) = (judgement.texts, Stamp::default(), Some(name("benchmark")));
    Pair { jpeg: Some(jpeg.to_vec()), texts, sensor, place: None, taken, bundle, vector: None }
}

/// Until the disk has it.
fn keeping(group: &mut BenchmarkGroup<'_, WallTime>, pair: &Pair) {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("there is room");
    let boot = Caption::new("benchmark").expect("it can be printed");
    let (mut store, _) =
        Store::open(folder.path(), boot, Limits { budget: 1 << 30, ..Limits::default() }).expect("it is ours");
    let mut keep = |pairs: u64| {
        for _ in 0..pairs {
            store.put(pair.clone(), Duration::ZERO).expect("there is room");
        }
        let names = store.flush().expect("there is room");
        assert_eq!(names.len() as u64, pairs, "all are acknowledged");
        names
    };
    group.bench_function(BenchmarkId::new("store", 1), |bencher| bencher.iter(|| keep(1)));
    group.bench_function(BenchmarkId::new("store-group", 1), |bencher| {
        bencher.iter_custom(|runs| {
            let start = Instant::now();
            (0..runs).for_each(|_| drop(keep(GROUP)));
            start.elapsed() / u32::try_from(GROUP).expect("it is small")
        });
    });
    // The first may be evicted by now: a fast machine fills the budget.
    let last = keep(1)[0];
    let read = store.reader().get(last).expect("it is there");
    assert!(read.jpeg == pair.jpeg && read.facts.texts == pair.texts, "what is read is what was put");
}
