//! The restricted pickle reader, and what its callers ask of a pickle.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(pickle) = checkpoint::pickle::parse(bytes) else { return };
    assert!(pickle.length() <= bytes.len());
    let state = pickle.get(pickle.root(), "model").unwrap_or(pickle.root());
    for (name, value) in pickle.entries(state).unwrap_or_default() {
        pickle.text(*name);
        if let Some(tensor) = pickle.tensor(*value) {
            assert!(pickle.storages().contains(&tensor.storage));
        }
    }
});
