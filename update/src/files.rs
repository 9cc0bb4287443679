//! Files of releases: hashed, continued, moved into a slot.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use dataset::disk;
use exchange::Digest;
use exchange::release::ReleasedFile;
use sha2::{Digest as _, Sha256};

/// Bytes that are hashed at once.
const PIECE: usize = 1 << 20;

/// Whether a file is the one that was signed.
pub(crate) fn is(path: &Path, facts: &ReleasedFile) -> bool {
    let length = fs::metadata(path).map(|found| found.len());
    let has_length = length.is_ok_and(|length| length == facts.bytes);
    let digest = |hash: Sha256| -> [u8; 32] { hash.finalize().into() };
    has_length && hashed(path).is_ok_and(|(hash, _)| Digest::from(digest(hash)) == facts.sha256)
}

/// The hash of a file, to be continued, and its length.
pub(crate) fn hashed(path: &Path) -> io::Result<(Sha256, u64)> {
    let (mut hash, mut bytes, mut piece) = (Sha256::new(), 0, vec![0; PIECE]);
    let mut file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((hash, 0)),
        file => file?,
    };
    loop {
        match file.read(&mut piece)? {
            0 => return Ok((hash, bytes)),
            count => {
                hash.update(piece.get(..count).unwrap_or_default());
                bytes += count as u64;
            }
        }
    }
}

/// Makes a folder that is on the disk when this returns, and belongs to whom the one above belongs: what an administrator's
/// command makes is the service's.
pub(crate) fn make_folder(folder: &Path) -> io::Result<()> {
    let is_new = !folder.is_dir();
    disk::make_folder(folder)?;
    if is_new { sync_above(folder) } else { Ok(()) }
}

/// A file to be locked, which is made if it is not there, and is no link to something else.
pub(crate) fn open_lock(path: &Path) -> io::Result<File> {
    let no_link = rustix::fs::OFlags::NOFOLLOW.bits().cast_signed();
    let file = File::options().create(true).truncate(false).write(true).custom_flags(no_link).open(path)?;
    disk::belong(path)?;
    Ok(file)
}

/// Removes a file, or a folder with all that is in it; what is not there is gone already.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    // A link goes, and what it leads to stays.
    let removed = if fs::symlink_metadata(path).is_ok_and(|facts| facts.is_dir()) {
        fs::remove_dir_all(path)
    } else {
        fs::remove_file(path)
    };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Sees to it that the name of something is on the disk.
pub(crate) fn sync_above(path: &Path) -> io::Result<()> {
    match path.parent().filter(|above| !above.as_os_str().is_empty()) {
        Some(above) => File::open(above)?.sync_all(),
        None => Ok(()),
    }
}
