//! Several processes that train one model.

use std::net::TcpListener;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::place::{Place, Ran, run};

/// Without dropout, whose masks are each rank's own. AdamW makes a step of full length of any gradient that is large
/// beside its epsilon, and the gradients of key biases are nothing but what rounding leaves.
const SURE: [(&str, &str); 5] = [
    ("dropout.hidden", "0.0"),
    ("dropout.attention", "0.0"),
    ("optimizer.epsilon", "1e-4"),
    ("output.snapshot_every", "4"),
    ("run.patience", "30"),
];
/// How soon the others end where a process ended.
const AT_ONCE: Duration = Duration::from_secs(5);

/// A port that is free now.
fn port() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string()
}

/// As a launcher starts it.
fn as_rank<'c>(command: &'c mut Command, rank: usize, port: &str) -> &'c mut Command {
    let rank = rank.to_string();
    let variables = [("RANK", rank.as_str()), ("WORLD_SIZE", "2"), ("LOCAL_RANK", &rank), ("MASTER_ADDR", "127.0.0.1")];
    command.envs(variables).env("MASTER_PORT", port)
}

/// Starts two ranks, each with changes of its own, into one folder.
fn start(place: &Place, task: &[&str], changes: [&[(&str, &str)]; 2]) -> [Child; 2] {
    let port = port();
    [0, 1].map(|rank| {
        let settings = place.settings(&format!("rank-{rank}"), changes[rank]);
        let mut command = crate::place::trainer(task);
        command.arg(settings).arg("--out").arg(place.path("ranks"));
        as_rank(&mut command, rank, &port).spawn().unwrap()
    })
}

fn end(children: [Child; 2]) -> [Ran; 2] {
    let [first, second] = children.map(|child| std::thread::spawn(move || Ran::of(child.wait_with_output().unwrap())));
    [first.join().unwrap(), second.join().unwrap()]
}

fn with<'a>(more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    [&SURE, more].concat()
}

/// Waits until the run has taken some steps.
fn has_begun(place: &Place) {
    while !std::fs::read_to_string(place.path("ranks/journal.jsonl")).is_ok_and(|text| text.lines().count() > 3) {
        std::thread::yield_now();
    }
}

/// Losses, temperature and gradient norm of a step.
fn numbers(record: &Value) -> Vec<(String, f64)> {
    let named = |key: &str| record[key].as_object().unwrap().clone();
    let norm = ("gradient_norm".to_owned(), record["gradient_norm"].clone());
    let all = named("losses").into_iter().chain(named("others")).chain(std::iter::once(norm));
    all.map(|(name, value)| (name, value.as_f64().unwrap())).collect()
}

/// The furthest that two runs are apart: in a step's numbers, and in the weights that they end with.
fn apart(place: &Place, [a, b]: [&str; 2]) -> (f64, f32) {
    let (ours, theirs) = (place.journal(a), place.journal(b));
    assert_eq!(ours.len(), theirs.len());
    let mut steps = 0.0_f64;
    for (ours, theirs) in ours.iter().zip(&theirs) {
        assert_eq!((&ours["step"], &ours["epoch"]), (&theirs["step"], &theirs["epoch"]));
        for ((name, ours), (_, theirs)) in numbers(ours).into_iter().zip(numbers(theirs)) {
            let off = (ours - theirs).abs() / theirs.abs().max(1.0);
            assert!(off < 1e-5, "{name}: {ours} and {theirs}");
            steps = steps.max(off);
        }
    }
    let mut weights = 0.0_f32;
    for ((name, ours), (_, theirs)) in place.results(a).iter().zip(place.results(b)) {
        if !name.ends_with(".safetensors") {
            continue;
        }
        let tensors = [ours, &theirs].map(|bytes| safetensors::SafeTensors::deserialize(bytes).unwrap());
        for (tensor, ours) in tensors[0].iter() {
            let theirs = tensors[1].tensor(tensor).unwrap();
            assert_eq!((ours.shape(), ours.dtype()), (theirs.shape(), theirs.dtype()));
            if ours.dtype() != safetensors::Dtype::F32 {
                assert_eq!(ours.data(), theirs.data(), "{name}: {tensor}");
                continue;
            }
            let values = |view: &safetensors::tensor::TensorView<'_>| -> Vec<f32> {
                view.data().as_chunks::<4>().0.iter().map(|value| f32::from_le_bytes(*value)).collect()
            };
            let (ours, theirs) = (values(&ours), values(&theirs));
            let largest = theirs.iter().fold(1e-2_f32, |most, value| most.max(value.abs()));
            let off = ours.iter().zip(&theirs).fold(0.0_f32, |most, (a, b)| most.max((a - b).abs())) / largest;
            assert!(off < 1e-4, "{name}: {tensor} is {off} apart");
            weights = weights.max(off);
        }
    }
    (steps, weights)
}

