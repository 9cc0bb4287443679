//! A stand-in for `rpicam-vid`: it takes the same options, writes real streams, and dies at will.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use camera::{Camera, Image, Limits, Next, Options, Programs};

use crate::programs::{are_here, camera, eager, next, reason, script, until, until_gone};

/// What every stand-in does first: it reads the options as the program does, and says which process it is.
const OPTIONS: &str = r#"#!/bin/sh
echo $$ >>PLACE/processes
width=640 height=480 rate=10 codec=h264
while [ $# -gt 0 ]; do
    case $1 in
        --width) width=$2; shift 2 ;;
        --height) height=$2; shift 2 ;;
        --framerate) rate=$2; shift 2 ;;
        --codec) codec=$2; shift 2 ;;
        --camera) camera=$2; shift 2 ;;
        --timeout) [ "$2" = 0 ] || exit 2; shift 2 ;;
        --output) [ "$2" = - ] || exit 2; shift 2 ;;
        --quality | --rotation) shift 2 ;;
        --nopreview | --flush) shift ;;
        *) echo "ERROR: *** unrecognised option '$1' ***" >&2; exit 255 ;;
    esac
done
[ "$camera" = 0 ] || { echo 'ERROR: *** no cameras available ***' >&2; exit 255; }
case $codec in
    mjpeg) form="-c:v mjpeg -f mjpeg" ;;
    yuv420) form="-c:v rawvideo -pix_fmt yuvj420p -f rawvideo" ;;
    *) exit 2 ;;
esac
film() {
    ffmpeg -nostdin -loglevel error $1 -f lavfi -i "$2=size=${width}x$height:rate=$rate" -frames:v $3 $form pipe:1
}
"#;

struct Stand {
    place: tempfile::TempDir,
    program: PathBuf,
}

fn stand_in(then: &str) -> Stand {
    let place = tempfile::tempdir().unwrap();
    let text = format!("{OPTIONS}{then}\n").replace("PLACE", &place.path().display().to_string());
    let program = script(&place.path().join("rpicam-vid"), &text);
    Stand { place, program }
}

impl Stand {
    fn options(&self) -> Options {
        // The first is not there, as on a system that has only the other.
        let rpicam = vec![self.place.path().join("none"), self.program.clone()];
        Options { programs: Programs { rpicam, ..Programs::default() }, ..eager() }
    }

    fn camera(&self, setting: &str) -> Camera {
        camera(setting, self.options())
    }

    /// The processes that were started, in order.
    fn processes(&self) -> Vec<String> {
        lines(&self.place.path().join("processes"))
    }
}

fn lines(path: &Path) -> Vec<String> {
    std::fs::read_to_string(path).unwrap_or_default().lines().map(str::to_owned).collect()
}

#[test]
fn mjpeg_comes_as_captured_and_a_program_that_dies_is_started_again() {
    if !are_here(&["ffmpeg"]) {
        return;
    }
    let stand = stand_in("film '' testsrc 5; kill -9 $$");
    let camera = stand.camera("rpicam:0?width=320&height=240&rate=10");
    // The rate would drop what a stand-in writes at once: the first of each run is enough.
    for _ in 0..3 {
        let before = camera.counts().losses;
        let frame = next(&camera);
        assert!(matches!(frame.image, Image::Jpeg(_)));
        let picture = frame.to_rgb().unwrap();
        assert_eq!((picture.width(), picture.height()), (320, 240));
        until(&camera, |camera| camera.counts().losses > before);
    }
    let ended = reason(&camera);
    assert!(ended.contains("rpicam-vid ended (signal: 9 (SIGKILL))") || ended.is_empty(), "{ended}");
    let processes = stand.processes();
    assert!(processes.len() >= 3, "{processes:?}");
    drop(camera);
    stand.processes().iter().for_each(|process| until_gone(process));
}

