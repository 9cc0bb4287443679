//! Files of a dataset, on this machine or behind a URL: listed, measured, and read in parts.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use object_store::ObjectStoreExt;
use object_store::path::Path as ObjectPath;
use tokio::runtime::Runtime;
use url::Url;

use super::format::expanded;
use super::{DatasetError, MAX_ENTRIES};

/// Deepest folder below a dataset; links that lead back up end there.
const MAX_DEPTH: usize = 16;
/// Most files in a folder: a picture, a text and a json for each entry.
const MAX_FILES: usize = 3 * MAX_ENTRIES;
/// What is read at once of a local file that is skipped through, in bytes.
const LOCAL_WINDOW: u64 = 16 << 10;
/// The same of a remote file, where asking again costs more than reading on.
const REMOTE_WINDOW: u64 = 1 << 20;

/// A folder, or a prefix in an object store.
#[derive(Debug)]
pub(super) enum Source {
    Local(PathBuf),
    Remote(Remote),
}

/// A prefix in an object store, with the runtime that drives it.
pub(super) struct Remote {
    name: String,
    store: Box<dyn object_store::ObjectStore>,
    prefix: ObjectPath,
    runtime: Runtime,
}

/// A place that a user named: a folder, or some files in one.
pub(super) struct Location {
    /// As the user wrote it.
    pub(super) name: String,
    pub(super) folder: Arc<Source>,
    /// The files that were named; none where the folder was.
    pub(super) files: Vec<String>,
}

/// A file in a folder or in an object store.
#[derive(Clone, Debug)]
pub(super) struct SourceFile {
    pub(super) folder: Arc<Source>,
    pub(super) name: String,
    pub(super) length: u64,
}

/// Finds a place. Nothing is read but what says whether a local path is a file.
pub(super) fn locate(location: &str) -> Result<Location, DatasetError> {
    let unknown = |reason: String| DatasetError::Unknown { location: location.to_owned(), reason };
    let Some((scheme, _)) = location.split_once("://") else {
        return locate_local(location, Path::new(location));
    };
    if scheme == "file" {
        let path = Url::parse(location).ok().and_then(|url| url.to_file_path().ok());
        let path = path.ok_or_else(|| unknown("is not a URL of a local path: write file:///folder/name".to_owned()))?;
        return locate_local(location, &path);
    }
    let (parent, last) = location.rsplit_once('/').unwrap_or((location, ""));
    let is_file = last.rsplit_once('.').is_some_and(|(_, ending)| FILE_ENDINGS.contains(&ending));
    let (base, files) = if is_file { (parent, expanded(last).map_err(unknown)?) } else { (location, Vec::new()) };
    Ok(Location { name: location.to_owned(), folder: Arc::new(Source::Remote(Remote::open(base)?)), files })
}

/// What a URL of a file, and not of a folder, ends with.
const FILE_ENDINGS: [&str; 5] = ["json", "jsonl", "tar", "parquet", "gz"];

fn locate_local(location: &str, path: &Path) -> Result<Location, DatasetError> {
    let found = |folder: &Path, files| Location {
        name: location.to_owned(),
        folder: Arc::new(Source::Local(folder.to_owned())),
        files,
    };
    if path.is_dir() {
        return Ok(found(path, Vec::new()));
    }
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let unknown = |reason: String| DatasetError::Unknown { location: location.to_owned(), reason };
    let files = expanded(name).map_err(unknown)?;
    if let Some(missing) = files.iter().map(|file| parent.join(file)).find(|file| !file.is_file()) {
        let reason = "is not there, or is neither a file nor a folder".to_owned();
        return Err(DatasetError::Read { file: missing.display().to_string(), reason });
    }
    Ok(found(parent, files))
}

impl Location {
    /// The named file, with its size.
    pub(super) fn file(&self, name: &str) -> Result<SourceFile, DatasetError> {
        let length = self.folder.size(name)?;
        Ok(SourceFile { folder: self.folder.clone(), name: name.to_owned(), length })
    }
}

impl Source {
    /// Opens another folder of the same user's choice.
    pub(super) fn folder(location: &str) -> Result<Source, DatasetError> {
        match location.split_once("://") {
            None => Ok(Source::Local(PathBuf::from(location))),
            Some(("file", _)) => {
                let path = Url::parse(location).ok().and_then(|url| url.to_file_path().ok());
                let reason = "is not a URL of a local path: write file:///folder".to_owned();
                let unknown = DatasetError::Unknown { location: location.to_owned(), reason };
                path.map(Source::Local).ok_or(unknown)
            }
            Some(_) => Ok(Source::Remote(Remote::open(location)?)),
        }
    }

