//! When a frame is taken: by the clock, by motion, by a wire, by command.

use std::collections::VecDeque;
use std::time::Duration;

use crate::config;
use crate::hours::{Answer, Zone};
use crate::pins::Edge;

/// Most events whose frames are still to be taken.
const MAX_WAITING: usize = 64;

/// What took a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cause {
    /// The time between two frames is over.
    Interval,
    /// Something moved.
    Motion,
    /// A button, or a sensor that sees something warm.
    Pin,
    /// Somebody asked: on the page, by HTTP or MQTT.
    Command,
}

impl Cause {
    /// Every cause.
    pub const ALL: [Cause; 4] = [Cause::Interval, Cause::Motion, Cause::Pin, Cause::Command];

    /// Its name in the store and in logs.
    pub fn name(self) -> &'static str {
        match self {
            Cause::Interval => "interval",
            Cause::Motion => "motion",
            Cause::Pin => "pin",
            Cause::Command => "command",
        }
    }

    /// Whether frames from just before are of interest, which is so where something happened by itself.
    pub fn has_before(self) -> bool {
        matches!(self, Cause::Motion | Cause::Pin)
    }

    /// Whether a person wants this very frame: it is taken at any time, and kept though it be like the last one.
    pub fn is_asked_for(self) -> bool {
        self == Cause::Command
    }
}

/// Something that may take frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A frame with motion in it.
    Motion,
    /// The trigger's wire changed.
    Pin(Edge),
    /// Somebody asked.
    Command,
}

/// Why an event takes no frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// It belongs to the event before: the motion goes on, the wire bounces or lets go.
    Same,
    /// The configuration does not want it.
    Off,
    /// It is outside of the hours.
    Hours,
    /// It comes too soon after another event, and another one waits for that already.
    Gap,
    /// Too many frames are still to be taken.
    Full,
}

impl Refusal {
    /// Every reason.
    pub const ALL: [Refusal; 5] = [Refusal::Same, Refusal::Off, Refusal::Hours, Refusal::Gap, Refusal::Full];

    /// Its name in counters.
    pub fn name(self) -> &'static str {
        match self {
            Refusal::Same => "same",
            Refusal::Off => "off",
            Refusal::Hours => "hours",
            Refusal::Gap => "gap",
            Refusal::Full => "full",
        }
    }
}

/// What becomes of an event: its number, or why it takes no frames.
pub type Outcome = Result<u64, Refusal>;

/// A frame to take now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shot {
    /// Number of its event, from 0.
    pub event: u64,
    /// What took it.
    pub cause: Cause,
    /// Its place in the event's burst, from 0.
    pub place: u16,
    /// When it was due.
    pub due: Duration,
}

/// How often what happened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    accepted: [u64; Cause::ALL.len()],
    refused: [u64; Refusal::ALL.len()],
    /// Intervals that were over while nobody looked.
    pub missed: u64,
    /// Frames that were due.
    pub shots: u64,
}

impl Counts {
    /// Events that took frames.
    pub fn accepted(&self, cause: Cause) -> u64 {
        self.accepted[cause as usize]
    }

    /// Events and intervals that did not.
    pub fn refused(&self, refusal: Refusal) -> u64 {
        self.refused[refusal as usize]
    }
}

/// What decides. Time is an argument, and never goes back.
#[derive(Clone, Debug)]
pub struct Triggers {
    settings: config::Triggers,
    zone: Zone,
    /// How many times as long intervals and gaps are: heat.
    stretch: f64,
    /// When the last interval was over, or would have been.
    last_tick: Duration,
    is_first: bool,
    last_event: Option<Duration>,
    last_motion: Option<Duration>,
    last_edge: Option<Duration>,
    waiting: VecDeque<Waiting>,
    next_event: u64,
    counts: Counts,
}

#[derive(Clone, Copy, Debug)]
struct Waiting {
    shot: Shot,
    left: u16,
}

impl Triggers {
    /// Starts at `now`: the first interval is over at once.
    pub fn new(settings: &config::Triggers, zone: &Zone, now: Duration) -> Triggers {
        Triggers {
            settings: settings.clone(),
            zone: zone.clone(),
            stretch: 1.0,
            last_tick: now,
            is_first: true,
            last_event: None,
            last_motion: None,
            last_edge: None,
            waiting: VecDeque::new(),
            next_event: 0,
            counts: Counts::default(),
        }
    }

    /// Takes over a configuration that has changed. Frames that are still to be taken are taken.
    pub fn set(&mut self, settings: &config::Triggers, zone: &Zone) {
        self.settings = settings.clone();
        self.zone = zone.clone();
    }

    /// Makes intervals and gaps so many times as long.
    pub fn set_stretch(&mut self, stretch: f64) {
        self.stretch = stretch.clamp(1.0, 1000.0);
    }

    /// How often what happened.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Something happened. Of what takes frames, the first is due at once, or after the least gap to the event before.
    pub fn offer(&mut self, event: Event, now: Duration, wall_ms: Option<i64>) -> Outcome {
        let cause = match event {
            Event::Motion => Cause::Motion,
            Event::Pin(_) => Cause::Pin,
            Event::Command => Cause::Command,
        };
        let outcome = self.refusal(event, now).map_or_else(|| self.accept(cause, now, wall_ms), Err);
        self.count(cause, outcome);
        outcome
    }

