//! Texts as a model reads them: cleaned, cut, and padded.

use blip::tokenizer::MAX_TEXT_BYTES;

/// Words of a caption that count. Source: BLIP `data/coco_karpathy_dataset.py`, `max_words=30`.
pub const MAX_CAPTION_WORDS: usize = 30;
/// Words of a question that count. Source: BLIP `data/utils.py`, `pre_question`, `max_ques_words=50`.
pub(super) const MAX_QUESTION_WORDS: usize = 50;

/// Tokens of a text or question that an encoder reads. Source: BLIP `models/blip_retrieval.py` and
/// `models/blip_vqa.py`, `max_length=35`.
pub const MAX_TEXT_TOKENS: usize = 35;

/// A text in lower case, without `.!"()*#:;~`, its first `most` words with a space between each two.
///
/// Source: BLIP `data/utils.py`, `pre_caption`; there, single tabs and line ends stay, which the tokenizer takes for
/// spaces all the same. Never longer than a tokenizer takes.
pub fn caption_words(text: &str, most: usize) -> String {
    let lower = text.to_lowercase();
    let plain = lower.replace(['.', '!', '"', '(', ')', '*', '#', ':', ';', '~'], " ");
    let mut words = plain.split_whitespace().take(most).collect::<Vec<_>>().join(" ");
    words.truncate(words.floor_char_boundary(MAX_TEXT_BYTES));
    words
}

/// At most `positions` tokens, of which the last stays the separator.
pub fn cut_to(mut ids: Vec<u32>, positions: usize, separator: u32) -> Vec<u32> {
    if ids.len() > positions {
        ids.truncate(positions.saturating_sub(1));
        ids.push(separator);
    }
    ids
}

/// Rows of one length, `[rows, tokens]`, with the tokens of each that count, and `tokens`.
pub fn padded(rows: &[Vec<u32>], pad: u32) -> (Vec<u32>, Vec<u32>, usize) {
    let tokens = rows.iter().map(Vec::len).max().unwrap_or(0);
    let filled = |row: &Vec<u32>| {
        let padding = tokens - row.len();
        row.iter().copied().chain(std::iter::repeat_n(pad, padding)).collect::<Vec<_>>()
    };
    let lengths = rows.iter().map(|row| row.len() as u32).collect();
    (rows.iter().flat_map(filled).collect(), lengths, tokens)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn captions_are_cleaned_as_the_authors_clean_them() {
        // Answers of `pre_caption` in salesforce/BLIP's `data/utils.py`.
        assert_eq!(caption_words("A man,  riding (a) wave.\n", 30), "a man, riding a wave");
        assert_eq!(caption_words("one two three", 2), "one two");
        assert_eq!(caption_words(" ~#*\" ", 30), "");
        // Lower case is longer here than the text was.
        assert!(caption_words(&"\u{130}".repeat(MAX_TEXT_BYTES / 2), 30).len() <= MAX_TEXT_BYTES);
    }

    #[test]
    fn long_texts_end_with_the_separator() {
        assert_eq!(cut_to(vec![1, 5, 6, 7, 2], 3, 2), [1, 5, 2]);
        assert_eq!(cut_to(vec![1, 5, 2], 3, 2), [1, 5, 2]);
    }
}
