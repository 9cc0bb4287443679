//! RTSP from GStreamer's server.

use std::process::{Command, Stdio};

use camera::State;

use crate::programs::{GSTREAMER, PYTHON, Server, are_here, camera, eager, first_line, next, reason, start, until};

fn serves(port: u16) -> (Server, u16) {
    let mut command = Command::new(PYTHON);
    command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/sources/rtsp_server.py"));
    command.arg(port.to_string()).stdout(Stdio::piped());
    let mut server = start(&mut command);
    let port = first_line(&mut server).parse().expect("GStreamer's RTSP server, as .ci/run installs it");
    (server, port)
}

#[test]
fn stream_is_read_lost_and_found_again() {
    if !are_here(&["ffmpeg", GSTREAMER]) {
        return;
    }
    let (server, port) = serves(0);
    let camera = camera(&format!("rtsp://127.0.0.1:{port}/camera#rate=5"), eager());
    for _ in 0..3 {
        let frame = next(&camera);
        let picture = frame.to_rgb().unwrap();
        assert_eq!((picture.width(), picture.height()), (320, 240));
        // The left half of the pattern is red.
        let [red, green, blue] = picture.values()[(120 * 320 + 80) * 3..][..3] else { panic!() };
        assert!(red > 180 && green < 60 && blue < 60, "{red} {green} {blue}");
    }
    drop(server);
    until(&camera, |camera| matches!(camera.state(), State::Waiting { .. }));
    let (_server, _) = serves(port);
    // The frame that waits may be the old stream's.
    until(&camera, |camera| camera.state() == State::Streaming);
    next(&camera);
}

#[test]
fn wrong_paths_and_passwords_are_told_without_the_password() {
    if !are_here(&["ffmpeg", GSTREAMER]) {
        return;
    }
    let (_server, port) = serves(0);
    let camera = camera(&format!("rtsp://me:very-secret@127.0.0.1:{port}/none?key=private"), eager());
    until(&camera, |camera| camera.counts().losses >= 1);
    let reason = reason(&camera);
    assert!(reason.starts_with("ffmpeg ended (exit status: ") && reason.contains("404"), "{reason}");
    assert!(!reason.contains("very-secret") && !reason.contains("private"), "{reason}");
}
