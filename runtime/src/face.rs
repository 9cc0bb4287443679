//! What the board shows of itself, and what it is asked: between the pipeline and those who look at it from outside.
//!
//! The pipeline's thread is [`Inside`]: it shows, takes requests when it has time for them, and waits for nobody. Pages and
//! brokers are [`Outside`], any number of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant};

use blip::caption::Caption;
use field::clock::Moment;
use field::heat::{Because, Pace, Reading};
use field::light::Status;
use serde_json::{Value, json};
use store::{Decision, LabelAction, PairId, Text};
use tokio::sync::{oneshot, watch};

use crate::filter::Scored;
use crate::matcher::Embedding;

/// Requests that may wait for the pipeline's thread.
const MAX_REQUESTS: usize = 16;
/// How long after somebody has looked a live picture is still shown.
const ATTENTION: Duration = Duration::from_secs(5);

/// A picture that the model has looked at.
#[derive(Clone, Debug, PartialEq)]
pub struct Look {
    /// Counts the frames that were taken, from 1.
    pub number: u64,
    /// When it was taken.
    pub taken: Moment,
    /// The picture.
    pub jpeg: Vec<u8>,
    /// Its texts; the shown caption comes first.
    pub texts: Vec<Text>,
    /// What the filter made of it.
    pub fate: &'static str,
    /// What took it.
    pub trigger: &'static str,
    /// The bundle.
    pub bundle: Caption,
    /// What looking and describing took.
    pub took: Duration,
}

impl Look {
    /// As JSON, without the picture.
    pub fn json(&self) -> Value {
        let shown = self.texts.first();
        json!({
            "number": self.number, "caption": shown.map(|text| text.words.as_str()),
            "match": shown.and_then(|text| text.itm), "cosine": shown.and_then(|text| text.itc),
            "fate": self.fate, "trigger": self.trigger, "taken_ms": self.taken.known_ms(), "bundle": self.bundle.as_str(),
            "took_ms": u64::try_from(self.took.as_millis()).unwrap_or(u64::MAX),
            "texts": self.texts.iter().map(text_json).collect::<Vec<Value>>(),
        })
    }
}

/// A text with its scores, as JSON.
pub fn text_json(text: &Text) -> Value {
    let (decision, reason) = match &text.decision {
        Decision::Kept => ("kept", None),
        Decision::Rejected(reason) => ("rejected", Some(reason.as_str())),
    };
    json!({
        "text": text.words.as_str(), "origin": text.origin, "match": text.itm, "cosine": text.itc,
        "log_prob": text.log_prob, "decision": decision, "reason": reason,
    })
}

/// How the board does.
#[derive(Clone, Debug, PartialEq)]
pub struct Health {
    /// The bundle, once it is loaded.
    pub bundle: Option<String>,
    /// What frames come from.
    pub camera: String,
    /// Whether they come, in words.
    pub frames: String,
    /// What the LED says.
    pub status: Status,
    /// Frames whose pair is safe on the disk.
    pub kept: u64,
    /// Frames that the filter rejected.
    pub rejected: u64,
    /// Frames that were dropped, by reason.
    pub dropped: Vec<(&'static str, u64)>,
    /// Share of texts that the filter rejects of late.
    pub rejects: Option<f64>,
    /// What keeps the store from taking pairs.
    pub trouble: Option<String>,
    /// What the board measures of itself.
    pub reading: Reading,
    /// How much slower it looks, and why.
    pub pace: Pace,
    /// What time it is.
    pub now: Moment,
}

impl Health {
    /// What the status is called.
    pub fn status_name(&self) -> &'static str {
        match (self.status, &self.bundle) {
            (_, None) => "starting",
            (Status::Idle, _) => "idle",
            (Status::Busy, _) => "busy",
            (Status::Full, _) => "full",
            (Status::Error, _) => "error",
        }
    }

    /// Why frames are taken more seldom, if they are.
    pub fn slowed(&self) -> Option<&'static str> {
        match self.pace.because {
            Because::Nothing => None,
            Because::Warm => Some("warm"),
            Because::UnderVoltage => Some("under-voltage"),
            Because::Throttled => Some("throttled"),
        }
    }

    /// As JSON.
    pub fn json(&self) -> Value {
        json!({
            "status": self.status_name(), "bundle": self.bundle, "camera": self.camera, "frames": self.frames,
            "kept": self.kept, "rejected": self.rejected, "dropped": self.dropped.iter().map(|(_, count)| count).sum::<u64>(),
            "dropped_by": self.dropped.iter().map(|(reason, count)| ((*reason).to_owned(), json!(count))).collect::<serde_json::Map<_, _>>(),
            "rejects": self.rejects, "trouble": self.trouble, "celsius": self.reading.celsius,
            "under_voltage": self.reading.under_voltage, "throttled": self.reading.throttled.map(|flags| flags.0),
            "slowed": self.slowed(), "stretch": self.pace.stretch,
            "since_boot_s": self.now.since_boot.as_secs(), "wall_ms": self.now.wall_ms, "clock": self.now.quality.name(),
        })
    }
}

/// Why something that was asked for is not done.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum Refusal {
    /// Others have asked before.
    #[error("the board is busy: ask again in a moment")]
    Busy,
    /// The model is not loaded yet, or the program ends.
    #[error("the board is starting or stopping: ask again in a moment")]
    Away,
    /// No such pair.
    #[error("pair {0} is not there")]
    NotThere(PairId),
    /// What was asked is not possible.
    #[error("{0}")]
    Unusable(String),
    /// It went wrong.
    #[error("{0}")]
    Failed(String),
}

/// Where an answer goes. Who asked may have gone meanwhile.
pub type Answer<T> = oneshot::Sender<Result<T, Refusal>>;

