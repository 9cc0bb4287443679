//! Captions become words as the COCO scores have them.
//!
//! Source: Stanford CoreNLP 3.4.1's `PTBTokenizer -lowerCase`, and the list `PUNCTUATIONS` of pycocoevalcap 1.2's
//! `tokenizer/ptbtokenizer.py`, which is taken out afterwards. This is the part of it that captions need. It departs
//! where theirs knows names of currencies (`£` becomes `#`), entities (`&amp;`), fractions (`½`), markup (`<tag>`),
//! addresses with punctuation inside, months and states as abbreviations, and characters beyond U+FFFF (theirs drops
//! them).

/// The words in lower case, a space between each two; punctuation is gone.
///
/// As in the original, `(` becomes `-lrb-`, because its list of punctuation has `-LRB-` in capitals only.
pub fn tokenized(text: &str) -> String {
    let text: String = text.chars().flat_map(plain).collect();
    let mut words = Vec::new();
    for chunk in text.split_whitespace() {
        split(chunk, &mut words);
    }
    words.join(" ")
}

/// Typographic marks as ASCII.
fn plain(c: char) -> impl Iterator<Item = char> {
    let text = match c {
        '\u{2018}' | '\u{2019}' => "'",
        '\u{201c}' | '\u{201d}' => "\"",
        '\u{2013}' | '\u{2014}' => "--",
        '\u{2026}' => "...",
        _ => "",
    };
    let kept = text.is_empty().then_some(c);
    text.chars().chain(kept)
}

/// What stands between two spaces becomes words.
fn split(chunk: &str, words: &mut Vec<String>) {
    let chars: Vec<char> = chunk.chars().collect();
    let mut at = 0;
    while at < chars.len() {
        let length = word_length(&chars[at..]);
        if length > 0 {
            let word: String = chars[at..at + length].iter().flat_map(|c| c.to_lowercase()).collect();
            at += length;
            at += with_period(&word, &chars[at..], words);
            continue;
        }
        at += mark(&chars[at..], words);
    }
}

