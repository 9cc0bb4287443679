//! What an administrator's command makes belongs to whom the folder above belongs: the service goes on with it.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, lchown};
use std::path::Path;

/// Makes a folder, and those above it that are missing; each belongs to whom the one above belongs.
///
/// # Errors
/// The system's refusal.
pub fn make_folder(folder: &Path) -> io::Result<()> {
    refuse_trap(folder)?;
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
    let (above, own) = (fs::metadata(above)?, fs::symlink_metadata(path)?);
    if (above.uid(), above.gid()) == (own.uid(), own.gid()) {
        return Ok(());
    }
    match lchown(path, Some(above.uid()), Some(above.gid())) {
        // Only root gives away. Whoever else it is has made a file for himself.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        done => done,
    }
}

/// Root follows no link that somebody else has laid: it may lead anywhere.
fn refuse_trap(path: &Path) -> io::Result<()> {
    let is_link = fs::symlink_metadata(path).ok().filter(fs::Metadata::is_symlink);
    match is_link {
        Some(link) if link.uid() != 0 && rustix::process::geteuid().is_root() => {
            let words = "it is a link that is not root's: put a folder in its place, or give the link to root";
            Err(io::Error::new(io::ErrorKind::PermissionDenied, words))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_gives_away_links_and_follows_none_of_others() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let (secret, service) = (folder.path().join("secret"), folder.path().join("service"));
        fs::write(&secret, "root's").unwrap();
        fs::create_dir(&service).unwrap();
        lchown(&service, Some(1234), Some(1234)).unwrap();
        let trap = service.join("trap");
        std::os::unix::fs::symlink(&secret, &trap).unwrap();
        belong(&trap).unwrap();
        assert_eq!(fs::metadata(&secret).unwrap().uid(), 0);
        let error = make_folder(&trap).unwrap_err();
        assert!(error.to_string().contains("a link"), "{error}");
        make_folder(&service.join("a/b")).unwrap();
        assert_eq!(fs::metadata(service.join("a/b")).unwrap().uid(), 1234);
    }
}
