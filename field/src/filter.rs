//! What is worth keeping: the filter's rule, as a function of scores and of what came before.
//!
//! CapFilt on the board. The matcher's probability that a text matches its picture judges both kinds of texts, those that
//! the captioner wrote and those that came with the picture. Source: BLIP, arXiv 2201.12086, section 3.3. No text is
//! thrown away here: a rejected one is kept as rejected.

mod degenerate;
mod top;
mod audit;
mod health;

pub use audit::is_audited;
pub use degenerate::{Degenerate, degenerate};
pub use health::Health;
pub use top::TopShare;

use blip::caption::Origin;

use crate::config::{Filter as Settings, Rule};

/// A text with what the matcher says of it.
#[derive(Clone, Copy, Debug)]
pub struct Text<'a> {
    /// Its words.
    pub words: &'a str,
    /// Where it is from.
    pub origin: Origin,
    /// ITM probability that it matches the picture; `None` if there is no matcher.
    pub itm: Option<f32>,
}

/// Why a text or a picture is rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// It says nothing.
    Empty,
    /// Its words go round in circles.
    Loop,
    /// Another text of the picture says the same.
    Same,
    /// The matcher's answer is no number.
    NotANumber,
    /// It matches less than the threshold.
    Threshold,
    /// It is not among the best of late.
    Top,
    /// So many pictures are kept in this day already.
    Day,
    /// No text of the picture is kept.
    NoText,
}

impl Reason {
    /// Its name in the store and in counters.
    pub fn name(self) -> &'static str {
        match self {
            Reason::Empty => "empty",
            Reason::Loop => "loop",
            Reason::Same => "same",
            Reason::NotANumber => "not-a-number",
            Reason::Threshold => "threshold",
            Reason::Top => "top",
            Reason::Day => "day",
            Reason::NoText => "no-text",
        }
    }
}

impl From<Degenerate> for Reason {
    fn from(degenerate: Degenerate) -> Reason {
        match degenerate {
            Degenerate::Empty => Reason::Empty,
            Degenerate::Loop => Reason::Loop,
        }
    }
}

/// What the filter says of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is worth learning from.
    Kept,
    /// It is not; it is kept as rejected.
    Rejected(Reason),
}

/// What becomes of a picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is kept.
    Kept,
    /// It is rejected, and kept all the same: the filter is audited on it.
    Audited(Reason),
    /// It is rejected; its texts and scores are kept.
    Dropped(Reason),
}

/// What the filter says of a picture and its texts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Of each text, in their order.
    pub texts: Vec<Verdict>,
    /// Of the picture.
    pub picture: Fate,
}

/// The filter with what it remembers: the scores of late, the pictures of the day, its own health.
#[derive(Clone, Debug)]
pub struct Filter {
    settings: Settings,
    top: TopShare,
    /// The day, and the pictures that were kept in it.
    day: Option<(i64, u32)>,
    health: Health,
}

impl Filter {
    /// A filter that has seen nothing.
    pub fn new(settings: &Settings) -> Filter {
        Filter {
            settings: settings.clone(),
            top: TopShare::new(settings.top),
            day: None,
            health: Health::new(settings.health_over),
        }
    }

    /// Takes over a configuration that has changed.
    pub fn set(&mut self, settings: &Settings) {
        self.settings = settings.clone();
        self.top.set_share(settings.top);
        self.health.set_over(settings.health_over);
    }

    /// The share of rejected texts of late: much of it, or none, and the filter is not well.
    pub fn health(&self) -> &Health {
        &self.health
    }

    /// Takes over how many pictures of a day are kept already, as when the program starts again.
    pub fn resume(&mut self, day: i64, kept: u32) {
        self.day = Some((day, kept));
    }

    /// Decides. `pair` is the pair's id, `day` the number of the day in the place's time zone.
    pub fn decide(&mut self, pair: &[u8], texts: &[Text<'_>], day: i64) -> Decision {
        // Of texts that say the same one stays: one that came with the picture before one that a model wrote, else the first.
        let mut places: Vec<usize> = (0..texts.len()).collect();
        places.sort_by_key(|place| texts[*place].origin.is_written_by_a_model());
        let mut verdicts = vec![Verdict::Rejected(Reason::Same); texts.len()];
        for (rank, place) in places.iter().enumerate() {
            let is_twin =
                |other: &usize| verdicts[*other] == Verdict::Kept && are_same(texts[*other].words, texts[*place].words);
            if places[..rank].iter().any(is_twin) {
                // No judgement, so no sign of the filter's health.
                continue;
            }
            let text = &texts[*place];
            let verdict = self.judge(text);
            // What people wrote is not the filter's to judge, and no sign of its health.
            if text.origin != Origin::Human {
                self.health.count(verdict);
            }
            verdicts[*place] = verdict;
        }
        let picture = self.fate(pair, texts, &verdicts, day);
        // Nothing is learned from a text whose picture is not.
        if let Fate::Audited(reason) | Fate::Dropped(reason) = picture {
            let kept = verdicts.iter_mut().filter(|verdict| **verdict == Verdict::Kept);
            kept.for_each(|verdict| *verdict = Verdict::Rejected(reason));
        }
        Decision { texts: verdicts, picture }
    }

    fn judge(&mut self, text: &Text<'_>) -> Verdict {
        let fault = degenerate(text.words).filter(|fault| {
            // A person may well say "no no no no".
            text.origin.is_written_by_a_model() || *fault == Degenerate::Empty
        });
        if let Some(fault) = fault {
            return Verdict::Rejected(fault.into());
        }
        match (text.itm, self.settings.rule) {
            // As the paper trusts texts that people wrote. Source: BLIP, arXiv 2201.12086, section 3.3.
            _ if text.origin == Origin::Human => Verdict::Kept,
            // A bundle without a matcher filters nothing; that it did not is seen in the score that is not there.
            (None, _) => Verdict::Kept,
            (Some(itm), _) if itm.is_nan() => Verdict::Rejected(Reason::NotANumber),
            (Some(itm), Rule::Threshold) if f64::from(itm) >= self.settings.threshold => Verdict::Kept,
            (Some(_), Rule::Threshold) => Verdict::Rejected(Reason::Threshold),
            (Some(itm), Rule::Top) if self.top.is_among(itm) => Verdict::Kept,
            (Some(_), Rule::Top) => Verdict::Rejected(Reason::Top),
        }
    }

    fn fate(&mut self, pair: &[u8], texts: &[Text<'_>], verdicts: &[Verdict], day: i64) -> Fate {
        let kept = match self.day {
            Some((of, kept)) if of == day => kept,
            _ => 0,
        };
        let has_human = texts.iter().any(|text| text.origin == Origin::Human && !text.words.trim().is_empty());
        let is_full = self.settings.per_day.is_some_and(|most| kept >= most);
        let reason = match (verdicts.contains(&Verdict::Kept), is_full) {
            _ if has_human => None,
            (false, _) => Some(Reason::NoText),
            (true, true) => Some(Reason::Day),
            (true, false) => None,
        };
        self.day = Some((day, kept.saturating_add(u32::from(reason.is_none()))));
        match reason {
            None => Fate::Kept,
            Some(reason) if is_audited(pair, self.settings.audit) => Fate::Audited(reason),
            Some(reason) => Fate::Dropped(reason),
        }
    }
}

/// Whether two texts have the same words, whatever stands between them.
fn are_same(one: &str, other: &str) -> bool {
    let words = |text: &str| -> Vec<String> { degenerate::words(text).map(str::to_lowercase).collect() };
    words(one) == words(other)
}

#[cfg(test)]
mod tests;
