//! Any bytes as the body of a camera's answer, in pieces: whole pictures within the limit.

#![no_main]

use camera::mjpeg::whole_picture;
use camera::multipart::Multipart;
use libfuzzer_sys::fuzz_target;

const LIMIT: usize = 1 << 12;

fuzz_target!(|bytes: &[u8]| {
    let Some((piece, body)) = bytes.split_first() else { return };
    let mut multipart = Multipart::new(LIMIT);
    let mut whole = 0;
    for piece in body.chunks(1 + usize::from(*piece) * 16) {
        multipart.push(piece);
        while let Some(picture) = multipart.next_picture() {
            assert!(picture.len() <= LIMIT);
            assert_eq!(whole_picture(&picture), Some(picture.as_slice()));
            whole += picture.len();
        }
    }
    assert!(whole <= body.len());
});
