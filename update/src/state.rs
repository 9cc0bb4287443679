//! What is written down: what runs, what is tried, what was given back.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use blip::caption::Caption;
use exchange::release::{Health, Outcome, Release, ReleasedFile};
use exchange::{Digest, PublicKey, Trust};
use serde::{Deserialize, Serialize};

/// How often a release is tested, and how often the service loads it, before it is given back.
pub(crate) const TRIES: u8 = 3;
/// Most releases that are remembered as given back; the oldest are older than any that is offered.
const MAX_DENIED: usize = 64;
/// Most reports that wait to be sent.
const MAX_REPORTS: usize = 64;

/// Where a bundle lies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Slot {
    /// What the board came with, or what its configuration names.
    #[default]
    Factory,
    /// The first slot.
    A,
    /// The second slot.
    B,
}

/// A text that names no slot.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error("there is no slot {0:?}: factory, a or b")]
pub struct SlotError(String);

/// Everything that is written down.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// What is believed about releases; nothing until a host has granted a root.
    #[serde(default)]
    pub trust: Option<Trust>,
    /// The host that granted the root.
    #[serde(default)]
    pub host: Option<PublicKey>,
    /// What runs, unless something is tried.
    #[serde(default)]
    pub current: Slot,
    /// What ran before.
    #[serde(default)]
    pub before: Slot,
    /// What is tried.
    #[serde(default)]
    pub trial: Option<Trial>,
    /// What lies in the slots, wholly.
    #[serde(default)]
    pub slots: BTreeMap<Slot, Filled>,
    /// Releases that are not taken again.
    #[serde(default)]
    pub denied: Vec<Denied>,
    /// What the host has yet to hear.
    #[serde(default)]
    pub reports: Vec<Reported>,
    /// When the host was last heard to say which release is the newest, seconds since 1970.
    #[serde(default)]
    pub heard_s: Option<i64>,
    /// Until when that holds, seconds since 1970.
    #[serde(default)]
    pub fresh_until_s: Option<i64>,
    /// What came of the last look for a release, in words.
    #[serde(default)]
    pub last: Option<String>,
}

/// A release in a slot.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Filled {
    /// SHA-256 of the release's envelope.
    pub release: Digest,
    /// Its place in the order of releases.
    pub sequence: u64,
    /// The bundle's id.
    pub bundle: Digest,
    /// Its files.
    pub files: BTreeMap<String, ReleasedFile>,
    /// What it must do to stay.
    pub health: Health,
    /// How often its test was begun.
    #[serde(default)]
    pub tests: u8,
    /// Whether the service has kept it: nothing else runs unless it is tried.
    #[serde(default)]
    pub is_kept: bool,
}

/// A release that is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trial {
    /// Where it lies.
    pub slot: Slot,
    /// How often it may still be loaded.
    pub tries: u8,
}

/// A release that is not taken again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Denied {
    /// SHA-256 of its envelope.
    pub release: Digest,
    /// Its place in the order of releases.
    pub sequence: u64,
    /// Why.
    pub reason: Caption,
}

/// What the host has yet to hear.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reported {
    /// SHA-256 of the release's envelope.
    pub release: Digest,
    /// Its place in the order of releases.
    pub sequence: u64,
    /// What became of it.
    pub outcome: Outcome,
}

impl Slot {
    /// The slots that releases go to.
    pub const WRITABLE: [Slot; 2] = [Slot::A, Slot::B];

    /// As people and folders call it.
    pub fn name(self) -> &'static str {
        match self {
            Slot::Factory => "factory",
            Slot::A => "a",
            Slot::B => "b",
        }
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Slot {
    type Err = SlotError;

    fn from_str(text: &str) -> Result<Slot, SlotError> {
        let all = [Slot::Factory, Slot::A, Slot::B];
        all.into_iter().find(|slot| slot.name() == text).ok_or_else(|| SlotError(text.chars().take(40).collect()))
    }
}

impl State {
    /// What is to be loaded. A try is counted; a release without one left is given back.
    pub(crate) fn begin(&mut self) -> Slot {
        match &mut self.trial {
            Some(Trial { slot, tries: 0 }) => {
                let slot = *slot;
                self.give_back(slot, &format!("it did not come up in {TRIES} tries"));
                self.current
            }
            Some(trial) => {
                trial.tries -= 1;
                trial.slot
            }
            None => self.current,
        }
    }

    /// What is tried stays, if it is still what was loaded.
    pub(crate) fn commit(&mut self, slot: Slot, release: Option<Digest>) {
        let is_loaded = |trial: &mut Trial| trial.slot == slot;
        if self.release_in(slot) != release {
            return;
        }
        let Some(trial) = self.trial.take_if(is_loaded) else { return };
        self.before = self.current;
        self.current = trial.slot;
        if let Some(filled) = self.slots.get_mut(&trial.slot) {
            filled.is_kept = true;
            let (release, sequence) = (filled.release, filled.sequence);
            self.report(Reported { release, sequence, outcome: Outcome::Kept });
        }
    }

