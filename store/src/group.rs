//! Pairs that wait to be committed together, since a commit costs the same for one as for eight.

use std::time::Duration;

use crate::database::Row;

/// Most pairs of a group.
pub(crate) const MAX_PAIRS: usize = 8;
/// Longest wait of the first pair of a group.
pub(crate) const MAX_WAIT: Duration = Duration::from_secs(2);
/// A group that is this large, in bytes, waits no longer.
const LARGE: u64 = 8 << 20;

/// Not yet on the disk.
#[derive(Debug, Default)]
pub(crate) struct Group {
    rows: Vec<Row>,
    /// When the first one came.
    since: Option<Duration>,
}

impl Group {
    pub(crate) fn push(&mut self, row: Row, now: Duration) {
        self.since.get_or_insert(now);
        self.rows.push(row);
    }

    pub(crate) fn is_full(&self) -> bool {
        self.rows.len() >= MAX_PAIRS || self.bytes() >= LARGE
    }

    /// When it is to be committed; at once if it is full, never if it is empty.
    pub(crate) fn due(&self) -> Option<Duration> {
        let since = self.since?;
        Some(if self.is_full() { since } else { since + MAX_WAIT })
    }

    pub(crate) fn rows(&self) -> &[Row] {
        &self.rows
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.rows.iter().map(Row::bytes).sum()
    }

    /// Takes the pairs out.
    pub(crate) fn take(&mut self) -> Vec<Row> {
        self.since = None;
        std::mem::take(&mut self.rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Human, Standing};
    use crate::pair::{PairId, State};

    fn row(bytes: usize) -> Row {
        let id = PairId::first_of(1).unwrap();
        let standing = Standing { state: State::Kept, score: 0.0, human: Human::Nothing };
        let (jpeg, boot_id) = (vec![0; bytes], String::new());
        Row { id, facts: Vec::new(), jpeg, sha256: [0; 32], standing, boot_id, trusted_ms: None }
    }

    #[test]
    fn a_group_is_due_two_seconds_after_its_first_pair_or_when_it_is_full() {
        let mut group = Group::default();
        assert_eq!(group.due(), None);
        let start = Duration::from_secs(100);
        for second in 0..7 {
            group.push(row(1), start + Duration::from_secs(second));
            assert_eq!(group.due(), Some(start + MAX_WAIT));
        }
        group.push(row(1), start);
        assert_eq!(group.due(), Some(start));
        assert_eq!(group.take().len(), 8);
        assert_eq!(group.due(), None);
        group.push(row(8 << 20), start);
        assert_eq!(group.due(), Some(start));
    }
}
