//! `tokenizer.json`, `tokenizer_config.json` and `vocab.txt`: BERT's WordPiece, as transformers saves it.
//!
//! Source: what `BertTokenizer.save_pretrained` of transformers 5.23 writes; `tokenizer.json` is the same byte for byte.

use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};
use serde_json::{Value, json};

use super::Preparation;

/// Marks a piece that continues a word.
const CONTINUATION: &str = "##";
/// A longer word is unknown, in characters. Source: BERT `tokenization.py`, `WordpieceTokenizer`.
const MAX_WORD_CHARACTERS: usize = 100;
/// The token that BERT's pre-training hides words behind; BLIP has no use for it, and many vocabularies have it.
const MASK: &str = "[MASK]";

/// `tokenizer.json`.
pub fn tokenizer(preparation: &Preparation) -> Vec<u8> {
    let Preparation { vocabulary, settings, tokens, .. } = preparation;
    let word = |id: u32| vocabulary[id as usize].as_str();
    let (class, separator) = (word(tokens.class), word(tokens.separator));
    let added = special(preparation).into_iter().map(|id| Added {
        id,
        content: word(id),
        single_word: false,
        lstrip: false,
        rstrip: false,
        normalized: false,
        special: true,
    });
    let named = |name: &str, type_id: u32| Piece::SpecialToken { id: name.to_owned(), type_id };
    let text = |name: &str, type_id: u32| Piece::Sequence { id: name.to_owned(), type_id };
    let single = vec![named(class, 0), text("A", 0), named(separator, 0)];
    let pair = vec![named(class, 0), text("A", 0), named(separator, 0), text("B", 1), named(separator, 1)];
    let file = File {
        version: "1.0",
        truncation: (),
        padding: (),
        added_tokens: added.collect(),
        normalizer: BertNormalizer {
            r#type: "BertNormalizer",
            clean_text: true,
            handle_chinese_chars: settings.chinese_chars,
            strip_accents: settings.strip_accents,
            lowercase: settings.lower_case,
        },
        pre_tokenizer: json!({ "type": "BertPreTokenizer" }),
        post_processor: Template {
            r#type: "TemplateProcessing",
            single,
            pair,
            special_tokens: Ends([(class, tokens.class), (separator, tokens.separator)]),
        },
        decoder: Decoder { r#type: "WordPiece", prefix: CONTINUATION, cleanup: true },
        model: WordPiece {
            r#type: "WordPiece",
            unk_token: word(tokens.unknown),
            continuing_subword_prefix: CONTINUATION,
            max_input_chars_per_word: MAX_WORD_CHARACTERS,
            vocab: Words(vocabulary),
        },
    };
    serde_json::to_vec_pretty(&file).expect("words and numbers are JSON")
}

/// `tokenizer_config.json`; `positions` is the longest text in tokens.
pub fn tokenizer_config(preparation: &Preparation, positions: usize) -> Value {
    let Preparation { vocabulary, settings, tokens, .. } = preparation;
    let word = |id: u32| vocabulary[id as usize].as_str();
    json!({
        "backend": "tokenizers",
        "bos_token": word(tokens.decoder_start),
        "cls_token": word(tokens.class),
        "do_lower_case": settings.lower_case,
        "extra_special_tokens": [word(tokens.encoder_start)],
        "mask_token": vocabulary.iter().find(|word| *word == MASK),
        "model_max_length": positions,
        "pad_token": word(tokens.pad),
        "sep_token": word(tokens.separator),
        "strip_accents": settings.strip_accents,
        "tokenize_chinese_chars": settings.chinese_chars,
        "tokenizer_class": "BertTokenizer",
        "unk_token": word(tokens.unknown),
    })
}

/// `vocab.txt`.
pub fn vocabulary(preparation: &Preparation) -> Vec<u8> {
    preparation.vocabulary.iter().flat_map(|word| [word.as_bytes(), b"\n"].concat()).collect()
}

/// Ids of the tokens that no text is split into, in their order.
fn special(preparation: &Preparation) -> Vec<u32> {
    let Preparation { vocabulary, tokens, .. } = preparation;
    let mask = vocabulary.iter().position(|word| word == MASK).map(|id| id as u32);
    let named =
        [tokens.pad, tokens.unknown, tokens.class, tokens.separator, tokens.decoder_start, tokens.encoder_start];
    let mut ids: Vec<_> = named.into_iter().chain(mask).collect();
    ids.sort_unstable();
    ids.dedup();
    ids
}

#[derive(Serialize)]
struct File<'a> {
    version: &'static str,
    truncation: (),
    padding: (),
    added_tokens: Vec<Added<'a>>,
    normalizer: BertNormalizer,
    pre_tokenizer: Value,
    post_processor: Template<'a>,
    decoder: Decoder,
    model: WordPiece<'a>,
}

#[derive(Serialize)]
struct Added<'a> {
    id: u32,
    content: &'a str,
    single_word: bool,
    lstrip: bool,
    rstrip: bool,
    normalized: bool,
    special: bool,
}

#[derive(Serialize)]
struct BertNormalizer {
    r#type: &'static str,
    clean_text: bool,
    handle_chinese_chars: bool,
    strip_accents: Option<bool>,
    lowercase: bool,
}

#[derive(Serialize)]
enum Piece {
    SpecialToken { id: String, type_id: u32 },
    Sequence { id: String, type_id: u32 },
}

#[derive(Serialize)]
struct Template<'a> {
    r#type: &'static str,
    single: Vec<Piece>,
    pair: Vec<Piece>,
    special_tokens: Ends<'a>,
}

#[derive(Serialize)]
struct Decoder {
    r#type: &'static str,
    prefix: &'static str,
    cleanup: bool,
}

#[derive(Serialize)]
struct WordPiece<'a> {
    r#type: &'static str,
    unk_token: &'a str,
    continuing_subword_prefix: &'static str,
    max_input_chars_per_word: usize,
    vocab: Words<'a>,
}

/// Words with their ids, in the order of the ids.
struct Words<'a>(&'a [String]);

impl Serialize for Words<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().zip(0u32..))
    }
}

/// The tokens at the ends of a text.
struct Ends<'a>([(&'a str, u32); 2]);

impl Serialize for Ends<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (word, id) in self.0 {
            map.serialize_entry(word, &json!({ "id": word, "ids": [id], "tokens": [word] }))?;
        }
        map.end()
    }
}
