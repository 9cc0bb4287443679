//! V4L2 against a stand-in for the kernel's answers, which is loaded into a program of ours and into ustreamer, so that
//! another client of V4L2 has accepted them. A real kernel's camera is not to be had on every machine.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use camera::Image;

use crate::programs::{are_here, camera, eager, ffmpeg, frames, free_port, next, start};

struct StandIn {
    folder: tempfile::TempDir,
    library: PathBuf,
}

fn stand_in() -> StandIn {
    let folder = tempfile::tempdir().unwrap();
    let library = folder.path().join("v4l.so");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/sources/v4l.c");
    let mut compiler = Command::new("cc");
    compiler.args(["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o"]).arg(&library).arg(source).arg("-ldl");
    assert!(compiler.status().expect("a C compiler").success());
    let jpeg = folder.path().join("frame.jpg").display().to_string();
    ffmpeg(&["-f", "lavfi", "-i", "color=c=0x2060C0:size=640x480", "-frames:v", "1", "-c:v", "mjpeg", &jpeg]);
    StandIn { folder, library }
}

impl StandIn {
    fn load(&self, command: &mut Command, settings: &[(&str, &str)]) {
        command.env("LD_PRELOAD", &self.library).env("FAKE_JPEG", self.jpeg());
        command.envs(settings.iter().copied());
    }

    fn jpeg(&self) -> PathBuf {
        self.folder.path().join("frame.jpg")
    }

    /// What a camera says of itself and its frames.
    fn seen(&self, setting: &str, count: usize, settings: &[(&str, &str)]) -> String {
        self.seen_for("60", setting, count, settings)
    }

