//! Places where no bundle can be made.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use tempfile::TempDir;

use super::ensure_empty;
use crate::bundles::repository;
use crate::command_line::{Ran, finish, program, run};

const CAPTIONER: &str = "tests/goldens/tiny-b/captioner";

fn export(out: &Path) -> Result<Ran> {
    run("edgeblip-export", &[CAPTIONER.as_ref(), "--out".as_ref(), out.as_os_str()])
}

#[test]
fn what_is_there_already_is_left_alone() -> Result<()> {
    let folder = TempDir::new()?;
    let place = |name: &str| folder.path().join(name);
    std::fs::create_dir(place("empty"))?;
    std::fs::write(place("file"), "mine")?;
    let mut there = vec!["empty", "file"];
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink(place("nowhere"), place("dangling"))?;
        there.push("dangling");
    }
    for name in &there {
        let out = place(name);
        let shown = out.to_str().context("a plain name")?;
        export(&out)?.refused(&[shown, "exists already: choose another --out or remove it first"])?;
    }
    assert_eq!(std::fs::read(place("file"))?, b"mine");
    ensure_empty(&place("empty"))?;
    assert_eq!(folder.path().read_dir()?.count(), there.len());
    Ok(())
}

#[test]
fn a_folder_inside_a_file_cannot_be_made() -> Result<()> {
    let folder = TempDir::new()?;
    let file = folder.path().join("file");
    std::fs::write(&file, "mine")?;
    export(&file.join("bundle"))?.refused(&["file"])?;
    export(&file.join("deep/bundle"))?.refused(&["file"])?;
    assert_eq!(std::fs::read(file)?, b"mine");
    assert_eq!(folder.path().read_dir()?.count(), 1);
    Ok(())
}

/// A limit on the length of a file, which the shell counts in blocks of 512 or 1024 bytes, fails as a full disk does.
#[cfg(unix)]
#[test]
fn a_file_that_cannot_be_written_to_its_end_leaves_nothing() -> Result<()> {
    let folder = TempDir::new()?;
    let out = folder.path().join("made/for/bundle");
    let exporter = program("edgeblip-export")?;
    for blocks in [0, 4, 30] {
        let script = format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$0\" \"$@\"");
        let mut command = Command::new("sh");
        command.args(["-c", &script]).arg(&exporter).arg(CAPTIONER).arg("--out").arg(&out);
        let ran = finish(&mut command)?;
        assert_eq!(ran.code, 1, "{blocks} blocks: {}", ran.err);
        ran.refused(&["File too large", "nothing was left behind; free space or choose another --out"])?;
        ensure_empty(folder.path())?;
    }
    Ok(())
}

/// Needs the right to mount; without it the test above stands for this one.
#[cfg(target_os = "linux")]
#[test]
fn a_disk_that_is_full_leaves_nothing() -> Result<()> {
    struct Mounted<'a>(&'a Path);
    impl Drop for Mounted<'_> {
        fn drop(&mut self) {
            let _ = Command::new("umount").arg(self.0).status();
        }
    }
    let folder = TempDir::new()?;
    for size in ["8k", "64k", "200k"] {
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size}"), "none"])
            .arg(folder.path())
            .output();
        if !mount.is_ok_and(|done| done.status.success()) {
            println!("not allowed to mount: no full disk to try");
            return Ok(());
        }
        let _mounted = Mounted(folder.path());
        let ran = export(&folder.path().join("made/for/bundle"))?;
        assert_eq!(ran.code, 1, "{size}: {}", ran.err);
        ran.refused(&["No space left on device", "nothing was left behind; free space or choose another --out"])?;
        ensure_empty(folder.path())?;
    }
    Ok(())
}

#[test]
fn a_name_that_commands_the_terminal_does_not_reach_it() -> Result<()> {
    let folder = TempDir::new()?;
    let odd = "\u{1b}[31mred\u{7}\r\u{9b}2J\u{202e}";
    let exporter = |arguments: &[&Path]| run("edgeblip-export", arguments);
    let out = folder.path().join(odd);
    let ran = exporter(&[&repository(CAPTIONER), "--out".as_ref(), &out])?;
    assert!(ran.content()?.contains("[31mred") && !ran.out.contains('\u{202e}'), "{}", ran.out);
    assert!(out.is_dir());
    exporter(&[&repository(CAPTIONER), "--out".as_ref(), &out])?.refused(&["[31mred", "exists already"])?;
    exporter(&[&folder.path().join(format!("{odd}no")), "--out".as_ref(), &folder.path().join("b")])?
        .refused(&["[31mred"])?;
    Ok(())
}
