//! The field runtime on one page: a frame comes, is taken or not, is described and judged, and is kept.
//!
//! ```text
//! camera -> motion, triggers -> queue -> model: near duplicate? captions, scores, filter -> store
//! ```
//!
//! [`Pipeline`] alone decides whether a frame is dropped, tried again, or ends the program. It has no thread and no clock,
//! so that a day passes in a test in seconds; it is bounded, and accounts for every frame. [`running`] gives it the rest.

mod account;
mod job;
mod today;
mod describer;
mod keeping;
mod later;
mod lookout;
mod seen;
pub mod running;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use blip::caption::Caption;
use camera::{FileStamp, Frame};
use field::clock::{ClockQuality, Moment};
use field::config::{PositionSource, Settings};
use field::filter::Fate;
use field::heat::{Because, Pace, Reading, Slowing};
use field::hours::{Answer, Hours};
use field::light::{Light, Status};
use field::position::Coordinates;
use field::trigger::{Event, Outcome as Offered};
use store::{
    Label, LabelAction, Limits, Origin, Pair, PairId, Place, Sensor, Stamp, StoreError, Text, Trouble, Vector,
};

pub use account::{Account, Dropped};
pub use describer::{Describer, Found, Outcome, Times};
pub use job::{Job, Why};
pub use keeping::Keep;
pub use lookout::Manner;
pub use today::Today;

use crate::filter::{MAX_RAW, Raw};
use keeping::{Keeper, Standing};
use later::Later;
use lookout::Lookout;

/// Most frames that wait for the model.
const MAX_QUEUED: usize = 16;
/// Most bytes of pictures that wait for the model, beside the first one.
const MAX_QUEUED_BYTES: usize = 64 << 20;
/// Frames in a row at which the model stops before the program gives up, so that its manager starts it anew.
const MAX_FAILURES: u32 = 10;

/// What the pipeline is made of.
pub struct Parts<K> {
    /// The configuration.
    pub settings: Arc<Settings>,
    /// How frames come.
    pub manner: Manner,
    /// What the camera is called in the store.
    pub camera: Caption,
    /// Where pairs are kept.
    pub store: K,
}

/// What was found out about a frame.
struct Described {
    texts: Vec<Text>,
    /// The bundle that looked at it, and the vector that it gave.
    bundle: Option<Caption>,
    vector: Option<Vector>,
}

/// The model stops at every frame: the program is to end.
#[derive(Debug, thiserror::Error)]
#[error("the model stopped at {frames} frames in a row, at the last with: {reason}")]
pub struct GivenUp {
    frames: u32,
    reason: String,
}

/// What decides about every frame. See the module.
pub struct Pipeline<K> {
    settings: Arc<Settings>,
    camera: Caption,
    lookout: Lookout,
    queue: VecDeque<Job>,
    /// Frames that are with the model.
    at_work: u32,
    keeper: Keeper<K>,
    account: Account,
    slowing: Slowing,
    pace: Pace,
    reading: Reading,
    position: Option<Coordinates>,
    /// Frames that were taken.
    taken: u64,
    failures: u32,
    given_up: Option<GivenUp>,
    camera_is_lost: bool,
    later: Later,
}

impl<K: Keep> Pipeline<K> {
    /// A pipeline that has seen nothing.
    pub fn new(parts: Parts<K>, now: &Moment) -> Pipeline<K> {
        let Parts { settings, manner, camera, store } = parts;
        Pipeline {
            lookout: Lookout::new(&settings, manner, now.since_boot),
            settings,
            camera,
            queue: VecDeque::new(),
            at_work: 0,
            keeper: Keeper::new(store),
            account: Account::default(),
            slowing: Slowing::new(),
            pace: Pace { stretch: 1.0, because: Because::Nothing },
            reading: Reading::default(),
            position: None,
            taken: 0,
            failures: 0,
            given_up: None,
            camera_is_lost: false,
            later: Later::default(),
        }
    }

    /// Takes over a configuration that has changed, for frames that come from now on.
    pub fn reload(&mut self, settings: Arc<Settings>) {
        self.lookout.set(&settings);
        self.settings = settings;
    }

    /// There is another amount of room for pairs.
    pub fn set_limits(&mut self, limits: Limits) {
        self.keeper.set_limits(limits);
    }

    /// Another camera takes over.
    pub fn set_camera(&mut self, camera: Caption, manner: Manner) {
        self.camera = camera;
        self.lookout.set_manner(manner);
    }

    /// What the board measures of itself: it slows down before its firmware does.
    pub fn feel(&mut self, reading: Reading) {
        let pace = self.slowing.pace(&reading, &self.settings.limits);
        if pace.because != self.pace.because {
            log::info!(because:? = pace.because, stretch = pace.stretch; "the pace changes");
        }
        self.lookout.set_stretch(pace.stretch);
        (self.pace, self.reading) = (pace, reading);
    }

