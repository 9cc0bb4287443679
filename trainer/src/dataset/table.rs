//! Parquet with the pictures inside, as Hugging Face writes it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use bytes::Bytes;
use parquet::basic::Type as Physical;
use parquet::column::reader::ColumnReader;
use parquet::data_type::ByteArray;
use parquet::errors::ParquetError;
use parquet::file::metadata::ParquetMetaData;
use parquet::file::reader::{ChunkReader, FileReader, Length, RowGroupReader, SerializedFileReader};
use parquet::record::reader::RowIter;
use parquet::record::{Field, Row};
use parquet::schema::types::{Type, TypePtr};
use serde_json::{Map, Value};

use super::format::ending;
use super::index::Index;
use super::record::{Record, TEXT_FIELDS};
use super::source::{Location, SourceFile, Window};
use super::{DatasetError, MAX_JSON_BYTES, Place, max_picture_bytes};

/// The column of pictures.
const IMAGE: &str = "image";
/// Columns that are read beside the picture and its texts.
const FIELDS: [&str; 9] =
    ["origin", "score", "key", "truth", "image_id", "question", "question_id", "answer", "dataset"];
const EXPECTED: &str = "a table with a column \"image\" of bytes, or of a struct of \"bytes\" and \"path\"";

/// An open Parquet file.
pub(super) struct Table {
    file: SourceFile,
    reader: SerializedFileReader<SourceFile>,
    /// The place of the pictures' bytes among the leaf columns.
    column: usize,
}

/// Reads the files that were named, or all in the folder.
pub(super) fn read(location: &Location, index: &mut Index) -> Result<(), DatasetError> {
    let mut names = location.files.clone();
    if names.is_empty() {
        names = location.folder.list()?.into_iter().map(|(name, _)| name).collect();
        names.retain(|name| ending(name) == "parquet");
    }
    for name in names {
        let file = location.file(&name)?;
        guarded(&file, || Arc::new(Table::open(file.clone())?).read(index))?;
    }
    Ok(())
}

/// Runs a call into the Parquet reader, which panics on some damaged files: that is an error like any other.
fn guarded<T>(file: &SourceFile, call: impl FnOnce() -> Result<T, DatasetError>) -> Result<T, DatasetError> {
    catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|_| {
        let reason = "its pages contradict each other".to_owned();
        Err(DatasetError::Damaged { file: file.shown(), reason })
    })
}

impl Table {
    fn open(file: SourceFile) -> Result<Table, DatasetError> {
        let damaged = |error: ParquetError| fault(&file, &error);
        let reader = SerializedFileReader::new(file.clone()).map_err(damaged)?;
        let metadata = reader.metadata();
        let leaves = metadata.file_metadata().schema_descr().columns().iter();
        let is_bytes = |path: &[String]| path == [IMAGE] || path == [IMAGE, "bytes"];
        let found = leaves.enumerate().find(|(_, leaf)| is_bytes(leaf.path().parts()));
        let Some((column, _)) = found.filter(|(_, leaf)| leaf.physical_type() == Physical::BYTE_ARRAY) else {
            let fields = metadata.file_metadata().schema().get_fields();
            let names: Vec<&str> = fields.iter().map(|field| field.name()).take(20).collect();
            let reason = format!("its columns are {}", names.join(", "));
            return Err(DatasetError::Shape { file: file.shown(), expected: EXPECTED, reason });
        };
        check_sizes(&file, metadata, column)?;
        Ok(Table { file, reader, column })
    }

    fn read(self: Arc<Self>, index: &mut Index) -> Result<(), DatasetError> {
        let projection = self.texts();
        let mut first = 0;
        for group in 0..self.reader.num_row_groups() {
            let open = self.reader.get_row_group(group).map_err(|error| fault(&self.file, &error))?;
            let rows = usize::try_from(open.metadata().num_rows()).unwrap_or_default();
            match &projection {
                None => {
                    for row in 0..rows {
                        self.add(Map::new(), (group, row, first + row), index)?;
                    }
                }
                Some(projection) => self.read_group((group, first), (&*open, projection), index)?,
            }
            first += rows;
        }
        Ok(())
    }

    fn read_group(
        self: &Arc<Self>,
        (group, first): (usize, usize),
        (open, projection): (&dyn RowGroupReader, &Type),
        index: &mut Index,
    ) -> Result<(), DatasetError> {
        let rows =
            RowIter::from_row_group(Some(projection.clone()), open).map_err(|error| fault(&self.file, &error))?;
        for (row, fields) in rows.enumerate() {
            let fields = fields.map_err(|error| fault(&self.file, &error))?;
            match object(fields) {
                Ok(fields) => self.add(fields, (group, row, first + row), index)?,
                Err(reason) => index.skip(&self.row_name(first + row), &reason),
            }
        }
        Ok(())
    }

    fn add(
        self: &Arc<Self>,
        mut fields: Map<String, Value>,
        (group, row, number): (usize, usize, usize),
        index: &mut Index,
    ) -> Result<(), DatasetError> {
        let path = match fields.remove(IMAGE) {
            Some(Value::Object(mut image)) => image.remove("path"),
            _ => None,
        };
        let path = path.as_ref().and_then(Value::as_str).filter(|path| !path.is_empty()).map(str::to_owned);
        match Record::read(fields, index.origin) {
            Ok(mut record) => {
                let key = record.key.take().or(path).unwrap_or_else(|| format!("{}#{number}", self.file.name));
                index.add_apart(key, Place::Cell { table: self.clone(), group, row }, record)
            }
            Err(reason) => {
                index.skip(&self.row_name(number), &reason);
                Ok(())
            }
        }
    }

