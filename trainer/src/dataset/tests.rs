//! Datasets of other people's writers are read, bad ones are refused or skipped by name, and what is written is read.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use super::write::{DatasetWriter, WriteError, WriteOptions};
use super::*;

fn goldens() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/datasets")
}

fn open(path: &Path) -> Result<Dataset, DatasetError> {
    Dataset::open(path.to_str().unwrap(), &DatasetOptions::default())
}

fn open_golden(name: &str) -> Dataset {
    open(&goldens().join(name)).unwrap()
}

fn hash(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// An entry as `expected.json` has it.
fn described(dataset: &Dataset, index: usize) -> Value {
    let entry = dataset.entry(index);
    let texts: Vec<Value> =
        entry.texts.iter().map(|text| json!({"text": text.text, "origin": text.origin, "score": text.score})).collect();
    let mut found = json!({"key": entry.key, "sha256": hash(&dataset.picture_bytes(index).unwrap()), "texts": texts});
    if let Some(truth) = &entry.truth {
        found["truth"] = truth.clone();
    }
    found
}

fn is_as_expected(name: &str) {
    let expected: Value = serde_json::from_slice(&std::fs::read(goldens().join("expected.json")).unwrap()).unwrap();
    let dataset = open_golden(name);
    let found: Vec<Value> = (0..dataset.len()).map(|index| described(&dataset, index)).collect();
    assert_eq!(Value::Array(found), expected[name], "{name}");
}

fn message(error: DatasetError) -> String {
    error.to_string()
}

/// A folder with one file.
fn lone(name: &str, bytes: &[u8]) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    (folder, path)
}

#[test]
fn every_format_is_read_as_its_writer_meant_it() {
    for name in ["folder", "beside", "tars", "hostile.tar", "tables"] {
        is_as_expected(name);
    }
}

#[test]
fn captions_and_coco_lie_under_the_image_root() {
    let expected: Value = serde_json::from_slice(&std::fs::read(goldens().join("expected.json")).unwrap()).unwrap();
    let root = goldens().join("jsons/pictures").to_str().unwrap().to_owned();
    for name in ["jsons/blip.json", "jsons/coco.json"] {
        let options = DatasetOptions { image_root: Some(root.clone()), ..DatasetOptions::default() };
        let dataset = Dataset::open(goldens().join(name).to_str().unwrap(), &options).unwrap();
        let found: Vec<Value> = (0..dataset.len()).map(|index| described(&dataset, index)).collect();
        assert_eq!(Value::Array(found), expected[name], "{name}");
    }
}

#[test]
fn questions_weigh_as_in_the_authors_dataset() {
    let expected: Value =
        serde_json::from_slice(&std::fs::read(goldens().join("jsons/vqa.expected.json")).unwrap()).unwrap();
    let dataset = open_golden("jsons/vqa.json");
    let questions: Vec<&Question> = dataset.entries().iter().flat_map(|entry| &entry.questions).collect();
    assert_eq!((dataset.len(), questions.len()), (3, 4));
    for (question, expected) in questions.iter().zip(expected.as_array().unwrap()) {
        let (answers, weights): (Vec<&str>, Vec<f32>) =
            question.answers.iter().map(|answer| (answer.text.as_str(), answer.weight)).unzip();
        assert_eq!((json!(question.text), json!(answers)), (expected["question"].clone(), expected["answers"].clone()));
        for (weight, expected) in weights.iter().zip(expected["weights"].as_array().unwrap()) {
            assert!((f64::from(*weight) - expected.as_f64().unwrap()).abs() < 1e-7);
        }
    }
}

#[test]
fn urls_and_patterns_name_the_same_tars_as_the_folder() {
    let all = open_golden("tars");
    let pattern = goldens().join("tars/web-{000..002}.tar");
    let by_pattern = open(&pattern).unwrap();
    let url = url::Url::from_file_path(goldens().join("tars")).unwrap();
    let by_url = Dataset::open(url.as_str(), &DatasetOptions::default()).unwrap();
    for other in [by_pattern, by_url] {
        assert_eq!(other.len(), all.len());
        assert!((0..all.len()).all(|index| described(&other, index) == described(&all, index)));
    }
    let missing = open(&goldens().join("tars/web-{000..003}.tar")).unwrap_err();
    assert!(message(missing).contains("web-003.tar: cannot be read (is not there"));
}

