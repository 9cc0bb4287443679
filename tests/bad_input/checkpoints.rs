//! Checkpoints that are cut off, that lie, or that want more than data.

use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Map, Value, json};
use tempfile::TempDir;

use super::{copy, export_is_refused};
use crate::bundles::repository;
use crate::command_line::run;

const CAPTIONER: &str = "tests/goldens/tiny-b/captioner";
const TENSOR: &str = "vision_model.post_layernorm.weight";

/// A safetensors file as its header and its data.
struct Parts {
    header: Map<String, Value>,
    data: Vec<u8>,
}

impl Parts {
    fn read(folder: &Path) -> Result<Parts> {
        let bytes = std::fs::read(folder.join("model.safetensors"))?;
        let (length, rest) = bytes.split_first_chunk().context("a length comes first")?;
        let (header, data) = rest.split_at(u64::from_le_bytes(*length) as usize);
        Ok(Parts { header: serde_json::from_slice(header)?, data: data.to_vec() })
    }

    fn write(&self, folder: &Path) -> Result<()> {
        let header = serde_json::to_vec(&self.header)?;
        let bytes = [&(header.len() as u64).to_le_bytes(), &header[..], &self.data].concat();
        Ok(std::fs::write(folder.join("model.safetensors"), bytes)?)
    }

    fn start(&self) -> Result<usize> {
        Ok(self.header[TENSOR]["data_offsets"][0].as_u64().context("offsets are numbers")? as usize)
    }
}

fn bytes_are_refused(change: impl Fn(Vec<u8>) -> Vec<u8>, words: &[&str]) -> Result<()> {
    let folder = copy(Path::new(CAPTIONER))?;
    let path = folder.path().join("model.safetensors");
    std::fs::write(&path, change(std::fs::read(&path)?))?;
    export_is_refused(folder.path(), &[], &[&[path.to_str().context("a plain name")?], words].concat())
}

fn parts_are_refused(change: impl Fn(&mut Parts) -> Result<()>, words: &[&str]) -> Result<()> {
    let folder = copy(Path::new(CAPTIONER))?;
    let mut parts = Parts::read(folder.path())?;
    change(&mut parts)?;
    parts.write(folder.path())?;
    export_is_refused(folder.path(), &[], &[&["model.safetensors"], words].concat())
}

#[test]
fn an_empty_or_truncated_safetensors_file_is_refused() -> Result<()> {
    bytes_are_refused(|_| Vec::new(), &["0 bytes"])?;
    bytes_are_refused(|bytes| bytes[..5].to_vec(), &[])?;
    bytes_are_refused(|bytes| bytes[..2000].to_vec(), &[])?;
    bytes_are_refused(|bytes| bytes[..bytes.len() - 1].to_vec(), &[])?;
    bytes_are_refused(|bytes| bytes[..bytes.len() / 2].to_vec(), &[])
}

#[test]
fn a_huge_or_unreadable_header_is_refused() -> Result<()> {
    let length = |length: u64| move |bytes: Vec<u8>| [&length.to_le_bytes(), &bytes[8..]].concat();
    bytes_are_refused(length(u64::MAX), &["at most"])?;
    bytes_are_refused(length(1 << 40), &["at most"])?;
    bytes_are_refused(length(0), &[])?;
    bytes_are_refused(|bytes| [&bytes[..8], &[b'{'; 100], &bytes[108..]].concat(), &[])
}

#[test]
fn a_header_that_lies_is_refused() -> Result<()> {
    let set = |key: &'static str, value: Value| {
        move |parts: &mut Parts| {
            parts.header[TENSOR][key] = value.clone();
            Ok(())
        }
    };
    parts_are_refused(set("data_offsets", json!([0, u64::MAX])), &[TENSOR])?;
    parts_are_refused(set("data_offsets", json!([128, 0])), &[TENSOR])?;
    parts_are_refused(set("data_offsets", json!([0, 128])), &[])?;
    parts_are_refused(set("shape", json!([1u64 << 40, 1u64 << 40])), &[TENSOR])?;
    parts_are_refused(set("shape", json!([31])), &[TENSOR])?;
    parts_are_refused(set("dtype", json!("I64")), &[TENSOR])?;
    parts_are_refused(set("dtype", json!("Q4")), &[])
}

#[test]
fn tensors_that_are_missing_unexpected_or_misshapen_are_all_named() -> Result<()> {
    parts_are_refused(
        |parts| {
            let gone = parts.header.remove(TENSOR).context("the tensor is there")?;
            parts.header.insert("vision_model.stranger".to_owned(), gone);
            Ok(())
        },
        &[TENSOR, "missing (1)", "vision_model.stranger", "unexpected (1)"],
    )
}

