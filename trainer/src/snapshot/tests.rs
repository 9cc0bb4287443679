//! Snapshots that are cut off, changed, foreign, newer, or whose writer is killed.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use super::read::{STATE, VECTORS};
use super::*;

/// A run at `step`; its values tell the step.
fn run(step: u64) -> Snapshot {
    let settings = BTreeMap::from([("batch".to_owned(), "16".to_owned())]);
    let best = [("cider", 0.1 + 0.2), ("loss", f64::INFINITY), ("none", f64::MIN_POSITIVE)];
    let best = best.map(|(name, value)| (name.to_owned(), value)).into();
    let facts = Facts { step, epoch: 3, position: u64::MAX, seed: 7, queue_row: 5, settings, best };
    let floats: Vec<_> = (0..40_000).map(|at| at as f32 * 0.1 + step as f32).collect();
    let vectors = BTreeMap::from([
        ("parameters".to_owned(), Vector::Floats(floats)),
        ("names".to_owned(), Vector::Numbers(vec![u32::MAX, step as u32])),
        ("odd".to_owned(), Vector::Floats(vec![f32::NAN, -0.0, f32::MIN_POSITIVE / 2.0])),
        ("empty".to_owned(), Vector::Floats(Vec::new())),
    ]);
    Snapshot { facts, vectors }
}

fn bits(snapshot: &Snapshot) -> Vec<(String, Vec<u32>)> {
    let bits = |vector: &Vector| match vector {
        Vector::Floats(values) => values.iter().map(|value| value.to_bits()).collect(),
        Vector::Numbers(values) => values.clone(),
    };
    snapshot.vectors.iter().map(|(name, vector)| (name.clone(), bits(vector))).collect()
}

fn same(one: &Snapshot, other: &Snapshot) {
    assert!(one.facts == other.facts && bits(one) == bits(other), "{:?} {:?}", one.facts, other.facts);
}

fn names(folder: &Path) -> Vec<String> {
    let entries = folder.read_dir().unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = entries.filter(|name| name != ".lock").collect();
    names.sort();
    names
}

#[test]
fn what_was_saved_is_read_back_to_the_bit() {
    let place = tempfile::tempdir().unwrap();
    let snapshots = Snapshots::open(&place.path().join("made"), 2).unwrap();
    assert!(snapshots.latest().unwrap().is_none());
    let saved = snapshots.save(&run(12)).unwrap();
    assert!(saved.path.ends_with("step-00000012") && saved.aside.is_empty() && saved.undeleted.is_empty());
    let found = snapshots.latest().unwrap().unwrap();
    assert!(found.path == saved.path && found.passed_over.is_empty());
    same(&found.snapshot, &run(12));
    let mut snapshot = Snapshot::read(&saved.path).unwrap();
    assert_eq!(snapshot.take_numbers("names", 2).unwrap(), [u32::MAX, 12]);
    let error = |error: SnapshotError| error.to_string();
    let message = error(snapshot.take_floats("parameters", 39_999).unwrap_err());
    assert!(message.contains("step 12 has 40000 floats, the run needs \"parameters\" with 39999 floats"), "{message}");
    assert!(error(snapshot.take_floats("gone", 1).unwrap_err()).contains("no such vector"));
    let changed = BTreeMap::from([("batch".to_owned(), "32".to_owned())]);
    let message = error(snapshot.same_settings(&changed).unwrap_err());
    assert!(message.contains("was taken with batch = 16, the run has 32"), "{message}");
    snapshot.same_settings(&run(1).facts.settings).unwrap();
}

#[test]
fn the_newest_stay_and_older_ones_go() {
    let place = tempfile::tempdir().unwrap();
    let snapshots = Snapshots::open(place.path(), 2).unwrap();
    for step in [1, 2, 3, 3, 100_000_000] {
        snapshots.save(&run(step)).unwrap();
    }
    assert_eq!(names(place.path()), ["step-00000003", "step-100000000"]);
    assert_eq!(snapshots.latest().unwrap().unwrap().snapshot.facts.step, 100_000_000);
}

#[test]
fn a_run_that_goes_on_from_an_older_one_moves_the_newer_aside() {
    let place = tempfile::tempdir().unwrap();
    let snapshots = Snapshots::open(place.path(), 3).unwrap();
    for step in [10, 20, 30] {
        snapshots.save(&run(step)).unwrap();
    }
    let saved = snapshots.save(&run(15)).unwrap();
    assert_eq!(saved.aside.len(), 2);
    let kept = ["aside-step-00000020", "aside-step-00000030", "step-00000010", "step-00000015"];
    assert_eq!(names(place.path()), kept);
    assert_eq!(snapshots.latest().unwrap().unwrap().snapshot.facts.step, 15);
}

