//! The words of a checkpoint in the order of their ids, and which of them have a meaning of their own.
//!
//! A `tokenizer.json` is read by [`blip::tokenizer`]; here are `vocab.txt`, the files beside it, and the tokens that
//! stock BERT files lack.

use crate::configuration::DecoderTokens;
use crate::error::CheckpointError;
use crate::file::{read_json_if_there, read_small};
use blip::config::{MAX_SIZE, SpecialTokens};
use blip::tokenizer::{MAX_FILE_BYTES, TokenizerFile, WordPieceSettings};
use serde::{Deserialize, Deserializer};
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

const UNKNOWN: &str = "[UNK]";
const DECODER_START: &str = "[DEC]";
const ENCODER_START: &str = "[ENC]";

/// bert-base-uncased, for the authors' files (see `data/README.md`).
const BUILT_IN: &str = include_str!("../data/bert-base-uncased-vocab.txt");

/// A tokenizer's words and settings.
#[derive(Debug)]
pub struct Vocabulary {
    file: PathBuf,
    /// The words in the order of their ids.
    pub words: Vec<String>,
    /// How texts are prepared for them.
    pub settings: WordPieceSettings,
}

/// The part of `tokenizer_config.json` that says how texts are prepared; it wins over `tokenizer.json`.
#[derive(Default, Deserialize)]
#[serde(default)]
struct SettingsKeys {
    do_lower_case: Option<bool>,
    #[serde(deserialize_with = "present")]
    strip_accents: Option<Option<bool>>,
    tokenize_chinese_chars: Option<bool>,
    added_tokens_decoder: BTreeMap<String, ContentKey>,
}

#[derive(Deserialize)]
struct ContentKey {
    content: String,
}

/// Tells a key that is `null` from one that is not there.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<bool>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

impl Vocabulary {
    /// bert-base-uncased.
    pub fn built_in() -> Vocabulary {
        let words = BUILT_IN.lines().map(str::to_owned).collect();
        Vocabulary { file: "bert-base-uncased".into(), words, settings: WordPieceSettings::default() }
    }

    /// The tokenizer in a folder, or of one file; a file's settings are read from beside it.
    ///
    /// # Errors
    /// A folder without one; a file that cannot be read or is no WordPiece tokenizer's.
    pub fn read(path: &Path) -> Result<Vocabulary, CheckpointError> {
        let file = if path.is_dir() {
            let files = ["tokenizer.json", "vocab.txt"].map(|name| path.join(name));
            files.into_iter().find(|file| file.exists()).ok_or_else(|| CheckpointError::Vocabulary {
                file: path.to_owned(),
                reason: "has neither tokenizer.json nor vocab.txt: name the tokenizer with --tokenizer".to_owned(),
            })?
        } else {
            path.to_owned()
        };
        let refused = |reason| CheckpointError::Vocabulary { file: file.clone(), reason };
        let folder = file.parent().unwrap_or(Path::new(""));
        let keys: SettingsKeys = read_json_if_there(&folder.join("tokenizer_config.json"))?;
        let (words, mut settings) = if file.extension().is_some_and(|extension| extension == "json") {
            let bytes = read_small(&file, MAX_FILE_BYTES as u64)?;
            let TokenizerFile { vocabulary, settings } =
                TokenizerFile::from_json(&bytes).map_err(|error| refused(reasons(&error)))?;
            (vocabulary.words().to_vec(), settings)
        } else {
            let bytes = read_small(&file, MAX_FILE_BYTES as u64)?;
            let text = String::from_utf8(bytes).map_err(|_| refused("is not UTF-8".to_owned()))?;
            let added: BTreeMap<String, u32> = read_json_if_there(&folder.join("added_tokens.json"))?;
            let by_id =
                keys.added_tokens_decoder.iter().filter_map(|(id, key)| Some((key.content.clone(), id.parse().ok()?)));
            let words = text.lines().map(str::to_owned).zip(0..).chain(added).chain(by_id);
            (in_order(words).map_err(refused)?, WordPieceSettings::default())
        };
        settings.lower_case = keys.do_lower_case.unwrap_or(settings.lower_case);
        settings.strip_accents = keys.strip_accents.unwrap_or(settings.strip_accents);
        settings.chinese_chars = keys.tokenize_chinese_chars.unwrap_or(settings.chinese_chars);
        Ok(Vocabulary { file, words, settings })
    }

    /// The special tokens for a model with `rows` words, after adding the two that stock BERT files lack.
    ///
    /// # Errors
    /// A vocabulary of another size than the model's, or without a token that BLIP needs.
    pub fn complete(&mut self, rows: usize) -> Result<SpecialTokens, CheckpointError> {
        self.special_tokens(rows).map_err(|reason| CheckpointError::Vocabulary { file: self.file.clone(), reason })
    }

    fn special_tokens(&mut self, rows: usize) -> Result<SpecialTokens, String> {
        let has = |words: &[String], name: &str| words.iter().any(|word| word == name);
        let named = has(&self.words, DECODER_START) || has(&self.words, ENCODER_START);
        if !named && self.words.len() + 2 == rows {
            self.words.extend([DECODER_START, ENCODER_START].map(str::to_owned));
        }
        let words = &self.words;
        if words.len() != rows {
            let count = words.len();
            return Err(format!("has {count} words, the model {rows}: name the right tokenizer with --tokenizer"));
        }
        let id = |name: &str| match words.iter().position(|word| word == name) {
            Some(id) => Ok(id as u32),
            None => Err(format!("has no {name}: name a tokenizer that has it with --tokenizer")),
        };
        Ok(SpecialTokens {
            pad: id("[PAD]")?,
            unknown: id(UNKNOWN)?,
            class: id("[CLS]")?,
            separator: id("[SEP]")?,
            decoder_start: id(DECODER_START)?,
            encoder_start: id(ENCODER_START)?,
        })
    }
}

