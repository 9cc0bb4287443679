//! Video files, and motion in one whose moments are known.

use std::path::Path;
use std::time::Duration;

use camera::motion::{LUMA_SIDE, MotionDetector, Sensitivity};
use camera::{Next, State};

use crate::programs::{SOON, are_here, camera, eager, ffmpeg, next};
use std::time::Instant;

/// A scene with film grain: from 3 to 5 seconds a box crosses it, and at 8 seconds the light is switched on.
fn clip(path: &Path) {
    let scene = "color=c=0x505050:size=320x240:rate=10:duration=12[ground];\
                 color=c=white:size=50x60:rate=10:duration=12[box];\
                 [ground][box]overlay=x=(t-3)*120:y=90:enable='between(t,3,4.95)',\
                 lutyuv=y=val,eq=brightness=0.15:enable='gte(t,8)',noise=alls=8:allf=t";
    let encoder = ["-c:v", "mpeg4", "-q:v", "3", "-g", "10"];
    let output = path.display().to_string();
    ffmpeg(&[&["-f", "lavfi", "-i", scene], encoder.as_slice(), &[&output]].concat());
}

#[test]
fn motion_in_a_clip_is_where_it_was_filmed() {
    if !are_here(&["ffmpeg"]) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a clip?.mp4");
    clip(&path);
    let path = path.with_file_name("clip.mp4");
    std::fs::rename(folder.path().join("a clip?.mp4"), &path).unwrap();
    let camera = camera(&format!("video:{}?rate=5", path.display()), eager());
    let mut detector = MotionDetector::new(Sensitivity::default());
    let (mut moving, mut frames) = (Vec::new(), 0);
    while let Next::Frame(frame) = camera.next(Instant::now() + SOON) {
        frames += 1;
        assert_eq!(frame.taken, Duration::from_millis(200) * (frames - 1));
        let motion = detector.see(&frame.luma(LUMA_SIDE).unwrap(), frame.taken);
        if motion.is_motion {
            moving.push(frame.taken.as_secs_f32());
        }
    }
    assert_eq!(camera.state(), State::Finished { fault: None });
    assert!((59..=61).contains(&frames), "{frames}");
    let crossing = (16..25).map(|fifth| fifth as f32 / 5.0);
    assert!(crossing.clone().all(|time| moving.contains(&time)), "{moving:?}");
    assert!(moving.iter().all(|time| (2.8..5.5).contains(time)), "{moving:?}");
}

#[test]
fn a_patient_video_drops_nothing_and_a_live_one_does() {
    if !are_here(&["ffmpeg"]) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("clip.avi");
    let file = path.display().to_string();
    let source = "testsrc=size=160x120:rate=20:duration=2";
    ffmpeg(&["-f", "lavfi", "-i", source, "-c:v", "mjpeg", &file]);
    let patient = camera(&format!("video:{file}?rate=20"), eager());
    std::thread::park_timeout(Duration::from_millis(300));
    let frames = std::iter::from_fn(|| match patient.next(Instant::now() + SOON) {
        Next::Frame(frame) => Some(frame.sequence),
        _ => None,
    });
    assert!(frames.eq(1..=40));
    let live = camera(&format!("video:{file}?rate=20&pace=live"), eager());
    next(&live);
    // A slow model: meanwhile frames come, and only the newest is kept.
    while !matches!(live.state(), State::Finished { .. }) {
        std::thread::park_timeout(Duration::from_millis(20));
    }
    let last = next(&live);
    assert!(matches!(live.next(Instant::now() + SOON), Next::Finished));
    let counts = live.counts();
    assert_eq!((counts.captured, last.sequence), (40, 40));
    assert_eq!((counts.delivered, counts.replaced), (2, 38));
}

#[test]
fn what_is_no_video_says_so_and_is_tried_again() {
    if !are_here(&["ffmpeg"]) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("text.mp4");
    std::fs::write(&path, "no video").unwrap();
    let camera = camera(&format!("video:{}", path.display()), eager());
    crate::programs::until(&camera, |camera| camera.counts().losses >= 2);
    let reason = crate::programs::reason(&camera);
    assert!(reason.starts_with("ffmpeg ended (exit status: ") && reason.contains("text.mp4"), "{reason}");
    // A playlist must not make ffmpeg fetch from the network.
    std::fs::write(&path, "#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:9/a.ts\n").unwrap();
    crate::programs::until(&camera, |camera| camera.counts().losses >= 5);
    assert_eq!(camera.counts().captured, 0);
}
