//! Files that `torch.save` wrote: a zip archive, or since before 1.6 a run of pickles and storages.
//!
//! Source: PyTorch `torch/serialization.py`, `_save` and `_legacy_save`.

use crate::archive;
use crate::error::CheckpointError;
use crate::file::SourceFile;
use crate::pickle::{self, Pickle, StorageDescription, Value, ValueId};
use crate::tensor::{Storage, StoredTensor};
use std::collections::BTreeMap;
use std::path::Path;

/// The number that a legacy file starts with, lowest byte first.
const MAGIC_NUMBER: [u8; 10] = [0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];
const PROTOCOL_VERSION: i64 = 1001;

/// The tensors of the state dict in a file: the one under `"model"`, or the whole file.
pub(crate) fn tensors(path: &Path, file: usize) -> Result<BTreeMap<String, StoredTensor>, CheckpointError> {
    let mut source = SourceFile::open(path)?;
    let start = source.read_first(4)?;
    match start.as_slice() {
        b"PK\x03\x04" => from_archive(&mut source, file),
        [0x80, ..] => from_legacy(&mut source, file),
        _ => Err(unsupported(&source, "is neither a zip archive nor a pickle as torch.save writes them")),
    }
}

fn from_archive(source: &mut SourceFile, file: usize) -> Result<BTreeMap<String, StoredTensor>, CheckpointError> {
    let entries = archive::entries(&mut source.file, source.length)
        .map_err(|error| CheckpointError::Archive { file: source.path.clone(), source: error })?;
    let prefix = entries.keys().find_map(|name| name.strip_suffix("data.pkl").filter(|prefix| prefix.ends_with('/')));
    let prefix = prefix.ok_or_else(|| unsupported(source, "is a zip archive without a data.pkl: not of torch.save"))?;
    if let Some(order) = entries.get(&format!("{prefix}byteorder")) {
        let order = source.read(order.start, order.length.min(16) as usize)?;
        if order != b"little" {
            return Err(unsupported(
                source,
                "is written in big-endian order: save it again on a little-endian machine",
            ));
        }
    }
    let entry = entries[&format!("{prefix}data.pkl")];
    if entry.length > pickle::MAX_BYTES as u64 {
        let most = pickle::MAX_BYTES as u64;
        return Err(CheckpointError::TooLarge { file: source.path.clone(), bytes: entry.length, most });
    }
    let bytes = source.read(entry.start, entry.length as usize)?;
    let pickle = parse(source, &bytes)?;
    let place = |storage: &StorageDescription<'_>| {
        let entry = entries.get(&format!("{prefix}data/{}", storage.key))?;
        Some(Storage { file, start: entry.start, length: entry.length })
    };
    state_dict(source, &pickle, place)
}

fn from_legacy(source: &mut SourceFile, file: usize) -> Result<BTreeMap<String, StoredTensor>, CheckpointError> {
    let bytes = source.read_first(pickle::MAX_BYTES as u64)?;
    let mut next = 0;
    let mut following = || -> Result<Pickle<'_>, CheckpointError> {
        let pickle = parse(source, bytes.get(next..).unwrap_or_default())?;
        next += pickle.length();
        Ok(pickle)
    };
    let magic = following()?;
    if *magic.value(magic.root()) != Value::LongInt(&MAGIC_NUMBER) {
        return Err(unsupported(source, "is a pickle, but not one of torch.save"));
    }
    let (protocol, system, object, keys) = (following()?, following()?, following()?, following()?);
    if *protocol.value(protocol.root()) != Value::Int(PROTOCOL_VERSION) {
        return Err(unsupported(source, "is of another protocol version than torch.save's 1001"));
    }
    let little = system.get(system.root(), "little_endian").map(|id| system.value(id));
    if little != Some(&Value::Bool(true)) {
        return Err(unsupported(source, "is written in big-endian order: save it again on a little-endian machine"));
    }
    let start = next as u64;
    let places = legacy_storages(source, &object, &keys, start, file)?;
    state_dict(source, &object, |storage| places.get(storage.key).copied())
}

