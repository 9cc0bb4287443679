//! The same weights in every format are the same tensors.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use blip::config::Role;
use checkpoint::{Checkpoint, OpenOptions, Tensor, TensorFile, hugging_face_tensors};
use std::path::{Path, PathBuf};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

/// What an authors' file of the fixtures does not say.
fn unsaid() -> OpenOptions {
    let tokenizer = Some(fixture("captioner/vocab.txt"));
    OpenOptions { vision_heads: Some(2), text_heads: Some(2), tokenizer, image_size: None }
}

fn open(name: &str) -> Checkpoint {
    let options = if name.ends_with(".pth") { unsaid() } else { OpenOptions::default() };
    Checkpoint::open(&fixture(name), &options).unwrap_or_else(|error| panic!("{error}"))
}

fn tensors(checkpoint: &Checkpoint) -> Vec<(String, Tensor)> {
    checkpoint.names().map(|(name, _)| (name.to_owned(), checkpoint.tensor(name).unwrap())).collect()
}

#[test]
fn all_formats_give_identical_tensors() {
    for formats in [
        &["captioner", "captioner-sharded", "captioner-bin", "captioner.pth", "captioner-legacy.pth"][..],
        &["matcher", "matcher.pth"],
        &["answerer", "answerer-legacy.pth"],
    ] {
        let reference = open(formats[0]);
        let expected = tensors(&reference);
        for name in &formats[1..] {
            let other = open(name);
            assert_eq!(other.config(), reference.config(), "{name}");
            assert_eq!((other.roles(), other.tokens()), (reference.roles(), reference.tokens()), "{name}");
            assert_eq!(tensors(&other), expected, "{name}");
        }
    }
}

#[test]
fn shapes_are_as_promised() {
    for name in ["captioner", "matcher.pth", "answerer-legacy.pth", "pretrained.pth"] {
        let checkpoint = open(name);
        for (name, shape) in checkpoint.names() {
            assert_eq!(checkpoint.tensor(name).unwrap().shape, shape);
        }
    }
}

#[test]
fn head_tells_the_role() {
    assert_eq!(open("captioner").roles(), [Role::Captioner]);
    assert_eq!(open("matcher").roles(), [Role::Matcher]);
    assert_eq!(open("answerer").roles(), [Role::Answerer]);
    assert!(open("captioner").warnings().is_empty());
}

#[test]
fn pre_training_file_has_both_roles_and_a_warning() {
    let both = open("pretrained.pth");
    assert_eq!(both.roles(), [Role::Captioner, Role::Matcher]);
    assert!(both.warnings()[0].contains("repeats itself"));
    let (captioner, matcher) = (open("captioner"), open("matcher"));
    for (name, _) in both.names() {
        let source = if name.starts_with("decoder.") { &captioner } else { &matcher };
        assert_eq!(both.tensor(name).unwrap(), source.tensor(name).unwrap(), "{name}");
    }
}

#[test]
fn special_tokens_follow_a_stock_vocabulary() {
    let checkpoint = open("captioner");
    let tokens = checkpoint.tokens();
    assert_eq!((tokens.decoder_start, tokens.encoder_start, tokens.separator), (12, 13, 3));
    assert_eq!(checkpoint.vocabulary()[12..], ["[DEC]", "[ENC]"]);
    assert_eq!(checkpoint.normalization(), blip::pixels::Normalization::default());
}

#[test]
fn another_image_size_changes_the_position_table_and_nothing_else() {
    let (trained, larger) = (open("captioner.pth"), {
        let options = OpenOptions { image_size: Some(20), ..unsaid() };
        Checkpoint::open(&fixture("captioner.pth"), &options).unwrap()
    });
    assert_eq!((trained.config().vision.tokens(), larger.config().vision.tokens()), (10, 26));
    assert!(larger.warnings().iter().any(|warning| warning.contains("12 pixels and is to see 20")));
    for (name, shape) in larger.names() {
        let (before, after) = (trained.tensor(name).unwrap(), larger.tensor(name).unwrap());
        assert_eq!(after.shape, shape);
        match name == "vision.position_embedding" {
            true => assert_eq!((after.shape.as_slice(), &after.values[..12]), (&[26, 12][..], &before.values[..12])),
            false => assert_eq!(before, after),
        }
    }
    let same = OpenOptions { image_size: Some(12), ..OpenOptions::default() };
    let same = Checkpoint::open(&fixture("captioner"), &same).unwrap();
    assert!(same.warnings().is_empty());
    assert_eq!(same.tensor("vision.position_embedding").unwrap(), trained.tensor("vision.position_embedding").unwrap());
}

#[test]
fn the_authors_temperature_is_read_and_other_files_have_none() {
    for name in ["pretrained.pth", "captioner.pth"] {
        assert_eq!(open(name).temperature(), Some(0.07), "{name}");
    }
    for name in ["captioner", "matcher", "answerer"] {
        assert_eq!(open(name).temperature(), None, "{name}");
    }
}

#[test]
fn tensors_under_their_own_names_are_the_ones_that_a_model_of_these_sizes_needs() {
    for name in ["captioner", "matcher", "answerer", "captioner-sharded", "captioner-bin"] {
        let (checkpoint, file) = (open(name), TensorFile::open(&fixture(name)).unwrap());
        for tensor in hugging_face_tensors(checkpoint.config()) {
            assert_eq!(file.shape(&tensor.file_name), Some(tensor.file_shape.as_slice()), "{}", tensor.file_name);
            let values = file.tensor(&tensor.file_name).unwrap().values;
            assert_eq!(values, checkpoint.tensor(&tensor.name).unwrap().values, "{}", tensor.name);
        }
        assert!(file.tensor("no such tensor").is_err() && file.names().count() > 0);
    }
}
