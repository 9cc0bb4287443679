//! Any bytes as a picture file: an error or a picture, within the limits, never a panic.

#![no_main]

use blip::pixels::{Normalization, preprocess};
use picture::{PictureLimits, decode_within};
use libfuzzer_sys::fuzz_target;

const LIMITS: PictureLimits = PictureLimits { file_bytes: 1 << 20, pixels: 1 << 18, decoder_bytes: 4 << 20 };
const SIDE: usize = 32;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(picture) = decode_within(bytes, &LIMITS) {
        assert!(picture.width() * picture.height() <= LIMITS.pixels);
        let values = preprocess(&picture, SIDE, &Normalization::default());
        assert_eq!(values.len(), 3 * SIDE * SIDE);
        assert!(values.iter().all(|value| value.is_finite()));
    }
});
