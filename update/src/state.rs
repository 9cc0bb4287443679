//! What is written down: what runs, what is tried, what was given back.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use blip::caption::Caption;
use exchange::release::{Outcome, Release, ReleasedFile};
use exchange::{Digest, Trust};
use serde::{Deserialize, Serialize};

/// How often a release is loaded before it is given back.
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
    pub health: exchange::release::Health,
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

    /// What is tried stays.
    pub(crate) fn commit(&mut self) {
        let Some(trial) = self.trial.take() else { return };
        self.before = self.current;
        self.current = trial.slot;
        if let Some(filled) = self.slots.get(&trial.slot) {
            let (release, sequence) = (filled.release, filled.sequence);
            self.report(Reported { release, sequence, outcome: Outcome::Kept });
        }
    }

    /// A slot is not used any more: what was tried is not tried again; what ran before runs on.
    pub(crate) fn give_back(&mut self, slot: Slot, reason: &str) {
        let reason = printable(reason);
        let was_tried = self.trial.is_some_and(|trial| trial.slot == slot) || self.current != slot;
        if self.trial.is_some_and(|trial| trial.slot == slot) {
            self.trial = None;
        }
        if let Some(Filled { release, sequence, .. }) = self.slots.remove(&slot) {
            if was_tried {
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
    pub(crate) fn other(&self, slot: Slot) -> Slot {
        let other = Slot::WRITABLE.into_iter().find(|other| *other != slot && self.slots.contains_key(other));
        other.unwrap_or_default()
    }

    /// The slot that may be written: nothing runs from it, and nothing is tried in it.
    pub(crate) fn free_slot(&self) -> Option<Slot> {
        let is_free = |slot: &Slot| *slot != self.current && self.trial.is_none_or(|trial| trial.slot != *slot);
        Slot::WRITABLE.into_iter().find(is_free)
    }

    pub(crate) fn filled(release: Digest, of: &Release) -> Filled {
        let Release { sequence, bundle, ref files, health, .. } = *of;
        Filled { release, sequence, bundle, files: files.clone(), health }
    }

    fn report(&mut self, reported: Reported) {
        self.reports.push(reported);
        let surplus = self.reports.len().saturating_sub(MAX_REPORTS);
        self.reports.drain(..surplus);
    }
}

/// As much of a reason as a report holds.
pub(crate) fn printable(reason: &str) -> Caption {
    let mut text = String::new();
    for c in reason.chars().map(|c| if c.is_control() { ' ' } else { c }) {
        if text.len() + c.len_utf8() > blip::caption::MAX_CAPTION_BYTES {
            break;
        }
        text.push(c);
    }
    let other = || Caption::new("it did not do what it should").expect("it can be printed");
    Caption::new(text).unwrap_or_else(|_| other())
}
