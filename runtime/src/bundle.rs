//! A bundle, opened: every file checked against the manifest, weights mapped and not read.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use blip::manifest::{FileFacts, GOLDEN, MANIFEST, MAX_MANIFEST_BYTES, Manifest, ManifestError, TOKENIZER, WEIGHTS};
use blip::tokenizer::{Tokenizer, TokenizerError};
use sha2::{Digest, Sha256};

mod built_in;
mod cache;
mod interfaces;

use cache::Stamp;
pub use cache::{Cache, CacheEntry, CacheError};

/// Longest graph, tokenizer or golden file that is read, in bytes; weights have no such limit.
pub const MAX_FILE_BYTES: u64 = 64 << 20;

/// Bytes of the weights that are read at once.
const READ_BYTES: usize = 1 << 20;

/// A bundle that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// A file is missing or cannot be read.
    #[error("{}: {source}: is this a bundle made by edgeblip-export?", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The manifest is not one that this program reads.
    #[error("{}: {source}", path.display())]
    Manifest {
        /// The manifest.
        path: PathBuf,
        /// What is wrong with it.
        source: ManifestError,
    },
    /// A file differs from what the manifest says.
    #[error("{}: {what}: the bundle is damaged, copy or export it again", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// How it differs.
        what: String,
    },
    /// The tokenizer cannot be built.
    #[error("{}: {source}", path.display())]
    Tokenizer {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: TokenizerError,
    },
}

/// The bytes of `weights.bin`: in a file, or part of the program.
#[derive(Clone)]
pub enum WeightBytes {
    /// A file and its memory map.
    Mapped(Arc<MappedFile>),
    /// The bundle that is built in.
    BuiltIn(&'static [u8]),
}

/// A file that is mapped: a page comes in when it is used, and stays in memory.
pub struct MappedFile {
    map: memmap2::Mmap,
    file: File,
}

/// Bytes `start..start + length` of the weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Location {
    /// First byte.
    pub start: usize,
    /// Number of bytes.
    pub length: usize,
}

impl WeightBytes {
    /// The bytes at `location`, where they lie.
    ///
    /// # Panics
    /// If they lie beyond the end; the loader checks each location when it reads a graph.
    pub fn part(&self, location: Location) -> &[u8] {
        let all: &[u8] = match self {
            WeightBytes::Mapped(mapped) => &mapped.map,
            WeightBytes::BuiltIn(bytes) => bytes,
        };
        &all[location.start..location.start + location.length]
    }

    /// The bytes at `location`, to be used once: a file is read, which leaves no page of its map in memory.
    ///
    /// # Errors
    /// The system's.
    ///
    /// # Panics
    /// As [`WeightBytes::part`].
    pub fn read(&self, location: Location) -> io::Result<Cow<'_, [u8]>> {
        #[cfg(unix)]
        if let WeightBytes::Mapped(mapped) = self {
            let mut bytes = vec![0; location.length];
            std::os::unix::fs::FileExt::read_exact_at(&mapped.file, &mut bytes, location.start as u64)?;
            return Ok(Cow::Owned(bytes));
        }
        Ok(Cow::Borrowed(self.part(location)))
    }

    /// How many there are.
    pub fn length(&self) -> usize {
        match self {
            WeightBytes::Mapped(mapped) => mapped.map.len(),
            WeightBytes::BuiltIn(bytes) => bytes.len(),
        }
    }
}

/// An opened bundle.
pub struct Bundle {
    place: PathBuf,
    id: String,
    manifest: Manifest,
    files: HashMap<String, Vec<u8>>,
    weights: WeightBytes,
    tokenizer: Tokenizer,
    cache: Option<CacheEntry>,
    cache_error: Option<CacheError>,
}

impl Bundle {
    /// Opens a bundle's folder and checks the length and SHA-256 of every file.
    ///
    /// # Errors
    /// The first file that is missing, unreadable, changed or of another format version, by name.
    pub fn open(folder: &Path) -> Result<Bundle, BundleError> {
        Self::open_with(folder, None)
    }