/// Checks that transformers' `generate` would start and end a text with the very tokens that we go by.
pub(crate) fn agree(tokens: &SpecialTokens, decoder: DecoderTokens) -> Result<(), String> {
    let pairs = [
        ("bos_token_id", "starts", decoder.start, DECODER_START, tokens.decoder_start),
        ("sep_token_id", "ends", decoder.end, "[SEP]", tokens.separator),
    ];
    for (key, verb, said, name, id) in pairs {
        if let Some(said) = said.filter(|said| *said != id) {
            return Err(format!(
                "says text_config.{key} {said}, with which Hugging Face's generate {verb} a text, but the tokenizer's \
                 {name} is {id}: correct the one that is wrong"
            ));
        }
    }
    Ok(())
}

/// An error with its causes, in one line.
fn reasons(error: &dyn std::error::Error) -> String {
    std::iter::successors(error.source(), |cause| cause.source())
        .fold(error.to_string(), |reasons, cause| format!("{reasons}: {cause}"))
}

/// The words by id: every id from zero on once, every word once; the same pair may come again.
fn in_order(words: impl Iterator<Item = (String, u32)>) -> Result<Vec<String>, String> {
    let mut ids = HashMap::new();
    let mut by_id = BTreeMap::<u32, String>::new();
    for (word, id) in words {
        if word.is_empty() {
            return Err(format!("has an empty word at id {id}"));
        }
        if let Some(other) = ids.insert(word.clone(), id).filter(|other| *other != id) {
            return Err(format!("has {word:?} at ids {other} and {id}"));
        }
        let kept = by_id.entry(id).or_insert_with(|| word.clone());
        if *kept != word {
            return Err(format!("has two words at id {id}: {kept:?} and {word:?}"));
        }
    }
    if by_id.len() > MAX_SIZE {
        return Err(format!("has {} words, at most {MAX_SIZE} are read", by_id.len()));
    }
    match by_id.keys().zip(0..).find(|(id, expected)| *id != expected) {
        Some((_, expected)) => Err(format!("has no word at id {expected}, but words after it")),
        None => Ok(by_id.into_values().collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(words: &[&str]) -> Vocabulary {
        let words = words.iter().map(|word| (*word).to_owned()).collect();
        Vocabulary { file: "vocab.txt".into(), words, settings: WordPieceSettings::default() }
    }

    #[test]
    fn built_in_vocabulary_gets_the_two_tokens_it_lacks() {
        let mut vocabulary = Vocabulary::built_in();
        let tokens = vocabulary.complete(30524).unwrap();
        let expected = SpecialTokens {
            pad: 0,
            unknown: 100,
            class: 101,
            separator: 102,
            decoder_start: 30522,
            encoder_start: 30523,
        };
        assert_eq!((tokens, vocabulary.words.len()), (expected, 30524));
        assert_eq!(vocabulary.words[1996], "the");
    }

    #[test]
    fn tokens_are_taken_by_name_wherever_they_are() {
        let mut vocabulary = of(&["[ENC]", "[SEP]", "[CLS]", "[PAD]", "[DEC]", "[UNK]"]);
        let tokens = vocabulary.complete(6).unwrap();
        assert_eq!((tokens.encoder_start, tokens.decoder_start, tokens.pad), (0, 4, 3));
    }

    #[test]
    fn vocabulary_of_another_size_or_without_a_token_is_refused() {
        let message = |mut vocabulary: Vocabulary, rows| vocabulary.complete(rows).unwrap_err().to_string();
        assert!(message(Vocabulary::built_in(), 57).contains("has 30522 words, the model 57"));
        assert!(message(Vocabulary::built_in(), 30522).contains("has no [DEC]"));
        assert!(message(of(&["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[DEC]"]), 7).contains("has 5 words"));
        assert!(message(of(&["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[DEC]"]), 5).contains("has no [ENC]"));
    }

    #[test]
    fn decoder_ids_that_disagree_are_named() {
        let tokens = of(&["[PAD]", "[UNK]", "[CLS]", "[SEP]"]).complete(6).unwrap();
        assert_eq!(agree(&tokens, DecoderTokens { start: Some(4), end: None }), Ok(()));
        let message = agree(&tokens, DecoderTokens { start: Some(4), end: Some(2) }).unwrap_err();
        assert!(message.contains("sep_token_id 2") && message.contains("[SEP] is 3"));
        assert!(
            agree(&tokens, DecoderTokens { start: Some(30522), end: None }).unwrap_err().contains("bos_token_id 30522")
        );
    }

    #[test]
    fn words_with_gaps_or_in_two_places_are_refused() {
        let order = |words: &[(&str, u32)]| in_order(words.iter().map(|&(word, id)| (word.to_owned(), id)));
        assert_eq!(order(&[("b", 1), ("a", 0), ("b", 1)]).unwrap(), ["a", "b"]);
        assert!(order(&[("a", 0), ("b", 0)]).unwrap_err().contains("two words at id 0"));
        assert!(order(&[("a", 0), ("a", 1)]).unwrap_err().contains("\"a\" at ids 0 and 1"));
        assert!(order(&[("a", 0), ("x", 9)]).unwrap_err().contains("no word at id 1"));
    }
}
