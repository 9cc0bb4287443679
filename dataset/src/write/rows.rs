//! Pictures as files, and one json or jsonl that names them.

use std::fs::File;
use std::io::{self, BufWriter, Seek, Write};
use std::path::Path;

use serde_json::{Map, Value, json};

use super::{Named, Pending, WriteError, write_file};
use crate::format::Format;
use crate::pair::{Pair, Text};

/// Writes `metadata.jsonl`, the authors' json, or COCO's.
pub(super) struct Rows {
    format: Format,
    file: Pending,
    /// COCO's captions wait until its pictures are listed.
    captions: BufWriter<File>,
    pictures: usize,
    rows: usize,
    caption_rows: usize,
}

impl Rows {
    pub(super) fn create(folder: &Path, format: Format) -> Result<Rows, WriteError> {
        let name = if format == Format::ImageFolder { "metadata.jsonl" } else { "annotations.json" };
        let mut file = Pending::create(folder.join(name))?;
        match format {
            Format::BlipJson => file.put(b"[")?,
            Format::CocoJson => file.put(b"{\"images\": [")?,
            _ => {}
        }
        let captions = tempfile::tempfile_in(folder);
        let captions = captions.map_err(|source| WriteError::Write { file: folder.to_owned(), source })?;
        Ok(Rows { format, file, captions: BufWriter::new(captions), pictures: 0, rows: 0, caption_rows: 0 })
    }

    pub(super) fn add(&mut self, folder: &Path, named: &Named) -> Result<(), WriteError> {
        let name = format!("images/{}.{}", named.name, named.ending);
        write_file(folder.join(&name), &named.pair.picture)?;
        match self.format {
            Format::CocoJson => self.add_coco(&name, named.pair)?,
            Format::BlipJson => {
                for row in caption_rows(named.pair, &name) {
                    self.blip_row(row)?;
                }
            }
            _ => self.file.put(format!("{}\n", line(named.pair, &name)).as_bytes())?,
        }
        self.pictures += 1;
        Ok(())
    }

    fn add_coco(&mut self, name: &str, pair: &Pair) -> Result<(), WriteError> {
        let mut image = json!({"id": self.pictures, "file_name": name, "key": pair.key});
        if let Some(truth) = &pair.truth {
            image["truth"] = truth.clone();
        }
        for text in &pair.texts {
            let mut caption = described("caption", text);
            caption.insert("id".to_owned(), self.caption_rows.into());
            caption.insert("image_id".to_owned(), self.pictures.into());
            let comma = if self.caption_rows == 0 { "" } else { "," };
            self.caption_rows += 1;
            let written = write!(self.captions, "{comma}\n{}", Value::from(caption));
            written.map_err(|source| WriteError::Write { file: self.file.target.clone(), source })?;
        }
        self.element(&image)
    }

    fn blip_row(&mut self, mut row: Map<String, Value>) -> Result<(), WriteError> {
        row.insert("image_id".to_owned(), self.pictures.into());
        self.element(&row.into())
    }

    /// Puts one more element into a list.
    fn element(&mut self, value: &Value) -> Result<(), WriteError> {
        let comma = if self.rows == 0 { "" } else { "," };
        self.rows += 1;
        self.file.put(format!("{comma}\n{value}").as_bytes())
    }

    pub(super) fn finish(mut self) -> Result<(), WriteError> {
        match self.format {
            Format::BlipJson => self.file.put(b"\n]\n")?,
            Format::CocoJson => {
                self.file.put(b"\n], \"annotations\": [")?;
                let mut copy = || {
                    self.captions.rewind()?;
                    io::copy(self.captions.get_mut(), &mut self.file)
                };
                copy().map_err(|source| WriteError::Write { file: self.file.target.clone(), source })?;
                self.file.put(b"\n]}\n")?;
            }
            _ => {}
        }
        self.file.keep()
    }
}

/// A line of `metadata.jsonl`: each field has one type in all lines, since tables are made of them; so `text` is the
/// first text, `texts` are all, and the truth is the text of a json.
fn line(pair: &Pair, name: &str) -> Value {
    let texts: Vec<Value> = pair.texts.iter().map(|text| described("text", text).into()).collect();
    let first = pair.texts.first().map(|text| text.text.as_str());
    let truth = pair.truth.as_ref().map(Value::to_string);
    json!({"file_name": name, "key": pair.key, "text": first, "texts": texts, "truth": truth})
}

/// A row for each text; one with an empty list for a picture that has none.
fn caption_rows(pair: &Pair, name: &str) -> Vec<Map<String, Value>> {
    let mut rows: Vec<Map<String, Value>> = pair.texts.iter().map(|text| described("caption", text)).collect();
    if rows.is_empty() {
        rows.push(Map::from_iter([("caption".to_owned(), Value::Array(Vec::new()))]));
    }
    if let Some(truth) = &pair.truth {
        rows[0].insert("truth".to_owned(), truth.clone());
    }
    for row in &mut rows {
        row.insert("image".to_owned(), name.into());
        row.insert("key".to_owned(), pair.key.clone().into());
    }
    rows
}

fn described(text_field: &str, text: &Text) -> Map<String, Value> {
    let mut row = Map::new();
    row.insert(text_field.to_owned(), text.text.clone().into());
    row.insert("origin".to_owned(), serde_json::to_value(text.origin).unwrap_or_default());
    row.insert("score".to_owned(), text.score.map(f64::from).into());
    row
}
