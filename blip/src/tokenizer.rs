//! Text to token ids and back: BERT's WordPiece.
//!
//! The `tokenizers` crate splits the text; it is given a checked vocabulary and settings, never a file, because it
//! panics on some bad files.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use tokenizers::decoders::wordpiece::cleanup;
use tokenizers::models::wordpiece::WordPiece;
use tokenizers::normalizers::BertNormalizer;
use tokenizers::pre_tokenizers::bert::BertPreTokenizer;
use tokenizers::{
    Model, NormalizedString, Normalizer, OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer,
};

use crate::config::SpecialTokens;

mod vocabulary;
mod file;

pub use file::{MAX_FILE_BYTES, TokenizerFile};
pub use vocabulary::{MAX_WORD_BYTES, MAX_WORDS, Vocabulary};

/// Longest text that is taken, in bytes.
pub const MAX_TEXT_BYTES: usize = 1 << 16;
/// A longer word is unknown, in characters. Source: BERT `tokenization.py`, `WordpieceTokenizer`.
const MAX_WORD_CHARACTERS: usize = 100;
/// Marks a piece that continues a word.
const CONTINUATION: &str = "##";

/// How a text is cleaned before it is split into words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WordPieceSettings {
    /// Lower-cases.
    pub lower_case: bool,
    /// Removes accents; where it is not said, as `lower_case`.
    pub strip_accents: Option<bool>,
    /// Makes every Chinese character a word.
    pub chinese_chars: bool,
}

impl Default for WordPieceSettings {
    /// Those of bert-base-uncased.
    fn default() -> WordPieceSettings {
        WordPieceSettings { lower_case: true, strip_accents: None, chinese_chars: true }
    }
}

/// Why there is no tokenizer, or why it does not take a text.
#[derive(Debug, thiserror::Error)]
pub enum TokenizerError {
    /// A vocabulary without words, or with more than a model can have.
    #[error("the vocabulary has {count} words: it must have between 1 and {MAX_WORDS}")]
    WordCount {
        /// Words found.
        count: usize,
    },
    /// A word that is empty or too long.
    #[error("word {id} of the vocabulary has {bytes} bytes: it must have between 1 and {MAX_WORD_BYTES}")]
    WordLength {
        /// Its place in the vocabulary.
        id: usize,
        /// Its length.
        bytes: usize,
    },
    /// One word in two places.
    #[error("{word:?} is in the vocabulary twice, the second time as {id}")]
    RepeatedWord {
        /// The word.
        word: String,
        /// Its second place.
        id: usize,
    },
    /// Ids that are not 0, 1, 2 and so on.
    #[error("{word:?} has id {found} where {expected} comes next: ids must be without gaps and used once")]
    Ids {
        /// The word.
        word: String,
        /// Its id.
        found: u32,
        /// The first id without a word.
        expected: usize,
    },
    /// A special token outside the vocabulary.
    #[error("the {name} token is {id}, and the vocabulary has {words} words")]
    SpecialToken {
        /// Its field in [`SpecialTokens`].
        name: &'static str,
        /// Its id.
        id: u32,
        /// Words in the vocabulary.
        words: usize,
    },
    /// A file that is too long to be a tokenizer's.
    #[error("tokenizer.json has {bytes} bytes, and {MAX_FILE_BYTES} is the most that is read")]
    FileLength {
        /// Its length.
        bytes: usize,
    },
    /// A file that is not a tokenizer's JSON.
    #[error("tokenizer.json does not describe a WordPiece tokenizer")]
    File(#[from] serde_json::Error),
    /// A tokenizer that is not BERT's.
    #[error("tokenizer.json: {field} is {found}, and only {expected} is supported")]
    Unsupported {
        /// Where in the file.
        field: &'static str,
        /// What is there.
        found: String,
        /// What must be there.
        expected: &'static str,
    },
    /// A text that no caption or prompt can be.
    #[error("the text has {bytes} bytes, and {MAX_TEXT_BYTES} is the most that is taken")]
    TextLength {
        /// Its length.
        bytes: usize,
    },
    /// The `tokenizers` crate refused the text.
    #[error("the text cannot be split into words")]
    Split(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// BERT's WordPiece tokenizer with BLIP's special tokens.
pub struct Tokenizer {
    vocabulary: Vocabulary,
    settings: WordPieceSettings,
    tokens: SpecialTokens,
    special: BTreeSet<u32>,
    normalizer: BertNormalizer,
    model: WordPiece,
}

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let words = self.vocabulary.words().len();
        write!(f, "Tokenizer {{ words: {words}, settings: {:?}, tokens: {:?} }}", self.settings, self.tokens)
    }
}

impl Tokenizer {
    /// Makes a tokenizer from its parts.
    ///
    /// # Errors
    /// A special token outside the vocabulary.
    pub fn new(
        vocabulary: Vocabulary,
        settings: WordPieceSettings,
        tokens: SpecialTokens,
    ) -> Result<Tokenizer, TokenizerError> {
        let words = vocabulary.words();
        let SpecialTokens { pad, unknown, class, separator, decoder_start, encoder_start } = tokens;
        let mut special = vocabulary.special().clone();
        for (name, id) in [
            ("pad", pad),
            ("unknown", unknown),
            ("class", class),
            ("separator", separator),
            ("decoder_start", decoder_start),
            ("encoder_start", encoder_start),
        ] {
            if id as usize >= words.len() {
                return Err(TokenizerError::SpecialToken { name, id, words: words.len() });
            }
            special.insert(id);
        }
        // The only way to an empty map of the crate's own map type.
        let mut pieces = WordPiece::read_bytes(b"").map_err(TokenizerError::Split)?;
        for (id, word) in (0_u32..).zip(words) {
            if id == unknown || !special.contains(&id) {
                pieces.insert(word.clone(), id);
            }
        }
        let model = WordPiece::builder()
            .vocab(pieces)
            .unk_token(words[unknown as usize].clone())
            .continuing_subword_prefix(CONTINUATION.to_owned())
            .max_input_chars_per_word(MAX_WORD_CHARACTERS)
            .build()
            .map_err(TokenizerError::Split)?;
        let WordPieceSettings { lower_case, strip_accents, chinese_chars } = settings;
        let normalizer = BertNormalizer::new(true, chinese_chars, strip_accents, lower_case);
        Ok(Tokenizer { vocabulary, settings, tokens, special, normalizer, model })
    }

