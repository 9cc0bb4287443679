//! A host's releases, and a place that gives them out.

use std::collections::BTreeMap;

use exchange::release::{
    Board, BoardClass, DELEGATION, Delegation, Health, NEWEST, Newest, ReleasedFile, Root, file_place, release_place,
};
use exchange::{DeviceName, Digest, PublicKey, Release, SecretKey, Statement, signed};
use objects::{Remote, RemoteError};
use update::{Fetched, Offered, Slot, UpdateError, Updates};

/// Larger than two pieces.
pub(crate) const WEIGHTS: usize = (2 << 20) + 4321;

pub(crate) fn key(seed: u8) -> SecretKey {
    SecretKey::from_text(&format!("{seed:02x}").repeat(32)).unwrap()
}

/// A host with its root (key 1) and release key (key 9), and the place where it puts things.
pub(crate) struct Place {
    pub(crate) objects: BTreeMap<String, Vec<u8>>,
    pub(crate) number: u64,
    pub(crate) asked: u64,
    pub(crate) given: u64,
    /// The request at which the connection ends.
    pub(crate) ends_at: Option<u64>,
    /// Bytes of the weights of what it releases.
    pub(crate) weights: usize,
}

impl Place {
    pub(crate) fn new() -> Place {
        let objects = BTreeMap::new();
        let mut place = Place { objects, number: 0, asked: 0, given: 0, ends_at: None, weights: WEIGHTS };
        place.delegate(1, 9);
        place
    }

    pub(crate) fn put<S: Statement>(&mut self, name: &str, statement: &S, signer: u8) -> Digest {
        let bytes = signed::sign(statement, &[&key(signer)]);
        let digest = Digest::of(&bytes);
        self.objects.insert(name.to_owned(), bytes);
        digest
    }

    pub(crate) fn delegate(&mut self, serial: u64, online: u8) {
        let classes = vec![BoardClass::any()];
        let delegation = Delegation { serial, key: key(online).public(), classes, expires_s: 1_000_000 };
        self.put(DELEGATION, &delegation, 1);
    }

    /// Releases something and has a board take it wholly up.
    pub(crate) fn keep(&mut self, updates: &Updates, sequence: u64) -> Slot {
        self.release(sequence);
        let Fetched::Ready { slot, .. } = fetch(updates, self).unwrap() else { panic!("it is not there") };
        updates.propose(slot).unwrap();
        let chosen = updates.begin().unwrap();
        assert!(chosen.is_trial);
        updates.commit(&chosen).unwrap();
        slot
    }

    /// Releases a bundle of a manifest, and weights of which the first half is the same in all.
    pub(crate) fn release(&mut self, sequence: u64) -> Release {
        self.release_by(sequence, 9)
    }

    pub(crate) fn release_by(&mut self, sequence: u64, online: u8) -> Release {
        let mut files = BTreeMap::new();
        let weights: Vec<u8> =
            (0..self.weights).map(|place| (place as u64).wrapping_mul(sequence % 1009) as u8).collect();
        let contents = [
            ("manifest.json", format!("manifest {sequence}").into_bytes()),
            ("tokenizer.json", b"words".to_vec()),
            ("weights.bin", weights),
        ];
        for (name, bytes) in contents {
            let file = ReleasedFile { sha256: Digest::of(&bytes), bytes: bytes.len() as u64 };
            self.objects.insert(file_place(file.sha256), bytes);
            files.insert(name.to_owned(), file);
        }
        let release = Release {
            sequence,
            bundle: files["manifest.json"].sha256,
            files,
            minimum_version: "0.1.0".parse().unwrap(),
            classes: vec![BoardClass::any()],
            health: Health { memory_mib: 100, seconds: 60, tolerance: 0.05 },
            made_s: 1,
        };
        self.announce(&release, online, 1000);
        release
    }

    pub(crate) fn announce(&mut self, release: &Release, online: u8, share: u16) {
        let digest = self.put(&release_place(release.sequence), release, online);
        self.number += 1;
        let (number, sequence) = (self.number, release.sequence);
        let newest = Newest { number, sequence, release: digest, share, at_s: 100, expires_s: 900_000 };
        self.put(NEWEST, &newest, online);
    }

    fn ask(&mut self) -> Result<(), RemoteError> {
        self.asked += 1;
        match self.ends_at {
            Some(at) if self.asked >= at => Err(RemoteError::Offline("it ended".to_owned())),
            _ => Ok(()),
        }
    }
}

impl Remote for Place {
    fn length(&mut self, name: &str) -> Result<Option<u64>, RemoteError> {
        self.ask()?;
        Ok(self.objects.get(name).map(|bytes| bytes.len() as u64))
    }

    fn get(&mut self, name: &str, most: usize) -> Result<Option<Vec<u8>>, RemoteError> {
        self.ask()?;
        Ok(self.objects.get(name).filter(|bytes| bytes.len() <= most).cloned())
    }

    fn piece(&mut self, name: &str, from: u64, most: usize) -> Result<Option<Vec<u8>>, RemoteError> {
        self.ask()?;
        let Some(bytes) = self.objects.get(name) else { return Ok(None) };
        let piece = bytes.iter().skip(from as usize).take(most).copied().collect::<Vec<u8>>();
        self.given += piece.len() as u64;
        Ok(Some(piece))
    }

    fn put(&mut self, name: &str, bytes: &[u8]) -> Result<(), RemoteError> {
        self.ask()?;
        self.objects.insert(name.to_owned(), bytes.to_vec());
        Ok(())
    }

    fn ahead_s(&self) -> Option<i64> {
        None
    }
}

pub(crate) fn device() -> DeviceName {
    "garden".parse().unwrap()
}

pub(crate) fn root() -> Root {
    Root { version: 1, keys: vec![key(1).public()], threshold: 1 }
}

/// The host that granted the root.
pub(crate) fn host() -> PublicKey {
    key(5).public()
}

pub(crate) fn believing(folder: &std::path::Path) -> Updates {
    let updates = Updates::at(folder);
    updates.believe(&root(), host()).unwrap();
    updates
}

pub(crate) fn fetch(updates: &Updates, place: &mut Place) -> Result<Fetched, UpdateError> {
    fetch_at(updates, place, 1000)
}

pub(crate) fn fetch_at(updates: &Updates, place: &mut Place, now_s: i64) -> Result<Fetched, UpdateError> {
    let board = Board { classes: vec!["aarch64".parse().unwrap()], version: "0.1.0".parse().unwrap() };
    updates.fetch(&updates.claim()?, place, &Offered { device: &device(), board: &board, now_s, leave: 0 })
}
