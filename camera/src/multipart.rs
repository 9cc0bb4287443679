//! The body of a `multipart/x-mixed-replace` answer: pictures with headers and a boundary between them.
//!
//! Cameras write the boundary wrongly in every way that there is, leave out the first, and leave out lengths or get
//! them wrong. So the boundary is not looked for at all: lines are passed up to an empty one, a length is believed if
//! the picture ends within it, and otherwise the markers of JPEG tell where a picture is.

use std::io::BufRead;

use crate::mjpeg::{Skipped, Splitter, whole_picture};

/// Bytes between two pictures that are taken for headers. Beyond them a picture is looked for by its markers.
const MAX_HEADER_BYTES: usize = 8 << 10;

/// Takes a body apart.
#[derive(Debug)]
pub struct Multipart {
    splitter: Splitter,
    place: Place,
    limit: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// In the lines before a picture.
    Lines {
        /// Bytes of them so far.
        passed: usize,
        /// What a header says of the picture's length.
        length: Option<usize>,
        /// Whether there was a header at all.
        has_header: bool,
    },
    /// At a picture of a known length.
    Body(usize),
    /// Before or in a picture whose length is to be found.
    Markers,
}

const BETWEEN: Place = Place::Lines { passed: 0, length: None, has_header: false };

impl Multipart {
    /// Reads pictures of at most `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self { splitter: Splitter::new(limit), place: BETWEEN, limit }
    }

    /// Takes more of the body.
    pub fn push(&mut self, bytes: &[u8]) {
        self.splitter.push(bytes);
    }

    /// The next whole picture of what was pushed.
    pub fn next_picture(&mut self) -> Option<Vec<u8>> {
        loop {
            match self.place {
                Place::Lines { passed, length, has_header } => {
                    let unread = self.splitter.unread();
                    // A picture, or what can become the start of one.
                    if unread.starts_with(b"\xff\xd8\xff") {
                        self.place = Place::Markers;
                        continue;
                    }
                    let Some(line) = line(unread, MAX_HEADER_BYTES - passed) else {
                        if unread.len() + passed < MAX_HEADER_BYTES {
                            return None;
                        }
                        self.place = Place::Markers;
                        continue;
                    };
                    let (count, header) = (line.len(), header(line));
                    self.place = match header {
                        Header::End if has_header => self.body(length),
                        Header::End | Header::Boundary => BETWEEN,
                        Header::Length(length) => Place::Lines { passed: passed + count, length, has_header: true },
                        Header::Other => Place::Lines { passed: passed + count, length, has_header: true },
                    };
                    self.splitter.consume(count);
                }
                Place::Body(length) => {
                    let unread = self.splitter.unread();
                    if unread.len() < length {
                        return None;
                    }
                    let picture = whole_picture(&unread[..length]).map(<[u8]>::to_vec);
                    let Some(picture) = picture else {
                        self.place = Place::Markers;
                        continue;
                    };
                    self.splitter.consume(length);
                    self.place = BETWEEN;
                    return Some(picture);
                }
                Place::Markers => {
                    let picture = self.splitter.next_picture()?;
                    self.place = BETWEEN;
                    return Some(picture);
                }
            }
        }
    }

    /// What was skipped since this was last asked.
    pub fn take_skipped(&mut self) -> Skipped {
        self.splitter.take_skipped()
    }

    fn body(&self, length: Option<usize>) -> Place {
        match length {
            Some(length) if (1..=self.limit).contains(&length) => Place::Body(length),
            _ => Place::Markers,
        }
    }
}

enum Header {
    /// An empty line.
    End,
    /// A line that begins a part.
    Boundary,
    /// Of the picture; none if it says something that is no length.
    Length(Option<usize>),
    Other,
}

/// The next line with its end, if it is complete and at most `most` bytes.
fn line(bytes: &[u8], most: usize) -> Option<&[u8]> {
    let mut rest = &bytes[..bytes.len().min(most)];
    let end = rest.skip_until(b'\n').ok()?;
    bytes[..end].ends_with(b"\n").then(|| &bytes[..end])
}

fn header(line: &[u8]) -> Header {
    let line = line.trim_ascii();
    if line.is_empty() {
        return Header::End;
    }
    if line.starts_with(b"--") {
        return Header::Boundary;
    }
    let Some(colon) = line.iter().position(|byte| *byte == b':') else { return Header::Boundary };
    if !line[..colon].trim_ascii().eq_ignore_ascii_case(b"content-length") {
        return Header::Other;
    }
    let value = str::from_utf8(line[colon + 1..].trim_ascii()).ok();
    Header::Length(value.and_then(|value| value.parse().ok()))
}

#[cfg(test)]
mod tests;
