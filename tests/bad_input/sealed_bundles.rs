//! Bundles with a changed byte, without a file, of another version, or that contradict themselves.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use blip::manifest::{EncoderToken, MANIFEST, Precision, WEIGHTS};
use edgeblip::bundle::Bundle;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{PICTURE, copy};
use crate::bundles::{load, model};
use crate::command_line::run;

/// A bundle of the repository's checkpoint, to be changed.
fn bundle(checkpoint: &str) -> Result<TempDir> {
    copy(model(&[checkpoint], Precision::Int8, EncoderToken::Encoder)?.bundle().place())
}

fn names(folder: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in folder.read_dir()? {
        names.push(entry?.file_name().into_string().ok().context("bundles have plain names")?);
    }
    names.sort();
    Ok(names)
}

/// The library refuses the bundle, and so does each program, with a message that holds `words`.
fn refused(folder: &Path, words: &[&str]) -> Result<()> {
    let message = Bundle::open(folder).err().context("the bundle opens")?.to_string();
    for word in words {
        ensure!(message.contains(word), "{word:?} is not in {message:?}");
    }
    let place = folder.to_str().context("a plain name")?;
    run("edgeblip", &["caption", "--bundle", place, PICTURE])?.refused(words)?;
    if folder.join(MANIFEST).exists() {
        run("edgeblip-export", &["inspect", place])?.refused(words)?;
    }
    Ok(())
}

fn manifest_is_refused(change: impl Fn(&mut Value), words: &[&str]) -> Result<()> {
    let folder = bundle("tests/goldens/tiny-b/captioner")?;
    let path = folder.path().join(MANIFEST);
    let mut manifest = serde_json::from_slice(&std::fs::read(&path)?)?;
    change(&mut manifest);
    std::fs::write(&path, manifest.to_string())?;
    refused(folder.path(), &[&["manifest.json"], words].concat())
}

#[test]
fn a_changed_byte_in_any_file_is_found_and_the_file_named() -> Result<()> {
    let folder = bundle("tests/goldens/tiny-b/captioner")?;
    let names = names(folder.path())?;
    assert!(names.len() >= 7 && names.iter().any(|name| name == WEIGHTS), "{names:?}");
    for name in names.iter().filter(|name| *name != MANIFEST) {
        let path = folder.path().join(name);
        let whole = std::fs::read(&path)?;
        for at in [0, whole.len() / 2, whole.len() - 1] {
            let mut changed = whole.clone();
            changed[at] ^= 1;
            std::fs::write(&path, &changed)?;
            let message = Bundle::open(folder.path()).err().context("the bundle opens")?.to_string();
            let expected = format!("{}: the contents do not have the SHA-256 that the manifest says", path.display());
            assert!(message.starts_with(&expected), "{message}");
        }
        refused(folder.path(), &[name, "the bundle is damaged, copy or export it again"])?;
        for length in [0, 1, whole.len() - 1] {
            std::fs::write(&path, &whole[..length])?;
            let message = Bundle::open(folder.path()).err().context("the bundle opens")?.to_string();
            let expected =
                format!("{}: the file has {length} bytes, the manifest says {}", path.display(), whole.len());
            assert!(message.starts_with(&expected), "{message}");
        }
        std::fs::write(&path, whole)?;
    }
    Bundle::open(folder.path())?;
    Ok(())
}

#[test]
fn a_changed_byte_in_the_manifest_is_an_error_or_another_bundle() -> Result<()> {
    let folder = bundle("tests/goldens/tiny-b/captioner")?;
    let path = folder.path().join(MANIFEST);
    let whole = std::fs::read(&path)?;
    let id = Bundle::open(folder.path())?.id().to_owned();
    for at in (0..whole.len()).step_by(29) {
        let mut changed = whole.clone();
        changed[at] ^= 1;
        std::fs::write(&path, &changed)?;
        match Bundle::open(folder.path()) {
            Ok(bundle) => assert_ne!(bundle.id(), id),
            Err(error) => {
                assert!(error.to_string().contains(folder.path().to_str().context("a plain name")?), "{error}")
            }
        }
    }
    for length in [0, 1, whole.len() / 2, whole.len() - 3] {
        std::fs::write(&path, &whole[..length])?;
        refused(folder.path(), &["manifest.json", "manifest is not readable"])?;
    }
    Ok(())
}

#[test]
fn a_missing_file_is_named() -> Result<()> {
    let folder = bundle("tests/goldens/tiny-b/captioner")?;
    for name in names(folder.path())? {
        let path = folder.path().join(&name);
        let whole = std::fs::read(&path)?;
        std::fs::remove_file(&path)?;
        refused(folder.path(), &[path.to_str().context("a plain name")?, "is this a bundle made by edgeblip-export?"])?;
        std::fs::create_dir(&path)?;
        refused(folder.path(), &[&name])?;
        std::fs::remove_dir(&path)?;
        std::fs::write(&path, whole)?;
    }
    let nothing = TempDir::new()?;
    refused(nothing.path(), &["manifest.json"])?;
    refused(&nothing.path().join("nowhere"), &["nowhere"])
}

#[test]
fn a_manifest_of_another_version_says_so() -> Result<()> {
    for version in [0u64, 2, u64::MAX] {
        let expected = format!(
            "bundle format {version} is not supported, this program reads format 1: export the checkpoint again"
        );
        manifest_is_refused(|manifest| manifest["format"] = json!(version), &[&expected])?;
    }
    manifest_is_refused(|manifest| manifest["surprise"] = json!(1), &["unknown field `surprise`"])
}