/// Runs a task on two ranks, and on one with the doubled batch.
fn two_equal_one(task: &[&str], place: &Place, changes: &[(&str, &str)]) {
    let half = with(changes);
    let ranks = end(start(place, task, [&half, &half]));
    for ran in &ranks {
        ran.content();
    }
    assert!(!ranks[1].err.contains("step "), "rank 0 alone says where the run is: {}", ranks[1].err);
    run(&mut place.train(task, "one", &with(&[changes, &[("run.batch", "8")]].concat()))).content();
    let (steps, weights) = apart(place, ["ranks", "one"]);
    println!("{task:?}: numbers of a step {steps:.1e} apart at most, weights {weights:.1e}");
}

#[test]
fn two_ranks_pretrain_as_one_with_the_doubled_batch() {
    // More steps than the queue has room for, and more than an epoch.
    two_equal_one(&["pretrain"], &Place::with_scenes(40), &[]);
}

#[test]
fn two_ranks_that_accumulate_pretrain_as_one_with_the_doubled_batch() {
    let changes = [("run.accumulate", "2"), ("run.steps", "4"), ("losses.positives_by_picture", "true")];
    two_equal_one(&["pretrain"], &Place::with_scenes(40), &changes);
}

#[test]
fn two_ranks_finetune_a_captioner_as_one_with_the_doubled_batch() {
    two_equal_one(
        &["finetune", "captioner"],
        &Place::with_scenes(40),
        &[("run.steps", "6"), ("output.captions_every", "2")],
    );
}

#[test]
fn two_ranks_finetune_a_matcher_as_one_with_the_doubled_batch() {
    two_equal_one(&["finetune", "matcher"], &Place::with_scenes(40), &[("run.steps", "6")]);
}

#[test]
fn two_ranks_finetune_an_answerer_as_one_with_the_doubled_batch() {
    let place = Place::with_scenes(40);
    place.questions("questions", "data");
    let data = format!("[{:?}]", place.path("questions/vqa.json").to_str().unwrap());
    two_equal_one(
        &["finetune", "answerer"],
        &place,
        &[("data.train", &data), ("run.steps", "6"), ("dropout.path", "0.0")],
    );
}

#[test]
fn ranks_go_on_from_the_snapshot_of_rank_0() {
    let place = Place::with_scenes(40);
    let (some, all) = (with(&[("run.steps", "6")]), with(&[]));
    for changes in [&some, &all] {
        for ran in end(start(&place, &["pretrain"], [changes, changes])) {
            ran.content();
        }
    }
    run(&mut place.pretrain("one", &with(&[("run.batch", "8")]))).content();
    assert_eq!(place.journal("ranks").len(), 12);
    apart(&place, ["ranks", "one"]);
}

/// Two ranks of which one is killed; what the other says, and how soon.
fn killed(rank: usize) -> (Ran, Duration) {
    let place = Place::with_scenes(40);
    let changes = with(&[("run.steps", "1000000")]);
    let mut children = start(&place, &["pretrain"], [&changes, &changes]);
    has_begun(&place);
    let began = Instant::now();
    children[rank].kill().unwrap();
    let [first, second] = end(children);
    (if rank == 0 { second } else { first }, began.elapsed())
}

#[test]
fn a_rank_that_dies_ends_the_others_at_once() {
    for rank in [0, 1] {
        let (other, within) = killed(rank);
        other.refused(&[&format!("rank {rank} is gone: its connection closed")]);
        assert!(within < AT_ONCE, "{within:?}");
        println!("rank {rank} killed: the other ended {within:?} later: {}", other.err.lines().last().unwrap());
    }
}

#[test]
fn a_run_of_two_ranks_that_was_killed_goes_on() {
    let place = Place::with_scenes(40);
    let changes = with(&[("output.snapshot_every", "1")]);
    let mut children = start(&place, &["pretrain"], [&changes, &changes]);
    has_begun(&place);
    children[1].kill().unwrap();
    end(children);
    for ran in end(start(&place, &["pretrain"], [&changes, &changes])) {
        ran.content();
    }
    run(&mut place.pretrain("one", &with(&[("run.batch", "8"), ("output.snapshot_every", "1")]))).content();
    apart(&place, ["ranks", "one"]);
}

