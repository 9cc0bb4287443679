//! Data that is broken, hostile or not there: a clear error, or a skip that is counted and named.

use std::io::Write;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::place::{Place, Ran, names, run};

/// A folder with pictures, each with what it is called and its bytes, and a caption for each.
fn folder(place: &Place, pictures: &[(&str, &[u8])], caption: &str) {
    std::fs::create_dir_all(place.path("data")).unwrap();
    let mut lines = String::new();
    for (name, bytes) in pictures {
        std::fs::write(place.path("data").join(name), bytes).unwrap();
        lines += &json!({"file_name": name, "text": caption}).to_string();
        lines.push('\n');
    }
    std::fs::write(place.path("data/metadata.jsonl"), lines).unwrap();
}

/// Bytes of a picture that can be read.
fn picture() -> Vec<u8> {
    let pixels: Vec<u8> = (0..16 * 16 * 3).map(|value| value as u8).collect();
    encoded(&pixels, 16)
}

fn encoded(pixels: &[u8], side: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    let encoder = image::codecs::png::PngEncoder::new(&mut bytes);
    image::ImageEncoder::write_image(encoder, pixels, side, side, image::ExtendedColorType::Rgb8).unwrap();
    bytes
}

/// A small file of a picture of 30,000 x 30,000.
fn bomb() -> Vec<u8> {
    let mut bytes = picture();
    for start in [16, 20] {
        bytes[start..start + 4].copy_from_slice(&30_000_u32.to_be_bytes());
    }
    let checked = crc32(&bytes[12..29]);
    bytes[29..33].copy_from_slice(&checked.to_be_bytes());
    bytes
}

/// Source: PNG specification, annex D.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xEDB8_8320 } else { crc >> 1 })
    })
}

const SHORT: [(&str, &str); 2] = [("run.steps", "4"), ("data.broken_share", "1.0")];

/// Trains a few steps; what it said, and how many pictures it could not read.
fn trained(place: &Place, changes: &[(&str, &str)]) -> (Ran, u64) {
    let ran = run(place.pretrain("out", &[&SHORT, changes].concat()).arg("--json"));
    let facts: Value = serde_json::from_str(ran.content()).unwrap();
    assert_eq!(facts["steps"], 4);
    (ran, facts["broken_pictures"].as_u64().unwrap())
}

#[test]
fn a_dataset_without_a_picture_is_named() {
    let place = Place::new();
    let refused = |words: &[&str]| run(&mut place.pretrain("out", &[])).refused(words);
    refused(&["data", "data.train"]);
    std::fs::create_dir(place.path("data")).unwrap();
    refused(&["data: holds no dataset: looked for metadata.jsonl"]);
    std::fs::write(place.path("data/metadata.jsonl"), "").unwrap();
    refused(&["data: no picture in it"]);
    folder(&place, &[("a.png", &picture())], "");
    std::fs::write(place.path("data/metadata.jsonl"), json!({"file_name": "a.png"}).to_string()).unwrap();
    refused(&["no picture of the dataset has a text"]);
    let task = run(&mut place.train(&["finetune", "answerer"], "out", &[]));
    task.refused(&["no picture of the dataset has a question"]);
}

#[test]
fn a_caption_of_ten_thousand_words_is_cut() {
    let place = Place::new();
    let caption = vec!["cat"; 10_000].join(" ");
    let good = picture();
    folder(&place, &["a.png", "b.png", "c.png", "d.png", "e.png"].map(|name| (name, &good[..])), &caption);
    trained(&place, &[]);
    let different: Vec<String> = (0..10_000).map(|word| format!("w{word}")).collect();
    folder(&place, &["a.png", "b.png", "c.png", "d.png"].map(|name| (name, &good[..])), &different.join(" "));
    std::fs::remove_dir_all(place.path("out")).unwrap();
    trained(&place, &[]);
}

#[test]
fn a_caption_beyond_all_measure_is_skipped_and_said() {
    let place = Place::new();
    let good = picture();
    folder(&place, &["a.png", "b.png", "c.png", "d.png"].map(|name| (name, &good[..])), "a cat");
    let line = json!({"file_name": "a.png", "text": vec!["cat"; 100_000].join(" ")}).to_string();
    let mut lines = std::fs::OpenOptions::new().append(true).open(place.path("data/metadata.jsonl")).unwrap();
    writeln!(lines, "{line}").unwrap();
    let (ran, _) = trained(&place, &[]);
    assert!(ran.err.contains("1 of what is in the data is skipped") && ran.err.contains("a.png"), "{}", ran.err);
}

