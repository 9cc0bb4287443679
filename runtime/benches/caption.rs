//! Times of the built-in model: what it sees in a picture, a token, and a whole caption.
//!
//! `cargo bench -p edgeblip --bench caption` first asks for the caption of the test card, and stops unless it is the one
//! that the bundle was made with.

use std::sync::Arc;
use std::time::Duration;

use blip::config::Role;
use blip::decoding::LanguageModel;
use criterion::{BatchSize, BenchmarkId, Criterion};
use edgeblip::bundle::Bundle;
use edgeblip::decoder::Writing;
use edgeblip::golden::{check_captioner, test_card};
use edgeblip::model::Model;

fn main() {
    let times = (Duration::from_millis(500), Duration::from_secs(3));
    let criterion = Criterion::default().sample_size(30).warm_up_time(times.0).measurement_time(times.1);
    let mut criterion = criterion.configure_from_args();
    for threads in [1, 2] {
        time(&mut criterion, threads);
    }
    criterion.final_summary();
}

fn time(criterion: &mut Criterion, threads: usize) {
    let bundle = Arc::new(Bundle::built_in().expect("the built-in bundle is whole"));
    let model = Model::load(bundle, &[Role::Captioner], threads).expect("the built-in model loads");
    check_captioner(&model).expect("the answer is that of the machine which made the bundle");
    let captioner = model.captioner().expect("the captioner was loaded");
    let facts = captioner.facts();
    let card = test_card().expect("the test card is small");
    let mut view = model.see(&card).expect("the picture can be seen");
    let memory = captioner.memory(&mut view).expect("the picture can be remembered");
    let prompt = model.bundle().tokenizer().prompt(&facts.prompt).expect("the prompt can be read");
    let [.., last] = prompt[..] else { panic!("a prompt has a start token") };

    let mut group = criterion.benchmark_group("caption-built-in");
    group.bench_function(BenchmarkId::new("picture", threads), |bencher| bencher.iter(|| model.see(&card)));
    group.bench_function(BenchmarkId::new("token", threads), |bencher| {
        let read = || {
            let mut decoding = captioner.decoder().start(&memory);
            decoding.start(&prompt).expect("the prompt has room");
            decoding
        };
        bencher.iter_batched_ref(read, |decoding| decoding.step(&[(0, last)]), BatchSize::PerIteration);
    });
    let writing = Writing { prompt: facts.prompt.clone(), options: facts.decoding, seed: 0, texts: 1 };
    group.bench_function(BenchmarkId::new("whole", threads), |bencher| {
        bencher.iter(|| {
            let mut view = model.see(&card).expect("it was seen before");
            captioner.describe(&mut view, &writing)
        });
    });
}
