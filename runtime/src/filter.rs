//! CapFilt on the board: texts for a picture, what the matcher says of each, and which of them are worth keeping.
//!
//! The captioner writes, the matcher judges its texts and those that came with the picture alike. Source: BLIP, arXiv
//! 2201.12086, section 3.3. Nothing is thrown away here: a rejected text stays, with its scores and the reason.

use blip::caption::Caption;
use blip::decoding::{DecodingOptions, Strategy};
use blip::pixels::Rgb8;
use field::config::Captions;
use field::filter::{Fate, Filter, Text as Judged, Verdict};
use sha2::{Digest, Sha256};
use store::pair::MAX_TEXTS;
use store::{Decision, Origin, Text};

use crate::captioner::{CaptionError, Captioner};
use crate::decoder::{self, Writing};
use crate::inference::InferenceError;
use crate::matcher::{Embedding, MatchError, Matcher};
use crate::model::{Model, ModelError};
use crate::vision::View;

/// Most texts that come with one picture.
pub const MAX_RAW: usize = 16;

/// A picture that cannot be described.
#[derive(Debug, thiserror::Error)]
pub enum DescribeError {
    /// The image encoder stopped.
    #[error(transparent)]
    Inference(#[from] InferenceError),
    /// The captioner is not there.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The captioner stopped.
    #[error(transparent)]
    Caption(#[from] CaptionError),
    /// The matcher stopped.
    #[error(transparent)]
    Match(#[from] MatchError),
}

/// A text that came with a picture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Raw {
    /// Its words.
    pub words: Caption,
    /// Where it is from.
    pub origin: Origin,
}

/// What is to be written and judged.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// How captions are written, and how many.
    pub captions: &'a Captions,
    /// Texts that came with the picture; of more than [`MAX_RAW`] the first.
    pub raw: &'a [Raw],
    /// Seed of the candidates: see [`seed_of`].
    pub seed: u64,
}

/// A text with what the models say of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Scored {
    /// Its words.
    pub words: Caption,
    /// Where it is from.
    pub origin: Origin,
    /// Probability that it matches, by the image-text matching head; nothing without a matcher.
    pub itm: Option<f32>,
    /// Cosine to the picture, by the contrastive head.
    pub itc: Option<f32>,
    /// Its log-probability, if the captioner wrote it.
    pub log_prob: Option<f32>,
    /// Why the matcher cannot read it.
    pub fault: Option<&'static str>,
}

/// What looks at pictures and finds words for them.
pub trait Describe {
    /// A picture as it was seen.
    type Sight;

    /// Looks at a picture.
    ///
    /// # Errors
    /// A model that stops.
    fn see(&self, picture: &Rgb8) -> Result<Self::Sight, DescribeError>;

    /// The picture's ITC vector; nothing without a matcher.
    ///
    /// # Errors
    /// A model that stops.
    fn vector(&self, sight: &Self::Sight) -> Result<Option<Embedding>, DescribeError>;

    /// Writes captions and scores them and the texts that came along. The shown caption comes first.
    ///
    /// # Errors
    /// A model that stops.
    fn describe(&self, sight: &mut Self::Sight, wanted: &Wanted<'_>) -> Result<Vec<Scored>, DescribeError>;

    /// A text's ITC vector; nothing without a matcher.
    ///
    /// # Errors
    /// A text that the model cannot read, or a model that stops.
    fn embed(&self, text: &str) -> Result<Option<Embedding>, DescribeError>;

    /// Id of the bundle.
    fn bundle(&self) -> &str;

    /// Whether there is a matcher: without one no text is judged.
    fn has_matcher(&self) -> bool;
}

impl Describe for Model {
    type Sight = View;

    fn see(&self, picture: &Rgb8) -> Result<View, DescribeError> {
        Ok(Model::see(self, picture)?)
    }

    fn vector(&self, sight: &View) -> Result<Option<Embedding>, DescribeError> {
        Ok(self.matcher().ok().map(|matcher| matcher.embed_image(sight)).transpose()?)
    }