#[test]
fn raw_frames_have_the_right_colours_and_a_torn_last_one_is_none() {
    if !are_here(&["ffmpeg"]) {
        return;
    }
    let stand = stand_in("film '' color=c=0x2060C0: 3; head -c 1000 /dev/zero; kill -9 $$");
    let text = std::fs::read_to_string(&stand.program).unwrap().replace("$2=size", "$2size");
    script(&stand.program, &text);
    let camera = stand.camera("rpicam:0?width=128&height=96&format=yuv420");
    for _ in 0..2 {
        let frame = next(&camera);
        assert!(matches!(frame.image, Image::Raw(_)));
        let pictures = [frame.to_rgb().unwrap(), picture::decode(frame.jpeg().unwrap()).unwrap()];
        for picture in pictures {
            assert_eq!((picture.width(), picture.height()), (128, 96));
            let middle = &picture.values()[(48 * 128 + 64) * 3..][..3];
            let is_near = middle.iter().zip([0x20, 0x60, 0xC0]).all(|(value, exact)| value.abs_diff(exact) <= 4);
            assert!(is_near, "{middle:?}");
        }
        let losses = camera.counts().losses;
        until(&camera, |camera| camera.counts().losses > losses);
    }
    assert_eq!(camera.counts().captured % 3, 0, "{:?}", camera.counts());
}

#[test]
fn program_that_is_not_there_is_named() {
    let rpicam = vec!["no-such-a".into(), "no-such-b".into()];
    let camera = camera("rpicam:0", Options { programs: Programs { rpicam, ..Programs::default() }, ..eager() });
    until(&camera, |camera| camera.counts().losses >= 1);
    let reason = reason(&camera);
    assert!(reason.starts_with("no-such-a or no-such-b cannot be started ("), "{reason}");
}

#[test]
fn what_the_program_says_is_the_reason() {
    let stand = stand_in("exit 0");
    let camera = stand.camera("rpicam:1");
    until(&camera, |camera| camera.counts().losses >= 2);
    let said = reason(&camera);
    assert!(
        said.contains("rpicam-vid ended (exit status: 255); it said: ERROR: *** no cameras available ***"),
        "{said}"
    );
}

#[test]
fn program_that_writes_nothing_or_garbage_is_ended_with_all_that_it_started() {
    // The second ignores the polite signal, and has started a process that holds its pipes.
    let behaviours = [
        "exec sleep 600",
        "trap '' TERM; sleep 600 & echo $! >>PLACE/processes; sleep 600",
        "exec cat /dev/zero",
        "exec tr '\\0' '\\377' </dev/zero",
    ];
    for behaviour in behaviours {
        let stand = stand_in(behaviour);
        let patience = Duration::from_millis(400);
        let options = Options { limits: Limits { patience, jpeg_bytes: 1 << 20 }, ..stand.options() };
        let camera = camera("rpicam:0", options);
        until(&camera, |camera| camera.counts().losses >= 2);
        assert!(reason(&camera).starts_with("no frame for 0.4 s"), "{behaviour}: {}", reason(&camera));
        assert_eq!(camera.counts().captured, 0);
        drop(camera);
        let processes = stand.processes();
        assert!(processes.len() >= 2);
        processes.iter().for_each(|process| until_gone(process));
    }
}

#[test]
fn flood_of_messages_stops_no_frame() {
    if !are_here(&["ffmpeg"]) {
        return;
    }
    let stand = stand_in("yes 'WARN a message that fills the pipe' >&2 & film -re testsrc 1000");
    let camera = stand.camera("rpicam:0?width=64&height=64&rate=10");
    (0..10).for_each(|_| drop(next(&camera)));
    drop(camera);
    stand.processes().iter().for_each(|process| until_gone(process));
}

#[test]
fn slow_model_drops_frames_and_every_one_is_accounted_for() {
    if !are_here(&["ffmpeg"]) {
        return;
    }
    let stand = stand_in("film -re testsrc 1000");
    let camera = stand.camera("rpicam:0?width=64&height=64&rate=50");
    let first = next(&camera);
    while camera.counts().captured < 20 {
        std::thread::park_timeout(Duration::from_millis(20));
    }
    let second = next(&camera);
    assert!(second.sequence >= 20 && first.sequence < 10, "{} {}", first.sequence, second.sequence);
    while let Next::Frame(_) = camera.next(Instant::now()) {}
    let counts = camera.counts();
    let known = counts.delivered + counts.replaced + counts.paced + counts.unmaskable;
    assert!(counts.captured - known <= 1, "{counts:?}");
    assert!(counts.replaced > 0, "{counts:?}");
}
