//! Texts that are wrong in known ways, as texts from the web are.

use serde::{Deserialize, Serialize};

use super::Scenes;
use super::caption::{Arrangement, Truth, phrase, turned_or_recounted};
use super::chance::Chance;

/// A way in which a text is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NoiseKind {
    /// The caption of another scene.
    OtherScene,
    /// One noun is another.
    WrongNoun,
    /// The opposite relation, or another count.
    WrongRelationOrCount,
    /// At most half of the words, from the first.
    Truncated,
    /// Words that say nothing about any picture.
    Boilerplate,
    /// No text.
    Empty,
}

impl NoiseKind {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::OtherScene,
        Self::WrongNoun,
        Self::WrongRelationOrCount,
        Self::Truncated,
        Self::Boilerplate,
        Self::Empty,
    ];
}

/// How many texts are wrong, and how.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct NoiseSettings {
    /// Share of texts that are wrong, 0 to 1.
    pub share: f64,
    /// The ways, each as likely.
    pub kinds: Vec<NoiseKind>,
}

impl Default for NoiseSettings {
    fn default() -> Self {
        Self { share: 0.0, kinds: NoiseKind::ALL.to_vec() }
    }
}

/// A text as it comes with a picture, and what is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NoisyText {
    /// What a dataset holds.
    pub text: String,
    /// Kept aside: the way in which it is wrong, none if it is true.
    pub kind: Option<NoiseKind>,
}

/// The text of scene `index`.
pub(super) fn text(scenes: &Scenes, settings: &NoiseSettings, index: u64, chance: &mut Chance) -> NoisyText {
    let truth = scenes.truth(index);
    if chance.unit() >= settings.share {
        return NoisyText { text: truth.caption(), kind: None };
    }
    let kind = *chance.one_of(&settings.kinds);
    NoisyText { text: wrong(scenes, &truth, kind, chance), kind: Some(kind) }
}

/// A text that is wrong about `truth`.
pub(super) fn wrong(scenes: &Scenes, truth: &Truth, kind: NoiseKind, chance: &mut Chance) -> String {
    match kind {
        NoiseKind::OtherScene => other_scene(scenes, truth, chance),
        NoiseKind::WrongNoun => wrong_noun(scenes, truth, chance),
        NoiseKind::WrongRelationOrCount => recounted(scenes, truth),
        NoiseKind::Truncated => truncated(&truth.caption(), chance),
        NoiseKind::Boilerplate => (*chance.one_of(&BOILERPLATE)).to_owned(),
        NoiseKind::Empty => String::new(),
    }
}

fn recounted(scenes: &Scenes, truth: &Truth) -> String {
    phrase(&turned_or_recounted(&truth.arrangement, scenes.settings.largest_count), truth.background)
}

/// Where every scene has the same caption there is no other: then the count or the relation is wrong.
fn other_scene(scenes: &Scenes, truth: &Truth, chance: &mut Chance) -> String {
    let true_captions = truth.captions();
    let mut others = (0..DRAWS).map(|_| scenes.truth(chance.below(OTHERS) as u64).caption());
    others.find(|caption| !true_captions.contains(caption)).unwrap_or_else(|| recounted(scenes, truth))
}

/// Where there is no other noun, the count or the relation is wrong.
fn wrong_noun(scenes: &Scenes, truth: &Truth, chance: &mut Chance) -> String {
    let used: Vec<&str> = match &truth.arrangement {
        Arrangement::Group { noun, .. } => vec![noun],
        Arrangement::Pair { first, second, .. } => vec![first, second],
    };
    let others: Vec<&String> = scenes.nouns().iter().filter(|noun| !used.contains(&noun.as_str())).collect();
    if others.is_empty() {
        return recounted(scenes, truth);
    }
    let other = (*chance.one_of(&others)).clone();
    let arrangement = match truth.arrangement.clone() {
        Arrangement::Group { count, .. } => Arrangement::Group { noun: other, count },
        Arrangement::Pair { relation, second, .. } if chance.below(2) == 0 => {
            Arrangement::Pair { first: other, relation, second }
        }
        Arrangement::Pair { first, relation, .. } => Arrangement::Pair { first, relation, second: other },
    };
    phrase(&arrangement, truth.background)
}

fn truncated(caption: &str, chance: &mut Chance) -> String {
    let words: Vec<&str> = caption.split(' ').collect();
    words[..1 + chance.below(words.len() / 2)].join(" ")
}

/// Draws of another scene before it is taken that all are alike.
const DRAWS: usize = 64;
/// Other scenes are among the first of these.
const OTHERS: usize = 1 << 20;

const BOILERPLATE: [&str; 12] = [
    "click here to see more",
    "free shipping on all orders",
    "image may be subject to copyright",
    "photo by the author",
    "buy now and save",
    "stock photo of the day",
    "read more on our website",
    "this picture is not available",
    "img 2041 copy final",
    "posted by admin in news",
    "best quality low price",
    "share this with your friends",
];
