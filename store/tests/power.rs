//! Power cuts. A day's work goes to a recorded disk; then disks are made as a cut at any moment may leave them, the
//! kernel mounts each, the store opens, and everything that was acknowledged before the cut must be there.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use store::{Limits, Store};

use crate::disk::{self, Asked, Mounted, RecordedDisk, Repair};
use crate::samples::{self, Draws, Evicts, Ledger, Said, Work, caption};

const DISK_BYTES: usize = 24 << 20;
const SECTOR: usize = 512;
const FOLDER: &str = "pairs";
/// Budgets in which nothing is evicted, and in which a third of a day's work is.
const ROOMY: u64 = 16 << 20;
const TIGHT: u64 = 1_300_000;
/// Small, so that everything happens within a short record: logs are folded in, databases are full.
const LIMITS: Limits = Limits { budget: ROOMY, file_bytes: 768 << 10, log_bytes: 192 << 10 };

/// Everything that happened to a disk, and what the store said when.
struct Recording {
    base: Vec<u8>,
    asked: Vec<Asked>,
    /// With the number of requests that the disk had answered by then.
    said: Vec<(usize, Said)>,
    /// Requests before the store was opened.
    start: usize,
}

impl Recording {
    fn make(seed: u64, budget: u64) -> Result<Recording> {
        let disk = RecordedDisk::mount(DISK_BYTES)?;
        let (base, start) = (disk.image(), disk.asked());
        Recording::go_on(disk, seed, budget, Recording { base, asked: Vec::new(), said: Vec::new(), start })
    }

    /// What a disk is asked after a cut: the kernel and the store recover, and work goes on.
    fn after(&self, cut: usize, fate: Fate, draws: &mut Draws, seed: u64) -> Result<Recording> {
        let base = self.disk_after(cut, fate, draws);
        let said = self.said.iter().filter(|(asked, _)| *asked <= cut).map(|(_, said)| (0, said.clone())).collect();
        let disk = RecordedDisk::of(base.clone())?;
        Recording::go_on(disk, seed, ROOMY, Recording { base, asked: Vec::new(), said, start: 0 })
    }

    fn go_on(disk: RecordedDisk, seed: u64, budget: u64, mut recording: Recording) -> Result<Recording> {
        let work = Work { seed, pairs: 160, most_bytes: 12_000, limits: Limits { budget, ..LIMITS } };
        let said = &mut recording.said;
        let store = samples::work(&disk.path().join(FOLDER), work, |line| said.push((disk.asked(), line)))?;
        drop(store);
        let trouble = said.iter().find(|(_, said)| matches!(said, Said::Trouble(_)));
        ensure!(trouble.is_none() || budget == TIGHT, "the disk was in trouble: {trouble:?}");
        recording.asked = disk.record();
        Ok(recording)
    }

    /// A moment since the store was opened.
    fn cut(&self, draws: &mut Draws) -> usize {
        self.start + draws.below(self.asked.len() + 1 - self.start)
    }

    /// What must be there when the power is cut after so many requests.
    fn ledger(&self, cut: usize) -> Ledger {
        Ledger::of(self.said.iter().filter(|(asked, _)| *asked <= cut).map(|(_, said)| said))
    }

    /// A disk after a cut: what was flushed, and of what came after it as much as the draws say.
    fn disk_after(&self, cut: usize, fate: Fate, draws: &mut Draws) -> Vec<u8> {
        let mut image = self.base.clone();
        let flushed = self.asked[..cut].iter().rposition(|asked| matches!(asked, Asked::Flush)).unwrap_or(0);
        for (place, asked) in self.asked[..cut].iter().enumerate().skip(self.start) {
            let Asked::Write { at, bytes } = asked else { continue };
            let is_safe = place < flushed || matches!(fate, Fate::Prefix);
            if is_safe {
                image[*at..at + bytes.len()].copy_from_slice(bytes);
                continue;
            }
            for (number, sector) in bytes.chunks(SECTOR).enumerate() {
                let arrives = match fate {
                    Fate::Prefix => true,
                    // Whole blocks, as the file system writes them, in whatever order.
                    Fate::Subset(seed) => Draws(seed ^ (place as u64) << 20 ^ (number as u64 / 8)).below(2) == 0,
                    Fate::Torn => draws.below(2) == 0,
                };
                if arrives {
                    let at = at + number * SECTOR;
                    image[at..at + sector.len()].copy_from_slice(sector);
                }
            }
        }
        image
    }
}

/// What becomes of writes that were not flushed.
#[derive(Clone, Copy, Debug)]
enum Fate {
    /// All arrived.
    Prefix,
    /// Some blocks arrived.
    Subset(u64),
    /// Some sectors arrived.
    Torn,
}