#[test]
fn url_over_the_network_says_what_to_build() {
    if !cfg!(feature = "cloud") {
        let error = Dataset::open("s3://bucket/pairs", &DatasetOptions::default()).unwrap_err();
        assert!(message(error).contains("--features cloud"));
    }
}

/// The goldens in an object store, below `sets/`.
fn in_a_store() -> source::Remote {
    use object_store::ObjectStoreExt;
    let store = object_store::memory::InMemory::new();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    for (name, _) in source::Source::Local(goldens()).list().unwrap() {
        let bytes = std::fs::read(goldens().join(&name)).unwrap();
        let path = object_store::path::Path::from(format!("sets/{name}"));
        runtime.block_on(store.put(&path, bytes.into())).unwrap();
    }
    source::Remote::new("s3://bucket/sets", Box::new(store), "sets".into()).unwrap()
}

#[test]
fn object_store_gives_what_the_folder_gives() {
    let folder = Arc::new(source::Source::Remote(in_a_store()));
    let names = |ending: &str| -> Vec<String> {
        let names = folder.list().unwrap().into_iter().map(|(name, _)| name);
        names.filter(|name| name.ends_with(ending) && !name.contains("hostile")).collect()
    };
    type Reading = fn(&source::Location, &mut Index) -> Result<(), DatasetError>;
    let cases: [(&str, &str, Reading); 3] = [
        (".tar", "tars", web_dataset::read),
        (".parquet", "tables", table::read),
        ("folder/metadata.jsonl", "folder", image_folder::read),
    ];
    for (ending, golden, read) in cases {
        let location = source::Location { name: golden.to_owned(), folder: folder.clone(), files: names(ending) };
        let mut index = Index::new(golden, Origin::Web);
        read(&location, &mut index).unwrap();
        let (entries, skipped) = index.finish().unwrap();
        let (remote, local) = (Dataset { entries, skipped }, open_golden(golden));
        assert_eq!(remote.len(), local.len());
        std::thread::scope(|threads| {
            for _ in 0..3 {
                threads.spawn(|| {
                    for index in 0..local.len() {
                        assert_eq!(remote.picture_bytes(index).unwrap(), local.picture_bytes(index).unwrap());
                        assert_eq!(remote.entry(index).texts, local.entry(index).texts);
                    }
                });
            }
        });
    }
    let missing = folder.read("nowhere.png", 9).unwrap_err();
    assert!(message(missing).starts_with("s3://bucket/sets/nowhere.png: cannot be read"));
}

#[test]
fn links_and_names_that_lead_out_of_a_tar_are_skipped_by_name() {
    let dataset = open_golden("hostile.tar");
    let named = dataset.skipped().first().join("\n");
    for expected in [
        "link.png: a link",
        "hard.png: a link",
        "../up.png: a name that leads out of the tar",
        "/etc/absolute.png: a name that leads out of the tar",
        "pipe.png: not a regular file",
        "lonely: texts without a picture",
        "latin.txt: a text that is not UTF-8",
        "bad.json: not a json object",
    ] {
        assert!(named.contains(expected), "{expected} in {named}");
    }
    assert_eq!((dataset.skipped().count(), dataset.len()), (9, 3));
}

#[test]
fn tar_cut_anywhere_is_refused() {
    let bytes = std::fs::read(goldens().join("tars/web-001.tar")).unwrap();
    let whole = open_golden("tars/web-001.tar").len();
    let content_end = bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    let mut refused = 0;
    for length in (0..bytes.len()).step_by(100) {
        let (_folder, path) = lone("cut.tar", &bytes[..length]);
        match open(&path) {
            Err(error) => {
                assert!(message(error).contains("cut.tar"));
                refused += 1;
            }
            Ok(dataset) => assert!(length > content_end && dataset.len() == whole, "{length}"),
        }
    }
    assert!(refused > content_end / 100);
}

#[test]
fn tar_with_any_byte_changed_is_read_or_refused() {
    let bytes = std::fs::read(goldens().join("tars/web-002.tar")).unwrap();
    let (folder, path) = lone("odd.tar", &bytes);
    for at in (0..bytes.len()).step_by(37) {
        let mut odd = bytes.clone();
        odd[at] ^= 0x31;
        std::fs::write(&path, odd).unwrap();
        if let Ok(dataset) = open(&path) {
            (0..dataset.len()).for_each(|index| drop(dataset.picture_bytes(index)));
        }
    }
    drop(folder);
}

