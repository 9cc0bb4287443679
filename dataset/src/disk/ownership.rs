//! What an administrator's command makes belongs to whom the folder above belongs: the service goes on with it.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::Path;

/// Makes a folder, and those above it that are missing; each belongs to whom the one above belongs.
///
/// # Errors
/// The system's refusal.
pub fn make_folder(folder: &Path) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    if let Some(above) = folder.parent().filter(|above| !above.as_os_str().is_empty()) {
        make_folder(above)?;
    }
    match fs::create_dir(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => belong(folder),
    }
}

/// Gives a file or a folder to the owner of the folder above, if it is another's.
///
/// # Errors
/// The system's refusal, but that only root may give away.
pub fn belong(path: &Path) -> io::Result<()> {
    let above = path.parent().filter(|above| !above.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let (above, own) = (fs::metadata(above)?, fs::metadata(path)?);
    if (above.uid(), above.gid()) == (own.uid(), own.gid()) {
        return Ok(());
    }
    match chown(path, Some(above.uid()), Some(above.gid())) {
        // Only root gives away. Whoever else it is has made a file for himself.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        done => done,
    }
}
