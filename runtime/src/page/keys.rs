//! Who may do what: links that work once, sessions of browsers, tokens of programs.
//!
//! A token is a kind, when it ends, a random name, and a mark over all of it (HMAC-SHA-256) that only a holder of the key
//! can make. Nothing is kept of those that are given out. The keys are a file beside the pairs: who can read that file can
//! make tokens, and who renews it takes all of them back.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use exchange::digest::from_hex;

use crate::bundle::hex;

/// The file in the store's folder.
const NAME: &str = "page-keys";
/// Bytes of a key.
const KEY: usize = 32;
/// Bytes of the mark that a token carries.
const MARK: usize = 16;
/// Bytes of its name.
const NONCE: usize = 8;
/// What is marked starts with this, so that no other use of the key makes a token.
const PURPOSE: &[u8] = b"edgeblip page 1\n";
/// Longest token that is looked at.
const MAX_TOKEN: usize = 128;

/// What a token is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Lets a browser in, once.
    Link,
    /// Keeps it in.
    Session,
    /// Lets a program in.
    Program,
}

impl Kind {
    fn letter(self) -> char {
        match self {
            Kind::Link => 'l',
            Kind::Session => 's',
            Kind::Program => 'p',
        }
    }
}

/// Keys that cannot be read or made.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// There are none.
    #[error("{}: the page has no keys yet: \"edgeblip run\" makes them when it starts", path.display())]
    NotYet {
        /// Where they would be.
        path: PathBuf,
    },
    /// The file is something else.
    #[error("{}: is not a file of keys: remove it, and start \"edgeblip run\" anew", path.display())]
    Strange {
        /// The file.
        path: PathBuf,
    },
    /// The system does not let us.
    #[error("{}: {source}", path.display())]
    System {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// The keys of a board.
struct Keys {
    /// Of sessions and programs.
    lasting: [u8; KEY],
    /// Of links: another one with every start, so that none works twice.
    run: [u8; KEY],
}

/// Where the keys are, and which links were used since the program started.
pub struct KeyFile {
    path: PathBuf,
    used: Mutex<HashMap<String, u64>>,
}

impl KeyFile {
    /// The keys beside the pairs.
    pub fn of(store: &Path) -> KeyFile {
        KeyFile { path: store.join(NAME), used: Mutex::default() }
    }

    /// Begins a run: links of the one before are worth nothing any more. Makes the keys if there are none.
    ///
    /// # Errors
    /// A disk that takes nothing, no randomness.
    pub fn begin(&self) -> Result<(), KeyError> {
        let lasting = match self.read() {
            Ok(keys) => keys.lasting,
            Err(KeyError::NotYet { .. } | KeyError::Strange { .. }) => self.random()?,
            Err(error) => return Err(error),
        };
        self.write(&Keys { lasting, run: self.random()? })
    }

    /// Makes other keys: whoever was let in is out.
    ///
    /// # Errors
    /// As [`KeyFile::begin`], and no keys that could be renewed.
    pub fn renew(&self) -> Result<(), KeyError> {
        self.read()?;
        self.write(&Keys { lasting: self.random()?, run: self.random()? })
    }

    /// A token that is good for so many seconds.
    ///
    /// # Errors
    /// No keys, no randomness.
    pub fn make(&self, kind: Kind, seconds: u64, now_s: u64) -> Result<String, KeyError> {
        let mut nonce = [0; NONCE];
        getrandom::fill(&mut nonce).map_err(|error| self.system(error.into()))?;
        let words = format!("{}.{}.{}", kind.letter(), now_s.saturating_add(seconds), hex(&nonce));
        let mark = mark(self.read()?.of(kind), &words).finalize().into_bytes();
        Ok(format!("{words}.{}", hex(&mark[..MARK])))
    }

    /// Whether a token is good now.
    pub fn is_good(&self, kind: Kind, token: &str, now_s: u64) -> bool {
        let Some((words, end_s, given)) = parts(kind, token) else { return false };
        let Ok(keys) = self.read() else { return false };
        now_s < end_s && mark(keys.of(kind), words).verify_truncated_left(&given).is_ok()
    }

    /// Whether a link is good now. It is not a second time.
    pub fn use_link(&self, token: &str, now_s: u64) -> bool {
        if !self.is_good(Kind::Link, token, now_s) {
            return false;
        }
        // By what is marked: the mark itself can be written in more than one way.
        let Some((words, end_s, _)) = parts(Kind::Link, token) else { return false };
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        used.retain(|_, end_s| *end_s > now_s);
        used.insert(words.to_owned(), end_s).is_none()
    }

    fn read(&self) -> Result<Keys, KeyError> {
        let mut text = String::new();
        let file = File::open(&self.path).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => KeyError::NotYet { path: self.path.clone() },
            _ => self.system(source),
        })?;
        let strange = || KeyError::Strange { path: self.path.clone() };
        file.take(1024).read_to_string(&mut text).map_err(|_| strange())?;
        let mut keys = text.lines().map(|line| from_hex(line)?.try_into().ok());
        let mut next = || keys.next().flatten().ok_or_else(strange);
        Ok(Keys { lasting: next()?, run: next()? })
    }

    /// In place, so that the file stays its owner's when somebody else renews it.
    fn write(&self, keys: &Keys) -> Result<(), KeyError> {
        let text = format!("{}\n{}\n", hex(&keys.lasting), hex(&keys.run));
        let write = || {
            let options = &mut OpenOptions::new();
            let mut file = options.create(true).truncate(false).write(true).mode(0o600).open(&self.path)?;
            file.write_all(text.as_bytes())?;
            file.set_len(text.len() as u64)?;
            file.sync_all()
        };
        write().map_err(|source| self.system(source))
    }

    fn random(&self) -> Result<[u8; KEY], KeyError> {
        let mut key = [0; KEY];
        getrandom::fill(&mut key).map_err(|error| self.system(error.into()))?;
        Ok(key)
    }

    fn system(&self, source: io::Error) -> KeyError {
        KeyError::System { path: self.path.clone(), source }
    }
}

