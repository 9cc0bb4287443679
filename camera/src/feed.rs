//! Sources that are open: each gives one capture after another.

mod file;
mod folder;
mod http;
mod program;
mod standard_input;
#[cfg(target_os = "linux")]
mod v4l;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::counts::{Limits, Tally};
use crate::error::CameraError;
use crate::frame::{FileStamp, Image};
use crate::mjpeg::Skipped;
use crate::source::{Rate, Source};
use crate::stop::{Patience, Stop};

/// Says whether a picture of a folder was seen before, by an earlier run: what became of it, the caller knows.
pub type IsSeen = Arc<dyn Fn(&FileStamp) -> bool + Send + Sync>;

/// Programs that sources start, by name or path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Programs {
    /// For videos and network video.
    pub ffmpeg: PathBuf,
    /// For a Pi's camera: the first of them that is there.
    pub rpicam: Vec<PathBuf>,
}

impl Default for Programs {
    fn default() -> Self {
        Self { ffmpeg: "ffmpeg".into(), rpicam: vec!["rpicam-vid".into(), "libcamera-vid".into()] }
    }
}

/// How a folder is watched. It is listed again and again, which works on every file system, those of a network too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pictures {
    /// From one listing to the next, at least.
    pub interval: Duration,
    /// How long a file must have stayed as it is before it is taken for complete.
    pub settle: Duration,
}

impl Default for Pictures {
    fn default() -> Self {
        Self { interval: Duration::from_secs(1), settle: Duration::from_secs(2) }
    }
}

/// What every feed may use.
pub(crate) struct Context {
    pub stop: Stop,
    pub tally: Arc<Tally>,
    pub limits: Limits,
    pub programs: Programs,
    pub pictures: Pictures,
    pub is_seen: Option<IsSeen>,
}

/// One picture, before it is a frame.
#[derive(Debug)]
pub(crate) struct Capture {
    pub image: Image,
    pub note: Option<String>,
    pub origin: Option<String>,
    pub file: Option<FileStamp>,
    /// Where in a video it is.
    pub position: Option<Duration>,
}

/// What a feed gives.
#[derive(Debug)]
pub(crate) enum Fed {
    Capture(Capture),
    /// There is no more. With a fault if that came too early.
    End(Option<CameraError>),
}

pub(crate) trait Feed {
    /// The next capture.
    ///
    /// # Errors
    /// The source is lost. It is dropped and opened anew, unless it [`Self::survives`].
    fn next(&mut self, context: &Context) -> Result<Fed, CameraError>;

    /// Whether it can go on after an error.
    fn survives(&self) -> bool {
        false
    }
}

impl From<Image> for Capture {
    fn from(image: Image) -> Self {
        Self { image, note: None, origin: None, file: None, position: None }
    }
}

impl Context {
    pub fn skip(&self, skipped: Skipped) {
        self.tally.stray_bytes.add(skipped.bytes);
        self.tally.damaged.add(skipped.damaged);
        self.tally.too_large.add(skipped.too_large);
    }

    /// From now on, for a frame of a source that gives them at `rate`.
    fn patience(&self, rate: Option<Rate>) -> Patience {
        let frames = rate.map_or(Duration::ZERO, |rate| rate.interval().saturating_mul(3));
        Patience::new(self.limits.patience.max(frames))
    }
}

/// Bytes that are read at once.
const READ_BYTES: usize = 64 << 10;

pub(crate) fn open(source: &Source, context: &Context) -> Result<Box<dyn Feed>, CameraError> {
    Ok(match source {
        #[cfg(target_os = "linux")]
        Source::V4l { device, size, rate, format, colours } => {
            Box::new(v4l::Device::open(device, *size, *rate, *format, *colours)?)
        }
        #[cfg(not(target_os = "linux"))]
        Source::V4l { device, .. } => {
            let reason = "is a camera of Linux, which this is not; use another source".to_owned();
            return Err(CameraError::Device { device: device.display().to_string(), reason });
        }
        Source::Rpicam { camera, size, rate, format, is_upside_down } => {
            let asked = program::Rpicam {
                camera: *camera,
                size: *size,
                rate: *rate,
                format: *format,
                is_upside_down: *is_upside_down,
            };
            Box::new(program::Program::rpicam(&asked, context)?)
        }
        Source::Network { url, rate } => Box::new(program::Program::network(url, *rate, context)?),
        Source::Video { file, rate, pace } => Box::new(program::Program::video(file, *rate, *pace, context)?),
        Source::Http { url, rate } => Box::new(http::Http::open(url, *rate, context)?),
        Source::Folder(folder) => Box::new(folder::Folder::new(folder)),
        Source::Picture(path) => Box::new(file::Picture::new(path)),
        Source::StandardInput { .. } => Box::new(standard_input::StandardInput::new(context)),
    })
}
