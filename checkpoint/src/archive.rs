//! The directory of a zip file as PyTorch writes it: entries stored as they are, nothing compressed.
//!
//! Source: PKWARE's APPNOTE.TXT, sections 4.3.7 to 4.3.16 and 4.5.3.

use std::collections::BTreeMap;
use std::io::{Read, Seek, SeekFrom};

/// Longest central directory, in bytes.
pub const MAX_DIRECTORY_BYTES: u64 = 16 << 20;
/// Most entries.
pub const MAX_ENTRIES: u64 = 1 << 16;

const LOCAL_HEADER: u32 = 0x0403_4b50;
const DIRECTORY_ENTRY: u32 = 0x0201_4b50;
const DIRECTORY_END: u32 = 0x0605_4b50;
const WIDE_DIRECTORY_END: u32 = 0x0606_4b50;
const WIDE_LOCATOR: u32 = 0x0706_4b50;
const LOCAL_HEADER_BYTES: u64 = 30;
const DIRECTORY_ENTRY_BYTES: usize = 46;
const DIRECTORY_END_BYTES: usize = 22;
const LONGEST_COMMENT: u64 = u16::MAX as u64;

/// Why an archive is not read.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The file cannot be read.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// A structure that is missing, cut off or points outside the file.
    #[error("the zip archive is cut off or broken: {0}")]
    Broken(&'static str),
    /// More than this module's limits.
    #[error("the zip archive's directory has {0} bytes or entries, more than are read")]
    TooLarge(u64),
    /// An entry that PyTorch does not write.
    #[error("zip entry {name:?} is {how}; only stored entries are read")]
    NotStored {
        /// Its name.
        name: String,
        /// What it is instead.
        how: &'static str,
    },
}

/// Where an entry's bytes lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ArchiveEntry {
    /// First byte in the file.
    pub start: u64,
    /// Bytes.
    pub length: u64,
}

/// Finds every entry of the archive in `file`, which has `length` bytes.
///
/// # Errors
/// An archive that is broken or too large, or has an entry that is compressed or encrypted.
pub fn entries(file: &mut (impl Read + Seek), length: u64) -> Result<BTreeMap<String, ArchiveEntry>, ArchiveError> {
    let [count, size, start] = find_directory(file, length)?;
    if size > MAX_DIRECTORY_BYTES || count > MAX_ENTRIES {
        return Err(ArchiveError::TooLarge(size.max(count)));
    }
    if start.checked_add(size).is_none_or(|end| end > length) {
        return Err(ArchiveError::Broken("its directory lies outside the file"));
    }
    let directory = read(file, start, size as usize)?;
    let mut rest = directory.as_slice();
    let mut entries = BTreeMap::new();
    for _ in 0..count {
        let (name, header, size, after) = directory_entry(rest)?;
        rest = after;
        let start = data_start(file, header, length)?;
        if start.checked_add(size).is_none_or(|end| end > length) {
            return Err(ArchiveError::Broken("an entry lies outside the file"));
        }
        if entries.insert(name, ArchiveEntry { start, length: size }).is_some() {
            return Err(ArchiveError::Broken("two entries have one name"));
        }
    }
    Ok(entries)
}

/// Entries, bytes and first byte of the central directory.
fn find_directory(file: &mut (impl Read + Seek), length: u64) -> Result<[u64; 3], ArchiveError> {
    let tail_length = length.min(DIRECTORY_END_BYTES as u64 + LONGEST_COMMENT);
    let tail = read(file, length - tail_length, tail_length as usize)?;
    let at = (0..tail.len().saturating_sub(DIRECTORY_END_BYTES - 1))
        .rev()
        .find(|at| u32_at(&tail, *at) == Some(DIRECTORY_END))
        .ok_or(ArchiveError::Broken("it has no end record"))?;
    let broken = ArchiveError::Broken("its end record is cut off");
    let (Some(count), Some(size), Some(start)) =
        (u16_at(&tail, at + 10), u32_at(&tail, at + 12), u32_at(&tail, at + 16))
    else {
        return Err(broken);
    };
    let end = length - tail_length + at as u64;
    if let Some(locator) = end.checked_sub(20) {
        let locator = read(file, locator, 20)?;
        if u32_at(&locator, 0) == Some(WIDE_LOCATOR) {
            let at = u64_at(&locator, 8).filter(|at| *at < end).ok_or(broken)?;
            return wide_directory(file, at, length);
        }
    }
    Ok([u64::from(count), u64::from(size), u64::from(start)])
}

