//! Files that were signed or are to be: roots, bundles.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use blip::manifest::{FileFacts, MANIFEST, MAX_MANIFEST_BYTES, Manifest};
use exchange::release::{DELEGATION, Delegation, ReleasedFile, Root, root_place};
use exchange::signed::{self, SignedError};
use exchange::{Digest, Statement, Trust};

use super::PublishError;

/// Most versions of a root, one after the other.
const MAX_ROOTS: u32 = 1024;

/// Follows the roots that were adopted, from the first to the last.
pub(super) fn believed(folder: &Path) -> Result<Option<Trust>, PublishError> {
    Ok(all_believed(folder)?.pop())
}

/// The serial of the last delegation that was adopted, whichever root has signed it; 0 if there is none.
pub(super) fn last_serial(folder: &Path) -> Result<u64, PublishError> {
    let Some(bytes) = read_known(&folder.join(DELEGATION), Delegation::MAX_BYTES)? else { return Ok(0) };
    let signed = |trust: &Trust| {
        let Root { keys, threshold, .. } = trust.root();
        signed::open_by_many::<Delegation>(&bytes, keys, usize::from(*threshold)).ok()
    };
    Ok(all_believed(folder)?.iter().find_map(signed).map_or(0, |delegation| delegation.serial))
}

/// What was believed, under each root.
fn all_believed(folder: &Path) -> Result<Vec<Trust>, PublishError> {
    let Ok(listed) = fs::read_dir(folder.join("releases/roots")) else { return Ok(Vec::new()) };
    let version = |name: OsString| name.to_str()?.strip_suffix(".json")?.parse::<u32>().ok();
    let Some(first) = listed.filter_map(|entry| version(entry.ok()?.file_name())).min() else { return Ok(Vec::new()) };
    let mut believed: Vec<Trust> = Vec::new();
    for version in first..first.saturating_add(MAX_ROOTS) {
        let path = folder.join(root_place(version));
        let Some(bytes) = read_known(&path, Root::MAX_BYTES)? else { break };
        believed.push(match believed.last() {
            None => first_root(&path, &bytes)?,
            Some(before) => {
                let mut trust = before.clone();
                trust.follow(&bytes).map_err(|source| PublishError::Statement { path, source })?;
                trust
            }
        });
    }
    Ok(believed)
}

/// The root that somebody brings in person: signed by itself.
pub(super) fn first_root(path: &Path, bytes: &[u8]) -> Result<Trust, PublishError> {
    let root = read_root(bytes).map_err(|source| PublishError::Signed { path: path.to_owned(), source })?;
    Trust::new(root).map_err(|source| PublishError::Statement { path: path.to_owned(), source })
}

/// A root by its own keys, as whoever brings it shows it.
///
/// # Errors
/// Bytes that are no root.
pub fn read_root(bytes: &[u8]) -> Result<Root, SignedError> {
    signed::open_by_its_own_many(bytes, |root: &Root| (root.keys.clone(), usize::from(root.threshold)))
}

/// The bundle's id, and its files with what the manifest says of them.
pub(super) fn bundle_files(bundle: &Path) -> Result<(Digest, BTreeMap<String, ReleasedFile>), PublishError> {
    let path = bundle.join(MANIFEST);
    let bytes = read(&path, MAX_MANIFEST_BYTES)?;
    let manifest =
        Manifest::from_json(&bytes).map_err(|source| PublishError::Manifest { path: path.clone(), source })?;
    let id = Digest::of(&bytes);
    let mut files = BTreeMap::from([(MANIFEST.to_owned(), ReleasedFile { sha256: id, bytes: bytes.len() as u64 })]);
    for (name, FileFacts { bytes, sha256 }) in &manifest.files {
        let path = bundle.join(name);
        let hashed = File::open(&path).and_then(Digest::of_all);
        let (found, length) = hashed.map_err(|source| PublishError::System { path: path.clone(), source })?;
        if found.to_string() != *sha256 || length != *bytes {
            return Err(PublishError::Damaged { path });
        }
        files.insert(name.clone(), ReleasedFile { sha256: found, bytes: length });
    }
    Ok((id, files))
}

/// A file of at most so many bytes.
pub(super) fn read(path: &Path, most: usize) -> Result<Vec<u8>, PublishError> {
    let fault = |source| PublishError::System { path: path.to_owned(), source };
    read_known(path, most)?.ok_or_else(|| fault(io::ErrorKind::NotFound.into()))
}

pub(super) fn read_known(path: &Path, most: usize) -> Result<Option<Vec<u8>>, PublishError> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(most as u64 + 1).read_to_end(&mut bytes));
    match read {
        Ok(_) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(PublishError::System { path: path.to_owned(), source }),
    }
}
