//! The header of a safetensors file: eight bytes of length, JSON, then the tensors without a gap.
//!
//! Source: the format's description, <https://github.com/huggingface/safetensors#format>.

use crate::tensor::{Dtype, checked_product};
use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// Longest header that is read, in bytes.
pub const MAX_HEADER_BYTES: usize = 1 << 20;
/// Most tensors in one file.
pub const MAX_TENSORS: usize = 8192;
/// Bytes of the length before the header.
pub const LENGTH_BYTES: usize = 8;

/// One tensor as the header describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderEntry {
    /// Its name in the file.
    pub name: String,
    /// How its elements are stored.
    pub dtype: Dtype,
    /// Length of each axis.
    pub shape: Vec<usize>,
    /// First byte, from the start of the file.
    pub start: u64,
    /// Bytes.
    pub length: u64,
}

/// Why a header cannot be believed.
#[derive(Debug, thiserror::Error)]
pub enum SafetensorsError {
    /// Too short to have a length.
    #[error("a safetensors file starts with eight bytes of length, this file has {0} bytes")]
    Empty(u64),
    /// A length beyond the limit.
    #[error("the header says it has {0} bytes, at most {MAX_HEADER_BYTES} are read")]
    HeaderTooLong(u64),
    /// A length beyond the end.
    #[error("the file is cut off: the header says it has {header} bytes, {file} follow")]
    HeaderCutOff {
        /// Bytes that the length promises.
        header: u64,
        /// Bytes after the length.
        file: u64,
    },
    /// Not the JSON of the format.
    #[error("the header is not what the format says: {0}")]
    Json(#[from] serde_json::Error),
    /// A tensor whose offsets do not fit its type, its shape or its neighbours.
    #[error("tensor {name:?}: {reason}")]
    Tensor {
        /// Its name in the file.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Bytes after the header that are too few or too many for the tensors.
    #[error("the tensors take {tensors} bytes, {file} follow the header: the file is cut off or was changed")]
    Coverage {
        /// Bytes that the tensors take.
        tensors: u64,
        /// Bytes after the header.
        file: u64,
    },
}

/// Reads the header of a file of `file_length` bytes from its first bytes.
///
/// `bytes` must hold the whole header; more may follow, so the first `LENGTH_BYTES + MAX_HEADER_BYTES` bytes of any
/// file will do. The entries come in the order in which they lie in the file.
///
/// # Errors
/// A header that is too long, cut off or not JSON; an unknown type; tensors that overlap, leave a gap, lie outside the
/// file or take other bytes than their shape needs.
pub fn parse_header(bytes: &[u8], file_length: u64) -> Result<Vec<HeaderEntry>, SafetensorsError> {
    let (length, rest) = bytes
        .split_first_chunk::<LENGTH_BYTES>()
        .ok_or(SafetensorsError::Empty(file_length.min(bytes.len() as u64)))?;
    let length = u64::from_le_bytes(*length);
    if length > MAX_HEADER_BYTES as u64 {
        return Err(SafetensorsError::HeaderTooLong(length));
    }
    let after_length = file_length.saturating_sub(LENGTH_BYTES as u64);
    let cut_off = SafetensorsError::HeaderCutOff { header: length, file: after_length.min(rest.len() as u64) };
    if length > after_length {
        return Err(cut_off);
    }
    let Some(header) = rest.get(..length as usize) else { return Err(cut_off) };
    let Header(entries) = serde_json::from_slice(header)?;
    let first = LENGTH_BYTES as u64 + length;
    place(entries, first, after_length - length)
}

/// Checks every entry against its neighbours and against the `room` after the header.
fn place(mut raw: Vec<(String, RawEntry)>, first: u64, room: u64) -> Result<Vec<HeaderEntry>, SafetensorsError> {
    raw.sort_by_key(|(_, entry)| entry.data_offsets);
    let mut entries = Vec::with_capacity(raw.len());
    let mut end = 0;
    for (name, entry) in raw {
        match check(&entry, end, room) {
            Ok((dtype, length)) => {
                let start = first + entry.data_offsets[0];
                end = entry.data_offsets[1];
                entries.push(HeaderEntry { name, dtype, shape: entry.shape, start, length });
            }
            Err(reason) => return Err(SafetensorsError::Tensor { name, reason }),
        }
    }
    match end == room {
        true => Ok(entries),
        false => Err(SafetensorsError::Coverage { tensors: end, file: room }),
    }
}

fn check(entry: &RawEntry, expected: u64, room: u64) -> Result<(Dtype, u64), String> {
    let [begin, end] = entry.data_offsets;
    let dtype = dtype(&entry.dtype).ok_or_else(|| format!("type {:?} is not known", entry.dtype))?;
    if begin != expected {
        return Err(format!("it starts at {begin}, the tensor before it ends at {expected}"));
    }
    let length = end.checked_sub(begin).ok_or_else(|| format!("it ends at {end}, before its start {begin}"))?;
    if end > room {
        return Err(format!("it ends at {end}, the file at {room}: the file is cut off or the header lies"));
    }
    let needed = checked_product(&entry.shape).and_then(|count| count.checked_mul(dtype.width()));
    if needed.map(|needed| needed as u64) != Some(length) {
        return Err(format!(
            "its shape {:?} of {} does not take the {length} bytes given to it",
            entry.shape, entry.dtype
        ));
    }
    Ok((dtype, length))
}

fn dtype(name: &str) -> Option<Dtype> {
    Some(match name {
        "BOOL" => Dtype::Bool,
        "U8" => Dtype::U8,
        "I8" => Dtype::I8,
        "U16" => Dtype::U16,
        "I16" => Dtype::I16,
        "U32" => Dtype::U32,
        "I32" => Dtype::I32,
        "U64" => Dtype::U64,
        "I64" => Dtype::I64,
        "F16" => Dtype::F16,
        "BF16" => Dtype::Bf16,
        "F32" => Dtype::F32,
        "F64" => Dtype::F64,
        _ => return None,
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawEntry {
    dtype: String,
    shape: Vec<usize>,
    data_offsets: [u64; 2],
}

/// The header's entries, each name once.
struct Header(Vec<(String, RawEntry)>);

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Header, D::Error> {
        deserializer.deserialize_map(HeaderVisitor)
    }
}

struct HeaderVisitor;

impl<'de> Visitor<'de> for HeaderVisitor {
    type Value = Header;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an object of tensors")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Header, A::Error> {
        let mut entries = Vec::new();
        let mut names = std::collections::HashSet::new();
        while let Some(name) = map.next_key::<String>()? {
            if !names.insert(name.clone()) {
                return Err(de::Error::custom(format_args!("{name:?} is there twice")));
            }
            if name == "__metadata__" {
                map.next_value::<de::IgnoredAny>()?;
                continue;
            }
            if entries.len() == MAX_TENSORS {
                return Err(de::Error::custom(format_args!("more than {MAX_TENSORS} tensors")));
            }
            entries.push((name, map.next_value()?));
        }
        Ok(Header(entries))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(header: &str, data: u64) -> Result<Vec<HeaderEntry>, SafetensorsError> {
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header.as_bytes());
        let length = bytes.len() as u64 + data;
        parse_header(&bytes, length)
    }

    fn refused(header: &str, data: u64) -> String {
        parse(header, data).unwrap_err().to_string()
    }

    #[test]
    fn entries_come_in_the_order_of_the_file() {
        let header = r#"{"__metadata__":{"format":"pt"},
            "b":{"dtype":"F32","shape":[2,1],"data_offsets":[4,12]},
            "a":{"dtype":"BF16","shape":[2],"data_offsets":[0,4]},
            "c":{"dtype":"F32","shape":[0],"data_offsets":[12,12]}}"#;
        let entries = parse(header, 12).unwrap();
        let names: Vec<_> = entries.iter().map(|entry| entry.name.as_str()).collect();
        assert_eq!(names, ["a", "b", "c"]);
        assert_eq!((entries[1].start, entries[1].length), (8 + header.len() as u64 + 4, 8));
        assert_eq!((entries[0].dtype, &entries[1].shape), (Dtype::Bf16, &vec![2, 1]));
    }

    #[test]
    fn empty_short_and_huge_headers_are_refused_before_anything_is_allocated() {
        assert!(matches!(parse_header(&[], 0), Err(SafetensorsError::Empty(0))));
        assert!(matches!(parse_header(&[1; 7], 7), Err(SafetensorsError::Empty(7))));
        let huge = (MAX_HEADER_BYTES as u64 + 1).to_le_bytes();
        assert!(matches!(parse_header(&huge, u64::MAX), Err(SafetensorsError::HeaderTooLong(_))));
        assert!(matches!(parse_header(&u64::MAX.to_le_bytes(), 8), Err(SafetensorsError::HeaderTooLong(_))));
        assert!(matches!(parse_header(&9u64.to_le_bytes(), 8), Err(SafetensorsError::HeaderCutOff { .. })));
        assert!(matches!(parse_header(&9u64.to_le_bytes(), 800), Err(SafetensorsError::HeaderCutOff { .. })));
    }

    #[test]
    fn lying_offsets_are_refused_by_name() {
        let one = |offsets: &str| format!(r#"{{"a":{{"dtype":"F32","shape":[2],"data_offsets":{offsets}}}}}"#);
        assert!(parse(&one("[0,8]"), 8).is_ok());
        assert!(refused(&one("[0,8]"), 7).contains("\"a\": it ends at 8, the file at 7"));
        assert!(refused(&one("[0,8]"), 9).contains("the tensors take 8 bytes, 9 follow"));
        assert!(refused(&one("[4,12]"), 12).contains("the tensor before it ends at 0"));
        assert!(refused(&one("[0,4]"), 4).contains("does not take the 4 bytes"));
        assert!(refused(&one("[0,18446744073709551615]"), 8).contains("file at 8"));
        assert!(refused(&one("[0]"), 8).contains("the format"));
        assert!(refused(&one("[0,-8]"), 8).contains("the format"));
    }

    #[test]
    fn overlaps_twins_and_unknown_types_are_refused() {
        let overlap = r#"{"a":{"dtype":"U8","shape":[8],"data_offsets":[0,8]},
                          "b":{"dtype":"U8","shape":[4],"data_offsets":[4,8]}}"#;
        assert!(refused(overlap, 8).contains("\"b\": it starts at 4"));
        let twins = r#"{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},
                        "a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}"#;
        assert!(refused(twins, 2).contains("\"a\" is there twice"));
        assert!(refused(r#"{"a":{"dtype":"F8_E4M3","shape":[1],"data_offsets":[0,1]}}"#, 1).contains("F8_E4M3"));
        let overflow = r#"{"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]}}"#;
        assert!(refused(overflow, 0).contains("does not take"));
    }

    #[test]
    fn more_tensors_than_the_limit_are_refused() {
        let entries: Vec<_> =
            (0..=MAX_TENSORS).map(|i| format!(r#""{i}":{{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}"#)).collect();
        assert!(refused(&format!("{{{}}}", entries.join(",")), 0).contains("more than 8192 tensors"));
    }
}
