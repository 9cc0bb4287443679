//! A host with pairs of boards that are played here: real stores, real shards, and a child that takes every picture.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use blip::caption::{Caption, Origin};
use blip::pixels::Rgb8;
use exchange::{DeviceName, EnrolmentRequest, Packer, SecretKey, signed};
use objects::{Objects, Options, Remote};
use picture::{JpegQuality, encode_jpeg};
use store::{ClockQuality, Decision, Label, LabelAction, Limits, Original, Pair, Reader, Sensor, Stamp, Store, Text};

use crate::devices::Approval;
use crate::likeness::likeness_of;
use crate::{Decoder, Home, Inbox, Program, Summary};

pub const DAY_MS: i64 = 86_400_000;
/// 2026-01-01.
pub const START_MS: i64 = 1_767_225_600_000;

/// Reads as "decode-pictures" does, and takes every picture.
const CHILD: &str = r#"while n=$(head -c 4 | od -An -tu4) && [ -n "$n" ]; do head -c $n >/dev/null; echo ok; done"#;

pub struct Scene {
    pub place: tempfile::TempDir,
}

pub fn caption(text: &str) -> Caption {
    Caption::new(text).unwrap()
}

/// A picture of smooth shades that no other number has.
pub fn jpeg(number: u64) -> Vec<u8> {
    let mut state = number.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(1);
    let mut shade = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 56) as u8
    };
    let cells: Vec<u8> = (0..72).map(|_| shade()).collect();
    let (width, height) = (9 * 16, 8 * 16);
    let values = (0..height).flat_map(|y| (0..width).map(move |x| (x, y)));
    let values = values.flat_map(|(x, y)| [cells[y / 16 * 9 + x / 16]; 3]).collect();
    encode_jpeg(&Rgb8::new(width, height, values).unwrap(), JpegQuality::new(80).unwrap()).unwrap()
}

/// A pair of a board, taken on a day.
pub fn pair(jpeg: Vec<u8>, words: &str, day: i64) -> Pair {
    let text = Text {
        words: caption(words),
        origin: Origin::Caption,
        itm: Some(0.9),
        itc: None,
        log_prob: None,
        decision: Decision::Kept,
        model: None,
    };
    let sensor = Sensor {
        camera: caption("test"),
        trigger: caption("interval"),
        exposure_us: None,
        temperature_c: None,
        throttled: None,
    };
    let taken = Stamp { since_boot_ms: 0, wall_ms: Some(START_MS + day * DAY_MS), quality: ClockQuality::Ntp };
    Pair { jpeg: Some(jpeg), texts: vec![text], sensor, place: None, taken, bundle: None, vector: None }
}

impl Scene {
    pub fn new() -> Scene {
        Scene { place: tempfile::tempdir().unwrap() }
    }

    pub fn folder(&self) -> PathBuf {
        self.place.path().join("host")
    }

    pub fn open(&self) -> Home {
        Home::open(&self.folder()).unwrap()
    }

    /// What a board's store makes of pairs.
    pub fn stored(&self, device: &str, pairs: Vec<Pair>, labels: &[(usize, LabelAction)]) -> Vec<Original> {
        let folder = self.place.path().join(device);
        let mut store = Store::open(&folder, caption("boot"), Limits::default()).unwrap().0;
        let mut ids = Vec::new();
        for pair in pairs {
            store.put(pair, Duration::ZERO).unwrap();
            ids.extend(store.flush().unwrap());
        }
        for (place, action) in labels {
            store.label(ids[*place], Label { action: action.clone(), by: None, at: Stamp::default() }).unwrap();
        }
        let reader: Reader = store.reader();
        reader.originals(&ids).unwrap()
    }

    /// Lets a board in, and puts a shard of its pairs where the host looks.
    pub fn send(&self, home: &mut Home, device: &str, originals: &[Original]) {
        let name: DeviceName = device.parse().unwrap();
        if !home.devices().unwrap().iter().any(|known| known.name == name) {
            let key = SecretKey::generate().unwrap();
            let request =
                EnrolmentRequest { key: key.public(), name: name.clone(), board: caption("b"), version: caption("1") };
            home.approve(&signed::sign(&request, &[&key]), Approval::default()).unwrap();
        }
        let mut packer = Packer::new();
        originals.iter().for_each(|original| packer.add(original).unwrap());
        let shard = packer.finish().unwrap();
        self.objects(home).put(&name.shard(shard.digest), &shard.bytes).unwrap();
    }

    pub fn objects(&self, home: &Home) -> Objects {
        Objects::open(&format!("file://{}", home.objects().unwrap().display()), &Options::default()).unwrap()
    }

    pub fn take_in(&self, home: &mut Home) -> Summary {
        let mut objects = self.objects(home);
        let arguments = vec!["-c".to_owned(), CHILD.to_owned()];
        let mut decoder = Decoder::new(Program { path: PathBuf::from("/bin/sh"), arguments });
        Inbox::open(home, &mut objects, &mut decoder).unwrap().run(|_, _| {}).unwrap()
    }

    /// All of it: pairs of a board come home.
    pub fn bring(&self, home: &mut Home, device: &str, pairs: Vec<Pair>) -> Vec<Original> {
        let originals = self.stored(device, pairs, &[]);
        self.send(home, device, &originals);
        let summary = self.take_in(home);
        assert_eq!((summary.pairs, summary.refused), (originals.len() as u64, 0), "{summary:?}");
        originals
    }
}

pub fn look(picture: &[u8]) -> std::io::Result<Result<u64, String>> {
    Ok(likeness_of(picture).map_err(|error| error.to_string()))
}

/// Whether bytes stand anywhere in the files of a folder.
pub fn is_anywhere(folder: &Path, bytes: &[u8]) -> bool {
    fs::read_dir(folder).unwrap().any(|entry| {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => is_anywhere(&path, bytes),
            false => fs::read(&path).unwrap().windows(bytes.len()).any(|window| window == bytes),
        }
    })
}

/// Bytes that no other picture has: its last but for the end mark.
pub fn mark(jpeg: &[u8]) -> &[u8] {
    &jpeg[jpeg.len() - 80..jpeg.len() - 10]
}