    /// The next frame that is due, if one is. Call it until there is none.
    pub fn due(&mut self, now: Duration, wall_ms: Option<i64>) -> Option<Shot> {
        self.tick(now, wall_ms);
        let first =
            (0..self.waiting.len()).min_by_key(|place| self.waiting.get(*place).map(|waiting| waiting.shot.due))?;
        let waiting = self.waiting.get_mut(first).filter(|waiting| waiting.shot.due <= now)?;
        let shot = waiting.shot;
        waiting.left -= 1;
        waiting.shot.place += 1;
        // From now on and not from when it was due: frames that were missed do not come all at once.
        waiting.shot.due = now.saturating_add(Duration::from_millis(self.settings.burst_gap_ms.into()));
        if waiting.left == 0 {
            self.waiting.remove(first);
        }
        self.counts.shots += 1;
        Some(shot)
    }

    /// When to look again; `None` if nothing is to come by itself.
    pub fn next_due(&self) -> Option<Duration> {
        let shots = self.waiting.iter().map(|waiting| waiting.shot.due);
        let tick = self
            .interval()
            .map(|interval| if self.is_first { self.last_tick } else { self.last_tick.saturating_add(interval) });
        shots.chain(tick).min()
    }

    /// What is part of an event that was told, or is not wanted.
    fn refusal(&mut self, event: Event, now: Duration) -> Option<Refusal> {
        let is_quiet = |last: Option<Duration>, quiet| last.is_none_or(|last| now.saturating_sub(last) >= quiet);
        match event {
            Event::Command => None,
            Event::Motion if !self.settings.motion => Some(Refusal::Off),
            Event::Motion => {
                let last = self.last_motion.replace(now);
                let quiet = Duration::from_secs_f64(self.settings.motion_quiet_s);
                (!is_quiet(last, quiet)).then_some(Refusal::Same)
            }
            Event::Pin(edge) => {
                let last = self.last_edge.replace(now);
                let quiet = Duration::from_millis(self.settings.pin_quiet_ms.into());
                (edge == Edge::Ends || !is_quiet(last, quiet)).then_some(Refusal::Same)
            }
        }
    }

    fn accept(&mut self, cause: Cause, now: Duration, wall_ms: Option<i64>) -> Outcome {
        if !cause.is_asked_for() {
            // A board that does not know the time takes frames: what is missed never comes back.
            if self.settings.hours.include(wall_ms, &self.zone) == Answer::Off {
                return Err(Refusal::Hours);
            }
        }
        let due = if cause.is_asked_for() { now } else { self.after_gap(cause, now).ok_or(Refusal::Gap)? };
        if self.waiting.len() >= MAX_WAITING {
            return Err(Refusal::Full);
        }
        self.last_event = self.last_event.max(Some(due));
        let event = self.next_event;
        self.next_event += 1;
        let shot = Shot { event, cause, place: 0, due };
        self.waiting.push_back(Waiting { shot, left: self.settings.burst.max(1) });
        Ok(event)
    }

    /// When an event may take its first frame: at once, or after the least gap to the event before. What happens by itself
    /// is put off, once; another interval follows anyway.
    fn after_gap(&self, cause: Cause, now: Duration) -> Option<Duration> {
        let gap = Duration::from_secs_f64(self.settings.least_gap_s * self.stretch);
        let due = self.last_event.map_or(now, |last| now.max(last.saturating_add(gap)));
        let is_one_put_off = self.last_event.is_some_and(|last| last > now);
        (due == now || cause.has_before() && !is_one_put_off).then_some(due)
    }

    fn count(&mut self, cause: Cause, outcome: Outcome) {
        match outcome {
            Ok(_) => self.counts.accepted[cause as usize] += 1,
            Err(refusal) => self.counts.refused[refusal as usize] += 1,
        }
    }

    /// Offers an interval that is over. Intervals stay on their grid, however late one is looked at.
    fn tick(&mut self, now: Duration, wall_ms: Option<i64>) {
        let Some(interval) = self.interval() else {
            // An interval that is set later begins then.
            self.last_tick = now;
            return;
        };
        let since = now.saturating_sub(self.last_tick);
        if !self.is_first {
            let over = u64::try_from(since.as_nanos() / interval.as_nanos().max(1)).unwrap_or(u64::MAX);
            if over == 0 {
                return;
            }
            let rest = since.as_nanos() % interval.as_nanos().max(1);
            self.last_tick = now.saturating_sub(Duration::from_nanos(u64::try_from(rest).unwrap_or(u64::MAX)));
            self.counts.missed += over - 1;
        }
        self.is_first = false;
        let outcome = self.accept(Cause::Interval, now, wall_ms);
        self.count(Cause::Interval, outcome);
    }

    fn interval(&self) -> Option<Duration> {
        self.settings.every_s.map(|seconds| Duration::from_secs_f64(seconds * self.stretch))
    }
}

#[cfg(test)]
mod tests;
