//! Texts for pictures and pictures for texts: ITC finds candidates, ITM ranks them again.
//!
//! Source: BLIP `train_retrieval.py`, `evaluation` and `itm_eval`.

use std::collections::BTreeMap;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::judge::{Claim, cosine};
use super::{Broken, EvaluationError, MAX_SIMILARITIES, Run};
use crate::engine::Device;
use crate::generation::Network;
use crate::metrics::retrieval::{Candidates, Direction, reranked_recall};
use crate::metrics::{Recall, Similarities};

/// How retrieval ranks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetrievalSettings {
    /// Candidates of each query that ITM judges. Source: BLIP `configs/retrieval_coco.yaml`, `k_test: 256`.
    pub candidates: usize,
}

/// Share of queries that find one of their own among the first, 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct RecallFigures {
    /// First of all.
    pub at_1: f64,
    /// Among the first five.
    pub at_5: f64,
    /// Among the first ten.
    pub at_10: f64,
}

impl From<Recall> for RecallFigures {
    fn from(recall: Recall) -> RecallFigures {
        RecallFigures { at_1: recall.at_1, at_5: recall.at_5, at_10: recall.at_10 }
    }
}

/// What was measured of retrieval.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RetrievalFigures {
    /// Pictures.
    pub images: usize,
    /// Texts.
    pub texts: usize,
    /// Candidates of each query that ITM judged.
    pub candidates: usize,
    /// A picture looks for its texts ("TR" in the paper).
    pub texts_of_images: RecallFigures,
    /// A text looks for its picture ("IR" in the paper).
    pub images_of_texts: RecallFigures,
    /// The same by ITC alone.
    pub texts_of_images_itc: RecallFigures,
    /// The same by ITC alone.
    pub images_of_texts_itc: RecallFigures,
}

/// The texts of all pictures that could be read.
struct Corpus<'d> {
    /// Entry of each picture.
    entries: Vec<usize>,
    texts: Vec<&'d str>,
    /// For each picture its texts, for each text its pictures: more than one where entries show the same picture.
    truths: [Vec<Vec<usize>>; 2],
}