    /// Where the board is, by satellites.
    pub fn stand_at(&mut self, position: Option<Coordinates>) {
        self.position = position;
    }

    /// Whether frames come, for the status.
    pub fn camera_is_lost(&mut self, is_lost: bool) {
        self.camera_is_lost = is_lost;
    }

    /// Something happened that may take frames; of a command, what its sender says of the picture.
    pub fn offer(&mut self, event: Event, note: Option<Caption>, now: &Moment) -> Offered {
        let offered = self.lookout.offer(event, note, now);
        self.take_before(now);
        offered
    }

    /// Whether a frame is to be fetched. A source that waits is asked only when there is room.
    pub fn wants_frame(&self, now: &Moment) -> bool {
        match self.lookout.manner() {
            Manner::Each | Manner::Video { .. } => self.queue.is_empty() && self.keeper.trouble().is_none(),
            Manner::Live => self.lookout.wants_frame(now.since_boot),
        }
    }

    /// When [`Pipeline::turn`] is to be called at the latest.
    pub fn next_due(&self) -> Option<Duration> {
        [self.lookout.next_due(), self.keeper.next_due()].into_iter().flatten().min()
    }

    /// What time alone brings: frames that are due, groups that are due, a disk that is asked again.
    pub fn turn(&mut self, now: &Moment) {
        self.lookout.turn(now);
        self.keeper.commit(now.since_boot, &mut self.account);
        self.keeper.expire(self.settings.privacy.retention_days, now.since_boot, stamp(now));
        self.keeper.hear_receipts(&self.settings.store.folder, now.since_boot);
    }

    /// A frame has come: it is taken, or it is not.
    pub fn see(&mut self, frame: Frame, now: &Moment) {
        self.account.delivered += 1;
        let at = self.lookout.time_of(&frame, now);
        self.lookout.watch(&frame, at, now);
        self.take_before(now);
        match self.lookout.shot(at, now) {
            Some((why, note)) => self.enqueue(frame, why, note, now),
            None => {
                if self.lookout.remember(frame) {
                    self.account.drop_one(Dropped::NotWanted);
                }
            }
        }
    }

    /// Frames from just before an event are taken with it.
    fn take_before(&mut self, now: &Moment) {
        for (frame, why) in self.lookout.take_before() {
            self.enqueue(frame, why, None, now);
        }
    }

    fn enqueue(&mut self, frame: Frame, why: Why, note: Option<Caption>, now: &Moment) {
        if self.lookout.manner() == Manner::Live
            && why.is_replaceable()
            && let Some(place) = self.queue.iter().position(|job| job.why.is_replaceable())
        {
            self.queue.remove(place);
            self.account.drop_one(Dropped::Busy);
        }
        let bytes: usize = self.queue.iter().map(Job::bytes).sum();
        if !self.writes_captions(now) && !why.is_asked_for() {
            return self.keep_for_later(frame, why, note, now);
        }
        let is_full = self.queue.len() >= MAX_QUEUED || bytes + job::bytes_of(&frame) > MAX_QUEUED_BYTES;
        if is_full && !self.queue.is_empty() {
            self.account.drop_one(Dropped::Busy);
            return;
        }
        let job = self.job(frame, why, note, now);
        self.queue.push_back(job);
    }

    /// Whether this is an hour in which captions are written.
    fn writes_captions(&self, now: &Moment) -> bool {
        let Settings { captions, place, .. } = &*self.settings;
        captions.hours.include(now.known_ms(), &place.zone) != Answer::Off
    }

    /// A frame of an hour without captions is kept with the texts that came with it, and waits for its turn.
    fn keep_for_later(&mut self, frame: Frame, why: Why, note: Option<Caption>, now: &Moment) {
        let job = self.job(frame, why, note, now);
        let texts = job.raw.iter().map(later::unjudged).collect();
        self.keep(job, Described { texts, bundle: None, vector: None }, Standing::Kept, now);
    }

    fn job(&mut self, frame: Frame, why: Why, note: Option<Caption>, now: &Moment) -> Job {
        self.taken += 1;
        let exposure = frame.exposure.and_then(|exposure| u32::try_from(exposure.as_micros()).ok());
        let sensor = Sensor {
            camera: self.camera.clone(),
            trigger: caption(why.name()),
            exposure_us: exposure,
            temperature_c: self.reading.celsius.map(|celsius| celsius as f32),
            throttled: self.reading.throttled.map(|throttled| throttled.0),
        };
        let (raw, place) = (self.raw(&frame, why, note), self.place());
        let taken = self.lookout.moment_of(&frame, now);
        let settings = Arc::clone(&self.settings);
        Job { number: self.taken, frame, why, raw, taken, sensor, place, settings, stored: None }
    }

