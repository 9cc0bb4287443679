//! BLEU, CIDEr, ROUGE-L and exact captions over a set of pictures.
//!
//! Source: pycocoevalcap 1.2, `bleu/bleu_scorer.py`, `cider/cider_scorer.py`, `rouge/rouge.py`.

use std::collections::BTreeMap;

use super::MetricError;
use super::words::tokenized;

/// A caption that was written for a picture, and those that people wrote for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Captioned {
    /// What is scored.
    pub candidate: String,
    /// At least one.
    pub references: Vec<String>,
}

/// Captions of a set of pictures, each with a reference.
#[derive(Clone, Debug)]
pub struct CaptionSet {
    pictures: Vec<Captioned>,
}

/// A mean, and what it is the mean of.
#[derive(Clone, Debug, PartialEq)]
pub struct Scores {
    /// Over all pictures.
    pub mean: f64,
    /// One for each picture, in their order.
    pub each: Vec<f64>,
}

/// BLEU of the whole set and of each picture, 0 to 1; place `n - 1` is BLEU-n.
#[derive(Clone, Debug, PartialEq)]
pub struct Bleu {
    /// From the counts of all pictures, which is not a mean of `each`.
    pub corpus: [f64; LONGEST],
    /// One for each picture, in their order.
    pub each: Vec<[f64; LONGEST]>,
}

/// Words of the longest n-gram.
const LONGEST: usize = 4;

impl CaptionSet {
    /// Takes captions whose words are already set apart by spaces.
    ///
    /// # Errors
    /// No picture, or one without a reference.
    pub fn of_tokens(pictures: Vec<Captioned>) -> Result<Self, MetricError> {
        if pictures.is_empty() {
            return Err(MetricError::Empty { what: "captions" });
        }
        match pictures.iter().position(|picture| picture.references.is_empty()) {
            Some(index) => Err(MetricError::NoReference { what: "captions", index }),
            None => Ok(Self { pictures }),
        }
    }

    /// Takes captions as people write them: each goes through [`tokenized`] first.
    ///
    /// # Errors
    /// As [`CaptionSet::of_tokens`].
    pub fn new(pictures: Vec<Captioned>) -> Result<Self, MetricError> {
        let tokens = |picture: Captioned| Captioned {
            candidate: tokenized(&picture.candidate),
            references: picture.references.iter().map(|reference| tokenized(reference)).collect(),
        };
        Self::of_tokens(pictures.into_iter().map(tokens).collect())
    }

    /// The captions as they are scored.
    pub fn pictures(&self) -> &[Captioned] {
        &self.pictures
    }

    /// Share of candidates that are one of their references, 0 to 1.
    pub fn exact(&self) -> f64 {
        let is_exact = |picture: &&Captioned| picture.references.contains(&picture.candidate);
        self.pictures.iter().filter(is_exact).count() as f64 / self.pictures.len() as f64
    }

    /// BLEU-1 to BLEU-4, against the reference whose length is closest (the shorter of two).
    ///
    /// Source: `BleuScorer.compute_score(option="closest")`.
    pub fn bleu(&self) -> Bleu {
        let mut words = Words::default();
        let mut all = Overlap::default();
        let mut each = Vec::with_capacity(self.pictures.len());
        for picture in &self.pictures {
            let overlap = Overlap::of(picture, &mut words);
            all.add(&overlap);
            each.push(overlap.bleu());
        }
        Bleu { corpus: all.bleu(), each }
    }

    /// CIDEr-D, 0 to 10: n-grams to four words, weighed by how few of this set's pictures have them in a reference.
    ///
    /// Source: `CiderScorer.compute_cider`. The length that its Gaussian penalty compares is the number of word pairs.
    pub fn cider(&self) -> Scores {
        let mut words = Words::default();
        let counted: Vec<(Counts, Vec<Counts>)> = self
            .pictures
            .iter()
            .map(|picture| {
                let references = picture.references.iter().map(|reference| words.counts(reference)).collect();
                (words.counts(&picture.candidate), references)
            })
            .collect();
        let rarity = Rarity::of(counted.iter().map(|(_, references)| references.as_slice()));
        let score = |(candidate, references): &(Counts, Vec<Counts>)| {
            let candidate = rarity.weigh(candidate);
            let sum: f64 = references.iter().map(|reference| candidate.likeness(&rarity.weigh(reference))).sum();
            10.0 * sum / references.len() as f64
        };
        Scores::of(counted.iter().map(score).collect())
    }

    /// ROUGE-L, 0 to 1: the longest common subsequence of words, with beta 1.2.
    ///
    /// Source: `Rouge.calc_score`. Words are what stands between single spaces, so an empty caption has one empty word.
    pub fn rouge_l(&self) -> Scores {
        Scores::of(self.pictures.iter().map(rouge_l).collect())
    }
}

