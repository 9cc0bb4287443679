//! What is true of a scene, and the words for it.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

/// Where the first of two objects is, seen from the second.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Relation {
    /// Its centre is further left.
    LeftOf,
    /// Its centre is further right.
    RightOf,
    /// Its centre is higher.
    Above,
    /// Its centre is lower.
    Below,
}

impl Relation {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::LeftOf, Self::RightOf, Self::Above, Self::Below];

    /// The words between the two nouns.
    pub fn words(self) -> &'static str {
        match self {
            Self::LeftOf => "to the left of",
            Self::RightOf => "to the right of",
            Self::Above => "above",
            Self::Below => "below",
        }
    }

    /// The relation of the second object to the first.
    pub fn opposite(self) -> Self {
        match self {
            Self::LeftOf => Self::RightOf,
            Self::RightOf => Self::LeftOf,
            Self::Above => Self::Below,
            Self::Below => Self::Above,
        }
    }
}

/// What lies behind the objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Background {
    /// "on grass".
    Grass,
    /// "on sand".
    Sand,
    /// "on water".
    Water,
    /// "in the snow".
    Snow,
    /// "at night".
    Night,
}

impl Background {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Grass, Self::Sand, Self::Water, Self::Snow, Self::Night];

    /// The words at the end of a caption.
    pub fn words(self) -> &'static str {
        match self {
            Self::Grass => "on grass",
            Self::Sand => "on sand",
            Self::Water => "on water",
            Self::Snow => "in the snow",
            Self::Night => "at night",
        }
    }
}

/// How the scene is lit. Captions do not name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Light {
    /// As it is.
    Day,
    /// Darker, and less colour.
    Overcast,
    /// Warmer.
    Dusk,
    /// Dark and blue; where the background is [`Background::Night`], and only there.
    Night,
}

/// What is said of a scene but its background.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Arrangement {
    /// One noun, once or more often.
    Group {
        /// In the singular.
        noun: String,
        /// 1 to [`super::LARGEST_COUNT`].
        count: usize,
    },
    /// Two nouns that differ.
    Pair {
        /// In the singular.
        first: String,
        /// Where the first is.
        relation: Relation,
        /// In the singular.
        second: String,
    },
}

/// One thing in a scene.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Object {
    /// In the singular.
    pub noun: String,
    /// The name of its cut-out.
    pub cutout: String,
    /// Left, top, width and height of its box, in pixels; within the picture.
    pub place: [f32; 4],
    /// Radians, clockwise, small.
    pub rotation: f32,
    /// What red, green and blue are multiplied by.
    pub tint: [f32; 3],
}

/// What is true of a scene.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Truth {
    /// Nouns, count or relation.
    pub arrangement: Arrangement,
    /// What lies behind.
    pub background: Background,
    /// How it is lit.
    pub light: Light,
    /// Each thing; for a pair the first noun's is first.
    pub objects: Vec<Object>,
}

impl Truth {
    /// The caption: "a car at night", "three buses on grass", "an owl to the left of a bear on sand".
    pub fn caption(&self) -> String {
        phrase(&self.arrangement, self.background)
    }

    /// Every caption of our grammar that is true and complete: a pair can be told from either side.
    pub fn captions(&self) -> Vec<String> {
        let mut captions = vec![self.caption()];
        if let Arrangement::Pair { first, relation, second } = &self.arrangement {
            let turned =
                Arrangement::Pair { first: second.clone(), relation: relation.opposite(), second: first.clone() };
            captions.push(phrase(&turned, self.background));
        }
        captions
    }
}

/// The words for an arrangement on a background.
pub(super) fn phrase(arrangement: &Arrangement, background: Background) -> String {
    let place = background.words();
    match arrangement {
        Arrangement::Group { noun, count: 1 } => format!("{} {place}", with_article(noun)),
        Arrangement::Group { noun, count } => format!("{} {} {place}", number(*count), plural(noun)),
        Arrangement::Pair { first, relation, second } => {
            format!("{} {} {} {place}", with_article(first), relation.words(), with_article(second))
        }
    }
}

/// A caption that could be of a scene but not of this one: the opposite relation, or another count.
pub fn wrong_but_plausible(truth: &Truth) -> String {
    phrase(&turned_or_recounted(&truth.arrangement, super::LARGEST_COUNT), truth.background)
}

/// The opposite relation; one object more, or one less where there are already `largest` (but never none).
pub(super) fn turned_or_recounted(arrangement: &Arrangement, largest: usize) -> Arrangement {
    match arrangement {
        Arrangement::Group { noun, count } => {
            let count = if *count > 1 && *count >= largest { count - 1 } else { count + 1 };
            Arrangement::Group { noun: noun.clone(), count }
        }
        Arrangement::Pair { first, relation, second } => {
            Arrangement::Pair { first: first.clone(), relation: relation.opposite(), second: second.clone() }
        }
    }
}

