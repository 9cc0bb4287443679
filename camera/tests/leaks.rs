//! What a camera that is lost again and again leaves behind: nothing. Alone in its process, so that all that is open is
//! its own.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use camera::{Backoff, Camera, Options, Programs};

const SOON: Duration = Duration::from_secs(60);

/// How many files are open, threads run, and processes are our children, zombies too.
fn held() -> [usize; 3] {
    let entries = |folder: &str| std::fs::read_dir(folder).map_or(0, Iterator::count);
    let ours = std::process::id().to_string();
    let is_child = |stat: String| {
        // The parent is the second field after the name, which is in parentheses.
        stat.rsplit_once(") ").and_then(|(_, fields)| fields.split(' ').nth(1)).is_some_and(|parent| parent == ours)
    };
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let children = processes.filter_map(|process| std::fs::read_to_string(process.path().join("stat")).ok());
    [entries("/proc/self/fd"), entries("/proc/self/task"), children.filter(|stat| is_child(stat.clone())).count()]
}

fn lose(setting: &str, programs: Programs, losses: u64) {
    let moment = Duration::from_millis(1);
    let backoff = Backoff { first: moment, longest: moment, steady: moment };
    let camera = Camera::start(
        setting.parse().expect("the setting is a source"),
        Options { backoff, programs, ..Options::default() },
    );
    let camera = camera.expect("a thread can be started");
    let deadline = Instant::now() + SOON;
    while camera.counts().losses < losses {
        assert!(Instant::now() < deadline, "{camera:?}");
        camera.next(Instant::now() + Duration::from_millis(10));
    }
}

fn program(folder: &Path, text: &str) -> Programs {
    let path = folder.join("rpicam-vid");
    std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).expect("a program can be written");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("it can be made to run");
    Programs { rpicam: vec![path], ..Programs::default() }
}

#[test]
fn nothing_is_left_of_cameras_that_were_lost_and_dropped() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    waiting_camera_is_dropped_at_once();
    let before = held();
    lose("rpicam:0", program(folder.path(), "echo no camera >&2; exit 1"), 100);
    lose("rpicam:0", program(folder.path(), "printf '\\377\\330\\377'; sleep 600 & kill -9 $$"), 20);
    lose("http://127.0.0.1:1/", Programs::default(), 100);
    lose("v4l:/dev/null", Programs::default(), 100);
    lose("v4l:/dev/none", Programs::default(), 100);
    lose(&format!("folder:{}", folder.path().join("none").display()), Programs::default(), 100);
    // Of the processes that outlive their parent the system takes leave in its own time.
    let deadline = Instant::now() + SOON;
    while held() != before {
        assert!(Instant::now() < deadline, "{:?} files, threads and children, before {before:?}", held());
        std::thread::park_timeout(Duration::from_millis(10));
    }
}

fn waiting_camera_is_dropped_at_once() {
    let setting = "v4l:/dev/none".parse().expect("the setting is a source");
    let hour = Duration::from_secs(3600);
    let backoff = Backoff { first: hour, longest: hour, steady: hour };
    let camera = Camera::start(setting, Options { backoff, ..Options::default() }).expect("a thread can be started");
    while camera.counts().losses == 0 {
        camera.next(Instant::now() + Duration::from_millis(10));
    }
    let start = Instant::now();
    drop(camera);
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
}
