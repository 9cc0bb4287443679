//! A writer is killed at a random system call, or its system calls fail for a while, by strace.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context, Result, bail, ensure};
use store::{Limits, Store};

use crate::samples::{Draws, Ledger, Said, caption};

const PAIRS: &str = "60";
const LIMITS: Limits = Limits { budget: 8 << 30, file_bytes: 384 << 10, log_bytes: 96 << 10 };
/// Starting and ending are not what is tested.
const NOT_KILLED: [&str; 4] = ["execve", "exit_group", "arch_prctl", "rseq"];
/// Which calls fail in which way. Standard output is left alone: a writer that cannot speak promises nothing.
const FAULTS: [(&str, &str); 12] = [
    ("pwrite64", "ENOSPC"),
    ("pwrite64", "EIO"),
    ("pwrite64", "EROFS"),
    ("pwrite64", "EDQUOT"),
    ("fdatasync", "EIO"),
    ("fsync", "EIO"),
    ("fdatasync", "ENOSPC"),
    ("ftruncate", "EIO"),
    ("openat", "EROFS"),
    ("openat", "EMFILE"),
    ("pread64", "EIO"),
    ("rename", "EIO"),
];

/// The system calls of a run, by name, from when the folder is there.
struct Trace {
    calls: Vec<(String, usize)>,
}

fn writer() -> Result<PathBuf> {
    let tests = std::env::current_exe()?;
    let built = tests.parent().and_then(Path::parent).context("tests are built in a folder of a folder")?;
    let writer = built.join("examples/keep_pairs");
    ensure!(writer.exists(), "{} is not built: run the tests with cargo test", writer.display());
    Ok(writer)
}

fn memory_folder() -> Result<tempfile::TempDir> {
    // A kill takes nothing from a file system that the kernel has; so the fastest one will do.
    let memory = Path::new("/dev/shm");
    Ok(if memory.is_dir() { tempfile::tempdir_in(memory)? } else { tempfile::tempdir()? })
}

fn run(folder: &Path, seed: u64, options: &[&str]) -> Result<Output> {
    let mut command = Command::new("strace");
    // Without its filter of system calls, with which strace sends no signals.
    command.args(["-f", "-qq"]).args(options).arg(writer()?);
    command.arg(folder).arg(seed.to_string()).arg(PAIRS).output().context("starting strace")
}

fn said(output: &Output) -> Vec<Said> {
    String::from_utf8_lossy(&output.stdout).lines().filter_map(Said::parse).collect()
}

impl Trace {
    fn take(seed: u64) -> Result<Trace> {
        let folder = memory_folder()?;
        let log = folder.path().join("trace");
        let store = folder.path().join("pairs");
        let log_name = log.to_str().context("a temporary folder has a plain name")?;
        let output = run(&store, seed, &["-o", log_name])?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        ensure!(Ledger::of(&said(&output)).pairs() > 30);
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        let mut calls = Vec::new();
        let mut has_begun = false;
        for line in std::fs::read_to_string(&log)?.lines() {
            // With -f a line starts with the process.
            let Some(name) = line.trim_start_matches(|c: char| c.is_ascii_digit() || c == ' ').split_once('(') else {
                continue;
            };
            let count = counts.entry(name.0.to_owned()).or_default();
            *count += 1;
            has_begun |= line.contains("/pairs/lock");
            if has_begun && !NOT_KILLED.contains(&name.0) {
                calls.push((name.0.to_owned(), *count));
            }
        }
        ensure!(calls.len() > 500, "only {} system calls were seen", calls.len());
        Ok(Trace { calls })
    }

    /// How often a call occurs from when the folder is there: the first and the last.
    fn range(&self, name: &str) -> Option<(usize, usize)> {
        let mut places = self.calls.iter().filter(|(call, _)| call == name).map(|(_, count)| *count);
        let first = places.next()?;
        Some((first, places.next_back().unwrap_or(first)))
    }
}

/// Whether strace can trace here.
fn can_trace() -> bool {
    Command::new("strace").args(["-qq", "-o", "/dev/null", "true"]).status().is_ok_and(|status| status.success())
}

fn check(folder: &Path, said: &[Said]) -> Result<usize> {
    let ledger = Ledger::of(said);
    let (_store, opened) = Store::open(folder, caption("boot 9"), LIMITS)?;
    ensure!(opened.trouble.is_none() && opened.lost.is_empty(), "{opened:?}");
    ledger.check(folder)?;
    Ok(ledger.pairs())
}

