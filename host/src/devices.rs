//! Boards that the host's operator let in.

use exchange::release::Root;
use exchange::{Credentials, DeviceName, EnrolmentRequest, Grant, PublicKey, SecretKey, SignedError, signed};

use crate::book::DeviceRow;
use crate::home::{Home, HomeError};
use crate::now_s;

const ACTIVE: &str = "active";
const REVOKED: &str = "revoked";

/// Whether a board's shards are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// They are.
    Active,
    /// They lie where they are.
    Revoked,
}

/// A board.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// What the host calls it.
    pub name: DeviceName,
    /// Its key.
    pub key: PublicKey,
    /// What board it is.
    pub board: String,
    /// The version of its program when it asked.
    pub version: String,
    /// Whether it is let in.
    pub standing: Standing,
    /// When that was decided, seconds since 1970.
    pub since_s: i64,
    /// Its pairs that are here.
    pub pairs: u64,
    /// Bytes of their pictures.
    pub bytes: u64,
}

/// Why a board is not let in.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// The request is none.
    #[error("the request: {0}")]
    Request(#[from] SignedError),
    /// Its name is another's.
    #[error(
        "{name} is a board with another key, {fingerprint}: choose another name with --name, or revoke that one first"
    )]
    Taken {
        /// The name.
        name: DeviceName,
        /// Whose it is.
        fingerprint: String,
    },
    /// There is no such board.
    #[error("there is no board {name}: edgeblip-trainer devices list names them")]
    Unknown {
        /// The name.
        name: DeviceName,
    },
    /// The folder.
    #[error(transparent)]
    Home(#[from] HomeError),
}

/// What the operator decides about a request.
#[derive(Clone, Debug, Default)]
pub struct Approval {
    /// Another name than the board would like.
    pub name: Option<DeviceName>,
    /// Where its shards are to go.
    pub url: Option<String>,
    /// What opens that place, where it is not the host's own.
    pub credentials: Option<Credentials>,
    /// Whose releases of models it is to take.
    pub root: Option<Root>,
}

/// New credentials for the host's own place.
///
/// # Errors
/// A system without randomness.
pub fn new_credentials() -> Result<Credentials, HomeError> {
    let (user, secret) =
        (SecretKey::generate().map_err(HomeError::from)?, SecretKey::generate().map_err(HomeError::from)?);
    // Twenty capital characters are what tools of S3 expect of an access key.
    let user: String = user.to_text().to_ascii_uppercase().chars().take(20).collect();
    Ok(Credentials { user, secret: secret.to_text().trim_end().to_owned(), region: None })
}

/// A request, whose signature is its own.
///
/// # Errors
/// Bytes that are no request.
pub fn read_request(bytes: &[u8]) -> Result<EnrolmentRequest, SignedError> {
    signed::open_by_its_own(bytes, |request: &EnrolmentRequest| request.key)
}

impl Home {
    /// All boards, by name.
    ///
    /// # Errors
    /// The folder.
    pub fn devices(&self) -> Result<Vec<Device>, HomeError> {
        let counts = self.book.counts()?;
        let device = |row: DeviceRow| {
            let count = counts.iter().find(|(name, ..)| name == row.name.as_str());
            let (pairs, bytes) = count.map_or((0, 0), |(_, pairs, bytes)| (*pairs, *bytes));
            let DeviceRow { name, key, board, version, state, since_s, .. } = row;
            let standing = if state == ACTIVE { Standing::Active } else { Standing::Revoked };
            Device { name, key, board, version, standing, since_s, pairs, bytes }
        };
        Ok(self.book.devices()?.into_iter().map(device).collect())
    }

    /// Lets a board in: the bytes of the grant that it is to get. A board that asks again under its key keeps its name.
    ///
    /// # Errors
    /// A request that is none, a name that is taken.
    pub fn approve(&mut self, request: &[u8], approval: Approval) -> Result<(Grant, Vec<u8>), DeviceError> {
        let request = read_request(request)?;
        let rows = self.book.devices().map_err(HomeError::from)?;
        let known = rows.iter().find(|row| row.key == request.key).map(|row| row.name.clone());
        let name = approval.name.or(known).unwrap_or_else(|| request.name.clone());
        if let Some(other) = rows.iter().find(|row| row.name == name && row.key != request.key && row.state == ACTIVE) {
            return Err(DeviceError::Taken { name, fingerprint: other.key.fingerprint() });
        }
        let row = DeviceRow {
            name: name.clone(),
            key: request.key,
            board: request.board.as_str().to_owned(),
            version: request.version.as_str().to_owned(),
            state: ACTIVE.to_owned(),
            credentials: approval.credentials.clone(),
            since_s: now_s(),
        };
        self.book.write_device(&row).map_err(HomeError::from)?;
        let grant = Grant {
            device: name,
            key: request.key,
            host: self.key(),
            url: approval.url,
            credentials: approval.credentials,
            root: approval.root,
        };
        let bytes = signed::sign(&grant, &[self.secret()]);
        Ok((grant, bytes))
    }

    /// The board that an access key of the host's own place is of, with its secret; nothing for a board that is let in no
    /// more.
    ///
    /// # Errors
    /// The folder.
    pub fn opened_by(&self, user: &str) -> Result<Option<(DeviceName, String)>, HomeError> {
        let found = self.book.opened_by(user)?.filter(|(_, _, state)| state == ACTIVE);
        Ok(found.and_then(|(name, secret, _)| Some((name.parse().ok()?, secret))))
    }

    /// Lets a board in no more. What it has sent stays.
    ///
    /// # Errors
    /// No such board.
    pub fn revoke(&mut self, name: &DeviceName) -> Result<(), DeviceError> {
        let rows = self.book.devices().map_err(HomeError::from)?;
        let row = rows.into_iter().find(|row| row.name == *name);
        let row = row.ok_or_else(|| DeviceError::Unknown { name: name.clone() })?;
        let row = DeviceRow { state: REVOKED.to_owned(), since_s: now_s(), credentials: None, ..row };
        self.book.write_device(&row).map_err(HomeError::from)?;
        Ok(())
    }
}
