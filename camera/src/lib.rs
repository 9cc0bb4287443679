//! Frames from anywhere: a setting such as `v4l:/dev/video0` or `rtsp://…` becomes a [`Camera`], which looks in a
//! thread of its own, comes back by itself when it is lost, and never keeps more than the newest frame.
//!
//! What cameras, servers and files say is a stranger's: sizes are limited, every fault is an error or a counter, and
//! every frame that is not handed over is counted with its reason.

#![forbid(unsafe_code)]

mod error;
mod source;
mod frame;
mod mask;
mod counts;
mod stop;
mod child;
pub mod mjpeg;
pub mod multipart;
mod http;
mod exposure;
mod feed;
mod state;
mod mailbox;
mod camera;
pub mod motion;

pub use camera::{Camera, Next, Options};
pub use counts::{Counts, Limits};
pub use error::CameraError;
pub use feed::{IsSeen, Pictures, Programs};
pub use frame::{FileStamp, Frame, FrameFault, Image};
pub use mask::{Mask, MaskError, Shape};
pub use source::{Colours, FrameSize, NetworkUrl, Pace, Rate, Source, SourceError, Usual, VideoFormat};
pub use state::{Backoff, State};
