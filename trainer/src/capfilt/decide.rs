//! What becomes of a picture's texts.

use blip::caption::clean_for_training;
use serde::{Deserialize, Serialize};

use crate::dataset::Origin;

/// Why a text was kept or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// Kept: a person wrote it.
    Human,
    /// Kept: it matches its picture.
    Matches,
    /// Rejected: ITM is below the threshold.
    Mismatch,
    /// Rejected: ITM would do, ITC is below its threshold.
    Dissimilar,
    /// Left out: it says what a text that is kept says.
    Duplicate,
    /// Left out: it has no words.
    Empty,
}

impl Reason {
    /// Whether the text is in the new dataset.
    pub fn keeps(self) -> bool {
        matches!(self, Reason::Human | Reason::Matches)
    }

    /// Whether the filter called it noise.
    pub fn is_noise(self) -> bool {
        matches!(self, Reason::Mismatch | Reason::Dissimilar)
    }

    /// As it stands in the files.
    pub fn name(self) -> &'static str {
        match self {
            Reason::Human => "human",
            Reason::Matches => "matches",
            Reason::Mismatch => "mismatch",
            Reason::Dissimilar => "dissimilar",
            Reason::Duplicate => "duplicate",
            Reason::Empty => "empty",
        }
    }
}

/// A text and what became of it: a line of the decisions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Decision {
    /// The picture.
    pub key: String,
    /// Its place in the dataset.
    pub entry: usize,
    /// The text, as it was found or written.
    pub text: String,
    /// Where it is from.
    pub origin: Origin,
    /// The filter's probability that it matches.
    pub itm: Option<f32>,
    /// The filter's cosine.
    pub itc: Option<f32>,
    /// Whether it is in the new dataset.
    pub kept: bool,
    /// Why.
    pub reason: Reason,
}

/// A text with its scores; none where it has no words.
#[derive(Clone, Debug)]
pub(super) struct Judged {
    pub(super) text: String,
    pub(super) origin: Origin,
    pub(super) scores: Option<Scores>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Scores {
    pub(super) itm: f32,
    pub(super) itc: f32,
}

/// What is rejected.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rule {
    pub(super) threshold: f32,
    pub(super) similarity: Option<f32>,
    pub(super) duplicate: f64,
}

/// A reason for each of a picture's texts.
pub(super) fn decide(texts: &[Judged], rule: &Rule) -> Vec<Reason> {
    let mut reasons: Vec<Reason> = texts.iter().map(|text| alone(text, rule)).collect();
    // Of synthetic texts that say the same the best is kept, and none of what another source says.
    let words: Vec<Vec<String>> = texts.iter().map(|text| words(&text.text)).collect();
    let mut order: Vec<usize> = (0..texts.len()).filter(|text| reasons[*text].keeps()).collect();
    let itm = |text: usize| texts[text].scores.map_or(0.0, |scores| scores.itm);
    let is_synthetic = |text: usize| texts[text].origin == Origin::Synthetic;
    order.sort_by(|a, b| is_synthetic(*a).cmp(&is_synthetic(*b)).then(itm(*b).total_cmp(&itm(*a))));
    let mut kept: Vec<usize> = Vec::with_capacity(order.len());
    for text in order {
        if is_synthetic(text) && kept.iter().any(|other| likeness(&words[text], &words[*other]) >= rule.duplicate) {
            reasons[text] = Reason::Duplicate;
        } else {
            kept.push(text);
        }
    }
    reasons
}

fn alone(text: &Judged, rule: &Rule) -> Reason {
    let Some(scores) = text.scores else { return Reason::Empty };
    if text.origin == Origin::Human {
        return Reason::Human;
    }
    // What is not a number matches nothing.
    let reaches = |score: f32, least: f32| score >= least;
    if !reaches(scores.itm, rule.threshold) {
        Reason::Mismatch
    } else if rule.similarity.is_some_and(|least| !reaches(scores.itc, least)) {
        Reason::Dissimilar
    } else {
        Reason::Matches
    }
}

/// The words that a model reads of a text.
pub(super) fn words(text: &str) -> Vec<String> {
    clean_for_training(text).split_whitespace().map(str::to_owned).collect()
}

/// Share of words of two texts that stand in both in the same order, 0 to 1: twice the longest common subsequence over
/// all words.
fn likeness(a: &[String], b: &[String]) -> f64 {
    let mut row = vec![0; b.len() + 1];
    for word in a {
        let mut diagonal = 0;
        for (place, other) in b.iter().enumerate() {
            let above = row[place + 1];
            row[place + 1] = if word == other { diagonal + 1 } else { above.max(row[place]) };
            diagonal = above;
        }
    }
    let all = a.len() + b.len();
    if all == 0 { 1.0 } else { 2.0 * row[b.len()] as f64 / all as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(text: &str, origin: Origin, itm: f32) -> Judged {
        Judged { text: text.to_owned(), origin, scores: Some(Scores { itm, itc: itm }) }
    }

    const RULE: Rule = Rule { threshold: 0.5, similarity: None, duplicate: 0.9 };

    #[test]
    fn what_people_wrote_stays_whatever_the_filter_says() {
        let texts = [judged("an owl", Origin::Human, 0.0), judged("an owl", Origin::Web, 0.49)];
        assert_eq!(decide(&texts, &RULE), [Reason::Human, Reason::Mismatch]);
    }

    #[test]
    fn the_threshold_itself_is_enough_and_a_score_that_is_no_number_is_not() {
        let texts = [judged("a", Origin::Web, 0.5), judged("b", Origin::Synthetic, f32::NAN)];
        assert_eq!(decide(&texts, &RULE), [Reason::Matches, Reason::Mismatch]);
    }

    #[test]
    fn similarity_is_a_second_hurdle() {
        let mut text = judged("a", Origin::Web, 0.9);
        text.scores = Some(Scores { itm: 0.9, itc: 0.2 });
        let rule = Rule { similarity: Some(0.3), ..RULE };
        assert_eq!(decide(&[text], &rule), [Reason::Dissimilar]);
    }

    #[test]
    fn of_synthetic_texts_that_say_the_same_the_best_stays() {
        let texts = [
            judged("An owl at night.", Origin::Synthetic, 0.7),
            judged("an owl at night", Origin::Synthetic, 0.9),
            judged("a cat to the left of a dog", Origin::Synthetic, 0.8),
            judged("a dog to the left of a cat", Origin::Synthetic, 0.6),
        ];
        let expected = [Reason::Duplicate, Reason::Matches, Reason::Matches, Reason::Matches];
        assert_eq!(decide(&texts, &RULE), expected);
    }

    #[test]
    fn a_synthetic_text_adds_nothing_to_the_same_text_from_elsewhere() {
        let texts = [judged("an owl", Origin::Synthetic, 0.9), judged("an owl", Origin::Web, 0.6)];
        assert_eq!(decide(&texts, &RULE), [Reason::Duplicate, Reason::Matches]);
        let rejected = [judged("an owl", Origin::Synthetic, 0.9), judged("an owl", Origin::Web, 0.1)];
        assert_eq!(decide(&rejected, &RULE), [Reason::Matches, Reason::Mismatch]);
    }

    #[test]
    fn a_text_without_words_is_empty_even_if_a_person_wrote_it() {
        let text = Judged { text: " ... ".to_owned(), origin: Origin::Human, scores: None };
        assert_eq!(decide(&[text], &RULE), [Reason::Empty]);
    }
}