/// What somebody asks of the board.
#[derive(Debug)]
pub enum Request {
    /// A frame now, with what its sender says of it.
    Take {
        /// A text for the picture.
        note: Option<Caption>,
        /// Done when the triggers have accepted it.
        answer: Answer<()>,
    },
    /// A word about a pair.
    Label {
        /// The pair.
        pair: PairId,
        /// The word.
        action: LabelAction,
        /// Done when it is safe on the disk.
        answer: Answer<()>,
    },
    /// Captions for a picture, which is not kept.
    Caption {
        /// The picture file.
        picture: Vec<u8>,
        /// What the models say.
        answer: Answer<Vec<Scored>>,
    },
    /// A text as a vector, to search by.
    Embed {
        /// The text.
        text: String,
        /// Its vector and the bundle's id; nothing without a matcher.
        answer: Answer<Option<(Embedding, Caption)>>,
    },
}

/// The pipeline's side.
pub struct Inside {
    looks: watch::Sender<Option<Arc<Look>>>,
    views: watch::Sender<Option<Arc<Vec<u8>>>>,
    health: watch::Sender<Option<Arc<Health>>>,
    requests: Receiver<Request>,
    attention: Attention,
}

/// The side of those who look at the board. Clones are of the same one.
#[derive(Clone)]
pub struct Outside {
    looks: watch::Receiver<Option<Arc<Look>>>,
    views: watch::Receiver<Option<Arc<Vec<u8>>>>,
    health: watch::Receiver<Option<Arc<Health>>>,
    requests: SyncSender<Request>,
    attention: Attention,
}

/// When somebody wanted a live picture last.
#[derive(Clone)]
struct Attention {
    start: Instant,
    /// Milliseconds since `start`, plus one; 0 for never.
    last: Arc<AtomicU64>,
}

/// Both sides.
pub fn open() -> (Inside, Outside) {
    let (look_sender, looks) = watch::channel(None);
    let (view_sender, views) = watch::channel(None);
    let (health_sender, health) = watch::channel(None);
    let (request_sender, requests) = sync_channel(MAX_REQUESTS);
    let attention = Attention { start: Instant::now(), last: Arc::default() };
    let inside = Inside {
        looks: look_sender,
        views: view_sender,
        health: health_sender,
        requests,
        attention: attention.clone(),
    };
    (inside, Outside { looks, views, health, requests: request_sender, attention })
}

impl Inside {
    /// Shows a picture that the model has looked at.
    pub fn show_look(&self, look: Look) {
        self.looks.send_replace(Some(Arc::new(look)));
    }

    /// Shows what the camera sees.
    pub fn show_view(&self, jpeg: Vec<u8>) {
        self.views.send_replace(Some(Arc::new(jpeg)));
    }

    /// Shows how the board does.
    pub fn show_health(&self, health: Health) {
        self.health.send_replace(Some(Arc::new(health)));
    }

    /// What is asked next.
    pub fn next_request(&self) -> Option<Request> {
        self.requests.try_recv().ok()
    }

    /// Whether somebody wants to see what the camera sees.
    pub fn is_watched(&self) -> bool {
        let last = self.attention.last.load(Ordering::Relaxed);
        let now = self.attention.now();
        last > 0 && now.saturating_sub(last) <= u64::try_from(ATTENTION.as_millis()).unwrap_or(u64::MAX)
    }
}

impl Attention {
    fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX).saturating_add(1)
    }
}

impl Outside {
    /// The last picture that the model has looked at.
    pub fn look(&self) -> Option<Arc<Look>> {
        self.looks.borrow().clone()
    }

    /// Pictures that the model looks at, as they come.
    pub fn looks(&self) -> watch::Receiver<Option<Arc<Look>>> {
        self.looks.clone()
    }

    /// What the camera sees. From now on for some seconds it is shown anew every second, where frames come by themselves.
    pub fn view(&self) -> Option<Arc<Vec<u8>>> {
        self.attention.last.store(self.attention.now(), Ordering::Relaxed);
        self.views.borrow().clone()
    }

    /// How the board does; nothing before it has started.
    pub fn health(&self) -> Option<Arc<Health>> {
        self.health.borrow().clone()
    }

    /// Asks, and waits for the answer.
    ///
    /// # Errors
    /// What is said about the request, or that nobody has time for it.
    pub async fn ask<T>(&self, request: impl FnOnce(Answer<T>) -> Request) -> Result<T, Refusal> {
        let (answer, answered) = oneshot::channel();
        self.requests.try_send(request(answer)).map_err(|error| match error {
            TrySendError::Full(_) => Refusal::Busy,
            TrySendError::Disconnected(_) => Refusal::Away,
        })?;
        answered.await.unwrap_or(Err(Refusal::Away))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_that_nobody_takes_is_refused_and_does_not_wait() {
        let (inside, outside) = open();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let take = |answer| Request::Take { note: None, answer };
        for _ in 0..MAX_REQUESTS {
            let (answer, _) = oneshot::channel();
            outside.requests.try_send(take(answer)).unwrap();
        }
        assert_eq!(runtime.block_on(outside.ask(take)), Err(Refusal::Busy));
        // Requests that are dropped are answered.
        while inside.next_request().is_some() {}
        let asking = std::thread::spawn(move || runtime.block_on(outside.ask(take)));
        while inside.next_request().is_none() {
            std::thread::yield_now();
        }
        assert_eq!(asking.join().unwrap(), Err(Refusal::Away));
    }

    #[test]
    fn the_camera_is_watched_only_while_somebody_looks() {
        let (inside, outside) = open();
        assert!(!inside.is_watched());
        assert!(outside.view().is_none());
        assert!(inside.is_watched());
    }
}
