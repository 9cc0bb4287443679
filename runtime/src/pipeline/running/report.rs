//! What the log says of frames.

use std::time::Duration;

use camera::Counts;
use field::filter::Fate;

use crate::pipeline::{Account, Found, Outcome};

/// What two cameras have counted of their frames.
pub(super) fn sum(one: &Counts, other: &Counts) -> Counts {
    Counts {
        captured: one.captured + other.captured,
        delivered: one.delivered + other.delivered,
        replaced: one.replaced + other.replaced,
        paced: one.paced + other.paced,
        unmaskable: one.unmaskable + other.unmaskable,
        damaged: one.damaged + other.damaged,
        too_large: one.too_large + other.too_large,
        stray_bytes: one.stray_bytes + other.stray_bytes,
        unreadable: one.unreadable + other.unreadable,
        losses: one.losses + other.losses,
    }
}

/// What the filter made of a picture, in words.
pub(super) fn fate(fate: Fate) -> &'static str {
    match fate {
        Fate::Kept => "kept",
        Fate::Audited(_) => "rejected, kept for auditing",
        Fate::Dropped(_) => "rejected",
    }
}

/// Tells what came of a frame, with what each stage took.
pub(super) fn frame(outcome: &Outcome) {
    let fate = match &outcome.found {
        Found::Judged(judgement) => fate(judgement.fate),
        Found::Duplicate => "dropped: nearly a kept one",
        Found::Unreadable(_) | Found::Failed(_) => return,
    };
    let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let times = &outcome.times;
    let shown = match &outcome.found {
        Found::Judged(judgement) => judgement.texts.first(),
        _ => None,
    };
    let caption = shown.map_or("", |text| text.words.as_str());
    let itm = shown.and_then(|text| text.itm).map_or_else(|| "none".to_owned(), |itm| format!("{itm:.4}"));
    log::info!(
        frame = outcome.job.number, from = outcome.job.frame.origin, trigger = outcome.job.why.name(), fate = fate,
        itm = itm, decode_ms = ms(times.decode), see_ms = ms(times.see), describe_ms = ms(times.describe);
        "{caption}"
    );
}

/// Tells what came of all.
pub(super) fn summary(account: &Account, captured: u64) {
    let dropped: Vec<String> =
        account.dropped.iter().map(|(reason, count)| format!("{} {count}", reason.name())).collect();
    log::info!(
        captured = captured, kept = account.kept, rejected = account.rejected, dropped = dropped.join(", ");
        "the store is sealed"
    );
}