/// Mounts, opens, compares, and goes on.
fn survive(image: &[u8], place: &Path, ledger: &Ledger) -> Result<Repair> {
    let path = place.join("image");
    std::fs::write(&path, image)?;
    let target = place.join("mounted");
    std::fs::create_dir_all(&target)?;
    let (mounted, repair) = disk::mount_after_cut(&path, &target).context("the kernel does not mount it")?;
    let folder = mounted.target.join(FOLDER);
    let (mut store, opened) = Store::open(&folder, caption("boot 9"), LIMITS)?;
    ensure!(opened.trouble.is_none(), "the store does not open: {opened:?}");
    ensure!(opened.lost.is_empty() && opened.set_aside.is_empty(), "a cut is taken for damage: {opened:?}");
    ledger.check(&folder)?;
    store.put(samples::pair(7, 2000), Duration::ZERO)?;
    ensure!(store.flush()?.len() == 1, "it does not go on");
    drop(store);
    drop(mounted);
    Ok(repair)
}

#[test]
fn no_power_cut_takes_an_acknowledged_pair_or_stops_the_store() -> Result<()> {
    let _alone = crate::alone();
    if let Err(error) = disk::can_mount() {
        crate::leave_out(&format!("{error:#}"));
        return Ok(());
    }
    let states = crate::count(60, 2000);
    let memory = Path::new("/dev/shm");
    let place = if memory.is_dir() { tempfile::tempdir_in(memory)? } else { tempfile::tempdir()? };
    let mut draws = Draws(6);
    let (mut checked, mut repaired) = (0, 0);
    let mut recording = Recording::make(1, ROOMY)?;
    let recordings = crate::count(3, 12);
    let per_recording = states.div_ceil(recordings);
    let mut evicts = Evicts::Nothing;
    for state in 0..states {
        let seed = 1 + (state / per_recording) as u64;
        if state % per_recording == 0 && state > 0 {
            // In turn: the same disk after a cut, one that is too small, a new one.
            (recording, evicts) = match seed % 3 {
                2 => {
                    let cut = recording.cut(&mut draws);
                    (recording.after(cut, Fate::Torn, &mut draws, seed)?, Evicts::Nothing)
                }
                0 => (Recording::make(seed, TIGHT)?, Evicts::Some),
                _ => (Recording::make(seed, ROOMY)?, Evicts::Nothing),
            };
        }
        let cut = recording.cut(&mut draws);
        let fate = [Fate::Prefix, Fate::Subset(draws.next()), Fate::Torn][state % 3];
        let image = recording.disk_after(cut, fate, &mut draws);
        let ledger = recording.ledger(cut).where_it(evicts);
        let repair = survive(&image, place.path(), &ledger).with_context(|| {
            format!("state {state}: cut after {cut} of {} requests, {fate:?}, {evicts:?}", recording.asked.len())
        })?;
        checked += ledger.pairs();
        repaired += usize::from(repair == Repair::Superblock);
    }
    println!("{states} states: 0 of {checked} acknowledged pairs lost, 0 refusals to start");
    println!("{repaired} of them were mounted after e2fsck: the cut went through the superblock");
    ensure!(repaired * 50 <= states, "the kernel hardly mounts what the rig makes: {repaired} of {states}");
    Ok(())
}

/// SQLite with the setting that most programs use with a log; the store uses FULL.
#[test]
fn the_rig_finds_what_a_database_loses_that_does_not_flush_its_log() -> Result<()> {
    let _alone = crate::alone();
    if let Err(error) = disk::can_mount() {
        crate::leave_out(&format!("{error:#}"));
        return Ok(());
    }
    let disk = RecordedDisk::mount(DISK_BYTES)?;
    let (base, start) = (disk.image(), disk.asked());
    let database = rusqlite::Connection::open(disk.path().join("x.db"))?;
    database.execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; CREATE TABLE x (y BLOB);")?;
    let mut rows = Vec::new();
    for number in 0..40 {
        database.execute("INSERT INTO x VALUES (?1)", [noise(number, 20_000)])?;
        rows.push(disk.asked());
    }
    drop(database);
    let recording = Recording { base, asked: disk.record(), said: Vec::new(), start };
    drop(disk);
    let place = tempfile::tempdir()?;
    let mut draws = Draws(8);
    let (mut losses, mut states) = (0, 0);
    while losses < 3 && states < 120 {
        states += 1;
        let cut = recording.cut(&mut draws);
        let image = recording.disk_after(cut, Fate::Subset(draws.next()), &mut draws);
        let path = place.path().join("image");
        std::fs::write(&path, image)?;
        let target = place.path().join("mounted");
        std::fs::create_dir_all(&target)?;
        let mounted = Mounted::new(&path, &target)?;
        let count = rusqlite::Connection::open(mounted.target.join("x.db"))
            .and_then(|database| database.query_row("SELECT count(*) FROM x", [], |row| row.get::<_, u32>(0)));
        losses += usize::from((count.unwrap_or(0) as usize) < rows.iter().filter(|asked| **asked <= cut).count());
    }
    println!("NORMAL in place of FULL: {losses} of {states} states lost committed rows");
    ensure!(losses > 0, "the rig finds nothing");
    Ok(())
}

