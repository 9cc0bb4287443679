//! A camera of Linux's own, through V4L2.
//!
//! The crate is `linuxvideo`: `v4l` 0.14 and `v4l2r` 0.0.8 need libclang wherever they are built, and `v4l` panics where
//! a stream that fails is dropped. What it does not tell is a frame's number, so what the driver drops is not counted,
//! and the colours, which the setting can say.

use std::os::fd::AsFd;
use std::path::Path;

use linuxvideo::format::{PixFormat, PixelFormat as FourCc};
use linuxvideo::stream::ReadStream;
use linuxvideo::{BufType, Fract};
use picture::frame::{Matrix, PixelFormat, Range, RawFrame};
use rustix::io::Errno;

use super::{Capture, Context, Fed, Feed};
use crate::error::CameraError;
use crate::frame::Image;
use crate::mjpeg::whole_picture;
use crate::source::{Colours, FrameSize, Rate, VideoFormat};
use crate::stop::Waited;

/// What is asked for where the setting has no size.
const USUAL_SIZE: FrameSize = FrameSize { width: 1280, height: 720 };
/// The formats that are taken, the best first: a JPEG is kept as it is, and needs the least of a bus.
const FORMATS: &[(VideoFormat, &[&[u8; 4]])] = &[
    (VideoFormat::Mjpeg, &[b"MJPG", b"JPEG"]),
    (VideoFormat::Yuyv, &[b"YUYV"]),
    (VideoFormat::Nv12, &[b"NV12"]),
    (VideoFormat::I420, &[b"YU12"]),
    (VideoFormat::Grey, &[b"GREY"]),
];
/// Formats that a device may list.
const MAX_FORMATS: usize = 128;

pub(super) struct Device {
    stream: ReadStream,
    path: String,
    layout: Layout,
    rate: Option<Rate>,
}

/// How the driver writes a frame.
struct Layout {
    format: VideoFormat,
    width: usize,
    height: usize,
    stride: usize,
    colours: Colours,
}

impl Device {
    pub fn open(
        path: &Path,
        size: Option<FrameSize>,
        rate: Option<Rate>,
        format: Option<VideoFormat>,
        colours: Colours,
    ) -> Result<Self, CameraError> {
        let name = path.display().to_string();
        let fault = |reason: String| CameraError::Device { device: name.clone(), reason };
        let device = linuxvideo::Device::open(path).map_err(|error| opened(&name, error))?;
        if !device.supported_buf_types().into_iter().any(|kind| kind == BufType::VIDEO_CAPTURE) {
            let advice = "gives no frames (it is an output, a codec or of many planes); name another /dev/video…";
            return Err(fault(advice.to_owned()));
        }
        let listed: Vec<FourCc> = device
            .formats(BufType::VIDEO_CAPTURE)
            .take(MAX_FORMATS)
            .map_while(|format| Some(format.ok()?.pixel_format()))
            .collect();
        let (format, code) = chosen(format, &listed).ok_or_else(|| fault(no_format(format, &listed)))?;
        let FrameSize { width, height } = size.unwrap_or(USUAL_SIZE);
        let capture = device
            .video_capture(PixFormat::new(width, height, code))
            .map_err(|error| set_up(&name, "does not take the format", error))?;
        let layout = Layout::of(format, code, capture.format(), colours).map_err(&fault)?;
        if let Some(rate) = rate {
            // A driver that has one rate refuses, and frames beyond the asked rate are dropped.
            let _ = capture.set_frame_interval(Fract::new(1000, ((rate.get() * 1000.0) as u32).max(1)));
        }
        let stream = capture.into_stream().map_err(|error| set_up(&name, "does not start", error))?;
        Ok(Self { stream, path: name, layout, rate })
    }

    /// What the driver has in one buffer. None if it says that the frame is damaged.
    fn dequeue(&mut self) -> Result<Option<Vec<u8>>, CameraError> {
        let dequeued = self.stream.dequeue(|view| Ok((!view.is_error()).then(|| view.to_vec())));
        dequeued.map_err(|error| self.lost(error))
    }

    fn lost(&self, error: std::io::Error) -> CameraError {
        CameraError::Read { what: self.path.clone(), error }
    }
}