#[test]
fn two_runs_do_not_share_a_folder() {
    let place = tempfile::tempdir().unwrap();
    let first = Snapshots::open(place.path(), 2).unwrap();
    let message = Snapshots::open(place.path(), 2).unwrap_err().to_string();
    assert!(message.contains("another run keeps its snapshots here"), "{message}");
    drop(first);
    Snapshots::open(place.path(), 2).unwrap();
}

/// What is said of the newest of two snapshots after `change`; the older one is then found.
fn refused(change: impl Fn(&Path)) -> String {
    let place = tempfile::tempdir().unwrap();
    let snapshots = Snapshots::open(place.path(), 2).unwrap();
    snapshots.save(&run(1)).unwrap();
    let newest = snapshots.save(&run(2)).unwrap().path;
    change(&newest);
    let error = Snapshot::read(&newest).unwrap_err().to_string();
    assert!(error.contains("step-00000002"), "{error}");
    let found = snapshots.latest().unwrap().unwrap();
    same(&found.snapshot, &run(1));
    assert_eq!(found.passed_over.len(), 1);
    assert_eq!(found.passed_over[0].to_string(), error);
    std::fs::remove_dir_all(found.path).unwrap();
    assert_eq!(snapshots.latest().unwrap_err().to_string(), error);
    error
}

fn rewrite(path: &Path, change: impl Fn(Vec<u8>) -> Vec<u8>) {
    std::fs::write(path, change(std::fs::read(path).unwrap())).unwrap();
}

fn reworded(path: &Path, from: &str, to: &str) {
    rewrite(path, |bytes| {
        let text = String::from_utf8(bytes).unwrap();
        assert!(text.contains(from), "{text}");
        text.replacen(from, to, 1).into_bytes()
    });
}

#[test]
fn a_snapshot_that_is_cut_off_is_named_and_the_older_one_found() {
    let cut = |name: &'static str, length: usize| {
        refused(|path| rewrite(&path.join(name), |bytes| bytes[..length.min(bytes.len() - 1)].to_vec()))
    };
    for length in [0, 7, 300, usize::MAX] {
        assert!(cut(VECTORS, length).contains("is damaged: it has"));
    }
    for length in [0, 40, 200] {
        let message = cut(STATE, length);
        assert!(message.contains("is no snapshot: state.json"), "{message}");
    }
    assert!(refused(|path| std::fs::remove_file(path.join(VECTORS)).unwrap()).contains("cannot be read"));
    assert!(refused(|path| std::fs::remove_file(path.join(STATE)).unwrap()).contains("it has no state.json"));
}

#[test]
fn a_changed_byte_is_found_wherever_it_is() {
    let length = |snapshot: &Snapshot| bits(snapshot).iter().map(|(_, bits)| 4 * bits.len()).sum::<usize>();
    for back in [1, 4, 100_000, length(&run(2))] {
        let message = refused(|path| {
            rewrite(&path.join(VECTORS), |mut bytes| {
                let at = bytes.len() - back;
                bytes[at] ^= 0x10;
                bytes
            });
        });
        assert!(message.contains("state.safetensors: is damaged: its SHA-256"), "{message}");
    }
    for at in [0, 7, 8, 30, 120] {
        refused(|path| {
            rewrite(&path.join(VECTORS), |mut bytes| {
                bytes[at] ^= 0x41;
                bytes
            })
        });
    }
    let message = refused(|path| reworded(&path.join(STATE), "\"step\": 2", "\"step\": 3"));
    assert!(message.contains("state.json: is damaged: its SHA-256"), "{message}");
}

#[test]
fn foreign_and_newer_snapshots_are_refused_by_name() {
    let message = refused(|path| reworded(&path.join(STATE), "\"version\": 1", "\"version\": 2"));
    assert!(message.contains("has version 2, this program reads 1"), "{message}");
    let newer = br#"{"format": "edgeblip-trainer snapshot", "version": 9, "else": []}"#;
    let message = refused(|path| std::fs::write(path.join(STATE), newer).unwrap());
    assert!(message.contains("has version 9"), "{message}");
    let message = refused(|path| reworded(&path.join(STATE), "edgeblip-trainer snapshot", "something else"));
    assert!(message.contains("is no snapshot: its format is \"something else\""), "{message}");
    let message = refused(|path| rewrite(&path.join(STATE), |_| vec![b' '; (1 << 20) + 1]));
    assert!(message.contains("is no file of at most 1048576 bytes"), "{message}");
}

