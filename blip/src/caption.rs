//! Captions as data: what may be kept and shown, and what the training reads.

use serde::{Deserialize, Serialize};

use crate::tokenizer::MAX_TEXT_BYTES;

/// Longest caption that is kept, in bytes.
pub const MAX_CAPTION_BYTES: usize = 256;
/// Most words of a caption that the training reads. Source: BLIP `data/pretrain_dataset.py`.
pub const MAX_TRAINING_WORDS: usize = 30;
/// Most words of a question that the training reads. Source: BLIP `data/utils.py`, `pre_question`.
pub const MAX_QUESTION_WORDS: usize = 50;
/// Most bytes of a text that the training reads: a tokenizer takes it, with a prompt before it.
pub const MAX_TRAINING_BYTES: usize = MAX_TEXT_BYTES / 2;

/// A text that may be stored and shown: printable, one line, at most [`MAX_CAPTION_BYTES`]. It may be empty.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Caption(String);

/// Where a text about a picture is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    /// The caption that was shown.
    Caption,
    /// Another text that the captioner wrote.
    Candidate,
    /// A person.
    Human,
    /// A file beside the picture.
    Sidecar,
    /// What the trigger is called.
    Tag,
    /// The place where the camera stands.
    Place,
}

impl Origin {
    /// Every one, in the order of reports.
    pub const ALL: [Origin; 6] =
        [Origin::Caption, Origin::Candidate, Origin::Human, Origin::Sidecar, Origin::Tag, Origin::Place];

    /// Whether a model wrote it, which may loop or say nothing.
    pub fn is_written_by_a_model(self) -> bool {
        matches!(self, Origin::Caption | Origin::Candidate)
    }
}

/// Why a text is no caption.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum CaptionError {
    /// More bytes than are kept.
    #[error("the caption has {bytes} bytes, and {MAX_CAPTION_BYTES} is the most that is kept")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// A control character, a line break, or a character that reorders or hides its neighbours.
    #[error("the caption has the character {character:?}, which cannot be printed")]
    Unprintable {
        /// The first one.
        character: char,
    },
}

impl Caption {
    /// Checks a text.
    ///
    /// # Errors
    /// A text that is too long or has a character that cannot be printed.
    pub fn new(text: impl Into<String>) -> Result<Caption, CaptionError> {
        let text = text.into();
        if text.len() > MAX_CAPTION_BYTES {
            return Err(CaptionError::TooLong { bytes: text.len() });
        }
        match text.chars().find(|&character| !is_printable(character)) {
            Some(character) => Err(CaptionError::Unprintable { character }),
            None => Ok(Caption(text)),
        }
    }

