//! The bundle that is part of the program.

macro_rules! file {
    ($name:literal) => {
        include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/../models/built-in/", $name))
    };
}

pub(super) const MANIFEST_BYTES: &[u8] = file!("manifest.json");
pub(super) const WEIGHT_BYTES: &[u8] = file!("weights.bin");
pub(super) const FILES: &[(&str, &[u8])] = &[
    ("cross.onnx", file!("cross.onnx")),
    ("decoder.onnx", file!("decoder.onnx")),
    ("golden.json", file!("golden.json")),
    ("image.onnx", file!("image.onnx")),
    ("matcher.onnx", file!("matcher.onnx")),
    ("text.onnx", file!("text.onnx")),
    ("tokenizer.json", file!("tokenizer.json")),
    ("vision.onnx", file!("vision.onnx")),
];