/// Every word that a caption of these can have, in alphabetical order.
pub(super) fn vocabulary(
    nouns: &[String],
    relations: &[Relation],
    backgrounds: &[Background],
    largest_count: usize,
) -> Vec<String> {
    let mut phrases: Vec<String> = nouns.iter().map(|noun| with_article(noun)).collect();
    for count in 2..=largest_count {
        phrases.push(number(count).to_owned());
        phrases.extend(nouns.iter().map(|noun| plural(noun)));
    }
    phrases.extend(relations.iter().map(|relation| relation.words().to_owned()));
    phrases.extend(backgrounds.iter().map(|background| background.words().to_owned()));
    let words: BTreeSet<&str> = phrases.iter().flat_map(|phrase| phrase.split(' ')).collect();
    words.into_iter().map(str::to_owned).collect()
}

fn number(count: usize) -> &'static str {
    match count {
        1 => "one",
        2 => "two",
        3 => "three",
        _ => "four",
    }
}

/// The noun after "a" or "an".
fn with_article(noun: &str) -> String {
    let sounds_open = match OPEN_BY_SOUND.iter().find(|(start, _)| noun.starts_with(start)) {
        Some((_, open)) => *open,
        None => noun.starts_with(['a', 'e', 'i', 'o', 'u']),
    };
    format!("{} {noun}", if sounds_open { "an" } else { "a" })
}

/// Beginnings whose sound is not that of their letter, and whether they take "an".
const OPEN_BY_SOUND: [(&str, bool); 5] =
    [("unicycle", false), ("unicorn", false), ("uniform", false), ("ukulele", false), ("hour", true)];

fn plural(noun: &str) -> String {
    let (before, last) = noun.rsplit_once(' ').map_or(("", noun), |(before, last)| (before, last));
    let last = match IRREGULAR.iter().find(|(one, _)| *one == last) {
        Some((_, many)) => (*many).to_owned(),
        None => regular_plural(last),
    };
    if before.is_empty() { last } else { format!("{before} {last}") }
}

fn regular_plural(noun: &str) -> String {
    let before_y = noun.strip_suffix('y').filter(|stem| !stem.ends_with(['a', 'e', 'i', 'o', 'u']));
    if let Some(stem) = before_y {
        return format!("{stem}ies");
    }
    let hisses = ["s", "x", "z", "ch", "sh"].iter().any(|end| noun.ends_with(end));
    format!("{noun}{}", if hisses { "es" } else { "s" })
}

const IRREGULAR: [(&str, &str); 16] = [
    ("fish", "fish"),
    ("sheep", "sheep"),
    ("deer", "deer"),
    ("mouse", "mice"),
    ("goose", "geese"),
    ("foot", "feet"),
    ("tooth", "teeth"),
    ("man", "men"),
    ("woman", "women"),
    ("child", "children"),
    ("leaf", "leaves"),
    ("wolf", "wolves"),
    ("knife", "knives"),
    ("loaf", "loaves"),
    ("tomato", "tomatoes"),
    ("potato", "potatoes"),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn truth(arrangement: Arrangement, background: Background) -> Truth {
        Truth { arrangement, background, light: Light::Day, objects: Vec::new() }
    }

    fn group(noun: &str, count: usize) -> Arrangement {
        Arrangement::Group { noun: noun.to_owned(), count }
    }

    fn pair(first: &str, relation: Relation, second: &str) -> Arrangement {
        Arrangement::Pair { first: first.to_owned(), relation, second: second.to_owned() }
    }

    #[test]
    fn captions_have_the_grammar_of_the_starter_scenes() {
        let captions = [
            (group("car", 1), Background::Night, "a car at night"),
            (group("bus", 3), Background::Grass, "three buses on grass"),
            (group("bear", 2), Background::Sand, "two bears on sand"),
            (group("owl", 1), Background::Sand, "an owl on sand"),
            (group("strawberry", 2), Background::Water, "two strawberries on water"),
            (
                pair("owl", Relation::RightOf, "elephant"),
                Background::Night,
                "an owl to the right of an elephant at night",
            ),
            (pair("star", Relation::Above, "house"), Background::Snow, "a star above a house in the snow"),
        ];
        for (arrangement, background, expected) in captions {
            assert_eq!(truth(arrangement, background).caption(), expected);
        }
    }

    #[test]
    fn plurals_and_articles_follow_english() {
        for (one, many) in
            [("box", "boxes"), ("fish", "fish"), ("key", "keys"), ("tea cup", "tea cups"), ("leaf", "leaves")]
        {
            assert_eq!(plural(one), many);
        }
        assert_eq!(with_article("unicorn"), "a unicorn");
        assert_eq!(with_article("umbrella"), "an umbrella");
    }

    #[test]
    fn a_pair_can_be_told_from_either_side() {
        let captions = truth(pair("owl", Relation::LeftOf, "bear"), Background::Sand).captions();
        assert_eq!(captions, ["an owl to the left of a bear on sand", "a bear to the right of an owl on sand"]);
    }

    #[test]
    fn a_wrong_but_plausible_caption_is_never_true() {
        for arrangement in [group("car", 1), group("car", 2), group("car", 3), pair("car", Relation::Below, "owl")] {
            let truth = truth(arrangement, Background::Grass);
            assert!(!truth.captions().contains(&wrong_but_plausible(&truth)));
        }
        assert_eq!(wrong_but_plausible(&truth(group("car", 3), Background::Grass)), "two cars on grass");
    }
}