    /// Texts that came with a frame: all of them are candidates.
    fn raw(&self, frame: &Frame, why: Why, note: Option<Caption>) -> Vec<Raw> {
        let mut raw: Vec<Raw> = note.into_iter().map(|words| Raw { words, origin: Origin::Human }).collect();
        let lines = frame.note.as_deref().unwrap_or_default().lines().map(str::trim).filter(|line| !line.is_empty());
        for line in lines {
            match Caption::new(line) {
                Ok(words) => raw.push(Raw { words, origin: Origin::Sidecar }),
                Err(error) => {
                    log::warn!(picture = frame.origin, error:% = error; "a text beside a picture is left out")
                }
            }
        }
        let tag = matches!(why, Why::Cause(cause) if cause.has_before()).then(|| why.name());
        let name = Some(self.settings.place.name.as_str()).filter(|name| !name.is_empty());
        let others = [(tag, Origin::Tag), (name, Origin::Place)];
        raw.truncate(MAX_RAW - others.len());
        raw.extend(others.into_iter().filter_map(|(words, origin)| Some(Raw { words: caption(words?), origin })));
        raw
    }

    fn place(&self) -> Option<Place> {
        let settings = &self.settings.place;
        let coordinates = match settings.position {
            PositionSource::None => None,
            PositionSource::Fixed => Coordinates::new(settings.latitude, settings.longitude),
            PositionSource::Gpsd => self.position,
        };
        let coordinates = coordinates.map(|place| place.rounded(settings.decimals));
        let is_known = coordinates.is_some() || !settings.name.is_empty() || !settings.deployment.is_empty();
        is_known.then(|| Place {
            deployment: caption(&settings.deployment),
            name: caption(&settings.name),
            time_zone: Some(caption(&settings.zone.to_string())),
            coordinates: coordinates.map(|place| [place.latitude(), place.longitude()]),
        })
    }

    /// The next frame for the model.
    pub fn next_job(&mut self) -> Option<Job> {
        let job = self.queue.pop_front()?;
        self.at_work += 1;
        Some(job)
    }

    /// A pair that waits in the store for its captions, when the model has nothing else to do.
    pub fn later_job(&mut self, now: &Moment) -> Option<Job> {
        let is_wanted = self.settings.captions.hours != Hours::ALWAYS && self.writes_captions(now);
        if !is_wanted || !self.is_idle() || self.trouble().is_some() {
            self.later.rest(is_wanted);
            return None;
        }
        self.later.next(self.keeper.store(), &self.settings, now)
    }

    /// The model is done with a frame: it is kept, rejected or dropped.
    pub fn done(&mut self, outcome: Outcome, now: &Moment) {
        if let Some(id) = outcome.job.stored {
            return self.done_later(id, outcome, now);
        }
        let Outcome { job, found, bundle, vector, .. } = outcome;
        self.at_work = self.at_work.saturating_sub(1);
        if !matches!(found, Found::Failed(_)) {
            self.failures = 0;
        }
        match found {
            Found::Unreadable(reason) => {
                log::warn!(picture = job.frame.origin, error = reason; "a frame cannot be decoded");
                self.drop_job(job, Dropped::Unreadable);
            }
            Found::Duplicate => self.drop_job(job, Dropped::Duplicate),
            Found::Failed(reason) => {
                log::error!(picture = job.frame.origin, error = reason; "the model stopped at a frame");
                self.failures += 1;
                if self.failures == MAX_FAILURES {
                    self.given_up = Some(GivenUp { frames: self.failures, reason });
                }
                self.drop_job(job, Dropped::Failed);
            }
            Found::Judged(judgement) => {
                let standing = match judgement.fate {
                    Fate::Kept => Standing::Kept,
                    Fate::Audited(_) => Standing::Audited,
                    Fate::Dropped(_) => {
                        self.account.rejected += 1;
                        Standing::Texts
                    }
                };
                self.keep(job, Described { texts: judgement.texts, bundle: Some(bundle), vector }, standing, now);
            }
        }
    }

    /// A pair that waited has its captions, and takes the place of what is stored; or will never have any.
    fn done_later(&mut self, id: PairId, outcome: Outcome, now: &Moment) {
        let Outcome { job, found, bundle, vector, .. } = outcome;
        self.later.done();
        match found {
            Found::Judged(judgement) => {
                let standing = Standing::Later { id, fate: judgement.fate };
                self.keep(job, Described { texts: judgement.texts, bundle: Some(bundle), vector }, standing, now);
            }
            Found::Duplicate => self.keeper.replace(id, &mut self.account),
            // It stays as it is.
            Found::Unreadable(reason) | Found::Failed(reason) => {
                log::warn!(pair:% = id, error = reason; "a pair stays without captions");
            }
        }
    }

