//! Tars: members of one key that stand together are a picture and its texts.

use std::io::Read;
use std::sync::Arc;

use serde_json::{Map, Value};
use tar::{Archive, Entry as Member, EntryType};

use dataset::format::is_picture;

use super::format::ending;
use super::index::Index;
use super::record::{Record, TEXT_FIELDS};
use super::source::{Location, SourceFile, Window};
use super::{DatasetError, MAX_MEMBER_JSON_BYTES, MAX_TEXT_BYTES, Place, max_picture_bytes};

/// Longest name of a member, in bytes.
const MAX_NAME_BYTES: u64 = 4096;
/// Headers and members begin at multiples of it, and two such blocks of zeros end a tar.
const BLOCK: u64 = 512;
/// Endings of a picture's text.
const TEXT_ENDINGS: [&str; 3] = ["txt", "text", "caption"];

/// Reads the tars that were named, or all in the folder.
pub(super) fn read(location: &Location, index: &mut Index) -> Result<(), DatasetError> {
    let mut names = location.files.clone();
    if names.is_empty() {
        names = location.folder.list()?.into_iter().map(|(name, _)| name).collect();
        names.retain(|name| ending(name) == "tar");
    }
    for name in names {
        read_tar(Arc::new(location.file(&name)?), index)?;
    }
    Ok(())
}

/// What has been seen of a key.
#[derive(Default)]
struct Sample {
    key: String,
    picture: Option<(u64, u64)>,
    text: Option<String>,
    fields: Option<Map<String, Value>>,
}

fn read_tar(file: Arc<SourceFile>, index: &mut Index) -> Result<(), DatasetError> {
    let damaged = |reason: String| DatasetError::Damaged { file: file.shown(), reason };
    let io = |error: std::io::Error| damaged(error.to_string());
    let mut archive = Archive::new(file.reader(0));
    let mut sample = Sample::default();
    let mut long_name = None;
    let mut end = 0;
    for member in archive.entries_with_seek().map_err(io)?.raw(true) {
        let mut member = member.map_err(io)?;
        let (start, length) = (member.raw_file_position(), member.header().entry_size().map_err(io)?);
        end = start.checked_add(length).and_then(|end| end.checked_next_multiple_of(BLOCK)).unwrap_or(u64::MAX);
        if end > file.length {
            return Err(damaged(format!("the member at byte {start} ends beyond the file")));
        }
        let kind = member.header().entry_type();
        if matches!(kind, EntryType::GNULongName | EntryType::XHeader) {
            long_name = name_before(&mut member, kind).map_err(damaged)?.or(long_name);
            continue;
        }
        if matches!(kind, EntryType::GNULongLink | EntryType::XGlobalHeader) {
            continue;
        }
        let name = long_name.take().unwrap_or_else(|| member.path_bytes().into_owned());
        let Some(name) = usable_name(&name, kind, (&file, index)) else { continue };
        let (key, endings) = split(&name);
        if sample.key != key {
            std::mem::replace(&mut sample, Sample { key: key.to_owned(), ..Sample::default() }).add(&file, index)?;
        }
        let shown = || format!("{}: {name}", file.shown());
        if let Err(reason) = sample.take(endings, &mut member, (start, length)) {
            index.skip(&shown(), &reason);
        }
    }
    if file.length < end.saturating_add(BLOCK) {
        return Err(damaged("its end is missing".to_owned()));
    }
    sample.add(&file, index)
}

/// The name of the next member, which a member of its own holds.
fn name_before(member: &mut Member<Window>, kind: EntryType) -> Result<Option<Vec<u8>>, String> {
    let size = member.header().entry_size().map_err(|error| error.to_string())?;
    if size > MAX_MEMBER_JSON_BYTES {
        return Err(format!("a member's name or attributes have {size} bytes"));
    }
    let mut bytes = Vec::new();
    member.read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    if kind == EntryType::GNULongName {
        bytes.truncate(bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len()));
        return Ok(Some(bytes));
    }
    let mut name = None;
    for attribute in tar::PaxExtensions::new(&bytes) {
        let attribute = attribute.map_err(|error| error.to_string())?;
        match attribute.key_bytes() {
            b"path" => name = Some(attribute.value_bytes().to_owned()),
            b"size" => return Err("a member of more than 8 GiB".to_owned()),
            _ => {}
        }
    }
    Ok(name)
}

