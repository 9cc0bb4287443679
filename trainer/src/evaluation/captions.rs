//! Captions against those that people wrote.

use serde::{Deserialize, Serialize};

use super::{Broken, EvaluationError, Run};
use crate::engine::Device;
use crate::generation::Network;
use crate::metrics::{CaptionSet, Captioned, JavaScore, meteor, spice};

/// How close captions come to their references.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CaptionScores {
    /// BLEU-4 of the whole set, 0 to 1.
    pub bleu_4: f64,
    /// CIDEr-D, 0 to 10.
    pub cider: f64,
    /// ROUGE-L, 0 to 1.
    pub rouge_l: f64,
    /// Share of captions that are one of their references, 0 to 1.
    pub exact: f64,
}

/// A picture's caption beside what people wrote.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Example {
    /// The picture.
    pub key: String,
    /// The model's.
    pub caption: String,
    /// People's.
    pub references: Vec<String>,
}

/// What was measured of captions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CaptionFigures {
    /// Pictures with a reference.
    pub pictures: usize,
    /// What Rust computes.
    pub scores: CaptionScores,
    /// METEOR, where Java and pycocoevalcap are there.
    pub meteor: JavaScore,
    /// SPICE, which is offered.
    pub spice: JavaScore,
    /// The first few.
    pub examples: Vec<Example>,
}

/// A caption that was written.
pub(super) struct Own {
    pub(super) entry: usize,
    pub(super) caption: String,
}

/// Writes a caption for each picture that has a text.
pub(super) fn write<D: Device>(
    run: &Run<'_>,
    captioner: &Network<'_, D>,
    broken: &mut Broken,
) -> Result<Vec<Own>, EvaluationError> {
    let mut own = Vec::new();
    run.each("captions", broken, |batch| {
        let pixels = batch.pixels(captioner.image_size(), &captioner.normalization);
        let seen = captioner.see(&pixels, batch.entries.len())?;
        let seeds: Vec<u64> = batch.entries.iter().map(|entry| *entry as u64).collect();
        let written = captioner.write(&seen, &seeds, &run.settings.captions)?;
        for (entry, texts) in batch.entries.iter().zip(written) {
            let caption = texts.into_iter().next().map(|text| text.text).unwrap_or_default();
            own.push(Own { entry: *entry, caption });
        }
        Ok(())
    })?;
    own.retain(|own| !run.dataset.entry(own.entry).texts.is_empty());
    if own.is_empty() { Err(EvaluationError::Nothing { what: "texts" }) } else { Ok(own) }
}

pub(super) fn score(run: &Run<'_>, own: &[Own]) -> Result<CaptionFigures, EvaluationError> {
    let set = set(run, own.iter().map(|own| (own.entry, own.caption.as_str())))?;
    let example = |own: &Own| Example {
        key: run.dataset.entry(own.entry).key.clone(),
        caption: own.caption.clone(),
        references: references(run, own.entry),
    };
    Ok(CaptionFigures {
        pictures: own.len(),
        scores: scores(&set),
        meteor: meteor(&set, &run.settings.python),
        spice: spice(),
        examples: own.iter().take(run.settings.examples).map(example).collect(),
    })
}

/// Captions with their references.
pub(super) fn set<'a>(
    run: &Run<'_>,
    captions: impl Iterator<Item = (usize, &'a str)>,
) -> Result<CaptionSet, EvaluationError> {
    let pair = |(entry, caption): (usize, &str)| Captioned {
        candidate: caption.to_owned(),
        references: references(run, entry),
    };
    Ok(CaptionSet::new(captions.map(pair).collect())?)
}

pub(super) fn scores(set: &CaptionSet) -> CaptionScores {
    CaptionScores {
        bleu_4: set.bleu().corpus[3],
        cider: set.cider().mean,
        rouge_l: set.rouge_l().mean,
        exact: set.exact(),
    }
}

fn references(run: &Run<'_>, entry: usize) -> Vec<String> {
    run.dataset.entry(entry).texts.iter().map(|text| text.text.clone()).collect()
}
