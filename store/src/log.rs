//! The log beside a database, read without SQLite: what SQLite takes from it, and what stands behind a damaged place.
//!
//! SQLite stops at the first frame whose checksum is wrong, in silence: that is how a commit ends that the power cut
//! short. A byte that changed later looks the same, and takes every commit behind it along. Frames of one round of the
//! log share a salt, so those behind the damage can be told from older ones.
//!
//! Source: SQLite, "Database File Format", section 4.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, ErrorKind, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::database::{PAGE_BYTES, be32};

const HEADER_BYTES: usize = 32;
const FRAME_HEADER_BYTES: usize = 24;
const FRAME_BYTES: usize = FRAME_HEADER_BYTES + PAGE_BYTES as usize;
/// The lowest bit says in which order words are summed: set for the highest byte first.
const MAGIC: u32 = 0x377f_0682;
/// Rounds whose frames may still stand in a log.
const OLDER_ROUNDS: u32 = 1 << 16;
/// Most frames that are looked at: four databases of pages.
const MAX_FRAMES: usize = 1 << 18;

/// The frames of the log's present round.
#[derive(Clone, Debug, Default)]
pub(crate) struct Log {
    /// In their order in the file.
    frames: Vec<Frame>,
    /// How many of them SQLite sees: up to the last commit before the first fault.
    sound: usize,
}

#[derive(Clone, Copy, Debug)]
struct Frame {
    page: u32,
    /// The last frame of a commit.
    is_commit: bool,
    at: u64,
    header: Header,
}

/// Whether what a frame says of itself can be believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Header {
    Plain,
    /// It is of this round, since it is of no older one, and its page is not known.
    Damaged,
}

impl Log {
    /// Reads the log of a database; an empty one if there is none.
    pub(crate) fn read(path: &Path) -> std::io::Result<Log> {
        let file = match File::open(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Log::default()),
            file => file?,
        };
        let mut file = BufReader::with_capacity(1 << 16, file);
        let mut header = [0; HEADER_BYTES];
        if !fill(&mut file, &mut header)? {
            return Ok(Log::default());
        }
        let order = if be32(&header, 0) & 1 == 1 { Order::HighFirst } else { Order::LowFirst };
        let mut sum = checksum(order, (0, 0), &header[..24]);
        let mut is_sound = be32(&header, 0) & !1 == MAGIC && sum == (be32(&header, 24), be32(&header, 28));
        let own = (be32(&header, 16), be32(&header, 20));
        let round = if is_sound { own } else { most_common_salt(&file.get_ref().try_clone()?, own) };
        let mut log = Log::default();
        let mut frame = vec![0; FRAME_BYTES];
        for place in 0..MAX_FRAMES {
            if !fill(&mut file, &mut frame)? {
                break;
            }
            let own_salt = (be32(&frame, 8), be32(&frame, 12));
            sum = checksum(order, sum, &frame[..8]);
            sum = checksum(order, sum, &frame[FRAME_HEADER_BYTES..]);
            let header = header_of(own_salt, round);
            is_sound &= header == Some(Header::Plain) && sum == (be32(&frame, 16), be32(&frame, 20));
            if let Some(header) = header {
                let at = (HEADER_BYTES + place * FRAME_BYTES + FRAME_HEADER_BYTES) as u64;
                let is_commit = be32(&frame, 4) != 0 && header == Header::Plain;
                log.frames.push(Frame { page: be32(&frame, 0), is_commit, at, header });
                if is_sound && is_commit {
                    log.sound = log.frames.len();
                }
            }
        }
        // Behind the last frame of this round is what was never written, or is older than can be told.
        let end = log.frames.iter().rposition(|frame| frame.header == Header::Plain).map_or(0, |place| place + 1);
        log.frames.truncate(end);
        Ok(log)
    }

    /// Whether frames stand behind those that SQLite sees.
    pub(crate) fn has_more(&self) -> bool {
        self.sound < self.frames.len()
    }

    /// Commits among them. One is what a power cut leaves at most; where there are more, the log was damaged later.
    ///
    /// The last frame of a commit is repeated up to the end of a block and beyond, and counts once: also where the cut
    /// took the end of the last repetition, which is never flushed, from a commit that is sound.
    pub(crate) fn commits_behind(&self) -> usize {
        let commit = |frame: &Frame| frame.is_commit.then_some(frame.page);
        let last_sound = self.sound.checked_sub(1).and_then(|place| commit(&self.frames[place]));
        let behind =
            self.frames[self.sound..].iter().skip_while(|frame| frame.is_commit && commit(frame) == last_sound);
        let behind = behind.filter(|frame| frame.header == Header::Plain);
        let mut commits: Vec<Option<u32>> = behind.map(commit).collect();
        commits.dedup();
        commits.iter().flatten().count()
    }

    /// Number and place of every page behind those that SQLite sees.
    pub(crate) fn pages_behind(&self) -> impl Iterator<Item = (u32, u64)> {
        self.frames[self.sound..].iter().map(|frame| (frame.page, frame.at))
    }

    /// Whether SQLite sees anything of it.
    pub(crate) fn is_seen(&self) -> bool {
        self.sound > 0
    }

    /// Number and place of every page that SQLite sees.
    pub(crate) fn sound_pages(&self) -> impl Iterator<Item = (u32, u64)> {
        self.frames[..self.sound].iter().map(|frame| (frame.page, frame.at))
    }

    /// Number and place of every page.
    pub(crate) fn pages(&self) -> impl Iterator<Item = (u32, u64)> {
        self.frames.iter().map(|frame| (frame.page, frame.at))
    }

    /// Where the newest version of each page is.
    pub(crate) fn newest(&self) -> BTreeMap<u32, u64> {
        let plain = self.frames.iter().filter(|frame| frame.header == Header::Plain);
        plain.map(|frame| (frame.page, frame.at)).collect()
    }
}

