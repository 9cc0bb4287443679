//! Any bytes as what is said of releases. The first byte chooses whether they are an envelope, or a statement that is signed
//! first by those who are believed, so that every check behind the signature is reached too.

#![no_main]

use exchange::release::{Board, Delegation, Newest, Root};
use exchange::{Digest, Release, SecretKey, Statement, Trust, signed};
use libfuzzer_sys::fuzz_target;
use serde::de::DeserializeOwned;

/// Signed by whoever is believed, if it reads as such a statement at all.
fn believed<S: Statement + DeserializeOwned>(bytes: &[u8], key: &SecretKey) -> Option<Vec<u8>> {
    Some(signed::sign(&serde_json::from_slice::<S>(bytes).ok()?, &[key]))
}

fuzz_target!(|bytes: &[u8]| {
    let Some((choice, rest)) = bytes.split_first() else { return };
    let key = SecretKey::from_text(&"17".repeat(32)).expect("a key");
    let root = Root { version: 1, keys: vec![key.public()], threshold: 1 };
    let mut trust = Trust::new(root).expect("a root");
    let board = Board { classes: vec!["aarch64".parse().expect("a class")], version: "0.1.0".parse().expect("a version") };
    let by = Delegation { serial: 1, key: key.public(), classes: board.classes.clone(), expires_s: 1000 };
    match choice % 5 {
        0 => {
            assert!(trust.follow(rest).is_err() && trust.delegated(rest, 0).is_err() && trust.newest(rest, &by, 0).is_err());
            assert!(trust.root().version == 1, "nobody has signed this");
        }
        1 => drop(believed::<Root>(rest, &key).map(|bytes| trust.follow(&bytes))),
        2 => drop(believed::<Delegation>(rest, &key).map(|bytes| trust.delegated(&bytes, 500))),
        3 => {
            let Some(bytes) = believed::<Newest>(rest, &key) else { return };
            if trust.newest(&bytes, &by, 500).is_ok() {
                assert!(trust.now_s(0) <= 1000, "no word puts the clock beyond the delegation");
            }
        }
        _ => {
            let Some(bytes) = believed::<Release>(rest, &key) else { return };
            let sequence = serde_json::from_slice::<Release>(rest).map_or(0, |release| release.sequence);
            let release = Digest::of(&bytes);
            let newest = Newest { number: 1, sequence, release, share: 1000, at_s: 0, expires_s: 1000 };
            if let Ok(release) = trust.release(&bytes, &by, &newest, &board) {
                assert!(release.files.keys().all(|name| !name.contains('/') && !name.starts_with('.')));
                trust.take(&release);
                assert_eq!(trust.sequence(), sequence);
            }
        }
    }
});
