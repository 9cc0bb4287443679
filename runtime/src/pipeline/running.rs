//! The pipeline with threads, a camera and a model, from the first frame until a signal.
//!
//! The camera, the model, the pins and the LED have a thread each; this one decides, and waits for none of them.

mod opening;
mod report;
mod eye;
mod model;
mod wires;
mod facing;

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::time::{Duration, Instant};

use blip::caption::Caption;
use camera::{Counts, MaskError, Next, SourceError, State};
use field::clock::{Clock, Jumps, Moment, SystemClock};
use field::config::{Config, ConfigError, Effect};
use field::gpsd::Fix;
use field::heat::Sensors;
use field::pins::Edge;
use field::signals::Signal;
use field::trigger::Event;
use field::watchdog::{Notifier, Progress, Sign, Stage, State as Told, Watchdog, watchdog_timeout};
use store::{Store, StoreError};

use crate::face::Inside;
use crate::filter::Describe;

use super::account::{Account, Dropped};
use super::describer::Outcome;
use super::seen::Seen;
use super::{GivenUp, Parts, Pipeline};
use eye::Eye;
pub use eye::source;
use model::{Start, Worker};
use wires::Board;

/// Longest wait for anything: signals and pins are looked at as often.
const TURN: Duration = Duration::from_millis(100);
/// From one reading of the board's sensors to the next.
const FEEL: Duration = Duration::from_secs(5);
/// Messages that may wait.
const MESSAGES: usize = 64;
/// How long the model may still be at a frame when the program is to stop.
const LAST_FRAME: Duration = Duration::from_secs(1);

