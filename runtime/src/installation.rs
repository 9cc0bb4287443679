//! Puts a bundle on the board: copied, checked against its manifest, asked for its golden answers, and only then there.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use blip::config::Role;
use blip::manifest::{MANIFEST, MAX_MANIFEST_BYTES, Manifest, ManifestError};

use crate::bundle::{Bundle, BundleError};
use crate::golden::{self, GoldenError};
use crate::inference::InferenceError;
use crate::model::{Model, ModelError};

/// Most files of a tar that are looked at.
const MAX_ENTRIES: usize = 256;
/// Room that is left on the disk, in bytes.
const LEAVE: u64 = 64 << 20;
/// Bytes that are copied at once.
const PIECE: usize = 1 << 20;

/// A bundle that is not installed.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// The source is no bundle.
    #[error("{}: {reason}: give the folder that edgeblip-export wrote, or a tar of it", path.display())]
    NoBundle {
        /// The source.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// Its manifest cannot be read.
    #[error("{}: {source}", path.display())]
    Manifest {
        /// The manifest.
        path: PathBuf,
        /// What is wrong with it.
        source: ManifestError,
    },
    /// The system does not let us.
    #[error("{}: {source}", path.display())]
    System {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The disk is too small.
    #[error("{}: the bundle takes {} MiB and {} MiB are free: make room, or name another folder with --into", path.display(), needed >> 20, free >> 20)]
    NoRoom {
        /// Where it was to go.
        path: PathBuf,
        /// Bytes that it takes, and what is left to others.
        needed: u64,
        /// Bytes that are free.
        free: u64,
    },
    /// What was copied is not what the manifest says.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// It cannot be loaded here.
    #[error("the bundle cannot be loaded on this board: {0}")]
    Model(#[from] ModelError),
    /// A graph stopped.
    #[error("the bundle cannot be loaded on this board: {0}")]
    Inference(#[from] InferenceError),
    /// It answers otherwise here than where it was made.
    #[error(transparent)]
    Golden(#[from] GoldenError),
}

/// A bundle that is on the board.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Installed {
    /// Its folder, named by its id.
    pub folder: PathBuf,
    /// Its id.
    pub id: String,
    /// Bytes of its files.
    pub bytes: u64,
    /// Whether it was there already.
    pub was_there: bool,
}

/// What is being done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Copying the files.
    Copy,
    /// Hashing what was copied.
    Check,
    /// Asking it for its golden answers.
    Test,
}

impl Step {
    /// Every step, in order.
    pub const ALL: [Step; 3] = [Step::Copy, Step::Check, Step::Test];

    /// In words.
    pub fn name(self) -> &'static str {
        match self {
            Step::Copy => "copying",
            Step::Check => "checking every file",
            Step::Test => "asking for golden answers",
        }
    }
}

/// Installs the bundle that lies in a folder or a tar into `bundles`, under its id.
///
/// # Errors
/// A source that is no whole bundle, one that this board answers otherwise with, a disk that is full. Nothing is left behind.
pub fn install(source: &Path, bundles: &Path, threads: usize, tell: impl Fn(Step)) -> Result<Installed, InstallError> {
    let system = |path: &Path| {
        let path = path.to_owned();
        move |source| InstallError::System { path, source }
    };
    tell(Step::Copy);
    fs::create_dir_all(bundles).map_err(system(bundles))?;
    let hidden = tempfile::Builder::new().prefix(".installing-").tempdir_in(bundles).map_err(system(bundles))?;
    let bytes = if source.is_dir() {
        copy_folder(source, bundles, hidden.path())?
    } else {
        unpack(source, bundles, hidden.path())?
    };
    tell(Step::Check);
    let bundle = Bundle::open(hidden.path())?;
    let id = bundle.id().to_owned();
    let folder = bundles.join(&id);
    let was_there = Bundle::open(&folder).is_ok();
    if !was_there {
        tell(Step::Test);
        test(bundle, threads)?;
        // What is damaged there is of no use to anybody.
        if folder.exists() {
            fs::remove_dir_all(&folder).map_err(system(&folder))?;
        }
        sync(hidden.path()).map_err(system(hidden.path()))?;
        fs::set_permissions(hidden.path(), fs::Permissions::from_mode(0o755)).map_err(system(hidden.path()))?;
        fs::rename(hidden.keep(), &folder).map_err(system(&folder))?;
        File::open(bundles).and_then(|folder| folder.sync_all()).map_err(system(bundles))?;
    }
    Ok(Installed { folder, id, bytes, was_there })
}

/// The heads that a bundle has.
pub(crate) fn every_role(bundle: &Bundle) -> Vec<Role> {
    let manifest = bundle.manifest();
    let heads = [
        (manifest.captioner.is_some(), Role::Captioner),
        (manifest.matcher.is_some(), Role::Matcher),
        (manifest.answerer.is_some(), Role::Answerer),
    ];
    heads.into_iter().filter_map(|(is_there, role)| is_there.then_some(role)).collect()
}

fn test(bundle: Bundle, threads: usize) -> Result<(), InstallError> {
    let roles = every_role(&bundle);
    Ok(golden::check(&Model::load(Arc::new(bundle), &roles, threads)?)?)
}

/// Copies what the manifest names.
fn copy_folder(source: &Path, bundles: &Path, target: &Path) -> Result<u64, InstallError> {
    let path = source.join(MANIFEST);
    let open = |path: &Path| {
        File::open(path).map_err(|error| InstallError::NoBundle {
            path: source.to_owned(),
            reason: format!("{}: {error}", path.file_name().unwrap_or_default().display()),
        })
    };
    let mut bytes = Vec::new();
    let read = open(&path)?.take(MAX_MANIFEST_BYTES as u64 + 1).read_to_end(&mut bytes);
    read.map_err(|source| InstallError::System { path: path.clone(), source })?;
    let manifest = Manifest::from_json(&bytes).map_err(|source| InstallError::Manifest { path, source })?;
    let total = manifest.files.values().map(|file| file.bytes).sum();
    check_room(bundles, total)?;
    write(&target.join(MANIFEST), &mut bytes.as_slice(), u64::MAX)?;
    for (name, facts) in &manifest.files {
        write(&target.join(name), &mut open(&source.join(name))?, facts.bytes.saturating_add(1))?;
    }
    Ok(total)
}

/// Unpacks the files of a tar, which may stand in one folder; nothing else may be in it.
fn unpack(source: &Path, bundles: &Path, target: &Path) -> Result<u64, InstallError> {
    let fault = |reason: String| InstallError::NoBundle { path: source.to_owned(), reason };
    let file = File::open(source).map_err(|error| fault(error.to_string()))?;
    let length = file.metadata().map_err(|error| fault(error.to_string()))?.len();
    check_room(bundles, length)?;
    let mut total = 0;
    let mut archive = tar::Archive::new(file);
    let entries = archive.entries().map_err(|error| fault(format!("is no tar ({error})")))?;
    for (count, entry) in entries.enumerate() {
        let mut entry =
            entry.map_err(|error| fault(format!("is no whole tar ({error}); if it is compressed, unpack it")))?;
        if count >= MAX_ENTRIES {
            return Err(fault(format!("has more than {MAX_ENTRIES} entries")));
        }
        if entry.header().entry_type().is_dir() {
            continue;
        }
        let path = entry.path().map_err(|error| fault(error.to_string()))?.into_owned();
        let name = plain_name(&path).filter(|_| entry.header().entry_type().is_file());
        let name = name.ok_or_else(|| fault(format!("holds {}, which no bundle does", path.display())))?;
        let place = target.join(name);
        if place.exists() {
            return Err(fault(format!("holds {name} twice")));
        }
        total += entry.size();
        let size = entry.size();
        write(&place, &mut entry, size)?;
    }
    if !target.join(MANIFEST).exists() {
        return Err(fault(format!("holds no {MANIFEST}; if it is compressed, unpack it")));
    }
    Ok(total)
}

/// The name of a file that stands alone or in one folder.
fn plain_name(path: &Path) -> Option<&str> {
    let parts: Vec<Component<'_>> = path.components().filter(|part| *part != Component::CurDir).collect();
    let ([Component::Normal(name)] | [Component::Normal(_), Component::Normal(name)]) = parts[..] else { return None };
    let name = name.to_str()?;
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    (!name.starts_with('.') && name.bytes().all(is_plain)).then_some(name)
}

fn check_room(bundles: &Path, bytes: u64) -> Result<(), InstallError> {
    let needed = bytes.saturating_add(LEAVE);
    let free = rustix::fs::statvfs(bundles).map_or(u64::MAX, |disk| disk.f_bavail.saturating_mul(disk.f_frsize));
    if needed <= free {
        return Ok(());
    }
    Err(InstallError::NoRoom { path: bundles.to_owned(), needed, free })
}

/// Writes at most so many bytes to a new file, and sees to it that they are on the disk.
fn write(path: &Path, from: &mut impl Read, most: u64) -> Result<(), InstallError> {
    let mut from = from.take(most);
    let mut copy = || -> io::Result<()> {
        let mut file = File::create_new(path)?;
        let mut piece = vec![0; PIECE];
        loop {
            match from.read(&mut piece)? {
                0 => break,
                count => io::Write::write_all(&mut file, piece.get(..count).unwrap_or_default())?,
            }
        }
        file.set_permissions(fs::Permissions::from_mode(0o644))?;
        file.sync_all()
    };
    copy().map_err(|source| InstallError::System { path: path.to_owned(), source })
}

fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn built_in() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/built-in")
    }

    fn place(source: &Path, bundles: &Path) -> Result<Installed, InstallError> {
        install(source, bundles, 1, |_| {})
    }

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> =
            fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn tarred(files: &[(&str, &[u8])], path: &Path) {
        let mut tar = tar::Builder::new(File::create(path).unwrap());
        for (name, bytes) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            // As a hostile tar has it: the library's own writer would refuse some names.
            header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
            header.set_cksum();
            tar.append(&header, *bytes).unwrap();
        }
        tar.finish().unwrap();
    }

    #[test]
    fn a_bundle_is_there_once_whether_it_came_as_a_folder_or_a_tar() {
        let bundles = tempfile::tempdir().unwrap();
        let first = place(&built_in(), bundles.path()).unwrap();
        assert!(!first.was_there);
        assert_eq!(first.folder, bundles.path().join(&first.id));
        assert_eq!(names(bundles.path()), std::slice::from_ref(&first.id));
        let mut tar = tar::Builder::new(File::create(bundles.path().join("b.tar")).unwrap());
        tar.append_dir_all("built-in", built_in()).unwrap();
        tar.finish().unwrap();
        let again = place(&bundles.path().join("b.tar"), bundles.path()).unwrap();
        assert!(again.was_there && again.id == first.id);
        // What is damaged is replaced.
        fs::write(first.folder.join("weights.bin"), "x").unwrap();
        assert!(!place(&built_in(), bundles.path()).unwrap().was_there);
        Bundle::open(&first.folder).unwrap();
    }

    #[test]
    fn what_is_no_whole_bundle_is_refused_and_leaves_nothing() {
        let (bundles, sources) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let refused = |source: &Path, words: &str| {
            let error = terminal::explained(&place(source, bundles.path()).unwrap_err());
            assert!(error.contains(words), "{error}");
            assert_eq!(names(bundles.path()), Vec::<String>::new(), "{error}");
        };
        refused(sources.path(), "manifest.json");
        refused(Path::new("/nowhere/bundle"), "/nowhere/bundle");
        let tar = sources.path().join("b.tar");
        for (name, words) in [
            ("../manifest.json", "which no bundle does"),
            ("/manifest.json", "which no bundle does"),
            ("a/b/manifest.json", "which no bundle does"),
            (".hidden", "which no bundle does"),
            ("readme", "no manifest.json"),
        ] {
            tarred(&[(name, b"{}")], &tar);
            refused(&tar, words);
        }
        tarred(&[("manifest.json", b"{}"), ("manifest.json", b"{}")], &tar);
        refused(&tar, "twice");
        fs::write(&tar, "not a tar at all").unwrap();
        refused(&tar, "tar");
        // One byte of the weights is another.
        let copy = sources.path().join("copy");
        fs::create_dir(&copy).unwrap();
        for name in names(&built_in()) {
            fs::copy(built_in().join(&name), copy.join(&name)).unwrap();
        }
        let mut weights = fs::read(copy.join("weights.bin")).unwrap();
        weights[4096] ^= 1;
        fs::write(copy.join("weights.bin"), weights).unwrap();
        refused(&copy, "weights.bin");
    }
}
