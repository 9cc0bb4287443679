//! Rot: bytes and sectors of a stored folder change while nobody looks.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use store::event::LabelAction;
use store::{Filter, Limits, PairId, Store};

use crate::samples::{self, Draws, Ledger, Work, caption};

/// Most pairs that one change may cost: those of one page, and one more whose chain of pages it cuts.
const MOST_LOST: usize = 10;
const SECTOR: usize = 512;
const LIMITS: Limits = Limits { budget: 1 << 30, file_bytes: 352 << 10, log_bytes: 64 << 10 };

/// A folder in memory, as it is after the power was cut: three databases, one of them with a log.
struct Base {
    files: Vec<(String, Vec<u8>)>,
    ledger: Ledger,
    ids: Vec<PairId>,
}

impl Base {
    fn make(seed: u64) -> Result<Base> {
        let folder = memory_folder()?;
        let mut said = Vec::new();
        let work = Work { seed, pairs: 120, most_bytes: 9000, limits: LIMITS };
        let store = samples::work(folder.path(), work, |line| said.push(line))?;
        let ids = store.reader().list(Filter { limit: usize::MAX, ..Filter::default() })?;
        let files = read_folder(folder.path())?;
        ensure!(files.iter().filter(|(name, _)| name.ends_with(".db")).count() >= 3, "there are few databases");
        Ok(Base { files, ledger: Ledger::of(&said), ids: ids.iter().map(|entry| entry.id).collect() })
    }

    /// Puts it into a folder with a change, and says what was changed.
    fn put(&self, folder: &Path, draws: &mut Draws) -> Result<String> {
        let total: usize = self.files.iter().map(|(_, bytes)| bytes.len()).sum();
        let mut place = draws.below(total);
        let mut what = String::new();
        for (name, bytes) in &self.files {
            let mut bytes = bytes.clone();
            if what.is_empty() && place < bytes.len() {
                what = format!("{name}: {}", change(&mut bytes, place, draws));
            } else {
                place = place.saturating_sub(bytes.len());
            }
            std::fs::write(folder.join(name), bytes)?;
        }
        Ok(what)
    }
}

fn change(bytes: &mut [u8], place: usize, draws: &mut Draws) -> String {
    let sector = place / SECTOR * SECTOR..(place / SECTOR * SECTOR + SECTOR).min(bytes.len());
    match draws.below(5) {
        0 => {
            bytes[sector.clone()].fill(0);
            format!("sector {sector:?} is zero")
        }
        1 => {
            bytes[sector.clone()].fill_with(|| draws.next() as u8);
            format!("sector {sector:?} is noise")
        }
        2 => {
            bytes[place] ^= 1 << draws.below(8);
            format!("a bit of byte {place}")
        }
        _ => {
            bytes[place] = bytes[place].wrapping_add(1 + draws.below(255) as u8);
            format!("byte {place}")
        }
    }
}

/// Where the system has memory that looks like a disk, there: nothing here is about disks.
fn memory_folder() -> Result<tempfile::TempDir> {
    let memory = Path::new("/dev/shm");
    Ok(if memory.is_dir() { tempfile::tempdir_in(memory)? } else { tempfile::tempdir()? })
}

fn read_folder(path: &Path) -> Result<Vec<(String, Vec<u8>)>> {
    let mut files = Vec::new();
    for entry in path.read_dir()? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        // The index of a log is memory, not data.
        if !name.ends_with("-shm") && name != "lock" {
            files.push((name, std::fs::read(entry.path())?));
        }
    }
    files.sort();
    Ok(files)
}