    fn describe(&self, sight: &mut View, wanted: &Wanted<'_>) -> Result<Vec<Scored>, DescribeError> {
        let raw = wanted.raw.get(..wanted.raw.len().min(MAX_RAW)).unwrap_or_default();
        let captioner = self.captioner()?;
        let mut texts = write(captioner, sight, shown(captioner, wanted.captions), Origin::Caption)?;
        // Before the candidates: of two that say the same the earlier one is kept.
        texts.extend(raw.iter().map(|raw| Scored::unjudged(raw.words.clone(), raw.origin, None)));
        // The store takes so many texts of a pair.
        let candidates = usize::from(wanted.captions.candidates).min(MAX_TEXTS.saturating_sub(texts.len()));
        if candidates > 0 {
            let writing = sampled(captioner, wanted, candidates);
            texts.extend(write(captioner, sight, writing, Origin::Candidate)?);
        }
        if let Ok(matcher) = self.matcher() {
            let image = matcher.embed_image(sight)?;
            for text in &mut texts {
                text.score(matcher, sight, &image)?;
            }
        }
        Ok(texts)
    }

    fn embed(&self, text: &str) -> Result<Option<Embedding>, DescribeError> {
        Ok(self.matcher().ok().map(|matcher| matcher.embed_text(text)).transpose()?)
    }

    fn bundle(&self) -> &str {
        Model::bundle(self).id()
    }

    fn has_matcher(&self) -> bool {
        self.matcher().is_ok()
    }
}

/// The caption that is shown: beams, and for the rest what the bundle says.
fn shown(captioner: &Captioner, captions: &Captions) -> Writing {
    let facts = captioner.facts();
    let strategy = match captions.beams {
        0 | 1 => Strategy::Greedy,
        beams => Strategy::Beam { beams: beams.into() },
    };
    let options = DecodingOptions { strategy, ..facts.decoding };
    Writing { prompt: facts.prompt.clone(), options, seed: 0, texts: 1 }
}

fn sampled(captioner: &Captioner, wanted: &Wanted<'_>, texts: usize) -> Writing {
    let facts = captioner.facts();
    let Captions { top_p, temperature, .. } = *wanted.captions;
    let strategy = Strategy::Nucleus { top_p: top_p as f32, temperature: temperature as f32, top_k: None };
    let options = DecodingOptions { strategy, ..facts.decoding };
    Writing { prompt: facts.prompt.clone(), options, seed: wanted.seed, texts }
}

fn write(
    captioner: &Captioner,
    sight: &mut View,
    writing: Writing,
    origin: Origin,
) -> Result<Vec<Scored>, DescribeError> {
    let written = captioner.describe(sight, &writing)?;
    let scored = |text: decoder::Caption| Scored::unjudged(storable(&text.text), origin, Some(text.log_prob));
    Ok(written.into_iter().map(scored).collect())
}

/// A text of a model as the store takes it: a vocabulary may hold characters that cannot be printed, and a loop may be
/// longer than any caption.
fn storable(text: &str) -> Caption {
    let printable: String = text.chars().filter(|c| Caption::new(c.to_string()).is_ok()).collect();
    let end = printable.floor_char_boundary(blip::caption::MAX_CAPTION_BYTES);
    Caption::new(printable.get(..end).unwrap_or_default()).expect("it is short, and every character is printable")
}

impl Scored {
    /// A text that no matcher has seen.
    pub fn unjudged(words: Caption, origin: Origin, log_prob: Option<f32>) -> Scored {
        let log_prob = log_prob.filter(|log_prob| log_prob.is_finite());
        Scored { words, origin, itm: None, itc: None, log_prob, fault: None }
    }

