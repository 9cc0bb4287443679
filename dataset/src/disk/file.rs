//! One file.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use tempfile::TempPath;

use super::{Existing, WRITING, parent, sibling, sync_folder};

/// A file in the making, beside the place where it will stand. It goes away unless it is kept.
#[derive(Debug)]
pub struct WholeFile {
    file: BufWriter<File>,
    hidden: TempPath,
    target: PathBuf,
}

impl WholeFile {
    /// Makes an empty file beside `target`.
    ///
    /// # Errors
    /// The system's refusal.
    pub fn beside(target: &Path) -> io::Result<WholeFile> {
        WholeFile::with(target, File::options().create_new(true).write(true))
    }

    /// As [`WholeFile::beside`], and nobody but the owner may read it.
    ///
    /// # Errors
    /// The system's refusal.
    pub fn secret_beside(target: &Path) -> io::Result<WholeFile> {
        WholeFile::with(target, File::options().create_new(true).write(true).mode(0o600))
    }

    fn with(target: &Path, options: &OpenOptions) -> io::Result<WholeFile> {
        let name = || io::Error::new(io::ErrorKind::InvalidInput, "this is no name for a file");
        let path = sibling(target, WRITING).ok_or_else(name)?;
        let file = BufWriter::new(options.open(&path)?);
        Ok(WholeFile { file, hidden: TempPath::try_from_path(path)?, target: target.to_owned() })
    }

    /// Moves the file to its place when all of it is on the disk.
    ///
    /// # Errors
    /// Something that is at the place and is not to be replaced; the system's refusal.
    pub fn keep(mut self, existing: Existing) -> io::Result<()> {
        self.file.flush()?;
        self.file.get_ref().sync_all()?;
        let WholeFile { file, hidden, target } = self;
        drop(file);
        let moved = match existing {
            Existing::Refuse => hidden.persist_noclobber(&target),
            Existing::Replace => hidden.persist(&target),
        };
        moved.map_err(|refused| refused.error)?;
        sync_folder(parent(&target))
    }
}

impl Write for WholeFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Writes a file, in place of one that may be there.
///
/// # Errors
/// What `write` gives; the system's refusal. Then the older file stays.
pub fn write_whole(target: &Path, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
    let mut file = WholeFile::beside(target)?;
    write(&mut file)?;
    file.keep(Existing::Replace)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let names = folder.read_dir().unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.collect()
    }

    #[test]
    fn a_file_is_there_whole_or_as_it_was() {
        let place = tempfile::tempdir().unwrap();
        let target = place.path().join("file");
        for text in ["old", "new"] {
            write_whole(&target, |out| out.write_all(text.as_bytes())).unwrap();
        }
        let stopped = |out: &mut dyn Write| out.write_all(b"half").and(Err(io::Error::other("stopped")));
        assert_eq!(write_whole(&target, stopped).unwrap_err().to_string(), "stopped");
        assert_eq!(std::fs::read_to_string(&target).unwrap(), "new");
        assert_eq!(names(place.path()), ["file"]);
        assert!(WholeFile::beside(Path::new("/")).is_err());
    }

    #[test]
    fn what_came_to_the_place_meanwhile_is_refused_where_that_is_asked() {
        let place = tempfile::tempdir().unwrap();
        let target = place.path().join("file");
        let mut ours = WholeFile::beside(&target).unwrap();
        ours.write_all(b"ours").unwrap();
        std::fs::write(&target, "theirs").unwrap();
        assert_eq!(ours.keep(Existing::Refuse).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(std::fs::read_to_string(&target).unwrap(), "theirs");
        assert_eq!(names(place.path()), ["file"]);
    }

    #[test]
    fn a_name_may_be_as_long_as_the_system_takes() {
        let place = tempfile::tempdir().unwrap();
        let target = place.path().join("n".repeat(255));
        write_whole(&target, |out| out.write_all(b"all")).unwrap();
        assert_eq!(std::fs::read(&target).unwrap(), b"all");
    }

    #[cfg(unix)]
    #[test]
    fn others_may_read_a_file_if_they_may_read_any_new_one() {
        use std::os::unix::fs::PermissionsExt;
        let place = tempfile::tempdir().unwrap();
        let [plain, whole] = ["plain", "whole"].map(|name| place.path().join(name));
        std::fs::write(&plain, "").unwrap();
        write_whole(&whole, |_| Ok(())).unwrap();
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode();
        assert_eq!(mode(&whole), mode(&plain));
    }
}