    /// [`Bundle::open`] with a cache: weights that did not change since it last saw them are not read again.
    ///
    /// # Errors
    /// As [`Bundle::open`]. A cache that cannot be written is none: see [`Bundle::cache_error`].
    pub fn open_with(folder: &Path, cache: Option<&Cache>) -> Result<Bundle, BundleError> {
        let path = folder.join(MANIFEST);
        let manifest_bytes = read(&path, MAX_MANIFEST_BYTES as u64 + 1)?;
        let manifest = Manifest::from_json(&manifest_bytes).map_err(|source| BundleError::Manifest { path, source })?;
        let mut files = HashMap::new();
        for (name, facts) in manifest.files.iter().filter(|(name, _)| *name != WEIGHTS) {
            let path = folder.join(name);
            let bytes = read(&path, MAX_FILE_BYTES + 1)?;
            check(&path, &bytes, facts)?;
            files.insert(name.clone(), bytes);
        }
        let cache = cache.map(|cache| cache.entry(&hex(&Sha256::digest(&manifest_bytes))));
        let (weights, cache_error) = open_weights(&folder.join(WEIGHTS), &manifest.files[WEIGHTS], cache.as_ref())?;
        let bundle = Self::assemble(folder.to_path_buf(), &manifest_bytes, manifest, files, weights)?;
        Ok(Bundle { cache, cache_error, ..bundle })
    }

    /// The bundle that is part of the program.
    ///
    /// # Errors
    /// None in a program that was built from a whole source tree.
    pub fn built_in() -> Result<Bundle, BundleError> {
        let place = PathBuf::from("(built-in bundle)");
        let manifest = Manifest::from_json(built_in::MANIFEST_BYTES)
            .map_err(|source| BundleError::Manifest { path: place.join(MANIFEST), source })?;
        let files = built_in::FILES.iter().map(|&(name, bytes)| (name.to_owned(), bytes.to_vec())).collect();
        Self::assemble(place, built_in::MANIFEST_BYTES, manifest, files, WeightBytes::BuiltIn(built_in::WEIGHT_BYTES))
    }

    /// The bundle in `folder`, or the built-in one where no folder is named.
    ///
    /// # Errors
    /// As [`Bundle::open`].
    pub fn open_or_built_in(folder: Option<&Path>) -> Result<Bundle, BundleError> {
        folder.map_or_else(Bundle::built_in, Bundle::open)
    }

    fn assemble(
        place: PathBuf,
        manifest_bytes: &[u8],
        manifest: Manifest,
        files: HashMap<String, Vec<u8>>,
        weights: WeightBytes,
    ) -> Result<Bundle, BundleError> {
        let path = place.join(TOKENIZER);
        let bytes = files.get(TOKENIZER).ok_or_else(|| missing(&path))?;
        let tokenizer =
            Tokenizer::from_json(bytes, manifest.tokens).map_err(|source| BundleError::Tokenizer { path, source })?;
        interfaces::check(&manifest, tokenizer.vocabulary().words().len())
            .map_err(|what| BundleError::Damaged { path: place.join(MANIFEST), what })?;
        let id = hex(&Sha256::digest(manifest_bytes));
        Ok(Bundle { place, id, manifest, files, weights, tokenizer, cache: None, cache_error: None })
    }

    /// SHA-256 of the manifest: the bundle's name.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Where the bundle lies, for messages.
    pub fn place(&self) -> &Path {
        &self.place
    }

    /// What the bundle says about itself.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Text to ids and back.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// Bytes of a small file: a graph, or the golden answers.
    ///
    /// # Errors
    /// [`BundleError::Damaged`] if the bundle has no such file.
    pub fn file(&self, name: &str) -> Result<&[u8], BundleError> {
        self.files.get(name).map(Vec::as_slice).ok_or_else(|| missing(&self.place.join(name)))
    }

