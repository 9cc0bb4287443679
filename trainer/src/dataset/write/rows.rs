//! Pictures as files, and one json or jsonl that names them.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::super::{Format, Pair, Text};
use super::{Named, Pending, WriteError};

/// Writes `metadata.jsonl`, the authors' json, or COCO's.
pub(super) struct Rows {
    format: Format,
    file: Pending,
    /// COCO's captions wait until its pictures are listed.
    captions: Vec<Value>,
    pictures: usize,
    rows: usize,
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
        Ok(Rows { format, file, captions: Vec::new(), pictures: 0, rows: 0 })
    }

    pub(super) fn add(&mut self, folder: &Path, named: &Named) -> Result<(), WriteError> {
        let name = format!("images/{}.{}", named.name, named.ending);
        write_picture(folder.join(&name), &named.pair.picture)?;
        match self.format {
            Format::CocoJson => self.add_coco(&name, named.pair)?,
            Format::BlipJson => {
                for row in rows(named.pair, ("image", "caption"), &name) {
                    self.row(row, Some(self.pictures))?;
                }
            }
            _ => {
                for row in rows(named.pair, ("file_name", "text"), &name) {
                    self.row(row, None)?;
                }
            }
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
            let mut caption = Map::new();
            describe(&mut caption, "caption", text);
            caption.insert("id".to_owned(), self.captions.len().into());
            caption.insert("image_id".to_owned(), self.pictures.into());
            self.captions.push(caption.into());
        }
        self.element(&image)
    }

    fn row(&mut self, mut row: Map<String, Value>, image_id: Option<usize>) -> Result<(), WriteError> {
        let Some(id) = image_id else {
            return self.file.put(format!("{}\n", Value::Object(row)).as_bytes());
        };
        row.insert("image_id".to_owned(), id.into());
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
                self.rows = 0;
                for caption in std::mem::take(&mut self.captions) {
                    self.element(&caption)?;
                }
                self.file.put(b"\n]}\n")?;
            }
            _ => {}
        }
        self.file.keep()
    }
}

/// A row for each text; one without a text for a picture that has none.
fn rows(pair: &Pair, (name_field, text_field): (&str, &str), name: &str) -> Vec<Map<String, Value>> {
    let base = || {
        let mut row = Map::new();
        row.insert(name_field.to_owned(), name.into());
        row.insert("key".to_owned(), pair.key.clone().into());
        row
    };
    let mut rows: Vec<Map<String, Value>> = Vec::new();
    for text in &pair.texts {
        let mut row = base();
        describe(&mut row, text_field, text);
        rows.push(row);
    }
    if rows.is_empty() {
        let mut row = base();
        row.insert(text_field.to_owned(), Value::Null);
        rows.push(row);
    }
    // A text, since tables of one type a column are made of these rows.
    let truth = pair.truth.as_ref().map_or(Value::Null, |truth| truth.to_string().into());
    rows[0].insert("truth".to_owned(), truth);
    rows
}

fn describe(row: &mut Map<String, Value>, text_field: &str, text: &Text) {
    row.insert(text_field.to_owned(), text.text.clone().into());
    row.insert("origin".to_owned(), serde_json::to_value(text.origin).unwrap_or_default());
    row.insert("score".to_owned(), text.score.map(f64::from).into());
}

fn write_picture(target: PathBuf, bytes: &[u8]) -> Result<(), WriteError> {
    if let Some(folder) = target.parent() {
        std::fs::create_dir_all(folder).map_err(|source| WriteError::Write { file: folder.to_owned(), source })?;
    }
    let mut file = Pending::create(target)?;
    file.put(bytes)?;
    file.keep()
}
