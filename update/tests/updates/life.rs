//! Thousands of lives of a board: whatever happens in whatever order, it has something that works.

use std::collections::BTreeMap;
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
    /// How often each release was loaded before it was kept.
    loads: BTreeMap<Digest, u32>,
    kept: u64,
}

impl Life {
    /// The board starts, and its bundle works or not.
    fn start(&mut self) {
        let chosen = self.updates.begin().unwrap();
        let Some(folder) = &chosen.folder else { return };
        let manifest = fs::read_to_string(folder.join("manifest.json"));
        let Some(manifest) = manifest.ok().filter(|_| folder.join("weights.bin").is_file()) else {
            self.updates.give_back(chosen.slot, "it cannot be opened").unwrap();
            return;
        };
        let sequence: u64 = manifest.strip_prefix("manifest ").unwrap().parse().unwrap();
        let filled = self.updates.state().slots[&chosen.slot].clone();
        assert_eq!(filled.sequence, sequence, "a slot has what the state says");
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
                self.updates.commit().unwrap();
                assert!(sequence >= self.kept, "never an earlier one");
                self.kept = sequence;
            }
            (false, _) => drop(self.updates.give_back(chosen.slot, "its answers are wrong").unwrap()),
        }
    }

    fn step(&mut self) {
        match self.draws.below(6) {
            0 => {
                self.sequence += 1;
                self.place.release(self.sequence);
            }
            1 | 2 => {
                self.place.asked = 0;
                self.place.ends_at = Some(1 + self.draws.below(24));
                if let Ok(Fetched::Ready { slot, .. }) = fetch(&self.updates, &mut self.place) {
                    assert_ne!(slot, self.updates.state().current, "what runs is not written over");
                    self.updates.propose(slot).unwrap();
                }
            }
            3 if self.draws.below(4) == 0 => {
                let slot = [Slot::A, Slot::B][self.draws.below(2) as usize];
                let folder = self.updates.begin().unwrap().folder;
                let parent = folder.and_then(|folder| folder.parent().map(|above| above.join(slot.name())));
                if let Some(weights) = parent.map(|folder| folder.join("weights.bin")) {
                    drop(fs::remove_file(weights));
                }
            }
            _ => self.start(),
        }
        let state = self.updates.state();
        assert!(state.current == Slot::Factory || state.slots.contains_key(&state.current));
        assert!(state.trial.is_none_or(|trial| state.slots.contains_key(&trial.slot)));
    }
}

#[test]
fn a_board_always_has_something_that_works() {
    let lives = if std::env::var_os("EDGEBLIP_LONG").is_some() { 2000 } else { 40 };
    let mut ever_kept = 0;
    for seed in 0..lives {
        let folder = tempfile::tempdir().unwrap();
        let mut life = Life {
            updates: believing(folder.path()),
            place: Place::new(),
            draws: Draws(seed),
            sequence: 0,
            loads: BTreeMap::new(),
            kept: 0,
        };
        for _ in 0..40 {
            life.step();
        }
        ever_kept += u64::from(life.kept > 0);
    }
    assert!(ever_kept * 2 > lives, "{ever_kept} of {lives} boards took a release");
}
