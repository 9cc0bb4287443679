//! Cameras on real streams: ffmpeg, GStreamer's RTSP server, ustreamer, and stand-ins for what no machine without a
//! camera has.

#[cfg(test)]
mod programs;
#[cfg(test)]
mod standard_input;
#[cfg(test)]
mod v4l;
#[cfg(test)]
mod video;
#[cfg(test)]
mod http;
#[cfg(test)]
mod rpicam;
#[cfg(test)]
mod rtsp;
