//! A release's first test: in a process of its own, with the limits of its health contract, before the service sees it.
//!
//! Anonymous memory is limited by the kernel (`RLIMIT_DATA`), so that a model that eats memory ends before the board does. The
//! weights are mapped from their file and are no data; so the peak of all resident memory is compared as well, at the end.

use std::io::{self, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, Signal, nice, set_parent_process_death_signal, setrlimit};

use crate::bundle::Bundle;
use crate::golden;
use crate::installation::every_role;
use crate::model::Model;

/// From one look at the child to the next.
const TURN: Duration = Duration::from_millis(50);
/// Most of the end of what the child says that is kept, in bytes.
const MAX_WORDS: usize = 4096;

/// What a bundle may take, and how close it must come.
#[derive(Clone, Copy, Debug)]
pub struct Contract {
    /// Most memory, in MiB.
    pub memory_mib: u32,
    /// Most seconds for loading and every golden answer.
    pub seconds: u32,
    /// How far a log-probability may be off.
    pub tolerance: f32,
}

/// Tests a bundle in this process, which is made for it alone: its limits stay.
///
/// # Errors
/// Why the bundle is not to be used.
pub fn test_here(folder: &Path, threads: usize, contract: Contract) -> Result<(), String> {
    let most = u64::from(contract.memory_mib) << 20;
    // A test whose parent is gone would hang as long as it likes.
    let _ = set_parent_process_death_signal(Some(Signal::KILL));
    // Where the kernel does not let us, the peak is still compared below.
    let _ = setrlimit(Resource::Data, Rlimit { current: Some(most), maximum: Some(most) });
    let _ = nice(10);
    let tested = || -> Result<(), Box<dyn std::error::Error>> {
        let bundle = Bundle::open(folder)?;
        let roles = every_role(&bundle);
        golden::check_within(&Model::load(Arc::new(bundle), &roles, threads)?, contract.tolerance)?;
        Ok(())
    };
    tested().map_err(|error| terminal::explained(error.as_ref()))?;
    match peak_kib() {
        Some(peak) if peak > u64::from(contract.memory_mib) << 10 => {
            Err(format!("it takes {} MiB of memory, and may take {}", peak >> 10, contract.memory_mib))
        }
        _ => Ok(()),
    }
}

/// Lets a child test a bundle, with a command that calls [`test_here`]: what it says against the bundle, or how it ended.
///
/// # Errors
/// A child that cannot be started, which says nothing about the bundle.
pub fn test_in_child(mut command: Command, contract: Contract) -> io::Result<Result<(), String>> {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    Ok(judge(command.spawn()?, contract))
}

fn judge(mut child: Child, contract: Contract) -> Result<(), String> {
    // All of it is read, so that a child that says much does not wait for us.
    let said = child.stderr.take().map(|said| std::thread::spawn(move || last_of(said)));
    let deadline = Instant::now() + Duration::from_secs(u64::from(contract.seconds));
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) if Instant::now() < deadline => std::thread::sleep(TURN),
            _ => {
                // Nothing is lost if it has just ended.
                let _ = child.kill();
                let _ = child.wait();
                return Err(format!("it has not given its golden answers within {} s", contract.seconds));
            }
        }
    };
    if status.success() {
        return Ok(());
    }
    let words = said.and_then(|said| said.join().ok()).unwrap_or_default();
    let words = String::from_utf8_lossy(&words);
    let last = words.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
    let last = last.trim_start_matches("edgeblip: ");
    Err(if status.code().is_some() && !last.is_empty() {
        last.to_owned()
    } else {
        format!("its test ended with {status}: {last}")
    })
}

/// The end of what somebody says, who may be gone in the middle of a word.
fn last_of(mut said: impl Read) -> Vec<u8> {
    let (mut words, mut piece) = (Vec::new(), [0; MAX_WORDS]);
    while let Ok(count @ 1..) = said.read(&mut piece) {
        words.extend_from_slice(piece.get(..count).unwrap_or_default());
        words.drain(..words.len().saturating_sub(MAX_WORDS));
    }
    words
}

/// The most memory that this process has had, in KiB; nothing where the system does not say.
fn peak_kib() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().trim_end_matches(" kB").trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tested(script: &str, seconds: u32) -> Result<(), String> {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        test_in_child(command, Contract { memory_mib: 1, seconds, tolerance: 0.0 }).unwrap()
    }

    #[test]
    fn a_child_that_fails_dies_or_hangs_says_why() {
        assert_eq!(tested("true", 60), Ok(()));
        assert_eq!(
            tested("echo first >&2; echo edgeblip: the last word >&2; exit 1", 60),
            Err("the last word".to_owned())
        );
        let died = tested("kill -9 $$", 60).unwrap_err();
        assert!(died.contains("signal: 9"), "{died}");
        assert!(tested("exit 3", 60).unwrap_err().contains("exit status: 3"));
        assert!(tested("exec sleep 1000", 1).unwrap_err().contains("within 1 s"));
    }

    #[test]
    fn a_child_that_says_much_is_heard_to_its_end() {
        let said = tested("yes | head -c 300000 >&2; echo the last word >&2; exit 1", 60);
        assert_eq!(said, Err("the last word".to_owned()));
        assert_eq!(last_of([b'x'; 3 * MAX_WORDS].as_slice()).len(), MAX_WORDS);
    }
}
