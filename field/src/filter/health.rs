//! The filter's health: the share of texts that it rejects of late.

use std::collections::VecDeque;

use super::Verdict;

/// Decisions of late.
#[derive(Clone, Debug)]
pub struct Health {
    over: usize,
    rejected: VecDeque<bool>,
    count: usize,
}

impl Health {
    /// Looks at the last `over` decisions.
    pub fn new(over: u16) -> Health {
        Health { over: usize::from(over).max(1), rejected: VecDeque::new(), count: 0 }
    }

    /// Looks at more or fewer decisions from now on.
    pub fn set_over(&mut self, over: u16) {
        self.over = usize::from(over).max(1);
        self.forget(self.over);
    }

    /// A decision.
    pub fn count(&mut self, verdict: Verdict) {
        self.forget(self.over - 1);
        let is_rejected = verdict != Verdict::Kept;
        self.count += usize::from(is_rejected);
        self.rejected.push_back(is_rejected);
    }

    /// Decisions that it has seen, at most as many as it looks at.
    pub fn decisions(&self) -> usize {
        self.rejected.len()
    }

    /// Share of them that rejected; `None` before the first.
    pub fn rejected(&self) -> Option<f64> {
        (!self.rejected.is_empty()).then(|| self.count as f64 / self.rejected.len() as f64)
    }

    fn forget(&mut self, most: usize) {
        while self.rejected.len() > most {
            let is_rejected = self.rejected.pop_front().unwrap_or_default();
            self.count -= usize::from(is_rejected);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Reason;
    use super::*;

    #[test]
    fn only_the_last_decisions_count() {
        let mut health = Health::new(4);
        assert_eq!(health.rejected(), None);
        let mut shares = Vec::new();
        for verdict in [Verdict::Rejected(Reason::Loop), Verdict::Kept].into_iter().chain([Verdict::Kept; 4]) {
            health.count(verdict);
            shares.push(health.rejected().unwrap());
        }
        assert_eq!(shares, [1.0, 0.5, 1.0 / 3.0, 0.25, 0.0, 0.0]);
        health.count(Verdict::Rejected(Reason::Threshold));
        health.set_over(2);
        assert_eq!((health.decisions(), health.rejected()), (2, Some(0.5)));
        health.set_over(0);
        health.count(Verdict::Kept);
        assert_eq!((health.decisions(), health.rejected()), (1, Some(0.0)));
    }
}