#[test]
fn what_a_killed_writer_left_does_no_harm_and_is_swept() {
    let place = tempfile::tempdir().unwrap();
    let snapshots = Snapshots::open(place.path(), 2).unwrap();
    let first = snapshots.save(&run(1)).unwrap().path;
    let second = snapshots.save(&run(2)).unwrap().path;
    // Killed between the two renames of a replacement: the old one is aside, the new one not yet in its place.
    std::fs::rename(&second, place.path().join(".replaced-step-00000002-1-1")).unwrap();
    std::fs::create_dir(place.path().join(".writing-step-00000002-1-0")).unwrap();
    std::fs::create_dir(place.path().join("mine")).unwrap();
    let found = snapshots.latest().unwrap().unwrap();
    assert!(found.path == first && found.passed_over.is_empty());
    snapshots.save(&run(2)).unwrap();
    assert_eq!(names(place.path()), ["mine", "step-00000001", "step-00000002"]);
}

/// The folder in which this program, started again by a test, is to save.
const FOLDER: &str = "EDGEBLIP_TEST_SNAPSHOTS";

/// Starts this test program again so that it saves snapshots from step 3 on.
fn writer(folder: &Path, limit: &str) -> Command {
    let script = format!("trap '' XFSZ; {limit} exec \"$0\" \"$@\"");
    let mut command = Command::new("sh");
    command.args(["-c", &script]).arg(std::env::current_exe().unwrap());
    command.args(["--exact", "snapshot::tests::saves_where_it_is_told", "--nocapture"]);
    command.env(FOLDER, folder).stdin(Stdio::null()).stdout(Stdio::piped());
    command
}

/// Does nothing unless [`writer`] started it.
#[test]
fn saves_where_it_is_told() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let snapshots = Snapshots::open(Path::new(&folder), 2).unwrap();
    for step in 3..1000 {
        match snapshots.save(&run(step)) {
            Ok(_) => println!("\nsaved {step}"),
            Err(error) => {
                println!("\nrefused: {error}");
                return;
            }
        }
    }
}

#[test]
fn a_full_disk_loses_nothing_older_and_leaves_nothing_half() {
    for limit in ["ulimit -f 0;", "ulimit -f 4;", "ulimit -f 100;"] {
        let place = tempfile::tempdir().unwrap();
        let snapshots = Snapshots::open(place.path(), 2).unwrap();
        snapshots.save(&run(1)).unwrap();
        snapshots.save(&run(2)).unwrap();
        drop(snapshots);
        let output = writer(place.path(), limit).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(text.contains("refused: ") && text.contains("File too large"), "{limit} {text}");
        assert_eq!(names(place.path()), ["step-00000001", "step-00000002"]);
        let snapshots = Snapshots::open(place.path(), 2).unwrap();
        same(&snapshots.latest().unwrap().unwrap().snapshot, &run(2));
    }
}

/// Needs the right to mount; without it the test above stands for this one.
#[cfg(target_os = "linux")]
#[test]
fn a_disk_that_fills_while_saving_loses_nothing_older() {
    struct Mounted<'a>(&'a Path);
    impl Drop for Mounted<'_> {
        fn drop(&mut self) {
            let _ = Command::new("umount").arg(self.0).status();
        }
    }
    let place = tempfile::tempdir().unwrap();
    let mount = Command::new("mount").args(["-t", "tmpfs", "-o", "size=440k", "none"]).arg(place.path()).output();
    if !mount.is_ok_and(|done| done.status.success()) {
        println!("not allowed to mount: no full disk to try");
        return;
    }
    let _mounted = Mounted(place.path());
    let snapshots = Snapshots::open(place.path(), 2).unwrap();
    snapshots.save(&run(1)).unwrap();
    snapshots.save(&run(2)).unwrap();
    let message = snapshots.save(&run(3)).unwrap_err().to_string();
    assert!(message.contains("No space left on device") && message.contains("untouched"), "{message}");
    assert_eq!(names(place.path()), ["step-00000001", "step-00000002"]);
    same(&snapshots.latest().unwrap().unwrap().snapshot, &run(2));
    std::fs::remove_dir_all(place.path().join("step-00000001")).unwrap();
    snapshots.save(&run(3)).unwrap();
    same(&snapshots.latest().unwrap().unwrap().snapshot, &run(3));
}

#[test]
fn a_writer_that_is_killed_leaves_a_snapshot_that_reads() {
    for lines in 1..12 {
        let place = tempfile::tempdir().unwrap();
        let mut child = writer(place.path(), "").spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let saved = output.lines().map_while(Result::ok).filter_map(|line| line.strip_prefix("saved ")?.parse().ok());
        let last: u64 = saved.take(lines).last().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        let snapshots = Snapshots::open(place.path(), 2).unwrap();
        let found = snapshots.latest().unwrap().unwrap();
        assert!(found.passed_over.is_empty() && found.snapshot.facts.step >= last);
        same(&found.snapshot, &run(found.snapshot.facts.step));
        snapshots.save(&run(5000)).unwrap();
        assert!(names(place.path()).iter().all(|name| name.starts_with("step-")));
    }
}
