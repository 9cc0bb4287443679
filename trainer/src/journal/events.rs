//! TensorBoard's event files: records with checksums, each a protobuf message `Event`.
//!
//! Source: TensorFlow's `tensorflow/core/lib/io/record_writer.cc` (framing), `core/util/event.proto`,
//! `core/framework/summary.proto` and `core/framework/tensor.proto` (messages), as TensorBoard reads them.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use super::JournalError;

/// A picture for TensorBoard.
#[derive(Clone, Copy, Debug)]
pub struct Picture<'a> {
    /// Pixels in a row.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// The bytes of a PNG file.
    pub png: &'a [u8],
}

/// An event file that is being written.
pub struct EventFile {
    path: PathBuf,
    file: File,
}

impl EventFile {
    /// A new file in a run's folder, for steps after `step`; TensorBoard forgets what earlier files say of them.
    ///
    /// # Errors
    /// A folder that cannot be written.
    pub fn create(folder: &Path, step: u64, time: f64) -> Result<Self, JournalError> {
        let (path, file) = free(folder, time)?;
        let mut events = Self { path, file };
        events.write(&version(time))?;
        events.write(&started(step + 1, time))?;
        Ok(events)
    }

    /// Numbers by the names of their curves.
    ///
    /// # Errors
    /// A full disk.
    pub fn scalars(&mut self, step: u64, time: f64, curves: &[(String, f64)]) -> Result<(), JournalError> {
        self.write(&event(time, step, &summary(curves.iter().map(|(name, value)| scalar(name, *value as f32)))))
    }

    /// A text; TensorBoard reads Markdown in it.
    ///
    /// # Errors
    /// A full disk.
    pub fn text(&mut self, step: u64, time: f64, name: &str, text: &str) -> Result<(), JournalError> {
        self.write(&event(time, step, &summary([words(name, text)])))
    }

    /// A picture.
    ///
    /// # Errors
    /// A full disk.
    pub fn picture(&mut self, step: u64, time: f64, name: &str, picture: &Picture) -> Result<(), JournalError> {
        self.write(&event(time, step, &summary([pixels(name, picture)])))
    }

    fn write(&mut self, message: &[u8]) -> Result<(), JournalError> {
        let fault = |source| JournalError::File { path: self.path.clone(), doing: "written", source };
        self.file.write_all(&framed(message)).map_err(fault)
    }
}

/// A file that is not there yet; names sort by time, which is the order in which TensorBoard reads them.
fn free(folder: &Path, time: f64) -> Result<(PathBuf, File), JournalError> {
    let mut number = 0;
    loop {
        let path = folder.join(format!("events.out.tfevents.{:010}.{number:06}.edgeblip", time.max(0.0) as u64));
        match File::create_new(&path) {
            Ok(file) => return Ok((path, file)),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists && number < MOST_IN_A_SECOND => number += 1,
            Err(source) => return Err(JournalError::File { path, doing: "written", source }),
        }
    }
}

/// Files of one folder that begin in the same second.
const MOST_IN_A_SECOND: u32 = 999_999;

/// Length, its checksum, the message, its checksum.
fn framed(message: &[u8]) -> Vec<u8> {
    let length = (message.len() as u64).to_le_bytes();
    let mut record = Vec::with_capacity(message.len() + 16);
    record.extend(length);
    record.extend(masked(&length).to_le_bytes());
    record.extend(message);
    record.extend(masked(message).to_le_bytes());
    record
}

/// Source: `crc32c::Mask` in TensorFlow's `core/lib/hash/crc32c.h`.
fn masked(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}

fn version(time: f64) -> Vec<u8> {
    let mut event = Message::default();
    event.double(1, time);
    event.bytes(3, b"brain.Event:2");
    event.0
}

/// `SessionLog` with the status START.
fn started(step: u64, time: f64) -> Vec<u8> {
    let mut session = Message::default();
    session.integer(1, 1);
    let mut event = Message::default();
    event.double(1, time);
    event.integer(2, step);
    event.bytes(7, &session.0);
    event.0
}