fn wide_directory(file: &mut (impl Read + Seek), at: u64, length: u64) -> Result<[u64; 3], ArchiveError> {
    let broken = ArchiveError::Broken("its 64-bit end record is missing");
    if at.checked_add(56).is_none_or(|end| end > length) {
        return Err(broken);
    }
    let record = read(file, at, 56)?;
    match (u32_at(&record, 0), u64_at(&record, 32), u64_at(&record, 40), u64_at(&record, 48)) {
        (Some(WIDE_DIRECTORY_END), Some(count), Some(size), Some(start)) => Ok([count, size, start]),
        _ => Err(broken),
    }
}

/// Name, place of the local header, bytes, and what follows the entry.
fn directory_entry(bytes: &[u8]) -> Result<(String, u64, u64, &[u8]), ArchiveError> {
    const BROKEN: ArchiveError = ArchiveError::Broken("its directory is cut off");
    let at16 = |at| u16_at(bytes, at).ok_or(BROKEN);
    let at32 = |at| u32_at(bytes, at).ok_or(BROKEN);
    if at32(0)? != DIRECTORY_ENTRY {
        return Err(ArchiveError::Broken("its directory has another structure"));
    }
    let (flags, method) = (at16(8)?, at16(10)?);
    let (stored, size, header) = (at32(20)?, at32(24)?, at32(42)?);
    let name_end = DIRECTORY_ENTRY_BYTES + usize::from(at16(28)?);
    let extra_end = name_end + usize::from(at16(30)?);
    let end = extra_end + usize::from(at16(32)?);
    let name = String::from_utf8_lossy(bytes.get(DIRECTORY_ENTRY_BYTES..name_end).ok_or(BROKEN)?).into_owned();
    let extra = bytes.get(name_end..extra_end).ok_or(BROKEN)?;
    let rest = bytes.get(end..).ok_or(BROKEN)?;
    if flags & 1 != 0 {
        return Err(ArchiveError::NotStored { name, how: "encrypted" });
    }
    if method != 0 {
        return Err(ArchiveError::NotStored { name, how: "compressed" });
    }
    let mut wide = wide_fields(extra);
    let mut widen = |value: u32| match value {
        u32::MAX => wide.next().ok_or(ArchiveError::Broken("an entry's 64-bit sizes are missing")),
        value => Ok(u64::from(value)),
    };
    let (size, stored, header) = (widen(size)?, widen(stored)?, widen(header)?);
    match size == stored {
        true => Ok((name, header, size, rest)),
        false => Err(ArchiveError::Broken("a stored entry has two sizes")),
    }
}

/// The 64-bit numbers of an entry's extra field, in their order.
fn wide_fields(mut extra: &[u8]) -> impl Iterator<Item = u64> {
    let mut fields: &[u8] = &[];
    while let (Some(id), Some(length)) = (u16_at(extra, 0), u16_at(extra, 2)) {
        let Some(body) = extra.get(4..4 + usize::from(length)) else { break };
        if id == 1 {
            fields = body;
        }
        extra = &extra[4 + usize::from(length)..];
    }
    fields.as_chunks().0.iter().map(|bytes| u64::from_le_bytes(*bytes))
}

/// First byte after the local header at `header`.
fn data_start(file: &mut (impl Read + Seek), header: u64, length: u64) -> Result<u64, ArchiveError> {
    let end = header.checked_add(LOCAL_HEADER_BYTES).filter(|end| *end <= length);
    let end = end.ok_or(ArchiveError::Broken("an entry's header lies outside the file"))?;
    let bytes = read(file, header, LOCAL_HEADER_BYTES as usize)?;
    match (u32_at(&bytes, 0), u16_at(&bytes, 26), u16_at(&bytes, 28)) {
        (Some(LOCAL_HEADER), Some(name), Some(extra)) => Ok(end + u64::from(name) + u64::from(extra)),
        _ => Err(ArchiveError::Broken("an entry has no header")),
    }
}