/// Where each storage lies: in the order of `keys`, each after its number of elements.
fn legacy_storages(
    source: &mut SourceFile,
    object: &Pickle<'_>,
    keys: &Pickle<'_>,
    start: u64,
    file: usize,
) -> Result<BTreeMap<String, Storage>, CheckpointError> {
    let described: BTreeMap<_, _> = object.storages().iter().map(|storage| (storage.key, storage)).collect();
    let mut places = BTreeMap::new();
    let mut at = start;
    for key in keys.items(keys.root()).unwrap_or_default() {
        let storage = keys.text(*key).and_then(|key| described.get(key).copied());
        let storage = storage.ok_or_else(|| unsupported(source, "lists a storage that no tensor is in"))?;
        let begin = at.checked_add(8).filter(|begin| *begin <= source.length);
        let begin = begin.ok_or_else(|| unsupported(source, "is cut off: its storages are not all there"))?;
        let counted = source.read(at, 8)?.first_chunk().map(|bytes| u64::from_le_bytes(*bytes));
        let length = storage.count.checked_mul(storage.dtype.width() as u64);
        let end = length.and_then(|length| begin.checked_add(length)).filter(|end| *end <= source.length);
        let (Some(end), true) = (end, counted == Some(storage.count)) else {
            return Err(unsupported(source, &format!("is cut off or broken at storage {:?}", storage.key)));
        };
        if places.insert(storage.key.to_owned(), Storage { file, start: begin, length: end - begin }).is_some() {
            return Err(unsupported(source, &format!("has storage {:?} twice", storage.key)));
        }
        at = end;
    }
    Ok(places)
}

fn state_dict(
    source: &SourceFile,
    pickle: &Pickle<'_>,
    place: impl Fn(&StorageDescription<'_>) -> Option<Storage>,
) -> Result<BTreeMap<String, StoredTensor>, CheckpointError> {
    let nested = pickle.get(pickle.root(), "model").filter(|id| pickle.entries(*id).is_some());
    let entries = pickle.entries(nested.unwrap_or(pickle.root()));
    let entries = entries.filter(|entries| !entries.is_empty());
    let entries = entries.ok_or_else(|| unsupported(source, "has no state dict"))?;
    let mut tensors = BTreeMap::new();
    for (name, value) in entries {
        let name =
            pickle.text(*name).ok_or_else(|| unsupported(source, "has a state dict whose keys are not names"))?;
        let tensor = stored(pickle, *value, &place).map_err(|reason| CheckpointError::Values {
            file: source.path.clone(),
            tensor: name.to_owned(),
            reason,
        })?;
        if tensors.insert(name.to_owned(), tensor).is_some() {
            return Err(unsupported(source, &format!("has tensor {name:?} twice")));
        }
    }
    Ok(tensors)
}

fn stored(
    pickle: &Pickle<'_>,
    id: ValueId,
    place: &impl Fn(&StorageDescription<'_>) -> Option<Storage>,
) -> Result<StoredTensor, String> {
    let tensor = pickle.tensor(id).ok_or("is not a tensor: this is no state dict")?;
    let description = &tensor.storage;
    let mut storage =
        place(description).ok_or_else(|| format!("is in storage {:?}, which is missing", description.key))?;
    let length = description.count.checked_mul(description.dtype.width() as u64);
    storage.length = length.filter(|length| *length <= storage.length).ok_or_else(|| {
        format!("is in storage {:?} of {} elements, which is cut off", description.key, description.count)
    })?;
    let (shape, strides) = (tensor.shape.clone(), tensor.strides.clone());
    StoredTensor::new(description.dtype, shape, Some(strides), tensor.offset, storage)
        .map_err(|reason| format!("cannot be read: {reason}"))
}

fn parse<'a>(source: &SourceFile, bytes: &'a [u8]) -> Result<Pickle<'a>, CheckpointError> {
    pickle::parse(bytes).map_err(|error| CheckpointError::Pickle { file: source.path.clone(), source: error })
}

fn unsupported(source: &SourceFile, reason: &str) -> CheckpointError {
    CheckpointError::Unsupported { file: source.path.clone(), reason: reason.to_owned() }
}