#[test]
fn parquet_with_any_byte_changed_or_cut_is_read_or_refused() {
    for name in ["hf-0", "own-1", "plain-2"] {
        let bytes = std::fs::read(goldens().join(format!("tables/{name}.parquet"))).unwrap();
        let (folder, path) = lone("odd.parquet", &bytes);
        for at in (0..bytes.len()).step_by(41) {
            for change in [0x01, 0x80, 0xff] {
                let mut odd = bytes.clone();
                odd[at] ^= change;
                std::fs::write(&path, odd).unwrap();
                if let Ok(dataset) = open(&path) {
                    (0..dataset.len()).for_each(|index| drop(dataset.picture_bytes(index)));
                }
            }
        }
        for length in (0..bytes.len()).step_by(97) {
            std::fs::write(&path, &bytes[..length]).unwrap();
            assert!(open(&path).is_err(), "{name}, {length}");
        }
        drop(folder);
    }
}

#[test]
fn empty_datasets_say_what_was_looked_for() {
    let folder = tempfile::tempdir().unwrap();
    assert!(message(open(folder.path()).unwrap_err()).contains("looked for metadata.jsonl"));
    for (name, bytes) in [("metadata.jsonl", &b""[..]), ("a.json", b"[]"), ("a.tar", &[0; 1024])] {
        let (_folder, path) = lone(name, bytes);
        let message = message(open(&path).unwrap_err());
        assert!(message.contains("no picture in it"), "{message}");
    }
    let (_folder, path) = lone("b.json", br#"[{"caption": "no picture"}, {"image": "../x.png", "caption": "up"}]"#);
    assert!(message(open(&path).unwrap_err()).contains("2 were skipped, first"));
    assert!(matches!(Dataset::from_pairs([]), Err(DatasetError::Empty { .. })));
}

#[test]
fn json_of_another_shape_is_named() {
    let cases: [(&str, &[u8], &str); 8] = [
        ("a.json", b"{\"annotations\": []}", "no list named images"),
        ("a.json", b"{\"images\": 3}", "is not COCO's"),
        ("a.json", b"[1, 2, 3]", "3 were skipped, first"),
        ("a.json", b"[{\"image\": \"a.png\", \"caption\": \"x\"}", "cut short"),
        ("a.json", b"[{\"image\": \"\xff\"}]", "is not a list"),
        ("a.json", b"\"text\"", "is not a list"),
        ("metadata.jsonl", b"{\"file_name\": \"a.png\"}\n[1]\n", "line 2: not an object"),
        ("metadata.jsonl", b"{\"file_name\": \"a.png\"}\n{\"file", "line 2: EOF"),
    ];
    for (name, bytes, expected) in cases {
        let (_folder, path) = lone(name, bytes);
        let message = message(open(&path).unwrap_err());
        assert!(message.contains(expected), "{expected}: {message}");
    }
    let (_folder, path) = lone("a.tar.gz", b"x");
    assert!(message(open(&path).unwrap_err()).contains("unpack it first"));
}

#[test]
fn nested_json_does_not_exhaust_the_stack() {
    let deep = format!("[{{\"image\": {}{}}}]", "[".repeat(100_000), "]".repeat(100_000));
    let (_folder, path) = lone("deep.json", deep.as_bytes());
    assert!(open(&path).is_err());
}

#[test]
fn ten_thousand_words_are_kept_and_a_text_beyond_the_limit_is_skipped() {
    let text = |words: usize| Text { text: "word ".repeat(words), origin: Origin::Web, score: None };
    let pair = |key: &str, words| Pair { key: key.to_owned(), picture: vec![1], texts: vec![text(words)], truth: None };
    let dataset = Dataset::from_pairs([pair("long", 10_000), pair("longer", 20_000)]).unwrap();
    assert_eq!((dataset.entry(0).texts.len(), dataset.entry(1).texts.len()), (1, 0));
    assert_eq!(dataset.skipped().first(), ["longer: a text of more than 65536 bytes"]);
}

#[test]
fn one_image_id_is_one_image() {
    let rows = br#"[{"image": "a.png", "caption": "x", "image_id": 7}, {"image": "b.png", "caption": "y"},
                    {"image": "c.png", "caption": "z", "image_id": 7}]"#;
    let (_folder, path) = lone("a.json", rows);
    let images: Vec<u64> = open(&path).unwrap().entries().iter().map(|entry| entry.image).collect();
    assert_eq!(images, [0, 1, 0]);
}

