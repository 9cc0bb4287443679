//! A watched folder: each picture that is put there, once.

use std::collections::{HashMap, VecDeque};
use std::fs::Metadata;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use super::file::load;
use super::{Capture, Context, Fed, Feed};
use crate::error::CameraError;
use crate::frame::FileStamp;
use crate::stop::Waited;

/// Ends of the names of pictures, in lower case.
const ENDINGS: &[&str] = &["jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff", "ppm", "pgm", "pbm", "pnm"];
/// A listing takes at most one part in so many of the time.
const LISTING_SHARE: u32 = 20;

pub(super) struct Folder {
    path: PathBuf,
    /// Files that were given, or given up, as they were then. Only those that are still there.
    done: HashMap<String, FileStamp>,
    /// Files that may still be written to: as they are, and since when.
    unsettled: HashMap<String, (FileStamp, Instant)>,
    /// Complete files, the oldest first.
    ready: VecDeque<FileStamp>,
    last_listing: Option<Listing>,
}

struct Listing {
    end: Instant,
    took: Duration,
}

impl Folder {
    pub fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            done: HashMap::new(),
            unsettled: HashMap::new(),
            ready: VecDeque::new(),
            last_listing: None,
        }
    }

    fn list(&mut self, context: &Context) -> Result<(), CameraError> {
        let start = Instant::now();
        let mut found = HashMap::new();
        let what = || format!("folder {}", self.path.display());
        for entry in std::fs::read_dir(&self.path).map_err(|error| CameraError::Open { what: what(), error })? {
            let entry = entry.map_err(|error| CameraError::Read { what: what(), error })?;
            // A name that is not text cannot be kept, nor shown.
            let Ok(name) = entry.file_name().into_string() else { continue };
            // The file, where this is a link; it may be gone since.
            let Ok(metadata) = std::fs::metadata(entry.path()) else { continue };
            if is_picture(&name) && metadata.is_file() {
                found.insert(name.clone(), stamp(name, &metadata));
            }
        }
        self.done.retain(|name, stamp| found.get(name) == Some(stamp));
        self.sort(found, context);
        self.last_listing = Some(Listing { end: Instant::now(), took: start.elapsed() });
        Ok(())
    }

    /// Tells which files are new, and which of them have stayed as they are for long enough.
    fn sort(&mut self, found: HashMap<String, FileStamp>, context: &Context) {
        let now = Instant::now();
        let mut before = std::mem::take(&mut self.unsettled);
        let mut ready = Vec::new();
        for (name, stamp) in found {
            if self.done.contains_key(&name) {
                continue;
            }
            if context.is_seen.as_ref().is_some_and(|is_seen| is_seen(&stamp)) {
                self.done.insert(name, stamp);
                continue;
            }
            let since = before.remove(&name).filter(|(known, _)| *known == stamp).map_or(now, |(_, since)| since);
            if now.saturating_duration_since(since) >= context.pictures.settle {
                ready.push(stamp);
            } else {
                self.unsettled.insert(name, (stamp, since));
            }
        }
        ready.sort();
        self.ready = ready.into();
    }

    /// Reads the next complete file. One that is none is given up until it changes.
    fn take_ready(&mut self, context: &Context) -> Option<Capture> {
        while let Some(stamp) = self.ready.pop_front() {
            let path = self.path.join(&stamp.name);
            let capture = load(&path);
            let now = std::fs::metadata(&path).map(|metadata| self::stamp(stamp.name.clone(), &metadata));
            if !now.is_ok_and(|now| now == stamp) {
                // It was written to, or taken away, while it was read: the next listing sees what it is now.
                continue;
            }
            self.done.insert(stamp.name.clone(), stamp.clone());
            match capture {
                Ok(capture) => return Some(Capture { file: Some(stamp), ..capture }),
                Err(_) => context.tally.unreadable.add(1),
            }
        }
        None
    }
}

impl Feed for Folder {
    fn next(&mut self, context: &Context) -> Result<Fed, CameraError> {
        loop {
            if let Some(capture) = self.take_ready(context) {
                return Ok(Fed::Capture(capture));
            }
            let pause = self.last_listing.as_ref().map_or(Duration::ZERO, |listing| {
                let apart = context.pictures.interval.max(listing.took.saturating_mul(LISTING_SHARE));
                apart.saturating_sub(listing.end.elapsed())
            });
            let wait = context.stop.pause(pause);
            let what = || format!("folder {}", self.path.display());
            if wait.map_err(|error| CameraError::Read { what: what(), error })? == Waited::Stopped {
                return Err(CameraError::Stopped);
            }
            self.list(context)?;
        }
    }

    fn survives(&self) -> bool {
        true
    }
}

fn is_picture(name: &str) -> bool {
    let ending = name.rsplit_once('.').map(|(_, ending)| ending.to_ascii_lowercase());
    !name.starts_with('.') && ending.is_some_and(|ending| ENDINGS.contains(&ending.as_str()))
}

fn stamp(name: String, metadata: &Metadata) -> FileStamp {
    let millis = |time: Duration| i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
    let modified = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
    let modified_ms = match modified.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(after) => millis(after),
        Err(before) => -millis(before.duration()),
    };
    FileStamp { modified_ms, name, bytes: metadata.len() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_are_told_by_their_names() {
        for name in ["a.jpg", "B.JPEG", "c.d.png", "über.webp"] {
            assert!(is_picture(name), "{name}");
        }
        for name in ["a.txt", ".a.jpg", "jpg", "a.jpg.part", "a.jpg~", "a.mp4"] {
            assert!(!is_picture(name), "{name}");
        }
    }
}
