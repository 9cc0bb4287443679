//! One folder with all that is in it.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use super::{DiskError, Existing, REPLACED, WRITING, parent, sibling, sync_folder};

type Result<T> = std::result::Result<T, DiskError>;

/// A folder in the making, beside the place where it will stand. It goes away unless it is published.
#[derive(Debug)]
pub struct Staged {
    path: PathBuf,
    target: PathBuf,
    published: bool,
}

impl Staged {
    /// Makes an empty folder beside `target`, and the folders above it where there are none.
    ///
    /// # Errors
    /// The system's refusal.
    pub fn beside(target: &Path) -> Result<Staged> {
        let path = beside(target, WRITING)?;
        let parent = parent(target);
        std::fs::create_dir_all(parent).map_err(|source| DiskError::Io { path: parent.to_owned(), source })?;
        std::fs::create_dir(&path).map_err(|source| DiskError::Io { path: path.clone(), source })?;
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
        std::fs::create_dir(&path).map_err(|source| DiskError::Io { path, source })
    }

    /// Writes a file inside, to the disk itself.
    ///
    /// # Errors
    /// The system's refusal.
    pub fn file(&self, name: impl AsRef<Path>, bytes: &[u8]) -> Result<()> {
        let path = self.path.join(name);
        let written = File::create(&path).and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()));
        written.map_err(|source| DiskError::Io { path, source })
    }

    /// Moves the folder to its place. A process that is killed here leaves either what was there before, or the new
    /// folder, or, for one instant of a replacement, both beside the place under names that start with a dot.
    ///
    /// # Errors
    /// Something that came to the place meanwhile and is not to be replaced; the system's refusal.
    pub fn publish(mut self, existing: Existing) -> Result<()> {
        let failed = |source| DiskError::Io { path: self.target.clone(), source };
        sync_folder(&self.path).map_err(failed)?;
        let replaced = match (self.target.symlink_metadata().is_ok(), existing) {
            (false, _) => None,
            (true, Existing::Refuse) => return Err(DiskError::Exists { path: self.target.clone() }),
            (true, Existing::Replace) => {
                let aside = beside(&self.target, REPLACED)?;
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
        sync_folder(parent(&self.target)).map_err(failed)?;
        match replaced {
            None => Ok(()),
            Some(aside) => remove(&aside).map_err(|source| DiskError::Io { path: aside, source }),
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
/// [`DiskError::Exists`].
pub fn check_free(target: &Path, existing: Existing) -> Result<()> {
    match existing == Existing::Refuse && target.symlink_metadata().is_ok() {
        true => Err(DiskError::Exists { path: target.to_owned() }),
        false => Ok(()),
    }
}

fn beside(target: &Path, start: &str) -> Result<PathBuf> {
    sibling(target, start).ok_or_else(|| DiskError::Name { path: target.to_owned() })
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
        assert!(matches!(check_free(&target, Existing::Refuse), Err(DiskError::Exists { .. })));
        let refused = Staged::beside(&target).unwrap().publish(Existing::Refuse);
        assert!(refused.unwrap_err().to_string().contains("exists already"));
        assert_eq!((names(place.path()), names(&target)), (vec!["out".to_owned()], vec!["old".to_owned()]));
        let staged = Staged::beside(&target).unwrap();
        staged.file("new", b"").unwrap();
        staged.publish(Existing::Replace).unwrap();
        assert_eq!((names(place.path()), names(&target)), (vec!["out".to_owned()], vec!["new".to_owned()]));
        assert!(matches!(Staged::beside(Path::new("/")), Err(DiskError::Name { .. })));
    }
}