    /// Reads a `tokenizer.json`; the special tokens are the model's.
    ///
    /// # Errors
    /// A file that is not a BERT tokenizer's, and what [`Tokenizer::new`] refuses.
    pub fn from_json(json: &[u8], tokens: SpecialTokens) -> Result<Tokenizer, TokenizerError> {
        let TokenizerFile { vocabulary, settings } = TokenizerFile::from_json(json)?;
        Tokenizer::new(vocabulary, settings, tokens)
    }

    /// Writes the `tokenizer.json` that Hugging Face's tokenizers read, always the same bytes for the same tokenizer.
    pub fn to_json(&self) -> String {
        file::write(&self.vocabulary, self.settings, self.tokens, &self.special)
    }

    /// The words by id.
    pub fn vocabulary(&self) -> &Vocabulary {
        &self.vocabulary
    }

    /// How texts are cleaned.
    pub fn settings(&self) -> WordPieceSettings {
        self.settings
    }

    /// Ids of the special tokens.
    pub fn tokens(&self) -> SpecialTokens {
        self.tokens
    }

    /// Splits a text into word pieces, without special tokens.
    ///
    /// A text never yields a special token other than the unknown one: `[SEP]` in a text is three words. (Hugging Face's
    /// tokenizers take it for the token unless they are told `split_special_tokens`.)
    ///
    /// # Errors
    /// A text longer than [`MAX_TEXT_BYTES`].
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, TokenizerError> {
        let bytes = text.len();
        if bytes > MAX_TEXT_BYTES {
            return Err(TokenizerError::TextLength { bytes });
        }
        let mut normalized = NormalizedString::from(text);
        self.normalizer.normalize(&mut normalized).map_err(TokenizerError::Split)?;
        let mut split = PreTokenizedString::from(normalized);
        BertPreTokenizer.pre_tokenize(&mut split).map_err(TokenizerError::Split)?;
        let mut ids = Vec::new();
        for (word, ..) in split.get_splits(OffsetReferential::Normalized, OffsetType::None) {
            let pieces = self.model.tokenize(word).map_err(TokenizerError::Split)?;
            ids.extend(pieces.iter().map(|piece| piece.id));
        }
        Ok(ids)
    }

    /// What the decoder starts from: its start token, then the words.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`].
    pub fn prompt(&self, text: &str) -> Result<Vec<u32>, TokenizerError> {
        let mut ids = vec![self.tokens.decoder_start];
        ids.extend(self.encode(text)?);
        Ok(ids)
    }

