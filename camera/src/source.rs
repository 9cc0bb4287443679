//! Where frames come from, as one setting: `v4l:/dev/video0?width=1280&height=720`, `rtsp://…`, `folder:pictures`.

mod setting;
mod url;

use std::fmt;
use std::path::PathBuf;

use picture::frame::{Matrix, Range};

pub use url::NetworkUrl;

/// Where frames come from.
///
/// | setting | gives | options |
/// |---|---|---|
/// | `v4l:/dev/video0` | a camera of the kernel's, as USB cameras are | `width`, `height`, `rate`, `format`, `matrix`, `range` |
/// | `rpicam:0` | a Pi's camera module, by `rpicam-vid` or `libcamera-vid` | `width`, `height`, `rate`, `format`, `rotation` |
/// | `rtsp://…`, `https://…` and other network video | what `ffmpeg` reads | `rate` |
/// | `http://…` | MJPEG, or a JPEG that is asked for again and again | `rate` |
/// | `ffmpeg:http://…` | the same through `ffmpeg`, for any video | `rate` |
/// | `folder:DIRECTORY` | each picture that is put there, once | |
/// | `video:FILE` | a video, by `ffmpeg` | `rate`, `pace` |
/// | `picture:FILE` | one picture | |
/// | `-` | MJPEG on standard input | `pace` |
///
/// Options follow a `?`, as `key=value` with `&` between them. A URL of the network has its own `?`, so they follow a
/// `#`, which is never sent: `rtsp://camera/stream#rate=2`.
#[derive(Clone, Debug, PartialEq)]
pub enum Source {
    /// A camera of the kernel's.
    V4l {
        /// As `/dev/video0`.
        device: PathBuf,
        /// Asked for; the driver may give the nearest that it has.
        size: Option<FrameSize>,
        /// Asked for, in the same way.
        rate: Option<Rate>,
        /// The only one that is taken. Without it the best that the device has is.
        format: Option<VideoFormat>,
        /// What raw frames' numbers mean.
        colours: Colours,
    },
    /// A Pi's camera module.
    Rpicam {
        /// Which of them.
        camera: u32,
        /// Without it the program chooses.
        size: Option<FrameSize>,
        /// Without it the program chooses.
        rate: Option<Rate>,
        /// [`VideoFormat::Mjpeg`] or [`VideoFormat::I420`], which needs a size.
        format: VideoFormat,
        /// Hangs upside down.
        is_upside_down: bool,
    },
    /// Network video that `ffmpeg` reads.
    Network {
        /// With its password, if it has one.
        url: NetworkUrl,
        /// Frames that are taken.
        rate: Rate,
    },
    /// A camera that gives JPEGs over HTTP.
    Http {
        /// With its password, if it has one.
        url: NetworkUrl,
        /// Frames that are taken, and how often one is asked for that are given one by one.
        rate: Option<Rate>,
    },
    /// A watched folder.
    Folder(PathBuf),
    /// A video file.
    Video {
        /// The file.
        file: PathBuf,
        /// Frames of a second of it that are taken.
        rate: Rate,
        /// Whether all of them are.
        pace: Pace,
    },
    /// One picture.
    Picture(PathBuf),
    /// MJPEG on standard input.
    StandardInput {
        /// Whether every frame is taken.
        pace: Pace,
    },
}

/// Pixels of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameSize {
    /// Pixels in a row.
    pub width: u32,
    /// Rows.
    pub height: u32,
}

/// Frames in a second: above 0, at most [`Rate::MOST`].
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Rate(f64);

/// What cameras are asked for where their setting says nothing; without it they choose.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Usual {
    /// Pixels of a frame.
    pub size: Option<FrameSize>,
    /// Frames in a second.
    pub rate: Option<Rate>,
}

/// How the pixels of a frame are written, by the names that V4L2 has for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VideoFormat {
    /// `MJPG`: a JPEG a frame.
    Mjpeg,
    /// `YUYV`.
    Yuyv,
    /// `NV12`.
    Nv12,
    /// `YU12`.
    I420,
    /// `GREY`: brightness alone.
    Grey,
}

