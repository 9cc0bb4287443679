//! Finding texts for images and images for texts: the contrastive score picks candidates, matching ranks them again.

use super::MetricError;

/// Contrastive similarities of every image with every text.
#[derive(Clone, Debug)]
pub struct Similarities {
    images: usize,
    texts: usize,
    values: Vec<f32>,
}

/// Share of queries that find one of their own among the first, 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Recall {
    /// First of all.
    pub at_1: f64,
    /// Among the first five.
    pub at_5: f64,
    /// Among the first ten.
    pub at_10: f64,
}

/// Recall in both directions.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Retrieval {
    /// The query is an image ("TR" in the paper).
    pub texts_of_images: Recall,
    /// The query is a text ("IR" in the paper).
    pub images_of_texts: Recall,
}

/// What each query is ranked with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// The query is an image, the candidates are texts.
    TextsOfImages,
    /// The query is a text, the candidates are images.
    ImagesOfTexts,
}

/// The candidates of one query, best first, with their contrastive similarities.
pub type Candidates = Vec<(usize, f32)>;

impl Similarities {
    /// Takes `[images, texts]`, row by row.
    ///
    /// # Errors
    /// No image or no text, another number of values, or NaN.
    pub fn new(images: usize, texts: usize, values: Vec<f32>) -> Result<Self, MetricError> {
        let what = "retrieval";
        if images == 0 || texts == 0 {
            return Err(MetricError::Empty { what });
        }
        let expected = images.saturating_mul(texts);
        if values.len() != expected {
            return Err(MetricError::Length { what, found: values.len(), expected });
        }
        match values.iter().position(|value| value.is_nan()) {
            Some(index) => Err(MetricError::NotANumber { what, index }),
            None => Ok(Self { images, texts, values }),
        }
    }

    /// For each query the `most` candidates of highest similarity; of equal ones the first.
    ///
    /// These are the pairs that matching has to judge. Source: `sims.topk(k=config['k_test'])` in BLIP's
    /// `train_retrieval.py`, `evaluation`; 256 for COCO, 128 for Flickr30k.
    pub fn candidates(&self, direction: Direction, most: usize) -> Vec<Candidates> {
        let queries = if direction == Direction::TextsOfImages { self.images } else { self.texts };
        (0..queries).map(|query| self.candidates_of(direction, query, most)).collect()
    }

    fn candidates_of(&self, direction: Direction, query: usize, most: usize) -> Candidates {
        let mut all: Candidates = match direction {
            Direction::TextsOfImages => {
                self.values[query * self.texts..][..self.texts].iter().copied().enumerate().collect()
            }
            Direction::ImagesOfTexts => {
                (0..self.images).map(|image| (image, self.values[image * self.texts + query])).collect()
            }
        };
        all.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        all.truncate(most);
        all
    }

    /// Recall by similarity alone.
    ///
    /// # Errors
    /// Truths that are not one list for each query, or that point beyond the last.
    pub fn recall(&self, direction: Direction, truths: &[Vec<usize>]) -> Result<Recall, MetricError> {
        recall(&self.candidates(direction, usize::MAX), truths)
    }
}

/// Recall after ranking by the sum of similarity and `match_logits`: the matching head's logit of class 1 for each
/// candidate, in the order of `candidates`.
///
/// What is not a candidate is not found. Of equal scores the wrong ones come first, so a matcher that says the same of
/// every pair finds nothing. Source: BLIP `train_retrieval.py`, `evaluation` and `itm_eval`.
///
/// # Errors
/// Lists whose lengths do not belong together, or NaN.
pub fn reranked_recall(
    candidates: &[Candidates],
    match_logits: &[Vec<f32>],
    truths: &[Vec<usize>],
) -> Result<Recall, MetricError> {
    let what = "retrieval";
    if match_logits.len() != candidates.len() {
        return Err(MetricError::Length { what, found: match_logits.len(), expected: candidates.len() });
    }
    let mut summed = Vec::with_capacity(candidates.len());
    for (query, (candidates, logits)) in candidates.iter().zip(match_logits).enumerate() {
        if logits.len() != candidates.len() {
            return Err(MetricError::Length { what, found: logits.len(), expected: candidates.len() });
        }
        if logits.iter().any(|logit| logit.is_nan()) {
            return Err(MetricError::NotANumber { what, index: query });
        }
        let sum = |((item, similarity), logit): (&(usize, f32), &f32)| (*item, similarity + logit);
        summed.push(candidates.iter().zip(logits).map(sum).collect());
    }
    recall(&summed, truths)
}

