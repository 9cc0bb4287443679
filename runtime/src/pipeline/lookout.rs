//! Which frames are taken: triggers, motion, the frames from just before, the lamp.

use std::collections::VecDeque;
use std::time::Duration;

use blip::caption::Caption;
use camera::motion::{LUMA_SIDE, MotionDetector, Sensitivity};
use camera::{Frame, Mask, MaskError, Shape, Source};
use field::clock::Moment;
use field::config::Settings;
use field::lamp::Lamp;
use field::light::Light;
use field::region::Region;
use field::ring::Ring;
use field::trigger::{Cause, Event, Outcome, Shot, Triggers};

use super::job::Why;

/// How long a shot waits for a frame, as when the camera is lost.
const PATIENCE: Duration = Duration::from_secs(10);
/// How old the frame of a shot may be: the newest one was there before.
const STALE: Duration = Duration::from_secs(1);
/// Most shots that wait for a frame.
const MAX_PENDING: usize = 64;

/// How frames come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// As the camera has them: triggers take some.
    Live,
    /// Each once, and each is taken: pictures.
    Each,
    /// At the model's pace, with the time of the video: triggers take some.
    Video {
        /// When it began.
        since: Duration,
    },
}

impl Manner {
    /// How the frames of a source come, if it starts now.
    pub fn of(source: &Source, now: Duration) -> Manner {
        match source {
            Source::Folder(_) | Source::Picture(_) => Manner::Each,
            source if source.pace() == camera::Pace::Patient => Manner::Video { since: now },
            _ => Manner::Live,
        }
    }
}

/// A shot whose frame has not come yet.
#[derive(Debug)]
struct Pending {
    shot: Shot,
    /// From when on a frame counts, and until when one is waited for.
    from: Duration,
    until: Duration,
    note: Option<Caption>,
    is_lit: bool,
}

/// What decides which frames are taken.
pub(super) struct Lookout {
    manner: Manner,
    triggers: Triggers,
    detector: Option<MotionDetector>,
    settings: field::config::Triggers,
    ring: Ring,
    places: Vec<Option<Frame>>,
    /// What frames from before are to be taken for.
    before: Option<Cause>,
    pending: VecDeque<Pending>,
    notes: VecDeque<(u64, Caption)>,
    lamp: Option<Lamp>,
}

impl Lookout {
    pub(super) fn new(settings: &Settings, manner: Manner, now: Duration) -> Lookout {
        let before = usize::from(settings.triggers.before);
        Lookout {
            manner,
            triggers: Triggers::new(&settings.triggers, &settings.place.zone, now),
            detector: detector(&settings.triggers),
            settings: settings.triggers.clone(),
            ring: Ring::new(before),
            places: std::iter::repeat_with(|| None).take(before).collect(),
            before: None,
            pending: VecDeque::new(),
            notes: VecDeque::new(),
            lamp: settings.pins.lamp.map(|_| Lamp::new(&settings.pins)),
        }
    }

    pub(super) fn set(&mut self, settings: &Settings) {
        if settings.triggers != self.settings {
            self.detector = detector(&settings.triggers);
        }
        self.triggers.set(&settings.triggers, &settings.place.zone);
        self.settings = settings.triggers.clone();
        if let Some(lamp) = &mut self.lamp {
            lamp.set(&settings.pins);
        }
    }

    pub(super) fn set_manner(&mut self, manner: Manner) {
        self.manner = manner;
        self.detector = detector(&self.settings);
    }

    pub(super) fn set_stretch(&mut self, stretch: f64) {
        self.triggers.set_stretch(stretch);
    }

    pub(super) fn manner(&self) -> Manner {
        self.manner
    }

    pub(super) fn held(&self) -> usize {
        self.places.iter().flatten().count()
    }

    /// Whether a live camera is to be asked for a frame. A frame that nobody looks at costs nothing.
    pub(super) fn wants_frame(&self, now: Duration) -> bool {
        let is_watching = self.detector.is_some() || !self.places.is_empty();
        is_watching || self.pending.iter().any(|pending| pending.from <= now)
    }

    pub(super) fn next_due(&self) -> Option<Duration> {
        let is_live = self.manner == Manner::Live;
        let shots = self.pending.iter().filter(|_| is_live).map(|pending| pending.until);
        let off = self.lamp.as_ref().and_then(Lamp::goes_off);
        let tick = if is_live { self.triggers.next_due() } else { None };
        shots.chain(off).chain(tick).min()
    }

    pub(super) fn offer(&mut self, event: Event, note: Option<Caption>, now: &Moment) -> Outcome {
        self.offer_at(event, note, now.since_boot, now)
    }

    fn offer_at(&mut self, event: Event, note: Option<Caption>, at: Duration, now: &Moment) -> Outcome {
        let outcome = self.triggers.offer(event, at, now.known_ms());
        if let Ok(number) = outcome {
            if matches!(event, Event::Motion | Event::Pin(_)) {
                self.before = Some(if event == Event::Motion { Cause::Motion } else { Cause::Pin });
            }
            self.notes.extend(note.map(|note| (number, note)));
        }
        outcome
    }

    /// When a frame was taken, on the clock of the triggers.
    pub(super) fn time_of(&self, frame: &Frame, now: &Moment) -> Duration {
        match self.manner {
            Manner::Live => frame.taken.min(now.since_boot),
            Manner::Each => now.since_boot,
            Manner::Video { since } => since.saturating_add(frame.taken),
        }
    }