/// Opens, looks at every pair, repairs, and looks again. Returns how many pairs it cost, and whether anything was found.
fn survive(folder: &Path, base: &Base) -> Result<(usize, bool)> {
    let (mut store, mut opened) = Store::open(folder, caption("boot 9"), LIMITS)?;
    if let Some(trouble) = opened.trouble {
        bail!("the store does not open: {trouble}");
    }
    // Nothing wrong is ever handed out, also before anybody looks for damage.
    for (id, stored) in base.ids.iter().zip(store.reader().get_many(&base.ids)?) {
        if let Ok(stored) = stored {
            ensure!(samples::is_the_sample(&stored.facts, stored.jpeg.as_deref()), "pair {id} is handed out wrong");
        }
    }
    let verification = store.repair()?;
    let repaired = store.take_report();
    let is_found = !verification.faults.is_empty() || opened.salvaged > 0 || !opened.set_aside.is_empty();
    opened.lost.extend(repaired.lost);
    let lost: BTreeSet<PairId> = opened.lost.iter().chain(&opened.unfinished).copied().collect();
    let mut missing = 0;
    for (id, stored) in base.ids.iter().zip(store.reader().get_many(&base.ids)?) {
        match stored {
            Ok(stored) => {
                ensure!(samples::is_the_sample(&stored.facts, stored.jpeg.as_deref()), "pair {id} is another one")
            }
            Err(_) if lost.contains(id) => missing += 1,
            Err(error) => bail!("pair {id} is gone and nobody says so: {error}"),
        }
    }
    let verification = store.reader().verify()?;
    ensure!(verification.faults.is_empty(), "after the repair: {:?}", verification.faults);
    // Whatever happened, it goes on.
    store.put(samples::pair(1, 1000), Duration::ZERO)?;
    let new = store.flush()?;
    ensure!(!base.ids.contains(&new[0]), "the name {} was given before", new[0]);
    if missing == 0 && lost.is_empty() {
        base.ledger.check(folder).or_else(|error| labels_alone(error, is_found))?;
    }
    Ok((missing, is_found))
}

/// A label may be lost as well; then damage was found.
fn labels_alone(error: anyhow::Error, is_found: bool) -> Result<()> {
    if is_found && error.to_string().contains("labels, not") { Ok(()) } else { Err(error) }
}

#[test]
fn every_change_is_found_its_loss_is_small_and_listed_and_the_store_opens() -> Result<()> {
    let rounds = crate::count(300, 10_000);
    let (mut found, mut lost, mut worst) = (0, 0, 0);
    let mut draws = Draws(4);
    let mut base = Base::make(0)?;
    for round in 0..rounds {
        if round % 1000 == 999 {
            base = Base::make(round as u64)?;
        }
        let folder = memory_folder()?;
        let what = base.put(folder.path(), &mut draws)?;
        let (missing, is_found) = survive(folder.path(), &base).with_context(|| format!("round {round}: {what}"))?;
        ensure!(missing <= MOST_LOST, "round {round}: {what}: {missing} pairs are lost");
        found += usize::from(is_found);
        lost += missing;
        worst = worst.max(missing);
    }
    println!(
        "{rounds} changes: {found} found, the others in bytes of no pair; {lost} pairs lost, at most {worst} by one"
    );
    Ok(())
}

#[test]
fn files_that_are_cut_empty_or_something_else_do_not_stop_the_store() -> Result<()> {
    let base = Base::make(1)?;
    let databases: Vec<&str> =
        base.files.iter().map(|(name, _)| name.as_str()).filter(|name| name.ends_with(".db")).collect();
    for name in &databases {
        for what in ["empty", "half", "text", "folder", "gone"] {
            let folder = memory_folder()?;
            base.put(folder.path(), &mut Draws(u64::MAX))?;
            for (file, bytes) in &base.files {
                std::fs::write(folder.path().join(file), bytes)?;
            }
            let path = folder.path().join(name);
            spoil(&path, what)?;
            let (mut store, opened) = Store::open(folder.path(), caption("boot 9"), LIMITS)?;
            if what != "folder" {
                ensure!(opened.trouble.is_none(), "{name} {what}: {:?}", opened.trouble);
                store.put(samples::pair(1, 1000), Duration::ZERO)?;
                store.flush().with_context(|| format!("{name} {what}"))?;
            }
            let here = store.reader().get_many(&base.ids)?.iter().filter(|pair| pair.is_ok()).count();
            // A log may have all that was cut off.
            if ["empty", "half", "text"].contains(&what) && here < base.ids.len() {
                ensure!(opened.set_aside.len() == 1, "{name} {what}: {opened:?}");
            }
            ensure!(here + base.ids.len() / 2 >= base.ids.len(), "{name} {what}: {here} of {} left", base.ids.len());
        }
    }
    Ok(())
}

