//! Files that are cut off, changed, hostile or of another model: an error that says what, and never a panic.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use checkpoint::{Checkpoint, CheckpointError, OpenOptions};
use serde_json::{Map, Value, json};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

const PATCH_BIAS: &str = "vision_model.embeddings.patch_embedding.bias";
const WORDS: &str = "text_decoder.bert.embeddings.word_embeddings.weight";
const TIED_WORDS: &str = "text_decoder.cls.predictions.decoder.weight";

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

/// A fixture's folder, to be changed.
fn copy(name: &str) -> TempDir {
    let folder = TempDir::new().unwrap();
    for entry in fixture(name).read_dir().unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, folder.path().join(path.file_name().unwrap())).unwrap();
    }
    folder
}

fn open(path: &Path) -> Result<Checkpoint, CheckpointError> {
    Checkpoint::open(path, &OpenOptions::default())
}

fn open_pth(path: &Path) -> Result<Checkpoint, CheckpointError> {
    let tokenizer = Some(fixture("captioner/vocab.txt"));
    Checkpoint::open(path, &OpenOptions { vision_heads: Some(2), text_heads: Some(2), tokenizer, image_size: None })
}

fn refused(path: &Path) -> String {
    open(path).map(|_| ()).unwrap_err().to_string()
}

/// A checkpoint's error, from opening it or from reading all of it.
fn read_all(checkpoint: Result<Checkpoint, CheckpointError>) -> Result<(), CheckpointError> {
    let checkpoint = checkpoint?;
    checkpoint.names().try_for_each(|(name, _)| checkpoint.tensor(name).map(drop))
}

fn change_config(folder: &TempDir, change: impl Fn(&mut Value)) {
    let path = folder.path().join("config.json");
    let mut config = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    change(&mut config);
    std::fs::write(path, config.to_string()).unwrap();
}

/// A safetensors file taken apart: each tensor's name, type, shape and bytes.
struct Parts(Vec<(String, String, Vec<usize>, Vec<u8>)>);

impl Parts {
    fn of(folder: &TempDir) -> Parts {
        let bytes = std::fs::read(folder.path().join("model.safetensors")).unwrap();
        let (length, rest) = bytes.split_first_chunk().unwrap();
        let (header, data) = rest.split_at(u64::from_le_bytes(*length) as usize);
        let header: Map<String, Value> = serde_json::from_slice(header).unwrap();
        let part = |(name, entry): (String, Value)| {
            let (dtype, shape) = (entry["dtype"].as_str()?.to_owned(), entry["shape"].clone());
            let [begin, end]: [usize; 2] = serde_json::from_value(entry["data_offsets"].clone()).ok()?;
            Some((name, dtype, serde_json::from_value(shape).ok()?, data[begin..end].to_vec()))
        };
        Parts(header.into_iter().filter_map(part).collect())
    }

    fn write(&self, folder: &TempDir) {
        let (mut header, mut data) = (Map::new(), Vec::new());
        for (name, dtype, shape, bytes) in &self.0 {
            let offsets = [data.len(), data.len() + bytes.len()];
            header.insert(name.clone(), json!({"dtype": dtype, "shape": shape, "data_offsets": offsets}));
            data.extend(bytes);
        }
        let header = Value::Object(header).to_string();
        let bytes = [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &data].concat();
        std::fs::write(folder.path().join("model.safetensors"), bytes).unwrap();
    }

    fn find(&mut self, name: &str) -> &mut (String, String, Vec<usize>, Vec<u8>) {
        self.0.iter_mut().find(|part| part.0 == name).unwrap()
    }

    /// The same values in another type.
    fn convert(&mut self, dtype: &str, convert: impl Fn(f32) -> Vec<u8>) {
        for part in &mut self.0 {
            part.1 = dtype.to_owned();
            part.3 = part.3.as_chunks().0.iter().flat_map(|value| convert(f32::from_le_bytes(*value))).collect();
        }
    }
}