    fn drop_job(&mut self, job: Job, reason: Dropped) {
        self.account.drop_one(reason);
        if reason.is_final() {
            self.keeper.settle(job.frame.file);
        }
    }

    fn keep(&mut self, job: Job, described: Described, standing: Standing, now: &Moment) {
        let jpeg = match standing.has_picture().then(|| job.frame.jpeg()).transpose() {
            Ok(jpeg) => jpeg.map(<[u8]>::to_vec),
            Err(error) => {
                log::warn!(picture = job.frame.origin, error:% = error; "a frame cannot be kept");
                return self.drop_job(job, Dropped::NotStorable);
            }
        };
        let Job { frame, sensor, place, taken, .. } = job;
        let Described { texts, bundle, vector } = described;
        // Without its picture there is nothing to be found by it.
        let vector = vector.filter(|_| jpeg.is_some());
        let pair = Pair { jpeg, texts, sensor, place, taken: stamp(&taken), bundle, vector };
        self.keeper.put(pair, standing, frame.file, now.since_boot, &mut self.account);
    }

    /// A person's word about a pair that is in the store.
    ///
    /// # Errors
    /// As [`store::Store::label`].
    pub fn label(&mut self, pair: PairId, action: LabelAction, now: &Moment) -> Result<(), StoreError> {
        self.keeper.label(pair, Label { action, by: None, at: stamp(now) })
    }

    /// What the board measures of itself, and how much slower it looks for that.
    pub fn felt(&self) -> (Reading, Pace) {
        (self.reading, self.pace)
    }

    /// Whether frames come by themselves, so that one may be looked at that nothing asks for.
    pub fn is_live(&self) -> bool {
        self.lookout.manner() == Manner::Live
    }

    /// What became of the frames so far.
    pub fn account(&self) -> &Account {
        &self.account
    }

    /// Frames that are held: in the ring, in the queue, with the model, on their way to the disk.
    pub fn held(&self) -> usize {
        self.lookout.held() + self.queue.len() + self.at_work as usize + self.keeper.waiting()
    }

    /// Whether nothing is to be done any more with the frames that have come.
    pub fn is_idle(&self) -> bool {
        self.queue.is_empty() && self.at_work == 0 && !self.later.is_at_work()
    }

    /// How the board does, for the LED.
    pub fn status(&self) -> Status {
        match self.keeper.trouble() {
            Some(Trouble::Failing { .. }) => Status::Error,
            Some(_) => Status::Full,
            None if self.camera_is_lost || self.failures > 0 => Status::Error,
            None if self.at_work > 0 => Status::Busy,
            None => Status::Idle,
        }
    }

    /// What keeps the store from taking pairs.
    pub fn trouble(&self) -> Option<&Trouble> {
        self.keeper.trouble()
    }

    /// What the lamp is now.
    pub fn lamp(&mut self, now: &Moment) -> Light {
        self.lookout.lamp(now.since_boot)
    }

    /// Why the program is to end.
    pub fn given_up(&mut self) -> Option<GivenUp> {
        self.given_up.take()
    }

    /// Files of a folder whose fate is settled since this was asked last.
    pub fn take_settled(&mut self) -> Vec<FileStamp> {
        self.keeper.take_settled()
    }

    /// Commits what is judged, and gives up the rest. What is still with the model is lost to it. Gives the account, and
    /// the files that were settled by this.
    pub fn seal(mut self) -> (Account, Vec<FileStamp>, K) {
        let left = self.lookout.held() + self.queue.len() + self.at_work as usize;
        for _ in 0..left {
            self.account.drop_one(Dropped::Stopping);
        }
        self.keeper.seal(&mut self.account);
        let settled = self.keeper.take_settled();
        (self.account, settled, self.keeper.into_store())
    }
}

/// A text of ours or of the configuration, which allows only such as can be stored.
fn caption(text: &str) -> Caption {
    let printable: String = text.chars().filter(|c| Caption::new(c.to_string()).is_ok()).collect();
    let end = printable.floor_char_boundary(blip::caption::MAX_CAPTION_BYTES);
    Caption::new(printable.get(..end).unwrap_or_default()).expect("it is short, and every character is printable")
}

/// A moment as the store has it.
pub fn stamp(moment: &Moment) -> Stamp {
    Stamp {
        since_boot_ms: u64::try_from(moment.since_boot.as_millis()).unwrap_or(u64::MAX),
        wall_ms: moment.wall_ms,
        quality: match moment.quality {
            ClockQuality::Ntp => store::ClockQuality::Ntp,
            ClockQuality::Rtc => store::ClockQuality::Rtc,
            ClockQuality::Gps => store::ClockQuality::Gps,
            ClockQuality::Guessed => store::ClockQuality::Guessed,
        },
    }
}

#[cfg(test)]
mod tests;
