//! `tokenizer.json`, the file of Hugging Face's tokenizers: what BERT's uses of it.
//!
//! Source: tokenizers 0.22 `tokenizer/serialization.rs` and transformers 5.23 `models/bert/tokenization_bert.py`.

use std::collections::{BTreeMap, BTreeSet};

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{CONTINUATION, MAX_WORD_CHARACTERS, MAX_WORDS, TokenizerError, Vocabulary, WordPieceSettings};
use crate::config::SpecialTokens;

/// Longest `tokenizer.json` that is read, in bytes.
pub const MAX_FILE_BYTES: usize = 32 << 20;

/// What a `tokenizer.json` holds. It does not say which word plays which role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenizerFile {
    /// The words by id, added tokens included.
    pub vocabulary: Vocabulary,
    /// How texts are cleaned.
    pub settings: WordPieceSettings,
}

impl TokenizerFile {
    /// Reads a `tokenizer.json`.
    ///
    /// # Errors
    /// A file that is too long, not JSON, not a WordPiece tokenizer with BERT's parts, or whose ids have gaps.
    pub fn from_json(json: &[u8]) -> Result<TokenizerFile, TokenizerError> {
        if json.len() > MAX_FILE_BYTES {
            return Err(TokenizerError::FileLength { bytes: json.len() });
        }
        let file: File = serde_json::from_slice(json)?;
        file.check()?;
        let special: BTreeSet<u32> = file.added_tokens.iter().map(|token| token.id).collect();
        let mut entries = file.model.vocab.0;
        let mut known: BTreeSet<(u32, String)> = BTreeSet::new();
        known.extend(entries.drain(..).map(|(word, id)| (id, word)));
        known.extend(file.added_tokens.into_iter().map(|token| (token.id, token.content)));
        let mut words = Vec::with_capacity(known.len().min(MAX_WORDS));
        for (id, word) in known {
            if id as usize != words.len() {
                return Err(TokenizerError::Ids { word, found: id, expected: words.len() });
            }
            words.push(word);
        }
        let mut vocabulary = Vocabulary::new(words)?;
        vocabulary.mark_special(special);
        let settings = WordPieceSettings {
            lower_case: file.normalizer.lowercase,
            strip_accents: file.normalizer.strip_accents,
            chinese_chars: file.normalizer.handle_chinese_chars,
        };
        Ok(TokenizerFile { vocabulary, settings })
    }
}

/// The text of a `tokenizer.json`.
pub(super) fn write(
    vocabulary: &Vocabulary,
    settings: WordPieceSettings,
    tokens: SpecialTokens,
    special: &BTreeSet<u32>,
) -> String {
    let word = |id: u32| vocabulary.words()[id as usize].clone();
    let (class, separator) = (word(tokens.class), word(tokens.separator));
    let file = File {
        version: "1.0".to_owned(),
        truncation: (),
        padding: (),
        added_tokens: special.iter().map(|&id| AddedToken::special(id, word(id))).collect(),
        normalizer: NormalizerPart {
            kind: "BertNormalizer".to_owned(),
            clean_text: true,
            handle_chinese_chars: settings.chinese_chars,
            strip_accents: settings.strip_accents,
            lowercase: settings.lower_case,
        },
        pre_tokenizer: PreTokenizerPart { kind: "BertPreTokenizer".to_owned() },
        post_processor: Some(Template {
            kind: "TemplateProcessing",
            single: vec![Piece::special(&class, 0), Piece::sequence("A", 0), Piece::special(&separator, 0)],
            pair: vec![
                Piece::special(&class, 0),
                Piece::sequence("A", 0),
                Piece::special(&separator, 0),
                Piece::sequence("B", 1),
                Piece::special(&separator, 1),
            ],
            special_tokens: [(class, tokens.class), (separator, tokens.separator)]
                .into_iter()
                .map(|(word, id)| (word.clone(), TemplateToken { id: word.clone(), ids: [id], tokens: [word] }))
                .collect(),
        }),
        decoder: DecoderPart { kind: "WordPiece".to_owned(), prefix: CONTINUATION.to_owned(), cleanup: true },
        model: ModelPart {
            kind: "WordPiece".to_owned(),
            unk_token: word(tokens.unknown),
            continuing_subword_prefix: CONTINUATION.to_owned(),
            max_input_chars_per_word: MAX_WORD_CHARACTERS,
            vocab: Words(vocabulary.words().iter().cloned().zip(0..).collect()),
        },
    };
    serde_json::to_string(&file).expect("strings, numbers and maps of strings always serialize")
}

