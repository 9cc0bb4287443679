//! Frames from the standard output of a program: `ffmpeg` for videos and network video, `rpicam-vid` for a Pi's camera.

use std::path::Path;
use std::time::Duration;

use picture::frame::{Matrix, PixelFormat, Range, RawFrame};

use super::{Capture, Context, Fed, Feed, READ_BYTES};
use crate::child::{Running, Secrets};
use crate::error::CameraError;
use crate::frame::Image;
use crate::mjpeg::Splitter;
use crate::source::{FrameSize, NetworkUrl, Pace, Rate, VideoFormat};

/// What `ffmpeg` may open of a stranger's stream: nothing on this machine.
const NETWORK_PROTOCOLS: &str = "rtsp,rtsps,rtmp,rtmpe,rtmps,rtmpt,rtmpte,rtmpts,rtp,srtp,udp,tcp,tls,srt,http,https,\
                                 httpproxy,hls,crypto,mmsh,mmst";
/// Of `ffmpeg`'s JPEGs, from 2, which is best, to 31. About [`picture::JpegQuality`] 90.
const FFMPEG_QUALITY: &str = "3";
/// Of a Pi's JPEGs, from 1 to 100.
const RPICAM_QUALITY: &str = "90";

pub(super) struct Program {
    running: Running,
    output: Output,
    buffer: Vec<u8>,
    /// At which it gives frames, if that is known.
    rate: Option<Rate>,
    /// From one frame of a video file to the next, where none of them is dropped.
    step: Option<Duration>,
    /// Comes to an end, and is then not started again.
    is_finite: bool,
    given: u32,
}

/// What the program writes.
enum Output {
    Mjpeg(Splitter),
    /// Samples of I420, frame after frame.
    I420 {
        size: FrameSize,
        bytes: Vec<u8>,
    },
}

/// What is asked of a Pi's camera.
pub(super) struct Rpicam {
    pub camera: u32,
    pub size: Option<FrameSize>,
    pub rate: Option<Rate>,
    pub format: VideoFormat,
    pub is_upside_down: bool,
}

impl Program {
    pub fn network(url: &NetworkUrl, rate: Rate, context: &Context) -> Result<Self, CameraError> {
        let mut arguments = vec!["-protocol_whitelist".to_owned(), NETWORK_PROTOCOLS.to_owned()];
        if url.scheme().starts_with("rtsp") {
            // Of UDP a board in a busy network sees half.
            arguments.extend(["-rtsp_transport", "tcp"].map(str::to_owned));
        }
        arguments.extend(["-i".to_owned(), url.secret().to_owned()]);
        Self::ffmpeg(arguments, rate, url.secrets(), context)
    }

    pub fn video(file: &Path, rate: Rate, pace: Pace, context: &Context) -> Result<Self, CameraError> {
        if let Err(error) = std::fs::File::open(file) {
            return Err(CameraError::Open { what: file.display().to_string(), error });
        }
        let mut arguments = vec!["-protocol_whitelist".to_owned(), "file".to_owned()];
        if pace == Pace::Live {
            arguments.push("-re".to_owned());
        }
        arguments.extend(["-i".to_owned(), format!("file:{}", file.display())]);
        let program = Self::ffmpeg(arguments, rate, Secrets::new(), context)?;
        let step = (pace == Pace::Patient).then(|| rate.interval());
        Ok(Self { is_finite: true, step, ..program })
    }

    fn ffmpeg(input: Vec<String>, rate: Rate, secrets: Secrets, context: &Context) -> Result<Self, CameraError> {
        let before = ["-nostdin", "-hide_banner", "-loglevel", "error"].map(str::to_owned);
        let filter = format!("fps={}", rate.get());
        let after = ["-an", "-sn", "-dn", "-vf", &filter, "-c:v", "mjpeg", "-pix_fmt", "yuvj420p"];
        let sink = ["-q:v", FFMPEG_QUALITY, "-f", "mjpeg", "pipe:1"];
        let output = after.into_iter().chain(sink).map(str::to_owned);
        let arguments: Vec<String> = before.into_iter().chain(input).chain(output).collect();
        let running = Running::start(std::slice::from_ref(&context.programs.ffmpeg), &arguments, secrets)?;
        let output = Output::Mjpeg(Splitter::new(context.limits.jpeg_bytes));
        Ok(Self::of(running, output, Some(rate)))
    }

    pub fn rpicam(asked: &Rpicam, context: &Context) -> Result<Self, CameraError> {
        let running = Running::start(&context.programs.rpicam, &asked.arguments(), Secrets::new())?;
        let output = match (asked.format, asked.size) {
            (VideoFormat::I420, Some(size)) => Output::I420 { size, bytes: Vec::new() },
            _ => Output::Mjpeg(Splitter::new(context.limits.jpeg_bytes)),
        };
        Ok(Self::of(running, output, asked.rate))
    }

    fn of(running: Running, output: Output, rate: Option<Rate>) -> Self {
        Self { running, output, buffer: vec![0; READ_BYTES], rate, step: None, is_finite: false, given: 0 }
    }