    fn seen_for(&self, seconds: &str, setting: &str, count: usize, settings: &[(&str, &str)]) -> String {
        let mut command = frames(setting, count);
        command.arg(seconds);
        self.load(&mut command, settings);
        let output = command.stdin(Stdio::null()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }
}

/// Mean red, green and blue of each frame.
fn colours(said: &str) -> Vec<[u8; 3]> {
    let colour = |line: &str| {
        let mut numbers = line.split("mean colour ").nth(1)?.split([' ', ',']).map_while(|number| number.parse().ok());
        Some([numbers.next()?, numbers.next()?, numbers.next()?])
    };
    said.lines().filter_map(colour).collect()
}

#[test]
fn every_format_is_negotiated_and_has_its_colours() {
    if !are_here(&["cc", "ffmpeg"]) {
        return;
    }
    let stand = stand_in();
    // Red, green and blue of luma 16 + 10 n and red chroma 128 + 5 n. Source: ITU-R BT.601-7 and BT.709-6.
    let limited = |red: f64, green: f64| {
        move |n: f64| {
            let (luma, chroma) = (10.0 * n * 255.0 / 219.0, 5.0 * n * 255.0 / 224.0);
            [luma + red * chroma, luma - green * chroma, luma]
        }
    };
    let (bt601, bt709) = (limited(1.402, 0.714_136), limited(1.5748, 0.468_124));
    let grey = |n: f64| [16.0 + 10.0 * n; 3];
    type Expected<'a> = &'a dyn Fn(f64) -> [f64; 3];
    let cases: [(&str, &str, Expected); 5] = [
        ("YUYV", "v4l:/dev/video0?width=640&height=480&rate=10", &bt601),
        ("NV12", "v4l:/dev/video0?width=640&height=480&rate=10", &bt601),
        ("GREY", "v4l:/dev/video0?width=640&height=480&rate=10", &grey),
        ("MJPG,YUYV", "v4l:/dev/video0?width=640&height=480&rate=10&format=YUYV", &bt601),
        ("YUYV", "v4l:/dev/video0?width=640&height=480&rate=10&matrix=bt709", &bt709),
    ];
    for (formats, setting, exact) in cases {
        let said = stand.seen(setting, 4, &[("FAKE_FORMATS", formats)]);
        assert_eq!(said.matches("of /dev/video0: 640 x 480 pixels").count(), 4, "{said}");
        let numbers = said.lines().filter_map(|line| line.split_once(' ')?.0.parse::<f64>().ok());
        for (colour, number) in colours(&said).into_iter().zip(numbers) {
            let exact = exact(number - 1.0);
            let is_near = colour.iter().zip(exact).all(|(value, exact)| (f64::from(*value) - exact).abs() <= 1.5);
            assert!(is_near, "{formats} {setting} frame {number}: {colour:?}, exact {exact:?}\n{said}");
        }
    }
}

#[test]
fn jpegs_of_a_webcam_are_kept_as_they_are_without_their_padding() {
    if !are_here(&["cc", "ffmpeg"]) {
        return;
    }
    let stand = stand_in();
    let said = stand.seen("v4l:/dev/video0?width=600&height=400&rate=10", 4, &[]);
    // Pillow decodes the same file to the same colour.
    let length = std::fs::metadata(stand.jpeg()).unwrap().len();
    assert_eq!(said.matches(&format!("640 x 480 pixels, mean colour 31 95 192, {length} bytes")).count(), 4, "{said}");
}

#[test]
fn damaged_frames_are_counted_and_an_unplugged_camera_comes_back() {
    if !are_here(&["cc", "ffmpeg"]) {
        return;
    }
    let stand = stand_in();
    let said = stand.seen("v4l:/dev/video0", 8, &[("FAKE_FAULT", "damaged"), ("FAKE_FRAMES", "20")]);
    assert_eq!(colours(&said).len(), 8, "{said}");
    // Of four frames one is cut, one is marked by the driver, and one is both.
    assert!(said.contains("damaged: ") && !said.contains("damaged: 0"), "{said}");
    let said = stand.seen("v4l:/dev/video0", 30, &[("FAKE_FRAMES", "20"), ("FAKE_ABSENT", "1")]);
    assert_eq!(colours(&said).len(), 30, "{said}");
    let losses = said.split("losses: ").nth(1).and_then(|rest| rest.split(' ').next()?.parse::<u32>().ok());
    assert!(losses.is_some_and(|losses| losses >= 2), "{said}");
}

#[test]
fn what_a_device_cannot_do_is_said() {
    if !are_here(&["cc", "ffmpeg"]) {
        return;
    }
    let stand = stand_in();
    let cases = [
        (
            "v4l:/dev/video0",
            ("FAKE_FAULT", "busy"),
            "/dev/video0 does not start (Device or resource busy (os error 16)); another program uses it",
        ),
        (
            "v4l:/dev/video0",
            ("FAKE_FORMATS", "pRAA"),
            "/dev/video0 gives pRAA, not MJPG, YUYV, NV12, YU12 or GREY; for a Pi's camera module use rpicam:0",
        ),
        ("v4l:/dev/video0?format=NV12", ("FAKE_FORMATS", "MJPG"), "/dev/video0 gives MJPG, not NV12"),
        ("v4l:/dev/null", ("FAKE_FAULT", ""), "/dev/null is not a camera of V4L2"),
        ("v4l:/dev/video9", ("FAKE_FAULT", ""), "/dev/video9 cannot be opened (No such file or directory"),
    ];
    for (setting, fault, expected) in cases {
        let said = stand.seen_for("1", setting, 1, &[fault]);
        assert!(said.contains(expected), "{setting}: {said}");
    }
}

#[test]
fn ustreamer_accepts_the_stand_in_and_is_read_over_http() {
    if !are_here(&["cc", "ffmpeg", "ustreamer"]) {
        return;
    }
    let stand = stand_in();
    let port = free_port();
    let mut command = Command::new("ustreamer");
    command.args(["--device", "/dev/video0", "--format", "MJPEG", "--resolution", "640x480", "--host", "127.0.0.1"]);
    command.args(["--port", &port.to_string(), "--log-level", "0"]).stdout(Stdio::null()).stderr(Stdio::null());
    stand.load(&mut command, &[]);
    let _server = start(&mut command);
    let picture = std::fs::read(stand.jpeg()).unwrap();
    // Until its device streams it shows a picture that says so.
    let camera = camera(&format!("http://127.0.0.1:{port}/stream"), eager());
    let is_ours = |image: &Image| matches!(image, Image::Jpeg(bytes) if *bytes == picture);
    assert!((0..200).any(|_| is_ours(&next(&camera).image)), "{:?}", camera.counts());
}
