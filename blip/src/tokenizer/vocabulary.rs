//! The words of a tokenizer, checked.

use std::collections::{BTreeSet, HashSet};

use super::TokenizerError;
use crate::config::MAX_SIZE;

/// Most words that a vocabulary may have.
pub const MAX_WORDS: usize = MAX_SIZE;
/// Longest word, in bytes.
pub const MAX_WORD_BYTES: usize = 512;

/// Words that are special wherever a BERT tokenizer has them.
const SPECIAL: [&str; 7] = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[DEC]", "[ENC]"];

/// The words of a tokenizer by id: some, each once, none empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vocabulary {
    words: Vec<String>,
    special: BTreeSet<u32>,
}

impl Vocabulary {
    /// Checks the words; a word's place is its id.
    ///
    /// # Errors
    /// No words, too many, an empty or a long one, or one that is there twice.
    pub fn new(words: Vec<String>) -> Result<Vocabulary, TokenizerError> {
        if words.is_empty() || words.len() > MAX_WORDS {
            return Err(TokenizerError::WordCount { count: words.len() });
        }
        let mut seen = HashSet::with_capacity(words.len());
        for (id, word) in words.iter().enumerate() {
            if word.is_empty() || word.len() > MAX_WORD_BYTES {
                return Err(TokenizerError::WordLength { id, bytes: word.len() });
            }
            if !seen.insert(word.as_str()) {
                return Err(TokenizerError::RepeatedWord { word: word.clone(), id });
            }
        }
        let ids = (0_u32..).zip(&words);
        let special = ids.filter(|(_, word)| SPECIAL.contains(&word.as_str())).map(|(id, _)| id).collect();
        Ok(Vocabulary { words, special })
    }

    /// Reads a `vocab.txt`: one word a line.
    ///
    /// # Errors
    /// As [`Vocabulary::new`].
    pub fn from_lines(text: &str) -> Result<Vocabulary, TokenizerError> {
        Vocabulary::new(text.lines().take(MAX_WORDS + 1).map(str::to_owned).collect())
    }

    /// The same words with others after them.
    ///
    /// # Errors
    /// As [`Vocabulary::new`].
    pub fn with_words(mut self, words: &[&str]) -> Result<Vocabulary, TokenizerError> {
        self.words.extend(words.iter().map(|&word| word.to_owned()));
        let special = self.special;
        let mut vocabulary = Vocabulary::new(self.words)?;
        vocabulary.special.extend(special);
        Ok(vocabulary)
    }

    /// The words by id.
    pub fn words(&self) -> &[String] {
        &self.words
    }

    /// The id of a word; looks through all of them.
    pub fn id(&self, word: &str) -> Option<u32> {
        self.words.iter().position(|other| other == word).map(|id| id as u32)
    }

    pub(super) fn special(&self) -> &BTreeSet<u32> {
        &self.special
    }

    pub(super) fn mark_special(&mut self, ids: impl IntoIterator<Item = u32>) {
        self.special.extend(ids);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_become_ids_whatever_their_ends() {
        let vocabulary = Vocabulary::from_lines("[PAD]\r\na\n##b\n").unwrap();
        assert_eq!(vocabulary.words(), ["[PAD]", "a", "##b"]);
        assert_eq!((vocabulary.id("##b"), vocabulary.id("c")), (Some(2), None));
        let longer = vocabulary.clone().with_words(&["[DEC]", "[ENC]"]).unwrap();
        assert_eq!(longer.id("[ENC]"), Some(4));
        assert!(vocabulary.with_words(&["a"]).is_err());
    }

    #[test]
    fn wrong_vocabularies_are_refused() {
        for (text, message) in [
            ("", "the vocabulary has 0 words"),
            ("a\n\nb", "word 1 of the vocabulary has 0 bytes"),
            ("a\nb\na", "\"a\" is in the vocabulary twice, the second time as 2"),
            (&"x".repeat(MAX_WORD_BYTES + 1), "word 0 of the vocabulary has 513 bytes"),
            (&"x\n".repeat(MAX_WORDS + 1), "the vocabulary has 1048577 words"),
        ] {
            let error = Vocabulary::from_lines(text).unwrap_err().to_string();
            assert!(error.starts_with(message), "{error}");
        }
    }
}