fn event(time: f64, step: u64, summary: &[u8]) -> Vec<u8> {
    let mut event = Message::default();
    event.double(1, time);
    event.integer(2, step);
    event.bytes(5, summary);
    event.0
}

fn summary(values: impl IntoIterator<Item = Message>) -> Vec<u8> {
    let mut summary = Message::default();
    values.into_iter().for_each(|value| summary.bytes(1, &value.0));
    summary.0
}

fn scalar(name: &str, value: f32) -> Message {
    let mut message = Message::default();
    message.bytes(1, name.as_bytes());
    message.float(2, value);
    message
}

/// A tensor of one string, marked for the plugin "text".
fn words(name: &str, text: &str) -> Message {
    let mut size = Message::default();
    size.integer(1, 1);
    let mut shape = Message::default();
    shape.bytes(2, &size.0);
    let mut tensor = Message::default();
    tensor.integer(1, STRING);
    tensor.bytes(2, &shape.0);
    tensor.bytes(8, text.as_bytes());
    let mut plugin = Message::default();
    plugin.bytes(1, b"text");
    let mut metadata = Message::default();
    metadata.bytes(1, &plugin.0);
    let mut message = Message::default();
    message.bytes(1, name.as_bytes());
    message.bytes(8, &tensor.0);
    message.bytes(9, &metadata.0);
    message
}

/// `DT_STRING`.
const STRING: u64 = 7;
/// Channels of a PNG in RGB.
const RGB: u64 = 3;

fn pixels(name: &str, picture: &Picture) -> Message {
    let mut image = Message::default();
    image.integer(1, picture.height as u64);
    image.integer(2, picture.width as u64);
    image.integer(3, RGB);
    image.bytes(4, picture.png);
    let mut message = Message::default();
    message.bytes(1, name.as_bytes());
    message.bytes(4, &image.0);
    message
}

/// A protobuf message that is being written, field by field in the order of their numbers.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn key(&mut self, field: u64, wire: u64) {
        self.varint(field << 3 | wire);
    }

    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    /// Zero is not written: it is what a reader assumes.
    fn integer(&mut self, field: u64, value: u64) {
        if value > 0 {
            self.key(field, 0);
            self.varint(value);
        }
    }

    fn double(&mut self, field: u64, value: f64) {
        self.key(field, 1);
        self.0.extend(value.to_le_bytes());
    }

    fn float(&mut self, field: u64, value: f32) {
        self.key(field, 5);
        self.0.extend(value.to_le_bytes());
    }

    fn bytes(&mut self, field: u64, bytes: &[u8]) {
        self.key(field, 2);
        self.varint(bytes.len() as u64);
        self.0.extend(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Source: `tests/reference/events.py`.
    #[test]
    fn files_are_those_of_tensorboards_own_writer_to_the_byte() {
        let golden = include_bytes!("../../tests/goldens/events.tfevents");
        let folder = tempfile::tempdir().unwrap();
        let time = 1_700_000_000.5;
        let mut events = EventFile::create(folder.path(), 6, time).unwrap();
        let curves = [("loss/lm".to_owned(), 0.25), ("pairs-per-second".to_owned(), -1.5e9)];
        events.scalars(7, time, &curves).unwrap();
        events.text(300, time, "caption", "an owl on sand, “猫”").unwrap();
        events
            .picture(7, time, "scene", &Picture { width: 2, height: 3, png: &[0x89, b'P', b'N', b'G', 0, 200] })
            .unwrap();
        assert_eq!(std::fs::read(&events.path).unwrap(), golden);
    }

    #[test]
    fn two_files_of_one_second_do_not_overwrite_each_other() {
        let folder = tempfile::tempdir().unwrap();
        let files = [0, 1, 2].map(|_| EventFile::create(folder.path(), 0, 5.0).unwrap().path);
        assert!(files.is_sorted() && files[0] != files[1] && files[1] != files[2]);
    }
}