#[test]
fn a_manifest_that_names_files_elsewhere_is_refused() -> Result<()> {
    for name in ["../secret", "/etc/passwd", "a/b", "..", ""] {
        manifest_is_refused(
            |manifest| manifest["files"][name] = manifest["files"]["weights.bin"].clone(),
            &["is not a plain file name"],
        )?;
    }
    manifest_is_refused(|manifest| manifest["captioner"]["decoder"]["graph"] = json!("other.onnx"), &["other.onnx"])
}

#[test]
fn sizes_that_contradict_the_graphs_are_refused() -> Result<()> {
    for (pointer, value, words) in [
        ("/captioner/vision/config/image_size", json!(30), "vision.onnx has the input"),
        ("/captioner/vision/config/patch_size", json!(5), "vision.onnx has the output"),
        ("/captioner/vision/config/width", json!(64), "vision.onnx has the output"),
        ("/captioner/vision/config/width", json!(0), "width is 0"),
        ("/captioner/vision/config/image_size", json!(u64::MAX), "image_size"),
        ("/captioner/vision/normalization/std", json!([0.0, 1.0, 1.0]), "standard deviation"),
        ("/captioner/vision/normalization/std", json!([1e-45, 1.0, 1.0]), "standard deviation"),
        ("/captioner/decoder/config/layers", json!(1), "cross.onnx has 4 outputs where its head's sizes give 2"),
        ("/captioner/decoder/config/layers", json!(256), "cross.onnx has 4 outputs where its head's sizes give 512"),
        ("/captioner/decoder/config/layers", json!(1u64 << 40), "layers"),
        ("/captioner/decoder/config/heads", json!(1), "cross.onnx has the output"),
        ("/captioner/decoder/config/heads", json!(3), "must be a multiple of heads"),
        ("/captioner/decoder/config/width", json!(64), "cross.onnx has the output"),
        ("/captioner/decoder/config/vocabulary_size", json!(5), "has embeddings for 5 words"),
        ("/captioner/decoder/config/vocabulary_size", json!(44), "decoder.onnx has the output"),
        ("/captioner/decoder/config/cross_width", json!(7), "is 32 wide"),
        ("/captioner/decoding/max_length", json!(0), "max_length is 0"),
        ("/captioner/decoder/cross", json!("vision.onnx"), "vision.onnx has the input"),
        ("/captioner/vision/graph", json!("decoder.onnx"), "decoder.onnx has 9 inputs"),
        ("/graphs/decoder.onnx/outputs", json!([]), "decoder.onnx has 0 outputs"),
        ("/graphs/decoder.onnx/inputs", json!([]), "decoder.onnx has 0 inputs"),
        ("/graphs/cross.onnx/outputs/0/element", json!("f32"), "cross.onnx has the output"),
        ("/precision", json!("fp32"), "cross.onnx has the output"),
        ("/tokens/decoder_start", json!(43), "decoder_start"),
        ("/tokens/separator", json!(u32::MAX), "separator"),
        ("/captioner", Value::Null, "no captioner, matcher or answerer"),
    ] {
        let change = |manifest: &mut Value| {
            *manifest.pointer_mut(pointer).unwrap_or_else(|| panic!("there is no {pointer}")) = value.clone();
        };
        let file = if pointer.starts_with("/tokens") { "tokenizer.json" } else { MANIFEST };
        let folder = bundle("tests/goldens/tiny-b/captioner")?;
        let path = folder.path().join(MANIFEST);
        let mut manifest = serde_json::from_slice(&std::fs::read(&path)?)?;
        change(&mut manifest);
        std::fs::write(&path, manifest.to_string())?;
        let message = Bundle::open(folder.path()).err().with_context(|| format!("{pointer} {value}"))?.to_string();
        ensure!(message.contains(words) && message.contains(file), "{pointer} {value}: {message}");
    }
    manifest_is_refused(|manifest| manifest["captioner"]["decoder"]["config"]["layers"] = json!(1), &["damaged"])
}

#[test]
fn every_head_is_held_against_its_graphs() -> Result<()> {
    for (checkpoint, pointer) in [
        ("tests/goldens/tiny-b/matcher", "/matcher/embedding_width"),
        ("tests/goldens/tiny-b/matcher", "/matcher/encoder/config/heads"),
        ("tests/goldens/tiny-b/matcher", "/matcher/encoder/config/cross_width"),
        ("tests/goldens/tiny-b/answerer", "/answerer/question/config/width"),
        ("tests/goldens/tiny-b/answerer", "/answerer/decoder/config/cross_width"),
        ("tests/goldens/tiny-b/answerer", "/answerer/decoder/config/layers"),
    ] {
        let folder = bundle(checkpoint)?;
        load(folder.path())?;
        let path = folder.path().join(MANIFEST);
        let mut manifest: Value = serde_json::from_slice(&std::fs::read(&path)?)?;
        *manifest.pointer_mut(pointer).with_context(|| format!("there is no {pointer}"))? = json!(8);
        std::fs::write(&path, manifest.to_string())?;
        let message = Bundle::open(folder.path()).err().with_context(|| pointer.to_owned())?.to_string();
        ensure!(
            message.contains("manifest.json") && message.contains(" wide") || message.contains(".onnx has "),
            "{message}"
        );
    }
    Ok(())
}
