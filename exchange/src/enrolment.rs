//! How a board and a host come to know each other: the board asks, the host's operator grants.
//!
//! Both go by hand, by stick or by mail: neither needs a connection. The operators compare fingerprints.

use std::fmt;

use blip::caption::Caption;
use serde::{Deserialize, Serialize};

use crate::device::DeviceName;
use crate::key::PublicKey;
use crate::release::Root;
use crate::signed::Statement;

/// A board asks to be known. Signed with the key that it names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnrolmentRequest {
    /// The board's key.
    pub key: PublicKey,
    /// How it would like to be called.
    pub name: DeviceName,
    /// What board it is, as it names itself.
    pub board: Caption,
    /// The program's version.
    pub version: Caption,
}

impl Statement for EnrolmentRequest {
    const MEDIA_TYPE: &'static str = "application/vnd.edgeblip.enrolment-request+json";
    const NAME: &'static str = "request of a board";
    const MAX_BYTES: usize = 8 << 10;
}

/// A host knows a board. Signed by the host. It holds a password, so that it is for this board's eyes alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// What the board is called.
    pub device: DeviceName,
    /// Its key, as it asked.
    pub key: PublicKey,
    /// The host's key, by which receipts are known.
    pub host: PublicKey,
    /// Where shards go, unless the board's configuration says otherwise.
    pub url: Option<String>,
    /// What opens that place; nothing for a stick.
    pub credentials: Option<Credentials>,
    /// Whose releases of models the board is to take; nothing if the host makes none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root: Option<Root>,
}

impl Statement for Grant {
    const MEDIA_TYPE: &'static str = "application/vnd.edgeblip.grant+json";
    const NAME: &'static str = "grant of a host";
    const MAX_BYTES: usize = 8 << 10;
}

/// What opens a place on the network.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Credentials {
    /// The access key of S3, the user of WebDAV.
    pub user: String,
    /// The secret key, the password.
    pub secret: String,
    /// The region that S3 signs for; "us-east-1" where the server does not care.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the password of {}", self.user)
    }
}
