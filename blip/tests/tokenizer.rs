//! The tokenizer against Hugging Face's BertTokenizer, recorded by `goldens/tokenizer.py`.

#![allow(clippy::unwrap_used, reason = "a golden that cannot be read fails the test")]

use blip::config::SpecialTokens;
use blip::tokenizer::{Tokenizer, TokenizerFile, WordPieceSettings};
use serde::Deserialize;

const FILE: &str = include_str!("goldens/tokenizer.json");
const CASES: &str = include_str!("goldens/tokenizer-cases.json");

#[derive(Deserialize)]
struct Cases {
    texts: Vec<String>,
    encodings: Vec<Encodings>,
    decodings: Vec<Decoding>,
}

#[derive(Deserialize)]
struct Encodings {
    settings: WordPieceSettings,
    ids: Vec<Vec<u32>>,
}

#[derive(Deserialize)]
struct Decoding {
    ids: Vec<u32>,
    text: String,
}

fn tokens(file: &TokenizerFile) -> SpecialTokens {
    let id = |word: &str| file.vocabulary.id(word).unwrap();
    SpecialTokens {
        pad: id("[PAD]"),
        unknown: id("[UNK]"),
        class: id("[CLS]"),
        separator: id("[SEP]"),
        decoder_start: id("[DEC]"),
        encoder_start: id("[ENC]"),
    }
}

#[test]
fn nasty_texts_give_the_ids_of_the_reference() {
    let file = TokenizerFile::from_json(FILE.as_bytes()).unwrap();
    let cases: Cases = serde_json::from_str(CASES).unwrap();
    assert_eq!((cases.texts.len(), cases.encodings.len()), (134, 4));
    for encodings in cases.encodings {
        let tokenizer = Tokenizer::new(file.vocabulary.clone(), encodings.settings, tokens(&file)).unwrap();
        for (text, ids) in cases.texts.iter().zip(encodings.ids) {
            assert_eq!(tokenizer.encode(text).unwrap(), ids, "{text:?} {:?}", encodings.settings);
        }
    }
}

#[test]
fn ids_give_the_texts_of_the_reference() {
    let file = TokenizerFile::from_json(FILE.as_bytes()).unwrap();
    let tokenizer = Tokenizer::from_json(FILE.as_bytes(), tokens(&file)).unwrap();
    let cases: Cases = serde_json::from_str(CASES).unwrap();
    assert_eq!(cases.decodings.len(), 198);
    for Decoding { ids, text } in cases.decodings {
        assert_eq!(tokenizer.decode(&ids), text, "{ids:?}");
    }
}

#[test]
fn the_written_file_is_that_of_the_reference_to_the_byte() {
    let file = TokenizerFile::from_json(FILE.as_bytes()).unwrap();
    let tokenizer = Tokenizer::from_json(FILE.as_bytes(), tokens(&file)).unwrap();
    assert_eq!(tokenizer.to_json(), FILE.trim_end());
}
