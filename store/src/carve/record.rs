//! How a row lies in a leaf, and its columns in the row.

use crate::database::{PAGE_BYTES, be32};
use crate::pair::MAX_JPEG_BYTES;

pub(super) const PAGE: usize = PAGE_BYTES as usize;
/// Most bytes of a row that stay in the leaf, and what stays at least of a longer one.
const MAX_LOCAL: usize = PAGE - 35;
const MIN_LOCAL: usize = (PAGE - 12) * 32 / 255 - 23;
/// Bytes of a page in a chain; four more lead to the next one.
pub(super) const CHAIN_BYTES: usize = PAGE - 4;
/// A row is a picture, its facts, and next to nothing.
pub(super) const MAX_ROW_BYTES: usize = MAX_JPEG_BYTES + (1 << 20);

/// A row as it lies in a leaf.
pub(super) struct Cell<'a> {
    pub(super) row: i64,
    pub(super) length: usize,
    pub(super) local: &'a [u8],
    /// The first page of the rest.
    pub(super) next: u32,
}

impl Cell<'_> {
    pub(super) fn read(page: &[u8], at: usize) -> Option<Cell<'_>> {
        let (length, rest) = varint(page.get(at..)?)?;
        let (row, rest) = varint(rest)?;
        let length = usize::try_from(length).ok().filter(|length| *length <= MAX_ROW_BYTES)?;
        let here = if length <= MAX_LOCAL {
            length
        } else {
            let fitting = MIN_LOCAL + (length - MIN_LOCAL) % CHAIN_BYTES;
            if fitting <= MAX_LOCAL { fitting } else { MIN_LOCAL }
        };
        let local = rest.get(..here)?;
        let next = if here < length { be32(rest.get(here..here + 4)?, 0) } else { 0 };
        Some(Cell { row: row.cast_signed(), length, local, next })
    }
}

/// The types in a record's header.
pub(super) fn column_types(record: &[u8]) -> Option<Vec<u64>> {
    let (header, rest) = varint(record)?;
    let start = record.len() - rest.len();
    let mut types = record.get(start..usize::try_from(header).ok()?)?;
    let mut all = Vec::new();
    while !types.is_empty() {
        let (kind, rest) = varint(types)?;
        all.push(kind);
        types = rest;
    }
    Some(all)
}

/// Types and bytes of a record's columns.
pub(super) fn columns(record: &[u8]) -> Option<Vec<(u64, &[u8])>> {
    let header = usize::try_from(varint(record)?.0).ok()?;
    let mut rest = record.get(header..)?;
    let mut all = Vec::new();
    for kind in column_types(record)? {
        let bytes = match kind {
            7 => 8,
            12.. => usize::try_from((kind - 12) / 2).ok()?,
            _ => integer_bytes(kind).unwrap_or(0),
        };
        let (column, behind) = rest.split_at_checked(bytes)?;
        all.push((kind, column));
        rest = behind;
    }
    Some(all)
}

pub(super) fn is_blob(kind: u64) -> bool {
    kind >= 12 && kind.is_multiple_of(2)
}

pub(super) fn integer_bytes(kind: u64) -> Option<usize> {
    match kind {
        8 | 9 => Some(0),
        1..=4 => usize::try_from(kind).ok(),
        5 => Some(6),
        6 => Some(8),
        _ => None,
    }
}

pub(super) fn integer(kind: u64, bytes: &[u8]) -> Option<i64> {
    match kind {
        8 => Some(0),
        9 => Some(1),
        1..=6 => {
            let sign = if bytes.first()? & 0x80 == 0 { 0 } else { -1 };
            Some(bytes.iter().fold(sign, |number, byte| (number << 8) | i64::from(*byte)))
        }
        _ => None,
    }
}

pub(super) fn be16(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

/// A number of one to nine bytes, and what follows it.
fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut number = 0;
    for (place, byte) in bytes.iter().take(9).enumerate() {
        if place == 8 {
            return Some((number << 8 | u64::from(*byte), &bytes[9..]));
        }
        number = number << 7 | u64::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            return Some((number, &bytes[place + 1..]));
        }
    }
    None
}