#[test]
fn every_tensor_at_fault_is_in_one_error() {
    let folder = copy("captioner");
    let mut parts = Parts::of(&folder);
    parts.0.retain(|part| part.0 != "vision_model.post_layernorm.bias" && part.0 != WORDS);
    let bias = parts.find(PATCH_BIAS);
    (bias.2, bias.3) = (vec![1, 12], bias.3.clone());
    parts.0.push(("vision_model.extra".into(), "F32".into(), vec![1], vec![0; 4]));
    parts.0.push(("text_decoder.bert.embeddings.position_ids".into(), "I64".into(), vec![1, 1], vec![0; 8]));
    parts.write(&folder);
    let message = refused(folder.path());
    let expected = format!(
        "model.safetensors: its tensors are not those of the model\nmissing (2):\n  {WORDS}\n  \
         vision_model.post_layernorm.bias\nunexpected (1):\n  vision_model.extra\nmisshapen (1):\n  \
         {PATCH_BIAS}: [1, 12] in the file, [12] in the model"
    );
    assert!(message.ends_with(&expected), "{message}");
}

#[test]
fn config_that_disagrees_with_its_tensors_is_reported_tensor_by_tensor() {
    let folder = copy("captioner");
    change_config(&folder, |config| {
        config["vision_config"]["num_hidden_layers"] = json!(3);
        config["text_config"]["intermediate_size"] = json!(16);
    });
    match open(folder.path()).map(|_| ()).unwrap_err() {
        CheckpointError::Tensors { missing, unexpected, misshapen, .. } => {
            assert_eq!((missing.len(), unexpected.len(), misshapen.len()), (12, 0, 6));
            assert!(missing.iter().all(|name| name.starts_with("vision_model.encoder.layers.2.")));
        }
        other => panic!("{other}"),
    }
    change_config(&folder, |config| config["architectures"] = json!(["BlipForImageTextRetrieval"]));
    assert!(refused(folder.path()).contains("itm_head.weight"));
    change_config(&folder, |config| config["architectures"] = Value::Null);
    assert!(refused(folder.path()).contains("layers.2."));
}

#[test]
fn sizes_of_no_model_are_refused_before_anything_is_allocated() {
    for (part, key, value) in [
        ("vision_config", "hidden_size", json!(0)),
        ("vision_config", "num_attention_heads", json!(5)),
        ("vision_config", "image_size", json!(4_000_000_000u64)),
        ("text_config", "num_hidden_layers", json!(1_000_000_000)),
        ("text_config", "vocab_size", json!(u64::MAX)),
        ("text_config", "hidden_size", json!(-1)),
        ("text_config", "hidden_act", json!("relu")),
    ] {
        let folder = copy("captioner");
        change_config(&folder, |config| config[part][key] = value.clone());
        assert!(refused(folder.path()).contains("config.json"), "{key} {value}");
    }
}

#[test]
fn infinity_and_nan_are_refused_by_name_and_file() {
    for (value, shown) in [(f32::NAN, "NaN"), (f32::NEG_INFINITY, "-inf")] {
        let folder = copy("captioner");
        let mut parts = Parts::of(&folder);
        parts.find(PATCH_BIAS).3[8..12].copy_from_slice(&value.to_le_bytes());
        parts.write(&folder);
        let message = open(folder.path()).unwrap().tensor("vision.patch_embedding.bias").unwrap_err().to_string();
        let expected = format!("model.safetensors: tensor {PATCH_BIAS:?} has {shown} at element 2");
        assert!(message.contains(&expected), "{message}");
    }
}

#[test]
fn half_and_double_precision_are_read_and_integers_are_not() {
    let reference = open(&fixture("captioner")).unwrap();
    let name = "vision.layers.1.qkv.weight";
    let expected = reference.tensor(name).unwrap();
    let folder = copy("captioner");
    let mut parts = Parts::of(&folder);
    parts.convert("F64", |value| f64::from(value).to_le_bytes().to_vec());
    parts.write(&folder);
    assert_eq!(open(folder.path()).unwrap().tensor(name).unwrap(), expected);
    for (dtype, bits) in [("F16", 11), ("BF16", 8)] {
        let mut parts = Parts::of(&copy("captioner"));
        parts.convert(dtype, |value| match dtype {
            "F16" => half::f16::from_f32(value).to_le_bytes().to_vec(),
            _ => half::bf16::from_f32(value).to_le_bytes().to_vec(),
        });
        parts.write(&folder);
        let found = open(folder.path()).unwrap().tensor(name).unwrap();
        let near = |(a, b): (&f32, &f32)| (a - b).abs() <= b.abs() / f32::from(1u16 << bits) + 1e-7;
        assert!(found.values.iter().zip(&expected.values).all(near), "{dtype}");
    }
    let mut parts = Parts::of(&copy("captioner"));
    parts.find(PATCH_BIAS).1 = "I32".into();
    parts.write(&folder);
    assert!(refused(folder.path()).contains("is stored as I32"));
}

