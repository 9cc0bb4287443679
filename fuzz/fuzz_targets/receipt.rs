//! Any bytes as a signed receipt: nothing that the host did not sign is one. The first byte chooses whether the rest is the
//! envelope, or a statement that is signed first, so that its reader is reached too.

#![no_main]

use exchange::{PublicKey, Receipt, SecretKey, signed};
use libfuzzer_sys::fuzz_target;
use serde::{Deserialize, Serialize};

/// Whatever stands in it, under a receipt's name.
#[derive(Serialize, Deserialize)]
#[serde(transparent)]
struct Anything(serde_json::Value);

impl signed::Statement for Anything {
    const MEDIA_TYPE: &'static str = <Receipt as signed::Statement>::MEDIA_TYPE;
    const NAME: &'static str = "anything";
    const MAX_BYTES: usize = 1 << 20;
}

fuzz_target!(|bytes: &[u8]| {
    let Some((choice, rest)) = bytes.split_first() else { return };
    let host = SecretKey::from_text(&"17".repeat(32)).expect("a key");
    let key: PublicKey = host.public();
    if choice & 1 == 0 {
        assert!(signed::open::<Receipt>(rest, &[key]).is_err(), "nobody has signed this");
    } else if let Ok(value) = serde_json::from_slice(rest) {
        let envelope = signed::sign(&Anything(value), &[&host]);
        if let Ok(receipt) = signed::open::<Receipt>(&envelope, &[key]) {
            let again = signed::open::<Receipt>(&signed::sign(&receipt, &[&host]), &[key]);
            assert_eq!(again, Ok(receipt), "what a receipt says is read as it was written");
        }
    }
});
