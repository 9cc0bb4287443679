//! Logs for people and for journald: one line an event, `key=value`.
//!
//! `log::warn!(stage = "camera", wait_ms = 500; "the camera has gone")` becomes
//! `level=warn msg="the camera has gone" stage=camera wait_ms=500`; under systemd `<4>` stands for the level, as
//! `sd-daemon(3)` has it.

use std::fmt::Write as _;
use std::io::Write as _;
use std::os::linux::fs::MetadataExt;

use log::kv::{Error, Key, Value, VisitSource};
use log::{LevelFilter, Log, Metadata, Record};

use crate::config::LogLevel;

/// Crates of ours; of others only warnings and errors are told.
const OURS: [&str; 6] = ["edgeblip", "field", "camera", "store", "picture", "blip"];

/// Who reads the lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reader {
    /// systemd's journal, which keeps time and level itself.
    Journal,
    /// Anyone else.
    Other,
}

struct Logger {
    reader: Reader,
}

/// Sends what is logged to standard error from now on. A second call only changes the level.
pub fn start(level: LogLevel) {
    // A logger that is there already is ours, or that of a program which uses this as a library.
    let _ = log::set_boxed_logger(Box::new(Logger { reader: reader() }));
    set_level(level);
}

/// Changes the least that is logged.
pub fn set_level(level: LogLevel) {
    log::set_max_level(match level {
        LogLevel::Error => LevelFilter::Error,
        LogLevel::Warn => LevelFilter::Warn,
        LogLevel::Info => LevelFilter::Info,
        LogLevel::Debug => LevelFilter::Debug,
    });
}

/// Source: `systemd.exec(5)`, `$JOURNAL_STREAM`: device and inode of the stream that leads to the journal.
fn reader() -> Reader {
    let journal = std::env::var("JOURNAL_STREAM").unwrap_or_default();
    match std::fs::metadata("/proc/self/fd/2") {
        Ok(stream) if journal == format!("{}:{}", stream.st_dev(), stream.st_ino()) => Reader::Journal,
        _ => Reader::Other,
    }
}

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        is_told(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        if is_told(record.metadata()) {
            // Where standard error leads nowhere there is nobody to tell it to.
            let _ = std::io::stderr().lock().write_all(line(record, self.reader).as_bytes());
        }
    }

    fn flush(&self) {}
}

fn is_told(metadata: &Metadata<'_>) -> bool {
    let crate_name = metadata.target().split(':').next().unwrap_or_default();
    OURS.contains(&crate_name) || metadata.level() <= log::Level::Warn
}

fn line(record: &Record<'_>, reader: Reader) -> String {
    let (priority, level) = match record.level() {
        log::Level::Error => (3, "error"),
        log::Level::Warn => (4, "warn"),
        log::Level::Info => (6, "info"),
        log::Level::Debug | log::Level::Trace => (7, "debug"),
    };
    let mut line = match reader {
        Reader::Journal => format!("<{priority}>"),
        Reader::Other => format!("level={level} "),
    };
    line.push_str("msg=");
    write_value(&mut line, &record.args().to_string());
    // Visiting fails only where the visitor does.
    let _ = record.key_values().visit(&mut Pairs(&mut line));
    line.push('\n');
    line
}

struct Pairs<'l>(&'l mut String);

impl<'kvs> VisitSource<'kvs> for Pairs<'_> {
    fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), Error> {
        self.0.push(' ');
        let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
        self.0.extend(key.as_str().chars().map(|c| if is_plain(c) { c } else { '_' }));
        self.0.push('=');
        write_value(self.0, &value.to_string());
        Ok(())
    }
}

/// Writes a value so that it stays on its line, ends where it ends, and commands no terminal.
fn write_value(line: &mut String, value: &str) {
    let is_plain = |c: char| c.is_ascii_graphic() && !matches!(c, '"' | '=' | '\\');
    if !value.is_empty() && value.chars().all(is_plain) {
        line.push_str(value);
        return;
    }
    line.push('"');
    for c in value.chars() {
        match c {
            '"' | '\\' => line.extend(['\\', c]),
            '\n' => line.push_str("\\n"),
            '\t' => line.push_str("\\t"),
            c if c.is_control() || turns_writing(c) => {
                // Writing to a string cannot fail.
                let _ = write!(line, "\\u{:04x}", u32::from(c));
            }
            c => line.push(c),
        }
    }
    line.push('"');
}

/// What sets the direction of writing, or ends a line. Source: Unicode UAX #9, table 4.
fn turns_writing(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(level: log::Level, message: &str, pairs: &[(&str, &str)], reader: Reader) -> String {
        line(&Record::builder().level(level).args(format_args!("{message}")).key_values(&pairs).build(), reader)
    }

    #[test]
    fn a_line_has_its_level_its_message_and_its_pairs() {
        let pairs = [("stage", "camera"), ("path", "/dev/video0"), ("note", "two words"), ("odd key", "")];
        assert_eq!(
            told(log::Level::Warn, "it has gone", &pairs, Reader::Other),
            "level=warn msg=\"it has gone\" stage=camera path=/dev/video0 note=\"two words\" odd_key=\"\"\n"
        );
        assert_eq!(told(log::Level::Error, "stopped", &[], Reader::Journal), "<3>msg=stopped\n");
        assert_eq!(told(log::Level::Debug, "a=b", &[], Reader::Journal), "<7>msg=\"a=b\"\n");
    }

    #[test]
    fn an_event_is_one_line_whatever_it_says() {
        let text = "a \"b\"\\\n\t\u{1b}[31m\u{202e}\u{85}é";
        assert_eq!(
            told(log::Level::Info, text, &[("x", text)], Reader::Journal),
            "<6>msg=\"a \\\"b\\\"\\\\\\n\\t\\u001b[31m\\u202e\\u0085é\" \
             x=\"a \\\"b\\\"\\\\\\n\\t\\u001b[31m\\u202e\\u0085é\"\n"
        );
    }

    #[test]
    fn of_others_only_warnings_are_told() {
        let of = |target, level| is_told(&Metadata::builder().target(target).level(level).build());
        assert!(of("field::pins", log::Level::Debug));
        assert!(of("edgeblip", log::Level::Info));
        assert!(!of("tract_core::plan", log::Level::Info));
        assert!(of("tract_core::plan", log::Level::Warn));
        assert!(!of("fieldwork", log::Level::Info));
    }
}
