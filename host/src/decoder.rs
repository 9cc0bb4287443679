//! Pictures from anywhere, decoded where they can do no harm: in a child with little memory and little time.
//!
//! The child reads a length of four bytes, little-endian, and so many bytes of a picture, and answers with a line: `ok`, or
//! what is wrong with it. Where the length's highest bit is set, `ok` is followed by what the picture looks like. A picture at which it dies or falls silent is refused, and another child goes on.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use rustix::process::{Resource, Rlimit, setrlimit};
use store::pair::MAX_JPEG_BYTES;

use crate::likeness::likeness_of;

/// Most memory of a child, in bytes.
const MEMORY: u64 = 1 << 30;
/// Most processor time of a child, in seconds.
const PROCESSOR_S: u64 = 300;
/// Longest that one picture takes.
const PATIENCE: Duration = Duration::from_secs(20);
/// Pictures after which a child is relieved, so that none reaches its processor time by diligence.
const SHIFT: u32 = 4096;

/// In a length: what the picture looks like is asked for.
const LIKENESS: u32 = 1 << 31;

/// How a child is started: a program that calls [`decode`].
#[derive(Clone, Debug)]
pub struct Program {
    /// The program.
    pub path: PathBuf,
    /// Its arguments.
    pub arguments: Vec<String>,
}

/// A child, and its successors.
pub struct Decoder {
    program: Program,
    child: Option<Working>,
}

struct Working {
    child: Child,
    pictures: ChildStdin,
    answers: Receiver<String>,
    done: u32,
}

impl Decoder {
    /// Starts nothing yet.
    pub fn new(program: Program) -> Decoder {
        Decoder { program, child: None }
    }

    /// Whether a picture can be decoded: nothing if it can, else why not.
    ///
    /// # Errors
    /// A child that cannot be started at all.
    pub fn check(&mut self, picture: &[u8]) -> io::Result<Option<String>> {
        Ok(self.ask(picture, 0)?.err())
    }

    /// What a picture looks like ([`crate::likeness`]), or why it cannot be decoded.
    ///
    /// # Errors
    /// A child that cannot be started at all.
    pub fn likeness(&mut self, picture: &[u8]) -> io::Result<Result<u64, String>> {
        let read = |answer: String| u64::from_str_radix(answer.trim(), 16).map_err(|_| "gave no hash".to_owned());
        Ok(self.ask(picture, LIKENESS)?.and_then(read))
    }

    /// What follows `ok`, or what is wrong.
    fn ask(&mut self, picture: &[u8], question: u32) -> io::Result<Result<String, String>> {
        if picture.len() > MAX_JPEG_BYTES {
            return Ok(Err(format!("the picture has {} bytes", picture.len())));
        }
        let mut working = match self.child.take().filter(|working| working.done < SHIFT) {
            Some(working) => working,
            None => Working::start(&self.program)?,
        };
        let length = (u32::try_from(picture.len()).unwrap_or_default() | question).to_le_bytes();
        let written = working.pictures.write_all(&length).and_then(|()| working.pictures.write_all(picture));
        let answer = written.ok().and_then(|()| working.answers.recv_timeout(PATIENCE).ok());
        let Some(answer) = answer else {
            // Dropped, the child is ended: the next picture gets another.
            return Ok(Err("the picture took more memory or time than a picture may".to_owned()));
        };
        working.done += 1;
        self.child = Some(working);
        let rest = answer.strip_prefix("ok").filter(|rest| rest.is_empty() || rest.starts_with(' '));
        Ok(rest.map(str::to_owned).ok_or(answer))
    }
}

impl Working {
    fn start(program: &Program) -> io::Result<Working> {
        let mut command = Command::new(&program.path);
        command.args(&program.arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn()?;
        let (Some(pictures), Some(lines)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(io::Error::other("the child has no pipes"));
        };
        let (say, answers) = channel();
        // It ends when the child does.
        std::thread::spawn(move || {
            let mut lines = BufReader::new(lines.take(64 << 20)).lines();
            while let Some(Ok(line)) = lines.next() {
                if say.send(line).is_err() {
                    break;
                }
            }
        });
        Ok(Working { child, pictures, answers, done: 0 })
    }
}

impl Drop for Working {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The child's work: takes limits upon itself, and decodes until its input ends.
///
/// # Errors
/// A system that sets no limits; pipes that break.
pub fn decode() -> io::Result<()> {
    for (resource, most) in [(Resource::As, MEMORY), (Resource::Cpu, PROCESSOR_S), (Resource::Core, 0)] {
        setrlimit(resource, Rlimit { current: Some(most), maximum: Some(most) })?;
    }
    let mut pictures = io::stdin().lock();
    let mut answers = io::stdout().lock();
    let mut length = [0; 4];
    loop {
        match pictures.read_exact(&mut length) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            read => read?,
        }
        let length = u32::from_le_bytes(length);
        let (is_likeness, length) = (length & LIKENESS != 0, (length & !LIKENESS) as usize);
        if length > MAX_JPEG_BYTES {
            return Err(io::Error::other("a picture is too long"));
        }
        let mut picture = vec![0; length];
        pictures.read_exact(&mut picture)?;
        let answer = match is_likeness {
            true => likeness_of(&picture).map(|likeness| format!("ok {likeness:016x}")),
            false => picture::decode(&picture).map(|_| "ok".to_owned()),
        };
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => error.to_string().replace(['\n', '\r'], " "),
        };
        writeln!(answers, "{answer}")?;
        answers.flush()?;
    }
}