impl Feed for Device {
    fn next(&mut self, context: &Context) -> Result<Fed, CameraError> {
        let patience = context.patience(self.rate);
        loop {
            match context.stop.readable(self.stream.as_fd(), patience).map_err(|error| self.lost(error))? {
                Waited::Stopped => return Err(CameraError::Stopped),
                Waited::Late => return Err(patience.silent(String::new())),
                Waited::Readable | Waited::Ended => {}
            }
            let Some(bytes) = self.dequeue()? else {
                context.tally.damaged.add(1);
                continue;
            };
            if self.layout.format == VideoFormat::Mjpeg && bytes.len() > context.limits.jpeg_bytes {
                context.tally.too_large.add(1);
                continue;
            }
            match self.layout.image(bytes) {
                Some(image) => {
                    return Ok(Fed::Capture(Capture { origin: Some(self.path.clone()), ..Capture::from(image) }));
                }
                None => context.tally.damaged.add(1),
            }
        }
    }
}

fn opened(name: &str, error: std::io::Error) -> CameraError {
    match Errno::from_io_error(&error) {
        Some(Errno::NOTTY | Errno::INVAL) => {
            CameraError::Device { device: name.to_owned(), reason: "is not a camera of V4L2".to_owned() }
        }
        _ => CameraError::Open { what: name.to_owned(), error },
    }
}

fn set_up(name: &str, what: &str, error: std::io::Error) -> CameraError {
    let advice = match Errno::from_io_error(&error) {
        Some(Errno::BUSY) => "; another program uses it",
        _ => "",
    };
    CameraError::Device { device: name.to_owned(), reason: format!("{what} ({error}){advice}") }
}

/// The asked format, or the best, of those that the device lists.
fn chosen(asked: Option<VideoFormat>, listed: &[FourCc]) -> Option<(VideoFormat, FourCc)> {
    let wanted = FORMATS.iter().filter(|(format, _)| asked.is_none_or(|asked| asked == *format));
    let codes = wanted.flat_map(|(format, codes)| codes.iter().map(|code| (*format, FourCc::from_fourcc(**code))));
    codes.into_iter().find(|(_, code)| listed.contains(code))
}

fn no_format(asked: Option<VideoFormat>, listed: &[FourCc]) -> String {
    let name = |code: &FourCc| String::from_utf8_lossy(&code.as_fourcc()).trim_end().to_owned();
    let names: Vec<String> = listed.iter().map(name).collect();
    let asked = asked.map_or("MJPG, YUYV, NV12, YU12 or GREY", VideoFormat::name);
    let has = if names.is_empty() { "none at all".to_owned() } else { names.join(", ") };
    format!("gives {has}, not {asked}; for a Pi's camera module use rpicam:0")
}

impl Layout {
    fn of(format: VideoFormat, code: FourCc, given: &PixFormat, colours: Colours) -> Result<Self, String> {
        if given.pixel_format() != code {
            return Err(format!("lists {} and does not give it; ask for another format", format.name()));
        }
        let (width, height) = (given.width() as usize, given.height() as usize);
        blip::pixels::Rgb8::check_size(width, height).map_err(|error| format!("gives no size: {error}"))?;
        let is_halved = format != VideoFormat::Mjpeg && width % 2 == 1;
        if is_halved || !matches!(format, VideoFormat::Mjpeg | VideoFormat::Yuyv) && height % 2 == 1 {
            return Err(format!("gives {width} x {height} pixels, and a side is odd; ask for another size"));
        }
        let row = if format == VideoFormat::Yuyv { width * 2 } else { width };
        let stride = (given.bytes_per_line() as usize).max(row);
        Ok(Self { format, width, height, stride, colours })
    }

