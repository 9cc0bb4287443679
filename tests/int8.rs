//! int8 against fp32 on the starter's held-out scenes.

use anyhow::{Context, Result};
use blip::decoding::LanguageModel;
use blip::manifest::Precision;
use edgeblip::decoder::Writing;
use edgeblip::model::Model;
use edgeblip::picture;
use serde_json::Value;

use crate::bundles::{repository, starter};

/// A next token is decided where fp32's best logit leads by more than this, in nat.
const DECIDED: f32 = 0.5;

/// What one precision answers to all scenes.
#[derive(Default)]
struct Answers {
    captions: Vec<String>,
    /// Teacher-forced logits after each prefix of the truth.
    logits: Vec<Vec<f32>>,
    /// ITM of the truth and of the wrong caption.
    matches: Vec<f32>,
}

fn scenes() -> Result<Vec<Value>> {
    Ok(serde_json::from_slice(&std::fs::read(repository("tests/goldens/starter/held-out.json"))?)?)
}

fn answers(model: &Model) -> Result<Answers> {
    let mut answers = Answers::default();
    let captioner = model.captioner()?;
    let options = captioner.facts().decoding;
    for scene in scenes()? {
        let text = |key: &str| scene[key].as_str().context("a scene has its texts");
        let picture = picture::open(&repository(&format!("tests/goldens/starter/held-out/{}", text("file")?)))?;
        let mut view = model.see(&picture)?;
        let writing = Writing { prompt: String::new(), options, seed: 0, texts: 1 };
        answers.captions.push(captioner.describe(&mut view, &writing)?[0].text.clone());
        let truth = model.bundle().tokenizer().prompt(text("truth")?)?;
        let memory = captioner.memory(&mut view)?;
        let mut decoding = captioner.decoder().start(&memory);
        answers.logits.push(decoding.start(&truth[..1])?);
        for &token in &truth[1..] {
            answers.logits.push(decoding.step(&[(0, token)])?);
        }
        for key in ["truth", "wrong"] {
            answers.matches.push(model.matcher()?.match_probability(&mut view, text(key)?)?);
        }
    }
    Ok(answers)
}

/// The best token and its lead over the second best.
fn best(logits: &[f32]) -> (usize, f32) {
    let mut order: Vec<usize> = (0..logits.len()).collect();
    order.sort_by(|&left, &right| logits[right].total_cmp(&logits[left]));
    (order[0], logits[order[0]] - logits[order[1]])
}

#[test]
fn int8_decides_as_fp32_does_on_the_held_out_scenes() -> Result<()> {
    let (int8, fp32) = (starter(Precision::Int8)?, starter(Precision::Fp32)?);
    let (int8, fp32) = (answers(&int8)?, answers(&fp32)?);
    let decided: Vec<_> =
        fp32.logits.iter().zip(&int8.logits).filter(|(expected, _)| best(expected).1 > DECIDED).collect();
    let agree = decided.iter().filter(|(expected, found)| best(expected).0 == best(found).0).count();
    let agreement = agree as f64 / decided.len() as f64;

    let scenes = scenes()?;
    let exact =
        |captions: &[String]| captions.iter().zip(&scenes).filter(|(text, scene)| scene["truth"] == **text).count();
    let (exact8, exact32) = (exact(&int8.captions), exact(&fp32.captions));

    let differ = int8.matches.iter().zip(&fp32.matches).filter(|(a, b)| (**a >= 0.5) != (**b >= 0.5)).count();

    println!(
        "teacher-forced next tokens: {agree} of {} decided positions agree, {:.2} %",
        decided.len(),
        agreement * 100.0
    );
    println!("exact captions: int8 {exact8}, fp32 {exact32} of {}", scenes.len());
    println!("ITM decisions at 0.5 that differ: {differ} of {}", int8.matches.len());
    for ((found, expected), scene) in int8.captions.iter().zip(&fp32.captions).zip(&scenes) {
        if found != expected {
            println!("{}: int8 {found:?}, fp32 {expected:?}, truth {}", scene["file"], scene["truth"]);
        }
    }
    assert!(agreement >= 0.99, "only {:.2} % of the decided next tokens agree", agreement * 100.0);
    assert!(exact8 as f64 >= exact32 as f64 - 0.01 * scenes.len() as f64, "int8 {exact8} exact, fp32 {exact32}");
    assert!(differ as f64 <= 0.01 * int8.matches.len() as f64, "{differ} ITM decisions differ");
    Ok(())
}

#[test]
fn the_built_in_bundle_is_the_starter_exported_and_passes_its_own_test() -> Result<()> {
    let exported = starter(Precision::Int8)?;
    let bundle = edgeblip::bundle::Bundle::built_in()?;
    assert_eq!(bundle.manifest().sources, exported.bundle().manifest().sources);
    assert_eq!(bundle.manifest().files["weights.bin"], exported.bundle().manifest().files["weights.bin"]);
    for (name, facts) in &bundle.manifest().graphs {
        assert_eq!(Some(facts), exported.bundle().manifest().graphs.get(name));
    }
    let checked = edgeblip::bundle::Bundle::open(&repository("models/built-in"))?;
    assert_eq!(bundle.id(), checked.id());
    let roles = bundle.manifest().roles();
    Ok(edgeblip::golden::check(&Model::load(std::sync::Arc::new(bundle), &roles, 2)?)?)
}
