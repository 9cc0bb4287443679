//! Writes a safetensors file, value by value, to the disk itself.
//!
//! Source: the format's description, <https://github.com/huggingface/safetensors#format>.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};
use sha2::{Digest, Sha256};

use dataset::disk::DiskError;

/// Values of a tensor, and so how they are stored.
#[derive(Clone, Copy, Debug)]
pub enum Values<'a> {
    /// Single precision.
    Floats(&'a [f32]),
    /// Unsigned, 32 bits.
    Numbers(&'a [u32]),
}

impl Values<'_> {
    fn length(&self) -> usize {
        match self {
            Values::Floats(values) => values.len(),
            Values::Numbers(values) => values.len(),
        }
    }

    fn dtype(&self) -> &'static str {
        match self {
            Values::Floats(_) => "F32",
            Values::Numbers(_) => "U32",
        }
    }
}

/// Bytes of one value of either kind.
const WIDTH: usize = 4;
/// Values that are turned into bytes at a time.
const AT_A_TIME: usize = 1 << 14;

/// A tensor that a file will have.
pub struct Planned<'a> {
    /// Its name in the file.
    pub name: &'a str,
    /// Length of each axis.
    pub shape: &'a [usize],
    /// Its values; as many as the shape says.
    pub values: Values<'a>,
}

/// Writes files and takes the sum of what it wrote.
pub struct TensorWriter {
    path: PathBuf,
    file: BufWriter<File>,
    sum: Sha256,
    length: u64,
}

/// What a file has become.
pub struct Written {
    /// Bytes.
    pub length: u64,
    /// SHA-256, hexadecimal.
    pub sha256: String,
}

impl TensorWriter {
    /// Writes a whole file: the header, and the tensors in the order given. Sorted by name, as here, it is byte for byte
    /// what the `safetensors` library writes of the same tensors, where all are of one type.
    ///
    /// # Errors
    /// The system's refusal.
    pub fn write(path: &Path, tensors: &[Planned<'_>]) -> Result<Written, DiskError> {
        let failed = |source| DiskError::Io { path: path.to_owned(), source };
        let file = BufWriter::with_capacity(1 << 20, File::create(path).map_err(failed)?);
        let mut writer = TensorWriter { path: path.to_owned(), file, sum: Sha256::new(), length: 0 };
        writer.put(&header(tensors))?;
        for tensor in tensors {
            match tensor.values {
                Values::Floats(values) => writer.values(values, |value| value.to_le_bytes())?,
                Values::Numbers(values) => writer.values(values, |value| value.to_le_bytes())?,
            }
        }
        writer.finish()
    }

    fn values<T: Copy>(&mut self, values: &[T], bytes: impl Fn(T) -> [u8; WIDTH]) -> Result<(), DiskError> {
        let mut part = Vec::with_capacity(AT_A_TIME * WIDTH);
        for values in values.chunks(AT_A_TIME) {
            part.clear();
            values.iter().for_each(|value| part.extend_from_slice(&bytes(*value)));
            self.put(&part)?;
        }
        Ok(())
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), DiskError> {
        self.sum.update(bytes);
        self.length += bytes.len() as u64;
        self.file.write_all(bytes).map_err(|source| DiskError::Io { path: self.path.clone(), source })
    }

    fn finish(self) -> Result<Written, DiskError> {
        let TensorWriter { path, file, sum, length } = self;
        let synced = file.into_inner().map_err(std::io::IntoInnerError::into_error).and_then(|file| file.sync_all());
        synced.map_err(|source| DiskError::Io { path, source })?;
        Ok(Written { length, sha256: hex(&sum.finalize()) })
    }
}

/// Bytes as people compare them.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Length, JSON, and blanks up to a multiple of eight bytes.
fn header(tensors: &[Planned<'_>]) -> Vec<u8> {
    let mut json = serde_json::to_vec(&Header(tensors)).expect("names and numbers are JSON");
    json.resize(json.len().next_multiple_of(8), b' ');
    let mut bytes = (json.len() as u64).to_le_bytes().to_vec();
    bytes.extend(json);
    bytes
}

struct Header<'a>(&'a [Planned<'a>]);

#[derive(Serialize)]
struct HeaderEntry<'a> {
    dtype: &'static str,
    shape: &'a [usize],
    data_offsets: [u64; 2],
}

#[derive(Serialize)]
struct Metadata {
    format: &'static str,
}

impl Serialize for Header<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("__metadata__", &Metadata { format: "pt" })?;
        let mut start = 0;
        for Planned { name, shape, values } in self.0 {
            debug_assert_eq!(shape.iter().product::<usize>(), values.length(), "{name}");
            let end = start + (values.length() * WIDTH) as u64;
            map.serialize_entry(name, &HeaderEntry { dtype: values.dtype(), shape, data_offsets: [start, end] })?;
            start = end;
        }
        map.end()
    }
}
