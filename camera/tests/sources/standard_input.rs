//! MJPEG on standard input, from a program that pipes it.

use std::io::Write;
use std::process::{Output, Stdio};

use crate::programs::{are_here, ffmpeg, frames};

fn piped(setting: &str, bytes: &[u8]) -> String {
    let mut child =
        frames(setting, 1000).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(bytes).unwrap();
    let Output { status, stdout, .. } = child.wait_with_output().unwrap();
    assert!(status.success());
    String::from_utf8(stdout).unwrap()
}

#[test]
fn every_frame_of_a_pipe_comes_through_and_what_is_none_is_counted() {
    if !are_here(&["ffmpeg"]) {
        return;
    }
    let source = "testsrc=size=160x120:rate=10";
    let stream = ffmpeg(&["-f", "lavfi", "-i", source, "-frames:v", "25", "-c:v", "mjpeg", "-f", "mjpeg", "pipe:1"]);
    let said = piped("-?pace=patient", &[b"noise".as_slice(), &stream, b"noise", &stream[..3000]].concat());
    assert_eq!(said.matches("of standard input: 160 x 120 pixels").count(), 25, "{said}");
    assert!(said.contains("Finished { fault: None }"), "{said}");
    assert!(said.contains("captured: 25, delivered: 25, replaced: 0"), "{said}");
    let live = piped("-", &stream);
    assert!(live.contains("captured: 25, "), "{live}");
}
