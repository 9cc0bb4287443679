//! Pairs that are old enough to go.
//!
//! The rule: a pair goes when it arrived more than so many days ago, unless a version that stands has it. Whoever wants those
//! to go too withdraws the version first. There is no other mark to set.

use serde::Serialize;

use crate::deletion::{Deleted, DeletionError, Doomed};
use crate::home::Home;

const DAY_S: i64 = 24 * 60 * 60;

/// What would go.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Outdated {
    /// Pairs that are old enough and in no version that stands.
    pub pairs: u64,
    /// Bytes of their pictures.
    pub bytes: u64,
    /// Pairs that are old enough, and stay because a version has them.
    pub in_versions: u64,
}

/// What is done about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retention {
    /// It is counted.
    Count,
    /// It is deleted.
    Delete,
}

impl Home {
    /// Counts pairs that arrived more than `keep_days` before `now_s`, and deletes them if that is asked for.
    ///
    /// # Errors
    /// See [`DeletionError`].
    pub fn retain(
        &mut self,
        keep_days: u32,
        retention: Retention,
        now_s: i64,
    ) -> Result<(Outdated, Deleted), DeletionError> {
        let moment_s = now_s.saturating_sub(i64::from(keep_days) * DAY_S);
        let [(pairs, bytes), (in_versions, _)] = self.book.arrived_before(moment_s)?;
        let outdated = Outdated { pairs, bytes, in_versions };
        let deleted = match retention {
            Retention::Delete => self.delete(&Doomed::Outdated(moment_s), "its pairs are too old", now_s)?,
            Retention::Count => Deleted::default(),
        };
        Ok((outdated, deleted))
    }
}
