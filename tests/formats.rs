//! The same weights give the same bundle, whatever file they came in; equal tensors are stored once.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};
use blip::manifest::{EncoderToken, Precision, WEIGHTS};
use checkpoint::OpenOptions;
use edgeblip_export::pipeline::export;
use edgeblip_export::weights::Request;
use tempfile::TempDir;
use terminal::progress::Progress;

use crate::bundles::{export_to, repository, settings};

/// Graphs, weights and tokenizer of a bundle.
fn contents(folder: &Path) -> Result<BTreeMap<String, Vec<u8>>> {
    let mut files = BTreeMap::new();
    for entry in folder.read_dir()? {
        let path = entry?.path();
        let name = path.file_name().context("a file has a name")?.to_string_lossy().into_owned();
        if name.ends_with(".onnx") || name == WEIGHTS {
            files.insert(name, std::fs::read(path)?);
        }
    }
    Ok(files)
}

#[test]
fn four_formats_of_one_captioner_give_byte_equal_graphs_and_weights() -> Result<()> {
    let folder = TempDir::new()?;
    for precision in [Precision::Int8, Precision::Fp32] {
        let formats = ["captioner", "captioner-bin", "captioner-pth/zip.pth", "captioner-pth/legacy.pth"];
        let mut bundles = Vec::new();
        for (index, format) in formats.iter().enumerate() {
            let out = folder.path().join(format!("{precision}-{index}"));
            let tokenizer =
                format.ends_with(".pth").then(|| repository("tests/goldens/tiny-a/captioner-pth/vocab.txt"));
            let request =
                Request { any: vec![repository(&format!("tests/goldens/tiny-a/{format}"))], named: Vec::new() };
            let options = OpenOptions { tokenizer, ..OpenOptions::default() };
            export(&request, &options, &settings(precision, EncoderToken::Encoder), &out, &Progress::Silent)
                .with_context(|| (*format).to_owned())?;
            bundles.push(contents(&out)?);
        }
        for (bundle, format) in bundles.iter().zip(formats) {
            assert!(*bundle == bundles[0], "{precision}: {format} gives other bytes than {}", formats[0]);
        }
    }
    Ok(())
}

#[test]
fn a_sharded_checkpoint_gives_the_bundle_of_the_whole_one() -> Result<()> {
    let folder = TempDir::new()?;
    let (whole, sharded) = (folder.path().join("whole"), folder.path().join("sharded"));
    export_to("tests/goldens/tiny-b/captioner", Precision::Int8, &whole)?;
    export_to("tests/goldens/tiny-b/captioner-sharded", Precision::Int8, &sharded)?;
    assert!(contents(&whole)? == contents(&sharded)?);
    Ok(())
}

#[test]
fn heads_with_equal_encoders_share_graph_and_tensors() -> Result<()> {
    let folder = TempDir::new()?;
    let (captioner, both) = (folder.path().join("captioner"), folder.path().join("both"));
    export_to("models/starter/captioner", Precision::Int8, &captioner)?;
    let request = Request {
        any: vec![repository("models/starter/captioner"), repository("models/starter/matcher")],
        named: Vec::new(),
    };
    let settings = settings(Precision::Int8, EncoderToken::Encoder);
    let report = export(&request, &OpenOptions::default(), &settings, &both, &Progress::Silent)?;
    let manifest = &report.manifest;
    let (writes, matches) = (manifest.captioner.as_ref().context("head")?, manifest.matcher.as_ref().context("head")?);
    assert_eq!(writes.vision.graph, matches.vision.graph);
    assert_eq!(writes.decoder.cross, matches.encoder.cross);
    let alone = std::fs::metadata(captioner.join(WEIGHTS))?.len();
    let together = std::fs::metadata(both.join(WEIGHTS))?.len();
    assert!(together < alone * 3 / 2, "{together} bytes for both heads, {alone} for one");
    Ok(())
}

#[test]
fn heads_with_unequal_encoders_have_one_each() -> Result<()> {
    let folder = TempDir::new()?;
    let request = Request {
        any: vec![repository("tests/goldens/tiny-a/captioner"), repository("tests/goldens/tiny-a/matcher")],
        named: Vec::new(),
    };
    let settings = settings(Precision::Fp32, EncoderToken::Encoder);
    let report = export(&request, &OpenOptions::default(), &settings, &folder.path().join("b"), &Progress::Silent)?;
    let manifest = &report.manifest;
    let (writes, matches) = (manifest.captioner.as_ref().context("head")?, manifest.matcher.as_ref().context("head")?);
    assert_ne!(writes.vision.graph, matches.vision.graph);
    Ok(())
}

#[test]
fn the_same_export_gives_the_same_bundle() -> Result<()> {
    let folder = TempDir::new()?;
    let first = export_to("tests/goldens/tiny-b/matcher", Precision::Int8, &folder.path().join("1"))?;
    let second = export_to("tests/goldens/tiny-b/matcher", Precision::Int8, &folder.path().join("2"))?;
    assert_eq!(first.id, second.id);
    Ok(())
}
