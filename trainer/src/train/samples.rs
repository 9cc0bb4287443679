//! Captions of a few pictures while the model learns: always the same pictures, so that what changes is the model.

use std::collections::{BTreeSet, HashSet};

use blip::decoding::{DecodingOptions, Strategy};
use blip::pixels::{Rgb8, preprocess};
use terminal::{explained, printable};

use super::{Beginning, Job, Learner, TrainError, open_data};
use crate::dataset::Dataset;
use crate::engine::{Device, splitmix64};
use crate::generation::{GenerationError, Network, Writing};
use crate::journal::{SampleCaption, StepRecord};
use crate::report::{JudgedText, PictureCard, Verdict, reduced};
use crate::settings::Task;

/// Pictures that are passed over where they cannot be read.
const MOST_BROKEN: usize = 16;
/// Bytes of a name or a text that are kept: a step's captions are one line of the journal.
const MOST_BYTES: usize = 256;
/// Captions of one picture on the page.
const MOST_SHOWN: usize = 8;

/// The pictures, and how texts are written for them.
pub(super) struct Samples {
    pictures: Vec<Sample>,
    writing: Writing,
    every: u64,
    batch: usize,
}

struct Sample {
    key: String,
    /// What an answerer is asked.
    question: Option<String>,
    /// The first text of the data, if it has one.
    text: Option<String>,
    pixels: Vec<f32>,
    small: Rgb8,
}

impl Samples {
    /// Draws pictures from `data.validation`, or from `data` where there is none; nothing where no text is wanted or the
    /// model writes none. Pictures that are lacking are told to `say`.
    pub fn choose(
        job: &Job,
        beginning: &Beginning,
        data: &Dataset,
        mut say: impl FnMut(&str),
    ) -> Result<Option<Samples>, TrainError> {
        let settings = &job.settings;
        let (every, wanted) = (settings.output.captions_every, settings.output.captions);
        if every == 0 || wanted == 0 || beginning.model.decoder.is_none() {
            return Ok(None);
        }
        let held_out = match settings.data.validation.as_str() {
            "" => None,
            place => Some(open_data(&[place.to_owned()])?),
        };
        let data = held_out.as_deref().unwrap_or(data);
        let asks = job.task == Task::Answerer;
        let entries: Vec<usize> =
            (0..data.len()).filter(|entry| !asks || !data.entry(*entry).questions.is_empty()).collect();
        let (mut pictures, mut keys, mut broken) = (Vec::new(), BTreeSet::new(), Vec::new());
        for place in draw(entries.len(), settings.run.seed).take(entries.len().min(wanted + MOST_BROKEN)) {
            match sample(data, entries[place], beginning) {
                Ok(mut sample) => {
                    // Datasets that are joined may have names in common.
                    if !keys.insert(sample.key.clone()) {
                        sample.key = format!("{}-{}", sample.key, entries[place]);
                    }
                    sample.question = sample.question.filter(|_| asks);
                    pictures.push(sample);
                }
                Err(reason) => broken.push(reason),
            }
            if pictures.len() == wanted {
                break;
            }
        }
        if let Some(first) = broken.first().filter(|_| pictures.len() < wanted) {
            let (some, lost) = (pictures.len(), broken.len());
            say(&format!("sample captions of {some} pictures: {lost} cannot be read, the first: {first}"));
        }
        if pictures.is_empty() {
            return Ok(None);
        }
        let prompt = if asks { String::new() } else { settings.data.prompt.clone() };
        let writing = Writing { prompt, options: likeliest(settings.data.tokens), texts: 1 };
        Ok(Some(Samples { pictures, writing, every, batch: settings.run.batch }))
    }

    /// Names and small pictures.
    pub fn pictures(&self) -> impl Iterator<Item = (&str, &Rgb8)> {
        self.pictures.iter().map(|sample| (sample.key.as_str(), &sample.small))
    }

    /// Whether captions are wanted after this step.
    pub fn are_due(&self, step: u64) -> bool {
        step.is_multiple_of(self.every)
    }

    /// What the model writes about each picture now.
    ///
    /// # Errors
    /// The device, or a model whose numbers are none.
    pub fn write<D: Device>(
        &self,
        learner: &Learner<D>,
        beginning: &Beginning,
    ) -> Result<Vec<SampleCaption>, GenerationError> {
        let network = Network {
            device: learner.device(),
            model: learner.model(),
            parameters: learner.weights(),
            tokenizer: &beginning.tokenizer,
            normalization: beginning.preparation.normalization,
            encoder_token: beginning.preparation.tokens.encoder_start,
        };
        let mut captions = Vec::with_capacity(self.pictures.len());
        for batch in self.pictures.chunks(self.batch) {
            let pixels: Vec<f32> = batch.iter().flat_map(|sample| &sample.pixels).copied().collect();
            let seen = network.see(&pixels, batch.len())?;
            let questions: Vec<String> = batch.iter().filter_map(|sample| sample.question.clone()).collect();
            // The likeliest words need no random numbers.
            let seeds = vec![0; batch.len()];
            let written = match questions.is_empty() {
                true => network.write(&seen, &seeds, &self.writing)?,
                false => network.answer(&seen, &questions, &seeds, &self.writing)?,
            };
            for (sample, texts) in batch.iter().zip(written) {
                let text = texts.into_iter().next().map(|written| written.text).unwrap_or_default();
                let asked = sample.question.iter().map(String::as_str);
                let text = shortened(&asked.chain([text.as_str()]).collect::<Vec<_>>().join(" "));
                captions.push(SampleCaption { picture: sample.key.clone(), text });
            }
        }
        Ok(captions)
    }