#[test]
fn untied_decoder_is_refused_and_a_tied_one_may_be_left_out() {
    let folder = copy("captioner");
    let mut parts = Parts::of(&folder);
    let (_, dtype, shape, bytes) = parts.find(WORDS).clone();
    parts.0.push((TIED_WORDS.into(), dtype, shape, bytes));
    parts.write(&folder);
    assert!(open(folder.path()).is_ok());
    parts.find(TIED_WORDS).3[0] ^= 1;
    parts.write(&folder);
    let message = refused(folder.path());
    assert!(message.contains(&format!("tensor {TIED_WORDS:?} differs from {WORDS:?}")), "{message}");
    parts.0.pop();
    parts.write(&folder);
    change_config(&folder, |config| config["tie_word_embeddings"] = json!(false));
    assert!(refused(folder.path()).contains(&format!("missing (1):\n  {TIED_WORDS}")));
}

#[test]
fn safetensors_cut_anywhere_is_refused() {
    let folder = copy("captioner");
    let path = folder.path().join("model.safetensors");
    let bytes = std::fs::read(&path).unwrap();
    for cut in (0..bytes.len()).step_by(631).chain(bytes.len() - 9..bytes.len()) {
        std::fs::write(&path, &bytes[..cut]).unwrap();
        assert!(refused(folder.path()).contains("model.safetensors"), "cut at {cut}");
    }
    std::fs::write(&path, [&bytes[..], &[0]].concat()).unwrap();
    assert!(refused(folder.path()).contains("follow the header"));
    std::fs::write(&path, [&u64::MAX.to_le_bytes(), &bytes[8..]].concat()).unwrap();
    assert!(refused(folder.path()).contains("at most 1048576 are read"));
}

#[test]
fn authors_files_cut_anywhere_are_refused() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("cut.pth");
    for (name, step) in [("captioner.pth", 397), ("captioner-legacy.pth", 197)] {
        let bytes = std::fs::read(fixture(name)).unwrap();
        assert!(read_all(open_pth(&fixture(name))).is_ok());
        for cut in (0..bytes.len()).step_by(step).chain(bytes.len() - 9..bytes.len()) {
            std::fs::write(&path, &bytes[..cut]).unwrap();
            assert!(open_pth(&path).is_err(), "{name} cut at {cut}");
        }
    }
}

#[test]
fn authors_files_changed_anywhere_never_panic() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("changed.pth");
    for (name, step) in [("captioner.pth", 401), ("captioner-legacy.pth", 193)] {
        let bytes = std::fs::read(fixture(name)).unwrap();
        for at in (0..bytes.len()).step_by(step) {
            let mut changed = bytes.clone();
            changed[at] ^= 0x55;
            std::fs::write(&path, &changed).unwrap();
            let _ = read_all(open_pth(&path));
        }
    }
}

/// A legacy file whose object is the pickle `object`.
fn legacy(object: &[u8]) -> Vec<u8> {
    let header = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.\x80\x02M\xe9\x03.";
    [header, &b"\x80\x02}X\x0d\0\0\0little_endian\x88s."[..], object, b"\x80\x02]."].concat()
}

