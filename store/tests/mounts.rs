//! Disks that are full or read-only, as the kernel makes them.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use store::{Filter, Limits, PairId, Reader, Store, StoreError, Trouble};

use crate::samples::{self, Ledger, Said, caption};

const LIMITS: Limits = Limits { budget: 1 << 30, file_bytes: 512 << 10, log_bytes: 128 << 10 };

/// A file system in memory, of so many KiB.
struct Small {
    folder: tempfile::TempDir,
}

impl Small {
    fn mount(kib: usize) -> Result<Small> {
        let small = Small { folder: tempfile::tempdir()? };
        small.run(&["-t", "tmpfs", "-o", &format!("size={kib}k"), "tmpfs"]).context("mounting takes root")?;
        Ok(small)
    }

    fn again(&self, options: &str) -> Result<()> {
        self.run(&["-o", &format!("remount,{options}")])
    }

    fn run(&self, arguments: &[&str]) -> Result<()> {
        let output =
            Command::new("mount").args(arguments).arg(self.folder.path()).output().context("starting mount")?;
        ensure!(output.status.success(), "mount {arguments:?}: {}", String::from_utf8_lossy(&output.stderr).trim());
        Ok(())
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.folder.path()).status();
    }
}

/// Puts pairs and commits groups of eight until the store is in trouble.
fn keep(store: &mut Store, numbers: std::ops::Range<u64>) -> Vec<Said> {
    let mut said = Vec::new();
    for number in numbers {
        if store.put(samples::pair(number, 8000), Duration::ZERO).is_err() {
            break;
        }
        said.extend(store.commit(Duration::ZERO).unwrap_or_default().into_iter().map(Said::Acknowledged));
    }
    said
}

fn small(kib: usize) -> Option<Small> {
    Small::mount(kib).inspect_err(|error| crate::leave_out(&format!("{error:#}"))).ok()
}

#[test]
fn a_full_disk_stops_keeping_until_there_is_room() -> Result<()> {
    let _alone = crate::alone();
    let Some(disk) = small(3000) else { return Ok(()) };
    let folder = disk.path().join("pairs");
    let (mut store, _) = Store::open(&folder, caption("boot 1"), LIMITS)?;
    let mut said = keep(&mut store, 0..2000);
    ensure!(matches!(store.trouble(), Some(Trouble::Full { .. })), "{:?}", store.trouble());
    ensure!(said.len() > 200, "only {} pairs", said.len());
    let filler = disk.path().join("filler");
    let _ = std::fs::write(&filler, vec![1; 4 << 20]);
    ensure!(store.try_again().is_err(), "there is no more room");
    ensure!(store.put(samples::pair(1, 100), Duration::ZERO).is_err());
    ensure!(store.tally().refused["disk full"] >= 1, "{:?}", store.tally());
    let (opened_anew, waiting) = (Store::open(&folder, caption("boot 1"), LIMITS), store.waiting());
    ensure!(matches!(opened_anew, Err(StoreError::Owned { .. })), "trouble does not give the folder away");
    disk.again("size=8m")?;
    let late = store.try_again()?;
    ensure!(late.len() == waiting, "{} of {waiting} that waited", late.len());
    said.extend(late.into_iter().map(Said::Acknowledged));
    ensure!(store.waiting() == 0 && store.trouble().is_none());
    let more = keep(&mut store, 3000..3016);
    ensure!(more.len() == 16, "{more:?}");
    said.extend(more);
    Ledger::of(&said).check(&folder)
}

#[test]
fn a_damaged_database_on_a_full_disk_waits_for_room() -> Result<()> {
    let _alone = crate::alone();
    let Some(disk) = small(3000) else { return Ok(()) };
    let folder = disk.path().join("pairs");
    let said = keep(&mut Store::open(&folder, caption("boot 1"), LIMITS)?.0, 0..200);
    let first = folder.join("pairs-000001.db");
    let mut bytes = std::fs::read(&first)?;
    bytes[0] ^= 1;
    std::fs::write(&first, bytes)?;
    let filler = disk.path().join("filler");
    let _ = std::fs::write(&filler, vec![1; 4 << 20]);
    // Room for what SQLite needs beside each database, and not for another database.
    let length = filler.metadata()?.len();
    std::fs::OpenOptions::new().write(true).open(&filler)?.set_len(length - (200 << 10))?;
    let (store, opened) = Store::open(&folder, caption("boot 2"), LIMITS)?;
    ensure!(opened.unsalvaged == [first] && opened.set_aside.is_empty(), "{opened:?}");
    drop(store);
    std::fs::remove_file(filler)?;
    let (_store, opened) = Store::open(&folder, caption("boot 3"), LIMITS)?;
    ensure!(opened.set_aside.len() == 1 && opened.lost.is_empty(), "{opened:?}");
    Ledger::of(&said).check(&folder)
}

#[test]
fn a_read_only_disk_is_read_and_nothing_is_kept_until_it_is_writable() -> Result<()> {
    let _alone = crate::alone();
    let Some(disk) = small(8000) else { return Ok(()) };
    let folder = disk.path().join("pairs");
    // As after a power cut: with a log, and nothing beside it.
    let elsewhere = tempfile::tempdir()?;
    let (mut store, _) = Store::open(elsewhere.path(), caption("boot 1"), LIMITS)?;
    let mut said = keep(&mut store, 0..40);
    std::fs::create_dir(&folder)?;
    for entry in elsewhere.path().read_dir()? {
        let entry = entry?;
        if !entry.file_name().to_string_lossy().ends_with("-shm") {
            std::fs::copy(entry.path(), folder.join(entry.file_name()))?;
        }
    }
    drop(store);
    disk.again("ro")?;
    ensure!(std::fs::write(folder.join("x"), "x").is_err(), "it is read-only");
    let (mut store, opened) = Store::open(&folder, caption("boot 2"), LIMITS)?;
    ensure!(matches!(opened.trouble, Some(Trouble::ReadOnly { .. })), "{opened:?}");
    ensure!(store.put(samples::pair(1, 100), Duration::ZERO).is_err());
    let listed = Reader::new(&folder).list(Filter { limit: 1000, ..Filter::default() })?;
    ensure!(listed.len() == said.len(), "{} of {} are listed", listed.len(), said.len());
    Ledger::of(&said).check(&folder)?;
    ensure!(store.try_again().is_err());
    disk.again("rw")?;
    store.try_again()?;
    let more = keep(&mut store, 50..58);
    ensure!(more.len() == 8, "{more:?}");
    said.extend(more);
    Ledger::of(&said).check(&folder)
}

#[test]
fn a_folder_that_is_not_there_is_made_when_it_can_be() -> Result<()> {
    let _alone = crate::alone();
    let folder = tempfile::tempdir()?;
    let place = folder.path().join("card");
    std::fs::write(&place, "in the way")?;
    let (mut store, opened) = Store::open(&place.join("pairs"), caption("boot 1"), LIMITS)?;
    ensure!(matches!(opened.trouble, Some(Trouble::Failing { .. })), "{opened:?}");
    ensure!(store.try_again().is_err());
    std::fs::remove_file(&place)?;
    ensure!(store.try_again()? == Vec::<PairId>::new());
    ensure!(keep(&mut store, 0..8).len() == 8);
    Ok(())
}