    /// A file's full name, for messages.
    pub(super) fn shown(&self, name: &str) -> String {
        match self {
            Source::Local(folder) => terminal::shown(&folder.join(name)),
            Source::Remote(remote) => terminal::printable(&format!("{}/{name}", remote.name)),
        }
    }

    /// A picture's name as a json gives it, relative to this folder; `None` where it leads out of it.
    pub(super) fn inside(&self, name: &str) -> Option<String> {
        let mut path = Path::new(name);
        if let (Source::Local(folder), true) = (self, path.is_absolute()) {
            path = path.strip_prefix(folder).ok()?;
        }
        let parts = path.components().filter(|part| *part != Component::CurDir);
        let parts = parts.map(|part| if let Component::Normal(part) = part { part.to_str() } else { None });
        let parts: Option<Vec<&str>> = parts.collect();
        parts.filter(|parts| !parts.is_empty()).map(|parts| parts.join("/"))
    }

    /// All files below it, with their sizes, by name.
    pub(super) fn list(&self) -> Result<Vec<(String, u64)>, DatasetError> {
        let mut files = Vec::new();
        match self {
            Source::Local(folder) => list_local(folder, &mut files)?,
            Source::Remote(remote) => remote.list(&mut files)?,
        }
        files.sort();
        Ok(files)
    }

    /// Bytes in a file.
    pub(super) fn size(&self, name: &str) -> Result<u64, DatasetError> {
        let fault = |reason: String| DatasetError::Read { file: self.shown(name), reason };
        match self {
            Source::Local(folder) => {
                let metadata = folder.join(name).metadata().map_err(|error| fault(error.to_string()))?;
                if !metadata.is_file() {
                    return Err(fault("it is not a file".to_owned()));
                }
                Ok(metadata.len())
            }
            Source::Remote(remote) => {
                let head = remote.runtime.block_on(remote.store.head(&remote.path(name)));
                Ok(head.map_err(|error| fault(error.to_string()))?.size)
            }
        }
    }

    /// A whole file of at most `limit` bytes.
    pub(super) fn read(&self, name: &str, limit: u64) -> Result<Vec<u8>, DatasetError> {
        let length = self.size(name)?;
        if length > limit {
            return Err(DatasetError::TooLarge { file: self.shown(name), limit, unit: "bytes" });
        }
        self.read_part(name, 0, length)
    }

    fn read_part(&self, name: &str, start: u64, length: u64) -> Result<Vec<u8>, DatasetError> {
        let fault = |reason: String| DatasetError::Read { file: self.shown(name), reason };
        match self {
            Source::Local(folder) => {
                let read = || -> io::Result<Vec<u8>> {
                    let mut file = File::open(folder.join(name))?;
                    file.seek(SeekFrom::Start(start))?;
                    let mut bytes = vec![0; length as usize];
                    file.read_exact(&mut bytes)?;
                    Ok(bytes)
                };
                read().map_err(|error| fault(error.to_string()))
            }
            Source::Remote(_) if length == 0 => Ok(Vec::new()),
            Source::Remote(remote) => {
                let range = start..start + length;
                let part = remote.runtime.block_on(remote.store.get_range(&remote.path(name), range));
                let part = part.map_err(|error| fault(error.to_string()))?;
                if part.len() as u64 != length {
                    return Err(fault(format!("{} bytes came instead of {length}", part.len())));
                }
                Ok(part.to_vec())
            }
        }
    }
}

fn list_local(root: &Path, files: &mut Vec<(String, u64)>) -> Result<(), DatasetError> {
    let mut folders = vec![(root.to_owned(), String::new(), 0)];
    while let Some((folder, prefix, depth)) = folders.pop() {
        let fault = |error: io::Error| DatasetError::Read { file: terminal::shown(&folder), reason: error.to_string() };
        for item in folder.read_dir().map_err(fault)? {
            let path = item.map_err(fault)?.path();
            let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
            let Ok(metadata) = path.metadata() else { continue };
            let name = format!("{prefix}{name}");
            if metadata.is_dir() && depth < MAX_DEPTH {
                folders.push((path, format!("{name}/"), depth + 1));
            } else if metadata.is_file() {
                files.push((name, metadata.len()));
            }
            check_count(files.len(), || terminal::shown(root))?;
        }
    }
    Ok(())
}

fn check_count(files: usize, file: impl FnOnce() -> String) -> Result<(), DatasetError> {
    if files > MAX_FILES {
        return Err(DatasetError::TooLarge { file: file(), limit: MAX_FILES as u64, unit: "files" });
    }
    Ok(())
}