/// What the numbers of raw frames mean, where the setting says so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Colours {
    /// Without it BT.601, which V4L2 takes for a webcam.
    pub matrix: Option<Matrix>,
    /// Without it limited, and full where a frame is grey.
    pub range: Option<Range>,
}

/// What happens to frames that come faster than they are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// The newest wins, as of a camera.
    Live,
    /// None is dropped: the source waits.
    Patient,
}

/// Why a setting is no source.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SourceError {
    /// None of the kinds of source.
    #[error(
        "{given:?} is no source; use v4l:DEVICE, rpicam:NUMBER, http://…, rtsp://…, folder:DIRECTORY, video:FILE, \
         picture:FILE or -"
    )]
    Unknown {
        /// The setting, without a password.
        given: String,
    },
    /// What must follow the kind is missing or is not of its form.
    #[error("{kind} needs {needed}")]
    Incomplete {
        /// The kind.
        kind: &'static str,
        /// What is missing.
        needed: &'static str,
    },
    /// An option that the kind does not have.
    #[error("{kind} has no option {key:?}{}", known(options))]
    Option {
        /// The kind.
        kind: &'static str,
        /// The option.
        key: String,
        /// Those that it has.
        options: &'static [&'static str],
    },
    /// An option with a value that it cannot have.
    #[error("{key}={value} is not {needed}")]
    Value {
        /// The option.
        key: String,
        /// Its value.
        value: String,
        /// What it can be.
        needed: &'static str,
    },
}

fn known(options: &[&str]) -> String {
    if options.is_empty() { "; it has none".to_owned() } else { format!("; it has {}", options.join(", ")) }
}

impl Rate {
    /// Frames in a second that nothing is asked to exceed.
    pub const MOST: f64 = 1000.0;
    /// Of network video and video files, where the setting has none.
    pub const USUAL: Self = Self(5.0);

    /// Checks a rate.
    pub fn new(rate: f64) -> Option<Self> {
        (rate > 0.0 && rate <= Self::MOST).then_some(Self(rate))
    }

    /// Frames in a second.
    pub fn get(self) -> f64 {
        self.0
    }

    /// From one frame to the next.
    pub fn interval(self) -> std::time::Duration {
        // The smallest rate is below what a duration holds.
        std::time::Duration::try_from_secs_f64(1.0 / self.0).unwrap_or(std::time::Duration::MAX)
    }
}

impl VideoFormat {
    /// As V4L2 writes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Mjpeg => "MJPG",
            Self::Yuyv => "YUYV",
            Self::Nv12 => "NV12",
            Self::I420 => "YU12",
            Self::Grey => "GREY",
        }
    }
}

impl Source {
    /// Whether frames may be dropped for newer ones, as a camera's may.
    pub fn pace(&self) -> Pace {
        match self {
            Self::V4l { .. } | Self::Rpicam { .. } | Self::Network { .. } | Self::Http { .. } => Pace::Live,
            Self::Folder(_) | Self::Picture(_) => Pace::Patient,
            Self::Video { pace, .. } | Self::StandardInput { pace } => *pace,
        }
    }
}

impl fmt::Display for Source {
    /// What it is called in messages: without options, and without a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::V4l { device, .. } => write!(f, "v4l:{}", device.display()),
            Self::Rpicam { camera, .. } => write!(f, "rpicam:{camera}"),
            Self::Network { url, .. } | Self::Http { url, .. } => url.fmt(f),
            Self::Folder(folder) => write!(f, "folder:{}", folder.display()),
            Self::Video { file, .. } => write!(f, "video:{}", file.display()),
            Self::Picture(file) => write!(f, "picture:{}", file.display()),
            Self::StandardInput { .. } => f.write_str("standard input"),
        }
    }
}

#[cfg(test)]
mod tests;
