//! Disks that are full while a dataset is written.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::write::{DatasetWriter, WriteError, WriteOptions};
use super::*;

const FORMATS: [Format; 5] =
    [Format::ImageFolder, Format::BlipJson, Format::CocoJson, Format::WebDataset, Format::Parquet];
/// The folder in which this program, started again by a test, is to write, and the format.
const FOLDER: &str = "EDGEBLIP_TEST_DATASET";
const FORMAT: &str = "EDGEBLIP_TEST_FORMAT";

/// Pairs with small pictures, and a last one with a picture that is too large for the disk.
fn pairs(large: usize) -> impl Iterator<Item = Pair> {
    (0..20).map(move |number: u8| {
        let mut picture = b"\x89PNG\r\n\x1a\n".to_vec();
        picture.resize(if number == 19 { large } else { 1500 }, number);
        let texts = vec![Text { text: format!("number {number}"), origin: Origin::Web, score: None }];
        Pair { key: format!("picture-{number:02}"), picture, texts, truth: None }
    })
}

/// Writes the pairs; shards end after a few of them.
fn written(folder: &Path, format: Format, prefix: &str, large: usize) -> Result<(), WriteError> {
    let options = WriteOptions { prefix: prefix.to_owned(), shard_bytes: 4000 };
    let mut writer = DatasetWriter::create(folder, format, &options)?;
    pairs(large).try_for_each(|pair| writer.add(&pair))?;
    writer.finish()
}

/// Every file below a folder.
fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in folder.read_dir().unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(files(&path)),
            false => drop(found.insert(path.clone(), std::fs::read(path).unwrap())),
        }
    }
    found
}

/// A folder with a dataset of that format, to which shards of another prefix may come.
fn older(folder: &Path, format: Format) -> BTreeMap<PathBuf, Vec<u8>> {
    let is_sharded = matches!(format, Format::WebDataset | Format::Parquet);
    written(&if is_sharded { folder.to_owned() } else { folder.join("older") }, format, "older", 1500).unwrap();
    files(folder)
}

/// What a full disk must have left: everything older, whole shards, whole pictures, and no dataset that is not whole.
fn nothing_is_half(folder: &Path, older: &BTreeMap<PathBuf, Vec<u8>>, what: &str) {
    let now = files(folder);
    for (path, bytes) in older {
        assert!(now.get(path) == Some(bytes), "{what}: {} changed", path.display());
    }
    for (path, bytes) in now.iter().filter(|(path, _)| !older.contains_key(*path)) {
        match path.extension().and_then(|ending| ending.to_str()) {
            Some("png") => assert_eq!(bytes.len(), 1500, "{what}: {}", path.display()),
            Some("tar" | "parquet") => {
                Dataset::open(path.to_str().unwrap(), &DatasetOptions::default()).unwrap();
            }
            _ => panic!("{what}: {} should not be there", path.display()),
        }
    }
}

/// Does nothing unless a test started it.
#[test]
fn writes_where_it_is_told() {
    let (Some(folder), Ok(format)) = (std::env::var_os(FOLDER), std::env::var(FORMAT)) else { return };
    let format = FORMATS[format.parse::<usize>().unwrap()];
    println!("\nrefused: {}", written(Path::new(&folder), format, "new", 200_000).unwrap_err());
}

/// A limit on the length of a file, which the shell counts in blocks of 512 or 1024 bytes, fails as a full disk does.
#[cfg(unix)]
#[test]
fn a_full_disk_is_named_and_leaves_nothing_half() {
    for (number, format) in FORMATS.into_iter().enumerate() {
        for blocks in [0, 64] {
            let place = tempfile::tempdir().unwrap();
            let older = older(place.path(), format);
            let mut command = Command::new("sh");
            command.args(["-c", &format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$0\" \"$@\"")]);
            command.arg(std::env::current_exe().unwrap());
            command.args(["--exact", "dataset::full_disk::writes_where_it_is_told", "--nocapture"]);
            let output = command.env(FOLDER, place.path()).env(FORMAT, number.to_string()).output().unwrap();
            let (text, what) = (String::from_utf8(output.stdout).unwrap(), format!("{format:?}, {blocks} blocks"));
            let refused = text.lines().find_map(|line| line.strip_prefix("refused: ")).unwrap_or_default();
            assert!(refused.contains("File too large") && refused.contains("see that there is room"), "{what}: {text}");
            assert!(refused.starts_with(place.path().to_str().unwrap()), "{what}: {refused}");
            nothing_is_half(place.path(), &older, &what);
        }
    }
}

/// Needs the right to mount; without it the test above stands for this one.
#[cfg(target_os = "linux")]
#[test]
fn a_disk_that_fills_is_named_and_leaves_nothing_half() {
    struct Mounted<'a>(&'a Path);
    impl Drop for Mounted<'_> {
        fn drop(&mut self) {
            let _ = Command::new("umount").arg(self.0).status();
        }
    }
    for format in FORMATS {
        let place = tempfile::tempdir().unwrap();
        let mount = Command::new("mount").args(["-t", "tmpfs", "-o", "size=400k", "none"]).arg(place.path()).output();
        if !mount.is_ok_and(|done| done.status.success()) {
            println!("not allowed to mount: no full disk to try");
            return;
        }
        let _mounted = Mounted(place.path());
        let older = older(place.path(), format);
        let refused = written(place.path(), format, "new", 600_000).unwrap_err().to_string();
        assert!(refused.contains("No space left on device"), "{format:?}: {refused}");
        assert!(refused.starts_with(place.path().to_str().unwrap()), "{format:?}: {refused}");
        nothing_is_half(place.path(), &older, &format!("{format:?}"));
    }
}
