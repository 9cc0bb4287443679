//! How many pictures of this day are kept already: a day's budget outlives the program.

use std::time::Duration;

use field::clock::Moment;
use field::config::Settings;
use field::hours::Zone;
use store::{Entry, PairFacts, PairId, State, StoreError};

/// What of a day's budget is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Today {
    /// Number of the day.
    pub day: i64,
    /// Pictures that are kept.
    pub kept: u32,
}

/// Number of the day of a moment whose wall time may be known. A board that does not know it counts days from its start,
/// below all others.
pub(super) fn day_of(known_ms: Option<i64>, since_boot: Duration, zone: &Zone) -> i64 {
    const DAY_S: u64 = 86_400;
    let since_start = i64::try_from(since_boot.as_secs() / DAY_S).unwrap_or(i64::MAX);
    known_ms.and_then(|wall_ms| zone.day(wall_ms)).unwrap_or(i64::MIN.saturating_add(since_start))
}

/// Counts the kept pictures of the day of `now`. `list` gives the pairs behind one, a page at a time.
///
/// # Errors
/// A store that cannot be read.
pub fn count(
    list: impl Fn(Option<PairId>) -> Result<Vec<Entry>, StoreError>,
    settings: &Settings,
    now: &Moment,
) -> Result<Today, StoreError> {
    let zone = &settings.place.zone;
    let day = day_of(now.known_ms(), now.since_boot, zone);
    let is_of_today = |facts: &PairFacts| {
        let known_ms = facts.taken.trusted_ms();
        // Days that are counted from the start are those of one boot.
        let is_comparable = known_ms.is_some() || facts.boot_id.as_str() == now.boot.to_string();
        is_comparable && day_of(known_ms, Duration::from_millis(facts.taken.since_boot_ms), zone) == day
    };
    let (mut since, mut kept) = (None, 0);
    loop {
        let page = list(since)?;
        let Some(last) = page.last() else { return Ok(Today { day, kept }) };
        since = Some(last.id);
        let kept_ones = page.iter().filter(|entry| entry.state == State::Kept);
        let of_today = kept_ones.filter(|entry| entry.facts.as_ref().is_some_and(is_of_today)).count();
        kept = kept.saturating_add(u32::try_from(of_today).unwrap_or(u32::MAX));
    }
}
