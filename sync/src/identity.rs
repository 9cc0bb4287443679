//! Who the board is, and to whom it belongs.
//!
//! ```text
//! device.key   the board's secret key, for its own eyes
//! grant.json   what the host's operator granted, with the host's key and the password of its place
//! ```

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use dataset::disk::{Existing, WholeFile, belong, make_folder};
use exchange::{EnrolmentRequest, Grant, PublicKey, SecretKey, SignedError, Statement, signed};

const KEY: &str = "device.key";
const GRANT: &str = "grant.json";

/// Why the board does not know who it is.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The system does not let us.
    #[error("{}: {source}", path.display())]
    System {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The key is none.
    #[error("{}: it holds no key: if no copy of it is left, remove it and enrol anew", path.display())]
    Key {
        /// The file.
        path: PathBuf,
    },
    /// No key can be made.
    #[error(transparent)]
    Randomness(#[from] exchange::key::RandomnessError),
    /// What the host gave is none of ours.
    #[error("{}: {source}", path.display())]
    Grant {
        /// The file.
        path: PathBuf,
        /// Why.
        source: SignedError,
    },
    /// It is for another board.
    #[error("{}: it was granted to another board, whose key is {theirs}; this board's is {ours}", path.display())]
    AnotherBoard {
        /// The file.
        path: PathBuf,
        /// The key that it names.
        theirs: String,
        /// The key that is here.
        ours: String,
    },
    /// Another host than the one that the board belongs to.
    #[error("{}: it is by the host {theirs}, and this board belongs to {ours}: if that is meant, say --replace-host", path.display())]
    AnotherHost {
        /// The file.
        path: PathBuf,
        /// Who signed it.
        theirs: String,
        /// Whom the board knows.
        ours: String,
    },
}

/// Whether a board may be handed over to another host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handover {
    /// It stays with its host.
    Refuse,
    /// The operator means it.
    Allow,
}

/// The folder in which a board keeps who it is.
#[derive(Clone, Debug)]
pub struct Identity {
    folder: PathBuf,
}

impl Identity {
    /// In a folder; nothing is read yet.
    pub fn at(folder: &Path) -> Identity {
        Identity { folder: folder.to_owned() }
    }

    /// The board's key, which is made when it is asked for first.
    ///
    /// # Errors
    /// A file that holds no key, a folder that cannot be written.
    pub fn key(&self) -> Result<SecretKey, IdentityError> {
        let path = self.folder.join(KEY);
        match fs::read_to_string(&path) {
            Ok(text) => SecretKey::from_text(&text).map_err(|_| IdentityError::Key { path }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let key = SecretKey::generate()?;
                self.write(&path, key.to_text().as_bytes())?;
                Ok(key)
            }
            Err(source) => Err(IdentityError::System { path, source }),
        }
    }

    /// The bytes of a request to be known, for the host's operator.
    ///
    /// # Errors
    /// As [`Identity::key`].
    pub fn request(&self, about: impl FnOnce(PublicKey) -> EnrolmentRequest) -> Result<Vec<u8>, IdentityError> {
        let key = self.key()?;
        Ok(signed::sign(&about(key.public()), &[&key]))
    }

    /// What the host granted; nothing if the board is not enrolled.
    ///
    /// # Errors
    /// A file that is no grant.
    pub fn grant(&self) -> Result<Option<Grant>, IdentityError> {
        let path = self.folder.join(GRANT);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(IdentityError::System { path, source }),
        };
        let grant = signed::open_by_its_own(&bytes, |grant: &Grant| grant.host);
        grant.map(Some).map_err(|source| IdentityError::Grant { path, source })
    }

    /// Takes a grant from a file.
    ///
    /// # Errors
    /// A file that is no grant, one for another board, one of another host.
    pub fn accept(&self, path: &Path, handover: Handover) -> Result<Grant, IdentityError> {
        let fault = |source| IdentityError::System { path: path.to_owned(), source };
        let length = fs::metadata(path).map_err(fault)?.len();
        let name = Grant::NAME;
        let grant_fault = |source| IdentityError::Grant { path: path.to_owned(), source };
        if length > Grant::MAX_BYTES as u64 {
            let bytes = usize::try_from(length).unwrap_or(usize::MAX);
            return Err(grant_fault(SignedError::TooLong { name, bytes, most: Grant::MAX_BYTES }));
        }
        let bytes = fs::read(path).map_err(fault)?;
        let grant: Grant = signed::open_by_its_own(&bytes, |grant: &Grant| grant.host).map_err(grant_fault)?;
        let ours = self.key()?.public();
        if grant.key != ours {
            let (theirs, ours) = (grant.key.fingerprint(), ours.fingerprint());
            return Err(IdentityError::AnotherBoard { path: path.to_owned(), theirs, ours });
        }
        // A file that is no grant has nothing to say about whom the board belongs to.
        let known = self.grant().ok().flatten().map(|grant| grant.host).filter(|host| *host != grant.host);
        if let (Some(known), Handover::Refuse) = (known, handover) {
            let (theirs, ours) = (grant.host.fingerprint(), known.fingerprint());
            return Err(IdentityError::AnotherHost { path: path.to_owned(), theirs, ours });
        }
        self.write(&self.folder.join(GRANT), &bytes)?;
        Ok(grant)
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> Result<(), IdentityError> {
        let written = (|| {
            make_folder(&self.folder)?;
            WholeFile::secret_beside(path).and_then(|mut file| {
                io::Write::write_all(&mut file, bytes)?;
                file.keep(Existing::Replace)
            })?;
            belong(path)
        })();
        written.map_err(|source| IdentityError::System { path: path.to_owned(), source })
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn grant(key: PublicKey, host: &SecretKey) -> Vec<u8> {
        let grant = Grant {
            device: "garden".parse().unwrap(),
            key,
            host: host.public(),
            url: None,
            credentials: None,
            root: None,
        };
        signed::sign(&grant, &[host])
    }

    #[test]
    fn a_board_keeps_its_key_for_itself_and_belongs_to_one_host() {
        let folder = tempfile::tempdir().unwrap();
        let board = Identity::at(&folder.path().join("sync"));
        let key = board.key().unwrap().public();
        assert_eq!(board.key().unwrap().public(), key);
        let mode = fs::metadata(folder.path().join("sync/device.key")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(board.grant().unwrap(), None);

        let (home, other) = (SecretKey::generate().unwrap(), SecretKey::generate().unwrap());
        let file = folder.path().join("grant");
        let accept = |bytes: Vec<u8>, handover| {
            fs::write(&file, bytes).unwrap();
            board.accept(&file, handover)
        };
        let stranger = accept(grant(other.public(), &home), Handover::Allow);
        assert!(matches!(stranger, Err(IdentityError::AnotherBoard { .. })), "{stranger:?}");
        assert!(matches!(accept(b"{}".to_vec(), Handover::Allow), Err(IdentityError::Grant { .. })));
        assert!(matches!(accept(vec![b' '; 9000], Handover::Allow), Err(IdentityError::Grant { .. })));
        assert_eq!(accept(grant(key, &home), Handover::Refuse).unwrap().device.as_str(), "garden");
        assert_eq!(board.grant().unwrap().unwrap().host, home.public());
        assert!(matches!(accept(grant(key, &other), Handover::Refuse), Err(IdentityError::AnotherHost { .. })));
        accept(grant(key, &other), Handover::Allow).unwrap();
        assert_eq!(board.grant().unwrap().unwrap().host, other.public());
        fs::write(folder.path().join("sync/device.key"), "x").unwrap();
        assert!(matches!(board.key(), Err(IdentityError::Key { .. })));
    }
}