#[test]
fn a_config_that_disagrees_with_its_tensors_is_refused() -> Result<()> {
    for (part, key, value, words) in [
        ("vision_config", "num_hidden_layers", json!(4), "vision_model.encoder.layers.3"),
        ("vision_config", "hidden_size", json!(64), "misshapen"),
        ("text_config", "vocab_size", json!(44), "text_decoder"),
        ("text_config", "num_hidden_layers", json!(0), "config.json"),
        ("vision_config", "image_size", json!(1u64 << 40), "config.json"),
    ] {
        let folder = copy(Path::new(CAPTIONER))?;
        let path = folder.path().join("config.json");
        let mut config: Value = serde_json::from_slice(&std::fs::read(&path)?)?;
        config[part][key] = value;
        std::fs::write(&path, config.to_string())?;
        export_is_refused(folder.path(), &[], &[words]).with_context(|| format!("{part}.{key}"))?;
    }
    let folder = copy(Path::new(CAPTIONER))?;
    std::fs::write(folder.path().join("config.json"), "{\"architectures\": [")?;
    export_is_refused(folder.path(), &[], &["config.json", "JSON"])
}

#[test]
fn nan_and_infinity_in_a_weight_are_refused_by_name() -> Result<()> {
    for (value, shown) in [(f32::NAN, "NaN"), (f32::INFINITY, "inf"), (f32::NEG_INFINITY, "-inf")] {
        let change = |parts: &mut Parts| {
            let start = parts.start()? + 4 * 7;
            parts.data[start..start + 4].copy_from_slice(&value.to_le_bytes());
            Ok(())
        };
        parts_are_refused(change, &[TENSOR, shown])?;
    }
    Ok(())
}

/// A file of `torch.save`'s legacy format whose object is the pickle `object`.
fn legacy(object: &[u8]) -> Vec<u8> {
    let header = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.\x80\x02M\xe9\x03.";
    [header, &b"\x80\x02}X\x0d\0\0\0little_endian\x88s."[..], object, b"\x80\x02]."].concat()
}

#[test]
fn a_pickle_that_wants_to_run_a_program_is_refused_and_runs_nothing() -> Result<()> {
    let folder = TempDir::new()?;
    let (path, proof) = (folder.path().join("hostile.pth"), folder.path().join("it-ran"));
    let command = format!("touch {}", proof.display());
    for global in ["os\nsystem", "posix\nsystem", "builtins\neval", "subprocess\nPopen", "nt\nsystem"] {
        let length = u32::try_from(command.len())?.to_le_bytes();
        let object = [b"\x80\x02c", global.as_bytes(), b"\nX", &length, command.as_bytes(), b"\x85R."].concat();
        std::fs::write(&path, legacy(&object))?;
        let name = global.replace('\n', ".");
        export_is_refused(&path, &[], &["hostile.pth", &name])?;
        run("edgeblip-export", &["inspect".as_ref(), path.as_os_str()])?.refused(&["hostile.pth", &name])?;
        assert!(!proof.exists());
    }
    std::fs::write(&path, legacy(b"\x80\x02comegaconf.dictconfig\nDictConfig\n."))?;
    export_is_refused(&path, &[], &["hostile.pth", "omegaconf.dictconfig.DictConfig"])
}

#[test]
fn a_pickle_cut_in_the_middle_is_refused() -> Result<()> {
    let folder = TempDir::new()?;
    let vocabulary = repository("tests/goldens/tiny-a/captioner-pth/vocab.txt");
    let flags = ["--tokenizer", vocabulary.to_str().context("a plain name")?];
    for name in ["zip.pth", "legacy.pth"] {
        let bytes = std::fs::read(repository("tests/goldens/tiny-a/captioner-pth").join(name))?;
        for length in [0, 1, 30, 500, bytes.len() / 4, bytes.len() / 2, bytes.len() - 1] {
            let path = folder.path().join(format!("{length}-{name}"));
            std::fs::write(&path, &bytes[..length])?;
            export_is_refused(&path, &flags, &[&format!("{length}-{name}")])
                .with_context(|| format!("{length} bytes"))?;
        }
    }
    Ok(())
}

#[test]
fn what_is_no_checkpoint_is_refused() -> Result<()> {
    let empty = TempDir::new()?;
    export_is_refused(empty.path(), &[], &[empty.path().to_str().context("a plain name")?])?;
    export_is_refused(Path::new("no/such/checkpoint"), &[], &["no/such/checkpoint"])?;
    export_is_refused(&repository("README.md"), &[], &["README.md"])?;
    let both = repository(CAPTIONER);
    export_is_refused(&both, &["tests/goldens/tiny-a/captioner"], &["--captioner"])?;
    export_is_refused(&both, &["--matcher", CAPTIONER], &["is no matcher"])?;
    export_is_refused(&both, &["--matcher", "tests/goldens/tiny-c/matcher"], &[])
}
