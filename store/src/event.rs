//! What happens to a pair after it was stored: labels by people, and its removal. Events are added, never changed.

use blip::caption::{Caption, Origin};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::pair::{Decision, PairFacts, PairId, Stamp, State, Text};

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

/// The texts that go with a picture after what people said. See [`crate::StoredPair::texts`].
pub fn texts(facts: &PairFacts, labels: &[Label]) -> Vec<Text> {
    let is_kept = |text: &&Text| text.decision == Decision::Kept;
    let mut texts: Vec<Text> = facts.texts.iter().filter(is_kept).cloned().collect();
    let mut is_accepted = false;
    for label in labels {
        match &label.action {
            LabelAction::Add(words) => texts.push(by_a_person(words)),
            LabelAction::Rewrite(words) => texts = vec![by_a_person(words)],
            LabelAction::Accept => is_accepted = true,
            LabelAction::Reject => is_accepted = false,
        }
    }
    let score = |text: &Text| text.itm.or(text.itc).unwrap_or(f32::NEG_INFINITY);
    if texts.is_empty() && is_accepted {
        texts.extend(facts.texts.iter().max_by(|one, other| score(one).total_cmp(&score(other))).cloned());
    }
    let is_machines = |text: &Text| text.origin != Origin::Human;
    texts.sort_by(|one, other| is_machines(one).cmp(&is_machines(other)).then(score(other).total_cmp(&score(one))));
    texts
}

fn by_a_person(words: &Caption) -> Text {
    let (words, origin, decision) = (words.clone(), Origin::Human, Decision::Kept);
    Text { words, origin, itm: None, itc: None, log_prob: None, decision, model: None }
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

#[cfg(test)]
mod tests {
    use crate::pair::Sensor;

    use super::*;

    fn caption(words: &str) -> Caption {
        Caption::new(words).unwrap()
    }

    fn facts(texts: &[(&str, f32, bool)]) -> PairFacts {
        let text = |(words, itm, is_kept): &(&str, f32, bool)| Text {
            itm: Some(*itm),
            origin: Origin::Caption,
            decision: if *is_kept { Decision::Kept } else { Decision::Rejected(caption("threshold")) },
            ..by_a_person(&caption(words))
        };
        PairFacts {
            id: PairId::first_of(1).unwrap(),
            boot_id: caption("boot"),
            jpeg_bytes: 1,
            texts: texts.iter().map(text).collect(),
            sensor: Sensor {
                camera: caption("a"),
                trigger: caption("b"),
                exposure_us: None,
                temperature_c: None,
                throttled: None,
            },
            place: None,
            taken: Stamp::default(),
            bundle: None,
            vector: None,
        }
    }

    fn after(texts: &[(&str, f32, bool)], actions: Vec<LabelAction>) -> Vec<String> {
        let label = |action| Label { action, by: None, at: Stamp::default() };
        let labels: Vec<Label> = actions.into_iter().map(label).collect();
        super::texts(&facts(texts), &labels).into_iter().map(|text| text.words.as_str().to_owned()).collect()
    }

    #[test]
    fn texts_are_what_the_filter_kept_and_what_people_said_last() {
        use LabelAction::{Accept, Add, Reject, Rewrite};
        let both = [("an owl", 0.6, true), ("a bus", 0.1, false), ("a bird", 0.9, true)];
        assert_eq!(after(&both, vec![]), ["a bird", "an owl"]);
        assert_eq!(after(&both, vec![Add(caption("my owl"))]), ["my owl", "a bird", "an owl"]);
        let again = vec![Rewrite(caption("one")), Rewrite(caption("two")), Add(caption("three"))];
        assert_eq!(after(&both, again), ["two", "three"]);
        let none = [("a bus", 0.1, false), ("a car", 0.3, false)];
        assert_eq!(after(&none, vec![Accept]), ["a car"]);
        assert!(after(&none, vec![Accept, Reject]).is_empty());
    }
}
