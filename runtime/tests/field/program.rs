//! The program on real folders and pipes, with the built-in bundle.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

const PROGRAM: &str = env!("CARGO_BIN_EXE_edgeblip");

pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(PROGRAM);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn done(arguments: &[&str]) -> Output {
    command(arguments).output().unwrap()
}

fn content(arguments: &[&str]) -> String {
    let output = done(arguments);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

pub fn json(arguments: &[&str]) -> Vec<Value> {
    content(arguments).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// A program that runs, with its log.
pub struct Running {
    child: Child,
    log: BufReader<ChildStderr>,
    told: String,
}

impl Running {
    fn start(arguments: &[&str]) -> Running {
        Running::start_with(arguments, &[])
    }

    pub fn start_with(arguments: &[&str], environment: &[(&str, &str)]) -> Running {
        // Programs that run at the same time do not all have a page at the same place.
        let page: &[&str] = if arguments.contains(&"--page") { &[] } else { &["--page", "none"] };
        let arguments = [arguments, page].concat();
        let mut child = command(&arguments).envs(environment.iter().copied()).spawn().unwrap();
        let log = BufReader::new(child.stderr.take().unwrap());
        Running { child, log, told: String::new() }
    }

    /// Reads the log until so many lines have had these words.
    pub fn until(&mut self, words: &str, times: usize) {
        while self.told.lines().filter(|line| line.contains(words)).count() < times {
            let read = self.log.read_line(&mut self.told).unwrap();
            assert!(read > 0, "the program ended before {words:?} was told {times} times:\n{}", self.told);
        }
    }

    /// The log so far.
    pub fn told(&self) -> &str {
        &self.told
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Ends it as a service manager does, and gives its log.
    pub fn stop(self) -> String {
        self.signal(Signal::TERM);
        self.wait()
    }

    /// Waits until it ends by itself, and gives its log.
    pub fn wait(mut self) -> String {
        std::io::Read::read_to_string(&mut self.log, &mut self.told).unwrap();
        assert!(self.child.wait().unwrap().success(), "{}", self.told);
        std::mem::take(&mut self.told)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What the last line says of a counter.
pub fn counter(log: &str, key: &str) -> u64 {
    let line = log.lines().rev().find(|line| line.contains("the store is sealed")).unwrap();
    let value = line.split_whitespace().find_map(|pair| pair.strip_prefix(&format!("{key}=")));
    value.unwrap().parse().unwrap()
}

pub fn pictures(folder: &Path) {
    for name in ["01", "03", "05", "07", "10", "11"] {
        let file = format!("{name}.png");
        std::fs::copy(repository().join("examples/images").join(&file), folder.join(&file)).unwrap();
    }
}

#[test]
fn a_folder_of_pictures_becomes_pairs_with_scores_and_decisions_and_each_is_taken_once() {
    let folder = tempfile::tempdir().unwrap();
    pictures(folder.path());
    std::fs::write(folder.path().join("10.txt"), "an owl on sand\n").unwrap();
    std::fs::write(folder.path().join("11.txt"), "a bus on grass\n").unwrap();
    let store = tempfile::tempdir().unwrap();
    let (source, store) = (format!("folder:{}", folder.path().display()), store.path().display().to_string());
    let config = folder.path().join("edgeblip.toml");
    let text = format!(
        "[camera]\nsource = {source:?}\n[store]\nfolder = {store:?}\n[triggers]\nduplicate_cosine = \"never\"\n[filter]\naudit = 1.0\n"
    );
    std::fs::write(&config, &text).unwrap();
    let config = config.display().to_string();
    let run = ["run", "--config", config.as_str()];

    let mut running = Running::start(&run);
    running.until(" frame=", 6);
    std::fs::write(&config, text + "[captions]\ncandidates = 1\n").unwrap();
    running.signal(Signal::HUP);
    running.until("captions.candidates", 1);
    let log = running.stop();
    assert_eq!((counter(&log, "captured"), counter(&log, "kept") + counter(&log, "rejected")), (6, 6), "{log}");

    let listed = json(&["pairs", "list", "--store", &store, "--json"]);
    assert_eq!(listed.len(), 6);
    let texts: Vec<&Value> = listed.iter().flat_map(|pair| pair["texts"].as_array().unwrap()).collect();
    let find = |words: &str, origin: &str| {
        let is_it = |text: &&&Value| text["words"] == words && text["origin"] == origin;
        *texts.iter().find(is_it).unwrap_or_else(|| panic!("{words:?} by {origin} is not in {texts:?}"))
    };
    // The shown captions are those of "edgeblip caption": beams instead of the bundle's own decoding give the same here.
    let owl = find("an owl on sand", "sidecar");
    assert_eq!((&owl["decision"], &find("an owl on sand", "caption")["reason"]), (&"kept".into(), &"same".into()));
    let owl = find("an owl on sand", "caption");
    assert!(owl["itm"].as_f64().unwrap() > 0.5 && owl["log_prob"].as_f64().unwrap() < 0.0);
    let bus = find("a bus on grass", "sidecar");
    assert_eq!((&bus["decision"], &bus["reason"]), (&"rejected".into(), &"threshold".into()));
    assert!(bus["itm"].as_f64().unwrap() < 0.5 && bus["itc"].is_number());
    assert!(texts.iter().any(|text| text["origin"] == "candidate"));

    let stats = json(&["pairs", "stats", "--store", &store, "--json"]);
    assert_eq!((&stats[0]["pairs"], &stats[0]["texts"]["sidecar"]["rejected"]), (&6.into(), &1.into()));
    let verified = json(&["pairs", "verify", "--store", &store, "--json"]);
    assert_eq!((&verified[0]["sound"], verified[0]["faults"].as_array().unwrap().len()), (&6.into(), 0));

    let picture = folder.path().join("shown.jpeg.part").display().to_string();
    let pair = listed[0]["pair"].as_str().unwrap();
    let shown = content(&["pairs", "show", pair, "--store", &store, "--picture", &picture]);
    assert!(shown.contains("caption") && shown.contains("SHA-256"), "{shown}");
    assert!(std::fs::read(&picture).unwrap().starts_with(b"\xff\xd8\xff"));
    content(&["pairs", "label", pair, "--store", &store, "--add", "my own words", "--by", "me"]);
    assert!(content(&["pairs", "show", pair, "--store", &store]).contains("my own words"));
    content(&["pairs", "forget", pair, "--store", &store]);
    let gone = done(&["pairs", "show", pair, "--store", &store]);
    assert_eq!(gone.status.code(), Some(1));
    assert_eq!(json(&["pairs", "list", "--store", &store, "--json"]).len(), 5);

    // A second start knows what was seen: only the new picture is taken.
    std::fs::copy(folder.path().join("01.png"), folder.path().join("99.png")).unwrap();
    let mut running = Running::start(&run);
    running.until(" frame=", 1);
    let log = running.stop();
    // The pairs of the first run were committed as it stopped, and are remembered as well.
    assert_eq!(counter(&log, "captured"), 1, "{log}");
    assert!(log.contains("99.png"), "{log}");
}

#[test]
fn one_picture_is_kept_and_the_program_ends() {
    let store = tempfile::tempdir().unwrap();
    let store = store.path().join("new").display().to_string();
    let source = format!("picture:{}", repository().join("examples/images/07.png").display());
    let output = done(&["run", "--camera", &source, "--store", &store]);
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{log}");
    assert_eq!((counter(&log, "captured"), counter(&log, "kept")), (1, 1), "{log}");
    let listed = content(&["pairs", "list", "--store", &store]);
    assert!(listed.contains("two bears on sand"), "{listed}");
}

#[test]
fn mjpeg_on_standard_input_is_taken_to_its_end_and_every_frame_is_accounted_for() {
    let store = tempfile::tempdir().unwrap();
    let folder = store.path().display().to_string();
    let pictures = repository().join("tests/goldens/pixels/pictures");
    let stream: Vec<u8> = ["rgb.jpg", "grey.jpg", "low_quality.jpg", "colour_444.jpg"]
        .iter()
        .flat_map(|name| std::fs::read(pictures.join(name)).unwrap())
        .collect();
    let mut child =
        command(&["run", "--camera", "-?pace=patient", "--store", &folder]).stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(&stream).unwrap();
    let output = child.wait_with_output().unwrap();
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{log}");
    assert_eq!(counter(&log, "captured"), 4, "{log}");
    let dropped = log.lines().rev().find_map(|line| line.split_once("dropped=")).unwrap().1;
    let dropped: u64 =
        dropped.split(|c: char| !c.is_ascii_digit()).filter_map(|number| number.parse::<u64>().ok()).sum();
    assert_eq!(counter(&log, "kept") + counter(&log, "rejected") + dropped, 4, "{log}");
}

#[test]
fn what_cannot_run_says_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().display().to_string();
    let refused = |arguments: &[&str], words: &str| {
        let output = done(arguments);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && errors.contains(words), "{arguments:?}: {errors}");
    };
    refused(&["run", "--camera", "telescope:1", "--store", &store], "telescope:1");
    refused(&["run", "--camera", "folder:.", "--store", &store, "--bundle", "/nowhere"], "/nowhere");
    refused(&["pairs", "list", "--store", "/nowhere"], "--store");
    refused(&["config", "--config", "/nowhere.toml"], "/nowhere.toml");
    let config = folder.path().join("wrong.toml");
    std::fs::write(&config, "[triggers]\nevery = 5\n").unwrap();
    refused(&["run", "--config", &config.display().to_string()], "every_s");
}

#[test]
fn the_effective_configuration_is_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("edgeblip.toml");
    std::fs::write(&path, content(&["config", "--camera", "rpicam:1", "--store", "/srv/pairs"])).unwrap();
    let again = content(&["config", "--config", &path.display().to_string()]);
    assert!(again.contains("source = \"rpicam:1\"") && again.contains("folder = \"/srv/pairs\""), "{again}");
    std::fs::write(&path, content(&["config", "--example"])).unwrap();
    content(&["config", "--config", &path.display().to_string()]);
}

#[test]
fn the_doctor_looks_at_every_part() {
    let folder = tempfile::tempdir().unwrap();
    pictures(folder.path());
    let (source, store) = (format!("folder:{}", folder.path().display()), folder.path().display().to_string());
    let output = done(&["doctor", "--camera", &source, "--store", &store, "--json"]);
    let findings: Vec<Value> =
        String::from_utf8(output.stdout).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for part in ["config", "board", "cpu", "heat", "clock", "disk", "pins", "page", "broker", "bundle", "camera"] {
        let finding = findings.iter().find(|finding| finding["part"] == part);
        let finding = finding.unwrap_or_else(|| panic!("{part} is not in {findings:?}"));
        assert!(finding["health"] == "ok" || finding["advice"].is_string(), "{finding}");
    }
    let lost = done(&["doctor", "--camera", "folder:/nowhere", "--store", &store]);
    assert_eq!(lost.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&lost.stdout).contains("FAIL  camera"), "{lost:?}");
}
