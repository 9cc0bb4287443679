//! A camera that gives JPEGs over HTTP: all in one answer, or one in each.

use std::time::{Duration, Instant};

use super::{Capture, Context, Fed, Feed};
use crate::error::CameraError;
use crate::frame::Image;
use crate::http::{Answer, get};
use crate::mjpeg::{Skipped, Splitter};
use crate::multipart::Multipart;
use crate::source::{NetworkUrl, Rate};
use crate::stop::Waited;

/// From one request to the next, where each answer is one picture and the setting has no rate.
const USUAL_INTERVAL: Duration = Duration::from_secs(1);

pub(super) struct Http {
    url: NetworkUrl,
    rate: Option<Rate>,
    answer: Answer,
    asked: Instant,
    body: Body,
    /// What was read last.
    bytes: Vec<u8>,
}

enum Body {
    Multipart(Multipart),
    /// JPEGs one after the other.
    Stream(Splitter),
    /// One JPEG, after which the next is asked for.
    Single(Splitter),
}

impl Body {
    fn of(answer: &Answer, url: &NetworkUrl, limit: usize) -> Result<Self, CameraError> {
        let content = answer.content_type.as_str();
        if content.starts_with("multipart/") {
            return Ok(Self::Multipart(Multipart::new(limit)));
        }
        if content.starts_with("image/jpeg") || content.starts_with("image/jpg") {
            return Ok(Self::Single(Splitter::new(limit)));
        }
        if content.starts_with("text/") || content.contains("mpegurl") || content.contains("mp4") {
            let kind: String = content.chars().filter(|letter| !letter.is_control()).take(60).collect();
            let answer = format!("with {kind}; give the URL of its MJPEG, or put ffmpeg: before that of a video");
            return Err(CameraError::Answer { what: url.to_string(), answer });
        }
        Ok(Self::Stream(Splitter::new(limit)))
    }

    fn push(&mut self, bytes: &[u8]) {
        match self {
            Self::Multipart(multipart) => multipart.push(bytes),
            Self::Stream(splitter) | Self::Single(splitter) => splitter.push(bytes),
        }
    }

    fn next_picture(&mut self) -> (Option<Vec<u8>>, Skipped) {
        match self {
            Self::Multipart(multipart) => (multipart.next_picture(), multipart.take_skipped()),
            Self::Stream(splitter) | Self::Single(splitter) => (splitter.next_picture(), splitter.take_skipped()),
        }
    }
}

impl Http {
    pub fn open(url: &NetworkUrl, rate: Option<Rate>, context: &Context) -> Result<Self, CameraError> {
        let asked = Instant::now();
        let answer = get(url, &context.stop, context.patience(None))?;
        let body = Body::of(&answer, url, context.limits.jpeg_bytes)?;
        Ok(Self { url: url.clone(), rate, answer, asked, body, bytes: Vec::new() })
    }

    fn ask_again(&mut self, context: &Context) -> Result<(), CameraError> {
        let interval = self.rate.map_or(USUAL_INTERVAL, Rate::interval);
        let waited = context.stop.pause(interval.saturating_sub(self.asked.elapsed()));
        match waited.map_err(|error| CameraError::Read { what: self.url.to_string(), error })? {
            Waited::Stopped => Err(CameraError::Stopped),
            Waited::Late | Waited::Readable | Waited::Ended => {
                *self = Self::open(&self.url, self.rate, context)?;
                Ok(())
            }
        }
    }
}

impl Feed for Http {
    fn next(&mut self, context: &Context) -> Result<Fed, CameraError> {
        let mut patience = context.patience(None);
        let mut answers_without = 0;
        loop {
            let (picture, skipped) = self.body.next_picture();
            context.skip(skipped);
            if let Some(picture) = picture {
                return Ok(Fed::Capture(Capture::from(Image::Jpeg(picture))));
            }
            self.bytes.clear();
            if self.answer.read(&mut self.bytes, &context.stop, patience)? > 0 {
                self.body.push(&self.bytes);
                continue;
            }
            answers_without += 1;
            match self.body {
                Body::Single(_) if answers_without <= 2 => {
                    self.ask_again(context)?;
                    patience = context.patience(None);
                }
                _ => return Err(CameraError::Closed { what: self.url.to_string() }),
            }
        }
    }
}
