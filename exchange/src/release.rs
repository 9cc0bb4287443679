//! Models for boards, as they are signed.
//!
//! ```text
//! releases/roots/N.json        who may delegate, from version 2 on: signed by the root before and by itself
//! releases/delegation.json     who may release, until when, for which boards: signed by the root, which is offline
//! releases/newest.json         which release is the newest, for how many boards, until when that holds: signed by the release key
//! releases/SEQUENCE.json       a release: signed by the release key
//! releases/files/SHA256        the files of bundles
//! devices/NAME/health/SHA256.json   what became of a release on a board: written and signed by the board
//! ```
//!
//! The roles are those of The Update Framework, with fewer files: root, delegated targets, and timestamp.
//! Source: The Update Framework Specification 1.0.34, sections 2 and 5, <https://theupdateframework.github.io/specification/latest/>.

mod class;
mod trust;

use std::collections::BTreeMap;

use blip::caption::Caption;
use serde::{Deserialize, Serialize};

use crate::device::DeviceName;
use crate::digest::Digest;
use crate::key::PublicKey;
use crate::signed::Statement;

pub use class::{Board, BoardClass, BoardClassError, Version, VersionError};
pub use trust::{ReleaseError, Trust};

/// Where the delegation lies.
pub const DELEGATION: &str = "releases/delegation.json";
/// Where the word about the newest release lies.
pub const NEWEST: &str = "releases/newest.json";
/// Most keys of a root, so many that no loss of a few ends it.
const MAX_ROOT_KEYS: usize = 8;
/// Most files of a bundle, and most bytes of all of them.
const MAX_FILES: usize = 64;
/// More than any bundle for a board, in bytes.
const MAX_BUNDLE_BYTES: u64 = 4 << 30;
/// Everything, in shares of a rollout.
pub const ALL_BOARDS: u16 = 1000;

/// Where the root of a version lies.
pub fn root_place(version: u32) -> String {
    format!("releases/roots/{version}.json")
}

/// Where a release lies.
pub fn release_place(sequence: u64) -> String {
    format!("releases/{sequence}.json")
}

/// Where a file of a bundle lies.
pub fn file_place(file: Digest) -> String {
    format!("releases/files/{file}")
}

/// Where the report of a board lies, by the SHA-256 of its envelope.
pub fn health_place(device: &DeviceName, report: Digest) -> String {
    format!("{}/health/{report}.json", device.place())
}

/// Who may delegate. Its keys are offline; so many of them must sign as it says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Root {
    /// 1, and one more each time.
    pub version: u32,
    /// Its keys.
    pub keys: Vec<PublicKey>,
    /// How many of them must sign.
    pub threshold: u8,
}

impl Root {
    /// Whether it can be signed at all: keys that differ, and no more signatures than keys.
    pub fn is_sound(&self) -> bool {
        let differ = self.keys.iter().enumerate().all(|(place, key)| !self.keys.iter().take(place).any(|k| k == key));
        let threshold = usize::from(self.threshold);
        self.version > 0
            && differ
            && (1..=self.keys.len().min(MAX_ROOT_KEYS)).contains(&threshold)
            && self.keys.len() <= MAX_ROOT_KEYS
    }
}

impl Statement for Root {
    const MEDIA_TYPE: &'static str = "application/vnd.edgeblip.root+json";
    const NAME: &'static str = "root";
    const MAX_BYTES: usize = 16 << 10;
}

/// Who may release, for a time and for some boards. Signed by the root.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delegation {
    /// One more each time: a board that knows a later one takes no earlier one.
    pub serial: u64,
    /// Whose releases are to be taken.
    pub key: PublicKey,
    /// Boards for which that key may release.
    pub classes: Vec<BoardClass>,
    /// Until when, seconds since 1970.
    pub expires_s: i64,
}

impl Statement for Delegation {
    const MEDIA_TYPE: &'static str = "application/vnd.edgeblip.delegation+json";
    const NAME: &'static str = "delegation";
    const MAX_BYTES: usize = 16 << 10;
}

