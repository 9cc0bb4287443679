//! The entries as they are found: merged by picture, within the limits, with a count of what was left out.

use std::collections::HashMap;

use super::format::LOOKED_FOR;
use super::record::Record;
use super::{DatasetError, Entry, MAX_ENTRIES, MAX_TEXT_BYTES, Origin, Place};

/// Most skipped things that are named; all are counted.
const MAX_NAMED: usize = 20;

/// What a dataset has that cannot be used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Skipped {
    count: u64,
    first: Vec<String>,
}

impl Skipped {
    /// How many files, rows and texts were left out.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The first ones, printable, each with its reason.
    pub fn first(&self) -> &[String] {
        &self.first
    }

    pub(super) fn join(&mut self, other: Skipped) {
        self.count += other.count;
        let room = MAX_NAMED - self.first.len();
        self.first.extend(other.first.into_iter().take(room));
    }
}

/// Gathers entries.
pub(super) struct Index {
    location: String,
    /// Where a text is from that does not say so.
    pub(super) origin: Origin,
    entries: Vec<Entry>,
    by_key: HashMap<String, usize>,
    identities: HashMap<String, u64>,
    skipped: Skipped,
}

impl Index {
    pub(super) fn new(location: &str, origin: Origin) -> Self {
        Self {
            location: location.to_owned(),
            origin,
            entries: Vec::new(),
            by_key: HashMap::new(),
            identities: HashMap::new(),
            skipped: Skipped::default(),
        }
    }

    /// Counts and names something that cannot be used.
    pub(super) fn skip(&mut self, name: &str, reason: &str) {
        self.skipped.count += 1;
        if self.skipped.first.len() < MAX_NAMED {
            let line: String = format!("{name}: {reason}").chars().take(MAX_NAME_LENGTH).collect();
            self.skipped.first.push(terminal::printable(&line).replace('\n', " "));
        }
    }

    /// Adds what a row says about a picture: to its entry, if another row has the same key.
    pub(super) fn add(&mut self, key: String, place: Place, record: Record) -> Result<(), DatasetError> {
        let record = self.without_long_texts(&key, record);
        if let Some(known) = self.by_key.get(&key) {
            let entry = &mut self.entries[*known];
            entry.texts.extend(record.texts);
            entry.questions.extend(record.questions);
            entry.truth = entry.truth.take().or(record.truth);
            return Ok(());
        }
        self.push(key, place, record)
    }

    /// Adds a picture that is another one, even if a picture of this name is there: it gets a number then.
    pub(super) fn add_apart(&mut self, key: String, place: Place, record: Record) -> Result<(), DatasetError> {
        let record = self.without_long_texts(&key, record);
        let mut name = key.clone();
        let mut number = self.entries.len();
        while self.by_key.contains_key(&name) {
            name = format!("{key}#{number}");
            number += 1;
        }
        self.push(name, place, record)
    }

    fn push(&mut self, key: String, place: Place, record: Record) -> Result<(), DatasetError> {
        let index = self.entries.len();
        if index >= MAX_ENTRIES {
            return Err(too_many(&self.location));
        }
        let image = match record.image_id {
            Some(id) => *self.identities.entry(id).or_insert(index as u64),
            None => index as u64,
        };
        self.by_key.insert(key.clone(), index);
        let Record { texts, questions, truth, .. } = record;
        self.entries.push(Entry { key, image, texts, questions, truth, place });
        Ok(())
    }

    fn without_long_texts(&mut self, key: &str, mut record: Record) -> Record {
        let is_long = |text: &str| text.len() > MAX_TEXT_BYTES;
        let found = record.texts.len() + record.questions.len();
        record.texts.retain(|text| !is_long(&text.text));
        record.questions.retain(|question| {
            !is_long(&question.text) && !question.answers.iter().any(|answer| is_long(&answer.text))
        });
        for _ in record.texts.len() + record.questions.len()..found {
            self.skip(key, &format!("a text of more than {MAX_TEXT_BYTES} bytes"));
        }
        record
    }

    /// The entries, at least one.
    pub(super) fn finish(self) -> Result<(Vec<Entry>, Skipped), DatasetError> {
        if self.entries.is_empty() {
            let hint = match &self.skipped.first[..] {
                [] => LOOKED_FOR.to_owned(),
                named => format!("{} were skipped, first {}", self.skipped.count, named[0]),
            };
            return Err(DatasetError::Empty { location: self.location, hint });
        }
        Ok((self.entries, self.skipped))
    }
}

/// Most characters of a skipped thing's name and reason.
const MAX_NAME_LENGTH: usize = 300;

pub(super) fn too_many(location: &str) -> DatasetError {
    DatasetError::TooLarge { file: location.to_owned(), limit: MAX_ENTRIES as u64, unit: "pictures" }
}