#[test]
fn joined_datasets_keep_their_order_and_their_images_apart() {
    let joined = Dataset::joined([open_golden("folder"), open_golden("beside")]).unwrap();
    assert_eq!(joined.len(), 5);
    let images: Vec<u64> = joined.entries().iter().map(|entry| entry.image).collect();
    assert_eq!(images, [0, 1, 2, 3, 4]);
    assert!(Dataset::joined([]).is_err());
}

fn pairs() -> Vec<Pair> {
    let dataset = open_golden("tars");
    let pair = |index: usize| {
        let entry = dataset.entry(index);
        let (key, texts, truth) = (entry.key.clone(), entry.texts.clone(), entry.truth.clone());
        Pair { key, picture: dataset.picture_bytes(index).unwrap(), texts, truth }
    };
    let mut pairs: Vec<Pair> = (0..dataset.len()).map(pair).collect();
    pairs[1].texts.clear();
    pairs[4].key = "odd key/ü.png".to_owned();
    pairs
}

const WRITTEN: [Format; 5] =
    [Format::ImageFolder, Format::WebDataset, Format::BlipJson, Format::CocoJson, Format::Parquet];

#[test]
fn what_is_written_is_read_back_in_every_format() {
    for format in WRITTEN {
        let folder = tempfile::tempdir().unwrap();
        let options = WriteOptions { shard_bytes: 300, ..WriteOptions::default() };
        let mut writer = DatasetWriter::create(folder.path(), format, &options).unwrap();
        for pair in pairs() {
            writer.add(&pair).unwrap();
        }
        writer.finish().unwrap();
        let dataset = open(folder.path()).unwrap();
        assert_eq!((dataset.len(), dataset.skipped().count()), (pairs().len(), 0), "{format:?}");
        for (index, pair) in pairs().into_iter().enumerate() {
            let entry = dataset.entry(index);
            assert_eq!((&entry.key, &entry.texts, &entry.truth), (&pair.key, &pair.texts, &pair.truth), "{format:?}");
            assert_eq!(dataset.picture_bytes(index).unwrap(), pair.picture);
        }
        let hidden = |name: &str| name.starts_with('.');
        let left = folder
            .path()
            .read_dir()
            .unwrap()
            .filter(|file| hidden(file.as_ref().unwrap().file_name().to_str().unwrap()));
        assert_eq!(left.count(), 0, "{format:?} leaves temporary files");
    }
}

#[test]
fn unfinished_dataset_is_none() {
    for format in WRITTEN {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = DatasetWriter::create(folder.path(), format, &WriteOptions::default()).unwrap();
        writer.add(&pairs()[0]).unwrap();
        drop(writer);
        let is_whole = |name: &str| ["jsonl", "json", "tar", "parquet"].contains(&format::ending(name));
        let names = source::Source::Local(folder.path().to_owned()).list().unwrap();
        assert!(!names.iter().any(|(name, _)| is_whole(name)), "{format:?}: {names:?}");
    }
}

#[test]
fn writer_refuses_what_no_reader_would_take() {
    for format in WRITTEN {
        let folder = tempfile::tempdir().unwrap();
        let options = WriteOptions::default();
        let mut writer = DatasetWriter::create(folder.path(), format, &options).unwrap();
        let pair = pairs().remove(0);
        writer.add(&pair).unwrap();
        assert!(matches!(writer.add(&pair), Err(WriteError::Duplicate { .. })));
        let broken = Pair { key: "b".to_owned(), picture: b"no picture".to_vec(), ..pair.clone() };
        assert!(matches!(writer.add(&broken), Err(WriteError::NotAPicture { .. })));
        writer.finish().unwrap();
        let again = DatasetWriter::create(folder.path(), format, &options);
        assert!(matches!(again, Err(WriteError::AlreadyThere { .. })), "{format:?}");
    }
    let folder = tempfile::tempdir().unwrap();
    let questions = DatasetWriter::create(folder.path(), Format::VqaJson, &WriteOptions::default());
    assert!(matches!(questions, Err(WriteError::Questions)));
}
