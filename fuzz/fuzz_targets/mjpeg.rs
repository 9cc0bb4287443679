//! Any bytes as a stream of JPEGs, in pieces: whole pictures within the limit, and every byte accounted for.

#![no_main]

use camera::mjpeg::{Splitter, whole_picture};
use libfuzzer_sys::fuzz_target;

const LIMIT: usize = 1 << 12;

fuzz_target!(|bytes: &[u8]| {
    let Some((piece, stream)) = bytes.split_first() else { return };
    let mut splitter = Splitter::new(LIMIT);
    let mut whole = 0;
    for piece in stream.chunks(1 + usize::from(*piece) * 16) {
        splitter.push(piece);
        while let Some(picture) = splitter.next_picture() {
            assert!(picture.len() <= LIMIT);
            assert_eq!(whole_picture(&picture), Some(picture.as_slice()));
            whole += picture.len() as u64;
        }
    }
    assert!(whole + splitter.take_skipped().bytes <= stream.len() as u64);
});
