//! Pairs that wait in the store for their captions: frames of hours in which none are written, on a board that the sun
//! feeds. No bundle has looked at them.
//!
//! A pair is never changed: one with captions is stored, and then the one without is taken out. A power cut between the
//! two leaves both.

use std::collections::VecDeque;
use std::sync::Arc;

use camera::{Frame, Image};
use field::clock::{ClockQuality, Moment};
use field::config::Settings;
use field::trigger::Cause;
use store::{Decision, Entry, PairFacts, PairId, StoredPair, Text};

use crate::filter::Raw;

use super::job::{Job, Why};
use super::keeping::Keep;

/// Where the search for pairs without captions is.
#[derive(Debug, Default)]
pub(super) struct Later {
    /// The last pair that was looked at.
    cursor: Option<PairId>,
    /// Pairs without captions behind it.
    found: VecDeque<PairId>,
    is_at_end: bool,
    is_at_work: bool,
}

impl Later {
    /// The next pair for the model. Looks at one page of the store at most.
    pub(super) fn next<K: Keep>(&mut self, store: &K, settings: &Arc<Settings>, now: &Moment) -> Option<Job> {
        if self.found.is_empty() && !self.is_at_end {
            let page = store.list(self.cursor).unwrap_or_else(|error| {
                log::warn!(error:% = error; "pairs that wait for captions cannot be listed");
                Vec::new()
            });
            self.is_at_end = page.is_empty();
            self.cursor = page.last().map(|entry| entry.id).or(self.cursor);
            self.found.extend(page.iter().filter(|entry| is_unlooked(entry)).map(|entry| entry.id));
        }
        let id = self.found.pop_front()?;
        match store.get(id) {
            Ok(StoredPair { facts, jpeg: Some(jpeg), .. }) => {
                self.is_at_work = true;
                Some(job(id, facts, jpeg, settings, now))
            }
            // Its texts are judged, or it would have a picture.
            Ok(StoredPair { jpeg: None, .. }) => None,
            Err(error) => {
                log::warn!(pair:% = id, error:% = error; "a pair stays without captions");
                None
            }
        }
    }

    /// Hours in which captions are written begin anew: so does the search.
    pub(super) fn rest(&mut self, is_wanted: bool) {
        if !is_wanted {
            let is_at_work = self.is_at_work;
            *self = Later { is_at_work, ..Later::default() };
        }
    }

    pub(super) fn done(&mut self) {
        self.is_at_work = false;
    }

    pub(super) fn is_at_work(&self) -> bool {
        self.is_at_work
    }
}

fn is_unlooked(entry: &Entry) -> bool {
    entry.facts.as_ref().is_some_and(|facts| facts.bundle.is_none())
}

fn job(id: PairId, facts: PairFacts, jpeg: Vec<u8>, settings: &Arc<Settings>, now: &Moment) -> Job {
    let quality = match facts.taken.quality {
        store::ClockQuality::Ntp => ClockQuality::Ntp,
        store::ClockQuality::Rtc => ClockQuality::Rtc,
        store::ClockQuality::Gps => ClockQuality::Gps,
        store::ClockQuality::Guessed => ClockQuality::Guessed,
    };
    let taken = Moment {
        boot: facts.boot_id.as_str().parse().unwrap_or(now.boot),
        since_boot: std::time::Duration::from_millis(facts.taken.since_boot_ms),
        wall_ms: facts.taken.wall_ms,
        quality,
    };
    let cause = Cause::ALL.into_iter().find(|cause| cause.name() == facts.sensor.trigger.as_str());
    let raw = facts.texts.into_iter().map(|text| Raw { words: text.words, origin: text.origin }).collect();
    let mut frame = Frame::new(Image::Jpeg(jpeg), format!("pair {id}"));
    frame.exposure = facts.sensor.exposure_us.map(|exposure| std::time::Duration::from_micros(exposure.into()));
    Job {
        number: id.sequence(),
        frame,
        why: cause.map_or(Why::Source, Why::Cause),
        raw,
        taken,
        sensor: facts.sensor,
        place: facts.place,
        settings: Arc::clone(settings),
        stored: Some(id),
    }
}

/// A text that came with a frame at which no model has looked.
pub(super) fn unjudged(raw: &Raw) -> Text {
    let (words, origin) = (raw.words.clone(), raw.origin);
    Text { words, origin, itm: None, itc: None, log_prob: None, decision: Decision::Kept, model: None }
}