/// A process that is stopped keeps its connections: nothing but silence tells.
#[cfg(unix)]
#[test]
fn a_rank_that_falls_silent_ends_the_others_when_their_patience_ends() {
    let place = Place::with_scenes(40);
    let changes = with(&[("run.steps", "1000000"), ("run.patience", "2")]);
    let mut children = start(&place, &["pretrain"], [&changes, &changes]);
    has_begun(&place);
    let began = Instant::now();
    let stopped = children[1].id();
    assert!(Command::new("sh").args(["-c", &format!("kill -STOP {stopped}")]).status().unwrap().success());
    while children[0].try_wait().unwrap().is_none() {
        std::thread::yield_now();
    }
    let within = began.elapsed();
    children[1].kill().unwrap();
    let [first, _] = end(children);
    first.refused(&["rank 1 is silent: nothing came from it for 1 s"]);
    assert!(within < Duration::from_secs(2) + AT_ONCE, "{within:?}");
    println!("a stopped rank: the other ended {within:?} later: {}", first.err.lines().last().unwrap());
}

#[test]
fn a_rank_that_does_not_come_is_named() {
    let place = Place::with_scenes(16);
    let changes = [("run.patience", "1")];
    let began = Instant::now();
    run(as_rank(&mut place.pretrain("out", &changes), 0, &port())).refused(&["rank 1 did not come within 1 s"]);
    run(as_rank(&mut place.pretrain("out", &changes), 1, &port())).refused(&["rank 0 did not answer at 127.0.0.1:"]);
    assert!(began.elapsed() < Duration::from_secs(2) + AT_ONCE);
}

#[test]
fn ranks_of_different_settings_are_refused_by_name() {
    let place = Place::with_scenes(40);
    let (ours, theirs) = (with(&[]), with(&[("optimizer.rate", "0.5"), ("run.threads", "2")]));
    let [first, second] = end(start(&place, &["pretrain"], [&ours, &theirs]));
    let words = ["rank 1 and rank 0 cannot train together", "optimizer.rate is 0.5 on rank 1 and 0.001 on rank 0"];
    first.refused(&words);
    second.refused(&words[1..]);
}

#[test]
fn ranks_of_different_data_are_refused() {
    let place = Place::with_scenes(40);
    place.scenes("fewer", 32);
    let fewer = format!("[{:?}]", place.path("fewer").to_str().unwrap());
    let (ours, theirs) = (with(&[]), with(&[("data.train", &fewer)]));
    let [first, second] = end(start(&place, &["pretrain"], [&ours, &theirs]));
    first.refused(&["data.train is"]);
    second.refused(&["data.train is"]);
}

/// The same place may hold something else on another host: here it changes between the two.
#[test]
fn ranks_whose_data_differs_under_one_name_are_refused() {
    let place = Place::with_scenes(40);
    let port = port();
    let starts = |rank: usize, settings: &[(&str, &str)]| {
        let mut command = crate::place::trainer(["pretrain"]);
        command.arg(place.settings(&format!("rank-{rank}"), settings)).arg("--out").arg("ranks");
        let folder = place.path(&format!("host-{rank}"));
        std::fs::create_dir(&folder).unwrap();
        place.scenes(&format!("host-{rank}/data"), 40 - 8 * rank);
        as_rank(&mut command, rank, &port).current_dir(folder).spawn().unwrap()
    };
    let changes = with(&[("data.train", "[\"data\"]")]);
    let [first, second] = end([0, 1].map(|rank| starts(rank, &changes)));
    for ran in [first, second] {
        ran.refused(&["on rank 1 and", "on rank 0: give all ranks the same data"]);
    }
}

#[test]
fn a_queue_that_the_whole_batch_does_not_divide_is_refused() {
    let place = Place::with_scenes(40);
    let changes = with(&[("losses.queue", "12")]);
    for ran in end(start(&place, &["pretrain"], [&changes, &changes])) {
        ran.refused(&["losses.queue", "12", "a multiple of the whole batch, 8"]);
    }
}

#[test]
fn variables_that_no_launcher_sets_are_named() {
    let place = Place::with_scenes(16);
    let mut command = place.pretrain("out", &[]);
    run(command.env("RANK", "7").env("WORLD_SIZE", "two"))
        .refused(&["WORLD_SIZE is \"two\": it must be a whole number"]);
}
