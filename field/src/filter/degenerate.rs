//! Texts that a decoder writes when it has nothing to say.

/// What is wrong with a text, without a look at the picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Degenerate {
    /// It has no words.
    Empty,
    /// Its words go round in circles.
    Loop,
}

/// How often in a row a run of so many words may stand: a word twice ("very very"), two words twice, more once.
const fn most_in_a_row(length: usize) -> usize {
    if length <= 2 { 2 } else { 1 }
}

/// Longest run of words that is looked for: a caption has at most a few of these.
const LONGEST: usize = 16;
/// From so many words on, one in three must be another.
const MANY: usize = 9;

/// What is wrong with a text; `None` if nothing is.
pub fn degenerate(text: &str) -> Option<Degenerate> {
    let words: Vec<String> = words(text).map(str::to_lowercase).collect();
    if words.is_empty() {
        return Some(Degenerate::Empty);
    }
    let loops = (1..=LONGEST.min(words.len())).any(|length| has_run(&words, length));
    let mut distinct = words.clone();
    distinct.sort();
    distinct.dedup();
    let is_poor = words.len() >= MANY && distinct.len() * 3 < words.len();
    (loops || is_poor).then_some(Degenerate::Loop)
}

/// Whether some run of `length` words stands in a row more often than it may.
fn has_run(words: &[String], length: usize) -> bool {
    let repeats = length * most_in_a_row(length);
    let mut same = 0;
    words.iter().zip(words.iter().skip(length)).any(|(word, later)| {
        same = if word == later { same + 1 } else { 0 };
        same == repeats
    })
}

/// What stands between white space and signs.
pub(super) fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_alphanumeric() && c != '\'' && c != '\u{200d}').filter(|word| !word.is_empty())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn texts_that_say_something_are_none() {
        for text in [
            "a dog",
            "a",
            "a man and a woman and a dog",
            "a very very small bird",
            "black and white and black and white",
            "there is a cat on the left and a cat on the right of the sofa",
            "two dogs, two cats and two birds",
            "three people sitting on a bench in front of a house with a red door and a white fence",
            "木の上の猫",
        ] {
            assert_eq!(degenerate(text), None, "{text}");
        }
    }

    #[test]
    fn loops_are_found_whatever_their_length() {
        for text in [
            "dog dog dog",
            "a dog dog Dog, dog",
            "a cat a cat a cat",
            "the tall man the tall man",
            "on a table on a table on a table in a room",
            "a man is standing in the street and a man is standing in the street and",
            "a b a b c a b a b c",
            "a dog and dog a and dog a and a dog and a dog dog and a a and dog",
        ] {
            assert_eq!(degenerate(text), Some(Degenerate::Loop), "{text}");
        }
    }

    #[test]
    fn a_text_without_words_is_empty() {
        for text in ["", " ", ".", "- - -", "\n\t"] {
            assert_eq!(degenerate(text), Some(Degenerate::Empty), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn a_run_that_is_repeated_is_found(
            run in prop::collection::vec("[a-z]{1,6}", 1..10),
            before in prop::collection::vec("[a-z]{1,6}", 0..5),
        ) {
            let text = [before, run.clone(), run.clone(), run].concat().join(" ");
            prop_assert_eq!(degenerate(&text), Some(Degenerate::Loop));
        }

        #[test]
        fn distinct_words_are_no_loop(words in prop::collection::hash_set("[a-z]{1,6}", 1..40)) {
            let text = words.into_iter().collect::<Vec<_>>().join(" ");
            prop_assert_eq!(degenerate(&text), None);
        }

        #[test]
        fn any_text_has_an_answer(text in ".*") {
            degenerate(&text);
        }
    }
}