impl Scores {
    fn of(each: Vec<f64>) -> Self {
        Self { mean: each.iter().sum::<f64>() / each.len() as f64, each }
    }
}

/// One to four words, by number; what is not used is [`NO_WORD`].
type Ngram = [u32; LONGEST];

const NO_WORD: u32 = u32::MAX;

/// How often a text has each n-gram, in an order that does not change from run to run.
type Counts = BTreeMap<Ngram, usize>;

/// Words by the order of their first appearance.
#[derive(Default)]
struct Words(BTreeMap<String, u32>);

impl Words {
    fn numbers(&mut self, text: &str) -> Vec<u32> {
        let number = |word: &str| {
            let next = self.0.len() as u32;
            *self.0.entry(word.to_owned()).or_insert(next)
        };
        text.split_whitespace().map(number).collect()
    }

    fn counts(&mut self, text: &str) -> Counts {
        let numbers = self.numbers(text);
        let mut counts = Counts::new();
        for length in 1..=LONGEST {
            for window in numbers.windows(length) {
                let mut ngram = [NO_WORD; LONGEST];
                ngram[..length].copy_from_slice(window);
                *counts.entry(ngram).or_insert(0) += 1;
            }
        }
        counts
    }
}

/// Words of an n-gram.
fn length(ngram: &Ngram) -> usize {
    ngram.iter().take_while(|word| **word != NO_WORD).count()
}

/// What BLEU counts.
#[derive(Default)]
struct Overlap {
    candidate_words: usize,
    reference_words: usize,
    guessed: [usize; LONGEST],
    correct: [usize; LONGEST],
}

impl Overlap {
    fn of(picture: &Captioned, words: &mut Words) -> Self {
        let candidate_words = picture.candidate.split_whitespace().count();
        let mut most = Counts::new();
        for reference in &picture.references {
            for (ngram, count) in words.counts(reference) {
                let kept = most.entry(ngram).or_insert(0);
                *kept = count.max(*kept);
            }
        }
        let mut correct = [0; LONGEST];
        for (ngram, count) in words.counts(&picture.candidate) {
            correct[length(&ngram) - 1] += count.min(most.get(&ngram).copied().unwrap_or(0));
        }
        let lengths = picture.references.iter().map(|reference| reference.split_whitespace().count());
        let closest = lengths.min_by_key(|words| (words.abs_diff(candidate_words), *words));
        Self {
            candidate_words,
            reference_words: closest.expect("a caption set has a reference for each picture"),
            guessed: [0, 1, 2, 3].map(|less| candidate_words.saturating_sub(less)),
            correct,
        }
    }

    fn add(&mut self, other: &Self) {
        self.candidate_words += other.candidate_words;
        self.reference_words += other.reference_words;
        for n in 0..LONGEST {
            self.guessed[n] += other.guessed[n];
            self.correct[n] += other.correct[n];
        }
    }

    /// The small numbers are those of `BleuScorer.compute_score`.
    fn bleu(&self) -> [f64; LONGEST] {
        let (small, tiny) = (1e-9, 1e-15);
        let ratio = (self.candidate_words as f64 + tiny) / (self.reference_words as f64 + small);
        let brevity = if ratio < 1.0 { (1.0 - 1.0 / ratio).exp() } else { 1.0 };
        let mut product = 1.0;
        std::array::from_fn(|n| {
            product *= (self.correct[n] as f64 + tiny) / (self.guessed[n] as f64 + small);
            product.powf(1.0 / (n + 1) as f64) * brevity
        })
    }
}

/// How many pictures have an n-gram in a reference.
struct Rarity {
    pictures: BTreeMap<Ngram, usize>,
    log_of_all: f64,
}

impl Rarity {
    fn of<'a>(references: impl ExactSizeIterator<Item = &'a [Counts]>) -> Self {
        let log_of_all = (references.len() as f64).ln();
        let mut pictures = BTreeMap::new();
        for references in references {
            let mut here: Vec<&Ngram> = references.iter().flat_map(BTreeMap::keys).collect();
            here.sort_unstable();
            here.dedup();
            for ngram in here {
                *pictures.entry(*ngram).or_insert(0) += 1;
            }
        }
        Self { pictures, log_of_all }
    }

    fn weigh(&self, counts: &Counts) -> Weighed {
        let mut weights = BTreeMap::new();
        let mut norms = [0.0; LONGEST];
        let mut word_pairs = 0;
        for (ngram, count) in counts {
            let pictures = self.pictures.get(ngram).copied().unwrap_or(0).max(1);
            let weight = *count as f64 * (self.log_of_all - (pictures as f64).ln());
            weights.insert(*ngram, weight);
            norms[length(ngram) - 1] += weight * weight;
            word_pairs += if length(ngram) == 2 { *count } else { 0 };
        }
        Weighed { weights, norms: norms.map(f64::sqrt), word_pairs }
    }
}