    /// A release is about to be tested: what it must do, or nothing if it has been tested so often that it is given back.
    pub(crate) fn begin_test(&mut self, slot: Slot) -> Option<Health> {
        let filled = self.slots.get_mut(&slot)?;
        if filled.tests >= TRIES {
            self.give_back(slot, &format!("its test did not end in {TRIES} tries"));
            return None;
        }
        filled.tests += 1;
        Some(filled.health)
    }

    /// A test that was begun could not be started: it was none.
    pub(crate) fn forget_test(&mut self, slot: Slot) {
        if let Some(filled) = self.slots.get_mut(&slot) {
            filled.tests = filled.tests.saturating_sub(1);
        }
    }

    /// The service is to try a slot. If it was given back, somebody wants it all the same.
    pub(crate) fn propose(&mut self, slot: Slot) {
        if let Some(filled) = self.slots.get_mut(&slot) {
            filled.tests = 0;
            let release = filled.release;
            self.denied.retain(|denied| denied.release != release);
        }
        self.trial = if slot == self.current { None } else { Some(Trial { slot, tries: TRIES }) };
    }

    /// What is tried, or else what runs, is left for what ran before, and not taken again.
    pub(crate) fn roll_back(&mut self) {
        let left = match self.trial.take() {
            Some(trial) => trial.slot,
            None => {
                let is_there = self.before != self.current && self.may_run(self.before);
                std::mem::replace(&mut self.current, if is_there { self.before } else { Slot::Factory })
            }
        };
        self.before = Slot::Factory;
        if let Some(filled) = self.slots.get(&left) {
            let (release, sequence, reason) = (filled.release, filled.sequence, Caption::cut("the operator went back"));
            self.deny(release, sequence, reason.clone());
            self.report(Reported { release, sequence, outcome: Outcome::Returned(reason) });
        }
    }

    /// A slot is not used any more: what was tried is not tried again; what ran before runs on.
    pub(crate) fn give_back(&mut self, slot: Slot, reason: &str) {
        let reason = Caption::cut(reason);
        let is_tried = self.trial.is_some_and(|trial| trial.slot == slot);
        let was_kept = self.current == slot && !is_tried;
        if is_tried {
            self.trial = None;
        }
        if let Some(Filled { release, sequence, .. }) = self.slots.remove(&slot) {
            // What was kept has become damaged, and may come again.
            if !was_kept {
                self.deny(release, sequence, reason.clone());
            }
            self.report(Reported { release, sequence, outcome: Outcome::Returned(reason) });
        }
        if self.current == slot {
            self.current = self.other(slot);
        }
        if self.before == slot {
            self.before = Slot::Factory;
        }
    }

    pub(crate) fn deny(&mut self, release: Digest, sequence: u64, reason: Caption) {
        self.denied.retain(|denied| denied.release != release);
        self.denied.push(Denied { release, sequence, reason });
        let surplus = self.denied.len().saturating_sub(MAX_DENIED);
        self.denied.drain(..surplus);
    }

    /// Where to go when a slot is of no use.
    fn other(&self, slot: Slot) -> Slot {
        Slot::WRITABLE.into_iter().find(|other| *other != slot && self.may_run(*other)).unwrap_or_default()
    }

    /// Whether something may run without a try: the service has kept it, and nobody has given it back.
    fn may_run(&self, slot: Slot) -> bool {
        let is_denied = |release: Digest| self.denied.iter().any(|denied| denied.release == release);
        slot == Slot::Factory
            || self.slots.get(&slot).is_some_and(|filled| filled.is_kept && !is_denied(filled.release))
    }

    /// Empties a slot, so that it may be written: nothing runs from it, nothing is tried in it, and if there is a choice
    /// nobody would go back to it.
    pub(crate) fn free_slot(&mut self) -> Option<Slot> {
        let is_free = |slot: &Slot| *slot != self.current && self.trial.is_none_or(|trial| trial.slot != *slot);
        let slot = Slot::WRITABLE.into_iter().filter(is_free).min_by_key(|slot| self.may_run(*slot))?;
        self.slots.remove(&slot);
        if self.before == slot {
            self.before = Slot::Factory;
        }
        Some(slot)
    }

    /// The slot that is to run: what is tried, or else what runs.
    pub(crate) fn wanted(&self) -> Slot {
        self.trial.map_or(self.current, |trial| trial.slot)
    }

    /// The release that lies in a slot.
    pub(crate) fn release_in(&self, slot: Slot) -> Option<Digest> {
        self.slots.get(&slot).map(|filled| filled.release)
    }

    pub(crate) fn filled(release: Digest, of: &Release) -> Filled {
        let Release { sequence, bundle, ref files, health, .. } = *of;
        Filled { release, sequence, bundle, files: files.clone(), health, tests: 0, is_kept: false }
    }

    fn report(&mut self, reported: Reported) {
        self.reports.push(reported);
        let surplus = self.reports.len().saturating_sub(MAX_REPORTS);
        self.reports.drain(..surplus);
    }
}
