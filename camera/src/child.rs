//! A program that writes frames to its standard output: started, listened to, and reaped whatever happens.

use std::io::{ErrorKind, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, ChildStderr, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};

use crate::error::CameraError;
use crate::stop::{Patience, Stop, Waited};

/// How long a program is given to end by itself, and its last words to arrive.
const GRACE: Duration = Duration::from_millis(300);
/// Lines of its standard error that are kept, and bytes of one.
const KEPT_LINES: usize = 4;
const KEPT_BYTES: usize = 200;
/// Bytes of a line that are read: more, so that a secret is found before the line is cut.
const MAX_LINE_BYTES: usize = 4096;

/// A running program, with all that it starts. Dropped, they are ended and reaped.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
    /// Can be read once the program has ended; a kernel before 5.3 has none.
    descriptor: Option<OwnedFd>,
    output: ChildStdout,
    program: String,
    last_words: Arc<Mutex<LastWords>>,
    /// Hangs up when the program's standard error is closed.
    said_all: Receiver<()>,
    is_reaped: bool,
}

/// What a program may repeat of its arguments and must not be shown, each with what is shown for it.
pub(crate) type Secrets = Vec<(String, String)>;

/// The end of a program's standard error, as it may be shown.
#[derive(Debug, Default)]
struct LastWords {
    lines: Vec<String>,
    line: String,
    secrets: Secrets,
}

impl Running {
    /// Starts the first of `programs` that is there, in a process group of its own.
    pub fn start(programs: &[PathBuf], arguments: &[String], secrets: Secrets) -> Result<Self, CameraError> {
        let mut error = std::io::Error::from(ErrorKind::NotFound);
        for program in programs {
            let mut command = Command::new(program);
            command.args(arguments).process_group(0);
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
            match command.spawn() {
                Ok(child) => return Self::of(child, program.display().to_string(), secrets),
                Err(fault) if fault.kind() == ErrorKind::NotFound => error = fault,
                Err(fault) => {
                    error = fault;
                    break;
                }
            }
        }
        let names: Vec<String> = programs.iter().map(|program| program.display().to_string()).collect();
        Err(CameraError::Program { programs: names.join(" or "), error })
    }

    fn of(mut child: Child, program: String, secrets: Secrets) -> Result<Self, CameraError> {
        let last_words = Arc::new(Mutex::new(LastWords { secrets, ..LastWords::default() }));
        let (sender, said_all) = channel();
        let (Some(output), Some(errors)) = (child.stdout.take(), child.stderr.take()) else {
            unreachable!("both were asked to be pipes");
        };
        let kept = Arc::clone(&last_words);
        let listener = std::thread::Builder::new().name("camera stderr".to_owned());
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let descriptor = pid.and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
        let running = Self { child, descriptor, output, program, last_words, said_all, is_reaped: false };
        match listener.spawn(move || listen(errors, &kept, sender)) {
            Ok(_) => Ok(running),
            Err(error) => Err(CameraError::Program { programs: running.program.clone(), error }),
        }
    }

    /// Reads what the program writes; zero bytes are the end.
    pub fn read(&mut self, buffer: &mut [u8], stop: &Stop, patience: Patience) -> Result<usize, CameraError> {
        let fault = |program: &str, error| CameraError::Read { what: program.to_owned(), error };
        loop {
            let program = self.descriptor.as_ref().map(OwnedFd::as_fd);
            let waited = stop.readable_while(self.output.as_fd(), program, patience);
            match waited.map_err(|error| fault(&self.program, error))? {
                Waited::Stopped => return Err(CameraError::Stopped),
                Waited::Late => return Err(patience.silent(self.last_words())),
                // What it has started may still hold the other end of its output.
                Waited::Ended => return Ok(0),
                Waited::Readable => {}
            }
            match self.output.read(buffer) {
                Ok(0) => return Ok(0),
                Ok(count) => return Ok(count),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(fault(&self.program, error)),
            }
        }
    }