/// Seconds since 1970, as the board's clock has it.
pub fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

impl Keys {
    fn of(&self, kind: Kind) -> &[u8; KEY] {
        match kind {
            Kind::Link => &self.run,
            Kind::Session | Kind::Program => &self.lasting,
        }
    }
}

fn mark(key: &[u8; KEY], words: &str) -> Hmac<Sha256> {
    let mut mark = Hmac::<Sha256>::new_from_slice(key).expect("a key of any length is one");
    mark.update(PURPOSE);
    mark.update(words.as_bytes());
    mark
}

/// What is marked, when it ends, and the mark.
fn parts(kind: Kind, token: &str) -> Option<(&str, u64, Vec<u8>)> {
    if token.len() > MAX_TOKEN {
        return None;
    }
    let (words, mark) = token.rsplit_once('.')?;
    let mut parts = words.splitn(3, '.');
    let is_of_kind = parts.next()? == kind.letter().encode_utf8(&mut [0; 4]);
    let end_s = parts.next()?.parse().ok()?;
    let mark = from_hex(mark).filter(|mark| mark.len() == MARK)?;
    is_of_kind.then_some((words, end_s, mark))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const NOW: u64 = 1_795_000_000;

    fn keys() -> (tempfile::TempDir, KeyFile) {
        let folder = tempfile::tempdir().unwrap();
        let keys = KeyFile::of(folder.path());
        keys.begin().unwrap();
        (folder, keys)
    }

    #[test]
    fn a_token_is_good_for_what_it_is_and_as_long_as_it_says() {
        let (_folder, keys) = keys();
        for kind in [Kind::Session, Kind::Program] {
            let token = keys.make(kind, 60, NOW).unwrap();
            assert!(keys.is_good(kind, &token, NOW + 59));
            assert!(!keys.is_good(kind, &token, NOW + 60));
            for other in [Kind::Link, Kind::Session, Kind::Program] {
                assert_eq!(keys.is_good(other, &token, NOW), other == kind);
            }
        }
    }

    #[test]
    fn a_link_works_once_and_not_after_another_start() {
        let (folder, keys) = keys();
        let link = keys.make(Kind::Link, 60, NOW).unwrap();
        assert!(keys.use_link(&link, NOW));
        assert!(!keys.use_link(&link, NOW));
        assert!(!keys.use_link(&link.replace(|c: char| c.is_ascii_lowercase() && c != 'l', "A"), NOW));
        let (words, mark) = link.rsplit_once('.').unwrap();
        assert!(!keys.use_link(&format!("{words}.{}", mark.to_uppercase()), NOW));
        let link = keys.make(Kind::Link, 60, NOW).unwrap();
        let session = keys.make(Kind::Session, 60, NOW).unwrap();
        let next = KeyFile::of(folder.path());
        next.begin().unwrap();
        assert!(!next.use_link(&link, NOW));
        assert!(next.is_good(Kind::Session, &session, NOW));
        next.renew().unwrap();
        assert!(!keys.is_good(Kind::Session, &session, NOW));
    }

    #[test]
    fn no_changed_byte_of_a_token_leaves_it_good() {
        let (_folder, keys) = keys();
        let token = keys.make(Kind::Session, 60, NOW).unwrap();
        for place in 0..token.len() {
            for other in ["0", "9", "a", "l", ".", ""] {
                let mut changed = token.clone();
                changed.replace_range(place..=place, other);
                assert_eq!(keys.is_good(Kind::Session, &changed, NOW), changed == token, "{changed}");
            }
        }
        for nonsense in ["", ".", "s", "s.1", "s.1.2.", &"s.".repeat(1000), "s.99999999999999999999.00.00"] {
            assert!(!keys.is_good(Kind::Session, nonsense, NOW));
        }
    }

    #[test]
    fn keys_are_their_owners_and_a_file_of_something_else_lets_nobody_in() {
        let (folder, keys) = keys();
        let path = folder.path().join(NAME);
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        let token = keys.make(Kind::Session, 60, NOW).unwrap();
        std::fs::write(&path, "\n\n").unwrap();
        assert!(!keys.is_good(Kind::Session, &token, NOW));
        assert!(matches!(keys.make(Kind::Link, 60, NOW), Err(KeyError::Strange { .. })));
        std::fs::remove_file(&path).unwrap();
        assert!(matches!(keys.renew(), Err(KeyError::NotYet { .. })));
    }
}
