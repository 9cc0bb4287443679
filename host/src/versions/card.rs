//! What a version says of itself: to programs in `version.json`, to Hugging Face's readers and to people in `README.md`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;

use dataset::disk::sync_folder;
use exchange::Digest;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::splits::Split;
use super::table::Hashed;
use super::{Parameters, VersionError};

/// The file that stands for the version.
pub(super) const CARD: &str = "version.json";
const README: &str = "README.md";
/// Columns with what they hold, as Hugging Face calls it. The picture stands before them.
const COLUMNS: [(&str, &str, &str); 9] = [
    ("text", "string", "the best of the texts that go with the picture"),
    ("sha256", "string", "the pair's hash, by which the host knows it"),
    ("device", "string", "the board"),
    ("day", "string", "when it was taken, in UTC; null where nobody had set the board's clock"),
    ("source", "string", "who wrote the text: model, human, sidecar, tag, place"),
    ("itm", "float32", "probability of a match, where a model judged the text"),
    ("itc", "float32", "similarity, where a model judged the text"),
    ("verdict", "string", "kept"),
    ("verdict_by", "string", "whose last word it was: filter, board, host"),
];

/// What a version holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Card {
    /// How it is laid out.
    pub format: u32,
    /// SHA-256 over the pairs with their texts and splits, and the parameters: what has the same is the same.
    pub inputs: Digest,
    /// How it was made.
    pub parameters: Parameters,
    /// Its pairs.
    pub pairs: u64,
    /// Pairs by split.
    pub splits: BTreeMap<Split, u64>,
    /// Pairs by board.
    pub devices: BTreeMap<String, u64>,
    /// Pairs by day in UTC, or `unknown`.
    pub days: BTreeMap<String, u64>,
    /// Pairs that are kept and not in it.
    pub left_out: LeftOut,
    /// Every other file, by name.
    pub files: BTreeMap<String, FileFacts>,
}

/// Pairs that could have been in a version.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftOut {
    /// They would be in train, and look like something in validation or test.
    pub near_in_train: u64,
    /// They would be in validation, and look like something in test.
    pub near_in_validation: u64,
    /// Their pictures cannot be decoded.
    pub unreadable: u64,
}

/// A file of a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileFacts {
    /// Its length.
    pub bytes: u64,
    /// SHA-256 of it.
    pub sha256: Digest,
}

/// Writes both files; gives the bytes of `version.json`.
pub(super) fn write(folder: &Path, mut card: Card) -> Result<Vec<u8>, VersionError> {
    let file = |name: &str, bytes: &[u8]| {
        let path = folder.join(name);
        let mut file = Hashed::create(path.clone())?;
        file.write_all(bytes).map_err(|source| VersionError::File { path, source })?;
        file.finish()
    };
    let facts = file(README, readme(&card).as_bytes())?;
    card.files.insert(README.to_owned(), facts);
    let mut bytes = serde_json::to_vec_pretty(&card).expect("a card is plain values");
    bytes.push(b'\n');
    file(CARD, &bytes)?;
    sync_folder(folder).map_err(|source| VersionError::File { path: folder.to_owned(), source })?;
    Ok(bytes)
}

/// The types of the columns, as Hugging Face's readers look for them in a file of Parquet.
pub(super) fn features() -> Value {
    let mut features = serde_json::Map::new();
    features.insert("image".to_owned(), json!({"_type": "Image"}));
    for (name, kind, _) in COLUMNS {
        features.insert(name.to_owned(), json!({"dtype": kind, "_type": "Value"}));
    }
    json!({"info": {"features": features}})
}

fn readme(card: &Card) -> String {
    let mut text = String::from("---\nconfigs:\n- config_name: default\n  data_files:\n");
    let mut add = |line: std::fmt::Arguments<'_>| text.write_fmt(line).expect("memory takes it");
    let splits = || card.splits.iter().map(|(split, pairs)| (split.name(), pairs));
    for (split, _) in splits() {
        add(format_args!("  - split: {split}\n    path: data/{split}-*.parquet\n"));
    }
    add(format_args!("dataset_info:\n  config_name: default\n  features:\n  - name: image\n    dtype: image\n"));
    for (name, kind, _) in COLUMNS {
        add(format_args!("  - name: {name}\n    dtype: {kind}\n"));
    }
    add(format_args!("  splits:\n"));
    for (split, pairs) in splits() {
        let of_split = card.files.iter().filter(|(name, _)| name.starts_with(&format!("data/{split}-")));
        // Readers ignore all of the splits where one has no bytes.
        let bytes: u64 = of_split.map(|(_, facts)| facts.bytes).sum();
        add(format_args!("  - name: {split}\n    num_bytes: {bytes}\n    num_examples: {pairs}\n"));
    }
    add(format_args!("---\n\n# Pairs that came home\n\n{} pairs:", card.pairs));
    for (split, pairs) in splits() {
        add(format_args!(" {pairs} in {split}."));
    }
    let Parameters { shares, near } = card.parameters;
    let LeftOut { near_in_train, near_in_validation, unreadable } = card.left_out;
    add(format_args!(
        "\n\nPictures of one board and one day are wholly in one split ({shares} of a hundred such groups), in every version of\n\
         this dataset. Pictures whose dHash differs in at most {near} of 64 bits are taken to look alike: {near_in_train} are\n\
         left out of train because they look like one that is held out, and {near_in_validation} out of validation because\n\
         they look like one in test. {unreadable} pictures cannot be decoded and are left out.\n\n"
    ));
    add(format_args!("| column | what |\n|---|---|\n| image | the file as the board stored it |\n"));
    for (name, _, what) in COLUMNS {
        add(format_args!("| {name} | {what} |\n"));
    }
    add(format_args!("\n\"edgeblip-trainer dataset verify\" compares every file with version.json.\n"));
    text
}
