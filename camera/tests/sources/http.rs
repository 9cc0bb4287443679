//! MJPEG over HTTP, from servers that others wrote.

use std::process::{Command, Stdio};
use std::time::Duration;

use camera::{Limits, Options, State};

use crate::programs::{
    Server, are_here, camera, eager, ffmpeg, first_line, free_port, next, reason, start, until, until_it_listens,
};

/// ffmpeg's own server: one client, chunks, lengths.
fn ffmpeg_serves(port: u16) -> Server {
    let mut command = Command::new("ffmpeg");
    command.args(["-nostdin", "-loglevel", "error", "-re", "-f", "lavfi", "-i", "testsrc=size=160x120:rate=20"]);
    command.args(["-c:v", "mjpeg", "-f", "mpjpeg", "-listen", "1", &format!("http://127.0.0.1:{port}/camera")]);
    start(&mut command)
}

/// Python's server with frames of its own making, in one of the ways that cameras write them.
fn python_serves(folder: &std::path::Path, way: &str) -> (Server, u16) {
    let stream = folder.join("frame%d.jpg").display().to_string();
    ffmpeg(&["-f", "lavfi", "-i", "testsrc2=size=160x120:rate=5", "-frames:v", "5", &stream]);
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/sources/http_server.py");
    let mut command = Command::new("python3");
    command.arg(script).arg(folder).arg(way).stdout(Stdio::piped());
    let mut server = start(&mut command);
    let port = first_line(&mut server).parse().unwrap();
    (server, port)
}

#[test]
fn ffmpegs_server_is_read_lost_and_found_again() {
    if !are_here(&["ffmpeg", "python3"]) {
        return;
    }
    let port = free_port();
    let camera = camera(&format!("http://127.0.0.1:{port}/camera"), eager());
    until(&camera, |camera| matches!(camera.state(), State::Waiting { tries: 2.., .. }));
    assert!(reason(&camera).contains("cannot be opened (Connection refused"), "{}", reason(&camera));
    for _ in 0..2 {
        let server = ffmpeg_serves(port);
        let frame = next(&camera);
        assert_eq!((frame.to_rgb().unwrap().width(), camera.state()), (160, State::Streaming));
        next(&camera);
        drop(server);
        until(&camera, |camera| matches!(camera.state(), State::Waiting { .. }));
    }
    assert_eq!(camera.counts().damaged, 0);
}

#[test]
fn each_way_of_a_camera_is_read() {
    if !are_here(&["ffmpeg", "python3"]) {
        return;
    }
    for way in ["lengths", "boundaries", "no-first-boundary", "stream", "snapshot", "slow"] {
        let folder = tempfile::tempdir().unwrap();
        let (_server, port) = python_serves(folder.path(), way);
        let camera = camera(&format!("http://user:pass%20word@127.0.0.1:{port}/{way}#rate=50"), eager());
        for _ in 0..7 {
            let frame = next(&camera);
            let jpeg = frame.jpeg().unwrap();
            let is_one = |number: i32| std::fs::read(folder.path().join(format!("frame{number}.jpg"))).unwrap() == jpeg;
            assert!((1..=5).any(is_one), "{way}: not the bytes that were served");
        }
        let counts = camera.counts();
        assert_eq!((counts.damaged, counts.too_large), (0, 0), "{way}: {counts:?}");
    }
}

#[test]
fn servers_that_mean_harm_or_nothing_are_given_up_and_tried_again() {
    if !are_here(&["ffmpeg", "python3"]) {
        return;
    }
    let ways = [
        ("headers", "answers with headers that do not end"),
        ("garbage", "no frame for 0.6 s"),
        ("silence", "no frame for 0.6 s"),
        ("huge", "no frame for 0.6 s"),
        ("page", "answers with text/html"),
        ("missing", "answers 404 "),
        ("password", "answers 401; put user:password@ before the host"),
    ];
    for (way, expected) in ways {
        let folder = tempfile::tempdir().unwrap();
        let (_server, port) = python_serves(folder.path(), way);
        let limits = Limits { jpeg_bytes: 1 << 20, patience: Duration::from_millis(600) };
        let camera = camera(&format!("http://me:wrong-secret@127.0.0.1:{port}/"), Options { limits, ..eager() });
        until(&camera, |camera| camera.counts().losses >= 2);
        let reason = reason(&camera);
        assert!(reason.contains(expected), "{way}: {reason}");
        assert!(!reason.contains("secret"), "{reason}");
        assert_eq!(camera.counts().captured, 0, "{way}");
    }
}

#[test]
fn the_same_url_is_read_through_ffmpeg() {
    if !are_here(&["ffmpeg", "python3"]) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (_server, port) = python_serves(folder.path(), "lengths");
    until_it_listens(port);
    let camera = camera(&format!("ffmpeg:http://user:pass%20word@127.0.0.1:{port}/lengths#rate=10"), eager());
    assert_eq!(next(&camera).to_rgb().unwrap().height(), 120);
}
