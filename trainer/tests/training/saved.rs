//! What was saved stays: snapshots that cannot be used, disks that fill, and losses that are not numbers.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::place::{Place, Ran, names, run};

/// A run of `steps`, and one that was stopped after fewer, with snapshots of its last two steps.
fn stopped(steps: &str) -> Place {
    let place = Place::with_scenes(40);
    run(&mut place.pretrain("whole", &[])).content();
    run(&mut place.pretrain("out", &[("run.steps", steps), ("output.snapshot_every", "1")])).content();
    place
}

/// Goes on to the end; what it says.
fn goes_on(place: &Place) -> Ran {
    let ran = run(&mut place.pretrain("out", &[]));
    ran.content();
    assert_eq!(place.journal("whole"), place.journal("out"));
    let model = |out| place.results(out).into_iter().filter(|(name, _)| name.starts_with("model")).collect::<Vec<_>>();
    assert!(model("whole") == model("out"));
    ran
}

fn snapshot(place: &Place, step: u64) -> PathBuf {
    place.path("out/snapshots").join(format!("step-{step:08}"))
}

fn truncate(path: &Path, share: f64) {
    let length = path.metadata().unwrap().len();
    std::fs::File::options().write(true).open(path).unwrap().set_len((length as f64 * share) as u64).unwrap();
}

/// Says something else in a snapshot's `state.json`.
fn restate(folder: &Path, key: &str, value: impl Into<Value>) {
    let path = folder.join("state.json");
    let mut state: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    state[key] = value.into();
    std::fs::write(path, state.to_string()).unwrap();
}

type Spoils = fn(&Path);

/// Ways to make a snapshot useless, and what is said of each.
const SPOILED: [(&str, Spoils, &str); 5] = [
    ("cut short", |folder| truncate(&folder.join("state.safetensors"), 0.5), "state.safetensors: is damaged: it has "),
    ("empty", |folder| truncate(&folder.join("state.json"), 0.0), "is no snapshot: "),
    ("a flipped bit", flip_a_bit, "its SHA-256 is not the one it was written with"),
    ("foreign", |folder| restate(folder, "format", "somebody's"), "is no snapshot: its format is \"somebody's\""),
    ("newer", |folder| restate(folder, "version", 99), "has version 99, this program reads 1: use the program that"),
];

fn flip_a_bit(folder: &Path) {
    let path = folder.join("state.safetensors");
    let mut bytes = std::fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn a_snapshot_that_is_of_no_use_is_named_and_an_older_one_used() {
    let place = stopped("7");
    let saved = std::fs::read_dir(place.path("out")).unwrap().count();
    for (what, spoil, words) in SPOILED {
        let ran = run(&mut place.pretrain("out", &[("run.steps", "7"), ("output.snapshot_every", "1")]));
        ran.content();
        spoil(&snapshot(&place, 7));
        let ran = goes_on(&place);
        assert!(ran.err.contains("passed over: ") && ran.err.contains("step-00000007"), "{what}: {}", ran.err);
        assert!(ran.err.contains(words), "{what}: {}", ran.err);
        assert!(ran.err.contains("steps 6 to 12"), "{what}: {}", ran.err);
        for name in names(&place.path("out/snapshots")) {
            if name.starts_with("step-") || name.starts_with("aside-") {
                std::fs::remove_dir_all(place.path("out/snapshots").join(name)).unwrap();
            }
        }
    }
    assert!(std::fs::read_dir(place.path("out")).unwrap().count() <= saved + SPOILED.len());
}

#[test]
fn where_no_snapshot_is_of_use_the_run_is_refused_and_nothing_is_lost() {
    let place = stopped("2");
    for (what, spoil, words) in SPOILED {
        let kept = place.path("kept");
        copy(&place.path("out/snapshots"), &kept);
        [1, 2].map(|step| spoil(&snapshot(&place, step)));
        let before = place.results("out");
        let ran = run(&mut place.pretrain("out", &[]));
        ran.refused(&["step-00000002", words]);
        assert!(before == place.results("out"), "{what}");
        std::fs::remove_dir_all(place.path("out/snapshots")).unwrap();
        std::fs::rename(kept, place.path("out/snapshots")).unwrap();
    }
    goes_on(&place);
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir(to).unwrap();
    for name in names(from) {
        match from.join(&name).is_dir() {
            true => copy(&from.join(&name), &to.join(&name)),
            false => drop(std::fs::copy(from.join(&name), to.join(&name)).unwrap()),
        }
    }
}

#[test]
fn settings_that_changed_are_refused_by_name() {
    let place = stopped("2");
    for (key, value, was) in [
        ("optimizer.rate", "0.5", "0.001"),
        ("run.batch", "8", "4"),
        ("model.vision_width", "32", "16"),
        ("losses.queue", "32", "16"),
    ] {
        let before = place.results("out");
        let words = [key, was, value, "change it back, or start anew"];
        run(&mut place.pretrain("out", &[(key, value)])).refused(&words);
        assert!(before == place.results("out"), "{key}");
    }
    let task = run(&mut place.train(&["finetune", "captioner"], "out", &[]));
    task.refused(&["task = pre-training", "fine-tuning a captioner"]);
}

#[test]
fn two_runs_do_not_write_into_one_folder() {
    let place = Place::with_scenes(16);
    let mut first = place.pretrain("out", &[("run.steps", "1000000")]).spawn().unwrap();
    while !place.path("out/journal.jsonl").exists() {
        std::thread::yield_now();
    }
    let second = run(&mut place.pretrain("out", &[]));
    first.kill().unwrap();
    first.wait().unwrap();
    second.refused(&["another run keeps its snapshots here", "choose another folder"]);
}

/// A limit on the length of a file, which the shell counts in blocks of 512 or 1024 bytes, fails as a full disk does.
#[cfg(unix)]
#[test]
fn a_file_that_cannot_be_written_to_its_end_loses_nothing_older() {
    for blocks in [4, 100] {
        let place = stopped("6");
        let mut kept = place.results("out");
        kept.retain(|(name, _)| name.starts_with("snapshots"));
        let plain = place.pretrain("out", &[]);
        let mut limited = Command::new("sh");
        limited.args(["-c", &format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$0\" \"$@\"")]);
        limited.arg(plain.get_program()).args(plain.get_args());
        run(&mut limited).refused(&["File too large", "out/"]);
        let now = place.results("out");
        assert!(kept.iter().all(|file| now.contains(file)), "{blocks} blocks");
        assert!(names(&place.path("out/snapshots")).iter().all(|name| !name.starts_with(".writing")));
        goes_on(&place);
    }
}

