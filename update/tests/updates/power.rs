//! The power fails at every write of an update: the disk is what a cut there may leave, the kernel mounts it, and the board
//! starts.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use update::{Fetched, Slot, Updates};

use crate::disk::{self, Asked, RecordedDisk};
use crate::place::{Place, believing, fetch};

const DISK_BYTES: usize = 24 << 20;
const FOLDER: &str = "updates";
const SECTOR: usize = 512;

/// Two releases, the second over the first.
fn update(folder: &Path, place: &mut Place) -> Result<()> {
    let updates = believing(folder);
    for sequence in [1, 2] {
        place.release(sequence);
        let Fetched::Ready { slot, .. } = fetch(&updates, place)? else { anyhow::bail!("it is not there") };
        updates.propose(slot)?;
        let chosen = updates.begin()?;
        ensure!(chosen.slot == slot);
        updates.commit(&chosen)?;
    }
    Ok(())
}

/// A disk after a cut: what was flushed, and some of what came after it.
fn after(base: &[u8], asked: &[Asked], cut: usize, seed: u64) -> Vec<u8> {
    let mut image = base.to_vec();
    let flushed = asked[..cut].iter().rposition(|asked| matches!(asked, Asked::Flush)).unwrap_or(0);
    for (place, asked) in asked[..cut].iter().enumerate() {
        let Asked::Write { at, bytes } = asked else { continue };
        for (number, sector) in bytes.chunks(SECTOR).enumerate() {
            let drawn = (seed ^ ((place as u64) << 8) ^ (number as u64 / 8)).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 60;
            if place < flushed || seed == 0 || drawn.is_multiple_of(2) {
                let at = at + number * SECTOR;
                image[at..at + sector.len()].copy_from_slice(sector);
            }
        }
    }
    image
}

/// The board starts with something that is whole, and takes the newest release up in the end.
fn survive(image: &[u8], place: &Path) -> Result<Slot> {
    let path = place.join("image");
    fs::write(&path, image)?;
    let target = place.join("mounted");
    fs::create_dir_all(&target)?;
    let (mounted, _) = disk::mount_after_cut(&path, &target).context("the kernel does not mount it")?;
    let updates = Updates::at(&mounted.target.join(FOLDER));
    let chosen = updates.begin()?;
    if chosen.slot != Slot::Factory {
        ensure!(updates.verify(chosen.slot)?.is_empty(), "what is to be loaded is not whole");
    }
    let first = chosen.slot;
    if chosen.is_trial {
        updates.commit(&chosen)?;
    }
    updates.believe(&crate::place::root(), crate::place::host())?;
    let mut host = Place::new();
    host.release(1);
    host.release(2);
    if let Fetched::Ready { slot, .. } = fetch(&updates, &mut host)? {
        updates.propose(slot)?;
        let chosen = updates.begin()?;
        ensure!(chosen.slot == slot);
        updates.commit(&chosen)?;
    }
    let running = updates.begin()?;
    ensure!(!running.is_trial && updates.verify(running.slot)?.is_empty());
    ensure!(updates.state().slots[&running.slot].sequence == 2, "it goes on to the newest release");
    drop(mounted);
    Ok(first)
}

#[test]
fn no_power_cut_leaves_a_board_without_a_model() -> Result<()> {
    if let Err(error) = disk::can_mount() {
        ensure!(std::env::var_os("EDGEBLIP_RIGS").is_none(), "{error:#}");
        eprintln!("left out: {error:#}");
        return Ok(());
    }
    let disk = RecordedDisk::mount(DISK_BYTES)?;
    let base = disk.image();
    let start = disk.asked();
    update(&disk.path().join(FOLDER), &mut Place::new())?;
    let asked: Vec<Asked> = disk.record().split_off(start);
    let memory = Path::new("/dev/shm");
    let place = if memory.is_dir() { tempfile::tempdir_in(memory)? } else { tempfile::tempdir()? };
    let step = if std::env::var_os("EDGEBLIP_LONG").is_some() { 1 } else { asked.len().div_ceil(24) };
    let (mut cuts, mut started) = (0, std::collections::BTreeMap::<Slot, u32>::new());
    for cut in (0..=asked.len()).step_by(step) {
        for seed in [0, 1 + cut as u64] {
            let image = after(&base, &asked, cut, seed);
            let slot =
                survive(&image, place.path()).with_context(|| format!("cut {cut} of {}, seed {seed}", asked.len()))?;
            *started.entry(slot).or_default() += 1;
            cuts += 1;
        }
    }
    println!("{cuts} cuts in {} requests of the disk: {started:?}", asked.len());
    ensure!(started.len() == 3, "{started:?}");
    Ok(())
}
