//! The program itself. It is here too so that `cargo test` builds it for the tests that cross crates.

use std::process::{Command, Output};

fn edgeblip_export(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_edgeblip-export")).args(arguments).output().expect("cargo built it")
}

#[test]
fn help_names_every_flag() {
    let help = edgeblip_export(&["--help"]);
    let text = String::from_utf8_lossy(&help.stdout).into_owned();
    assert!(help.status.success(), "{help:?}");
    for flag in ["--captioner", "--matcher", "--answerer", "--out", "--precision", "--encoder-token", "--json"] {
        assert!(text.contains(flag), "{flag} is not in {text}");
    }
}

#[test]
fn the_version_is_that_of_the_package() {
    let version = edgeblip_export(&["--version"]);
    assert_eq!(String::from_utf8_lossy(&version.stdout), concat!("edgeblip-export ", env!("CARGO_PKG_VERSION"), "\n"));
}