    fn score(&mut self, matcher: &Matcher, sight: &mut View, image: &Embedding) -> Result<(), DescribeError> {
        let words = self.words.as_str();
        let scores =
            matcher.match_probability(sight, words).and_then(|itm| Ok((itm, matcher.embed_text(words)?.cosine(image))));
        match scores {
            Ok((itm, itc)) => (self.itm, self.itc) = (Some(itm), Some(itc)),
            Err(MatchError::TooLong { .. }) => self.fault = Some("too-long"),
            Err(MatchError::Text(_)) => self.fault = Some("unreadable"),
            Err(error @ MatchError::Inference(_)) => return Err(error.into()),
        }
        Ok(())
    }
}

/// What becomes of a picture and its texts.
#[derive(Clone, Debug, PartialEq)]
pub struct Judgement {
    /// Every text with its decision.
    pub texts: Vec<Text>,
    /// Of the picture.
    pub fate: Fate,
}

/// Lets the filter decide. `frame` names the picture for the audit's draw, `day` is the number of the day, `model` the
/// bundle that wrote and judged.
pub fn judge(filter: &mut Filter, frame: &[u8], scored: Vec<Scored>, day: i64, model: &Caption) -> Judgement {
    let readable = scored.iter().filter(|text| text.fault.is_none());
    let judged: Vec<Judged<'_>> =
        readable.map(|text| Judged { words: text.words.as_str(), origin: text.origin, itm: text.itm }).collect();
    let decision = filter.decide(frame, &judged, day);
    let mut verdicts = decision.texts.into_iter();
    let texts = scored.into_iter().map(|text| {
        let reason = match text.fault {
            Some(fault) => Some(fault),
            None => verdicts.next().and_then(|verdict| match verdict {
                Verdict::Kept => None,
                Verdict::Rejected(reason) => Some(reason.name()),
            }),
        };
        let is_models = text.log_prob.is_some() || text.itm.is_some();
        // The store takes numbers only.
        let finite = |score: Option<f32>| score.filter(|score| score.is_finite());
        Text {
            decision: reason.map_or(Decision::Kept, |reason| Decision::Rejected(storable(reason))),
            itm: finite(text.itm),
            itc: finite(text.itc),
            log_prob: text.log_prob,
            model: is_models.then(|| model.clone()),
            words: text.words,
            origin: text.origin,
        }
    });
    Judgement { texts: texts.collect(), fate: decision.picture }
}

/// Seed of a frame's candidates, by the configured seed, the boot, and the frame's number in it.
pub fn seed_of(seed: u64, boot: &str, number: u64) -> u64 {
    let hash = Sha256::digest(format!("edgeblip candidates {seed} {boot} {number}"));
    hash.iter().take(8).fold(0, |seed, byte| (seed << 8) | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use field::config;
    use field::filter::Reason;

    use super::*;

    fn scored(words: &str, origin: Origin, itm: Option<f32>) -> Scored {
        Scored { itm, itc: itm, ..Scored::unjudged(Caption::new(words).unwrap(), origin, None) }
    }

    fn judged(texts: Vec<Scored>) -> Judgement {
        let mut filter = Filter::new(&config::Filter { audit: 0.0, ..config::Filter::default() });
        judge(&mut filter, b"1", texts, 0, &Caption::new("bundle").unwrap())
    }

    #[test]
    fn every_text_gets_its_own_decision_also_behind_one_that_the_matcher_cannot_read() {
        let mut unread = scored("too much", Origin::Sidecar, None);
        unread.fault = Some("too-long");
        let judgement = judged(vec![
            scored("an owl", Origin::Caption, Some(0.9)),
            unread,
            scored("a bus", Origin::Sidecar, Some(0.1)),
            scored("an owl", Origin::Candidate, Some(0.9)),
        ]);
        let reasons: Vec<String> = judgement.texts.iter().map(|text| format!("{:?}", text.decision)).collect();
        assert_eq!(judgement.fate, Fate::Kept);
        assert_eq!(reasons[0], "Kept");
        for (place, reason) in [(1, "too-long"), (2, "threshold"), (3, "same")] {
            assert!(reasons[place].contains(reason), "{reasons:?}");
        }
    }

    #[test]
    fn without_a_matcher_captions_are_kept_and_have_no_score() {
        let judgement = judged(vec![scored("an owl", Origin::Caption, None)]);
        assert_eq!((judgement.fate, judgement.texts[0].itm), (Fate::Kept, None));
        assert_eq!(judgement.texts[0].decision, Decision::Kept);
    }

    #[test]
    fn a_score_that_is_no_number_rejects_and_is_not_stored() {
        let judgement = judged(vec![scored("an owl", Origin::Caption, Some(f32::NAN))]);
        assert_eq!(judgement.fate, Fate::Dropped(Reason::NoText));
        assert_eq!(judgement.texts[0].itm, None);
    }

    #[test]
    fn what_a_model_writes_can_be_stored() {
        assert_eq!(storable("a\u{202e}b\nc").as_str(), "abc");
        assert_eq!(storable(&"é".repeat(200)).as_str().len(), 256);
    }

    #[test]
    fn seeds_differ_with_each_of_what_they_are_made_of() {
        let seeds = [seed_of(0, "a", 0), seed_of(1, "a", 0), seed_of(0, "b", 0), seed_of(0, "a", 1)];
        assert!(seeds.iter().enumerate().all(|(place, seed)| !seeds[..place].contains(seed)));
        assert_eq!(seed_of(7, "boot", 9), seed_of(7, "boot", 9));
    }
}