#[test]
fn pickles_that_want_more_than_data_are_refused_by_name() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("hostile.pth");
    let refused = |bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        open_pth(&path).map(|_| ()).unwrap_err().to_string()
    };
    let message = refused(&legacy(b"\x80\x02cos\nsystem\nX\x02\0\0\0id\x85R."));
    assert!(message.contains("hostile.pth: global \"os.system\""), "{message}");
    assert!(refused(&legacy(b"\x80\x02comegaconf\nDictConfig\n.")).contains("\"omegaconf.DictConfig\""));
    let archive = std::fs::read(fixture("captioner.pth")).unwrap();
    let wanted = b"_rebuild_parameter\n";
    let at = archive.windows(wanted.len()).position(|window| window == wanted).unwrap();
    let mut hostile = archive.clone();
    hostile[at..at + wanted.len()].copy_from_slice(b"_rebuild_anything_\n");
    assert!(refused(&hostile).contains("global \"torch._utils._rebuild_anything_\""));
    let mut big = archive.clone();
    let at = big.windows(6).position(|window| window == b"little").unwrap();
    big[at..at + 6].copy_from_slice(b"big!!!");
    assert!(refused(&big).contains("big-endian"));
    assert!(refused(&legacy(b"\x80\x02}.")).contains("has no state dict"));
    assert!(refused(&legacy(b"\x80\x02}X\x01\0\0\0aK\x01s.")).contains("tensor \"a\" is not a tensor"));
    assert!(refused(b"<!DOCTYPE html>").contains("neither a zip archive nor a pickle"));
    assert!(refused(b"\x80\x02}.").contains("not one of torch.save"));
    assert!(refused(b"").contains("neither"));
}

#[test]
fn shards_are_read_only_from_beside_their_index_and_as_it_says() {
    let folder = copy("captioner-sharded");
    let path = folder.path().join("model.safetensors.index.json");
    let original: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    let refused = |change: &dyn Fn(&mut Map<String, Value>)| {
        let mut index = original.clone();
        change(index["weight_map"].as_object_mut().unwrap());
        std::fs::write(&path, index.to_string()).unwrap();
        self::refused(folder.path())
    };
    for outside in ["../model.safetensors", "/etc/passwd", "..", "", "a/b"] {
        assert!(refused(&|map| map[PATCH_BIAS] = json!(outside)).contains("not a file beside it"), "{outside}");
    }
    assert!(refused(&|map| drop(map.insert("more".into(), json!("model-3.safetensors")))).contains("cannot be read"));
    assert!(refused(&|map| drop(map.remove(PATCH_BIAS))).contains("does not say"));
    assert!(refused(&|map| drop(map.insert("more".into(), map[PATCH_BIAS].clone()))).contains("\"more\""));
}

#[test]
fn decoder_ids_and_vocabulary_must_fit_the_model() {
    let folder = copy("captioner");
    change_config(&folder, |config| config["text_config"]["bos_token_id"] = json!(5));
    assert!(refused(folder.path()).contains("text_config.bos_token_id 5"));
    let folder = copy("captioner");
    std::fs::write(folder.path().join("vocab.txt"), "[PAD]\n[UNK]\n").unwrap();
    assert!(refused(folder.path()).contains("has 2 words, the model 14"));
    std::fs::remove_file(folder.path().join("vocab.txt")).unwrap();
    assert!(refused(folder.path()).contains("--tokenizer"));
}

#[test]
fn what_an_authors_file_does_not_say_is_asked_for() {
    assert!(refused(&fixture("captioner.pth")).contains("say how many vision heads"));
    let heads = OpenOptions { vision_heads: Some(2), text_heads: Some(2), ..OpenOptions::default() };
    let message = Checkpoint::open(&fixture("captioner.pth"), &heads).map(|_| ()).unwrap_err().to_string();
    assert_eq!(message, "bert-base-uncased: has 30522 words, the model 14: name the right tokenizer with --tokenizer");
    let other = OpenOptions { vision_heads: Some(3), ..OpenOptions::default() };
    let message = Checkpoint::open(&fixture("captioner"), &other).map(|_| ()).unwrap_err().to_string();
    assert!(message.contains("says 2 vision heads, 3 are asked for"));
    let odd = OpenOptions { image_size: Some(13), ..OpenOptions::default() };
    let message = Checkpoint::open(&fixture("captioner"), &odd).map(|_| ()).unwrap_err().to_string();
    assert!(message.contains("image_size is 13: it must be a multiple of patch_size, 4"));
    assert!(refused(&fixture("captioner-bin/pytorch_model.bin")).contains("give the folder"));
    assert!(refused(&fixture("captioner-missing.pth")).contains("cannot be read"));
}