    /// What an encoder reads: the token that it is classified by, the words, the separator.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`].
    pub fn classified(&self, text: &str, first: u32) -> Result<Vec<u32>, TokenizerError> {
        let mut ids = vec![first];
        ids.extend(self.encode(text)?);
        ids.push(self.tokens.separator);
        Ok(ids)
    }

    /// Joins word pieces to a text. Special tokens and ids without a word are left out.
    ///
    /// Source: tokenizers `decoders/wordpiece.rs` with cleanup, as `decode(ids, skip_special_tokens=True)` calls it.
    pub fn decode(&self, ids: &[u32]) -> String {
        let words = self.vocabulary.words();
        let spoken = ids.iter().filter(|id| !self.special.contains(id)).filter_map(|&id| words.get(id as usize));
        let mut text = String::new();
        for (place, word) in spoken.enumerate() {
            match word.strip_prefix(CONTINUATION) {
                _ if place == 0 => text.push_str(&cleanup(word)),
                Some(rest) => text.push_str(&cleanup(rest)),
                None => text.push_str(&cleanup(&format!(" {word}"))),
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokenizer(words: &[&str], tokens: SpecialTokens) -> Result<Tokenizer, TokenizerError> {
        let vocabulary = Vocabulary::new(words.iter().map(|&word| word.to_owned()).collect())?;
        Tokenizer::new(vocabulary, WordPieceSettings::default(), tokens)
    }

    fn tokens() -> SpecialTokens {
        SpecialTokens { pad: 0, unknown: 1, class: 2, separator: 3, decoder_start: 4, encoder_start: 5 }
    }

    const WORDS: [&str; 12] =
        ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[DEC]", "[ENC]", "dog", "##s", "[", "]", "sep", "start"];

    #[test]
    fn prompts_and_classified_texts_carry_their_tokens() {
        let tokenizer = tokenizer(&WORDS, tokens()).unwrap();
        assert_eq!(tokenizer.prompt("Dogs cat").unwrap(), [4, 6, 7, 1]);
        assert_eq!(tokenizer.prompt(" ").unwrap(), [4]);
        assert_eq!(tokenizer.classified("dog", 5).unwrap(), [5, 6, 3]);
        assert_eq!(tokenizer.decode(&[4, 6, 7, 99, 6, 3]), "dogs dog");
    }

    #[test]
    fn a_text_never_yields_a_special_token() {
        let tokenizer = tokenizer(&WORDS, tokens()).unwrap();
        assert_eq!(tokenizer.encode("[SEP]").unwrap(), [8, 10, 9]);
        let odd = SpecialTokens { decoder_start: 11, ..tokens() };
        let tokenizer = super::tests::tokenizer(&WORDS, odd).unwrap();
        assert_eq!(tokenizer.encode("start dog").unwrap(), [1, 6]);
    }

    #[test]
    fn a_special_token_outside_the_vocabulary_is_named() {
        let error = tokenizer(&WORDS, SpecialTokens { encoder_start: 12, ..tokens() }).unwrap_err();
        assert_eq!(error.to_string(), "the encoder_start token is 12, and the vocabulary has 12 words");
    }

    #[test]
    fn ten_thousand_words_are_taken_and_longer_texts_refused() {
        let tokenizer = tokenizer(&WORDS, tokens()).unwrap();
        assert_eq!(tokenizer.encode(&"dogs ".repeat(10_000)).unwrap().len(), 20_000);
        let error = tokenizer.encode(&"dogs ".repeat(20_000)).unwrap_err();
        assert_eq!(error.to_string(), "the text has 100000 bytes, and 65536 is the most that is taken");
    }

    #[test]
    fn no_text_of_random_characters_panics() {
        let tokenizer = tokenizer(&WORDS, tokens()).unwrap();
        let mut state = 1_u64;
        let mut next = |bound: u64| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 33) % bound
        };
        for _ in 0..4000 {
            let bound = [0x80, 0x400, 0x3000, 0x11_0000][next(4) as usize];
            let text: String = (0..next(40)).filter_map(|_| char::from_u32(next(bound) as u32)).collect();
            let ids = tokenizer.encode(&text).unwrap();
            assert!(ids.iter().all(|id| !(2..6).contains(id) && *id != 0), "{text:?}");
        }
    }
}