#[test]
fn a_pair_costs_few_flushes_and_is_written_little_more_than_twice() -> Result<()> {
    let _alone = crate::alone();
    let disk = match RecordedDisk::mount(64 << 20) {
        Ok(disk) => disk,
        Err(error) => {
            crate::leave_out(&format!("{error:#}"));
            return Ok(());
        }
    };
    let limits = Limits { budget: 60 << 20, ..Limits::default() };
    let (mut store, _) = Store::open(&disk.path().join(FOLDER), caption("boot 1"), limits)?;
    let start = disk.asked();
    let (mut kept, mut stored) = (0, 0);
    // Pictures of 60,000 bytes, as a camera of 640 x 480 gives them.
    for number in 0..400 {
        let mut pair = samples::pair(number, 2000);
        let jpeg = noise(number, 60_000);
        stored += jpeg.len() as u64;
        pair.jpeg = Some(jpeg);
        store.put(pair, Duration::ZERO)?;
        kept += store.commit(Duration::ZERO)?.len();
    }
    kept += store.flush()?.len();
    drop(store);
    let record = &disk.record()[start..];
    let flushes = record.iter().filter(|asked| matches!(asked, Asked::Flush)).count();
    let written: u64 = record.iter().map(written).sum();
    let (flushes, amplification) = (flushes as f64 / kept as f64, written as f64 / stored as f64);
    println!("{kept} pairs: {flushes:.3} flushes a pair, {amplification:.3} bytes written a byte of a picture");
    ensure!(kept == 400 && flushes <= 0.35 && amplification <= 2.5, "{flushes} flushes, {amplification}");
    Ok(())
}

fn noise(seed: u64, bytes: usize) -> Vec<u8> {
    let mut draws = Draws(seed);
    (0..bytes.div_ceil(8)).flat_map(|_| draws.next().to_le_bytes()).take(bytes).collect()
}

fn written(asked: &Asked) -> u64 {
    match asked {
        Asked::Write { bytes, .. } => bytes.len() as u64,
        Asked::Flush => 0,
    }
}

#[test]
fn a_disk_that_fails_stops_keeping_and_a_disk_that_works_again_goes_on() -> Result<()> {
    let _alone = crate::alone();
    let mut disk = match RecordedDisk::mount(DISK_BYTES) {
        Ok(disk) => disk,
        Err(error) => {
            crate::leave_out(&format!("{error:#}"));
            return Ok(());
        }
    };
    let folder = disk.path().join(FOLDER);
    let (mut store, _) = Store::open(&folder, caption("boot 1"), LIMITS)?;
    let mut said = Vec::new();
    for number in 0..40 {
        store.put(samples::pair(number, 5000), Duration::ZERO)?;
        said.extend(store.commit(Duration::ZERO)?.into_iter().map(Said::Acknowledged));
    }
    disk.fail(true);
    for number in 40..60 {
        // Every answer is an error with a reason, or a pair that really is safe.
        if store.put(samples::pair(number, 5000), Duration::ZERO).is_ok() && store.waiting() == 8 {
            ensure!(store.flush().is_err(), "a disk that takes nothing acknowledged a pair");
        }
    }
    ensure!(store.trouble().is_some());
    ensure!(store.try_again().is_err(), "the disk still fails");
    let waiting = store.waiting();
    ensure!(store.tally().refused.values().sum::<u64>() > 0 && waiting == 8);
    disk.fail(false);
    // ext4 gave up its journal, so it is mounted anew, as after a reset of the card. The store holds no file of it open
    // but its lock.
    drop(store);
    disk.remount()?;
    let (mut store, opened) = Store::open(&folder, caption("boot 1"), LIMITS)?;
    ensure!(opened.trouble.is_none(), "{opened:?}");
    store.put(samples::pair(99, 5000), Duration::ZERO)?;
    said.extend(store.flush()?.into_iter().map(Said::Acknowledged));
    Ledger::of(&said).check(&folder)
}