/// Why the program does not run, or runs no more.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The setting names no source.
    #[error("camera.source: {0}")]
    Source(#[from] SourceError),
    /// What must not be kept cannot be painted over.
    #[error("privacy.masks: {0}")]
    Mask(#[from] MaskError),
    /// Another process has the store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// No thread can be started.
    #[error("the system gives no thread for {what}: {source}")]
    Thread {
        /// What for.
        what: &'static str,
        /// Why.
        source: std::io::Error,
    },
    /// The bundle cannot be used.
    #[error("loading the bundle: {0}")]
    Model(String),
    /// The model stops at every frame.
    #[error(transparent)]
    GivenUp(#[from] GivenUp),
    /// The source ended, and not as it should.
    #[error("the camera ended: {0}")]
    Ended(String),
}

/// What is needed to run.
pub struct Running<L> {
    /// The configuration.
    pub config: Config,
    /// Reads it again.
    pub reread: Box<dyn Fn() -> Result<Config, ConfigError>>,
    /// What time it is.
    pub clock: Arc<SystemClock>,
    /// What is asked for by signals.
    pub signals: Receiver<Signal>,
    /// Where the board is shown, and what is asked for there.
    pub face: Inside,
    /// Loads the model, in its own thread.
    pub load: L,
    /// Whether another model is to run: it is asked every few seconds.
    pub another: Box<dyn Fn() -> bool>,
}

/// Why the program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It was asked to, or its source is at an end.
    Done,
    /// Another model is to run.
    Another,
}

/// What threads tell.
enum Message {
    /// The model is loaded.
    Ready { bundle: String, has_matcher: bool },
    /// It cannot be.
    Unloadable(String),
    /// It is done with a frame.
    Done(Box<Outcome>),
    /// It has answered a question.
    Answered,
    /// The trigger's wire.
    Edge(Edge),
    /// A GPS fix.
    Fix(Fix),
}

/// Runs until a signal, or until a source that has an end is at it. Gives what became of every frame.
///
/// # Errors
/// What keeps the program from running at all: a source that is none, a store that another process has, a bundle that
/// cannot be loaded. A disk that takes nothing and a camera that is not there are none.
pub fn run<D, L, E>(running: Running<L>) -> Result<(Account, End), RunError>
where
    D: Describe,
    L: FnOnce() -> Result<D, E> + Send + 'static,
    E: std::fmt::Display,
{
    let Running { config, reread, clock, signals, face, load, another } = running;
    let (sender, messages) = sync_channel(MESSAGES);
    let settings = Arc::new((*config).clone());
    let now = clock.now();
    let folder = config.store.folder.clone();
    let store = opening::store(&config, &now)?;
    let today = opening::today(&store.reader(), &config, &now);
    let seen = Seen::open(&folder);
    let eye = Eye::open(&settings, &now, &seen)?;
    let parts = Parts { settings: Arc::clone(&settings), manner: eye.manner(), camera: eye.name(), store };
    let pipeline = Pipeline::new(parts, &now);
    let progress = Progress::new();
    let start = Start { settings: Arc::clone(&settings), today };
    let worker = Worker::start(load, start, sender.clone(), progress.stage("captions"))?;
    let board = Board::open(&config, &sender)?;
    wires::follow_gpsd(&settings, &sender)?;
    let watchdog = watchdog_timeout(|name| std::env::var(name).ok(), std::process::id())
        .map(|timeout| Watchdog::new(progress.clone(), timeout, Duration::from_secs_f64(settings.limits.stuck_s)));
    let notifier = Notifier::from_environment().unwrap_or_else(|error| {
        log::warn!(error:% = error; "the service manager cannot be told");
        None
    });
    let main = progress.stage("main");
    let mut runner = Runner {
        config,
        reread,
        clock,
        signals,
        face,
        messages,
        _sender: sender,
        pipeline,
        eye: Some(eye),
        seen,
        worker,
        board,
        main,
        watchdog,
        notifier,
        sensors: Sensors::find(),
        felt: None,
        jumps: Jumps::new(),
        camera_state: State::Starting,
        rejects: None,
        status: String::new(),
        bundle: None,
        shown: None,
        viewed: None,
        is_stuck: false,
        former: Counts::default(),
        another,
        is_outdated: false,
    };
    let ended = runner.go();
    let account = runner.stop();
    ended.map(|end| (account, end))
}

struct Runner {
    config: Config,
    reread: Box<dyn Fn() -> Result<Config, ConfigError>>,
    clock: Arc<SystemClock>,
    signals: Receiver<Signal>,
    face: Inside,
    messages: Receiver<Message>,
    /// Keeps the channel open while no thread has it.
    _sender: SyncSender<Message>,
    pipeline: Pipeline<Store>,
    eye: Option<Eye>,
    seen: Seen,
    worker: Worker,
    board: Board,
    main: Stage,
    watchdog: Option<Watchdog>,
    notifier: Option<Notifier>,
    sensors: Sensors,
    felt: Option<Duration>,
    jumps: Jumps,
    camera_state: State,
    rejects: Option<f64>,
    status: String,
    bundle: Option<String>,
    /// When it was shown last how the board does, and what it sees.
    shown: Option<Duration>,
    viewed: Option<Duration>,
    is_stuck: bool,
    /// What cameras that were replaced have counted.
    former: Counts,
    another: Box<dyn Fn() -> bool>,
    is_outdated: bool,
}

impl Runner {
    fn go(&mut self) -> Result<End, RunError> {
        loop {
            let now = self.clock.now();
            match self.signals.try_recv() {
                Ok(Signal::Stop) => return Ok(End::Done),
                Ok(Signal::Reload) => self.reload(&now)?,
                Ok(Signal::Take) => {
                    // What refuses it is counted by the triggers.
                    let _ = self.pipeline.offer(Event::Command, None, &now);
                }
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => {}
            }
            while let Some(request) = self.face.next_request() {
                self.attend(request, &now);
            }
            self.main.step();
            self.pipeline.turn(&now);
            self.hand_over();
            self.tend(&now);
            if let Some(given_up) = self.pipeline.given_up() {
                return Err(given_up.into());
            }
            if self.is_outdated {
                return Ok(End::Another);
            }
            if let Some(end) = self.look(&now) {
                return end.map(|()| End::Done);
            }
            while let Ok(message) = self.messages.try_recv() {
                self.hear(message)?;
            }
        }
    }

    /// Gives the model its next frame, if it has none.
    fn hand_over(&mut self) {
        if !self.worker.is_free() {
            return;
        }
        let (now, pipeline) = (self.clock.now(), &mut self.pipeline);
        self.worker.give(|| pipeline.next_job().or_else(|| pipeline.later_job(&now)));
    }

    /// What is done besides frames.
    fn tend(&mut self, now: &Moment) {
        if let Some(jump) = self.jumps.look(now) {
            log::warn!(by_ms = jump.by_ms, from = jump.from.name(), to = jump.to.name(); "the clock was set");
        }
        if self.felt.is_none_or(|felt| now.since_boot.saturating_sub(felt) >= FEEL) {
            self.felt = Some(now.since_boot);
            self.pipeline.feel(self.sensors.read());
            self.tell_status();
            self.is_outdated = (self.another)();
        }
        self.watch_camera();
        self.show_health(now);
        self.board.show(self.pipeline.status());
        self.board.light(self.pipeline.lamp(now));
        if let Err(error) = self.seen.add(self.pipeline.take_settled()) {
            log::debug!(error:% = error; "which pictures were seen cannot be written down");
        }
        match self.watchdog.as_mut().map(|watchdog| watchdog.look(now.since_boot)) {
            Some(Sign::Alive) => {
                self.is_stuck = false;
                self.tell(&[Told::Watchdog]);
            }
            Some(Sign::Stuck(stage)) if !self.is_stuck => {
                self.is_stuck = true;
                log::error!(stage = stage.unwrap_or("all"); "nothing gets done");
            }
            Some(Sign::Stuck(_) | Sign::NotYet) | None => {}
        }
    }

    /// Fetches a frame if one is wanted, or waits for a message. The end, if the source is at its.
    fn look(&mut self, now: &Moment) -> Option<Result<(), RunError>> {
        let due = self.pipeline.next_due().map_or(TURN, |due| due.saturating_sub(now.since_boot)).min(TURN);
        let is_finished = matches!(self.camera_state, State::Finished { .. });
        let wants_view = self.wants_view(now);
        let wants_frame = self.pipeline.wants_frame(now)
            || is_finished && self.pipeline.is_idle()
            || wants_view && self.pipeline.is_live();
        let Some(eye) = self.eye.as_ref().filter(|_| wants_frame) else {
            if let Ok(message) = self.messages.recv_timeout(due) {
                return self.hear(message).err().map(Err);
            }
            return None;
        };
        match eye.next(Instant::now() + due) {
            Next::Frame(frame) => {
                let frame = eye.on_our_clock(*frame);
                if wants_view && let Ok(jpeg) = frame.jpeg() {
                    self.face.show_view(jpeg.to_vec());
                    self.viewed = Some(now.since_boot);
                }
                self.pipeline.see(frame, &self.clock.now());
                None
            }
            Next::Nothing => None,
            Next::Finished if self.pipeline.is_idle() => Some(match eye.state() {
                State::Finished { fault: Some(fault) } => Err(RunError::Ended(fault)),
                _ => Ok(()),
            }),
            // The model is at the last frames still.
            Next::Finished => {
                let message = self.messages.recv_timeout(due).ok()?;
                self.hear(message).err().map(Err)
            }
        }
    }

    fn hear(&mut self, message: Message) -> Result<(), RunError> {
        let now = self.clock.now();
        match message {
            Message::Ready { bundle, has_matcher } => {
                self.worker.free();
                log::info!(bundle = bundle; "the model is ready");
                self.bundle = Some(bundle);
                if !has_matcher {
                    log::warn!("the bundle has no matcher: captions are kept unjudged, and near duplicates too");
                }
                self.tell(&[Told::Ready]);
            }
            Message::Unloadable(reason) => return Err(RunError::Model(reason)),
            Message::Done(outcome) => {
                self.worker.free();
                self.rejects = outcome.rejects;
                report::frame(&outcome);
                if let Some(look) = facing::look(&outcome) {
                    self.face.show_look(look);
                }
                self.pipeline.done(*outcome, &now);
                self.shown = None;
            }
            Message::Answered => self.worker.free(),
            Message::Edge(edge) => {
                // What refuses it is counted by the triggers.
                let _ = self.pipeline.offer(Event::Pin(edge), None, &now);
            }
            Message::Fix(fix) => {
                if let Some(wall_ms) = fix.wall_ms {
                    self.clock.set_gps(now.since_boot, wall_ms);
                }
                self.pipeline.stand_at(fix.coordinates);
            }
        }
        Ok(())
    }

    fn watch_camera(&mut self) {
        let Some(eye) = &self.eye else { return };
        let state = eye.state();
        if std::mem::discriminant(&state) != std::mem::discriminant(&self.camera_state) {
            match &state {
                State::Streaming => log::info!(camera = eye.name().as_str(); "frames come"),
                State::Waiting { reason, .. } => {
                    log::warn!(camera = eye.name().as_str(), error = reason; "the camera is lost, and waited for");
                }
                State::Finished { .. } => log::info!(camera = eye.name().as_str(); "the source is at its end"),
                State::Starting => {}
            }
        }
        self.pipeline.camera_is_lost(matches!(state, State::Waiting { .. }));
        self.camera_state = state;
    }

    fn reload(&mut self, now: &Moment) -> Result<(), RunError> {
        self.tell(&[Told::Reloading]);
        match (self.reread)() {
            Ok(new) => self.adopt(&new, now)?,
            Err(error) => log::error!(error:% = error; "the configuration stays as it is"),
        }
        self.tell(&[Told::Ready]);
        Ok(())
    }

    fn adopt(&mut self, new: &Config, now: &Moment) -> Result<(), RunError> {
        // What must not be kept is checked before anything changes.
        if let Err(error) = Eye::check(new) {
            log::error!(error:% = error; "the configuration stays as it is");
            return Ok(());
        }
        let before = (*self.config).clone();
        for change in self.config.adopt(new) {
            let (name, to) = (format!("{}.{}", change.section, change.key), change.to);
            match change.effect {
                Effect::AtOnce => log::info!(setting = name, to = to; "a setting has changed"),
                Effect::Restart => log::warn!(setting = name, to = to; "a setting changes with the next start"),
            }
        }
        field::log::set_level(self.config.log.level);
        let settings = Arc::new((*self.config).clone());
        if let Some(watchdog) = &mut self.watchdog {
            watchdog.set_patience(Duration::from_secs_f64(settings.limits.stuck_s));
        }
        self.pipeline.reload(Arc::clone(&settings));
        if settings.store != before.store {
            self.pipeline.set_limits(opening::limits(&self.config));
        }
        let is_other = settings.camera != before.camera
            || settings.privacy.masks != before.privacy.masks
            || settings.store.jpeg_quality != before.store.jpeg_quality;
        if is_other {
            // A device is free only when the old camera has let go of it.
            self.former = report::sum(&self.former, &self.eye.take().map(|eye| eye.counts()).unwrap_or_default());
            let eye = Eye::open(&settings, now, &self.seen)?;
            self.pipeline.set_camera(eye.name(), eye.manner());
            self.eye = Some(eye);
        }
        Ok(())
    }

    fn tell(&self, states: &[Told<'_>]) {
        if let Some(Err(error)) = self.notifier.as_ref().map(|notifier| notifier.tell(states)) {
            log::debug!(error:% = error; "the service manager was not told");
        }
    }

    /// Says how it goes, in one line, when that has changed.
    fn tell_status(&mut self) {
        let Account { kept, rejected, .. } = *self.pipeline.account();
        let rejects = self.rejects.map_or(String::new(), |share| format!(", {:.0} % of texts rejected", share * 100.0));
        let trouble = self.pipeline.trouble().map_or(String::new(), |trouble| format!(", {trouble}"));
        let status = format!("{kept} kept, {rejected} rejected{rejects}{trouble}");
        if status != self.status {
            self.tell(&[Told::Status(&status)]);
            self.status = status;
        }
    }

    /// Seals the store and lets go of everything, within seconds whatever the model does.
    fn stop(mut self) -> Account {
        self.tell(&[Told::Stopping]);
        let deadline = Instant::now() + LAST_FRAME;
        while !self.worker.is_free()
            && let Ok(message) = self.messages.recv_timeout(deadline.saturating_duration_since(Instant::now()))
        {
            // It stops anyway, whatever the message is.
            let _ = self.hear(message);
        }
        let counts = report::sum(&self.former, &self.eye.as_ref().map(Eye::counts).unwrap_or_default());
        let (mut account, settled, store) = self.pipeline.seal();
        if let Err(error) = self.seen.add(settled) {
            log::warn!(error:% = error; "which pictures were seen cannot be written down");
        }
        // A frame of each camera may wait to be fetched.
        let fetched = counts.delivered + counts.replaced + counts.paced + counts.unmaskable;
        account = account.with(&counts);
        for _ in 0..counts.captured.saturating_sub(fetched) {
            account.delivered += 1;
            account.drop_one(Dropped::Stopping);
        }
        drop(store);
        drop(self.eye.take());
        report::summary(&account, counts.captured);
        account
    }
}

/// Names a source for the store.
fn name_of(source: &camera::Source) -> Caption {
    super::caption(&source.to_string())
}
