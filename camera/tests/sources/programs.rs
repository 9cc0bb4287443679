//! Programs that the tests start and end, and what they wait for.

use std::io::{BufRead, BufReader};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use camera::{Backoff, Camera, Frame, Limits, Next, Options};

/// Debian's, whose packages bring GStreamer.
pub const PYTHON: &str = "/usr/bin/python3";

/// How long a test waits for what must come.
pub const SOON: Duration = Duration::from_secs(60);

/// A program that is ended with the test.
pub struct Server(pub Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What a program is asked for that needs GStreamer's RTSP server.
pub const GSTREAMER: &str = "GStreamer's RTSP server for Python";

/// Whether a test can run here. What is missing is said; with `EDGEBLIP_RIGS=required`, as in CI, it fails the test.
pub fn are_here(programs: &[&str]) -> bool {
    let missing: Vec<_> = programs.iter().filter(|program| !is_here(program)).collect();
    let is_required = std::env::var_os("EDGEBLIP_RIGS").is_some_and(|value| value == "required");
    assert!(missing.is_empty() || !is_required, "{missing:?} not here, and EDGEBLIP_RIGS=required");
    missing.iter().for_each(|program| println!("left out: {program} is not here"));
    missing.is_empty()
}

fn is_here(program: &str) -> bool {
    if program == GSTREAMER {
        let import = "import gi; gi.require_version('GstRtspServer', '1.0')";
        let python = Command::new(PYTHON).args(["-c", import]).stderr(Stdio::null()).status();
        return python.is_ok_and(|status| status.success());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

/// Starts a program that CI installs.
pub fn start(command: &mut Command) -> Server {
    let program = command.get_program().display().to_string();
    command.stdin(Stdio::null());
    Server(command.spawn().unwrap_or_else(|error| panic!("{program}: {error}; install it, as .ci/run does")))
}

/// The first line that a program says.
pub fn first_line(server: &mut Server) -> String {
    let mut line = String::new();
    BufReader::new(server.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
    line.trim().to_owned()
}

/// Runs `ffmpeg` to its end.
pub fn ffmpeg(arguments: &[&str]) -> Vec<u8> {
    let output = Command::new("ffmpeg")
        .args(["-nostdin", "-hide_banner", "-loglevel", "error", "-y"])
        .args(arguments)
        .output()
        .unwrap_or_else(|error| panic!("ffmpeg: {error}; install it, as .ci/run does"));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// Writes a program.
pub fn script(path: &Path, text: &str) -> PathBuf {
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path.to_owned()
}

/// A port that nothing listens on.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Waits until something listens.
pub fn until_it_listens(port: u16) {
    let deadline = Instant::now() + SOON;
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(Instant::now() < deadline, "nothing listens on port {port}");
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

/// Options that try again at once.
pub fn eager() -> Options {
    let moment = Duration::from_millis(50);
    Options {
        backoff: Backoff { first: moment, longest: moment, steady: Duration::from_secs(10) },
        limits: Limits { patience: Duration::from_secs(20), ..Limits::default() },
        ..Options::default()
    }
}

pub fn camera(setting: &str, options: Options) -> Camera {
    Camera::start(setting.parse().unwrap(), options).unwrap()
}

pub fn next(camera: &Camera) -> Frame {
    match camera.next(Instant::now() + SOON) {
        Next::Frame(frame) => *frame,
        other => panic!("{other:?} of {camera:?}, {:?}", camera.counts()),
    }
}

/// Waits until something is so, and drops the frames that come meanwhile.
pub fn until(camera: &Camera, is_so: impl Fn(&Camera) -> bool) {
    let deadline = Instant::now() + SOON;
    while !is_so(camera) {
        assert!(Instant::now() < deadline, "{camera:?}, {:?}", camera.counts());
        if matches!(camera.next(Instant::now() + Duration::from_millis(10)), Next::Finished) {
            assert!(is_so(camera), "{camera:?}, {:?}", camera.counts());
        }
    }
}

/// Why a camera waits.
pub fn reason(camera: &Camera) -> String {
    match camera.state() {
        camera::State::Waiting { reason, .. } => reason,
        _ => String::new(),
    }
}

/// The example that says what a source gives.
pub fn frames(source: &str, frames: usize) -> Command {
    let tests = std::env::current_exe().unwrap();
    let mut command = Command::new(tests.parent().unwrap().with_file_name("examples").join("frames"));
    command.args([source, &frames.to_string()]);
    command
}

/// Whether a process is there, be it a zombie.
pub fn is_there(process: &str) -> bool {
    Path::new("/proc").join(process.trim()).exists()
}

/// Waits until it is not.
pub fn until_gone(process: &str) {
    let deadline = Instant::now() + SOON;
    while is_there(process) {
        assert!(Instant::now() < deadline, "process {process} is still there");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}
