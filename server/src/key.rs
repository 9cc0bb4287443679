//! What an object's name says: which board's it is, and what a board may do with it.

use exchange::device::shard_of;
use exchange::{DeviceName, Digest};

/// Longest name of an object, in bytes, and most of its segments.
const MAX_KEY: usize = 512;
const MAX_DEPTH: usize = 8;

/// A name that no path leaves: segments of small letters, digits, `.`, `_` and `-`, none of which is hidden. Two names are two
/// files on any disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Key {
    text: String,
    kind: Kind,
}

/// What lies there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A shard, which must have the bytes that it is named after.
    Shard(DeviceName, Digest),
    /// A receipt for a board.
    Receipt(DeviceName),
    /// A board's word about a release.
    Health(DeviceName, Digest),
    /// A release, or a file of one.
    Release,
    /// Something else of the operator's.
    Other,
}

impl Key {
    /// A name as a request has it; nothing for one that no object has.
    pub(crate) fn new(text: &str) -> Option<Key> {
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._-".contains(&byte);
        let is_segment = |segment: &str| !segment.is_empty() && !segment.starts_with('.') && segment.bytes().all(plain);
        let is_plain = text.len() <= MAX_KEY && text.split('/').count() <= MAX_DEPTH && text.split('/').all(is_segment);
        is_plain.then(|| Key { text: text.to_owned(), kind: kind_of(text) })
    }

    /// Its last segment.
    pub(crate) fn file(&self) -> &str {
        self.text.rsplit_once('/').map_or(self.text.as_str(), |(_, file)| file)
    }

    /// The segments before that.
    pub(crate) fn folders(&self) -> impl Iterator<Item = &str> {
        self.text.rsplit_once('/').into_iter().flat_map(|(folders, _)| folders.split('/'))
    }

    pub(crate) fn kind(&self) -> &Kind {
        &self.kind
    }

    /// The SHA-256 that its bytes must have.
    pub(crate) fn content(&self) -> Option<Digest> {
        match self.kind {
            Kind::Shard(_, digest) | Kind::Health(_, digest) => Some(digest),
            _ => None,
        }
    }
}

fn kind_of(text: &str) -> Kind {
    if text.starts_with("releases/") {
        return Kind::Release;
    }
    let parts: Vec<&str> = text.split('/').collect();
    let ["devices", device, folder, file] = parts[..] else { return Kind::Other };
    let Ok(device) = device.parse::<DeviceName>() else { return Kind::Other };
    let named = file.strip_suffix(".json").and_then(|name| name.parse::<Digest>().ok());
    match (folder, shard_of(file), named) {
        ("shards", Some(shard), _) => Kind::Shard(device, shard),
        ("receipts", _, Some(_)) => Kind::Receipt(device),
        ("health", _, Some(report)) => Kind::Health(device, report),
        _ => Kind::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_paths_are_none() {
        let long = "a/".repeat(9) + "a";
        for text in [
            "", "/", "a//b", "/a", "a/", "..", "a/../b", "./a", "a/.b", "a\\b", "a b", "a\0", "A", "é", "%2e%2e", &long,
        ] {
            assert_eq!(Key::new(text), None, "{text}");
        }
    }

    #[test]
    fn a_name_says_whose_it_is() {
        let digest = Digest::of(b"shard");
        let kind = |text: &str| Key::new(text).unwrap().kind;
        let garden: DeviceName = "garden".parse().unwrap();
        assert_eq!(kind(&garden.shard(digest)), Kind::Shard(garden.clone(), digest));
        assert_eq!(kind(&garden.receipt(digest)), Kind::Receipt(garden.clone()));
        assert_eq!(kind(&format!("devices/garden/health/{digest}.json")), Kind::Health(garden, digest));
        assert_eq!(kind("releases/newest.json"), Kind::Release);
        for text in ["devices/garden/shards/x.tar", "devices/garden/other", "devices/-garden/shards/x", "x"] {
            assert_eq!(kind(text), Kind::Other, "{text}");
        }
    }
}