    /// Each picture with its captions over time, the newest first.
    pub fn cards(&self, records: &[StepRecord]) -> Vec<PictureCard> {
        let shown = |source: String, text: &str| JudgedText {
            source,
            text: text.to_owned(),
            score: None,
            verdict: Verdict::Shown,
        };
        let card = |sample: &Sample| {
            let of_it = |caption: &&SampleCaption| caption.picture == sample.key;
            let written: Vec<(u64, &str)> = records
                .iter()
                .filter_map(|record| Some((record.step, record.captions.iter().find(of_it)?.text.as_str())))
                .collect();
            let mut texts: Vec<JudgedText> =
                sample.text.iter().map(|text| shown("in the data".to_owned(), text)).collect();
            texts.extend(spread(&written).into_iter().rev().map(|(step, text)| shown(format!("step {step}"), text)));
            PictureCard { picture: sample.small.clone(), texts }
        };
        self.pictures.iter().map(card).collect()
    }
}

/// Different places below `count`, in an order that the seed determines.
fn draw(count: usize, seed: u64) -> impl Iterator<Item = usize> {
    let mut drawn = HashSet::new();
    let places = (0..).map(move |turn| (splitmix64(seed ^ splitmix64(turn)) % count as u64) as usize);
    places.filter(move |place| drawn.insert(*place))
}

fn sample(data: &Dataset, entry: usize, beginning: &Beginning) -> Result<Sample, String> {
    let found = data.entry(entry);
    let bytes = data.picture_bytes(entry).map_err(|error| explained(&error))?;
    let picture = picture::decode(&bytes).map_err(|error| format!("{}: {}", found.key, explained(&error)))?;
    let (side, normalization) = (beginning.config.vision.image_size, &beginning.preparation.normalization);
    Ok(Sample {
        key: shortened(&found.key),
        question: found.questions.first().map(|question| question.text.clone()),
        text: found.texts.first().map(|text| shortened(&text.text)),
        pixels: preprocess(&picture, side, normalization),
        small: reduced(&picture),
    })
}

fn shortened(text: &str) -> String {
    let mut text = printable(text).replace('\n', " ");
    text.truncate(text.floor_char_boundary(MOST_BYTES));
    text
}

/// The likeliest word at every step, in texts as long as those that are learned.
fn likeliest(tokens: usize) -> DecodingOptions {
    DecodingOptions {
        strategy: Strategy::Greedy,
        repetition_penalty: 1.0,
        no_repeat_ngram: 0,
        min_length: 0,
        max_length: tokens.min(blip::decoding::MAX_LENGTH),
        length_penalty: 1.0,
    }
}

/// The first, the last, and some between.
fn spread<T: Copy>(all: &[T]) -> Vec<T> {
    if all.len() <= MOST_SHOWN {
        return all.to_vec();
    }
    (0..MOST_SHOWN).map(|place| all[place * (all.len() - 1) / (MOST_SHOWN - 1)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_are_drawn_once_each_and_the_seed_says_which() {
        let drawn = |seed| draw(50, seed).take(50).collect::<Vec<_>>();
        let mut sorted = drawn(1);
        sorted.sort_unstable();
        assert_eq!(sorted, (0..50).collect::<Vec<_>>());
        assert_eq!(drawn(1), drawn(1));
        assert_ne!(drawn(1)[..4], drawn(2)[..4]);
        assert_eq!(draw(0, 1).take(0).count(), 0);
    }

    #[test]
    fn the_page_shows_the_first_caption_and_the_last() {
        let all: Vec<usize> = (0..100).collect();
        let shown = spread(&all);
        assert_eq!((shown.len(), shown[0], shown[MOST_SHOWN - 1]), (MOST_SHOWN, 0, 99));
        assert_eq!(spread(&all[..3]), [0, 1, 2]);
    }

    #[test]
    fn what_is_kept_of_a_text_is_printable_and_short() {
        assert_eq!(shortened("a\u{1b}[31m\nb"), "a\u{fffd}[31m b");
        assert!(shortened(&"é".repeat(1000)).len() <= MOST_BYTES);
    }
}
