//! What happens to a pair after it was stored: labels by people, and its removal. Events are added, never changed.

use blip::caption::Caption;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::pair::{PairFacts, PairId, Stamp, State};

/// What the hash of an event starts with.
const HASH_MARK: &[u8] = b"edgeblip event 1\n";

/// What a person does with a pair.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LabelAction {
    /// One more text.
    Add(Caption),
    /// A text in place of those that are there, which stay on record.
    Rewrite(Caption),
    /// The pair is good, whatever the filter said.
    Accept,
    /// The pair is not to be learned from.
    Reject,
}

/// A person's word about a pair.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Label {
    /// What is said.
    pub action: LabelAction,
    /// Who says it, if known.
    pub by: Option<Caption>,
    /// When.
    pub at: Stamp,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Change {
    /// Somebody labelled it.
    Labelled(Label),
    /// It was removed because somebody asked for it. This is the tombstone, which stays until the copy at home is gone.
    Forgotten(Stamp),
}

/// An event of a pair. Stored as JSON with the fields in this order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Which pair.
    pub pair: PairId,
    /// Its boot, as the system names it: a tombstone must say whose copy is to go when the pair is no longer here.
    pub boot_id: Caption,
    /// What happened.
    pub change: Change,
}

impl Event {
    /// The label, unless it is a tombstone.
    pub fn label(&self) -> Option<&Label> {
        match &self.change {
            Change::Labelled(label) => Some(label),
            Change::Forgotten(_) => None,
        }
    }

    /// Whether it is a tombstone.
    pub fn is_tombstone(&self) -> bool {
        matches!(self.change, Change::Forgotten(_))
    }
}

/// SHA-256 of an event: a mark, and the event as it is stored.
pub(crate) fn hash(event: &[u8]) -> [u8; 32] {
    let mut hasher = Sha256::new();
    hasher.update(HASH_MARK);
    hasher.update(event);
    hasher.finalize().into()
}

/// A row that is what was stored.
pub(crate) fn checked(pair: i64, sha256: &[u8], event: &[u8]) -> Option<Event> {
    if hash(event) != sha256 {
        return None;
    }
    let event: Event = serde_json::from_slice(event).ok()?;
    (event.pair.to_row() == pair).then_some(event)
}

/// What the facts and the labels come to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Standing {
    pub(crate) state: State,
    pub(crate) score: f32,
    pub(crate) human: Human,
}

/// Whether people wrote about a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Human {
    Text,
    Nothing,
}

impl Standing {
    /// The last word counts; a person's text counts as one.
    pub(crate) fn of<'a>(facts: &PairFacts, labels: impl IntoIterator<Item = &'a Label>) -> Standing {
        let human = if facts.has_human_text() { Human::Text } else { Human::Nothing };
        let mut standing = Standing { state: facts.state(), score: facts.score(), human };
        for label in labels {
            standing = standing.after(&label.action);
        }
        standing
    }

    pub(crate) fn after(mut self, action: &LabelAction) -> Standing {
        if matches!(action, LabelAction::Add(_) | LabelAction::Rewrite(_)) {
            self.human = Human::Text;
        }
        self.state = if *action == LabelAction::Reject { State::Rejected } else { State::Kept };
        self
    }
}
