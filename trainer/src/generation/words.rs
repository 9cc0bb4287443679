//! Texts as a model reads them: cut and padded.

/// Tokens of a text or question that an encoder reads. Source: BLIP `models/blip_retrieval.py` and
/// `models/blip_vqa.py`, `max_length=35`.
pub const MAX_TEXT_TOKENS: usize = 35;

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
    fn long_texts_end_with_the_separator() {
        assert_eq!(cut_to(vec![1, 5, 6, 7, 2], 3, 2), [1, 5, 2]);
        assert_eq!(cut_to(vec![1, 5, 2], 3, 2), [1, 5, 2]);
    }
}
