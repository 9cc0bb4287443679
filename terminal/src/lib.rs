//! Words for a terminal: without what could command it, and each cause of an error once.

#![forbid(unsafe_code)]

pub mod progress;

use std::error::Error;
use std::path::Path;

use serde::Serialize;

/// A path, on one line.
pub fn shown(path: &Path) -> String {
    printable(&path.display().to_string()).replace('\n', REPLACEMENT)
}

/// The text without control characters and without those that turn the direction of writing; line ends stay.
pub fn printable(text: &str) -> String {
    text.replace(|c| c != '\n' && commands(c), REPLACEMENT)
}

/// The value as a line of JSON, which is printable and reads back the same.
///
/// # Errors
/// A value that JSON cannot hold.
pub fn json(value: &impl Serialize) -> Result<String, serde_json::Error> {
    let mut line = String::new();
    for c in serde_json::to_string(value)?.chars() {
        if commands(c) {
            line.push_str(&format!("\\u{:04x}", u32::from(c)));
        } else {
            line.push(c);
        }
    }
    Ok(line)
}

/// The error and its causes. A cause whose words the error has already is left out.
pub fn explained(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let words = error.to_string();
        if !text.contains(&words) {
            text = format!("{text}: {words}");
        }
        cause = error.source();
    }
    printable(&text)
}

/// Controls and what turns the direction of writing; all are below U+10000.
fn commands(c: char) -> bool {
    c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Stands where a character was taken out.
const REPLACEMENT: &str = "\u{fffd}";

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("cat.jpg: {source}")]
    struct Outer {
        source: std::io::Error,
    }

    #[test]
    fn a_cause_is_told_once() {
        let source = std::io::Error::other("the disk is full\u{1b}[2J");
        assert_eq!(explained(&Outer { source }), "cat.jpg: the disk is full\u{fffd}[2J");
    }

    #[test]
    fn nothing_reaches_the_terminal_that_commands_it() {
        assert_eq!(
            printable("a\x1b[31mb\r\u{9b}2Jc\u{202e}d\ne\tf"),
            "a\u{fffd}[31mb\u{fffd}\u{fffd}2Jc\u{fffd}d\ne\u{fffd}f"
        );
        let odd = "\u{1b}[31m\u{7f}\u{9b}2J\u{202e}\n\\";
        let line = json(&odd).unwrap();
        assert_eq!(line, r#""\u001b[31m\u007f\u009b2J\u202e\n\\""#);
        assert_eq!(serde_json::from_str::<String>(&line).unwrap(), odd);
        assert_eq!(shown(Path::new("two\nlines.png")), "two\u{fffd}lines.png");
        assert_eq!(printable("Käse, 猫 🐈"), "Käse, 猫 🐈");
    }
}
