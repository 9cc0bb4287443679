//! Any bytes as a bundle's manifest: an error, or a manifest that reads back equal from the bytes that it writes.

#![no_main]

use blip::manifest::Manifest;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(manifest) = Manifest::from_json(bytes) {
        let written = manifest.to_json();
        let read = Manifest::from_json(&written).expect("what a manifest writes is a manifest");
        assert_eq!(read.to_json(), written, "the same manifest gives the same bytes");
    }
});
