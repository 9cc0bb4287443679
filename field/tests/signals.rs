//! Signals to a real process: this test starts itself again as one.

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::time::Duration;

use field::signals::{Signal, listen};

/// Set in the process that gets the signals.
const CHILD: &str = "EDGEBLIP_SIGNALS_CHILD";
/// How long the process waits for a signal before it gives up.
const PATIENCE: Duration = Duration::from_secs(60);

struct Process {
    child: Child,
    lines: std::io::Lines<BufReader<ChildStdout>>,
}

impl Process {
    fn start(answer: &str) -> Process {
        let mut child = Command::new(std::env::current_exe().expect("this test has a file"))
            .args(["--exact", "a_process_that_listens", "--nocapture"])
            .env(CHILD, answer)
            .stdout(Stdio::piped())
            .spawn()
            .expect("this test can be started again");
        let lines = BufReader::new(child.stdout.take().expect("its output is a pipe")).lines();
        let mut process = Process { child, lines };
        process.wait_for("listening");
        process
    }

    fn wait_for(&mut self, words: &str) {
        assert!(self.lines.any(|line| line.expect("it writes text").contains(words)), "{words}");
    }

    fn send(&self, signal: &str) {
        let sent = Command::new("sh")
            .args(["-c", &format!("kill {signal} {}", self.child.id())])
            .status()
            .expect("sh is there");
        assert!(sent.success());
    }

    fn end(mut self) -> ExitStatus {
        self.child.wait().expect("it is our child")
    }
}

#[test]
fn a_process_that_listens() {
    let Some(answer) = std::env::var_os(CHILD) else { return };
    let signals = listen().unwrap();
    println!("listening");
    while let Ok(signal) = signals.recv_timeout(PATIENCE) {
        println!("told {signal:?}");
        if signal == Signal::Stop && answer == "obeys" {
            std::process::exit(0);
        }
    }
}

#[test]
fn hangup_reloads_and_terminate_stops() {
    let mut process = Process::start("obeys");
    process.send("-HUP");
    process.wait_for("told Reload");
    process.send("-HUP");
    process.wait_for("told Reload");
    process.send("-TERM");
    process.wait_for("told Stop");
    assert_eq!(process.end().code(), Some(0));
}

#[test]
fn a_second_terminate_ends_a_process_that_does_not_stop() {
    for (signal, code) in [("-TERM", 143), ("-INT", 130)] {
        let mut process = Process::start("hangs");
        process.send(signal);
        process.wait_for("told Stop");
        process.send(signal);
        assert_eq!(process.end().code(), Some(code));
    }
}
