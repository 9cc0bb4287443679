//! Parquet with the pictures inside.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use parquet::basic::Compression;
use parquet::data_type::{ByteArray, ByteArrayType, DoubleType};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::parser::parse_message_type;
use parquet::schema::types::ColumnPath;

use super::{Named, Pending, WriteError, WriteOptions};

/// Rows of a row group, as Hugging Face writes tables of pictures.
const GROUP_ROWS: usize = 100;
/// Bytes of pictures that are held before they are written.
const GROUP_BYTES: u64 = 64 << 20;
/// The leaf columns stand in this order.
const SCHEMA: &str = "message pairs {
    optional group image { optional binary bytes; optional binary path (utf8); }
    required binary key (utf8);
    required group text (list) { repeated group list { required binary element (utf8); } }
    required group origin (list) { repeated group list { required binary element (utf8); } }
    required group score (list) { repeated group list { optional double element; } }
    optional binary truth (utf8);
}";

/// Writes `PREFIX-000000.parquet` and so on.
pub(super) struct Tables {
    folder: PathBuf,
    options: WriteOptions,
    number: usize,
    open: Option<(PathBuf, SerializedFileWriter<Pending>)>,
    bytes: u64,
    group: Group,
}

/// Rows that wait, column by column; a list begins where its level is 0.
#[derive(Default)]
struct Group {
    rows: usize,
    bytes: u64,
    pictures: Vec<ByteArray>,
    paths: Vec<ByteArray>,
    keys: Vec<ByteArray>,
    texts: Vec<ByteArray>,
    origins: Vec<ByteArray>,
    scores: Vec<f64>,
    truths: Vec<ByteArray>,
    list_starts: Vec<i16>,
    has_text: Vec<i16>,
    has_score: Vec<i16>,
    has_truth: Vec<i16>,
}

impl Group {
    fn add(&mut self, named: &Named) {
        let pair = named.pair;
        self.rows += 1;
        self.bytes += pair.picture.len() as u64;
        self.pictures.push(pair.picture.clone().into());
        self.paths.push(format!("{}.{}", named.name, named.ending).into_bytes().into());
        self.keys.push(pair.key.clone().into_bytes().into());
        if pair.texts.is_empty() {
            self.list_starts.push(0);
            self.has_text.push(0);
            self.has_score.push(0);
        }
        for (index, text) in pair.texts.iter().enumerate() {
            self.list_starts.push(i16::from(index > 0));
            self.has_text.push(1);
            self.texts.push(text.text.clone().into_bytes().into());
            let origin = serde_json::to_value(text.origin).unwrap_or_default();
            self.origins.push(origin.as_str().unwrap_or_default().into());
            self.has_score.push(if text.score.is_some() { 2 } else { 1 });
            self.scores.extend(text.score.map(f64::from));
        }
        self.has_truth.push(i16::from(pair.truth.is_some()));
        self.truths.extend(pair.truth.as_ref().map(|truth| ByteArray::from(truth.to_string().into_bytes())));
    }

    fn write(&self, columns: &mut Columns) -> Result<(), ParquetError> {
        let there = vec![2; self.rows];
        let (starts, lists) = (Some(&self.list_starts[..]), Some(&self.has_text[..]));
        columns.texts(&self.pictures, Some(&there), None)?;
        columns.texts(&self.paths, Some(&there), None)?;
        columns.texts(&self.keys, None, None)?;
        columns.texts(&self.texts, lists, starts)?;
        columns.texts(&self.origins, lists, starts)?;
        columns.numbers(&self.scores, Some(&self.has_score), starts)?;
        columns.texts(&self.truths, Some(&self.has_truth), None)
    }
}

/// A row group, column by column.
struct Columns<'a, 'b>(&'a mut SerializedRowGroupWriter<'b, Pending>);

impl Columns<'_, '_> {
    fn texts(
        &mut self,
        values: &[ByteArray],
        levels: Option<&[i16]>,
        starts: Option<&[i16]>,
    ) -> Result<(), ParquetError> {
        let Some(mut column) = self.0.next_column()? else { return Ok(()) };
        column.typed::<ByteArrayType>().write_batch(values, levels, starts)?;
        column.close()
    }

    fn numbers(&mut self, values: &[f64], levels: Option<&[i16]>, starts: Option<&[i16]>) -> Result<(), ParquetError> {
        let Some(mut column) = self.0.next_column()? else { return Ok(()) };
        column.typed::<DoubleType>().write_batch(values, levels, starts)?;
        column.close()
    }
}

impl Tables {
    pub(super) fn create(folder: &Path, options: &WriteOptions) -> Result<Tables, WriteError> {
        let (folder, options) = (folder.to_owned(), options.clone());
        let mut tables = Tables { folder, options, number: 0, open: None, bytes: 0, group: Group::default() };
        tables.begin()?;
        Ok(tables)
    }

    fn begin(&mut self) -> Result<(), WriteError> {
        let target = self.folder.join(format!("{}-{:06}.parquet", self.options.prefix, self.number));
        let fault = |error: ParquetError| fault(&target, error);
        let schema = Arc::new(parse_message_type(SCHEMA).map_err(fault)?);
        let pictures = ColumnPath::new(vec!["image".to_owned(), "bytes".to_owned()]);
        // One value at a time, so that a page ends near its limit and a picture can be read without its group.
        let properties = WriterProperties::builder()
            .set_compression(Compression::SNAPPY)
            .set_column_compression(pictures.clone(), Compression::UNCOMPRESSED)
            .set_column_dictionary_enabled(pictures, false)
            .set_write_batch_size(1)
            .build();
        let file = Pending::create(target.clone())?;
        let writer = SerializedFileWriter::new(file, schema, Arc::new(properties)).map_err(fault)?;
        self.open = Some((target, writer));
        self.number += 1;
        self.bytes = 0;
        Ok(())
    }

    pub(super) fn add(&mut self, named: &Named) -> Result<(), WriteError> {
        if self.bytes >= self.options.shard_bytes {
            self.end()?;
        }
        if self.open.is_none() {
            self.begin()?;
        }
        self.group.add(named);
        self.bytes += named.pair.picture.len() as u64;
        if self.group.rows >= GROUP_ROWS || self.group.bytes >= GROUP_BYTES {
            self.write_group()?;
        }
        Ok(())
    }

    fn write_group(&mut self) -> Result<(), WriteError> {
        let group = std::mem::take(&mut self.group);
        let Some((target, writer)) = &mut self.open else { return Ok(()) };
        if group.rows == 0 {
            return Ok(());
        }
        let mut write = || -> Result<(), ParquetError> {
            let mut open = writer.next_row_group()?;
            group.write(&mut Columns(&mut open))?;
            open.close()?;
            Ok(())
        };
        write().map_err(|error| fault(target, error))
    }

    fn end(&mut self) -> Result<(), WriteError> {
        self.write_group()?;
        let Some((target, writer)) = self.open.take() else { return Ok(()) };
        writer.into_inner().map_err(|error| fault(&target, error))?.keep()
    }

    pub(super) fn finish(mut self) -> Result<(), WriteError> {
        self.end()
    }
}

fn fault(file: &Path, error: ParquetError) -> WriteError {
    WriteError::Write { file: file.to_owned(), source: std::io::Error::other(error) }
}