impl<'d> Corpus<'d> {
    fn new(run: &Run<'d>, entries: Vec<usize>) -> Corpus<'d> {
        let mut texts = Vec::new();
        let mut of_picture: BTreeMap<u64, (Vec<usize>, Vec<usize>)> = BTreeMap::new();
        for (image, entry) in entries.iter().enumerate() {
            let entry = run.dataset.entry(*entry);
            let known = of_picture.entry(entry.image).or_default();
            known.0.push(image);
            for text in &entry.texts {
                known.1.push(texts.len());
                texts.push(text.text.as_str());
            }
        }
        let mut truths = [vec![Vec::new(); entries.len()], vec![Vec::new(); texts.len()]];
        for (images, texts) in of_picture.into_values() {
            images.iter().for_each(|image| truths[0][*image].clone_from(&texts));
            texts.iter().for_each(|text| truths[1][*text].clone_from(&images));
        }
        Corpus { entries, texts, truths }
    }
}

pub(super) fn measure<D: Device>(
    run: &Run<'_>,
    matcher: &Network<'_, D>,
    broken: &mut Broken,
) -> Result<RetrievalFigures, EvaluationError> {
    let (mut entries, mut image_vectors) = (Vec::new(), Vec::new());
    run.each("picture vectors", broken, |batch| {
        let pixels = batch.pixels(matcher.image_size(), &matcher.normalization);
        let vectors = matcher.image_vectors(&matcher.see(&pixels, batch.entries.len())?)?;
        let width = vectors.len() / batch.entries.len();
        for (entry, vector) in batch.entries.iter().zip(vectors.chunks_exact(width)) {
            // A picture without a text is no query: nothing would be right.
            if !run.dataset.entry(*entry).texts.is_empty() {
                entries.push(*entry);
                image_vectors.push(vector.to_vec());
            }
        }
        Ok(())
    })?;
    let corpus = Corpus::new(run, entries);
    let (images, texts) = (corpus.entries.len(), corpus.texts.len());
    if texts == 0 {
        return Err(EvaluationError::Nothing { what: "texts" });
    }
    if images.saturating_mul(texts) > MAX_SIMILARITIES {
        return Err(EvaluationError::TooMany { images, texts });
    }
    let text_vectors = matcher.text_vectors(&corpus.texts)?;
    let width = text_vectors.len() / texts;
    let rows = image_vectors
        .par_iter()
        .flat_map_iter(|image| text_vectors.chunks_exact(width).map(|text| cosine(image, text)));
    let similarities = Similarities::new(images, texts, rows.collect())?;
    let directions = [Direction::TextsOfImages, Direction::ImagesOfTexts];
    let candidates = directions.map(|direction| similarities.candidates(direction, run.settings.retrieval.candidates));
    let logits = judge(run, matcher, &corpus, &candidates)?;
    let mut reranked = Vec::with_capacity(2);
    let mut alone = Vec::with_capacity(2);
    for (place, direction) in directions.into_iter().enumerate() {
        let truths = &corpus.truths[place];
        let logits: Vec<Vec<f32>> = candidates[place]
            .iter()
            .enumerate()
            .map(|(query, found)| found.iter().map(|(item, _)| logits[&pair(direction, query, *item)]).collect())
            .collect();
        reranked.push(reranked_recall(&candidates[place], &logits, truths)?.into());
        alone.push(similarities.recall(direction, truths)?.into());
    }
    Ok(RetrievalFigures {
        images,
        texts,
        candidates: run.settings.retrieval.candidates,
        texts_of_images: reranked[0],
        images_of_texts: reranked[1],
        texts_of_images_itc: alone[0],
        images_of_texts_itc: alone[1],
    })
}

/// Image and text of a query and its candidate.
fn pair(direction: Direction, query: usize, item: usize) -> (usize, usize) {
    match direction {
        Direction::TextsOfImages => (query, item),
        Direction::ImagesOfTexts => (item, query),
    }
}

/// ITM's logit of "match" for every pair that a query of either direction has as a candidate. Pictures are seen again,
/// since the states of all of them do not fit.
fn judge<D: Device>(
    run: &Run<'_>,
    matcher: &Network<'_, D>,
    corpus: &Corpus<'_>,
    [texts, images]: &[Vec<Candidates>; 2],
) -> Result<BTreeMap<(usize, usize), f32>, EvaluationError> {
    let mut wanted = vec![Vec::new(); corpus.entries.len()];
    for (image, candidates) in texts.iter().enumerate() {
        wanted[image].extend(candidates.iter().map(|(text, _)| *text));
    }
    for (text, candidates) in images.iter().enumerate() {
        candidates.iter().for_each(|(image, _)| wanted[*image].push(text));
    }
    for texts in &mut wanted {
        texts.sort_unstable();
        texts.dedup();
    }
    let image_of: BTreeMap<usize, usize> =
        corpus.entries.iter().enumerate().map(|(image, entry)| (*entry, image)).collect();
    let mut logits = BTreeMap::new();
    run.each("matching candidates", &mut Broken::default(), |batch| {
        let pixels = batch.pixels(matcher.image_size(), &matcher.normalization);
        let seen = matcher.see(&pixels, batch.entries.len())?;
        let mut claims = Vec::new();
        let mut pairs = Vec::new();
        for (picture, entry) in batch.entries.iter().enumerate() {
            let Some(image) = image_of.get(entry) else { continue };
            for text in &wanted[*image] {
                claims.push(Claim { picture, text: corpus.texts[*text] });
                pairs.push((*image, *text));
            }
        }
        logits.extend(pairs.into_iter().zip(matcher.match_logits(&seen, &claims)?.into_iter().map(|[_, yes]| yes)));
        Ok(())
    })?;
    Ok(logits)
}
