//! One shard: caption, judge, decide.

use terminal::progress::Progress;

use super::decide::{Judged, Rule, Scores, decide, words};
use super::parts::Part;
use super::{Capfilt, CapfiltError, Captioned, Decision};
use crate::dataset::Origin;
use crate::engine::{Device, splitmix64};
use crate::evaluation::{Claim, Decoded, cosine, each_batch};

impl<D: Device> Capfilt<'_, D> {
    /// Decides over a shard and writes its file.
    pub(super) fn work_on(&self, shard: usize, progress: &Progress) -> Result<(), CapfiltError> {
        let header = self.header(shard);
        let mut part = Part { broken: Vec::new(), decisions: Vec::new(), header };
        let entries = part.header.start..part.header.end;
        each_batch(self.dataset, entries, self.settings.batch, |batch| {
            part.broken.extend_from_slice(&batch.broken);
            if !batch.entries.is_empty() {
                part.decisions.extend(self.decisions(&batch)?);
            }
            (0..batch.entries.len() + batch.broken.len()).for_each(|_| progress.step());
            Ok::<(), CapfiltError>(())
        })?;
        self.parts.write(&part)
    }

    fn decisions(&self, batch: &Decoded) -> Result<Vec<Decision>, CapfiltError> {
        let mut texts = self.texts(batch)?;
        self.judge(batch, &mut texts)?;
        let settings = &self.settings;
        let rule =
            Rule { threshold: settings.threshold, similarity: settings.similarity, duplicate: settings.duplicate };
        let mut decisions = Vec::new();
        for (entry, texts) in batch.entries.iter().zip(texts) {
            let reasons = decide(&texts, &rule);
            decisions.extend(texts.into_iter().zip(reasons).map(|(judged, reason)| Decision {
                key: self.dataset.entry(*entry).key.clone(),
                entry: *entry,
                text: judged.text,
                origin: judged.origin,
                itm: judged.scores.map(|scores| scores.itm),
                itc: judged.scores.map(|scores| scores.itc),
                kept: reason.keeps(),
                reason,
            }));
        }
        Ok(decisions)
    }

    /// Each picture's own texts, then those that the captioner writes.
    fn texts(&self, batch: &Decoded) -> Result<Vec<Vec<Judged>>, CapfiltError> {
        let judged = |text: &str, origin| Judged { text: text.to_owned(), origin, scores: None };
        let mut texts: Vec<Vec<Judged>> = batch
            .entries
            .iter()
            .map(|entry| &self.dataset.entry(*entry).texts)
            .map(|texts| texts.iter().map(|text| judged(&text.text, text.origin)).collect())
            .collect();
        let is_human = |texts: &[Judged]| texts.iter().any(|text| text.origin == Origin::Human);
        let wanted: Vec<usize> = (0..texts.len())
            .filter(|place| self.settings.captioned == Captioned::All || !is_human(&texts[*place]))
            .collect();
        if wanted.is_empty() {
            return Ok(texts);
        }
        let seeds: Vec<u64> = wanted.iter().map(|place| self.seed(batch.entries[*place])).collect();
        let chosen = Decoded {
            pictures: wanted.iter().map(|place| batch.pictures[*place].clone()).collect(),
            ..Decoded::default()
        };
        let pixels = chosen.pixels(self.captioner.image_size(), &self.captioner.normalization);
        let seen = self.captioner.see(&pixels, wanted.len())?;
        let written = self.captioner.write(&seen, &seeds, &self.settings.writing)?;
        for (place, written) in wanted.into_iter().zip(written) {
            texts[place].extend(written.iter().map(|written| judged(&written.text, Origin::Synthetic)));
        }
        Ok(texts)
    }

    /// A picture's seed depends on its place in the dataset alone.
    fn seed(&self, entry: usize) -> u64 {
        splitmix64(self.settings.seed ^ splitmix64(entry as u64))
    }

    /// Gives scores to all texts with words.
    fn judge(&self, batch: &Decoded, texts: &mut [Vec<Judged>]) -> Result<(), CapfiltError> {
        let pixels = batch.pixels(self.filter.image_size(), &self.filter.normalization);
        let seen = self.filter.see(&pixels, batch.entries.len())?;
        let with_words: Vec<(usize, usize)> = texts
            .iter()
            .enumerate()
            .flat_map(|(picture, texts)| (0..texts.len()).map(move |text| (picture, text)))
            .filter(|(picture, text)| !words(&texts[*picture][*text].text).is_empty())
            .collect();
        if with_words.is_empty() {
            return Ok(());
        }
        let claims: Vec<Claim<'_>> = with_words
            .iter()
            .map(|(picture, text)| Claim { picture: *picture, text: &texts[*picture][*text].text })
            .collect();
        let itm = self.filter.match_probabilities(&seen, &claims)?;
        let all: Vec<&str> = claims.iter().map(|claim| claim.text).collect();
        let vectors = self.filter.text_vectors(&all)?;
        let images = self.filter.image_vectors(&seen)?;
        let width = vectors.len() / claims.len();
        for (((picture, text), itm), vector) in with_words.into_iter().zip(itm).zip(vectors.chunks_exact(width)) {
            let itc = cosine(&images[picture * width..][..width], vector);
            texts[picture][text].scores = Some(Scores { itm, itc });
        }
        Ok(())
    }
}
