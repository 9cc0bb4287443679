//! The rows as Parquet, with the pictures inside, as Hugging Face lays it out.

use std::collections::BTreeMap;
use std::fs::{self, File, Permissions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use dataset::disk::sync_folder;
use exchange::Digest;
use parquet::basic::Compression;
use parquet::data_type::{ByteArray, ByteArrayType, DataType, FloatType};
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::parser::parse_message_type;
use parquet::schema::types::ColumnPath;
use sha2::{Digest as _, Sha256};

use super::card::{FileFacts, features};
use super::plan::{Plan, READ_AT_ONCE, picture_of};
use super::rows::Row;
use super::splits::Split;
use super::{Stage, Tell, VersionError};
use crate::book::Book;
use crate::home::Home;

/// Rows of a row group, as Hugging Face writes tables of pictures.
const GROUP_ROWS: usize = 100;
/// Bytes of pictures that are held before they are written, for each split.
const GROUP_BYTES: usize = 16 << 20;
/// Bytes of pictures after which a file ends.
const FILE_BYTES: usize = 256 << 20;
/// What nobody may change.
const READ_ONLY: u32 = 0o444;
/// The leaf columns stand in this order.
const SCHEMA: &str = "message pairs {
    optional group image { optional binary bytes; optional binary path (utf8); }
    optional binary text (utf8);
    optional binary sha256 (utf8);
    optional binary device (utf8);
    optional binary day (utf8);
    optional binary source (utf8);
    optional float itm;
    optional float itc;
    optional binary verdict (utf8);
    optional binary verdict_by (utf8);
}";

/// Writes the files of a version into a folder; nothing if a pair went away meanwhile.
pub(super) fn write_all(
    home: &Home,
    snapshot: &Book,
    plan: &Plan,
    folder: &Path,
    tell: &mut Tell<'_>,
) -> Result<Option<BTreeMap<String, FileFacts>>, VersionError> {
    let data = folder.join("data");
    fs::create_dir(&data).map_err(|source| VersionError::File { path: data.clone(), source })?;
    let mut tables = Split::ALL.map(|split| Table::new(&data, split));
    let mut chosen = plan.chosen.iter().peekable();
    let mut after = 0;
    let mut done = 0;
    while chosen.peek().is_some() {
        let pairs = snapshot.pairs_after(after, None, READ_AT_ONCE)?;
        let Some(last) = pairs.last() else { return Ok(None) };
        after = last.number;
        for pair in &pairs {
            let Some(chosen) = chosen.next_if(|chosen| chosen.number == pair.number) else { continue };
            let (Some(row), Some(picture)) = (Row::of(pair), picture_of(home, pair)?) else { return Ok(None) };
            tables[plan.split_of(chosen) as usize].add(row, picture)?;
            done += 1;
            tell(Stage::Writing, done, plan.chosen.len());
        }
    }
    let mut files = BTreeMap::new();
    for table in tables {
        table.finish(&mut files)?;
    }
    sync_folder(&data).map_err(|source| VersionError::File { path: data, source })?;
    Ok(Some(files))
}

/// A file that is hashed as it is written.
pub(super) struct Hashed {
    path: PathBuf,
    file: BufWriter<File>,
    sha256: Sha256,
    bytes: u64,
}

impl Hashed {
    pub(super) fn create(path: PathBuf) -> Result<Hashed, VersionError> {
        match File::create_new(&path) {
            Ok(file) => Ok(Hashed { path, file: BufWriter::new(file), sha256: Sha256::new(), bytes: 0 }),
            Err(source) => Err(VersionError::File { path, source }),
        }
    }

    /// Brings it to the disk, where nobody may change it.
    pub(super) fn finish(mut self) -> Result<FileFacts, VersionError> {
        let kept = self.file.flush().and_then(|()| {
            self.file.get_ref().set_permissions(Permissions::from_mode(READ_ONLY))?;
            self.file.get_ref().sync_all()
        });
        kept.map_err(|source| VersionError::File { path: self.path, source })?;
        Ok(FileFacts { bytes: self.bytes, sha256: Digest::from(<[u8; 32]>::from(self.sha256.finalize())) })
    }
}

impl Write for Hashed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.sha256.update(&bytes[..written]);
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// The files of a split.
struct Table {
    folder: PathBuf,
    split: Split,
    open: Option<SerializedFileWriter<Hashed>>,
    /// Bytes of pictures in the file that is open.
    bytes: usize,
    group: Vec<(Row, ByteArray)>,
    group_bytes: usize,
    done: Vec<FileFacts>,
}

impl Table {
    fn new(folder: &Path, split: Split) -> Table {
        let (folder, group, done) = (folder.to_owned(), Vec::new(), Vec::new());
        Table { folder, split, open: None, bytes: 0, group, group_bytes: 0, done }
    }

    fn add(&mut self, row: Row, picture: Vec<u8>) -> Result<(), VersionError> {
        if self.bytes >= FILE_BYTES {
            self.end()?;
        }
        self.bytes += picture.len();
        self.group_bytes += picture.len();
        self.group.push((row, picture.into()));
        if self.group.len() >= GROUP_ROWS || self.group_bytes >= GROUP_BYTES {
            self.write_group()?;
        }
        Ok(())
    }

