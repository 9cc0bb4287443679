//! A setting is taken apart: the kind of source, what it names, and options.

use std::path::PathBuf;
use std::str::FromStr;

use blip::pixels::Rgb8;
use picture::frame::{Matrix, Range};

use super::{Colours, FrameSize, NetworkUrl, Pace, Rate, Source, SourceError, Usual, VideoFormat, url};

impl FromStr for Source {
    type Err = SourceError;

    fn from_str(setting: &str) -> Result<Self, SourceError> {
        Self::read(setting, Usual::default())
    }
}

impl Source {
    /// Reads a setting, with what a camera that has a choice is asked for where the setting says nothing.
    ///
    /// # Errors
    /// What is no source, or has options that it cannot have.
    pub fn read(setting: &str, usual: Usual) -> Result<Self, SourceError> {
        let setting = setting.trim();
        if setting == "-" || setting.starts_with("-?") {
            let mut options = Options::after("-", &setting[1..], '?', &["pace"])?.1;
            return Ok(Self::StandardInput { pace: options.pace(Pace::Live)? });
        }
        let unknown = || SourceError::Unknown { given: url::without_secret(setting) };
        let (kind, rest) = setting.split_once(':').ok_or_else(unknown)?;
        match kind {
            "v4l" => v4l(rest, usual),
            "rpicam" => rpicam(rest, usual),
            "folder" => Ok(Self::Folder(path("folder:", rest)?)),
            "picture" => Ok(Self::Picture(path("picture:", rest)?)),
            "video" => video(rest),
            "http" => {
                let (url, rate) = network("http:", setting)?;
                Ok(Self::Http { url, rate })
            }
            "ffmpeg" => {
                let (url, rate) = network("ffmpeg:", rest)?;
                Ok(Self::Network { url, rate: rate.unwrap_or(Rate::USUAL) })
            }
            _ if url::is_network(kind) && rest.starts_with("//") => {
                let (url, rate) = network("network video", setting)?;
                Ok(Self::Network { url, rate: rate.unwrap_or(Rate::USUAL) })
            }
            _ => Err(unknown()),
        }
    }
}

fn v4l(rest: &str, usual: Usual) -> Result<Source, SourceError> {
    const FORMATS: &[(&str, VideoFormat)] = &[
        ("MJPG", VideoFormat::Mjpeg),
        ("YUYV", VideoFormat::Yuyv),
        ("NV12", VideoFormat::Nv12),
        ("YU12", VideoFormat::I420),
        ("GREY", VideoFormat::Grey),
    ];
    let known = &["width", "height", "rate", "format", "matrix", "range"];
    let (device, mut options) = Options::after("v4l:", rest, '?', known)?;
    Ok(Source::V4l {
        device: path("v4l:", device)?,
        size: options.size()?.or(usual.size),
        rate: options.rate()?.or(usual.rate),
        format: options.one_of("format", "MJPG, YUYV, NV12, YU12 or GREY", FORMATS)?,
        colours: Colours {
            matrix: options.one_of(
                "matrix",
                "bt601 or bt709",
                &[("bt601", Matrix::Bt601), ("bt709", Matrix::Bt709)],
            )?,
            range: options.one_of("range", "limited or full", &[("limited", Range::Limited), ("full", Range::Full)])?,
        },
    })
}

fn rpicam(rest: &str, usual: Usual) -> Result<Source, SourceError> {
    const FORMATS: &[(&str, VideoFormat)] = &[("mjpeg", VideoFormat::Mjpeg), ("yuv420", VideoFormat::I420)];
    let known = &["width", "height", "rate", "format", "rotation"];
    let (camera, mut options) = Options::after("rpicam:", rest, '?', known)?;
    let needed = "the number of a camera, as in rpicam:0";
    let camera = camera.parse().map_err(|_| SourceError::Incomplete { kind: "rpicam:", needed })?;
    let (size, rate) = (options.size()?.or(usual.size), options.rate()?.or(usual.rate));
    let format = options.one_of("format", "mjpeg or yuv420", FORMATS)?.unwrap_or(VideoFormat::Mjpeg);
    // Rows of its raw frames are padded to 64 bytes, by some versions. Source: rpicam-apps, issues 188 and 857.
    let is_plain = |size: FrameSize| size.width.is_multiple_of(64) && size.height.is_multiple_of(2);
    if format == VideoFormat::I420 && !size.is_some_and(is_plain) {
        let needed = "width=… and height=… for yuv420, with a width that is a multiple of 64 and an even height";
        return Err(SourceError::Incomplete { kind: "rpicam:", needed });
    }
    let is_upside_down = options.one_of("rotation", "0 or 180", &[("0", false), ("180", true)])?.unwrap_or(false);
    Ok(Source::Rpicam { camera, size, rate, format, is_upside_down })
}

