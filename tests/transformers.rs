//! fp32 bundles against Hugging Face transformers.

use std::collections::HashMap;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use blip::decoding::{DecodingOptions, Strategy};
use blip::manifest::{EncoderToken, Precision};
use blip::pixels::{Rgb8, preprocess};
use checkpoint::OpenOptions;
use edgeblip::decoder::{Caption, Writing};
use edgeblip::model::Model;
use edgeblip::picture;
use edgeblip_export::pipeline::export;
use edgeblip_export::weights::Request;
use serde_json::Value;
use terminal::progress::Progress;

use crate::bundles::{load, model, repository, settings};

/// How far features may be off, relative to the largest feature of the picture.
const FEATURES: f32 = 1e-4;
/// How far probabilities and cosines may be off.
const PROBABILITY: f32 = 1e-4;

/// Arrays of a safetensors file that this repository made itself.
struct Arrays(HashMap<String, Vec<f32>>);

impl Arrays {
    fn open(path: &Path) -> Result<Arrays> {
        let bytes = std::fs::read(path).with_context(|| format!("reading {}", path.display()))?;
        let entries = checkpoint::safetensors::parse_header(&bytes, bytes.len() as u64)?;
        let values = |start: u64, length: u64| {
            let bytes = &bytes[start as usize..][..length as usize];
            bytes.as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect()
        };
        Ok(Arrays(entries.into_iter().map(|entry| (entry.name, values(entry.start, entry.length))).collect()))
    }

    fn get(&self, name: &str) -> Result<&[f32]> {
        self.0.get(name).map(Vec::as_slice).with_context(|| format!("no array {name}"))
    }
}

/// The goldens of one head.
struct Goldens {
    json: Value,
    arrays: Arrays,
}

impl Goldens {
    fn open(path: &str) -> Result<Goldens> {
        let path = repository(&format!("tests/goldens/{path}"));
        let text = std::fs::read(path.with_extension("json"))?;
        Ok(Goldens { json: serde_json::from_slice(&text)?, arrays: Arrays::open(&path.with_extension("safetensors"))? })
    }

    fn checkpoint(&self) -> &str {
        text(&self.json, "checkpoint")
    }

    fn pictures(&self) -> Result<Vec<(&Value, &str, Rgb8)>> {
        let open = |entry| {
            let picture = picture::open(&repository(text(entry, "picture")))?;
            Ok((entry, text(entry, "key"), picture))
        };
        list(&self.json, "pictures").iter().map(open).collect()
    }
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_else(|| panic!("{key} is no text in {value}"))
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().unwrap_or_else(|| panic!("{key} is no list"))
}

fn number(value: &Value, key: &str) -> f32 {
    value[key].as_f64().unwrap_or_else(|| panic!("{key} is no number in {value}")) as f32
}

fn ids(value: &Value, key: &str) -> Vec<u32> {
    list(value, key).iter().map(|id| id.as_u64().expect("ids are numbers") as u32).collect()
}

/// Largest difference, relative to the largest expected magnitude.
fn difference(found: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(found.len(), expected.len());
    let largest = expected.iter().fold(0.0f32, |most, value| most.max(value.abs()));
    found.iter().zip(expected).fold(0.0f32, |most, (a, b)| most.max((a - b).abs())) / largest
}

/// What a golden run asks for.
fn writing(run: &Value) -> Writing {
    let settings = &run["settings"];
    let size = |key: &str| settings[key].as_u64().expect("sizes are whole numbers") as usize;
    let strategy = match size("num_beams") {
        1 => Strategy::Greedy,
        beams => Strategy::Beam { beams },
    };
    let options = DecodingOptions {
        strategy,
        repetition_penalty: number(settings, "repetition_penalty"),
        no_repeat_ngram: size("no_repeat_ngram_size"),
        min_length: size("min_length"),
        max_length: size("max_length"),
        length_penalty: number(settings, "length_penalty"),
    };
    let prompt = run["prompt"].as_str().unwrap_or_default().to_owned();
    Writing { prompt, options, seed: 0, texts: size("num_return_sequences") }
}

