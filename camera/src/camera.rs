//! A source that is looked at in a thread of its own, and comes back by itself when it is lost.

use std::fmt;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use picture::JpegQuality;

use crate::counts::{Counts, Limits, Tally};
use crate::error::CameraError;
use crate::exposure::exposure;
use crate::feed::{Capture, Context, Fed, Feed, IsSeen, Pictures, Programs, open};
use crate::frame::{Frame, Image};
use crate::mailbox::{Mailbox, Taken};
use crate::mask::Mask;
use crate::source::{Pace, Rate, Source};
use crate::state::{Backoff, Health, State};
use crate::stop::{Stopper, Waited, stopper};

/// How long a camera that is dropped is waited for. A name that does not resolve takes longer, and its thread ends
/// by itself then.
const DROP_PATIENCE: Duration = Duration::from_secs(2);

/// How to look.
#[derive(Clone)]
pub struct Options {
    /// What times are counted from.
    pub epoch: Instant,
    /// Frames in a second at most; those that come sooner are dropped. Sources that wait are not held to it.
    pub most: Option<Rate>,
    /// How much is taken from the source.
    pub limits: Limits,
    /// When a lost source is looked for.
    pub backoff: Backoff,
    /// What is never kept.
    pub mask: Mask,
    /// Of a JPEG that is made of a frame.
    pub quality: JpegQuality,
    /// How a folder is watched.
    pub pictures: Pictures,
    /// Which pictures of a folder an earlier run has seen.
    pub is_seen: Option<IsSeen>,
    /// What is started.
    pub programs: Programs,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            epoch: Instant::now(),
            most: None,
            limits: Limits::default(),
            backoff: Backoff::default(),
            mask: Mask::default(),
            quality: JpegQuality::default(),
            pictures: Pictures::default(),
            is_seen: None,
            programs: Programs::default(),
        }
    }
}

/// What [`Camera::next`] gives.
#[derive(Debug)]
pub enum Next {
    /// The newest frame.
    Frame(Box<Frame>),
    /// None came in time. [`Camera::state`] says whether one may.
    Nothing,
    /// The source is at its end.
    Finished,
}

/// A source that is being looked at. Dropped, it stops, and so do the programs that it started.
pub struct Camera {
    source: Source,
    mask: Mask,
    shared: Arc<Shared>,
    stopper: Option<Stopper>,
    thread: Option<JoinHandle<()>>,
    /// Hangs up when the thread ends.
    ended: Mutex<Receiver<()>>,
}

struct Shared {
    mailbox: Mailbox,
    health: Mutex<Health>,
    tally: Arc<Tally>,
}

/// Says that no frame will come when the thread ends, however it does.
struct Finisher(Arc<Shared>);

impl Camera {
    /// Starts to look. A source that cannot be opened is waited for.
    ///
    /// # Errors
    /// No thread can be started.
    pub fn start(source: Source, options: Options) -> std::io::Result<Self> {
        let tally = Arc::new(Tally::default());
        let health = Mutex::new(Health::new(options.backoff));
        let shared = Arc::new(Shared { mailbox: Mailbox::default(), health, tally: Arc::clone(&tally) });
        let (stopper, stop) = stopper()?;
        let (sender, ended) = channel();
        let mask = options.mask.clone();
        let looker = Looker {
            source: source.clone(),
            epoch: options.epoch,
            pacer: Pacer::new(least_apart(&source, options.most)),
            first_pause: options.backoff.first,
            quality: options.quality,
            shared: Arc::clone(&shared),
            context: Context {
                stop,
                tally,
                limits: options.limits,
                programs: options.programs,
                pictures: options.pictures,
                is_seen: options.is_seen,
            },
            sequence: 0,
        };
        let finisher = Finisher(Arc::clone(&shared));
        let thread = std::thread::Builder::new().name("camera".to_owned()).spawn(move || {
            let _finisher = finisher;
            looker.look();
            drop(sender);
        })?;
        Ok(Self { source, mask, shared, stopper: Some(stopper), thread: Some(thread), ended: Mutex::new(ended) })
    }

    /// The newest frame that has not been taken, or the next one if it comes before `deadline`. What the mask hides is
    /// painted over already.
    pub fn next(&self, deadline: Instant) -> Next {
        loop {
            let mut frame = match self.shared.mailbox.take(deadline) {
                Taken::Frame(frame) => frame,
                Taken::Nothing => return Next::Nothing,
                Taken::Finished => return Next::Finished,
            };
            if self.mask.paint(&mut frame).is_ok() {
                self.shared.tally.delivered.add(1);
                return Next::Frame(frame);
            }
            self.shared.tally.unmaskable.add(1);
        }
    }

    /// Whether frames come.
    pub fn state(&self) -> State {
        self.shared.health.lock().unwrap_or_else(PoisonError::into_inner).state().clone()
    }

    /// What became of every frame.
    pub fn counts(&self) -> Counts {
        self.shared.tally.counts()
    }

    /// What it looks at.
    pub fn source(&self) -> &Source {
        &self.source
    }
}