    /// A frame of the driver's bytes, if they are all there.
    fn image(&self, bytes: Vec<u8>) -> Option<Image> {
        let format = match self.format {
            VideoFormat::Mjpeg => {
                let length = whole_picture(&bytes)?.len();
                let mut bytes = bytes;
                bytes.truncate(length);
                return Some(Image::Jpeg(bytes));
            }
            VideoFormat::Yuyv => PixelFormat::Yuyv,
            VideoFormat::Nv12 => PixelFormat::Nv12,
            VideoFormat::I420 => PixelFormat::I420,
            VideoFormat::Grey => return self.grey(&bytes),
        };
        let rows = if format == PixelFormat::Yuyv { self.height } else { self.height / 2 * 3 };
        (bytes.len() >= self.stride.checked_mul(rows)?).then(|| Image::Raw(self.raw(format, self.stride, bytes)))
    }

    /// Brightness alone, as a frame whose colours are none.
    fn grey(&self, bytes: &[u8]) -> Option<Image> {
        let mut planes = Vec::with_capacity(self.width * self.height / 2 * 3);
        for y in 0..self.height {
            planes.extend_from_slice(bytes.get(y * self.stride..)?.get(..self.width)?);
        }
        planes.resize(self.width * self.height / 2 * 3, 128);
        Some(Image::Raw(self.raw(PixelFormat::I420, self.width, planes)))
    }

    fn raw(&self, format: PixelFormat, stride: usize, bytes: Vec<u8>) -> RawFrame<Vec<u8>> {
        let usual = if self.format == VideoFormat::Grey { Range::Full } else { Range::Limited };
        RawFrame {
            format,
            width: self.width,
            height: self.height,
            stride,
            matrix: self.colours.matrix.unwrap_or(Matrix::Bt601),
            range: self.colours.range.unwrap_or(usual),
            bytes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn codes(names: &[&[u8; 4]]) -> Vec<FourCc> {
        names.iter().map(|name| FourCc::from_fourcc(**name)).collect()
    }

    #[test]
    fn best_format_that_a_device_has_is_chosen() {
        let webcam = codes(&[b"YUYV", b"H264", b"MJPG"]);
        assert_eq!(chosen(None, &webcam).unwrap().0, VideoFormat::Mjpeg);
        assert_eq!(chosen(Some(VideoFormat::Yuyv), &webcam).unwrap().0, VideoFormat::Yuyv);
        assert_eq!(chosen(Some(VideoFormat::Nv12), &webcam), None);
        assert_eq!(chosen(None, &codes(&[b"JPEG"])).unwrap().1, FourCc::from_fourcc(*b"JPEG"));
        let advice = "gives YUYV, H264, MJPG, not NV12; for a Pi's camera module use rpicam:0";
        assert_eq!(no_format(Some(VideoFormat::Nv12), &webcam), advice);
        let raw = codes(&[b"pRAA", b"RG10"]);
        assert_eq!(chosen(None, &raw), None);
        assert!(no_format(None, &raw).starts_with("gives pRAA, RG10, not MJPG, YUYV, "));
    }

    #[test]
    fn grey_frames_are_grey_whatever_their_padding() {
        let colours = Colours::default();
        let layout = Layout { format: VideoFormat::Grey, width: 4, height: 2, stride: 7, colours };
        let bytes = [0, 100, 200, 255, 9, 9, 9, 0, 100, 200, 255];
        let Some(Image::Raw(raw)) = layout.image(bytes.to_vec()) else { panic!() };
        let rgb = raw.to_rgb().unwrap();
        assert_eq!(rgb.values()[..12], [0, 0, 0, 100, 100, 100, 200, 200, 200, 255, 255, 255]);
        assert!(layout.image(bytes[..10].to_vec()).is_none());
    }

    #[test]
    fn raw_frames_that_lack_bytes_are_none() {
        let formats = [(VideoFormat::Yuyv, 20 * 4), (VideoFormat::Nv12, 20 * 6), (VideoFormat::I420, 20 * 6)];
        for (format, needed) in formats {
            let layout = Layout { format, width: 8, height: 4, stride: 20, colours: Colours::default() };
            assert!(layout.image(vec![0; needed]).is_some(), "{format:?}");
            assert!(layout.image(vec![0; needed - 1]).is_none(), "{format:?}");
        }
        let jpeg = Layout { format: VideoFormat::Mjpeg, width: 8, height: 4, stride: 0, colours: Colours::default() };
        assert!(jpeg.image(b"\xff\xd8\xff\xd9".to_vec()).is_none());
    }
}
