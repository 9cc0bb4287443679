//! What a real process writes to its standard error: this test starts itself again as one.

use std::fs;
use std::os::linux::fs::MetadataExt;
use std::process::{Command, Stdio};

use field::config::LogLevel;

/// Set in the process that logs.
const CHILD: &str = "EDGEBLIP_LOG_CHILD";

#[test]
fn a_process_that_logs() {
    if std::env::var_os(CHILD).is_none() {
        return;
    }
    field::log::start(LogLevel::Info);
    log::info!(target: "field", stage = "camera", wait_ms = 500; "it has gone\nfor now");
    log::debug!(target: "field", "not told");
    log::info!(target: "tract", "not told");
    field::log::set_level(LogLevel::Debug);
    log::debug!(target: "edgeblip::run", "told");
}

/// What the process writes to a file that it is told is the journal, or is not.
fn written(is_journal: impl Fn(u64) -> u64) -> String {
    let folder = tempfile::tempdir().expect("a folder for the log");
    let path = folder.path().join("log");
    let file = fs::File::create(&path).expect("a file for the log");
    let facts = file.metadata().expect("the file is there");
    let status = Command::new(std::env::current_exe().expect("this test has a file"))
        .args(["--exact", "a_process_that_logs", "--nocapture"])
        .env(CHILD, "yes")
        .env("JOURNAL_STREAM", format!("{}:{}", facts.st_dev(), is_journal(facts.st_ino())))
        .stdout(Stdio::null())
        .stderr(file)
        .status()
        .expect("this test can be started again");
    assert!(status.success());
    fs::read_to_string(&path).expect("the log is text")
}

#[test]
fn the_journal_gets_priorities_and_others_get_words() {
    assert_eq!(written(|inode| inode), "<6>msg=\"it has gone\\nfor now\" stage=camera wait_ms=500\n<7>msg=told\n");
    assert_eq!(
        written(|inode| inode + 1),
        "level=info msg=\"it has gone\\nfor now\" stage=camera wait_ms=500\nlevel=debug msg=told\n"
    );
}