impl fmt::Debug for Camera {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Camera").field("source", &self.source).field("state", &self.state()).finish_non_exhaustive()
    }
}

impl Drop for Camera {
    fn drop(&mut self) {
        self.shared.mailbox.abandon();
        drop(self.stopper.take());
        // It is an error when the sender is gone, which is when the thread has ended.
        let ended = self.ended.get_mut().unwrap_or_else(PoisonError::into_inner);
        let is_late = ended.recv_timeout(DROP_PATIENCE) == Err(RecvTimeoutError::Timeout);
        if let Some(thread) = self.thread.take()
            && !is_late
        {
            // A panic has been told of already.
            let _ = thread.join();
        }
    }
}

impl Drop for Finisher {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let fault = "its thread panicked, which is a fault of this program".to_owned();
            self.0.health.lock().unwrap_or_else(PoisonError::into_inner).finished(Some(fault));
        }
        self.0.mailbox.finish();
    }
}

/// The time between two frames that are both taken.
fn least_apart(source: &Source, most: Option<Rate>) -> Duration {
    let own = match source {
        Source::V4l { rate, .. } | Source::Rpicam { rate, .. } | Source::Http { rate, .. } => *rate,
        _ => None,
    };
    let rates = [own, most].into_iter().flatten();
    rates.map(Rate::interval).max().unwrap_or_default()
}

/// The thread's side.
struct Looker {
    source: Source,
    epoch: Instant,
    pacer: Pacer,
    first_pause: Duration,
    quality: JpegQuality,
    shared: Arc<Shared>,
    context: Context,
    sequence: u64,
}

/// Lets frames through at a highest rate.
struct Pacer {
    least_apart: Duration,
    /// When the next frame is taken at the earliest.
    due: Option<Duration>,
}

impl Pacer {
    fn new(least_apart: Duration) -> Self {
        Self { least_apart, due: None }
    }

    /// Whether a frame of `now` is taken. It may be a quarter early, as one of a camera of that very rate often is. The
    /// next one counts from when it was due, so that the mean rate is the asked one; but a pause is not made up for.
    fn takes(&mut self, now: Duration) -> bool {
        let due = self.due.unwrap_or(now);
        if now < due.saturating_sub(self.least_apart / 4) {
            return false;
        }
        let from = if now.saturating_sub(due) < self.least_apart { due } else { now };
        self.due = Some(from.saturating_add(self.least_apart));
        true
    }
}

impl Looker {
    fn look(mut self) {
        let mut feed: Option<Box<dyn Feed>> = None;
        loop {
            let fed = match feed.as_mut() {
                Some(feed) => feed.next(&self.context),
                None => open(&self.source, &self.context).and_then(|opened| feed.insert(opened).next(&self.context)),
            };
            match fed {
                Ok(Fed::Capture(capture)) => {
                    self.health(|health, now| health.streams(now));
                    if !self.keep(capture) {
                        return;
                    }
                }
                Ok(Fed::End(fault)) => {
                    self.context.tally.losses.add(u64::from(fault.is_some()));
                    self.health(|health, _| health.finished(fault.map(|fault| fault.to_string())));
                    return;
                }
                Err(CameraError::Stopped) => return,
                Err(error) => {
                    feed = feed.take().filter(|feed| feed.survives());
                    self.context.tally.losses.add(1);
                    let mut pause = self.health(|health, now| health.failed(now, error.to_string()));
                    if feed.is_some() {
                        // What can go on costs little to try.
                        pause = pause.min(self.first_pause);
                    }
                    if self.context.stop.pause(pause).is_ok_and(|waited| waited == Waited::Stopped) {
                        return;
                    }
                }
            }
        }
    }

    fn health<T>(&self, change: impl FnOnce(&mut Health, Duration) -> T) -> T {
        change(&mut self.shared.health.lock().unwrap_or_else(PoisonError::into_inner), self.epoch.elapsed())
    }

    /// Hands a capture over or counts why not. False if nobody takes frames any more.
    fn keep(&mut self, capture: Capture) -> bool {
        let tally = &self.context.tally;
        tally.captured.add(1);
        self.sequence += 1;
        let is_live = self.source.pace() == Pace::Live;
        let now = self.epoch.elapsed();
        if is_live && !self.pacer.takes(now) {
            tally.paced.add(1);
            return true;
        }
        let exposure = match &capture.image {
            Image::Jpeg(bytes) => exposure(bytes),
            Image::Raw(_) | Image::Rgb(_) => None,
        };
        let frame = Frame {
            image: capture.image,
            sequence: self.sequence,
            taken: capture.position.unwrap_or(now),
            exposure,
            note: capture.note,
            origin: capture.origin.unwrap_or_else(|| self.source.to_string()),
            file: capture.file,
            quality: self.quality,
            encoded: std::sync::OnceLock::new(),
        };
        if !is_live {
            return self.shared.mailbox.put_patiently(frame);
        }
        tally.replaced.add(u64::from(self.shared.mailbox.put_newest(frame)));
        true
    }
}

#[cfg(test)]
mod tests;