/// Which release is the newest. Signed by the release key, anew before it expires.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Newest {
    /// One more each time.
    pub number: u64,
    /// The newest release.
    pub sequence: u64,
    /// SHA-256 of its envelope.
    pub release: Digest,
    /// How many boards of 1,000 are to take it.
    pub share: u16,
    /// When this was said, seconds since 1970.
    pub at_s: i64,
    /// Until when it holds, seconds since 1970.
    pub expires_s: i64,
}

impl Newest {
    /// Whether a board is among those that are to take it. A larger share has all boards of a smaller one.
    pub fn is_for(&self, device: &DeviceName) -> bool {
        let drawn = Digest::of(format!("{} {device}", self.release).as_bytes()).bytes();
        let drawn = u32::from_be_bytes([drawn[0], drawn[1], drawn[2], drawn[3]]);
        drawn % u32::from(ALL_BOARDS) < u32::from(self.share)
    }
}

impl Statement for Newest {
    const MEDIA_TYPE: &'static str = "application/vnd.edgeblip.newest+json";
    const NAME: &'static str = "word about the newest release";
    const MAX_BYTES: usize = 8 << 10;
}

/// A model for boards. Signed by the release key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Release {
    /// Larger than that of every release before.
    pub sequence: u64,
    /// SHA-256 of the bundle's manifest, as the bundle names itself.
    pub bundle: Digest,
    /// Every file of the bundle, by name.
    pub files: BTreeMap<String, ReleasedFile>,
    /// The oldest program that can run it.
    pub minimum_version: Version,
    /// Boards that it is for.
    pub classes: Vec<BoardClass>,
    /// What it must do on a board to stay there.
    pub health: Health,
    /// When it was made, seconds since 1970.
    pub made_s: i64,
}

/// A file of a bundle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleasedFile {
    /// Its content.
    pub sha256: Digest,
    /// Its length.
    pub bytes: u64,
}

/// What a model must do on a board to stay there.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Health {
    /// Most memory that loading and captioning may take, in MiB.
    pub memory_mib: u32,
    /// Most seconds until it is loaded and has given all of its golden answers.
    pub seconds: u32,
    /// How far the log-probability of a golden text may be from what it was where the bundle was made.
    pub tolerance: f32,
}

impl Release {
    /// Bytes of all files.
    pub fn bytes(&self) -> u64 {
        self.files.values().fold(0, |sum, file| sum.saturating_add(file.bytes))
    }

    /// What no release has: no files, names that are paths, more than a board can hold.
    fn fault(&self) -> Option<&'static str> {
        let is_plain = |name: &str| {
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
            !name.is_empty() && name.len() <= 128 && !name.starts_with('.') && name.bytes().all(plain)
        };
        let manifest = self.files.get("manifest.json");
        if self.files.len() > MAX_FILES || self.bytes() > MAX_BUNDLE_BYTES {
            Some("it has more than a board can hold")
        } else if !self.files.keys().all(|name| is_plain(name)) {
            Some("it names a file that no bundle has")
        } else if manifest.is_none_or(|file| file.sha256 != self.bundle) {
            Some("its manifest is not that of the bundle that it names")
        } else if !(self.health.tolerance >= 0.0 && self.health.tolerance.is_finite()) {
            Some("its health contract is none")
        } else {
            None
        }
    }
}

impl Statement for Release {
    const MEDIA_TYPE: &'static str = "application/vnd.edgeblip.release+json";
    const NAME: &'static str = "release";
    const MAX_BYTES: usize = 64 << 10;
}

/// What became of a release on a board. Signed by the board.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthReport {
    /// The board.
    pub device: DeviceName,
    /// The release.
    pub sequence: u64,
    /// SHA-256 of its envelope.
    pub release: Digest,
    /// What became of it.
    pub outcome: Outcome,
    /// The program's version.
    pub version: Version,
    /// When, by the board's clock, seconds since 1970.
    pub at_s: i64,
}

/// What became of a release.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// The board runs it and stays with it.
    Kept,
    /// The board went back to what it had, for this reason, and will not try it again.
    Returned(Caption),
}

impl Statement for HealthReport {
    const MEDIA_TYPE: &'static str = "application/vnd.edgeblip.health+json";
    const NAME: &'static str = "health report of a board";
    const MAX_BYTES: usize = 8 << 10;
}
