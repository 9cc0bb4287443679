//! Thousands of lives of a board: whatever happens in whatever order, it has something that works.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use exchange::Digest;
use update::{Fetched, Slot, Updates};

use crate::place::{Place, believing, fetch};

/// Numbers that differ from each other: splitmix64.
struct Draws(u64);

impl Draws {
    fn below(&mut self, most: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut drawn = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        drawn = (drawn ^ (drawn >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (drawn ^ (drawn >> 31)) % most
    }
}

/// Whether the release of a sequence works on a board: every third hangs or crashes.
fn works(sequence: u64) -> bool {
    !sequence.is_multiple_of(3)
}

struct Life {
    updates: Updates,
    place: Place,
    draws: Draws,
    sequence: u64,
    /// How often each release was loaded before it was kept, and how often it was tested.
    loads: BTreeMap<Digest, u32>,
    tests: BTreeMap<Digest, u32>,
    given_back: BTreeSet<Digest>,
    kept: u64,
    /// The newest release that was ever seen, as the board remembers.
    remembered: u64,
}

impl Life {
    /// A release was fetched: its test finds out whether it works, or does not notice, or takes the board down.
    fn test(&mut self, slot: Slot) {
        let filled = self.updates.state().slots[&slot].clone();
        assert!(!self.given_back.contains(&filled.release), "never again what was given back");
        if self.updates.begin_test(slot).unwrap().is_none() {
            self.given_back.insert(filled.release);
            return;
        }
        let tests = self.tests.entry(filled.release).or_default();
        *tests += 1;
        assert!(*tests <= 3, "release {} was tested {tests} times", filled.sequence);
        match self.draws.below(4) {
            0 => {}
            1 if !works(filled.sequence) => {
                self.given_back.insert(filled.release);
                self.updates.refuse(&self.updates.claim().unwrap(), slot, "its golden answers are others").unwrap();
            }
            _ => self.updates.propose(slot).unwrap(),
        }
    }

    fn roll_back(&mut self) {
        let state = self.updates.state();
        let left = state.trial.map_or(state.current, |trial| trial.slot);
        self.given_back.extend(state.slots.get(&left).map(|filled| filled.release));
        let slot = self.updates.roll_back().unwrap();
        assert!(slot == Slot::Factory || works(self.updates.state().slots[&slot].sequence));
    }

    /// The board starts, and its bundle works or not.
    fn start(&mut self) {
        let chosen = self.updates.begin().unwrap();
        let Some(folder) = &chosen.folder else { return };
        let manifest = fs::read_to_string(folder.join("manifest.json"));
        let Some(manifest) = manifest.ok().filter(|_| folder.join("weights.bin").is_file()) else {
            let release = self.updates.state().slots[&chosen.slot].release;
            self.updates.give_back(&chosen, "it cannot be opened").unwrap();
            if chosen.is_trial {
                self.given_back.insert(release);
            } else {
                // It was good, and comes again as any other.
                self.loads.remove(&release);
                self.tests.remove(&release);
            }
            return;
        };
        let sequence: u64 = manifest.strip_prefix("manifest ").unwrap().parse().unwrap();
        let filled = self.updates.state().slots[&chosen.slot].clone();
        assert_eq!(filled.sequence, sequence, "a slot has what the state says");
        assert!(!self.given_back.contains(&filled.release), "never again what was given back");
        if !chosen.is_trial {
            assert!(works(sequence), "only what works is kept");
            return;
        }
        let loads = self.loads.entry(filled.release).or_default();
        *loads += 1;
        assert!(*loads <= 3, "release {sequence} was loaded {loads} times");
        match (works(sequence), self.draws.below(3)) {
            (true, 0) | (false, 0 | 1) => {} // The power fails, or it hangs: nobody says anything.
            (true, _) => {
                self.updates.commit(&chosen).unwrap();
                assert!(sequence >= self.kept, "never an earlier one");
                self.kept = sequence;
            }
            (false, _) => {
                self.given_back.insert(filled.release);
                self.updates.give_back(&chosen, "its answers are wrong").unwrap();
            }
        }
    }

    fn step(&mut self) {
        match self.draws.below(7) {
            0 => {
                self.sequence += 1;
                self.place.release(self.sequence);
            }
            1 | 2 => {
                self.place.asked = 0;
                self.place.ends_at = Some(1 + self.draws.below(24));
                if let Ok(Fetched::Ready { slot, .. }) = fetch(&self.updates, &mut self.place) {
                    assert_ne!(slot, self.updates.state().current, "what runs is not written over");
                    self.test(slot);
                }
            }
            6 if self.draws.below(4) == 0 => self.roll_back(),
            3 if self.draws.below(4) == 0 => {
                let slot = [Slot::A, Slot::B][self.draws.below(2) as usize];
                drop(fs::remove_file(self.updates.folder_of(slot).join("weights.bin")));
            }
            _ => self.start(),
        }
        let state = self.updates.state();
        assert!(state.current == Slot::Factory || state.slots.contains_key(&state.current));
        assert!(state.trial.is_none_or(|trial| state.slots.contains_key(&trial.slot)));
        // A release that is given back by `begin` after its tries.
        self.given_back.extend(state.denied.iter().map(|denied| denied.release));
        let remembered = state.trust.unwrap().sequence();
        assert!(remembered >= self.remembered, "what is believed is never lowered");
        self.remembered = remembered;
    }
}

#[test]
fn a_board_always_has_something_that_works() {
    let lives = if std::env::var_os("EDGEBLIP_LONG").is_some() { 5000 } else { 100 };
    let mut ever_kept = 0;
    for seed in 0..lives {
        // Nothing is lost with it, and thousands of syncs cost nothing.
        let memory = std::path::Path::new("/dev/shm");
        let folder = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap();
        let mut life = Life {
            updates: believing(folder.path()),
            place: Place { weights: 5000, ..Place::new() },
            draws: Draws(seed),
            sequence: 0,
            loads: BTreeMap::new(),
            tests: BTreeMap::new(),
            given_back: BTreeSet::new(),
            kept: 0,
            remembered: 0,
        };
        for _ in 0..60 {
            life.step();
        }
        ever_kept += u64::from(life.kept > 0);
    }
    assert!(ever_kept * 2 > lives, "{ever_kept} of {lives} boards took a release");
}
