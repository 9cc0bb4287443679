//! What the model's thread does with a frame: look, compare with what was kept, write, judge.

use std::sync::Arc;
use std::time::{Duration, Instant};

use blip::caption::Caption;
use field::config::{Captions, Settings};
use field::duplicates::Kept;
use field::filter::{Fate, Filter};
use store::Vector;

use crate::face::Refusal;
use crate::filter::{Describe, DescribeError, Judgement, Scored, Wanted, judge, seed_of};
use crate::matcher::{Embedding, MatchError};

use super::job::Job;
use super::today::{Today, day_of};

/// What came of a frame.
#[derive(Clone, Debug, PartialEq)]
pub enum Found {
    /// It cannot be decoded, and why.
    Unreadable(String),
    /// It is nearly one that was kept.
    Duplicate,
    /// The model stopped, and why.
    Failed(String),
    /// It has texts, and the filter has decided.
    Judged(Judgement),
}

/// What each stage took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Times {
    /// Decoding the frame.
    pub decode: Duration,
    /// The image encoder.
    pub see: Duration,
    /// Captions and scores.
    pub describe: Duration,
}

/// A frame that the model is done with.
#[derive(Debug)]
pub struct Outcome {
    /// The frame.
    pub job: Job,
    /// What came of it.
    pub found: Found,
    /// Share of texts that the filter rejects of late: its health.
    pub rejects: Option<f64>,
    /// What the stages took.
    pub times: Times,
    /// The bundle.
    pub bundle: Caption,
    /// The picture's ITC vector.
    pub vector: Option<Vector>,
}

/// The model with what it remembers from one frame to the next.
pub struct Describer<D> {
    model: D,
    bundle: Caption,
    filter: Filter,
    kept: Kept,
    settings: Arc<Settings>,
}

impl<D: Describe> Describer<D> {
    /// A describer that has seen nothing.
    pub fn new(model: D, settings: Arc<Settings>) -> Describer<D> {
        // A bundle's id is a SHA-256 in hexadecimal digits.
        let bundle = Caption::new(model.bundle()).unwrap_or_else(|_| Caption::new("").expect("nothing is printable"));
        let filter = Filter::new(&settings.filter);
        let kept = Kept::new(settings.triggers.duplicate_memory);
        Describer { model, bundle, filter, kept, settings }
    }

    /// Takes over what of a day's budget is used already, as when the program starts again.
    pub fn resume(&mut self, today: Today) {
        self.filter.resume(today.day, today.kept);
    }

    /// Looks at a frame and says what came of it.
    pub fn describe(&mut self, job: Job) -> Outcome {
        if !Arc::ptr_eq(&self.settings, &job.settings) {
            self.settings = Arc::clone(&job.settings);
            self.filter.set(&self.settings.filter);
            self.kept.set_most(self.settings.triggers.duplicate_memory);
        }
        let (mut times, mut vector) = (Times::default(), None);
        let found = self.find(&job, &mut times, &mut vector);
        let (rejects, bundle) = (self.filter.health().rejected(), self.bundle.clone());
        Outcome { job, found, rejects, times, bundle, vector }
    }

    /// Captions for a picture that is not of the camera and is not kept. The shown one comes first.
    ///
    /// # Errors
    /// Bytes that are no picture, or a model that stops.
    pub fn caption(&self, picture: &[u8], captions: &Captions) -> Result<Vec<Scored>, Refusal> {
        let picture = picture::decode(picture).map_err(|error| Refusal::Unusable(error.to_string()))?;
        let wanted = Wanted { captions, raw: &[], seed: captions.seed };
        let scored = self.model.see(&picture).and_then(|mut sight| self.model.describe(&mut sight, &wanted));
        scored.map_err(|error| Refusal::Failed(error.to_string()))
    }

    /// A text as a vector, and the bundle whose vectors it may be compared with; nothing without a matcher.
    ///
    /// # Errors
    /// A text that the model cannot read, or a model that stops.
    pub fn embed(&self, text: &str) -> Result<Option<(Embedding, Caption)>, Refusal> {
        let vector = self.model.embed(text).map_err(|error| match error {
            DescribeError::Match(MatchError::Inference(_)) => Refusal::Failed(error.to_string()),
            _ => Refusal::Unusable(error.to_string()),
        })?;
        Ok(vector.map(|vector| (vector, self.bundle.clone())))
    }

    fn find(&mut self, job: &Job, times: &mut Times, kept_vector: &mut Option<Vector>) -> Found {
        let captions = &job.settings.captions;
        let start = Instant::now();
        let picture = match job.frame.to_rgb() {
            Ok(picture) => picture,
            Err(fault) => return Found::Unreadable(fault.to_string()),
        };
        times.decode = start.elapsed();
        let start = Instant::now();
        let seen = self.model.see(&picture).and_then(|sight| Ok((self.model.vector(&sight)?, sight)));
        times.see = start.elapsed();
        let (vector, mut sight) = match seen {
            Ok(seen) => seen,
            Err(error) => return failed(&error),
        };
        let vector = vector.as_ref().map(|vector| vector.0.as_slice());
        *kept_vector = vector.and_then(Vector::new);
        // What somebody wrote about this very picture is never thrown away.
        let may_be_dropped = !job.why.is_asked_for() && job.frame.note.is_none();
        let cosine = job.settings.triggers.duplicate_cosine;
        if may_be_dropped && vector.is_some_and(|vector| self.kept.is_duplicate(vector, cosine)) {
            return Found::Duplicate;
        }
        let start = Instant::now();
        let seed = seed_of(captions.seed, &job.taken.boot.to_string(), job.number);
        let scored = match self.model.describe(&mut sight, &Wanted { captions, raw: &job.raw, seed }) {
            Ok(scored) => scored,
            Err(error) => return failed(&error),
        };
        times.describe = start.elapsed();
        let judgement = self.judge(job, scored);
        if let (Fate::Kept, Some(vector)) = (judgement.fate, vector) {
            self.kept.keep(vector);
        }
        Found::Judged(judgement)
    }

    fn judge(&mut self, job: &Job, scored: Vec<Scored>) -> Judgement {
        let day = day_of(job.taken.known_ms(), job.taken.since_boot, &job.settings.place.zone);
        judge(&mut self.filter, job.name().as_bytes(), scored, day, &self.bundle)
    }
}

fn failed(error: &DescribeError) -> Found {
    Found::Failed(error.to_string())
}