#[derive(Serialize, Deserialize)]
struct File {
    #[serde(default)]
    version: String,
    #[serde(skip_deserializing)]
    truncation: (),
    #[serde(skip_deserializing)]
    padding: (),
    #[serde(default)]
    added_tokens: Vec<AddedToken>,
    normalizer: NormalizerPart,
    pre_tokenizer: PreTokenizerPart,
    #[serde(skip_deserializing)]
    post_processor: Option<Template>,
    decoder: DecoderPart,
    model: ModelPart,
}

impl File {
    /// Refuses what our tokenizer does otherwise.
    fn check(&self) -> Result<(), TokenizerError> {
        expect("normalizer.type", &self.normalizer.kind, "BertNormalizer")?;
        expect("normalizer.clean_text", self.normalizer.clean_text, "true")?;
        expect("pre_tokenizer.type", &self.pre_tokenizer.kind, "BertPreTokenizer")?;
        expect("decoder.type", &self.decoder.kind, "WordPiece")?;
        expect("decoder.prefix", &self.decoder.prefix, CONTINUATION)?;
        expect("decoder.cleanup", self.decoder.cleanup, "true")?;
        expect("model.type", &self.model.kind, "WordPiece")?;
        expect("model.continuing_subword_prefix", &self.model.continuing_subword_prefix, CONTINUATION)?;
        expect("model.max_input_chars_per_word", self.model.max_input_chars_per_word, "100")?;
        for token in &self.added_tokens {
            if !token.special {
                let found = format!("{:?}, which is not special", token.content);
                return Err(TokenizerError::Unsupported { field: "added_tokens", found, expected: "special tokens" });
            }
        }
        Ok(())
    }
}

fn expect(field: &'static str, found: impl ToString, expected: &'static str) -> Result<(), TokenizerError> {
    let found = found.to_string();
    if found == expected {
        return Ok(());
    }
    Err(TokenizerError::Unsupported { field, found: format!("{found:?}"), expected })
}

#[derive(Serialize, Deserialize)]
struct AddedToken {
    id: u32,
    content: String,
    #[serde(default)]
    single_word: bool,
    #[serde(default)]
    lstrip: bool,
    #[serde(default)]
    rstrip: bool,
    #[serde(default)]
    normalized: bool,
    special: bool,
}

impl AddedToken {
    fn special(id: u32, content: String) -> AddedToken {
        AddedToken { id, content, single_word: false, lstrip: false, rstrip: false, normalized: false, special: true }
    }
}

#[derive(Serialize, Deserialize)]
struct NormalizerPart {
    #[serde(rename = "type")]
    kind: String,
    clean_text: bool,
    handle_chinese_chars: bool,
    strip_accents: Option<bool>,
    lowercase: bool,
}

#[derive(Serialize, Deserialize)]
struct PreTokenizerPart {
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Serialize)]
struct Template {
    #[serde(rename = "type")]
    kind: &'static str,
    single: Vec<Piece>,
    pair: Vec<Piece>,
    special_tokens: BTreeMap<String, TemplateToken>,
}

#[derive(Serialize)]
enum Piece {
    SpecialToken { id: String, type_id: u8 },
    Sequence { id: String, type_id: u8 },
}

impl Piece {
    fn special(word: &str, type_id: u8) -> Piece {
        Piece::SpecialToken { id: word.to_owned(), type_id }
    }

    fn sequence(name: &str, type_id: u8) -> Piece {
        Piece::Sequence { id: name.to_owned(), type_id }
    }
}

#[derive(Serialize)]
struct TemplateToken {
    id: String,
    ids: [u32; 1],
    tokens: [String; 1],
}

#[derive(Serialize, Deserialize)]
struct DecoderPart {
    #[serde(rename = "type")]
    kind: String,
    prefix: String,
    cleanup: bool,
}