#[test]
fn a_writer_that_is_killed_at_any_system_call_loses_nothing() -> Result<()> {
    let _alone = crate::alone();
    if !can_trace() {
        crate::leave_out("strace cannot trace here");
        return Ok(());
    }
    let rounds = crate::count(20, 500);
    let mut draws = Draws(5);
    let (mut pairs, mut killed) = (0, 0);
    let mut trace = Trace::take(0)?;
    for round in 0..rounds {
        let seed = (round / 50) as u64;
        if round % 50 == 0 && round > 0 {
            trace = Trace::take(seed)?;
        }
        let (name, occurrence) = &trace.calls[draws.below(trace.calls.len())];
        let folder = memory_folder()?;
        let store = folder.path().join("pairs");
        let inject = format!("inject={name}:signal=SIGKILL:when={occurrence}");
        let output = run(&store, seed, &["-o", "/dev/null", "-e", &format!("trace={name}"), "-e", &inject])?;
        killed += usize::from(!output.status.success());
        pairs += check(&store, &said(&output)).with_context(|| format!("round {round}: {inject}"))?;
    }
    println!("{rounds} kills, {killed} before the end: 0 of {pairs} acknowledged pairs lost, 0 refusals to start");
    ensure!(killed * 10 >= rounds * 9, "only {killed} of {rounds} were killed");
    Ok(())
}

#[test]
fn system_calls_that_fail_for_a_while_lose_nothing_and_keeping_goes_on() -> Result<()> {
    let _alone = crate::alone();
    if !can_trace() {
        crate::leave_out("strace cannot trace here");
        return Ok(());
    }
    let rounds = crate::count(24, 480);
    let mut draws = Draws(7);
    let (mut pairs, mut troubled) = (0, 0);
    let trace = Trace::take(1)?;
    for round in 0..rounds {
        let (name, error) = FAULTS[round % FAULTS.len()];
        let (first, last) = trace.range(name).with_context(|| format!("the writer never calls {name}"))?;
        let start = first + draws.below(last + 1 - first);
        let end = start + draws.below(12);
        let folder = memory_folder()?;
        let store = folder.path().join("pairs");
        let inject = format!("inject={name}:error={error}:when={start}..{end}");
        let output = run(&store, 1, &["-o", "/dev/null", "-e", &format!("trace={name}"), "-e", &inject])?;
        if !output.status.success() {
            bail!("round {round}: {inject}: the writer ended: {}", String::from_utf8_lossy(&output.stderr));
        }
        let said = said(&output);
        troubled += usize::from(said.iter().any(|said| matches!(said, Said::Trouble(_))));
        pairs += check(&store, &said).with_context(|| format!("round {round}: {inject}"))?;
        // Early enough, keeping went on.
        if end * 4 < last * 3 {
            let is_last_good = said.iter().rev().find(|said| matches!(said, Said::Acknowledged(_) | Said::Trouble(_)));
            ensure!(
                matches!(is_last_good, Some(Said::Acknowledged(_))),
                "round {round}: {inject}: it stayed in trouble"
            );
        }
    }
    println!("{rounds} faults, {troubled} noticed: 0 of {pairs} acknowledged pairs lost, keeping went on");
    Ok(())
}

/// A page that cannot be read for a moment, while what SQLite could not read is salvaged, is not a page that is gone.
#[test]
fn reads_that_fail_for_a_moment_lose_nothing() -> Result<()> {
    let _alone = crate::alone();
    if !can_trace() {
        crate::leave_out("strace cannot trace here");
        return Ok(());
    }
    let (first, last) = Trace::take(1)?.range("pread64").context("the writer reads")?;
    let sweep = crate::count(20, 200);
    for round in 0..sweep {
        let start = first + (last - first) * round / sweep;
        let folder = memory_folder()?;
        let store = folder.path().join("pairs");
        let inject = format!("inject=pread64:error=EIO:when={start}..{}", start + 10);
        let output = run(&store, 1, &["-o", "/dev/null", "-e", "trace=pread64", "-e", &inject])?;
        ensure!(output.status.success(), "{inject}: the writer ended: {}", String::from_utf8_lossy(&output.stderr));
        check(&store, &said(&output)).with_context(|| inject.clone())?;
    }
    Ok(())
}