fn video(rest: &str) -> Result<Source, SourceError> {
    let (file, mut options) = Options::after("video:", rest, '?', &["rate", "pace"])?;
    let rate = options.rate()?.unwrap_or(Rate::USUAL);
    Ok(Source::Video { file: path("video:", file)?, rate, pace: options.pace(Pace::Patient)? })
}

fn network(kind: &'static str, setting: &str) -> Result<(NetworkUrl, Option<Rate>), SourceError> {
    let (url, mut options) = Options::after(kind, setting, '#', &["rate"])?;
    let needed = "a URL such as rtsp://user:password@camera:554/stream, without blanks";
    let url = NetworkUrl::new(url).ok_or(SourceError::Incomplete { kind, needed })?;
    Ok((url, options.rate()?))
}

fn path(kind: &'static str, rest: &str) -> Result<PathBuf, SourceError> {
    let is_path = !rest.is_empty() && !rest.contains('\0');
    is_path.then(|| rest.into()).ok_or(SourceError::Incomplete { kind, needed: "a path after the colon" })
}

/// The options of a setting, each taken once.
struct Options<'a> {
    values: Vec<(&'a str, &'a str)>,
}

impl<'a> Options<'a> {
    /// Splits them off what stands before `mark`.
    fn after(
        kind: &'static str,
        text: &'a str,
        mark: char,
        options: &'static [&'static str],
    ) -> Result<(&'a str, Self), SourceError> {
        let Some((before, after)) = text.split_once(mark) else { return Ok((text, Self { values: Vec::new() })) };
        let mut values = Vec::new();
        for option in after.split('&').filter(|option| !option.is_empty()) {
            let (key, value) = option.split_once('=').unwrap_or((option, ""));
            if !options.contains(&key) {
                return Err(SourceError::Option { kind, key: key.to_owned(), options });
            }
            values.push((key, value));
        }
        Ok((before, Self { values }))
    }

    fn take<T>(
        &mut self,
        key: &str,
        needed: &'static str,
        read: impl Fn(&str) -> Option<T>,
    ) -> Result<Option<T>, SourceError> {
        let Some((_, value)) = self.values.iter().rev().find(|(known, _)| *known == key) else { return Ok(None) };
        let wrong = || SourceError::Value { key: key.to_owned(), value: (*value).to_owned(), needed };
        read(value).map(Some).ok_or_else(wrong)
    }

    fn one_of<T: Copy>(
        &mut self,
        key: &str,
        needed: &'static str,
        choices: &[(&str, T)],
    ) -> Result<Option<T>, SourceError> {
        self.take(key, needed, |value| choices.iter().find(|(name, _)| *name == value).map(|(_, choice)| *choice))
    }

    fn rate(&mut self) -> Result<Option<Rate>, SourceError> {
        self.take("rate", "a number of frames a second from 0 to 1000", |value| Rate::new(value.parse().ok()?))
    }

    fn pace(&mut self, usual: Pace) -> Result<Pace, SourceError> {
        let choices = [("live", Pace::Live), ("patient", Pace::Patient)];
        Ok(self.one_of("pace", "live or patient", &choices)?.unwrap_or(usual))
    }

    fn size(&mut self) -> Result<Option<FrameSize>, SourceError> {
        let side = |value: &str| value.parse().ok().filter(|side| (1..=65_535).contains(side));
        let width = self.take("width", "a number of pixels", side)?;
        let height = self.take("height", "a number of pixels", side)?;
        match (width, height) {
            (None, None) => Ok(None),
            (Some(width), Some(height)) if Rgb8::check_size(width as usize, height as usize).is_ok() => {
                Ok(Some(FrameSize { width, height }))
            }
            (Some(_), Some(_)) => Err(SourceError::Incomplete { kind: "a size", needed: "at most 33554432 pixels" }),
            _ => Err(SourceError::Incomplete { kind: "a size", needed: "both width=… and height=…" }),
        }
    }
}
