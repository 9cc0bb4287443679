//! The camera as the configuration has it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use blip::caption::Caption;
use camera::{Camera, Counts, FileStamp, Frame, FrameSize, Next, Options, Rate, Source, SourceError, State, Usual};
use field::clock::Moment;
use field::config::Settings;
use picture::JpegQuality;

use crate::pipeline::lookout::{Manner, mask};
use crate::pipeline::seen::Seen;

use super::{RunError, name_of};

pub(super) struct Eye {
    camera: Camera,
    manner: Manner,
    /// What the epoch of its frames is on our clock.
    offset: Duration,
}

impl Eye {
    /// Starts to look.
    pub(super) fn open(settings: &Settings, now: &Moment, seen: &Seen) -> Result<Eye, RunError> {
        let source = source(settings)?;
        let seen = seen.clone();
        let options = Options {
            epoch: Instant::now(),
            most: Rate::new(settings.camera.rate),
            mask: mask(&settings.privacy.masks)?,
            quality: JpegQuality::new(settings.store.jpeg_quality).unwrap_or_default(),
            is_seen: matches!(source, Source::Folder(_)).then(|| {
                let is_seen: camera::IsSeen = Arc::new(move |stamp: &FileStamp| seen.has(stamp));
                is_seen
            }),
            ..Options::default()
        };
        let manner = Manner::of(&source, now.since_boot);
        let thread = |source| RunError::Thread { what: "the camera", source };
        let camera = Camera::start(source, options).map_err(thread)?;
        Ok(Eye { camera, manner, offset: now.since_boot })
    }

    /// Whether a camera would start with these settings.
    pub(super) fn check(settings: &Settings) -> Result<(), RunError> {
        source(settings)?;
        mask(&settings.privacy.masks)?;
        Ok(())
    }

    pub(super) fn manner(&self) -> Manner {
        self.manner
    }

    pub(super) fn name(&self) -> Caption {
        name_of(self.camera.source())
    }

    pub(super) fn next(&self, deadline: Instant) -> Next {
        self.camera.next(deadline)
    }

    /// A frame with its time on our clock; in a video it is the place in the video.
    pub(super) fn on_our_clock(&self, mut frame: Frame) -> Frame {
        if self.manner == Manner::Live {
            frame.taken = frame.taken.saturating_add(self.offset);
        }
        frame
    }

    pub(super) fn state(&self) -> State {
        self.camera.state()
    }

    pub(super) fn counts(&self) -> Counts {
        self.camera.counts()
    }
}

/// The source, with the size and the rate of the configuration unless it names its own.
///
/// # Errors
/// A setting that names no source.
pub fn source(settings: &Settings) -> Result<Source, SourceError> {
    let wanted = &settings.camera;
    let size = FrameSize { width: wanted.width, height: wanted.height };
    let usual = Usual { size: Some(size), rate: Rate::new(wanted.rate) };
    Source::read(wanted.source.as_str(), usual)
}
