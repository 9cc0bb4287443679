//! A run that is killed at any moment ends as one that was not.

use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use edgeblip_trainer::engine::splitmix64;
use serde_json::Value;

use crate::place::{Place, Ran, names, run};

/// Kills of each test; the long form is what a release is checked with.
const KILLS: u64 = 3;
const LONG_KILLS: u64 = 20;

fn kills() -> u64 {
    if std::env::var_os("EDGEBLIP_LONG").is_some() { LONG_KILLS } else { KILLS }
}

/// Kills the command at a moment within `longest` that `number` says; whether it was still at work.
fn kill(command: &mut Command, longest: Duration, number: u64) -> bool {
    let share = (splitmix64(number) >> 11) as f64 / (1_u64 << 53) as f64;
    let mut child = command.spawn().unwrap();
    // What is tried is a moment of the clock, so it is the clock that is waited for.
    sleep(longest.mul_f64(share));
    let at_work = child.try_wait().unwrap().is_none();
    child.kill().unwrap();
    Ran::of(child.wait_with_output().unwrap());
    at_work
}

/// The whole run, and how long it took.
fn whole(place: &Place, changes: &[(&str, &str)]) -> Duration {
    let began = Instant::now();
    run(&mut place.pretrain("whole", changes)).content();
    began.elapsed()
}

fn same_results(place: &Place, out: &str) {
    assert_eq!(place.journal("whole"), place.journal(out));
    let (whole, resumed) = (place.results("whole"), place.results(out));
    let names = |results: &[(String, Vec<u8>)]| results.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&whole), names(&resumed));
    let differ: Vec<_> = whole.iter().zip(&resumed).filter(|(a, b)| a != b).map(|((name, _), _)| name).collect();
    assert!(differ.is_empty(), "{differ:?} differ");
}

/// Runs that are killed twice each, at moments all over the run, and end as the whole one does.
fn ends_as_if_it_was_never_killed(changes: &[(&str, &str)], seed: u64) {
    let place = Place::with_scenes(40);
    let longest = whole(&place, changes);
    let (mut killed, mut resumed) = (0, 0);
    for number in 0.. {
        let out = format!("killed-{number}");
        for turn in 0..2 {
            killed += u64::from(kill(&mut place.pretrain(&out, changes), longest, seed + 2 * number + turn));
        }
        let last = run(place.pretrain(&out, changes).arg("--json"));
        let facts: Value = serde_json::from_str(last.content()).unwrap();
        resumed += u64::from(facts["resumed_at"].as_u64() > Some(0));
        same_results(&place, &out);
        if killed >= kills() && resumed > 0 {
            break;
        }
    }
    println!("killed {killed} times in {longest:?}, {resumed} runs went on from a snapshot");
}

#[test]
fn a_killed_run_ends_byte_for_byte_as_one_that_was_not() {
    ends_as_if_it_was_never_killed(&[("output.captions_every", "1"), ("output.captions", "2")], 1);
}

#[test]
fn a_killed_run_with_two_threads_ends_byte_for_byte_as_one_that_was_not() {
    let changes = [
        ("run.threads", "2"),
        ("data.threads", "2"),
        ("run.accumulate", "2"),
        ("optimizer.decayed", "\"matrices\""),
        ("output.snapshot_every", "1"),
        ("output.captions_every", "3"),
    ];
    ends_as_if_it_was_never_killed(&changes, 1 << 32);
}

#[test]
fn threads_do_not_change_what_a_run_ends_with() {
    let place = Place::with_scenes(40);
    whole(&place, &[]);
    run(&mut place.pretrain("two", &[("run.threads", "2"), ("data.threads", "3")])).content();
    same_results(&place, "two");
}

#[test]
fn a_run_that_is_done_says_so_again() {
    let place = Place::with_scenes(16);
    let changes = [("run.steps", "3")];
    let first = run(place.pretrain("out", &changes).arg("--json"));
    let first: Value = serde_json::from_str(first.content()).unwrap();
    let results = place.results("out");
    let again = run(place.pretrain("out", &changes).arg("--json"));
    let again: Value = serde_json::from_str(again.content()).unwrap();
    assert_eq!((&first["losses"], &first["steps"]), (&again["losses"], &again["steps"]));
    assert_eq!((first["resumed_at"].as_u64(), again["resumed_at"].as_u64()), (Some(0), Some(3)));
    assert!(results == place.results("out"));
    assert_eq!(place.journal("out").len(), 3);
    assert!(names(&place.path("out/snapshots")).contains(&"step-00000003".to_owned()));
}

#[test]
fn a_run_goes_on_when_it_is_asked_for_more_steps() {
    let place = Place::with_scenes(40);
    whole(&place, &[]);
    run(&mut place.pretrain("more", &[("run.steps", "7")])).content();
    run(&mut place.pretrain("more", &[])).content();
    assert_eq!(place.journal("whole"), place.journal("more"));
    assert!(
        place
            .results("whole")
            .iter()
            .filter(|(name, _)| name.starts_with("model"))
            .all(|file| { place.results("more").contains(file) })
    );
}