    /// When a frame was taken, for the store.
    pub(super) fn moment_of(&self, frame: &Frame, now: &Moment) -> Moment {
        let at = if self.manner == Manner::Live { frame.taken.min(now.since_boot) } else { now.since_boot };
        let age = i64::try_from(now.since_boot.saturating_sub(at).as_millis()).unwrap_or(i64::MAX);
        Moment { since_boot: at, wall_ms: now.wall_ms.map(|wall_ms| wall_ms.saturating_sub(age)), ..*now }
    }

    /// Looks for motion.
    pub(super) fn watch(&mut self, frame: &Frame, at: Duration, now: &Moment) {
        if self.manner == Manner::Each {
            return;
        }
        // A frame that cannot be decoded shows no motion; if it is taken it is counted.
        if let Some(detector) = &mut self.detector
            && let Ok(luma) = frame.luma(LUMA_SIDE)
            && detector.see(&luma, at).is_motion
        {
            // What refuses it is counted by the triggers.
            let _ = self.offer_at(Event::Motion, None, at, now);
        }
    }

    /// Collects shots that are due, and gives up those whose frame has not come.
    pub(super) fn turn(&mut self, now: &Moment) {
        if self.manner == Manner::Live {
            self.collect(now.since_boot, now);
        }
        if let Some(lamp) = &mut self.lamp {
            let late = self.pending.iter().filter(|pending| pending.until < now.since_boot && pending.is_lit);
            late.for_each(|_| lamp.done());
        }
        if self.manner == Manner::Live {
            let before = self.pending.len();
            self.pending.retain(|pending| pending.until >= now.since_boot);
            let late = before - self.pending.len();
            if late > 0 {
                log::debug!(shots = late; "no frame came in time");
            }
        }
    }

    fn collect(&mut self, at: Duration, now: &Moment) {
        while let Some(shot) = self.triggers.due(at, now.known_ms()) {
            if self.pending.len() >= MAX_PENDING {
                self.pending.pop_front();
            }
            let note = self.notes.iter().position(|(event, _)| *event == shot.event);
            let note = note.and_then(|place| self.notes.remove(place)).map(|(_, note)| note);
            let lit = self.lamp.as_mut().map(|lamp| lamp.want(at));
            let from = lit.unwrap_or_else(|| at.saturating_sub(STALE));
            let until = at.max(from).saturating_add(PATIENCE);
            self.pending.push_back(Pending { shot, from, until, note, is_lit: lit.is_some() });
        }
    }

    /// Whether a frame of this time is taken, and what for.
    pub(super) fn shot(&mut self, at: Duration, now: &Moment) -> Option<(Why, Option<Caption>)> {
        if self.manner == Manner::Each {
            return Some((Why::Source, None));
        }
        self.collect(at, now);
        let place = self.pending.iter().position(|pending| pending.from <= at)?;
        let first = self.pending.remove(place)?;
        let mut note = first.note;
        let mut cause = first.shot.cause;
        let mut events = vec![first.shot.event];
        let mut lit = u32::from(first.is_lit);
        // One frame is for all events that wait for one, but for one shot of each burst.
        for pending in std::mem::take(&mut self.pending) {
            if pending.from <= at && !events.contains(&pending.shot.event) {
                events.push(pending.shot.event);
                lit += u32::from(pending.is_lit);
                cause = if cause == Cause::Interval { pending.shot.cause } else { cause };
                cause = if pending.shot.cause.is_asked_for() { pending.shot.cause } else { cause };
                note = note.or(pending.note);
            } else {
                self.pending.push_back(pending);
            }
        }
        if let Some(lamp) = &mut self.lamp {
            (0..lit).for_each(|_| lamp.done());
        }
        Some((Why::Cause(cause), note))
    }

    /// Keeps a frame that nothing asked for, in case that something happens. True if one is dropped: this one, or the one
    /// that it takes the place of.
    pub(super) fn remember(&mut self, frame: Frame) -> bool {
        let place = self.ring.fill().and_then(|place| self.places.get_mut(place));
        place.is_none_or(|place| place.replace(frame).is_some())
    }

    /// Frames from before an event that has happened, the oldest first.
    pub(super) fn take_before(&mut self) -> Vec<(Frame, Why)> {
        let Some(cause) = self.before.take() else { return Vec::new() };
        let places = self.ring.take();
        places.into_iter().filter_map(|place| Some((self.places.get_mut(place)?.take()?, Why::Cause(cause)))).collect()
    }

    pub(super) fn lamp(&mut self, now: Duration) -> Light {
        self.lamp.as_mut().map_or(Light::Off, |lamp| lamp.light(now))
    }
}

fn detector(settings: &field::config::Triggers) -> Option<MotionDetector> {
    let sensitivity = Sensitivity {
        threshold: settings.motion_threshold,
        area: settings.motion_area as f32,
        most: settings.motion_most as f32,
        background: Duration::from_secs_f64(settings.motion_background_s),
        ignored: mask(&settings.motion_masks).unwrap_or_else(|error| {
            log::warn!(error:% = error; "triggers.motion_masks are not used");
            Mask::default()
        }),
    };
    settings.motion.then(|| MotionDetector::new(sensitivity))
}

/// Regions of the configuration as the camera knows them.
///
/// # Errors
/// More corners than a camera paints in time.
pub(super) fn mask(regions: &[Region]) -> Result<Mask, MaskError> {
    let shape = |region: &Region| match region {
        Region::Rectangle { left, top, width, height } => {
            Shape::Rectangle { left: *left as f32, top: *top as f32, width: *width as f32, height: *height as f32 }
        }
        Region::Polygon(corners) => {
            Shape::Polygon(corners.iter().map(|corner| corner.map(|share| share as f32)).collect())
        }
    };
    Mask::new(regions.iter().map(shape).collect())
}