fn read(file: &mut (impl Read + Seek), start: u64, length: usize) -> Result<Vec<u8>, ArchiveError> {
    file.seek(SeekFrom::Start(start))?;
    let mut bytes = vec![0; length];
    file.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|bytes| u16::from_le_bytes(*bytes))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|bytes| u32::from_le_bytes(*bytes))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().map(|bytes| u64::from_le_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    /// One entry `a/b` with the bytes `data`, its method and flags as given.
    fn archive(data: &[u8], method: u8, flags: u8) -> Vec<u8> {
        let size = (data.len() as u32).to_le_bytes();
        let mut bytes = [b"PK\x03\x04\x14\0".as_slice(), &[flags, 0, method, 0], &[0; 8]].concat();
        bytes.extend([&size[..], &size, &[3, 0, 0, 0], b"a/b", data].concat());
        let start = (bytes.len() as u32).to_le_bytes();
        let entry = [b"PK\x01\x02\x14\0\x14\0".as_slice(), &[flags, 0, method, 0], &[0; 8], &size, &size];
        let directory = [&entry.concat(), &[3, 0][..], &[0; 16], b"a/b"].concat();
        let length = (directory.len() as u32).to_le_bytes();
        bytes.extend(directory);
        bytes.extend([b"PK\x05\x06\0\0\0\0\x01\0\x01\0".as_slice(), &length, &start, &[0, 0]].concat());
        bytes
    }

    fn open(bytes: &[u8]) -> Result<BTreeMap<String, ArchiveEntry>, ArchiveError> {
        entries(&mut Cursor::new(bytes), bytes.len() as u64)
    }

    #[test]
    fn stored_entry_is_found() {
        let bytes = archive(b"hello", 0, 0);
        let entry = open(&bytes).unwrap()["a/b"];
        assert_eq!(&bytes[entry.start as usize..][..entry.length as usize], b"hello");
    }

    #[test]
    fn sizes_and_places_of_64_bits_are_read() {
        let narrow = archive(b"hello", 0, 0);
        let at = narrow.windows(4).position(|window| window == b"PK\x01\x02").unwrap();
        let mut bytes = narrow[..at].to_vec();
        let fields = [5u64, 5, 0].map(u64::to_le_bytes).concat();
        let entry = [&narrow[at..at + 20], &[0xff; 8], &[3, 0, 28, 0], &[0; 10], &[0xff; 4], b"a/b"].concat();
        let entry = [&entry[..], &[1, 0, 24, 0], &fields].concat();
        let record = [1u64, 1, entry.len() as u64, at as u64].map(u64::to_le_bytes).concat();
        let wide = [b"PK\x06\x06".as_slice(), &44u64.to_le_bytes(), &[45, 0, 45, 0], &[0; 8], &record].concat();
        let locator = [b"PK\x06\x07".as_slice(), &[0; 4], &((at + entry.len()) as u64).to_le_bytes(), &[1, 0, 0, 0]];
        let end = [b"PK\x05\x06\0\0\0\0".as_slice(), &[0xff; 12], &[0, 0]].concat();
        bytes.extend([&entry[..], &wide, &locator.concat(), &end].concat());
        assert_eq!(open(&bytes).unwrap(), open(&narrow).unwrap());
    }

    #[test]
    fn compressed_and_encrypted_entries_are_refused_by_name() {
        assert_eq!(
            open(&archive(b"x", 8, 0)).unwrap_err().to_string(),
            "zip entry \"a/b\" is compressed; only stored entries are read"
        );
        assert!(open(&archive(b"x", 0, 1)).unwrap_err().to_string().contains("encrypted"));
    }

    #[test]
    fn archive_cut_or_changed_anywhere_never_panics() {
        let bytes = archive(b"hello", 0, 0);
        for cut in 0..bytes.len() {
            assert!(open(&bytes[..cut]).is_err(), "cut at {cut}");
        }
        for at in 0..bytes.len() {
            for value in [0, 0x7f, 0xff] {
                let mut changed = bytes.clone();
                changed[at] = value;
                if let Ok(entries) = open(&changed) {
                    assert!(entries.values().all(|entry| entry.start + entry.length <= bytes.len() as u64));
                }
            }
        }
    }
}