impl Remote {
    fn open(location: &str) -> Result<Remote, DatasetError> {
        let unknown = |reason: String| DatasetError::Unknown { location: location.to_owned(), reason };
        let url = Url::parse(location).map_err(|error| unknown(format!("is not a URL ({error})")))?;
        if !cfg!(feature = "cloud") {
            return Err(DatasetError::NeedsCloud { location: location.to_owned() });
        }
        let (store, prefix) =
            object_store::parse_url_opts(&url, std::env::vars()).map_err(|error| unknown(error.to_string()))?;
        Remote::new(location, store, prefix)
    }

    /// A prefix in a store that is open.
    pub(super) fn new(
        location: &str,
        store: Box<dyn object_store::ObjectStore>,
        prefix: ObjectPath,
    ) -> Result<Remote, DatasetError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let fault = |error: io::Error| DatasetError::Read { file: location.to_owned(), reason: error.to_string() };
        let name = location.trim_end_matches('/').to_owned();
        Ok(Remote { name, store, prefix, runtime: runtime.map_err(fault)? })
    }

    fn path(&self, name: &str) -> ObjectPath {
        self.prefix.parts().chain(ObjectPath::from(name).parts().map(|part| part.as_ref().to_owned().into())).collect()
    }

    fn list(&self, files: &mut Vec<(String, u64)>) -> Result<(), DatasetError> {
        let mut folders = vec![self.prefix.clone()];
        while let Some(folder) = folders.pop() {
            let listed = self.runtime.block_on(self.store.list_with_delimiter(Some(&folder)));
            let fault = |error: object_store::Error| DatasetError::Read {
                file: self.name.clone(),
                reason: format!("it cannot be listed: {error}"),
            };
            let listed = listed.map_err(fault)?;
            folders.extend(listed.common_prefixes);
            for object in listed.objects {
                let parts = object.location.prefix_match(&self.prefix);
                let name = parts.map(|parts| parts.map(|part| part.as_ref().to_owned()).collect::<Vec<_>>().join("/"));
                files.extend(name.filter(|name| !name.is_empty()).map(|name| (name, object.size)));
            }
            check_count(files.len() + folders.len(), || self.name.clone())?;
        }
        Ok(())
    }
}

impl std::fmt::Debug for Remote {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.name)
    }
}

impl SourceFile {
    /// Its full name, for messages.
    pub(super) fn shown(&self) -> String {
        self.folder.shown(&self.name)
    }

    /// `length` bytes from `start`.
    pub(super) fn read(&self, start: u64, length: u64) -> Result<Vec<u8>, DatasetError> {
        if start.checked_add(length).is_none_or(|end| end > self.length) {
            let reason = format!("byte {start} and {length} more lie beyond its end");
            return Err(DatasetError::Damaged { file: self.shown(), reason });
        }
        self.folder.read_part(&self.name, start, length)
    }

    /// Reads it from `start` on, in windows.
    pub(super) fn reader(&self, start: u64) -> Window {
        let window = if matches!(*self.folder, Source::Local(_)) { LOCAL_WINDOW } else { REMOTE_WINDOW };
        Window { file: self.clone(), window, position: start, start: 0, bytes: Vec::new() }
    }
}

/// A file that is read from front to back, a window at once, and may be skipped through.
pub(super) struct Window {
    file: SourceFile,
    window: u64,
    position: u64,
    /// Where `bytes` begin.
    start: u64,
    bytes: Vec<u8>,
}

impl Read for Window {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let is_held = self.position >= self.start && self.position < self.start + self.bytes.len() as u64;
        if !is_held {
            let length = self.window.min(self.file.length.saturating_sub(self.position));
            self.bytes = if length == 0 {
                Vec::new()
            } else {
                self.file.read(self.position, length).map_err(io::Error::other)?
            };
            self.start = self.position;
        }
        let held = &self.bytes[(self.position - self.start) as usize..];
        let count = held.len().min(buffer.len());
        buffer[..count].copy_from_slice(&held[..count]);
        self.position += count as u64;
        Ok(count)
    }
}

impl Seek for Window {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let (base, offset) = match to {
            SeekFrom::Start(position) => (position, 0),
            SeekFrom::Current(offset) => (self.position, offset),
            SeekFrom::End(offset) => (self.file.length, offset),
        };
        let outside = || io::Error::new(io::ErrorKind::InvalidInput, "a position before the start or beyond 2^64");
        self.position = base.checked_add_signed(offset).ok_or_else(outside)?;
        Ok(self.position)
    }
}
