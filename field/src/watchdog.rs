//! systemd is told how the service does, and its watchdog is fed by work that gets done, and by nothing else.

mod notify;
mod progress;

pub use notify::{Notifier, NotifyError, State, watchdog_timeout};
pub use progress::{Progress, Stage};

use std::time::Duration;

/// What a watchdog is to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sign {
    /// Nothing yet.
    NotYet,
    /// That all is well: [`State::Watchdog`].
    Alive,
    /// Nothing, for nothing gets done; the stage that has work, if one has.
    Stuck(Option<&'static str>),
}

/// Decides when the watchdog is fed.
#[derive(Debug)]
pub struct Watchdog {
    progress: Progress,
    every: Duration,
    patience: Duration,
    last: Option<Last>,
    /// Of each stage, its steps when they were last seen to change, and when that was.
    stages: Vec<(u64, Duration)>,
}

#[derive(Clone, Copy, Debug)]
struct Last {
    at: Duration,
    steps: u64,
}

impl Watchdog {
    /// A watchdog that wants a sign within `timeout`, over stages that may take `patience` for one step.
    pub fn new(progress: Progress, timeout: Duration, patience: Duration) -> Watchdog {
        // Source: `sd_watchdog_enabled(3)`: about half of the time.
        Watchdog { progress, every: timeout / 2, patience, last: None, stages: Vec::new() }
    }

    /// Changes how long a step may take.
    pub fn set_patience(&mut self, patience: Duration) {
        self.patience = patience;
    }

    /// What to tell now. Call it at least twice as often as the watchdog wants signs.
    pub fn look(&mut self, now: Duration) -> Sign {
        let stuck = self.stuck(now);
        if self.last.is_some_and(|last| now.saturating_sub(last.at) < self.every) {
            return Sign::NotYet;
        }
        let steps = self.progress.steps();
        if stuck.is_some() || self.last.is_some_and(|last| last.steps == steps) {
            return Sign::Stuck(stuck);
        }
        self.last = Some(Last { at: now, steps });
        Sign::Alive
    }

    /// A stage that has had work for longer than the patience and has done no step of it.
    fn stuck(&mut self, now: Duration) -> Option<&'static str> {
        let stages = self.progress.stages();
        self.stages.resize(stages.len(), (u64::MAX, now));
        let mut stuck = None;
        for (stage, (steps, since)) in stages.iter().zip(&mut self.stages) {
            if *steps != stage.steps() {
                (*steps, *since) = (stage.steps(), now);
            }
            if stage.is_busy() && now.saturating_sub(*since) > self.patience {
                stuck = stuck.or(Some(stage.name()));
            }
        }
        stuck
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn watchdog(progress: &Progress) -> Watchdog {
        Watchdog::new(progress.clone(), 20 * SECOND, 60 * SECOND)
    }

    #[test]
    fn progress_feeds_it_at_half_the_time() {
        let progress = Progress::new();
        let stage = progress.stage("captions");
        let mut watchdog = watchdog(&progress);
        assert_eq!(watchdog.look(SECOND), Sign::Alive);
        stage.step();
        assert_eq!(watchdog.look(10 * SECOND), Sign::NotYet);
        assert_eq!(watchdog.look(11 * SECOND), Sign::Alive);
        assert_eq!(watchdog.look(22 * SECOND), Sign::Stuck(None));
        stage.step();
        assert_eq!(watchdog.look(23 * SECOND), Sign::Alive);
    }

    #[test]
    fn a_stage_that_hangs_starves_it_though_others_go_on() {
        let progress = Progress::new();
        let (camera, captions) = (progress.stage("camera"), progress.stage("captions"));
        let mut watchdog = watchdog(&progress);
        captions.begin();
        let mut signs = Vec::new();
        for second in 0..100 {
            camera.step();
            signs.push(watchdog.look(second * SECOND));
        }
        assert_eq!(signs.iter().rposition(|sign| *sign == Sign::Alive), Some(60));
        assert_eq!(signs.last(), Some(&Sign::Stuck(Some("captions"))));
        captions.step();
        assert_eq!(watchdog.look(101 * SECOND), Sign::Alive);
    }

    #[test]
    fn a_stage_without_work_may_rest_for_ever() {
        let progress = Progress::new();
        let (clock, captions) = (progress.stage("main"), progress.stage("captions"));
        let mut watchdog = watchdog(&progress);
        captions.begin();
        captions.rest();
        for second in 0..10_000 {
            clock.step();
            assert!(!matches!(watchdog.look(second * SECOND), Sign::Stuck(_)));
        }
        // Work after a long rest gets the whole patience.
        captions.begin();
        clock.step();
        assert_eq!(watchdog.look(10_010 * SECOND), Sign::Alive);
    }
}