fn check_sequences(run: &Value, found: &[Caption]) -> Result<()> {
    let expected = list(run, "sequences");
    ensure!(found.len() == expected.len(), "{} texts where {} belong", found.len(), expected.len());
    for (caption, sequence) in found.iter().zip(expected) {
        let expected = ids(sequence, "ids");
        ensure!(caption.token_ids == expected, "ids {:?}, transformers {expected:?}", caption.token_ids);
        ensure!(caption.text == text(sequence, "text"), "{:?}, transformers {:?}", caption.text, sequence["text"]);
        let log_prob = number(sequence, "log_prob");
        let off = (caption.log_prob - log_prob).abs();
        ensure!(off <= 1e-3, "log-probability {}, transformers {log_prob}", caption.log_prob);
    }
    Ok(())
}

fn check_pixels_and_features(goldens: &Goldens, model: &Model, role: &str) -> Result<()> {
    let manifest = model.bundle().manifest();
    let vision = match role {
        "captioner" => manifest.captioner.as_ref().map(|head| &head.vision),
        "matcher" => manifest.matcher.as_ref().map(|head| &head.vision),
        _ => manifest.answerer.as_ref().map(|head| &head.vision),
    };
    let vision = vision.context("the bundle has the head")?;
    for (_, key, picture) in goldens.pictures()? {
        let pixels = preprocess(&picture, vision.config.image_size, &vision.normalization);
        let off = difference(&pixels, goldens.arrays.get(&format!("{key}/pixel_values"))?);
        ensure!(off <= 1e-6, "{key}: pixel values are off by {off}");
        let view = model.see(&picture)?;
        let features = view.features(&vision.graph).as_f32().context("features are f32")?;
        let off = difference(features, goldens.arrays.get(&format!("{key}/image_features"))?);
        ensure!(off <= FEATURES, "{key}: features are off by {off}");
    }
    Ok(())
}

fn check_captioner(goldens: &str) -> Result<()> {
    let goldens = Goldens::open(goldens)?;
    let model = model(&[goldens.checkpoint()], Precision::Fp32, EncoderToken::Encoder)?;
    check_pixels_and_features(&goldens, &model, "captioner")?;
    let start = model.bundle().manifest().tokens.decoder_start;
    for (entry, key, picture) in goldens.pictures()? {
        let mut view = model.see(&picture)?;
        let logits = model.captioner()?.next_logits(&mut view, &[start])?;
        let off = difference(&logits, goldens.arrays.get(&format!("{key}/first_logits"))?);
        ensure!(off <= FEATURES, "{key}: logits are off by {off}");
        for run in list(entry, "runs") {
            let captions = model.captioner()?.describe(&mut view, &writing(run))?;
            check_sequences(run, &captions).with_context(|| format!("{key}, run {}", run["name"]))?;
        }
    }
    Ok(())
}

fn check_matcher(goldens: &str) -> Result<()> {
    let goldens = Goldens::open(goldens)?;
    for (token, score) in [(EncoderToken::Class, "itm_cls"), (EncoderToken::Encoder, "itm_enc")] {
        let model = model(&[goldens.checkpoint()], Precision::Fp32, token)?;
        check_pixels_and_features(&goldens, &model, "matcher")?;
        let matcher = model.matcher()?;
        for (entry, key, picture) in goldens.pictures()? {
            let mut view = model.see(&picture)?;
            let vector = matcher.embed_image(&view)?;
            let off = difference(&vector.0, goldens.arrays.get(&format!("{key}/image_vector"))?);
            ensure!(off <= FEATURES, "{key}: the image's vector is off by {off}");
            for (index, entry) in list(entry, "texts").iter().enumerate() {
                let itm = matcher.match_probability(&mut view, text(entry, "text"))?;
                let off = (itm - number(entry, score)).abs();
                ensure!(off <= PROBABILITY, "{key}, text {index}: {score} is off by {off}");
                let text_vector = matcher.embed_text(text(entry, "text"))?;
                let off = (text_vector.cosine(&vector) - number(entry, "itc")).abs();
                ensure!(off <= PROBABILITY, "{key}, text {index}: ITC is off by {off}");
            }
        }
    }
    Ok(())
}

fn check_answerer(goldens: &str) -> Result<()> {
    let goldens = Goldens::open(goldens)?;
    for (token, name) in [(EncoderToken::Class, "CLS"), (EncoderToken::Encoder, "ENC")] {
        let model = model(&[goldens.checkpoint()], Precision::Fp32, token)?;
        check_pixels_and_features(&goldens, &model, "answerer")?;
        for (entry, key, picture) in goldens.pictures()? {
            let mut view = model.see(&picture)?;
            for question in list(entry, "questions").iter().filter(|question| question["encoder_token"] == name) {
                for run in list(question, "runs") {
                    let answers = model.answerer()?.answer(&mut view, text(question, "question"), &writing(run))?;
                    check_sequences(run, &answers)
                        .with_context(|| format!("{key}, {question}, run {}", run["name"]))?;
                }
            }
        }
    }
    Ok(())
}

