//! Which pictures of a watched folder were seen, across restarts: a line a picture, added when its fate is settled.
//!
//! A power cut may cost the last lines; those pictures are then taken once more, which loses nothing.

use std::collections::HashSet;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use camera::FileStamp;

/// The file in the store's folder.
const NAME: &str = "pictures-seen";
/// Most pictures that are remembered: the ones that were added last.
const MAX_SEEN: usize = 1 << 20;
/// Longest line: a name of 255 bytes with its escapes, and two numbers.
const MAX_LINE: u64 = 2048;

/// The record. Clones are of the same one.
#[derive(Clone)]
pub(super) struct Seen {
    path: PathBuf,
    stamps: Arc<Mutex<HashSet<FileStamp>>>,
}

impl Seen {
    /// The record in a store's folder; a line that cannot be read is none.
    pub(super) fn open(folder: &Path) -> Seen {
        let path = folder.join(NAME);
        let mut stamps = HashSet::new();
        if let Ok(file) = File::open(&path) {
            let mut lines = BufReader::new(file);
            let mut line = String::new();
            while stamps.len() < MAX_SEEN {
                line.clear();
                match lines.by_ref().take(MAX_LINE).read_line(&mut line) {
                    Ok(1..) => stamps.extend(read(&line)),
                    Ok(0) | Err(_) => break,
                }
            }
        }
        Seen { path, stamps: Arc::new(Mutex::new(stamps)) }
    }

    pub(super) fn has(&self, stamp: &FileStamp) -> bool {
        self.stamps.lock().unwrap_or_else(PoisonError::into_inner).contains(stamp)
    }

    /// Adds pictures whose fate is settled.
    ///
    /// # Errors
    /// A disk that takes nothing: the pictures are remembered until the program ends.
    pub(super) fn add(&self, settled: Vec<FileStamp>) -> std::io::Result<()> {
        if settled.is_empty() {
            return Ok(());
        }
        let text: String = settled.iter().map(line).collect();
        {
            let mut stamps = self.stamps.lock().unwrap_or_else(PoisonError::into_inner);
            if stamps.len() < MAX_SEEN {
                stamps.extend(settled);
            }
        }
        OpenOptions::new().create(true).append(true).open(&self.path)?.write_all(text.as_bytes())
    }
}

fn line(stamp: &FileStamp) -> String {
    format!("{} {} {}\n", stamp.modified_ms, stamp.bytes, stamp.name.escape_debug())
}

/// A line that was cut short is of no picture: its end is missing.
fn read(line: &str) -> Option<FileStamp> {
    let mut parts = line.strip_suffix('\n')?.splitn(3, ' ');
    let (modified_ms, bytes) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    Some(FileStamp { modified_ms, bytes, name: unescaped(parts.next()?)? })
}

/// What [`str::escape_debug`] was given.
fn unescaped(text: &str) -> Option<String> {
    let mut name = String::new();
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        if c != '\\' {
            name.push(c);
            continue;
        }
        name.push(match rest.next()? {
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            '0' => '\0',
            'u' => {
                let digits: String = rest.by_ref().skip(1).take_while(|c| *c != '}').collect();
                char::from_u32(u32::from_str_radix(&digits, 16).ok()?)?
            }
            same => same,
        });
    }
    Some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_are_seen_after_a_restart_whatever_they_are_called() {
        let folder = tempfile::tempdir().unwrap();
        let names = ["01.png", "two words.jpg", "line\nend\\.png", "é\u{301}\u{7f}\"'.png"];
        let stamp = |name: &&str| FileStamp { modified_ms: -5, name: (*name).to_owned(), bytes: 17 };
        let seen = Seen::open(folder.path());
        assert!(!seen.has(&stamp(&"01.png")));
        seen.add(names.iter().map(stamp).collect()).unwrap();
        let again = Seen::open(folder.path());
        for name in &names {
            assert!(again.has(&stamp(name)), "{name:?}");
        }
        assert!(!again.has(&FileStamp { bytes: 18, ..stamp(&"01.png") }));
    }

    #[test]
    fn a_line_that_was_cut_short_is_of_no_picture() {
        assert_eq!(read("1 2 01.p"), None);
        assert_eq!(read("1 x 01.png\n"), None);
        assert_eq!(read("1 2 \\u{zz}\n"), None);
        assert_eq!(read("\n"), None);
    }
}