/// The salt of a log whose header was damaged: the header's own bytes and those of the first frames vote.
fn most_common_salt(file: &File, own: (u32, u32)) -> (u32, u32) {
    let mut votes = vec![own];
    let mut salt = [0; 8];
    for frame in 0..3 {
        let at = HEADER_BYTES + frame * FRAME_BYTES + 8;
        if file.read_exact_at(&mut salt, at as u64).is_ok() {
            votes.push((be32(&salt, 0), be32(&salt, 4)));
        }
    }
    votes.retain(|salt| *salt != (0, 0));
    let count = |salt: &(u32, u32)| votes.iter().filter(|vote| *vote == salt).count();
    votes.iter().max_by_key(|salt| count(salt)).copied().unwrap_or(own)
}

/// A round has a salt that is by one higher than that of the round before, and another random one. What has neither half
/// of this round's salt, and not the salt of a round shortly before, is a frame of this round that was damaged.
fn header_of(own: (u32, u32), round: (u32, u32)) -> Option<Header> {
    if own == round {
        Some(Header::Plain)
    } else if own.0 == round.0 || own.1 == round.1 || round.0.wrapping_sub(own.0) > OLDER_ROUNDS {
        Some(Header::Damaged)
    } else {
        None
    }
}

#[derive(Clone, Copy)]
enum Order {
    HighFirst,
    LowFirst,
}

fn checksum(order: Order, (mut first, mut second): (u32, u32), bytes: &[u8]) -> (u32, u32) {
    let (words, _) = bytes.as_chunks::<4>();
    let number = |word: &[u8; 4]| match order {
        Order::HighFirst => u32::from_be_bytes(*word),
        Order::LowFirst => u32::from_le_bytes(*word),
    };
    for pair in words.chunks_exact(2) {
        first = first.wrapping_add(number(&pair[0])).wrapping_add(second);
        second = second.wrapping_add(number(&pair[1])).wrapping_add(first);
    }
    (first, second)
}

/// Fills the buffer; false at the end of the file.
fn fill(file: &mut impl Read, buffer: &mut [u8]) -> std::io::Result<bool> {
    match file.read_exact(buffer) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}
