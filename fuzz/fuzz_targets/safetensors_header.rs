//! The header of a safetensors file.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    for length in [bytes.len() as u64, u64::MAX] {
        if let Ok(entries) = checkpoint::safetensors::parse_header(bytes, length) {
            assert!(entries.iter().all(|entry| entry.start.checked_add(entry.length).is_some_and(|end| end <= length)));
        }
    }
});