/// How many characters from the first on belong to one word; none if it starts with a mark.
fn word_length(chars: &[char]) -> usize {
    let starts_decade = chars.len() >= 4
        && chars[0] == '\''
        && chars[1].is_ascii_digit()
        && chars[2].is_ascii_digit()
        && chars[3] == 's';
    if starts_decade {
        return 4;
    }
    let signed = match chars {
        ['-' | '@', next, ..] => next.is_alphanumeric(),
        ['#', next, ..] => next.is_alphabetic(),
        _ => false,
    };
    if chars.is_empty() || !(is_word(chars[0]) || signed) {
        return 0;
    }
    let mut length = 1;
    while let Some(c) = chars.get(length) {
        let (before, after) = (chars[length - 1], chars.get(length + 1).copied().unwrap_or(' '));
        let digits = before.is_ascii_digit() && after.is_ascii_digit();
        let inside = match c {
            '-' | '/' | '@' => is_word(before) && is_word(after),
            '.' => is_word(before) && is_word(after) || before.is_ascii_digit() && after.is_ascii_digit(),
            '\'' => is_word(before) && is_word(after),
            ',' | ':' => digits,
            '&' => before.is_uppercase() && after.is_uppercase(),
            c => is_word(*c),
        };
        if !inside {
            break;
        }
        length += 1;
    }
    length
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Adds a word; takes the period after it where it belongs to an abbreviation. Answers how many marks it took.
fn with_period(word: &str, after: &[char], words: &mut Vec<String>) -> usize {
    let is_ellipsis = after.get(1) == Some(&'.');
    if after.first() == Some(&'.') && !is_ellipsis && is_abbreviated(word) {
        words.push(format!("{word}."));
        return 1;
    }
    let is_plural_possessive = after.first() == Some(&'\'') && after.get(1).is_none_or(|next| !is_word(*next));
    contracted(word, words);
    usize::from(is_plural_possessive)
}

fn is_abbreviated(word: &str) -> bool {
    let mut letters = word.split('.');
    let is_single_letters = letters.all(|part| part.chars().count() == 1 && part.chars().all(char::is_alphabetic));
    is_single_letters || ABBREVIATIONS.contains(&word)
}

/// Those that captions have; a period after them stays.
const ABBREVIATIONS: [&str; 19] = [
    "mr", "mrs", "ms", "dr", "prof", "st", "jr", "sr", "vs", "etc", "inc", "co", "ltd", "corp", "no", "ph.d", "gen",
    "sgt", "ave",
];

/// Adds a word that may be two or three: "don't" is "do n't".
fn contracted(word: &str, words: &mut Vec<String>) {
    if let Some((_, parts)) = JOINED.iter().find(|(joined, _)| *joined == word) {
        words.extend(parts.split(' ').map(str::to_owned));
        return;
    }
    if KEPT.contains(&word) || is_decade(word) {
        words.push(word.to_owned());
        return;
    }
    if let Some(verb) = word.strip_suffix("n't").filter(|verb| !verb.is_empty()) {
        contracted(verb, words);
        words.push("n't".to_owned());
        return;
    }
    let ending = CLITICS.iter().find(|clitic| word.len() > clitic.len() && word.ends_with(*clitic));
    if let Some(clitic) = ending {
        contracted(&word[..word.len() - clitic.len()], words);
        words.push((*clitic).to_owned());
        return;
    }
    if let Some((word, rest)) = hour(word) {
        words.extend([word.to_owned(), rest.to_owned()]);
        return;
    }
    match word.split_once('\'') {
        Some((first, rest)) if !rest.is_empty() => after_clitic(first, rest, words),
        _ => words.push(word.to_owned()),
    }
}

/// "cat's-eye" is "cat 's eye"; other quotes inside a word are taken out.
fn after_clitic(first: &str, rest: &str, words: &mut Vec<String>) {
    contracted(first, words);
    match rest.split_once('-') {
        Some(("s", rest)) => {
            words.push("'s".to_owned());
            contracted(rest, words);
        }
        _ => contracted(rest, words),
    }
}

fn is_decade(word: &str) -> bool {
    word.starts_with('\'')
}

/// "5:30pm" is a time and its half of the day.
fn hour(word: &str) -> Option<(&str, &str)> {
    let half = ["am", "pm"].into_iter().find(|half| word.ends_with(half))?;
    let (time, rest) = word.split_at(word.len() - half.len());
    (time.contains(':') && time.ends_with(|c: char| c.is_ascii_digit())).then_some((time, rest))
}

const CLITICS: [&str; 6] = ["'s", "'m", "'d", "'re", "'ve", "'ll"];
const KEPT: [&str; 3] = ["o'clock", "d'you", "n't"];
const JOINED: [(&str, &str); 8] = [
    ("cannot", "can not"),
    ("gonna", "gon na"),
    ("wanna", "wan na"),
    ("gotta", "got ta"),
    ("lemme", "lem me"),
    ("gimme", "gim me"),
    ("y'all", "y' all"),
    ("rock'n'roll", "rock 'n' roll"),
];

/// Adds the mark that `chars` start with unless it is punctuation, and answers how many characters it has.
fn mark(chars: &[char], words: &mut Vec<String>) -> usize {
    let run = |wanted: &[char]| chars.iter().take_while(|c| wanted.contains(c)).count();
    let shouts = run(&['?', '!']);
    if shouts > 0 {
        if shouts > 1 {
            words.push(chars[..shouts].iter().collect());
        }
        return shouts;
    }
    if let Some(length) = lonely_clitic(chars, words) {
        return length;
    }
    let bracket = match chars[0] {
        '(' => Some("-lrb-"),
        ')' => Some("-rrb-"),
        '[' => Some("-lsb-"),
        ']' => Some("-rsb-"),
        '{' => Some("-lcb-"),
        '}' => Some("-rcb-"),
        _ => None,
    };
    match (bracket, chars[0]) {
        (Some(bracket), _) => words.push(bracket.to_owned()),
        (_, '\'' | '"' | '`' | '.' | ',' | ':' | '-' | ';') => {}
        (_, other) => words.push(other.to_lowercase().to_string()),
    }
    1
}

/// "'s" and "'tis" at the beginning: what stands apart in a text that has been tokenised before.
fn lonely_clitic(chars: &[char], words: &mut Vec<String>) -> Option<usize> {
    if chars[0] != '\'' {
        return None;
    }
    let text: String = chars.iter().flat_map(|c| c.to_lowercase()).collect();
    let found =
        [("'tis", "'t is"), ("'twas", "'t was"), ("'n'", "'n'")].into_iter().find(|(joined, _)| text == *joined);
    if let Some((joined, parts)) = found {
        words.extend(parts.split(' ').map(str::to_owned));
        return Some(joined.len());
    }
    let clitic = CLITICS.into_iter().find(|clitic| text == *clitic)?;
    words.push(clitic.to_owned());
    Some(clitic.len())
}
