use blip::decoding::{DecodingOptions, Strategy};
use serde_json::{Value, json};

use super::judge::Claim;
use super::*;
use crate::dataset::{DatasetOptions, Origin, Pair, Text};
use crate::generation::checkpoints::{Opened, golden, held_out, repository};
use crate::metrics::normalized_answer;
use crate::report::Page;

fn writing(strategy: Strategy) -> Writing {
    let options = DecodingOptions {
        strategy,
        repetition_penalty: 1.0,
        no_repeat_ngram: 0,
        min_length: 0,
        max_length: 20,
        length_penalty: 1.0,
    };
    Writing { prompt: String::new(), options, texts: 1 }
}

fn settings() -> EvaluationSettings {
    EvaluationSettings {
        batch: 16,
        seed: 1,
        captions: writing(Strategy::Greedy),
        retrieval: RetrievalSettings { candidates: 16 },
        answers: AnswerWay::Generated(writing(Strategy::Greedy)),
        thresholds: vec![0.1, 0.5, 0.9],
        precisions: vec![0.95],
        python: "a-python-that-is-not-there".to_owned(),
        bundle: None,
        examples: 3,
    }
}

fn number(scene: &Value, key: &str) -> f32 {
    scene[key].as_f64().unwrap() as f32
}

#[test]
fn scores_of_400_pairs_are_those_of_transformers() {
    let opened = Opened::new("models/starter/matcher");
    let class = Network { encoder_token: opened.tokenizer.tokens().class, ..opened.network() };
    let network = opened.network();
    for scenes in held_out().chunks(50) {
        let pictures: Vec<_> = scenes.iter().map(|(_, picture)| picture.clone()).collect();
        let seen = network.see(&opened.pixels(&pictures), pictures.len()).unwrap();
        let images = network.image_vectors(&seen).unwrap();
        let width = images.len() / pictures.len();
        for which in ["truth", "wrong"] {
            let texts: Vec<&str> = scenes.iter().map(|(scene, _)| scene[which].as_str().unwrap()).collect();
            let claims: Vec<Claim<'_>> =
                texts.iter().enumerate().map(|(picture, text)| Claim { picture, text }).collect();
            let vectors = network.text_vectors(&texts).unwrap();
            let itc = images.chunks_exact(width).zip(vectors.chunks_exact(width)).map(|(a, b)| judge::cosine(a, b));
            let enc = network.match_probabilities(&seen, &claims).unwrap();
            let cls = class.match_probabilities(&seen, &claims).unwrap();
            for (((itc, enc), cls), (scene, _)) in itc.zip(enc).zip(cls).zip(scenes) {
                for (name, found) in [("itc", itc), ("itm_enc", enc), ("itm_cls", cls)] {
                    let off = (found - number(scene, &format!("{name}_{which}"))).abs();
                    assert!(off <= 1e-4, "{name} {which} is off by {off}: {scene}");
                }
            }
        }
    }
}

#[test]
fn a_pair_scores_the_same_in_any_order_of_claims() {
    let opened = Opened::new("models/starter/matcher");
    let network = opened.network();
    let scenes: Vec<_> = held_out().into_iter().take(3).collect();
    let pictures: Vec<_> = scenes.iter().map(|(_, picture)| picture.clone()).collect();
    let seen = network.see(&opened.pixels(&pictures), 3).unwrap();
    let claims: Vec<Claim<'_>> = [2, 0, 2, 1, 0]
        .into_iter()
        .map(|picture| Claim { picture, text: scenes[picture].0["truth"].as_str().unwrap() })
        .collect();
    let found = network.match_probabilities(&seen, &claims).unwrap();
    for (claim, found) in claims.iter().zip(found) {
        assert!((found - number(&scenes[claim.picture].0, "itm_enc_truth")).abs() <= 1e-4);
    }
}

fn scenes(most: usize) -> Dataset {
    let pair = |(scene, _): (Value, _)| {
        let name = scene["file"].as_str().unwrap();
        let text = scene["truth"].as_str().unwrap().to_owned();
        Pair {
            key: name.to_owned(),
            picture: std::fs::read(repository(&format!("tests/goldens/starter/held-out/{name}"))).unwrap(),
            texts: vec![Text { text, origin: Origin::Web, score: None }],
            truth: None,
        }
    };
    Dataset::from_pairs(held_out().into_iter().take(most).map(pair)).unwrap()
}

