//! A run on a terminal: a bar that moves, or a line now and then where there is no terminal.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use terminal::printable;

use super::StepRecord;

/// Where a run stands, on standard error.
pub struct Display {
    pace: Pace,
    kind: Kind,
}

enum Kind {
    Bar(ProgressBar),
    Lines { every: Duration, last: Option<Duration> },
}

impl Display {
    /// For steps after `first` up to `total`; without a terminal a line at most `every` so often.
    pub fn new(first: u64, total: u64, every: Duration) -> Self {
        let kind = if std::io::stderr().is_terminal() {
            let style = ProgressStyle::with_template("[{bar:24}] {wide_msg}").expect("the template is well formed");
            let bar = ProgressBar::new(total).with_style(style.progress_chars("=> "));
            bar.set_position(first);
            Kind::Bar(bar)
        } else {
            Kind::Lines { every, last: None }
        };
        Self { pace: Pace::new(first, total), kind }
    }

    /// Shows a step that ended `elapsed` after the display was made.
    pub fn show(&mut self, record: &StepRecord, elapsed: Duration) {
        let status = printable(&self.pace.status(record, elapsed));
        match &mut self.kind {
            Kind::Bar(bar) => {
                bar.set_position(record.step);
                bar.set_message(status);
            }
            Kind::Lines { every, last } => {
                let is_due = last.is_none_or(|last| elapsed.saturating_sub(last) >= *every);
                if is_due || record.step >= self.pace.total {
                    *last = Some(elapsed);
                    drop(writeln!(std::io::stderr(), "{status}"));
                }
            }
        }
    }

    /// Says something between steps: a sample caption, a saved checkpoint.
    pub fn say(&self, text: &str) {
        let text = printable(text);
        match &self.kind {
            Kind::Bar(bar) => bar.println(text),
            Kind::Lines { .. } => drop(writeln!(std::io::stderr(), "{text}")),
        }
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        if let Kind::Bar(bar) = &self.kind {
            bar.finish_and_clear();
        }
    }
}

/// How fast a run goes.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    first: u64,
    total: u64,
}

impl Pace {
    /// For steps after `first` up to `total`.
    pub fn new(first: u64, total: u64) -> Self {
        Self { first, total }
    }

    /// The time that the rest takes if it goes as it went; none before the first step.
    pub fn left(&self, step: u64, elapsed: Duration) -> Option<Duration> {
        let done = step.checked_sub(self.first).filter(|done| *done > 0)?;
        let seconds = elapsed.as_secs_f64() / done as f64 * self.total.saturating_sub(step) as f64;
        Duration::try_from_secs_f64(seconds).ok()
    }

    /// "step 120/5000 (2 %), epoch 1: itc 5.1000, lm 3.2100; 812 pairs/s, 12 min left".
    pub fn status(&self, record: &StepRecord, elapsed: Duration) -> String {
        let percent = record.step.saturating_mul(100) / self.total.max(1);
        let losses: Vec<String> = record.losses.iter().map(|(name, value)| format!("{name} {value:.4}")).collect();
        let left = match self.left(record.step, elapsed) {
            Some(left) => format!(", {} left", rounded(left)),
            None => String::new(),
        };
        format!(
            "step {}/{} ({percent} %), epoch {}: {}; {:.0} pairs/s{left}",
            record.step,
            self.total,
            record.epoch,
            losses.join(", "),
            record.pairs_per_second
        )
    }
}

fn rounded(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        _ => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rest_takes_as_long_as_what_this_run_has_done_took() {
        let pace = Pace::new(100, 500);
        assert_eq!(pace.left(200, Duration::from_secs(50)), Some(Duration::from_secs(150)));
        assert_eq!(pace.left(500, Duration::from_secs(50)), Some(Duration::ZERO));
        assert_eq!(pace.left(100, Duration::from_secs(50)), None);
        assert_eq!(rounded(Duration::from_secs(9000)), "2 h 30 min");
    }

    #[test]
    fn a_status_says_step_losses_speed_and_time_left() {
        let losses = [("lm".to_owned(), 3.21), ("itc".to_owned(), 5.1)].into();
        let record = StepRecord { step: 120, epoch: 1, losses, pairs_per_second: 811.7, ..StepRecord::default() };
        let status = Pace::new(0, 5000).status(&record, Duration::from_secs(20));
        assert_eq!(status, "step 120/5000 (2 %), epoch 1: itc 5.1000, lm 3.2100; 812 pairs/s, 13 min left");
    }
}