fn recall(scored: &[Candidates], truths: &[Vec<usize>]) -> Result<Recall, MetricError> {
    let what = "retrieval";
    if scored.is_empty() {
        return Err(MetricError::Empty { what });
    }
    if truths.len() != scored.len() {
        return Err(MetricError::Length { what, found: truths.len(), expected: scored.len() });
    }
    if let Some(index) = truths.iter().position(Vec::is_empty) {
        return Err(MetricError::NoReference { what, index });
    }
    let places: Vec<Option<usize>> = scored.iter().zip(truths).map(|(scored, truths)| place(scored, truths)).collect();
    let within = |most: usize| {
        let found = places.iter().flatten().filter(|place| **place < most).count();
        found as f64 / places.len() as f64
    };
    Ok(Recall { at_1: within(1), at_5: within(5), at_10: within(10) })
}

/// How many candidates that are wrong come before the best that is right.
fn place(scored: &Candidates, truths: &[usize]) -> Option<usize> {
    let right = scored.iter().filter(|(item, _)| truths.contains(item)).map(|(_, score)| *score);
    let best = right.max_by(f32::total_cmp)?;
    Some(scored.iter().filter(|(item, score)| *score >= best && !truths.contains(item)).count())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranking_again_can_put_right_what_similarity_had_wrong() {
        let similarities = Similarities::new(2, 3, vec![0.9, 0.8, 0.1, 0.2, 0.7, 0.6]).unwrap();
        let truths = [vec![1], vec![2]];
        let alone = similarities.recall(Direction::TextsOfImages, &truths).unwrap();
        assert_eq!((alone.at_1, alone.at_5), (0.0, 1.0));
        let candidates = similarities.candidates(Direction::TextsOfImages, 2);
        assert_eq!(candidates[0], [(0, 0.9), (1, 0.8)]);
        let again = reranked_recall(&candidates, &[vec![0.0, 2.0], vec![0.0, 0.0]], &truths).unwrap();
        assert_eq!(again.at_1, 0.5);
        assert_eq!(similarities.candidates(Direction::ImagesOfTexts, 1), [[(0, 0.9)], [(0, 0.8)], [(1, 0.6)]]);
    }

    #[test]
    fn what_is_no_candidate_is_not_found_and_equal_scores_find_nothing() {
        let similarities = Similarities::new(1, 3, vec![0.5, 0.5, 0.4]).unwrap();
        let one = similarities.candidates(Direction::TextsOfImages, 1);
        assert_eq!(reranked_recall(&one, &[vec![9.0]], &[vec![2]]).unwrap().at_10, 0.0);
        assert_eq!(similarities.recall(Direction::TextsOfImages, &[vec![0]]).unwrap().at_1, 0.0);
    }

    #[test]
    fn lists_that_do_not_belong_together_are_refused() {
        assert!(matches!(
            Similarities::new(2, 2, vec![0.0; 3]),
            Err(MetricError::Length { found: 3, expected: 4, .. })
        ));
        assert!(matches!(Similarities::new(1, 1, vec![f32::NAN]), Err(MetricError::NotANumber { .. })));
        let similarities = Similarities::new(1, 2, vec![0.5, 0.4]).unwrap();
        let none = similarities.recall(Direction::TextsOfImages, &[vec![]]);
        assert!(matches!(none, Err(MetricError::NoReference { index: 0, .. })));
    }
}
