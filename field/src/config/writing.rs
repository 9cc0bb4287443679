//! A configuration becomes a text that explains itself. Passwords are shown where they are asked for, and nowhere else.

use std::fmt::Write;

use crate::config::sections::{KNOBS, SECTIONS, Settings};
use crate::config::{Config, Effect, Knob, Origin, Passwords};

/// Longest line of a comment, in characters.
const WIDTH: usize = 118;
/// What stands for a password.
const HIDDEN: &str = "hidden";

/// A file with every setting at everybody's default.
pub(super) fn example() -> String {
    let start = "edgeblip's settings, each with its default. A file of your own needs only what differs. Paths are \
                 relative to the file's folder. \"edgeblip config\" prints what is in effect.";
    written(start, &Settings::default(), |_| String::new())
}

/// The settings in effect, each with where it is from.
pub(super) fn effective(config: &Config, passwords: Passwords) -> String {
    let file = config.path.as_ref().map_or_else(|| "no file".to_owned(), |path| path.display().to_string());
    let start = format!("What is in effect: {file} over the defaults of board {:?}.", config.profile.name);
    let origin = |place| match config.origins.get(place) {
        Some(Origin::Board) => format!("  # board {}", config.profile.name),
        Some(Origin::File { line }) => format!("  # line {line}"),
        Some(Origin::Flag) => "  # flag".to_owned(),
        Some(Origin::Default) | None => "  # default".to_owned(),
    };
    let text = written(&start, &config.settings, origin);
    match passwords {
        Passwords::Shown => text,
        Passwords::Hidden => text.lines().map(|line| without_password(line) + "\n").collect(),
    }
}

/// A line or value with what stands for the password of a URL in it.
pub(super) fn without_password(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else { return text.to_owned() };
    // A host has no slash, and a password may hold an @.
    let authority = rest.find(['/', '?', '#', '"']).unwrap_or(rest.len());
    let Some(at) = rest.get(..authority).and_then(|authority| authority.rfind('@')) else { return text.to_owned() };
    let user = rest.get(..at).and_then(|user| user.split_once(':')).map_or("", |(user, _)| user);
    format!("{scheme}://{user}:{HIDDEN}{}", rest.get(at..).unwrap_or_default())
}

/// Settings as TOML; `origin` is written after the value of each, by its place.
fn written(start: &str, settings: &Settings, origin: impl Fn(usize) -> String) -> String {
    let mut text = String::new();
    comment(&mut text, start);
    for (section, about) in SECTIONS {
        text.push('\n');
        comment(&mut text, about.concat().trim());
        line(&mut text, &format!("[{section}]"));
        for (place, knob) in KNOBS.iter().enumerate().filter(|(_, knob)| knob.section == *section) {
            comment(&mut text, &explained(knob));
            line(&mut text, &format!("{} = {}{}", knob.key, (knob.write)(settings), origin(place)));
        }
    }
    text
}

fn explained(knob: &Knob) -> String {
    let allowed = (knob.allowed)();
    let effect = if knob.effect == Effect::Restart { " A change takes a restart." } else { "" };
    format!("{} Allowed: {allowed}.{effect}", knob.about.concat().trim())
}

/// Writes words as a comment, in lines.
fn comment(text: &mut String, words: &str) {
    let mut filled = String::from("#");
    for word in words.split_whitespace() {
        if filled.chars().count() + 1 + word.chars().count() > WIDTH {
            line(text, &filled);
            filled = String::from("#");
        }
        // Writing to a string cannot fail.
        let _ = write!(filled, " {word}");
    }
    line(text, &filled);
}

fn line(text: &mut String, words: &str) {
    text.push_str(words);
    text.push('\n');
}
