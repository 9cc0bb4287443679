//! Every kind of source that is to be had without a camera, from its first frame to pairs in the store.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::program::{Running, counter, json, repository};

/// Frames that each source gives before the program is stopped.
const FRAMES: usize = 4;

/// Debian's, whose packages bring GStreamer.
const PYTHON: &str = "/usr/bin/python3";
const GSTREAMER: &str = "GStreamer's RTSP server for Python";

/// Whether a test can run here, as in the camera's own tests.
fn are_here(programs: &[&str]) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let is_here = |program: &str| match program {
        GSTREAMER => {
            let import = ["-c", "import gi; gi.require_version('GstRtspServer', '1.0')"];
            let python = Command::new(PYTHON).args(import).stderr(Stdio::null()).status();
            python.is_ok_and(|status| status.success())
        }
        _ => std::env::split_paths(&path).any(|folder| folder.join(program).is_file()),
    };
    let missing: Vec<_> = programs.iter().filter(|program| !is_here(program)).collect();
    let is_required = std::env::var_os("EDGEBLIP_RIGS").is_some_and(|value| value == "required");
    assert!(missing.is_empty() || !is_required, "{missing:?} not here, and EDGEBLIP_RIGS=required");
    missing.iter().for_each(|program| println!("left out: {program} is not here"));
    missing.is_empty()
}

/// A program that is ended with the test.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts a server that says its port first.
fn serves(command: &mut Command) -> (Server, u16) {
    let mut server = Server(command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap());
    let mut line = String::new();
    BufReader::new(server.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
    (server, line.trim().parse().unwrap())
}

fn ffmpeg(arguments: &[&str]) {
    let mut command = Command::new("ffmpeg");
    command.args(["-nostdin", "-hide_banner", "-loglevel", "error", "-y"]).args(arguments);
    assert!(command.status().unwrap().success(), "{arguments:?}");
}

fn camera_tests() -> PathBuf {
    repository().join("camera/tests/sources")
}

/// The example pictures as JPEGs `frame1.jpg`, ..., nearly as they are.
fn jpegs(folder: &Path) {
    for (place, name) in ["05", "10", "11"].iter().enumerate() {
        let picture = repository().join(format!("examples/images/{name}.png")).display().to_string();
        let jpeg = folder.join(format!("frame{}.jpg", place + 1)).display().to_string();
        ffmpeg(&["-i", &picture, "-pix_fmt", "yuvj444p", "-q:v", "1", &jpeg]);
    }
}

/// A board that takes a frame every so often and keeps all of them.
struct Board {
    folder: tempfile::TempDir,
}

impl Board {
    fn new() -> Board {
        Board { folder: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    fn start(&self, source: &str, environment: &[(&str, &str)]) -> Running {
        let config = self.path("edgeblip.toml");
        let text = format!(
            "[camera]\nsource = {source:?}\nwidth = 320\nheight = 240\n[store]\nfolder = {:?}\n[captions]\ncandidates = 0\n\
             [triggers]\nevery_s = 0.3\nleast_gap_s = 0.0\nduplicate_cosine = \"never\"\n[filter]\naudit = 1.0\n",
            self.path("pairs")
        );
        std::fs::write(&config, text).unwrap();
        Running::start_with(&["run", "--config", &config], environment)
    }

    /// Stops it after some frames, and checks that each of them is accounted for and every pair is sound. Gives the words of
    /// the captions, and the name of the camera in the store.
    fn stop(&self, running: Running) -> (Vec<String>, String) {
        let log = running.stop();
        self.check(&log)
    }

    fn check(&self, log: &str) -> (Vec<String>, String) {
        let dropped = log.lines().rev().find_map(|line| line.split_once("dropped=")).unwrap().1;
        let numbers = dropped.split(|c: char| !c.is_ascii_digit()).filter_map(|number| number.parse::<u64>().ok());
        let (kept, rejected) = (counter(log, "kept"), counter(log, "rejected"));
        assert_eq!(counter(log, "captured"), kept + rejected + numbers.sum::<u64>(), "{log}");
        let store = self.path("pairs");
        let pairs = json(&["pairs", "list", "--store", &store, "--json", "--limit", "1000"]);
        assert!(pairs.len() >= FRAMES.min(3) && pairs.len() as u64 == kept + rejected, "{} pairs:\n{log}", pairs.len());
        let verified = json(&["pairs", "verify", "--store", &store, "--json"]);
        assert_eq!(verified[0]["faults"].as_array().unwrap().len(), 0);
        let words = pairs.iter().map(|pair| pair["texts"][0]["words"].as_str().unwrap().to_owned()).collect();
        (words, pairs[0]["camera"].as_str().unwrap_or_default().to_owned())
    }
}

#[test]
fn a_video_is_captioned_to_its_end() {
    if !are_here(&["ffmpeg"]) {
        return;
    }
    let board = Board::new();
    jpegs(board.folder.path());
    let (frames, clip) = (board.path("frame%d.jpg"), board.path("clip.mkv"));
    ffmpeg(&["-framerate", "1", "-i", &frames, "-c:v", "mjpeg", "-pix_fmt", "yuvj444p", "-q:v", "1", &clip]);
    let log = board.start(&format!("video:{clip}?rate=1&pace=patient"), &[]).wait();
    let (words, _) = board.check(&log);
    assert_eq!(words, ["three tigers on water", "an owl on sand", "an elephant on grass"], "{log}");
}

#[test]
fn a_camera_that_gives_jpegs_over_http_is_captioned_and_its_password_is_told_nowhere() {
    if !are_here(&["ffmpeg", "python3"]) {
        return;
    }
    let board = Board::new();
    jpegs(board.folder.path());
    let mut command = Command::new("python3");
    command.arg(camera_tests().join("http_server.py")).arg(board.folder.path()).arg("lengths");
    let (_server, port) = serves(&mut command);
    let mut running = board.start(&format!("http://user:pass%20word@127.0.0.1:{port}/camera.mjpeg"), &[]);
    running.until(" frame=", FRAMES);
    let log = running.stop();
    let (words, camera) = board.check(&log);
    let known = ["three tigers on water", "an owl on sand", "an elephant on grass"];
    assert!(words.iter().all(|words| known.contains(&words.as_str())), "{words:?}");
    assert!(!log.contains("word@") && !camera.contains("pass"), "{camera}\n{log}");
}

#[test]
fn an_rtsp_camera_is_captioned() {
    if !are_here(&["ffmpeg", GSTREAMER]) {
        return;
    }
    let board = Board::new();
    let mut command = Command::new(PYTHON);
    let (_server, port) = serves(command.arg(camera_tests().join("rtsp_server.py")).arg("0"));
    let mut running = board.start(&format!("rtsp://127.0.0.1:{port}/camera"), &[]);
    running.until(" frame=", FRAMES);
    // A frame for somebody who asks.
    running.signal(Signal::USR1);
    running.until("trigger=command", 1);
    board.stop(running);
}

/// What stands for `rpicam-vid`: it gives so many frames of the form that is asked for, and dies.
const RPICAM: &str = r#"#!/bin/sh
echo $$ >>"$PLACE/processes"
while [ $# -gt 0 ]; do
    case $1 in --codec) codec=$2; shift ;; --width) width=$2; shift ;; --height) height=$2; shift ;; esac
    shift
done
case $codec in
    mjpeg) form="-c:v mjpeg -f mjpeg" ;;
    yuv420) form="-c:v rawvideo -pix_fmt yuvj420p -f rawvideo" ;;
