//! A frame that was taken, on its way to the model.

use std::sync::Arc;

use camera::{Frame, Image};
use field::clock::Moment;
use field::config::Settings;
use field::trigger::Cause;
use store::{PairId, Place, Sensor};

use crate::filter::Raw;

/// Why a frame is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// A trigger.
    Cause(Cause),
    /// Its source gives each picture once, and each is taken.
    Source,
}

impl Why {
    /// Its name in the store.
    pub fn name(self) -> &'static str {
        match self {
            Why::Cause(cause) => cause.name(),
            Why::Source => "source",
        }
    }

    /// Whether it waits for its turn: of frames by the clock only the newest does.
    pub(super) fn is_replaceable(self) -> bool {
        self == Why::Cause(Cause::Interval)
    }

    /// Whether a person wants this very frame.
    pub(super) fn is_asked_for(self) -> bool {
        matches!(self, Why::Cause(cause) if cause.is_asked_for())
    }
}

/// What the model is to look at.
#[derive(Debug)]
pub struct Job {
    /// Counts the frames that were taken, from 1.
    pub number: u64,
    /// The frame.
    pub frame: Frame,
    /// Why it was taken.
    pub why: Why,
    /// Texts that came with it.
    pub raw: Vec<Raw>,
    /// When it was taken.
    pub taken: Moment,
    /// Camera and board.
    pub sensor: Sensor,
    /// Where.
    pub place: Option<Place>,
    /// The configuration of that moment.
    pub settings: Arc<Settings>,
    /// The pair, if it is in the store already and waited for the hours in which captions are written.
    pub stored: Option<PairId>,
}

impl Job {
    /// What its picture takes in memory, in bytes.
    pub fn bytes(&self) -> usize {
        bytes_of(&self.frame)
    }

    /// What names the frame in draws: the boot and its number there.
    pub fn name(&self) -> String {
        format!("{} {}", self.taken.boot, self.number)
    }
}

/// What a frame takes in memory, in bytes.
pub(super) fn bytes_of(frame: &Frame) -> usize {
    match &frame.image {
        Image::Jpeg(bytes) => bytes.len(),
        Image::Raw(raw) => raw.bytes.len(),
        Image::Rgb(rgb) => rgb.values().len(),
    }
}
