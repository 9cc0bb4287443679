//! Any bytes as a shard of a hostile board, named after what they are: an error, or pairs whose hashes are right.

#![no_main]

use exchange::shard::{Item, read};
use exchange::Digest;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    for item in read(Digest::of(bytes), bytes).unwrap_or_default() {
        if let Item::Pair(received) = item {
            let jpeg = received.pair.jpeg.as_deref().unwrap_or_default();
            assert_eq!(store::pair_hash(&received.facts, jpeg), received.pair.sha256);
            if let Some(at) = received.picture_at {
                assert!(bytes[at as usize..].starts_with(jpeg), "the picture is where it is said to be");
            }
        }
    }
});