    /// The golden answers.
    ///
    /// # Errors
    /// As [`Bundle::file`].
    pub fn golden(&self) -> Result<&[u8], BundleError> {
        self.file(GOLDEN)
    }

    /// Bytes of `weights.bin`.
    pub fn weights(&self) -> &WeightBytes {
        &self.weights
    }

    /// The cache's part for this bundle.
    pub fn cache(&self) -> Option<&CacheEntry> {
        self.cache.as_ref()
    }

    /// Why the next start has to read the weights again.
    pub fn cache_error(&self) -> Option<&CacheError> {
        self.cache_error.as_ref()
    }
}

fn missing(path: &Path) -> BundleError {
    BundleError::Damaged { path: path.to_path_buf(), what: "the file is missing".to_owned() }
}

fn read(path: &Path, most: u64) -> Result<Vec<u8>, BundleError> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(most).read_to_end(&mut bytes))
        .map_err(|source| BundleError::Read { path: path.to_path_buf(), source })?;
    Ok(bytes)
}

/// Checks the weights, unless the cache remembers that they are whole, and maps them.
fn open_weights(
    path: &Path,
    facts: &FileFacts,
    cache: Option<&CacheEntry>,
) -> Result<(WeightBytes, Option<CacheError>), BundleError> {
    let unreadable = |source| BundleError::Read { path: path.to_path_buf(), source };
    let mut file = File::open(path).map_err(unreadable)?;
    let mut cache_error = None;
    // Copies of one bundle have one part of the cache.
    let name = path.canonicalize().unwrap_or_else(|_| path.to_path_buf()).display().to_string();
    if !cache.is_some_and(|cache| cache.is_remembered(&name, &file)) {
        let before = Stamp::of(&file).ok();
        let (length, sha256) = hash(&mut file).map_err(unreadable)?;
        compare(path, length, &sha256, facts)?;
        // Bytes that somebody wrote meanwhile were perhaps never hashed.
        let same = before.filter(|before| Stamp::of(&file).is_ok_and(|after| after == *before));
        cache_error = cache.zip(same).and_then(|(cache, stamp)| cache.remember(&name, stamp).err());
    }
    let map = map(&file).map_err(unreadable)?;
    compare(path, map.len() as u64, &facts.sha256, facts)?;
    Ok((WeightBytes::Mapped(Arc::new(MappedFile { map, file })), cache_error))
}

/// Maps a file of a bundle or of its cache.
pub(crate) fn map(file: &File) -> io::Result<memmap2::Mmap> {
    // SAFETY: `weights.bin` and packed weights, which alone come here, are immutable once written: they are replaced by
    // renaming and never written in place.
    unsafe { memmap2::Mmap::map(file) }
}

/// Reads the whole file, which leaves no page of a map in memory: its length and SHA-256.
fn hash(file: &mut File) -> io::Result<(u64, String)> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; READ_BYTES];
    let mut length = 0;
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok((length, hex(&hash.finalize()))),
            Ok(count) => {
                hash.update(&buffer[..count]);
                length += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

fn check(path: &Path, bytes: &[u8], facts: &FileFacts) -> Result<(), BundleError> {
    compare(path, bytes.len() as u64, &hex(&Sha256::digest(bytes)), facts)
}

fn compare(path: &Path, length: u64, sha256: &str, facts: &FileFacts) -> Result<(), BundleError> {
    let damaged = |what| Err(BundleError::Damaged { path: path.to_path_buf(), what });
    if length != facts.bytes {
        return damaged(format!("the file has {length} bytes, the manifest says {}", facts.bytes));
    }
    if sha256 != facts.sha256 {
        return damaged("the contents do not have the SHA-256 that the manifest says".to_owned());
    }
    Ok(())
}

/// Lower-case hexadecimal digits of `bytes`.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
