//! Files and folders that are whole or not there, also after the power failed.
//!
//! Each is made under a hidden name beside its place, synced, and renamed. Permissions are those that the user's mask
//! gives to any new file or folder.

mod file;
mod folder;
mod ownership;

use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

pub use file::{WholeFile, write_whole};
pub use folder::{Staged, check_free};
pub use ownership::{belong, make_folder};

/// What happens to what is there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existing {
    /// It stays, and nothing is written.
    Refuse,
    /// It goes when the new one is whole.
    Replace,
}

/// Something that cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// The system's refusal; what was there before is still there.
    #[error("{}: cannot be written: {source}; what was there before is untouched; see that there is room, or choose another place", path.display())]
    Io {
        /// Which file or folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Something is there.
    #[error("{} exists already: choose another place, or say that it is to be replaced", path.display())]
    Exists {
        /// The place.
        path: PathBuf,
    },
    /// A path that names no folder.
    #[error("{}: is no name for a folder", path.display())]
    Name {
        /// The path.
        path: PathBuf,
    },
}

/// Start of the names of what is in the making.
const WRITING: &str = ".writing-";
/// Start of the names of folders that were replaced.
const REPLACED: &str = ".replaced-";
/// What a killed process may leave: a name starts with one of these, and the name of the place follows.
pub const WRITING_MARKS: [&str; 2] = [WRITING, REPLACED];
/// Bytes of a name that has room for more around it; file systems take 255.
const ROOMY: usize = 200;

/// Makes the names in a folder durable.
///
/// # Errors
/// The system's refusal.
pub fn sync_folder(path: &Path) -> std::io::Result<()> {
    // Only Unix opens folders as files.
    if cfg!(unix) { File::open(path)?.sync_all() } else { Ok(()) }
}

fn parent(target: &Path) -> &Path {
    target.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// A free name beside `target`; nothing where that is no name. Processes of other machines may have the same number.
fn sibling(target: &Path, start: &str) -> Option<PathBuf> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let name = target.file_name()?;
    loop {
        let mut unique = OsString::from(start);
        unique.push(if name.len() > ROOMY { "long-name".as_ref() } else { name });
        unique.push(format!("-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed)));
        let path = parent(target).join(unique);
        if path.symlink_metadata().is_err() {
            return Some(path);
        }
    }
}