    /// As much of some words as a caption holds, with spaces for what cannot be printed.
    pub fn cut(words: &str) -> Caption {
        let mut text = String::new();
        for character in words.chars().map(|character| if is_printable(character) { character } else { ' ' }) {
            if text.len() + character.len_utf8() > MAX_CAPTION_BYTES {
                break;
            }
            text.push(character);
        }
        Caption(text)
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for Caption {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for Caption {
    type Error = CaptionError;

    fn try_from(text: String) -> Result<Caption, CaptionError> {
        Caption::new(text)
    }
}

impl From<Caption> for String {
    fn from(caption: Caption) -> String {
        caption.0
    }
}

/// Neither a control character, a line or paragraph separator, a sign that sets the direction of a text (Unicode
/// UAX #9, table 4), an annotation or tag, a byte order mark, a private or replacement character, nor a noncharacter.
/// The zero-width joiner stays: emoji need it.
fn is_printable(character: char) -> bool {
    !character.is_control()
        && !matches!(
            character,
            '\u{61c}'
                | '\u{200b}'
                | '\u{200e}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{e000}'..='\u{f8ff}'
                | '\u{fdd0}'..='\u{fdef}'
                | '\u{feff}'
                | '\u{fff9}'..='\u{fffd}'
                | '\u{e0000}'..='\u{e007f}'
                | '\u{f0000}'..='\u{10ffff}'
        )
        && u32::from(character) & 0xfffe != 0xfffe
}

/// A caption as BLIP's training reads it: lower case, some punctuation gone, at most [`MAX_TRAINING_WORDS`] words and
/// [`MAX_TRAINING_BYTES`].
///
/// Source: BLIP `data/utils.py`, `pre_caption`.
pub fn clean_for_training(text: &str) -> String {
    let lower = text.to_lowercase();
    let plain = lower.chars().map(|character| if is_dropped(character) { ' ' } else { character });
    let mut joined = String::with_capacity(lower.len());
    let mut spaces = String::new();
    for character in plain.chain(Some('\0')) {
        if is_space(character) {
            spaces.push(character);
            continue;
        }
        let is_run = spaces.chars().nth(1).is_some();
        joined.push_str(if is_run { " " } else { &spaces });
        spaces.clear();
        joined.push(character);
    }
    joined.pop();
    first_words(joined.trim_end_matches('\n').trim_matches(' '), MAX_TRAINING_WORDS)
}

/// A question as BLIP's training reads it: lower case, some punctuation gone, at most [`MAX_QUESTION_WORDS`] words and
/// [`MAX_TRAINING_BYTES`].
///
/// Source: BLIP `data/utils.py`, `pre_question`.
pub fn clean_question_for_training(text: &str) -> String {
    let plain: String = text.to_lowercase().chars().filter(|character| !is_dropped(*character)).collect();
    first_words(plain.trim_end_matches(' '), MAX_QUESTION_WORDS)
}

fn is_dropped(character: char) -> bool {
    ".!\"()*#:;~".contains(character)
}

fn first_words(text: &str, most: usize) -> String {
    let mut words = text.split(' ').take(most).collect::<Vec<_>>().join(" ");
    words.truncate(words.floor_char_boundary(MAX_TRAINING_BYTES));
    words
}

/// What Python's `\s` matches: white space, and the four separators of ASCII.
fn is_space(character: char) -> bool {
    character.is_whitespace() || matches!(character, '\u{1c}'..='\u{1f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize)]
    struct Case {
        text: String,
        caption: String,
    }

    #[test]
    fn captions_are_cleaned_as_in_the_authors_code() {
        let cases: Vec<Case> = serde_json::from_str(include_str!("../tests/goldens/caption.json")).unwrap();
        assert_eq!(cases.len(), 32);
        for Case { text, caption } in cases {
            assert_eq!(clean_for_training(&text), caption, "{text:?}");
        }
    }

    #[derive(Deserialize)]
    struct QuestionCase {
        text: String,
        question: String,
    }

    #[test]
    fn questions_are_cleaned_as_in_the_authors_code() {
        let cases: Vec<QuestionCase> = serde_json::from_str(include_str!("../tests/goldens/question.json")).unwrap();
        assert_eq!(cases.len(), 35);
        for QuestionCase { text, question } in cases {
            assert_eq!(clean_question_for_training(&text), question, "{text:?}");
        }
    }

    #[test]
    fn a_clean_text_is_never_longer_than_a_tokenizer_takes() {
        // Lower case is longer here than the text was.
        let text = "\u{130}".repeat(MAX_TEXT_BYTES / 2);
        for clean in [clean_for_training(&text), clean_question_for_training(&text)] {
            assert!((MAX_TRAINING_BYTES - 3..=MAX_TRAINING_BYTES).contains(&clean.len()));
        }
    }

    #[test]
    fn words_are_cut_to_what_a_caption_holds() {
        assert_eq!(Caption::cut("it\nhangs\u{202e}").as_str(), "it hangs ");
        let long = Caption::cut(&"\u{e9}".repeat(MAX_CAPTION_BYTES));
        assert_eq!(Caption::new(long.as_str()).unwrap().as_str().len(), MAX_CAPTION_BYTES);
    }

    #[test]
    fn printable_texts_are_captions() {
        for text in ["", "two dogs", "naïve café", "日本語", "🐕\u{200d}🦺", &"x".repeat(MAX_CAPTION_BYTES)] {
            assert_eq!(Caption::new(text).unwrap().as_str(), text);
        }
    }

    #[test]
    fn long_and_unprintable_texts_are_not() {
        let long = Caption::new("é".repeat(129)).unwrap_err();
        assert_eq!(long, CaptionError::TooLong { bytes: 258 });
        for character in "\0\n\r\t\u{1b}\u{7f}\u{85}\u{2028}\u{202e}\u{2066}\u{feff}\u{fffd}\u{ffff}\u{e0041}".chars() {
            let error = Caption::new(format!("a{character}b")).unwrap_err();
            assert_eq!(error, CaptionError::Unprintable { character });
        }
        assert!(serde_json::from_str::<Caption>("\"a\\u001bb\"").is_err());
    }
}