#[derive(Serialize, Deserialize)]
struct ModelPart {
    #[serde(rename = "type", default = "word_piece")]
    kind: String,
    unk_token: String,
    continuing_subword_prefix: String,
    max_input_chars_per_word: usize,
    vocab: Words,
}

/// Files of older versions do not name the model's type.
fn word_piece() -> String {
    "WordPiece".to_owned()
}

/// A JSON object in its order, so that repeated keys are seen.
struct Words(Vec<(String, u32)>);

impl Serialize for Words {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(word, id)| (word, id)))
    }
}

impl<'de> Deserialize<'de> for Words {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Words, D::Error> {
        deserializer.deserialize_map(WordsVisitor)
    }
}

struct WordsVisitor;

impl<'de> Visitor<'de> for WordsVisitor {
    type Value = Words;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("words with their ids")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Words, A::Error> {
        let mut words = Vec::new();
        while let Some(entry) = map.next_entry()? {
            words.push(entry);
        }
        Ok(Words(words))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn file() -> Value {
        json!({
            "added_tokens": [{"id": 2, "content": "[DEC]", "special": true}],
            "normalizer": {"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true,
                           "strip_accents": null, "lowercase": true},
            "pre_tokenizer": {"type": "BertPreTokenizer"},
            "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": true},
            "model": {"unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100,
                      "vocab": {"[UNK]": 0, "a": 1}},
        })
    }

    #[test]
    fn added_tokens_come_after_the_vocabulary() {
        let read = TokenizerFile::from_json(file().to_string().as_bytes()).unwrap();
        assert_eq!(read.vocabulary.words(), ["[UNK]", "a", "[DEC]"]);
        assert_eq!(read.settings, WordPieceSettings::default());
    }

    #[test]
    fn other_tokenizers_are_refused_by_name() {
        for (pointer, value, message) in [
            ("/normalizer/type", json!("NFC"), "normalizer.type is \"NFC\", and only BertNormalizer"),
            ("/normalizer/clean_text", json!(false), "normalizer.clean_text"),
            ("/pre_tokenizer/type", json!("Whitespace"), "pre_tokenizer.type"),
            ("/decoder/cleanup", json!(false), "decoder.cleanup"),
            ("/decoder/prefix", json!("@@"), "decoder.prefix"),
            ("/model/continuing_subword_prefix", json!("@@"), "model.continuing_subword_prefix"),
            ("/model/max_input_chars_per_word", json!(7), "model.max_input_chars_per_word"),
            ("/added_tokens/0/special", json!(false), "added_tokens is \"[DEC]\", which is not special"),
            ("/added_tokens/0/id", json!(7), "has id 7 where 2 comes next"),
            ("/added_tokens/0/id", json!(1), "has id 1 where 2 comes next"),
            ("/added_tokens/0/content", json!("a"), "\"a\" is in the vocabulary twice"),
            ("/model/vocab", json!({}), "has id 2 where 0 comes next"),
            ("/model/vocab/a", json!(-1), "does not describe"),
            ("/model/vocab", json!(["a"]), "does not describe"),
            ("/model", json!({"type": "BPE", "vocab": {}}), "does not describe"),
        ] {
            let mut file = file();
            *file.pointer_mut(pointer).unwrap() = value;
            let error = TokenizerFile::from_json(file.to_string().as_bytes()).unwrap_err().to_string();
            assert!(error.contains(message), "{pointer}: {error}");
        }
    }

    #[test]
    fn repeated_keys_and_cut_files_are_refused() {
        let text = file().to_string();
        let repeated = text.replace("\"a\":1", "\"a\":1,\"a\":3");
        assert!(TokenizerFile::from_json(repeated.as_bytes()).unwrap_err().to_string().contains("twice"));
        for end in 0..text.len() {
            assert!(TokenizerFile::from_json(&text.as_bytes()[..end]).is_err());
        }
        let long = vec![b' '; MAX_FILE_BYTES + 1];
        assert!(matches!(TokenizerFile::from_json(&long), Err(TokenizerError::FileLength { .. })));
    }
}