#[test]
fn tiny_captioners_write_what_transformers_writes() -> Result<()> {
    ["tiny-a", "tiny-b", "tiny-c"].iter().try_for_each(|family| check_captioner(&format!("{family}/captioner")))
}

#[test]
fn tiny_matchers_score_what_transformers_scores_with_either_first_token() -> Result<()> {
    ["tiny-a", "tiny-b", "tiny-c"].iter().try_for_each(|family| check_matcher(&format!("{family}/matcher")))
}

#[test]
fn tiny_answerers_answer_what_transformers_answers_with_either_first_token() -> Result<()> {
    ["tiny-b", "tiny-c"].iter().try_for_each(|family| check_answerer(&format!("{family}/answerer")))
}

#[test]
fn the_starter_captioner_writes_what_transformers_writes() -> Result<()> {
    check_captioner("starter/captioner")
}

#[test]
fn the_starter_matcher_scores_what_transformers_scores_with_either_first_token() -> Result<()> {
    check_matcher("starter/matcher")
}

/// The position table of a model trained at 24 pixels, interpolated for others.
#[test]
fn an_image_size_that_was_not_trained_gives_the_features_of_transformers() -> Result<()> {
    let goldens = Goldens::open("tiny-a/captioner")?;
    let resized = Arrays::open(&repository("tests/goldens/tiny-a/resized.safetensors"))?;
    let folder = tempfile::TempDir::new()?;
    for side in [16, 32] {
        let out = folder.path().join(side.to_string());
        let request = Request { any: vec![repository(goldens.checkpoint())], named: Vec::new() };
        let options = OpenOptions { image_size: Some(side), ..OpenOptions::default() };
        export(&request, &options, &settings(Precision::Fp32, EncoderToken::Encoder), &out, &Progress::Silent)?;
        let model = load(&out)?;
        let mut compared = 0;
        for (_, key, picture) in goldens.pictures()? {
            let Ok(expected) = resized.get(&format!("{side}/{key}/image_features")) else { continue };
            let view = model.see(&picture)?;
            let graph = &model.captioner()?.facts().vision.graph;
            let off = difference(view.features(graph).as_f32().context("features are f32")?, expected);
            ensure!(off <= FEATURES, "{key} at {side} pixels: features are off by {off}");
            compared += 1;
        }
        ensure!(compared > 0, "no features at {side} pixels were compared");
    }
    Ok(())
}

/// Greedy and three beams for each of the 200 held-out scenes.
#[test]
fn the_starter_captions_every_held_out_scene_as_transformers_does() -> Result<()> {
    let model = crate::bundles::starter(Precision::Fp32)?;
    let scenes: Vec<Value> =
        serde_json::from_slice(&std::fs::read(repository("tests/goldens/starter/held-out.json"))?)?;
    assert_eq!(scenes.len(), 200);
    for scene in &scenes {
        let file = text(scene, "file");
        let picture = picture::open(&repository(&format!("tests/goldens/starter/held-out/{file}")))?;
        let mut view = model.see(&picture)?;
        for (strategy, key) in [(Strategy::Greedy, "greedy_ids"), (Strategy::Beam { beams: 3 }, "beam3_ids")] {
            let facts = model.captioner()?.facts();
            let options = DecodingOptions { strategy, ..facts.decoding };
            let writing = Writing { prompt: String::new(), options, seed: 0, texts: 1 };
            let captions = model.captioner()?.describe(&mut view, &writing)?;
            ensure!(captions[0].token_ids == ids(scene, key), "{file}: {key} is {:?}", captions[0].token_ids);
        }
        let matcher = model.matcher()?;
        for kind in ["truth", "wrong"] {
            let itm = matcher.match_probability(&mut view, text(scene, kind))?;
            let off = (itm - number(scene, &format!("itm_enc_{kind}"))).abs();
            ensure!(off <= PROBABILITY, "{file}: ITM of the {kind} text is off by {off}");
            let itc = matcher.embed_text(text(scene, kind))?.cosine(&matcher.embed_image(&view)?);
            let off = (itc - number(scene, &format!("itc_{kind}"))).abs();
            ensure!(off <= PROBABILITY, "{file}: ITC of the {kind} text is off by {off}");
        }
    }
    Ok(())
}
