//! Captions, COCO's captions and questions in one json, row by row: never the whole file as a tree.

use std::collections::HashMap;
use std::fmt;
use std::io::{BufReader, Read};
use std::sync::Arc;

use serde::de::{DeserializeSeed, Deserializer as _, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use super::format::ending;
use super::index::Index;
use super::record::Record;
use super::source::{Location, Source, SourceFile};
use super::{DatasetError, DatasetOptions, MAX_ENTRIES, MAX_JSON_BYTES, Place};

/// What a json holds.
pub(super) enum JsonKind {
    Captions,
    Questions,
    Coco,
}

const ROWS: &str = "a list of {\"image\", \"caption\"} or {\"image\", \"question\", \"answer\"}";
const COCO: &str = "COCO's {\"images\": [{\"id\", \"file_name\"}], \"annotations\": [{\"image_id\", \"caption\"}]}";

/// Tells what a json holds from its beginning.
pub(super) fn kind(file: &SourceFile) -> Result<JsonKind, DatasetError> {
    let mut first = [0_u8; 64];
    let mut reader = file.reader(0);
    let count = reader.read(&mut first).map_err(|error| read_fault(file, &error))?;
    if first[..count].trim_ascii_start().first() == Some(&b'{') {
        return Ok(JsonKind::Coco);
    }
    let mut found = None;
    let looked = each_row(file, |row| {
        let is_question = row.get("question").is_some();
        found = Some(if is_question { JsonKind::Questions } else { JsonKind::Captions });
        Err(Stop)
    });
    match (found, looked) {
        (Some(kind), _) => Ok(kind),
        (None, Err(error)) => Err(error),
        (None, Ok(())) => {
            let hint = "the list is empty".to_owned();
            Err(DatasetError::Empty { location: file.shown(), hint })
        }
    }
}

/// Reads the authors' lists of captions or questions.
pub(super) fn read_rows(location: &Location, options: &DatasetOptions, index: &mut Index) -> Result<(), DatasetError> {
    let pictures = folder(location, options.image_root.as_deref())?;
    let genome = match &options.genome_root {
        Some(root) => folder(location, Some(root))?,
        None => pictures.clone(),
    };
    for name in names(location)? {
        let file = location.file(&name)?;
        let mut number = 0_u64;
        let mut fault = None;
        each_row(&file, |row| {
            number += 1;
            let shown = format!("{}, row {number}", file.shown());
            let is_genome = row.get("dataset").and_then(Value::as_str) == Some("vg");
            let place = picture(&row, "image", if is_genome { &genome } else { &pictures });
            let added = place.and_then(|(name, place)| {
                let Value::Object(fields) = row else { return Err("not an object".to_owned()) };
                Ok((name, place, Record::read(fields, index.origin)?))
            });
            match added {
                Err(reason) => index.skip(&shown, &reason),
                Ok((name, place, mut record)) => {
                    let key = record.key.take().unwrap_or(name);
                    fault = index.add(key, place, record).err();
                }
            }
            if fault.is_some() { Err(Stop) } else { Ok(()) }
        })?;
        if let Some(fault) = fault {
            return Err(fault);
        }
    }
    Ok(())
}

/// Reads COCO's captions. A caption may come before the picture that it names.
pub(super) fn read_coco(location: &Location, options: &DatasetOptions, index: &mut Index) -> Result<(), DatasetError> {
    let pictures = folder(location, options.image_root.as_deref())?;
    for name in names(location)? {
        let file = location.file(&name)?;
        let mut found = Coco::default();
        deserialize(&file, COCO, CocoVisitor(&mut found))?;
        found.add(&file, &pictures, index)?;
    }
    Ok(())
}

fn names(location: &Location) -> Result<Vec<String>, DatasetError> {
    if !location.files.is_empty() {
        return Ok(location.files.clone());
    }
    let mut names: Vec<String> = location.folder.list()?.into_iter().map(|(name, _)| name).collect();
    names.retain(|name| ending(name) == "json" && !name.contains('/'));
    Ok(names)
}

fn folder(location: &Location, root: Option<&str>) -> Result<Arc<Source>, DatasetError> {
    Ok(match root {
        Some(root) => Arc::new(Source::folder(root)?),
        None => location.folder.clone(),
    })
}

fn picture(row: &Value, field: &str, folder: &Arc<Source>) -> Result<(String, Place), String> {
    let name = row.get(field).and_then(Value::as_str).ok_or_else(|| format!("no {field}"))?;
    let inside = folder
        .inside(name)
        .ok_or_else(|| format!("{name} leads out of the folder of pictures; say the image root it lies under"))?;
    Ok((name.to_owned(), Place::File { folder: folder.clone(), name: inside }))
}

fn read_fault(file: &SourceFile, error: &std::io::Error) -> DatasetError {
    DatasetError::Read { file: file.shown(), reason: error.to_string() }
}

/// Ends the reading of rows.
struct Stop;

/// Calls `take` with each element of the list that a json is.
fn each_row(file: &SourceFile, take: impl FnMut(Value) -> Result<(), Stop>) -> Result<(), DatasetError> {
    let mut is_stopped = false;
    let rows = Rows { take, is_stopped: &mut is_stopped };
    let end = deserialize(file, ROWS, rows);
    if is_stopped { Ok(()) } else { end }
}

fn deserialize<'a, V: Visitor<'a, Value = ()>>(
    file: &SourceFile,
    expected: &'static str,
    visitor: V,
) -> Result<(), DatasetError> {
    if file.length > MAX_JSON_BYTES {
        return Err(DatasetError::TooLarge { file: file.shown(), limit: MAX_JSON_BYTES, unit: "bytes" });
    }
    let mut reader = serde_json::Deserializer::from_reader(BufReader::new(file.reader(0)));
    let end = reader.deserialize_any(visitor).and_then(|()| reader.end());
    end.map_err(|error| {
        let (file, reason) = (file.shown(), error.to_string());
        match error.classify() {
            serde_json::error::Category::Io => DatasetError::Read { file, reason },
            serde_json::error::Category::Eof => DatasetError::Damaged { file, reason },
            _ => DatasetError::Shape { file, expected, reason },
        }
    })
}

struct Rows<'s, F> {
    take: F,
    is_stopped: &'s mut bool,
}

