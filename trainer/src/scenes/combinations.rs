//! Which nouns, counts, relations and backgrounds may come together, and which of them are held out.

use sha2::{Digest, Sha256};

use super::caption::{Arrangement, Background, Relation, phrase};
use super::chance::Chance;
use super::{SceneError, SceneSettings, Split};

/// The combinations of one split.
pub struct Combinations {
    nouns: Vec<String>,
    relations: Vec<Relation>,
    backgrounds: Vec<Background>,
    largest_count: usize,
    pair_share: f64,
    held_out: f64,
    split: Split,
}

impl Combinations {
    /// # Errors
    /// A split without a group or a pair, where scenes have some.
    pub fn new(settings: &SceneSettings, nouns: &[String]) -> Result<Self, SceneError> {
        let combinations = Self {
            nouns: nouns.to_vec(),
            relations: settings.relations.clone(),
            backgrounds: settings.backgrounds.clone(),
            largest_count: settings.largest_count,
            pair_share: settings.pair_share,
            held_out: settings.held_out_combinations,
            split: settings.split,
        };
        let wanted = [
            ("groups", combinations.groups(), settings.pair_share < 1.0),
            ("pairs", combinations.pairs(), settings.pair_share > 0.0),
        ];
        for (kind, number, is_wanted) in wanted {
            let is_pair = kind == "pairs";
            let there = |index| {
                combinations.is_ours(&if is_pair { combinations.pair(index) } else { combinations.group(index) })
            };
            if is_wanted && !(0..number).any(there) {
                return Err(SceneError::NoCombination { kind, split: settings.split });
            }
        }
        Ok(combinations)
    }

    /// A combination of this split.
    pub fn draw(&self, chance: &mut Chance) -> (Arrangement, Background) {
        if chance.unit() < self.pair_share {
            self.search(self.pairs(), |index| self.pair(index), chance)
        } else {
            self.search(self.groups(), |index| self.group(index), chance)
        }
    }

    /// Any is as likely as another while the split is not tiny; in a tiny one the search walks on from the last draw.
    fn search(
        &self,
        number: usize,
        combination: impl Fn(usize) -> (Arrangement, Background),
        chance: &mut Chance,
    ) -> (Arrangement, Background) {
        let mut index = 0;
        for _ in 0..DRAWS {
            index = chance.below(number);
            let drawn = combination(index);
            if self.is_ours(&drawn) {
                return drawn;
            }
        }
        let mut walk = (index..number).chain(0..index).map(combination);
        walk.find(|drawn| self.is_ours(drawn))
            .expect("the split has one: it was looked for when the settings were read")
    }

    fn groups(&self) -> usize {
        self.nouns.len() * self.largest_count * self.backgrounds.len()
    }

    fn group(&self, index: usize) -> (Arrangement, Background) {
        let (index, background) = (index / self.backgrounds.len(), index % self.backgrounds.len());
        let (noun, count) = (index / self.largest_count, index % self.largest_count + 1);
        (Arrangement::Group { noun: self.nouns[noun].clone(), count }, self.backgrounds[background])
    }

    fn pairs(&self) -> usize {
        self.nouns.len() * (self.nouns.len() - 1) * self.relations.len() * self.backgrounds.len()
    }

    fn pair(&self, index: usize) -> (Arrangement, Background) {
        let (index, background) = (index / self.backgrounds.len(), index % self.backgrounds.len());
        let (index, relation) = (index / self.relations.len(), index % self.relations.len());
        let others = self.nouns.len() - 1;
        let (first, other) = (index / others, index % others);
        let second = if other < first { other } else { other + 1 };
        let (first, second) = (self.nouns[first].clone(), self.nouns[second].clone());
        (Arrangement::Pair { first, relation: self.relations[relation], second }, self.backgrounds[background])
    }

    fn is_ours(&self, (arrangement, background): &(Arrangement, Background)) -> bool {
        let held_out = rank(&canonical(arrangement, *background)) < self.held_out;
        held_out == (self.split == Split::HeldOut)
    }
}

/// Draws before the search walks: with a tenth held out, one search in 10^11 comes to it.
const DRAWS: usize = 256;

/// The same words for a pair from either side, so that both are held out or neither.
fn canonical(arrangement: &Arrangement, background: Background) -> String {
    match arrangement {
        Arrangement::Pair { first, relation: relation @ (Relation::RightOf | Relation::Below), second } => {
            let turned =
                Arrangement::Pair { first: second.clone(), relation: relation.opposite(), second: first.clone() };
            phrase(&turned, background)
        }
        arrangement => phrase(arrangement, background),
    }
}

/// At least 0, below 1: the words' place among all words, the same for every seed and machine.
pub fn rank(words: &str) -> f64 {
    let digest = Sha256::digest(words.as_bytes());
    let first = digest.iter().take(8).fold(0_u64, |value, byte| value << 8 | u64::from(*byte));
    (first >> 11) as f64 / (1_u64 << 53) as f64
}