/// A text as a vector over n-grams.
struct Weighed {
    weights: BTreeMap<Ngram, f64>,
    norms: [f64; LONGEST],
    word_pairs: usize,
}

impl Weighed {
    /// The mean over n of clipped cosines, made smaller where the lengths differ.
    ///
    /// Source: `sim` in `CiderScorer.compute_cider`.
    fn likeness(&self, reference: &Self) -> f64 {
        let mut cosines = [0.0; LONGEST];
        for (ngram, weight) in &self.weights {
            let other = reference.weights.get(ngram).copied().unwrap_or(0.0);
            cosines[length(ngram) - 1] += weight.min(other) * other;
        }
        let difference = self.word_pairs as f64 - reference.word_pairs as f64;
        let penalty = (-difference * difference / (2.0 * SIGMA * SIGMA)).exp();
        let cosine = |n: usize| {
            let norms = self.norms[n] * reference.norms[n];
            if norms == 0.0 { cosines[n] } else { cosines[n] / norms }
        };
        (0..LONGEST).map(cosine).sum::<f64>() * penalty / LONGEST as f64
    }
}

/// Width of the length penalty, in word pairs.
const SIGMA: f64 = 6.0;
/// Weight of recall against precision.
const BETA: f64 = 1.2;

fn rouge_l(picture: &Captioned) -> f64 {
    let candidate: Vec<&str> = picture.candidate.split(' ').collect();
    let (mut precision, mut recall) = (0.0_f64, 0.0_f64);
    for reference in &picture.references {
        let reference: Vec<&str> = reference.split(' ').collect();
        let common = common_subsequence(&candidate, &reference) as f64;
        precision = precision.max(common / candidate.len() as f64);
        recall = recall.max(common / reference.len() as f64);
    }
    if precision == 0.0 || recall == 0.0 {
        return 0.0;
    }
    (1.0 + BETA * BETA) * precision * recall / (recall + BETA * BETA * precision)
}

/// The length of the longest sequence that both have, not necessarily without gaps.
fn common_subsequence(a: &[&str], b: &[&str]) -> usize {
    let mut row = vec![0; b.len() + 1];
    for word in a {
        let mut before = 0;
        for (place, other) in b.iter().enumerate() {
            let above = row[place + 1];
            row[place + 1] = if word == other { before + 1 } else { above.max(row[place]) };
            before = above;
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(pictures: &[(&str, &[&str])]) -> CaptionSet {
        let captioned = |(candidate, references): &(&str, &[&str])| Captioned {
            candidate: (*candidate).to_owned(),
            references: references.iter().map(|reference| (*reference).to_owned()).collect(),
        };
        CaptionSet::new(pictures.iter().map(captioned).collect()).unwrap()
    }

    #[test]
    fn captions_without_a_reference_are_refused() {
        let lonely = Captioned { candidate: "a cat".to_owned(), references: Vec::new() };
        assert_eq!(CaptionSet::new(vec![lonely]).unwrap_err(), MetricError::NoReference { what: "captions", index: 0 });
        assert_eq!(CaptionSet::new(Vec::new()).unwrap_err(), MetricError::Empty { what: "captions" });
    }

    #[test]
    fn the_same_caption_scores_one_and_ten() {
        let set = set(&[
            ("a red car on the grass .", &["A red car on the grass"]),
            ("two owls sit at night", &["Two owls sit at night."]),
        ]);
        assert_eq!(set.exact(), 1.0);
        assert!(set.bleu().corpus.iter().all(|bleu| (bleu - 1.0).abs() < 1e-6));
        assert!((set.cider().mean - 10.0).abs() < 1e-9);
        assert_eq!(set.rouge_l().each, [1.0, 1.0]);
    }

    #[test]
    fn the_order_of_pictures_does_not_change_the_scores() {
        let pictures: [(&str, &[&str]); 3] = [
            ("a cat on a mat", &["a cat sits on a mat", "the cat"]),
            ("a dog", &["a small dog runs"]),
            ("", &["a bird"]),
        ];
        let turned = [pictures[2], pictures[0], pictures[1]];
        let (set, turned) = (set(&pictures), set(&turned));
        assert!((set.cider().mean - turned.cider().mean).abs() < 1e-12);
        assert_eq!(set.bleu().corpus, turned.bleu().corpus);
    }
}
