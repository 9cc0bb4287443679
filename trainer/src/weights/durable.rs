//! Folders that are complete or not there, also after the power failed.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// What happens to what is there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existing {
    /// It stays, and nothing is written.
    Refuse,
    /// It goes when the new folder is complete.
    Replace,
}

/// Something that cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum DurableError {
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

type Result<T> = std::result::Result<T, DurableError>;

/// A folder in the making, beside the place where it will stand. It goes away unless it is published.
#[derive(Debug)]
pub struct Staged {
    path: PathBuf,
    target: PathBuf,
    published: bool,
}

/// Start of the names of folders in the making.
const WRITING: &str = ".writing-";
/// Start of the names of folders that were replaced.
const REPLACED: &str = ".replaced-";
/// What a killed process may leave: a name starts with one of these, and the name of the place follows.
pub const WRITING_MARKS: [&str; 2] = [WRITING, REPLACED];

impl Staged {
    /// Makes an empty folder beside `target`, and the folders above it where there are none.
    ///
    /// # Errors
    /// The system's refusal.
    pub fn beside(target: &Path) -> Result<Staged> {
        let path = sibling(target, WRITING)?;
        let parent = parent(target);
        std::fs::create_dir_all(parent).map_err(|source| DurableError::Io { path: parent.to_owned(), source })?;
        std::fs::create_dir(&path).map_err(|source| DurableError::Io { path: path.clone(), source })?;
        Ok(Staged { path, target: target.to_owned(), published: false })
    }

    /// Where the folder is for now.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes a folder inside.
    ///
    /// # Errors
    /// The system's refusal.
    pub fn folder(&self, name: &str) -> Result<()> {
        let path = self.path.join(name);
        std::fs::create_dir(&path).map_err(|source| DurableError::Io { path, source })
    }

    /// Writes a file inside, to the disk itself.
    ///
    /// # Errors
    /// The system's refusal.
    pub fn file(&self, name: impl AsRef<Path>, bytes: &[u8]) -> Result<()> {
        let path = self.path.join(name);
        let written = File::create(&path).and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()));
        written.map_err(|source| DurableError::Io { path, source })
    }

    /// Moves the folder to its place. A process that is killed here leaves either what was there before, or the new
    /// folder, or, for one instant of a replacement, both beside the place under names that start with a dot.
    ///
    /// # Errors
    /// Something that came to the place meanwhile and is not to be replaced; the system's refusal.
    pub fn publish(mut self, existing: Existing) -> Result<()> {
        sync_folder(&self.path)?;
        let failed = |source| DurableError::Io { path: self.target.clone(), source };
        let replaced = match (self.target.symlink_metadata().is_ok(), existing) {
            (false, _) => None,
            (true, Existing::Refuse) => return Err(DurableError::Exists { path: self.target.clone() }),
            (true, Existing::Replace) => {
                let aside = sibling(&self.target, REPLACED)?;
                std::fs::rename(&self.target, &aside).map_err(failed)?;
                Some(aside)
            }
        };
        if let Err(source) = std::fs::rename(&self.path, &self.target) {
            if let Some(aside) = &replaced {
                // The first refusal is the one to report.
                let _ = std::fs::rename(aside, &self.target);
            }
            return Err(failed(source));
        }
        self.published = true;
        sync_folder(parent(&self.target))?;
        match replaced {
            None => Ok(()),
            Some(aside) => remove(&aside).map_err(|source| DurableError::Io { path: aside, source }),
        }
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if !self.published {
            // What cannot be removed has a name that says what it is.
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}

/// Refuses a place where something is, a dangling link too.
///
/// # Errors
/// [`DurableError::Exists`].
pub fn check_free(target: &Path, existing: Existing) -> Result<()> {
    match existing == Existing::Refuse && target.symlink_metadata().is_ok() {
        true => Err(DurableError::Exists { path: target.to_owned() }),
        false => Ok(()),
    }
}

/// Makes the names in a folder durable.
///
/// # Errors
/// The system's refusal.
pub fn sync_folder(path: &Path) -> Result<()> {
    // Only Unix opens folders as files.
    if cfg!(unix) {
        let synced = File::open(path).and_then(|folder| folder.sync_all());
        synced.map_err(|source| DurableError::Io { path: path.to_owned(), source })?;
    }
    Ok(())
}

fn parent(target: &Path) -> &Path {
    target.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// A free name beside `target`.
fn sibling(target: &Path, start: &str) -> Result<PathBuf> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let name = target.file_name().ok_or_else(|| DurableError::Name { path: target.to_owned() })?;
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let mut unique = std::ffi::OsString::from(start);
    unique.push(name);
    unique.push(format!("-{}-{number}", std::process::id()));
    Ok(parent(target).join(unique))
}

fn remove(path: &Path) -> std::io::Result<()> {
    match path.symlink_metadata()?.is_dir() {
        true => std::fs::remove_dir_all(path),
        false => std::fs::remove_file(path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            folder.read_dir().unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_folder_is_there_whole_or_not_at_all() {
        let place = tempfile::tempdir().unwrap();
        let target = place.path().join("deep/out");
        let staged = Staged::beside(&target).unwrap();
        staged.folder("in").unwrap();
        staged.file("in/a", b"new").unwrap();
        assert!(!target.exists());
        drop(staged);
        assert!(names(&place.path().join("deep")).is_empty());
        let staged = Staged::beside(&target).unwrap();
        staged.file("a", b"new").unwrap();
        staged.publish(Existing::Refuse).unwrap();
        assert_eq!(names(&place.path().join("deep")), ["out"]);
    }

    #[test]
    fn what_is_there_is_refused_or_replaced_as_asked() {
        let place = tempfile::tempdir().unwrap();
        let target = place.path().join("out");
        std::fs::create_dir(&target).unwrap();
        std::fs::write(target.join("old"), "mine").unwrap();
        assert!(matches!(check_free(&target, Existing::Refuse), Err(DurableError::Exists { .. })));
        let refused = Staged::beside(&target).unwrap().publish(Existing::Refuse);
        assert!(refused.unwrap_err().to_string().contains("exists already"));
        assert_eq!((names(place.path()), names(&target)), (vec!["out".to_owned()], vec!["old".to_owned()]));
        let staged = Staged::beside(&target).unwrap();
        staged.file("new", b"").unwrap();
        staged.publish(Existing::Replace).unwrap();
        assert_eq!((names(place.path()), names(&target)), (vec!["out".to_owned()], vec!["new".to_owned()]));
        assert!(matches!(Staged::beside(Path::new("/")), Err(DurableError::Name { .. })));
    }
}
