//! A folder of pictures, with `metadata.jsonl` or with a text beside each.

use std::collections::HashSet;
use std::io::{BufRead, BufReader};
use std::sync::Arc;

use serde_json::Value;

use super::index::Index;
use super::record::Record;
use super::source::{Location, SourceFile};
use super::{DatasetError, MAX_JSON_BYTES, MAX_MEMBER_JSON_BYTES, MAX_TEXT_BYTES, Place, Text};
use dataset::format::is_picture;

/// Names under which a picture stands in a line.
const NAME_FIELDS: [&str; 2] = ["file_name", "image"];

/// Reads a folder, or a `jsonl` file in one.
pub(super) fn read(location: &Location, index: &mut Index) -> Result<(), DatasetError> {
    if let [name] = &location.files[..] {
        return read_lines(location, &location.file(name)?, index);
    }
    let files = location.folder.list()?;
    let tables: Vec<&String> = files.iter().map(|(name, _)| name).filter(|name| is_metadata(name)).collect();
    if tables.is_empty() {
        return read_pictures(location, &files, index);
    }
    for name in tables {
        read_lines(location, &location.file(name)?, index)?;
    }
    Ok(())
}

fn is_metadata(name: &str) -> bool {
    name == "metadata.jsonl" || name.ends_with("/metadata.jsonl")
}

fn read_lines(location: &Location, file: &SourceFile, index: &mut Index) -> Result<(), DatasetError> {
    if file.length > MAX_JSON_BYTES {
        return Err(DatasetError::TooLarge { file: file.shown(), limit: MAX_JSON_BYTES, unit: "bytes" });
    }
    let folder = file.name.rsplit_once('/').map_or(String::new(), |(folder, _)| format!("{folder}/"));
    let mut lines = BufReader::new(file.reader(0));
    let mut line = Vec::new();
    for number in 1_u64.. {
        line.clear();
        let count = read_line(&mut lines, &mut line)
            .map_err(|error| DatasetError::Read { file: file.shown(), reason: error.to_string() })?;
        if count == 0 {
            break;
        }
        if line.trim_ascii().is_empty() {
            continue;
        }
        let shape = |reason: String| DatasetError::Shape {
            file: file.shown(),
            expected: "a jsonl: one json object a line",
            reason: format!("line {number}: {reason}"),
        };
        let row: Value = serde_json::from_slice(&line).map_err(|error| shape(error.to_string()))?;
        let Value::Object(row) = row else { return Err(shape("not an object".to_owned())) };
        let name = NAME_FIELDS.iter().find_map(|field| row.get(*field)?.as_str()).map(|name| format!("{folder}{name}"));
        let shown = || format!("{}, line {number}", file.shown());
        let Some(name) = name else {
            index.skip(&shown(), "no file_name");
            continue;
        };
        let Some(inside) = location.folder.inside(&name) else {
            index.skip(&shown(), &format!("{name} leads out of the folder"));
            continue;
        };
        match Record::read(row, index.origin) {
            Ok(mut record) => {
                let key = record.key.take().unwrap_or_else(|| inside.clone());
                index.add(key, Place::File { folder: location.folder.clone(), name: inside }, record)?;
            }
            Err(reason) => index.skip(&shown(), &reason),
        }
    }
    Ok(())
}

/// Reads a line of at most [`MAX_MEMBER_JSON_BYTES`].
fn read_line(lines: &mut impl BufRead, line: &mut Vec<u8>) -> std::io::Result<usize> {
    let mut limited = std::io::Read::take(lines, MAX_MEMBER_JSON_BYTES + 1);
    let count = limited.read_until(b'\n', line)?;
    if count as u64 > MAX_MEMBER_JSON_BYTES {
        return Err(std::io::Error::other(format!("a line is longer than {MAX_MEMBER_JSON_BYTES} bytes")));
    }
    Ok(count)
}

fn read_pictures(location: &Location, files: &[(String, u64)], index: &mut Index) -> Result<(), DatasetError> {
    let texts: HashSet<&str> = files.iter().filter_map(|(name, _)| name.strip_suffix(".txt")).collect();
    for (name, _) in files.iter().filter(|(name, _)| is_picture(name)) {
        let stem = name.rsplit_once('.').map_or(name.as_str(), |(stem, _)| stem);
        let mut record = Record::default();
        if texts.contains(stem) {
            match read_text(location, &format!("{stem}.txt")) {
                Ok(text) => record.texts.push(Text { text, origin: index.origin, score: None }),
                Err(reason) => index.skip(&format!("{stem}.txt"), &reason),
            }
        }
        let place = Place::File { folder: Arc::clone(&location.folder), name: name.clone() };
        index.add(name.clone(), place, record)?;
    }
    Ok(())
}

fn read_text(location: &Location, name: &str) -> Result<String, String> {
    let bytes = location.folder.read(name, MAX_TEXT_BYTES as u64).map_err(|error| error.to_string())?;
    let text = String::from_utf8(bytes).map_err(|_| "not UTF-8".to_owned())?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}