    /// The name of a file until it is known how many there are.
    fn path(&self, number: usize) -> PathBuf {
        self.folder.join(format!("{}-{number:05}", self.split.name()))
    }

    fn fault(&self) -> impl Fn(ParquetError) -> VersionError + use<> {
        let path = self.path(self.done.len());
        move |error| VersionError::File { path: path.clone(), source: io::Error::other(error) }
    }

    fn write_group(&mut self) -> Result<(), VersionError> {
        if self.group.is_empty() {
            return Ok(());
        }
        let fault = self.fault();
        let mut writer = match self.open.take() {
            Some(writer) => writer,
            None => begin(Hashed::create(self.path(self.done.len()))?).map_err(&fault)?,
        };
        let group = std::mem::take(&mut self.group);
        self.group_bytes = 0;
        write_columns(&mut writer, &group).map_err(&fault)?;
        self.open = Some(writer);
        Ok(())
    }

    fn end(&mut self) -> Result<(), VersionError> {
        self.write_group()?;
        self.bytes = 0;
        let Some(writer) = self.open.take() else { return Ok(()) };
        let file = writer.into_inner().map_err(self.fault())?;
        self.done.push(file.finish()?);
        Ok(())
    }

    fn finish(mut self, files: &mut BTreeMap<String, FileFacts>) -> Result<(), VersionError> {
        self.end()?;
        let count = self.done.len();
        for (number, facts) in self.done.iter().enumerate() {
            let name = format!("{}-{number:05}-of-{count:05}.parquet", self.split.name());
            let path = self.path(number);
            fs::rename(&path, self.folder.join(&name)).map_err(|source| VersionError::File { path, source })?;
            files.insert(format!("data/{name}"), *facts);
        }
        Ok(())
    }
}

fn begin(file: Hashed) -> Result<SerializedFileWriter<Hashed>, ParquetError> {
    let schema = Arc::new(parse_message_type(SCHEMA)?);
    let pictures = ColumnPath::new(vec!["image".to_owned(), "bytes".to_owned()]);
    // One value at a time, so that a page ends near its limit and a picture can be read without its group.
    let properties = WriterProperties::builder()
        .set_created_by("edgeblip".to_owned())
        .set_compression(Compression::SNAPPY)
        .set_column_compression(pictures.clone(), Compression::UNCOMPRESSED)
        .set_column_dictionary_enabled(pictures, false)
        .set_write_batch_size(1)
        .set_key_value_metadata(Some(vec![KeyValue::new("huggingface".to_owned(), features().to_string())]))
        .build();
    SerializedFileWriter::new(file, schema, Arc::new(properties))
}

fn write_columns(writer: &mut SerializedFileWriter<Hashed>, rows: &[(Row, ByteArray)]) -> Result<(), ParquetError> {
    let mut group = writer.next_row_group()?;
    let pictures: Vec<ByteArray> = rows.iter().map(|(_, picture)| picture.clone()).collect();
    let paths: Vec<ByteArray> = rows.iter().map(|(row, _)| bytes(&format!("{}.jpg", row.sha256))).collect();
    column::<ByteArrayType>(&mut group, &pictures, &vec![2; rows.len()])?;
    column::<ByteArrayType>(&mut group, &paths, &vec![2; rows.len()])?;
    texts(&mut group, rows, |row| Some(bytes(&row.text)))?;
    texts(&mut group, rows, |row| Some(bytes(&row.sha256.to_string())))?;
    texts(&mut group, rows, |row| Some(bytes(&row.device)))?;
    texts(&mut group, rows, |row| row.day.as_deref().map(bytes))?;
    texts(&mut group, rows, |row| Some(bytes(row.source)))?;
    values::<FloatType>(&mut group, rows, |row| row.itm)?;
    values::<FloatType>(&mut group, rows, |row| row.itc)?;
    texts(&mut group, rows, |_| Some(bytes("kept")))?;
    texts(&mut group, rows, |row| Some(bytes(row.word.name())))?;
    group.close().map(drop)
}

fn bytes(text: &str) -> ByteArray {
    text.as_bytes().to_vec().into()
}

type GroupWriter<'w> = SerializedRowGroupWriter<'w, Hashed>;

fn texts(
    group: &mut GroupWriter<'_>,
    rows: &[(Row, ByteArray)],
    value: impl Fn(&Row) -> Option<ByteArray>,
) -> Result<(), ParquetError> {
    values::<ByteArrayType>(group, rows, value)
}

fn values<T: DataType>(
    group: &mut GroupWriter<'_>,
    rows: &[(Row, ByteArray)],
    value: impl Fn(&Row) -> Option<T::T>,
) -> Result<(), ParquetError> {
    let all: Vec<Option<T::T>> = rows.iter().map(|(row, _)| value(row)).collect();
    let levels: Vec<i16> = all.iter().map(|value| i16::from(value.is_some())).collect();
    let there: Vec<T::T> = all.into_iter().flatten().collect();
    column::<T>(group, &there, &levels)
}

fn column<T: DataType>(group: &mut GroupWriter<'_>, values: &[T::T], levels: &[i16]) -> Result<(), ParquetError> {
    let Some(mut column) = group.next_column()? else { return Ok(()) };
    column.typed::<T>().write_batch(values, Some(levels), None)?;
    column.close()
}