#[test]
fn pictures_that_cannot_be_read_are_counted_and_named() {
    let place = Place::new();
    let (good, bomb) = (picture(), bomb());
    let pictures: [(&str, &[u8]); 8] = [
        ("a.png", &good),
        ("b.png", &good),
        ("bomb.png", &bomb),
        ("c.png", &good),
        ("cut.png", &good[..good.len() / 2]),
        ("d.png", &good),
        ("empty.png", b""),
        ("text.png", b"dear diary"),
    ];
    folder(&place, &pictures, "a cat");
    let (ran, broken) = trained(&place, &[("data.threads", "2")]);
    assert_eq!(broken, 4, "{}", ran.err);
    for name in ["bomb.png", "cut.png", "empty.png", "text.png", "pictures could not be read"] {
        assert!(ran.err.contains(name), "{name} is not in {}", ran.err);
    }
    let facts = run(place.pretrain("out", &SHORT).arg("--json"));
    facts.content();
}

#[test]
fn more_broken_pictures_than_are_borne_end_the_run() {
    let place = Place::new();
    let names: Vec<String> = (0..40).map(|number| format!("{number}\u{202e}.png")).collect();
    let pictures: Vec<(&str, &[u8])> = names.iter().map(|name| (name.as_str(), &b"no picture"[..])).collect();
    folder(&place, &pictures, "a cat");
    run(&mut place.pretrain("out", &[])).refused(&[
        "cannot be read",
        "than the 10 that are borne",
        "broken share",
        ".png",
    ]);
}

/// A tar with what a program must not follow.
fn hostile_tar(path: PathBuf) {
    let mut tar = tar::Builder::new(std::fs::File::create(path).unwrap());
    let good = picture();
    let add = |tar: &mut tar::Builder<std::fs::File>, name: &str, bytes: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        header.set_cksum();
        tar.append(&header, bytes).unwrap();
    };
    for key in ["a", "b", "c", "d"] {
        add(&mut tar, &format!("{key}.png"), &good);
        add(&mut tar, &format!("{key}.txt"), b"a cat");
    }
    add(&mut tar, "../up.png", &good);
    add(&mut tar, "../up.txt", b"leads out");
    add(&mut tar, "/root.png", &good);
    add(&mut tar, "/root.txt", b"leads out");
    for (name, kind) in [("link.png", tar::EntryType::Symlink), ("hard.png", tar::EntryType::Link)] {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(0);
        tar.append_link(&mut header, name, "/etc/passwd").unwrap();
    }
    add(&mut tar, "link.txt", b"a link");
    tar.finish().unwrap();
}

#[test]
fn a_tar_with_links_and_ways_out_gives_only_its_pictures() {
    let place = Place::new();
    std::fs::create_dir(place.path("data")).unwrap();
    hostile_tar(place.path("data/shard.tar"));
    let before = names(&place.path("."));
    let (ran, broken) = trained(&place, &[]);
    assert_eq!(broken, 0);
    for name in ["link.png", "hard.png"] {
        assert!(ran.err.contains(name), "{name} is not in {}", ran.err);
    }
    let mut after = names(&place.path("."));
    after.retain(|name| name != "out" && name != "out.toml");
    assert_eq!(before, after);
}

#[test]
fn checkpoints_of_other_words_or_sizes_are_refused_by_name() {
    let place = Place::with_scenes(24);
    let two = [("run.steps", "2")];
    run(&mut place.pretrain("one", &two)).content();
    // The same number of other words.
    let lines = std::fs::read_to_string(place.path("data/metadata.jsonl")).unwrap();
    std::fs::write(place.path("data/metadata.jsonl"), lines.replace(" a ", " ein ").replace("\"a ", "\"ein ")).unwrap();
    run(&mut place.pretrain("other", &two)).content();
    run(&mut place.pretrain("wide", &[two[0], ("model.vision_width", "32")])).content();
    let from = |first: &str, second: &str| {
        format!("[{:?}, {:?}]", place.path(first).to_str().unwrap(), place.path(second).to_str().unwrap())
    };
    let refused =
        |from: String, words: &[&str]| run(&mut place.pretrain("out", &[("model.from", &from)])).refused(words);
    refused(from("one/model/captioner", "other/model/matcher"), &["other/model/matcher", "\"ein\""]);
    refused(from("one/model/captioner", "wide/model/matcher"), &["wide/model/matcher", "width", "32", "16"]);
    refused(from("one/model/captioner", "nowhere"), &["nowhere"]);
    let one = format!("[{:?}]", place.path("one/model/captioner").to_str().unwrap());
    let words = format!("{:?}", place.path("other/model/matcher").to_str().unwrap());
    let ran = run(&mut place.pretrain("out", &[("model.from", &one), ("model.tokenizer", &words)]));
    ran.refused(&["one/model/captioner", "ein"]);
}
