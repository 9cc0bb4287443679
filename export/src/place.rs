//! Where a bundle will stand: a path that is free, in a folder that is made if it must be.

use std::path::{Path, PathBuf};

use crate::weight_file::WriteError;

/// A place that cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    /// Something is there already.
    #[error("{} exists already: choose another --out or remove it first", path.display())]
    Exists {
        /// The place.
        path: PathBuf,
    },
    /// A folder cannot be made.
    #[error(transparent)]
    Write(#[from] WriteError),
}

/// A free place. Folders that were made for it go away with it unless it is kept.
#[derive(Debug)]
pub struct Place {
    out: PathBuf,
    /// Folders that were made, the outermost first.
    made: Vec<PathBuf>,
}

/// Makes sure that nothing is at `out`, a dangling link neither.
///
/// # Errors
/// [`PlaceError::Exists`].
pub fn check_free(out: &Path) -> Result<(), PlaceError> {
    match out.symlink_metadata() {
        Ok(_) => Err(PlaceError::Exists { path: out.to_path_buf() }),
        Err(_) => Ok(()),
    }
}

impl Place {
    /// Makes the folders above `out`.
    ///
    /// # Errors
    /// [`PlaceError::Exists`], or a folder that cannot be made.
    pub fn prepare(out: &Path) -> Result<Place, PlaceError> {
        check_free(out)?;
        let mut place = Place { out: out.to_path_buf(), made: Vec::new() };
        let missing: Vec<PathBuf> =
            place.parent().ancestors().take_while(|folder| !folder.exists()).map(Path::to_path_buf).collect();
        for folder in missing.into_iter().rev().filter(|folder| !folder.as_os_str().is_empty()) {
            std::fs::create_dir(&folder).map_err(|source| WriteError { path: folder.clone(), source })?;
            place.made.push(folder);
        }
        Ok(place)
    }

    /// The place itself.
    pub fn out(&self) -> &Path {
        &self.out
    }

    /// The folder that it is in.
    pub fn parent(&self) -> &Path {
        self.out.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
    }

    /// The bundle is there: its folders stay.
    pub fn keep(mut self) {
        self.made.clear();
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        for folder in self.made.iter().rev() {
            let _ = std::fs::remove_dir(folder);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_that_were_made_go_away_unless_the_place_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("a/b/bundle");
        drop(Place::prepare(&out).unwrap());
        assert!(!folder.path().join("a").exists());
        let place = Place::prepare(&out).unwrap();
        assert_eq!(place.parent(), folder.path().join("a/b"));
        place.keep();
        assert!(folder.path().join("a/b").is_dir());
        drop(Place::prepare(&out).unwrap());
        assert!(folder.path().join("a/b").is_dir());
    }

    #[test]
    fn a_file_where_a_folder_must_be_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, "").unwrap();
        assert!(matches!(Place::prepare(&file), Err(PlaceError::Exists { .. })));
        assert!(Place::prepare(&file.join("b/bundle")).unwrap_err().to_string().contains("file"));
        assert!(!file.join("b").exists());
    }
}