esac
exec ffmpeg -nostdin -loglevel error -re -f lavfi -i "testsrc=size=${width}x$height:rate=10" $form pipe:1
"#;

#[test]
fn a_camera_module_is_captioned_in_both_forms_and_comes_back_when_its_program_dies() {
    if !are_here(&["ffmpeg"]) {
        return;
    }
    for form in ["mjpeg", "yuv420"] {
        let board = Board::new();
        let program = board.folder.path().join("rpicam-vid");
        std::fs::write(&program, RPICAM).unwrap();
        std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let place = board.folder.path().display().to_string();
        let path = format!("{place}:{}", std::env::var("PATH").unwrap());
        let mut running = board.start(&format!("rpicam:0?format={form}"), &[("PATH", &path), ("PLACE", &place)]);
        running.until(" frame=", FRAMES / 2);
        let processes = std::fs::read_to_string(board.path("processes")).unwrap();
        let process: i32 = processes.lines().last().unwrap().parse().unwrap();
        kill_process(Pid::from_raw(process).unwrap(), Signal::KILL).unwrap();
        running.until("the camera is lost", 1);
        running.until("frames come", 2);
        running.until(" frame=", FRAMES);
        let (_, camera) = board.stop(running);
        assert_eq!(camera, "rpicam:0");
        assert_eq!(std::fs::read_to_string(board.path("processes")).unwrap().lines().count(), 2);
    }
}

#[test]
fn a_camera_of_the_kernel_is_captioned() {
    if !are_here(&["cc", "ffmpeg"]) {
        return;
    }
    let board = Board::new();
    let (library, jpeg) = (board.path("v4l.so"), board.path("frame.jpg"));
    let source = camera_tests().join("v4l.c");
    let mut compiler = Command::new("cc");
    compiler.args(["-shared", "-fPIC", "-O1", "-o", &library]).arg(source).arg("-ldl");
    assert!(compiler.status().unwrap().success());
    ffmpeg(&["-f", "lavfi", "-i", "color=c=0x2060C0:size=640x480", "-frames:v", "1", "-c:v", "mjpeg", &jpeg]);
    for format in ["YUYV", "MJPG", "NV12", "GREY"] {
        let preload = [("LD_PRELOAD", library.as_str()), ("FAKE_JPEG", &jpeg), ("FAKE_FORMATS", format)];
        let mut running = board.start(&format!("v4l:/dev/video0?format={format}"), &preload);
        running.until(" frame=", FRAMES);
        let log = running.stop();
        assert!(counter(&log, "kept") + counter(&log, "rejected") >= FRAMES as u64 - 1, "{log}");
    }
    let pairs = json(&["pairs", "list", "--store", &board.path("pairs"), "--json", "--limit", "1000"]);
    assert!(pairs.len() >= 12 && pairs.iter().all(|pair| pair["camera"] == "v4l:/dev/video0"), "{pairs:?}");
}