    fn row_name(&self, number: usize) -> String {
        format!("{}, row {number}", self.file.shown())
    }

    /// The schema of all that is read when the table is opened: not the pictures.
    fn texts(&self) -> Option<Type> {
        let root = self.reader.metadata().file_metadata().schema();
        let fields: Vec<TypePtr> = root.get_fields().iter().filter_map(projected).collect();
        let projection = Type::group_type_builder(root.name()).with_fields(fields.clone()).build().ok();
        projection.filter(|_| !fields.is_empty())
    }

    /// The bytes of a picture.
    pub(super) fn picture(&self, group: usize, row: usize) -> Result<Vec<u8>, DatasetError> {
        guarded(&self.file, || self.cell(group, row))
    }

    fn cell(&self, group: usize, row: usize) -> Result<Vec<u8>, DatasetError> {
        let damaged = |error: ParquetError| fault(&self.file, &error);
        let open = self.reader.get_row_group(group).map_err(damaged)?;
        let reader = open.get_column_reader(self.column).map_err(damaged)?;
        let missing = |reason: &str| {
            let reason = format!("row {row} of row group {group} {reason}");
            DatasetError::Read { file: self.file.shown(), reason }
        };
        let ColumnReader::ByteArrayColumnReader(mut reader) = reader else {
            return Err(missing("holds no bytes"));
        };
        reader.skip_records(row).map_err(damaged)?;
        let (mut levels, mut repeats, mut values) = (Vec::new(), Vec::new(), Vec::<ByteArray>::new());
        reader.read_records(1, Some(&mut levels), Some(&mut repeats), &mut values).map_err(damaged)?;
        let bytes = values.pop().ok_or_else(|| missing("has no picture"))?;
        if bytes.len() as u64 > max_picture_bytes() {
            let (file, limit) = (self.file.shown(), max_picture_bytes());
            return Err(DatasetError::TooLarge { file, limit, unit: "bytes in a picture" });
        }
        Ok(bytes.data().to_vec())
    }
}

impl std::fmt::Debug for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.file.shown())
    }
}

/// Columns of texts must fit in memory, and parts must lie within the file.
fn check_sizes(file: &SourceFile, metadata: &ParquetMetaData, picture: usize) -> Result<(), DatasetError> {
    let mut texts = 0_u64;
    for group in metadata.row_groups() {
        for (index, column) in group.columns().iter().enumerate() {
            let start = column.dictionary_page_offset().unwrap_or(column.data_page_offset());
            let end = start.checked_add(column.compressed_size()).and_then(|end| u64::try_from(end).ok());
            if start < 0 || end.is_none_or(|end| end > file.length) || group.num_rows() < 0 {
                let reason = "a column lies beyond its end".to_owned();
                return Err(DatasetError::Damaged { file: file.shown(), reason });
            }
            if index != picture {
                texts = texts.saturating_add(u64::try_from(column.uncompressed_size()).unwrap_or(u64::MAX));
            }
        }
    }
    if texts > MAX_JSON_BYTES {
        return Err(DatasetError::TooLarge { file: file.shown(), limit: MAX_JSON_BYTES, unit: "bytes of texts" });
    }
    Ok(())
}

/// A column as it is read at first; `None` for one that is not.
fn projected(field: &TypePtr) -> Option<TypePtr> {
    if field.name() != IMAGE {
        let is_read =
            TEXT_FIELDS.contains(&field.name()) || FIELDS.contains(&field.name()) || field.name() == "answers";
        return is_read.then(|| field.clone());
    }
    if !field.is_group() {
        return None;
    }
    let path = field.get_fields().iter().find(|part| part.name() == "path")?;
    let repetition = field.get_basic_info().repetition();
    let image = Type::group_type_builder(IMAGE).with_repetition(repetition).with_fields(vec![path.clone()]);
    image.build().ok().map(Arc::new)
}

fn object(row: Row) -> Result<Map<String, Value>, String> {
    row.into_columns().into_iter().map(|(name, field)| Ok((name, value(field)?))).collect()
}

fn value(field: Field) -> Result<Value, String> {
    Ok(match field {
        Field::Str(text) => Value::String(text),
        Field::Bytes(bytes) => match std::str::from_utf8(bytes.data()) {
            Ok(text) => Value::String(text.to_owned()),
            Err(_) => return Err("a text that is not UTF-8".to_owned()),
        },
        Field::Group(row) => Value::Object(object(row)?),
        Field::ListInternal(list) => {
            Value::Array(list.elements().iter().cloned().map(value).collect::<Result<Vec<_>, _>>()?)
        }
        Field::Byte(number) => number.into(),
        Field::Short(number) => number.into(),
        Field::Int(number) => number.into(),
        Field::Long(number) => number.into(),
        Field::UByte(number) => number.into(),
        Field::UShort(number) => number.into(),
        Field::UInt(number) => number.into(),
        Field::ULong(number) => number.into(),
        Field::Float(number) => number.into(),
        Field::Double(number) => number.into(),
        _ => Value::Null,
    })
}

fn fault(file: &SourceFile, error: &ParquetError) -> DatasetError {
    DatasetError::Damaged { file: file.shown(), reason: error.to_string() }
}

impl Length for SourceFile {
    fn len(&self) -> u64 {
        self.length
    }
}

impl ChunkReader for SourceFile {
    type T = Window;

    fn get_read(&self, start: u64) -> Result<Window, ParquetError> {
        Ok(self.reader(start))
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        let bytes = self.read(start, length as u64).map_err(|error| ParquetError::External(Box::new(error)))?;
        Ok(bytes.into())
    }
}