#[test]
fn everything_is_measured_on_scenes() {
    let (captioner, matcher) = (Opened::new("models/starter/captioner"), Opened::new("models/starter/matcher"));
    let models = Models { captioner: Some(captioner.network()), matcher: Some(matcher.network()), answerer: None };
    let found = evaluate(&scenes(60), &models, &settings(), &Progress::Silent).unwrap();
    let captions = found.captions.as_ref().unwrap();
    let own = held_out().into_iter().take(60).filter(|(scene, _)| scene["greedy"] == scene["truth"]).count();
    assert!((captions.scores.exact - own as f64 / 60.0).abs() < 1e-9);
    assert!(captions.scores.cider > 1.0);
    let matching = found.matching.as_ref().unwrap();
    assert_eq!(matching.pairs, 120);
    assert!(matching.roc_auc > 0.95, "{matching:?}");
    let retrieval = found.retrieval.as_ref().unwrap();
    assert!(retrieval.texts_of_images.at_10 > 0.8 && retrieval.images_of_texts.at_10 > 0.8, "{retrieval:?}");

    let table = found.to_string();
    assert!(table.contains("captions, CIDEr") && table.contains("threshold"), "{table}");
    let html = found.sections(Page::new("scenes")).html();
    assert!(html.contains("What a threshold gives") && html.contains("Calibration"));
    let json = serde_json::to_string(&found).unwrap();
    assert_eq!(serde_json::from_str::<Evaluation>(&json).unwrap().captions, found.captions);
}

#[test]
fn a_program_that_is_not_there_is_named() {
    let captioner = Opened::new("models/starter/captioner");
    let models = Models { captioner: Some(captioner.network()), matcher: None, answerer: None };
    let bundle = BundleSettings {
        checkpoint: repository("models/starter/captioner"),
        exporter: "no-such-exporter".into(),
        runtime: "no-such-runtime".into(),
    };
    let settings = EvaluationSettings { bundle: Some(bundle), ..settings() };
    let error = evaluate(&scenes(2), &models, &settings, &Progress::Silent).unwrap_err().to_string();
    assert!(error.starts_with("no-such-exporter: is not there; build it with"), "{error}");
}

#[test]
fn a_dataset_without_questions_is_an_error_and_broken_pictures_are_counted() {
    let opened = Opened::new("models/starter/matcher");
    let models = Models { captioner: None, matcher: Some(opened.network()), answerer: None };
    let good = scenes(3).entries().len();
    let text = Text { text: "an owl".to_owned(), origin: Origin::Web, score: None };
    let broken = |key: &str| Pair {
        key: key.to_owned(),
        picture: b"\x89PNG\r\n\x1a\nno picture".to_vec(),
        texts: vec![text.clone()],
        truth: None,
    };
    let whole = Dataset::joined([scenes(3), Dataset::from_pairs([broken("a"), broken("b")]).unwrap()]).unwrap();
    let found = evaluate(&whole, &models, &settings(), &Progress::Silent).unwrap();
    assert_eq!((found.pictures, found.broken.count), (good + 2, 2));
    assert_eq!(found.retrieval.unwrap().images, good);
    let none = Dataset::from_pairs([broken("a")]).unwrap();
    let error = evaluate(&none, &models, &settings(), &Progress::Silent).unwrap_err().to_string();
    assert!(error.starts_with("no picture of the dataset can be read; the first: a: "), "{error}");
}

/// tiny-b's questions as a VQA json whose answers are those that transformers generates.
fn questions(folder: &std::path::Path) -> Dataset {
    let goldens = golden("tests/goldens/tiny-b/answerer.json");
    let mut rows = Vec::new();
    for entry in goldens["pictures"].as_array().unwrap() {
        let path = entry["picture"].as_str().unwrap();
        let name = path.rsplit('/').next().unwrap();
        std::fs::copy(repository(path), folder.join(name)).unwrap();
        for question in entry["questions"].as_array().unwrap() {
            if question["encoder_token"] == "ENC" {
                let answer = &question["runs"][1]["sequences"][0]["text"];
                let id = rows.len();
                rows.push(
                    json!({"image": name, "question": question["question"], "answer": [answer], "question_id": id}),
                );
            }
        }
    }
    let file = folder.join("questions.json");
    std::fs::write(&file, serde_json::to_string(&rows).unwrap()).unwrap();
    Dataset::open(file.to_str().unwrap(), &DatasetOptions::default()).unwrap()
}

