//! Pictures out of a stream of bytes, by the markers of JPEG alone.
//!
//! A picture begins at a start marker. Its segments are passed by their lengths, so that a thumbnail inside one is not
//! taken for a picture, and in coded data only markers count that are neither stuffed nor restarts. Whatever belongs
//! to no picture is skipped and counted.
//!
//! Source: ITU-T T.81, annex B.

/// Second bytes of markers.
mod marker {
    pub const STUFFED: u8 = 0x00;
    pub const FIRST: u8 = 0xC0;
    pub const FIRST_RESTART: u8 = 0xD0;
    pub const LAST_RESTART: u8 = 0xD7;
    pub const START: u8 = 0xD8;
    pub const END: u8 = 0xD9;
    pub const SCAN: u8 = 0xDA;
    pub const LAST: u8 = 0xFE;
    pub const FILL: u8 = 0xFF;
}

/// Cuts a stream into JPEGs. It holds one picture and what was pushed after it, and nothing else grows.
#[derive(Debug)]
pub struct Splitter {
    buffer: Vec<u8>,
    /// Where the picture begins, or what has not been looked at.
    start: usize,
    /// The next byte to look at.
    at: usize,
    place: Place,
    limit: usize,
    skipped: Skipped,
}

/// What a stream had besides pictures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Skipped {
    /// Bytes that belong to no picture.
    pub bytes: u64,
    /// Pictures that were cut short or contradict themselves.
    pub damaged: u64,
    /// Pictures above the limit.
    pub too_large: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Before a picture.
    Outside,
    /// Where a marker must be.
    Marker {
        /// Whether coded data has been seen.
        has_scan: bool,
    },
    /// In coded data.
    Scan,
}

/// What one step of [`Splitter::step`] came to.
enum Step {
    Went,
    Whole(usize),
    Broken,
    /// The picture ends without its end, and another one begins here.
    Interrupted,
    /// There are not enough bytes to go on.
    Short,
}

impl Splitter {
    /// Splits pictures of at most `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self { buffer: Vec::new(), start: 0, at: 0, place: Place::Outside, limit, skipped: Skipped::default() }
    }

    /// Takes more of the stream.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.drain(..self.start);
        self.at -= self.start;
        self.start = 0;
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole picture of what was pushed.
    pub fn next_picture(&mut self) -> Option<Vec<u8>> {
        loop {
            if self.place != Place::Outside && self.at - self.start > self.limit {
                self.skipped.too_large += 1;
                self.skip_to(self.at);
                continue;
            }
            match self.step() {
                Step::Went => {}
                Step::Short => {
                    // A picture that waits for a long segment must not outgrow the limit meanwhile.
                    if self.place != Place::Outside && self.buffer.len() - self.start > self.limit {
                        self.skipped.too_large += 1;
                        self.skip_to(self.buffer.len());
                    }
                    return None;
                }
                Step::Broken => {
                    self.skipped.damaged += 1;
                    // A picture may begin inside of what was taken for one.
                    self.skip_to(self.start + 2);
                }
                Step::Interrupted => {
                    self.skipped.damaged += 1;
                    self.skip_to(self.at);
                }
                Step::Whole(end) => {
                    if end - self.start > self.limit {
                        self.skipped.too_large += 1;
                        self.skip_to(end);
                        continue;
                    }
                    let picture = self.buffer[self.start..end].to_vec();
                    self.consume(end - self.start);
                    return Some(picture);
                }
            }
        }
    }

    /// What was skipped since this was last asked.
    pub fn take_skipped(&mut self) -> Skipped {
        std::mem::take(&mut self.skipped)
    }

    /// What has been pushed and not become a picture yet.
    pub(crate) fn unread(&self) -> &[u8] {
        &self.buffer[self.start..]
    }

    /// Passes over `count` bytes of [`Self::unread`], and looks for a picture after them.
    pub(crate) fn consume(&mut self, count: usize) {
        self.start = (self.start + count).min(self.buffer.len());
        self.at = self.start;
        self.place = Place::Outside;
    }

    fn skip_to(&mut self, to: usize) {
        let count = to.min(self.buffer.len()) - self.start;
        self.skipped.bytes += count as u64;
        self.consume(count);
    }

    fn step(&mut self) -> Step {
        match self.place {
            Place::Outside => self.find_start(),
            Place::Marker { has_scan } => self.pass_segment(has_scan),
            Place::Scan => self.pass_data(),
        }
    }

    fn find_start(&mut self) -> Step {
        let rest = &self.buffer[self.at..];
        match memchr::memmem::find(rest, &[marker::FILL, marker::START, marker::FILL]) {
            Some(found) => {
                self.skip_to(self.at + found);
                self.at = self.start + 2;
                self.place = Place::Marker { has_scan: false };
                Step::Went
            }
            None => {
                // The last two bytes may be the beginning of one.
                let kept = rest.len().min(2);
                self.skip_to(self.buffer.len() - kept);
                Step::Short
            }
        }
    }

    fn pass_segment(&mut self, has_scan: bool) -> Step {
        match self.buffer[self.at..] {
            [] | [marker::FILL] => Step::Short,
            [marker::FILL, marker::FILL, ..] => {
                self.at += 1;
                Step::Went
            }
            [marker::FILL, marker::END, ..] if has_scan => Step::Whole(self.at + 2),
            [marker::FILL, marker::START, ..] => Step::Interrupted,
            [marker::FILL, marker::FIRST_RESTART..=marker::END, ..] => Step::Broken,
            [marker::FILL, marker::FIRST..=marker::LAST, ref rest @ ..] => {
                let [high, low, ..] = *rest else { return Step::Short };
                let length = usize::from(u16::from_be_bytes([high, low]));
                if length < 2 {
                    return Step::Broken;
                }
                if rest.len() < length {
                    return Step::Short;
                }
                let is_scan = self.buffer[self.at + 1] == marker::SCAN;
                self.place = if is_scan { Place::Scan } else { Place::Marker { has_scan } };
                self.at += 2 + length;
                Step::Went
            }
            _ => Step::Broken,
        }
    }

    fn pass_data(&mut self) -> Step {
        let rest = &self.buffer[self.at..];
        let Some(found) = memchr::memchr(marker::FILL, rest) else {
            self.at = self.buffer.len();
            return Step::Short;
        };
        self.at += found;
        match rest.get(found + 1) {
            None => return Step::Short,
            Some(&(marker::STUFFED | marker::FIRST_RESTART..=marker::LAST_RESTART)) => self.at += 2,
            Some(&marker::FILL) => self.at += 1,
            Some(_) => self.place = Place::Marker { has_scan: true },
        }
        Step::Went
    }
}

/// The picture that begins with these bytes and ends in them, as a driver's buffer has it; after its end may be
/// anything.
pub fn whole_picture(bytes: &[u8]) -> Option<&[u8]> {
    let mut splitter = Splitter::new(bytes.len());
    if !bytes.starts_with(&[marker::FILL, marker::START, marker::FILL]) {
        return None;
    }
    splitter.push(bytes);
    let picture = splitter.next_picture()?;
    bytes.starts_with(&picture).then(|| &bytes[..picture.len()])
}

#[cfg(test)]
pub(crate) mod tests;