/// Needs the right to mount; without it the test above stands for this one.
#[cfg(target_os = "linux")]
#[test]
fn a_disk_that_is_full_loses_nothing_older() {
    struct Mounted(PathBuf);
    impl Drop for Mounted {
        fn drop(&mut self) {
            let _ = Command::new("umount").arg(&self.0).status();
        }
    }
    let mount = |options: String, folder: &Path| {
        let done = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "none"]).arg(folder).output();
        done.is_ok_and(|done| done.status.success())
    };
    let place = Place::with_scenes(40);
    run(&mut place.pretrain("whole", &[])).content();
    let out = place.path("out");
    std::fs::create_dir(&out).unwrap();
    let length: usize =
        place.results("whole").iter().filter(|(name, _)| name.starts_with("snap")).map(|f| f.1.len()).sum();
    // The whole run keeps two snapshots; this has room for two, and not for a third beside them.
    let size = length * 5 / 4;
    if !mount(format!("size={size}"), &out) {
        println!("not allowed to mount: no full disk to try");
        return;
    }
    let _mounted = Mounted(out.clone());
    run(&mut place.pretrain("out", &[])).refused(&["No space left on device", "out/", "free space"]);
    assert!(snapshot(&place, 2).is_dir() && snapshot(&place, 4).is_dir());
    assert!(mount(format!("remount,size={}", 8 * length), &out));
    let ran = goes_on(&place);
    assert!(ran.err.contains("steps 4 to 12"), "{}", ran.err);
}

#[test]
fn a_loss_that_is_not_a_number_ends_the_run_with_its_batch_kept() {
    let place = Place::with_scenes(40);
    let wild = [("optimizer.rate", "1e6"), ("optimizer.weight_decay", "1e6"), ("output.snapshot_every", "1")];
    let ran = run(&mut place.pretrain("out", &[&wild[..], &[("run.steps", "40")]].concat()));
    ran.refused(&["is not a number", "out/not-a-number-step-"]);
    let folder = names(&place.path("out")).into_iter().find(|name| name.starts_with("not-a-number")).unwrap();
    let folder = place.path("out").join(folder);
    let batch: Value = serde_json::from_slice(&std::fs::read(folder.join("batch-0.json")).unwrap()).unwrap();
    assert_eq!(batch["pictures"], 4);
    assert_eq!(batch["texts"].as_array().unwrap().len(), 4);
    let pixels = std::fs::read(folder.join("batch-0-pixels-f32.bin")).unwrap();
    assert_eq!(pixels.len(), 4 * 4 * 3 * 16 * 16);
    for step in names(&place.path("out/snapshots")).iter().filter(|name| name.starts_with("step-")) {
        let bytes = std::fs::read(place.path("out/snapshots").join(step).join("state.safetensors")).unwrap();
        let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let weights = tensors.tensor("weights").unwrap().data().as_chunks::<4>().0;
        assert!(weights.iter().all(|value| f32::from_le_bytes(*value).is_finite()), "{step}");
    }
}