#[test]
fn answers_are_those_of_transformers_and_judged_by_the_official_rule() {
    let (opened, folder) = (Opened::new("tests/goldens/tiny-b/answerer"), tempfile::tempdir().unwrap());
    let dataset = questions(folder.path());
    let models = Models { captioner: None, matcher: None, answerer: Some(opened.network()) };
    let generated = AnswerWay::Generated(writing(Strategy::Beam { beams: 3 }));
    let settings = EvaluationSettings { answers: generated, batch: 2, ..settings() };
    let found = evaluate(&dataset, &models, &settings, &Progress::Silent).unwrap().answers.unwrap();
    let expected: usize = dataset.entries().iter().map(|entry| entry.questions.len()).sum();
    assert_eq!((found.questions, found.answers.len()), (expected, expected));
    // The official rule takes "?" and articles from what the model says, but not from what people agree on.
    let mut plain = 0.0;
    for (answered, question) in found.answers.iter().zip(dataset.entries().iter().flat_map(|entry| &entry.questions)) {
        assert_eq!(answered.question_id, question.id);
        assert_eq!(answered.answer, question.answers[0].text);
        plain += f64::from(normalized_answer(&answered.answer) == answered.answer);
    }
    assert!((found.accuracy.unwrap() - plain / expected as f64).abs() < 1e-9, "{found:?}");

    let ranked = golden("trainer/tests/goldens/ranked_answers.json");
    let answers: Vec<String> = serde_json::from_value(ranked["answers"].clone()).unwrap();
    let settings = EvaluationSettings { answers: AnswerWay::Chosen { answers, read: 3 }, ..settings };
    let found = evaluate(&dataset, &models, &settings, &Progress::Silent).unwrap().answers.unwrap();
    assert_eq!(found.answers.len(), expected);
    assert!(found.accuracy.unwrap() < 1.0);
}

/// A program that is a shell script.
#[cfg(unix)]
fn program(folder: &std::path::Path, name: &str, script: &str) -> std::path::PathBuf {
    use std::os::unix::fs::PermissionsExt;
    let path = folder.join(name);
    std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

#[cfg(unix)]
#[test]
fn a_bundle_is_made_and_its_captions_are_compared() {
    let (captioner, folder) = (Opened::new("models/starter/captioner"), tempfile::tempdir().unwrap());
    let models = Models { captioner: Some(captioner.network()), matcher: None, answerer: None };
    let evaluated = |exporter: &str, runtime: &str| {
        let bundle = BundleSettings {
            checkpoint: repository("models/starter/captioner"),
            exporter: program(folder.path(), "exporter", exporter),
            runtime: program(folder.path(), "runtime", runtime),
        };
        let settings = EvaluationSettings { bundle: Some(bundle), ..settings() };
        evaluate(&scenes(3), &models, &settings, &Progress::Silent)
    };
    let exporter = "test \"$3\" = --out && mkdir \"$4\" && printf 12345 > \"$4/weights.bin\"";
    let runtime = "for last; do :; done
        for picture in \"$last\"/*; do
            echo \"{\\\"image\\\": \\\"$picture\\\", \\\"caption\\\": \\\"an owl to the left of an elephant at night\\\"}\"
        done";
    let found = evaluated(exporter, runtime).unwrap().bundle.unwrap();
    assert_eq!((found.pictures, found.bytes), (3, 5));
    assert!((found.equal - 1.0 / 3.0).abs() < 1e-9, "{found:?}");

    let error = evaluated("echo no room >&2; exit 3", runtime).unwrap_err().to_string();
    assert!(error.contains("exporter: failed with exit status: 3: no room"), "{error}");
    let error = evaluated(exporter, "echo hello").unwrap_err().to_string();
    assert!(error.contains("answers with something other than its JSON lines"), "{error}");
}