    fn capture(&mut self, context: &Context) -> Option<Capture> {
        let image = match &mut self.output {
            Output::Mjpeg(splitter) => {
                let picture = splitter.next_picture();
                context.skip(splitter.take_skipped());
                Image::Jpeg(picture?)
            }
            Output::I420 { size, bytes } => Image::Raw(take_i420(*size, bytes)?),
        };
        let position = self.step.map(|step| step.saturating_mul(self.given));
        self.given = self.given.saturating_add(1);
        Some(Capture { position, ..Capture::from(image) })
    }

    fn ended(&mut self) -> Result<Fed, CameraError> {
        let (status, error) = self.running.end();
        let is_well = status.is_some_and(|status| status.success());
        match self.is_finite {
            true if is_well && self.given > 0 => Ok(Fed::End(None)),
            // Started again it would give its first frames again.
            true if self.given > 0 => Ok(Fed::End(Some(error))),
            _ => Err(error),
        }
    }
}

impl Feed for Program {
    fn next(&mut self, context: &Context) -> Result<Fed, CameraError> {
        let patience = context.patience(self.rate);
        loop {
            if let Some(capture) = self.capture(context) {
                return Ok(Fed::Capture(capture));
            }
            match self.running.read(&mut self.buffer, &context.stop, patience)? {
                0 => return self.ended(),
                count => match &mut self.output {
                    Output::Mjpeg(splitter) => splitter.push(&self.buffer[..count]),
                    Output::I420 { bytes, .. } => bytes.extend_from_slice(&self.buffer[..count]),
                },
            }
        }
    }
}

impl Rpicam {
    /// The same for `rpicam-vid` and `libcamera-vid`.
    ///
    /// Source: rpicam-apps, `core/options.cpp` and `core/video_options.cpp`.
    fn arguments(&self) -> Vec<String> {
        let codec = if self.format == VideoFormat::I420 { "yuv420" } else { "mjpeg" };
        let mut arguments: Vec<String> = ["--timeout", "0", "--nopreview", "--flush", "--codec", codec, "--camera"]
            .into_iter()
            .map(str::to_owned)
            .collect();
        arguments.push(self.camera.to_string());
        if let Some(FrameSize { width, height }) = self.size {
            arguments.extend(["--width".to_owned(), width.to_string(), "--height".to_owned(), height.to_string()]);
        }
        if let Some(rate) = self.rate {
            arguments.extend(["--framerate".to_owned(), rate.get().to_string()]);
        }
        if self.is_upside_down {
            arguments.extend(["--rotation", "180"].map(str::to_owned));
        }
        if codec == "mjpeg" {
            arguments.extend(["--quality", RPICAM_QUALITY].map(str::to_owned));
        }
        arguments.extend(["--output", "-"].map(str::to_owned));
        arguments
    }
}

/// The first frame of `bytes`, if all of it is there. In both programs `yuv420` has the colours of JPEG.
///
/// Source: rpicam-apps, `apps/rpicam_vid.cpp`, `get_colourspace_flags`.
fn take_i420(size: FrameSize, bytes: &mut Vec<u8>) -> Option<RawFrame<Vec<u8>>> {
    let (width, height) = (size.width as usize, size.height as usize);
    let length = width * height / 2 * 3;
    if bytes.len() < length {
        return None;
    }
    let rest = bytes.split_off(length);
    Some(RawFrame {
        format: PixelFormat::I420,
        width,
        height,
        stride: width,
        matrix: Matrix::Bt601,
        range: Range::Full,
        bytes: std::mem::replace(bytes, rest),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pis_camera_is_asked_as_its_program_understands() {
        let mut asked = Rpicam {
            camera: 1,
            size: Some(FrameSize { width: 640, height: 480 }),
            rate: Rate::new(2.5),
            format: VideoFormat::Mjpeg,
            is_upside_down: true,
        };
        assert_eq!(
            asked.arguments().join(" "),
            "--timeout 0 --nopreview --flush --codec mjpeg --camera 1 --width 640 --height 480 --framerate 2.5 \
             --rotation 180 --quality 90 --output -"
        );
        asked = Rpicam { rate: None, is_upside_down: false, format: VideoFormat::I420, ..asked };
        assert_eq!(
            asked.arguments().join(" "),
            "--timeout 0 --nopreview --flush --codec yuv420 --camera 1 --width 640 --height 480 --output -"
        );
    }

    #[test]
    fn raw_frames_are_cut_where_they_end() {
        let size = FrameSize { width: 64, height: 2 };
        let mut bytes: Vec<u8> = (0..64 * 3 + 10).map(|index| (index / 192) as u8).collect();
        let first = take_i420(size, &mut bytes).unwrap();
        assert_eq!((first.bytes.len(), bytes.len()), (192, 10));
        assert!(first.to_rgb().is_ok());
        assert!(take_i420(size, &mut bytes).is_none());
    }
}