    /// Reaps a program that has closed its standard output: how it ended, and with which words.
    pub fn end(&mut self) -> (Option<ExitStatus>, CameraError) {
        let status = self.reap();
        // What it wrote last may still be on its way through the pipe.
        let _ = self.said_all.recv_timeout(GRACE);
        let shown = status.map_or_else(|| "it closed its output".to_owned(), |status| status.to_string());
        let program = self.program.clone();
        (status, CameraError::Exited { program, status: shown, last_words: self.last_words() })
    }

    fn last_words(&self) -> String {
        let words = self.last_words.lock().unwrap_or_else(PoisonError::into_inner);
        let lines = words.lines.iter().cloned().chain(words.shown(&words.line));
        lines.collect::<Vec<_>>().join(" / ")
    }

    /// Waits a little for the program to end, asks it to, then ends it and all that it started. Never leaves a zombie.
    fn reap(&mut self) -> Option<ExitStatus> {
        if self.is_reaped {
            return None;
        }
        let mut ended = self.ended_within(GRACE);
        if ended.is_none() {
            self.signal(Signal::TERM);
            ended = self.ended_within(GRACE);
        }
        // What the program has started and left behind is in its group, and would keep its pipes open.
        self.signal(Signal::KILL);
        self.is_reaped = true;
        let status = self.child.wait().ok();
        ended.and(status)
    }

    /// The status of a program that ends within `time`. Where the kernel cannot wait for one, it does not.
    fn ended_within(&self, time: Duration) -> Option<()> {
        let time = Timespec::try_from(time).ok()?;
        let descriptor = self.descriptor.as_ref()?;
        let ended = poll(&mut [PollFd::new(descriptor, PollFlags::IN)], Some(&time)).ok()?;
        (ended > 0).then_some(())
    }

    fn signal(&self, signal: Signal) {
        if let Some(group) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            // A group that is gone already is as it should be.
            let _ = kill_process_group(group, signal);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.is_reaped {
            self.signal(Signal::TERM);
            self.reap();
        }
    }
}

/// Reads standard error to its end, so that the program never waits for us to.
fn listen(mut errors: ChildStderr, words: &Mutex<LastWords>, said_all: Sender<()>) {
    let mut buffer = [0; 4096];
    loop {
        match errors.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => words.lock().unwrap_or_else(PoisonError::into_inner).hear(&buffer[..count]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => break,
        }
    }
    drop(said_all);
}

impl LastWords {
    fn hear(&mut self, bytes: &[u8]) {
        for byte in bytes {
            match byte {
                b'\n' | b'\r' => self.end_line(),
                b' '..=b'~' if self.line.len() < MAX_LINE_BYTES => self.line.push(char::from(*byte)),
                _ => {}
            }
        }
    }

    fn end_line(&mut self) {
        let line = std::mem::take(&mut self.line);
        if let Some(line) = self.shown(&line).filter(|line| self.lines.last() != Some(line)) {
            self.lines.push(line);
        }
        if self.lines.len() > KEPT_LINES {
            self.lines.remove(0);
        }
    }

    /// A line without secrets, cut; none if nothing is left.
    fn shown(&self, line: &str) -> Option<String> {
        let hide = |line: String, (secret, shown): &(String, String)| line.replace(secret, shown);
        let line = self.secrets.iter().fold(line.to_owned(), hide);
        let line: String = line.trim().chars().take(KEPT_BYTES).collect();
        (!line.is_empty()).then_some(line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_words_are_few_short_and_without_secrets() {
        let mut words = LastWords { secrets: vec![("me:secret".to_owned(), "…".to_owned())], ..LastWords::default() };
        words.hear(b"one\ntwo\r\n\n\x1b[31mrtsp://me:secret@camera: refused\x1b[0m\nsame\nsame\nsame\nlast\n");
        assert_eq!(words.lines, ["two", "[31mrtsp://…@camera: refused[0m", "same", "last"]);
        words.hear(&[[b'x'; 190].as_slice(), b"me:secret", &[b'x'; 1 << 20]].concat());
        assert_eq!(words.line.len(), MAX_LINE_BYTES);
        let shown = words.shown(&words.line).unwrap();
        assert!(shown.chars().count() == KEPT_BYTES && !shown.contains("me:"), "{shown}");
    }
}