fn spoil(path: &PathBuf, what: &str) -> Result<()> {
    let bytes = std::fs::read(path)?;
    match what {
        "empty" => std::fs::write(path, [])?,
        "half" => std::fs::write(path, &bytes[..bytes.len() / 2])?,
        "text" => std::fs::write(path, b"not a database\n".repeat(1000))?,
        _ => {
            std::fs::remove_file(path)?;
            if what == "folder" {
                std::fs::create_dir(path)?;
            }
        }
    }
    Ok(())
}

#[test]
fn a_salvage_that_the_power_cut_short_is_finished_or_done_again() -> Result<()> {
    let base = Base::make(2)?;
    let folder = memory_folder()?;
    for (file, bytes) in &base.files {
        std::fs::write(folder.path().join(file), bytes)?;
    }
    let first = folder.path().join("pairs-000001.db");
    let mut damaged = std::fs::read(&first)?;
    damaged[100] ^= 0xff;
    std::fs::write(&first, &damaged)?;
    std::fs::write(folder.path().join("salvaging-000099.db"), b"half")?;
    let (store, opened) = Store::open(folder.path(), caption("boot 9"), LIMITS)?;
    ensure!(opened.set_aside.len() == 1 && opened.lost.is_empty(), "{opened:?}");
    ensure!(!folder.path().join("salvaging-000099.db").exists());
    drop(store);
    // As if the power had failed before the damaged one was renamed.
    std::fs::rename(&opened.set_aside[0].path, &first)?;
    let (_store, again) = Store::open(folder.path(), caption("boot 9"), LIMITS)?;
    ensure!(again.set_aside[0].path == opened.set_aside[0].path && again.salvaged == 0, "{again:?}");
    ensure!(again.pairs == opened.pairs, "{again:?} {opened:?}");
    base.ledger.check(folder.path())
}

#[test]
fn commits_behind_a_damaged_place_of_the_log_are_rescued() -> Result<()> {
    let limits = Limits { log_bytes: 8 << 20, ..LIMITS };
    let original = memory_folder()?;
    let (mut store, _) = Store::open(original.path(), caption("boot 1"), limits)?;
    let mut ids = Vec::new();
    for number in 0..30 {
        store.put(samples::pair(number, 5000), Duration::ZERO)?;
        ids.extend(store.flush()?);
    }
    store.label(ids[29], samples::label(LabelAction::Add(caption("the last word"))))?;
    let files = read_folder(original.path())?;
    let (_, log) = files.iter().find(|(name, _)| name.ends_with("-wal")).context("the log is not folded in")?;
    let mut draws = Draws(9);
    for round in 0..crate::count(20, 200) {
        let folder = memory_folder()?;
        // The beginning, with the salt in it, is worth a round of its own.
        let place = if round == 0 { 20 } else { draws.below(log.len()) };
        for (name, bytes) in &files {
            let mut bytes = bytes.clone();
            if name.ends_with("-wal") && round == 1 {
                bytes[..SECTOR].fill(0);
            } else if name.ends_with("-wal") {
                bytes[place] ^= 0x10;
            }
            std::fs::write(folder.path().join(name), bytes)?;
        }
        let (store, opened) = Store::open(folder.path(), caption("boot 2"), limits)?;
        let missing: Vec<PairId> = opened.lost.iter().chain(&opened.unfinished).copied().collect();
        ensure!(missing.len() <= 1, "byte {place} of the log: {opened:?}");
        for (stored, id) in store.reader().get_many(&ids)?.into_iter().zip(&ids) {
            ensure!(missing.contains(id) || stored.is_ok(), "byte {place} of the log: {id} is gone and not listed");
            if let Ok(stored) = stored {
                ensure!(samples::is_the_sample(&stored.facts, stored.jpeg.as_deref()));
            }
        }
        ensure!(store.reader().verify()?.faults.is_empty());
    }
    Ok(())
}