/// A regular file's name that stays within the tar; what is none is skipped.
fn usable_name(name: &[u8], kind: EntryType, (file, index): (&SourceFile, &mut Index)) -> Option<String> {
    let shown = || format!("{}: {}", file.shown(), String::from_utf8_lossy(name));
    let reason = match (kind, std::str::from_utf8(name)) {
        (EntryType::Directory, _) => return None,
        (EntryType::Symlink | EntryType::Link, _) => "a link",
        (EntryType::Regular | EntryType::Continuous, Err(_)) => "a name that is not UTF-8",
        (EntryType::Regular | EntryType::Continuous, Ok(text)) if name.len() as u64 <= MAX_NAME_BYTES => {
            let text = text.strip_prefix("./").unwrap_or(text);
            if !text.starts_with('/') && !text.split(['/', '\\']).any(|part| part == "..") {
                return Some(text.to_owned());
            }
            "a name that leads out of the tar"
        }
        (EntryType::Regular | EntryType::Continuous, _) => "a name that is too long",
        _ => "not a regular file",
    };
    index.skip(&shown(), reason);
    None
}

/// Key and endings: the key ends at the first dot of the last part of a name.
///
/// Source: webdataset `tariterators.py`, `base_plus_ext`.
fn split(name: &str) -> (&str, &str) {
    let last = name.rfind('/').map_or(0, |slash| slash + 1);
    match name[last..].find('.') {
        Some(dot) => (&name[..last + dot], &name[last + dot + 1..]),
        None => (name, ""),
    }
}

impl Sample {
    /// Takes a member of this key; the error says why it is skipped.
    fn take(&mut self, endings: &str, member: &mut impl Read, place: (u64, u64)) -> Result<(), String> {
        let endings = endings.to_ascii_lowercase();
        let last = endings.rsplit('.').next().unwrap_or_default();
        if is_picture(&format!(".{last}")) {
            if place.1 > max_picture_bytes() {
                return Err(format!("a picture file of more than {} bytes", max_picture_bytes()));
            }
            if self.picture.is_some() {
                return Err("a second picture of this key".to_owned());
            }
            self.picture = Some(place);
        } else if TEXT_ENDINGS.contains(&last) {
            let bytes = member_bytes(member, place.1, MAX_TEXT_BYTES as u64)?;
            let text = String::from_utf8(bytes).map_err(|_| "a text that is not UTF-8".to_owned())?;
            self.text = Some(text.trim_end_matches(['\r', '\n']).to_owned());
        } else if last == "json" {
            let bytes = member_bytes(member, place.1, MAX_MEMBER_JSON_BYTES)?;
            self.fields = Some(serde_json::from_slice(&bytes).map_err(|error| format!("not a json object: {error}"))?);
        }
        Ok(())
    }

    fn add(self, file: &Arc<SourceFile>, index: &mut Index) -> Result<(), DatasetError> {
        let shown = format!("{}: {}", file.shown(), self.key);
        let Some((start, length)) = self.picture else {
            if self.text.is_some() || self.fields.is_some() {
                index.skip(&shown, "texts without a picture");
            }
            return Ok(());
        };
        let mut fields = self.fields.unwrap_or_default();
        if let Some(text) = self.text
            && !fields.contains_key("texts")
        {
            for field in TEXT_FIELDS {
                fields.remove(field);
            }
            fields.insert("text".to_owned(), Value::String(text));
        }
        let mut record = Record::read(fields, index.origin).unwrap_or_else(|reason| {
            index.skip(&shown, &reason);
            Record::default()
        });
        let key = record.key.take().unwrap_or(self.key);
        index.add_apart(key, Place::Part { file: file.clone(), start, length }, record)
    }
}

fn member_bytes(member: &mut impl Read, length: u64, limit: u64) -> Result<Vec<u8>, String> {
    if length > limit {
        return Err(format!("more than {limit} bytes"));
    }
    let mut bytes = Vec::with_capacity(length as usize);
    member.read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    Ok(bytes)
}
