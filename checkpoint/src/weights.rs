//! Every tensor of a checkpoint by its name in the file, whatever the files are.

use crate::error::CheckpointError;
use crate::file::{SourceFile, read_json};
use crate::safetensors::{self, LENGTH_BYTES, MAX_HEADER_BYTES};
use crate::tensor::{Storage, StoredTensor, Tensor};
use crate::torch;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

/// Longest index of a sharded checkpoint, in bytes.
pub const MAX_INDEX_BYTES: u64 = 4 << 20;
/// Most shards.
pub const MAX_SHARDS: usize = 256;

/// Tensors of any model, by their names in the file: safetensors, whole or in shards, or PyTorch's formats.
pub struct TensorFile(Weights);

impl TensorFile {
    /// Opens a file, or the weights of a Hugging Face folder.
    ///
    /// # Errors
    /// A file that cannot be read or is not what it should be.
    pub fn open(path: &Path) -> Result<TensorFile, CheckpointError> {
        let weights = if path.is_dir() { Weights::of_folder(path)? } else { Weights::of_file(path)? };
        Ok(TensorFile(weights))
    }

    /// Names and shapes, by name.
    pub fn names(&self) -> impl Iterator<Item = (&str, &[usize])> {
        self.0.tensors.iter().map(|(name, tensor)| (name.as_str(), tensor.shape.as_slice()))
    }

    /// The shape of a tensor, where there is one of this name.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.0.tensors.get(name).map(|tensor| tensor.shape.as_slice())
    }

    /// Reads a tensor.
    ///
    /// # Errors
    /// A name that is not there, a file that cannot be read, a value that is not finite or no number.
    pub fn tensor(&self, name: &str) -> Result<Tensor, CheckpointError> {
        let values = self.0.values(name)?;
        Ok(Tensor { shape: self.0.tensors[name].shape.clone(), values })
    }
}

/// The tensors, and the files in which they lie.
pub(crate) struct Weights {
    /// The file that a person would look into first: the only one, or the index.
    pub named_by: PathBuf,
    pub files: Vec<PathBuf>,
    pub tensors: BTreeMap<String, StoredTensor>,
}

#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

impl Weights {
    /// The tensors of a Hugging Face folder: safetensors if it has any, else PyTorch files.
    pub fn of_folder(folder: &Path) -> Result<Weights, CheckpointError> {
        for name in ["model.safetensors", "pytorch_model.bin"] {
            let (whole, index) = (folder.join(name), folder.join(format!("{name}.index.json")));
            if whole.exists() {
                return Weights::of_file(&whole);
            }
            if index.exists() {
                return Weights::of_index(folder, index);
            }
        }
        let reason = "has neither model.safetensors nor pytorch_model.bin, whole or with an index".to_owned();
        Err(CheckpointError::Unsupported { file: folder.to_owned(), reason })
    }

    /// The tensors of one file.
    pub fn of_file(path: &Path) -> Result<Weights, CheckpointError> {
        let tensors = tensors(path, 0)?;
        Ok(Weights { named_by: path.to_owned(), files: vec![path.to_owned()], tensors })
    }

    fn of_index(folder: &Path, index: PathBuf) -> Result<Weights, CheckpointError> {
        let unsupported = |reason| CheckpointError::Unsupported { file: index.clone(), reason };
        let Index { weight_map } = read_json(&index, MAX_INDEX_BYTES)?;
        let shards: BTreeSet<&String> = weight_map.values().collect();
        if shards.len() > MAX_SHARDS {
            return Err(unsupported(format!("names {} files, at most {MAX_SHARDS} are read", shards.len())));
        }
        let mut files = Vec::new();
        let mut all = BTreeMap::new();
        for shard in shards {
            let mut components = Path::new(shard).components();
            if !matches!((components.next(), components.next()), (Some(Component::Normal(_)), None)) {
                return Err(unsupported(format!("names {shard:?}, which is not a file beside it")));
            }
            let path = folder.join(shard);
            for (name, tensor) in tensors(&path, files.len())? {
                if weight_map.get(&name) != Some(shard) {
                    return Err(unsupported(format!("does not say that tensor {name:?} is in {shard:?}, where it is")));
                }
                all.insert(name, tensor);
            }
            files.push(path);
        }
        match weight_map.keys().find(|name| !all.contains_key(*name)) {
            Some(name) => {
                Err(unsupported(format!("says that tensor {name:?} is in {:?}: it is not", weight_map[name])))
            }
            None => Ok(Weights { named_by: index, files, tensors: all }),
        }
    }

    /// The values of a tensor, row-major.
    pub fn values(&self, name: &str) -> Result<Vec<f32>, CheckpointError> {
        let Some(stored) = self.tensors.get(name) else { return Err(CheckpointError::NoSuchTensor(name.to_owned())) };
        let path = &self.files[stored.file];
        let refused = |reason: String| CheckpointError::Values { file: path.clone(), tensor: name.to_owned(), reason };
        let bytes = SourceFile::open(path)?.read(stored.start, stored.span)?;
        let span = stored.dtype.decode(&bytes);
        let span = span.ok_or_else(|| refused(format!("is stored as {:?}, which is no weight", stored.dtype)))?;
        let values = stored.gather(span);
        match values.iter().position(|value| !value.is_finite()) {
            Some(at) => Err(refused(format!("has {} at element {at}: the checkpoint is damaged", values[at]))),
            None => Ok(values),
        }
    }
}

fn tensors(path: &Path, file: usize) -> Result<BTreeMap<String, StoredTensor>, CheckpointError> {
    match path.extension().is_some_and(|extension| extension == "safetensors") {
        true => safetensors_file(path, file),
        false => torch::tensors(path, file),
    }
}

fn safetensors_file(path: &Path, file: usize) -> Result<BTreeMap<String, StoredTensor>, CheckpointError> {
    let mut source = SourceFile::open(path)?;
    let bytes = source.read_first((LENGTH_BYTES + MAX_HEADER_BYTES) as u64)?;
    let entries = safetensors::parse_header(&bytes, source.length)
        .map_err(|error| CheckpointError::Safetensors { file: path.to_owned(), source: error })?;
    let stored = entries.into_iter().map(|entry| {
        let storage = Storage { file, start: entry.start, length: entry.length };
        match StoredTensor::new(entry.dtype, entry.shape, None, 0, storage) {
            Ok(tensor) => Ok((entry.name, tensor)),
            Err(reason) => Err(CheckpointError::Values {
                file: path.to_owned(),
                tensor: entry.name,
                reason: format!("cannot be read: {reason}"),
            }),
        }
    });
    stored.collect()
}
