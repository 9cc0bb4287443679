//! The first bytes of a database, before SQLite sees them. Source: SQLite, "Database File Format", section 1.3.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::schema::{APPLICATION, VERSION};
use crate::error::{self, Failure};

/// Bytes of a page, the same as of a block of most file systems.
pub(crate) const PAGE_BYTES: u32 = 4096;
const MAGIC: &[u8; 16] = b"SQLite format 3\0";
const HEADER_BYTES: usize = 100;
/// Format 2 for reading and writing is a database with a log.
const WITH_LOG: [u8; 2] = [2, 2];

/// Whether a file starts as ours do.
pub(crate) fn check(folder: &Path, path: &Path) -> Result<(), Failure> {
    let mut header = [0; HEADER_BYTES];
    let read = File::open(path).and_then(|mut file| file.read_exact(&mut header));
    match read {
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            return Err(Failure::Damaged("it is too short to be a database".to_owned()));
        }
        Err(error) => return Err(Failure::Trouble(error::of_system(folder, &error))),
        Ok(()) => {}
    }
    let damaged = |what: &str| Err(Failure::Damaged(format!("its header has {what}")));
    if header[..16] != *MAGIC {
        return damaged("another beginning than databases have");
    }
    if u32::from(u16::from_be_bytes([header[16], header[17]])) != PAGE_BYTES {
        return damaged("another size of pages");
    }
    if header[18..20] != WITH_LOG {
        return damaged("another kind of journal");
    }
    let (version, application) = (be32(&header, 60), be32(&header, 68));
    if application != APPLICATION | version || version == 0 {
        return damaged("no version");
    }
    if version > VERSION { Err(Failure::Newer) } else { Ok(()) }
}

/// Four bytes as a number, the highest first; 0 beyond the end.
pub(crate) fn be32(bytes: &[u8], at: usize) -> u32 {
    let four = bytes.get(at..).and_then(|rest| rest.first_chunk::<4>());
    four.map_or(0, |four| u32::from_be_bytes(*four))
}