impl<'de, F: FnMut(Value) -> Result<(), Stop>> Visitor<'de> for Rows<'_, F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut rows: A) -> Result<(), A::Error> {
        while let Some(row) = rows.next_element::<Value>()? {
            if (self.take)(row).is_err() {
                *self.is_stopped = true;
                return Err(A::Error::custom("it has more rows than are read"));
            }
        }
        Ok(())
    }
}

impl<'de, F: FnMut(Value) -> Result<(), Stop>> DeserializeSeed<'de> for Rows<'_, F> {
    type Value = ();

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

/// The two lists of a COCO json.
#[derive(Default)]
struct Coco {
    images: Vec<Map<String, Value>>,
    annotations: Vec<Map<String, Value>>,
    others: u64,
    has_images: bool,
}

struct CocoVisitor<'a>(&'a mut Coco);

impl<'de> Visitor<'de> for CocoVisitor<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with images and annotations")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<(), A::Error> {
        let Coco { images, annotations, others, has_images } = self.0;
        while let Some(field) = fields.next_key::<String>()? {
            let list = match field.as_str() {
                "images" => {
                    *has_images = true;
                    &mut *images
                }
                "annotations" => &mut *annotations,
                _ => {
                    fields.next_value::<IgnoredAny>()?;
                    continue;
                }
            };
            let mut is_stopped = false;
            let take = |row| {
                match row {
                    Value::Object(row) => list.push(row),
                    _ => *others += 1,
                }
                if list.len() > MAX_ENTRIES { Err(Stop) } else { Ok(()) }
            };
            fields.next_value_seed(Rows { take, is_stopped: &mut is_stopped })?;
        }
        Ok(())
    }
}

impl Coco {
    fn add(self, file: &SourceFile, pictures: &Arc<Source>, index: &mut Index) -> Result<(), DatasetError> {
        if !self.has_images {
            let reason = "no list named images".to_owned();
            return Err(DatasetError::Shape { file: file.shown(), expected: COCO, reason });
        }
        for _ in 0..self.others {
            index.skip(&file.shown(), "an element that is not an object");
        }
        let mut known: HashMap<String, (String, Place)> = HashMap::new();
        for mut row in self.images {
            let id = row.get("id").filter(|id| id.is_u64() || id.is_string()).map(Value::to_string);
            let place = picture(&Value::Object(row.clone()), "file_name", pictures);
            let (Some(id), Ok((name, place))) = (id, place) else {
                index.skip(&file.shown(), &format!("a picture without a usable id and file_name: {}", shown(&row)));
                continue;
            };
            row.insert("image_id".to_owned(), Value::String(id.clone()));
            let mut record = Record::read(row, index.origin).unwrap_or_else(|reason| {
                index.skip(&name, &reason);
                Record::default()
            });
            let key = record.key.take().unwrap_or(name);
            index.add(key.clone(), place.clone(), record)?;
            known.insert(id, (key, place));
        }
        for mut row in self.annotations {
            let id = row.remove("image_id").map(|id| id.to_string());
            let Some((key, place)) = id.and_then(|id| known.get(&id)) else {
                index.skip(&file.shown(), &format!("a caption of a picture that is not listed: {}", shown(&row)));
                continue;
            };
            row.remove("key");
            match Record::read(row, index.origin) {
                Ok(record) => index.add(key.clone(), place.clone(), record)?,
                Err(reason) => index.skip(key, &reason),
            }
        }
        Ok(())
    }
}

/// A row, short enough for a message.
fn shown(row: &Map<String, Value>) -> String {
    Value::Object(row.clone()).to_string().chars().take(80).collect()
}
