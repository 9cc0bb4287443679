//! The program itself. It is here too so that `cargo test` builds it for the tests that cross crates.

use std::process::{Command, Output};

fn edgeblip(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_edgeblip")).args(arguments).output().expect("cargo built it")
}

#[test]
fn help_names_every_command() {
    let help = edgeblip(&["--help"]);
    let text = String::from_utf8_lossy(&help.stdout).into_owned();
    assert!(help.status.success(), "{help:?}");
    for command in ["caption", "score", "ask", "embed", "search", "bench"] {
        assert!(text.lines().any(|line| line.trim_start().starts_with(command)), "{command} is not in {text}");
    }
}

#[test]
fn the_version_is_that_of_the_package() {
    let version = edgeblip(&["--version"]);
    assert_eq!(String::from_utf8_lossy(&version.stdout), concat!("edgeblip ", env!("CARGO_PKG_VERSION"), "\n"));
}
