//! A snapshot's files: `state.json` says what `state.safetensors` must be.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use checkpoint::safetensors::{HeaderEntry, LENGTH_BYTES, MAX_HEADER_BYTES, parse_header};
use checkpoint::tensor::Dtype;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{Facts, Snapshot, SnapshotError, Vector};
use crate::weights::hex;

/// What a snapshot calls itself.
const FORMAT: &str = "edgeblip-trainer snapshot";
/// Version of the format.
pub const VERSION: u32 = 1;
/// Longest `state.json`, in bytes.
const MAX_STATE_BYTES: u64 = 1 << 20;
/// The facts.
pub const STATE: &str = "state.json";
/// The vectors.
pub const VECTORS: &str = "state.safetensors";
/// Bytes that are read at a time.
const AT_A_TIME: usize = 1 << 16;

/// What every version's `state.json` has.
#[derive(Deserialize)]
struct Head {
    format: String,
    version: u32,
}

/// `state.json`.
#[derive(Serialize, Deserialize)]
struct State {
    format: String,
    version: u32,
    /// SHA-256 of `body` as compact JSON.
    sha256: String,
    body: serde_json::Value,
}

/// What `state.json` vouches for.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Body {
    pub facts: Facts,
    pub vectors: VectorsFile,
}

/// What `state.safetensors` is.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VectorsFile {
    pub bytes: u64,
    pub sha256: String,
}

impl Body {
    /// `state.json`.
    pub fn to_json(&self) -> Vec<u8> {
        let body = serde_json::to_value(self).expect("words and whole numbers are JSON");
        let state = State { format: FORMAT.to_owned(), version: VERSION, sha256: sum(&body), body };
        let mut bytes = serde_json::to_vec_pretty(&state).expect("words and whole numbers are JSON");
        bytes.push(b'\n');
        bytes
    }
}

fn sum(body: &serde_json::Value) -> String {
    hex(&Sha256::digest(serde_json::to_vec(body).expect("what was read as JSON is JSON")))
}

/// Reads and checks a whole snapshot.
pub fn snapshot(folder: &Path) -> Result<Snapshot, SnapshotError> {
    let Body { facts, vectors: stated } = body(folder)?;
    let path = folder.join(VECTORS);
    let io = |source| SnapshotError::Io { path: path.clone(), source };
    let damaged = |reason: String| SnapshotError::Damaged { path: path.clone(), reason };
    let mut source = Summed { file: BufReader::new(File::open(&path).map_err(io)?), sum: Sha256::new() };
    let entries = source.entries(stated.bytes).map_err(io)?.map_err(&damaged)?;
    let mut vectors = BTreeMap::new();
    for entry in entries {
        let vector = source.vector(&entry).map_err(io)?;
        let vector = vector.ok_or_else(|| damaged(format!("{:?} is neither floats nor whole numbers", entry.name)))?;
        vectors.insert(entry.name, vector);
    }
    match hex(&source.sum.finalize()) == stated.sha256 {
        true => Ok(Snapshot { facts, vectors }),
        false => Err(damaged("its SHA-256 is not the one it was written with".to_owned())),
    }
}

/// Checks all but the values: what is cheap to know of a snapshot.
pub fn body(folder: &Path) -> Result<Body, SnapshotError> {
    let path = folder.join(STATE);
    let io = |path: &Path, source| SnapshotError::Io { path: path.to_owned(), source };
    let foreign = |reason: String| SnapshotError::Foreign { path: folder.to_owned(), reason };
    let metadata = std::fs::metadata(&path).map_err(|source| match source.kind() {
        std::io::ErrorKind::NotFound => foreign(format!("it has no {STATE}")),
        _ => io(&path, source),
    })?;
    if !metadata.is_file() || metadata.len() > MAX_STATE_BYTES {
        return Err(foreign(format!("its {STATE} is no file of at most {MAX_STATE_BYTES} bytes")));
    }
    let bytes = std::fs::read(&path).map_err(|source| io(&path, source))?;
    let no_json = |error: serde_json::Error| foreign(format!("{STATE}: {error}"));
    let head: Head = serde_json::from_slice(&bytes).map_err(no_json)?;
    if head.format != FORMAT || head.version == 0 {
        return Err(foreign(format!("its format is {:?}", terminal::printable(&head.format))));
    }
    if head.version > VERSION {
        return Err(SnapshotError::Newer { path: folder.to_owned(), found: head.version, known: VERSION });
    }
    let state: State = serde_json::from_slice(&bytes).map_err(no_json)?;
    let damaged = |path: &Path, reason| SnapshotError::Damaged { path: path.to_owned(), reason };
    if sum(&state.body) != state.sha256 {
        return Err(damaged(&path, "its SHA-256 is not the one it was written with".to_owned()));
    }
    let body: Body = serde_json::from_value(state.body).map_err(no_json)?;
    let path = folder.join(VECTORS);
    let length = std::fs::metadata(&path).map_err(|source| io(&path, source))?.len();
    match length == body.vectors.bytes {
        true => Ok(body),
        false => Err(damaged(&path, format!("it has {length} bytes, {} were written", body.vectors.bytes))),
    }
}

/// A file that is read from its start to its end, and summed.
struct Summed {
    file: BufReader<File>,
    sum: Sha256,
}

impl Summed {
    /// The header's entries, in the order of the file; in it, why they cannot be believed.
    fn entries(&mut self, length: u64) -> std::io::Result<Result<Vec<HeaderEntry>, String>> {
        let mut bytes = vec![0; LENGTH_BYTES];
        self.fill(&mut bytes)?;
        let stated = bytes.as_chunks::<LENGTH_BYTES>().0.first().map_or(0, |bytes| u64::from_le_bytes(*bytes));
        let header = stated.min(MAX_HEADER_BYTES as u64).min(length.saturating_sub(LENGTH_BYTES as u64));
        bytes.resize(LENGTH_BYTES + header as usize, 0);
        self.fill(&mut bytes[LENGTH_BYTES..])?;
        Ok(parse_header(&bytes, length).map_err(|error| error.to_string()))
    }

    /// The next vector; nothing where it is of another type. The header was found to agree with the file's length.
    fn vector(&mut self, entry: &HeaderEntry) -> std::io::Result<Option<Vector>> {
        Ok(match entry.dtype {
            Dtype::F32 => Some(Vector::Floats(self.values(entry, f32::from_le_bytes)?)),
            Dtype::U32 => Some(Vector::Numbers(self.values(entry, u32::from_le_bytes)?)),
            _ => None,
        })
    }

    fn values<T>(&mut self, entry: &HeaderEntry, value: impl Fn([u8; 4]) -> T) -> std::io::Result<Vec<T>> {
        let mut left = entry.length as usize;
        let mut values = Vec::with_capacity(left / 4);
        let mut bytes = vec![0; AT_A_TIME.min(left)];
        while left > 0 {
            let part = left.min(bytes.len());
            self.fill(&mut bytes[..part])?;
            values.extend(bytes[..part].as_chunks().0.iter().map(|bytes| value(*bytes)));
            left -= part;
        }
        Ok(values)
    }

    fn fill(&mut self, bytes: &mut [u8]) -> std::io::Result<()> {
        self.file.read_exact(bytes)?;
        self.sum.update(bytes);
        Ok(())
    }
}
