use blip::decoding::Strategy;
use blip::pixels::Rgb8;
use serde_json::Value;

use super::checkpoints::{Opened, golden, held_out, repository};
use super::*;

fn options(strategy: Strategy) -> DecodingOptions {
    DecodingOptions {
        strategy,
        repetition_penalty: 1.0,
        no_repeat_ngram: 0,
        min_length: 0,
        max_length: 20,
        length_penalty: 1.0,
    }
}

fn plain(strategy: Strategy) -> Writing {
    Writing { prompt: String::new(), options: options(strategy), texts: 1 }
}

fn ids(value: &Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect()
}

#[test]
fn captions_of_200_scenes_are_those_of_transformers() {
    let opened = Opened::new("models/starter/captioner");
    let network = opened.network();
    for scenes in held_out().chunks(40) {
        let pictures: Vec<Rgb8> = scenes.iter().map(|(_, picture)| picture.clone()).collect();
        let seen = network.see(&opened.pixels(&pictures), pictures.len()).unwrap();
        let seeds = vec![0; pictures.len()];
        for (name, strategy) in [("greedy_ids", Strategy::Greedy), ("beam3_ids", Strategy::Beam { beams: 3 })] {
            let found = network.write(&seen, &seeds, &plain(strategy)).unwrap();
            for (found, (scene, _)) in found.iter().zip(scenes) {
                assert_eq!(found[0].ids, ids(&scene[name]), "{name} {scene}");
            }
        }
    }
}

/// What a golden run asks for.
fn writing(run: &Value) -> Writing {
    let settings = &run["settings"];
    let size = |key: &str| settings[key].as_u64().unwrap() as usize;
    let number = |key: &str| settings[key].as_f64().unwrap() as f32;
    let strategy = match size("num_beams") {
        1 => Strategy::Greedy,
        beams => Strategy::Beam { beams },
    };
    let options = DecodingOptions {
        strategy,
        repetition_penalty: number("repetition_penalty"),
        no_repeat_ngram: size("no_repeat_ngram_size"),
        min_length: size("min_length"),
        max_length: size("max_length"),
        length_penalty: number("length_penalty"),
    };
    Writing {
        prompt: run["prompt"].as_str().unwrap_or_default().to_owned(),
        options,
        texts: size("num_return_sequences"),
    }
}

fn check(run: &Value, found: &[Written]) {
    let expected = run["sequences"].as_array().unwrap();
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(expected) {
        assert_eq!(found.ids, ids(&expected["ids"]), "{run}");
        let off = f64::from(found.log_prob) - expected["log_prob"].as_f64().unwrap();
        assert!(off.abs() < 1e-3, "log-probability off by {off}: {run}");
    }
}

fn golden_pictures(goldens: &Value) -> (Vec<Rgb8>, &[Value]) {
    let entries = goldens["pictures"].as_array().unwrap();
    let open = |entry: &Value| picture::open(&repository(entry["picture"].as_str().unwrap())).unwrap();
    (entries.iter().map(open).collect(), entries)
}

#[test]
fn every_way_to_caption_gives_the_answers_of_transformers() {
    for family in ["tiny-a", "tiny-b", "tiny-c"] {
        let goldens = golden(&format!("tests/goldens/{family}/captioner.json"));
        let opened = Opened::new(goldens["checkpoint"].as_str().unwrap());
        let (pictures, entries) = golden_pictures(&goldens);
        let seen = opened.network().see(&opened.pixels(&pictures), pictures.len()).unwrap();
        for run in 0..entries[0]["runs"].as_array().unwrap().len() {
            let writing = writing(&entries[0]["runs"][run]);
            let found = opened.network().write(&seen, &vec![0; pictures.len()], &writing).unwrap();
            for (found, entry) in found.iter().zip(entries) {
                check(&entry["runs"][run], found);
            }
        }
    }
}

#[test]
fn answers_to_questions_of_different_lengths_are_those_of_transformers() {
    for family in ["tiny-b", "tiny-c"] {
        let goldens = golden(&format!("tests/goldens/{family}/answerer.json"));
        let opened = Opened::new(goldens["checkpoint"].as_str().unwrap());
        let special = opened.tokenizer.tokens();
        let (pictures, entries) = golden_pictures(&goldens);
        for (token, name) in [(special.class, "CLS"), (special.encoder_start, "ENC")] {
            let network = Network { encoder_token: token, ..opened.network() };
            // Every picture with every question, in one batch.
            let (mut seen_pictures, mut questions, mut runs) = (Vec::new(), Vec::new(), Vec::new());
            for (picture, entry) in pictures.iter().zip(entries) {
                for question in entry["questions"].as_array().unwrap() {
                    if question["encoder_token"] == name {
                        seen_pictures.push(picture.clone());
                        questions.push(question["question"].as_str().unwrap().to_owned());
                        runs.push(&question["runs"]);
                    }
                }
            }
            let seen = network.see(&opened.pixels(&seen_pictures), seen_pictures.len()).unwrap();
            for run in 0..2 {
                let seeds = vec![0; questions.len()];
                let found = network.answer(&seen, &questions, &seeds, &writing(&runs[0][run])).unwrap();
                for (found, runs) in found.iter().zip(&runs) {
                    check(&runs[run], found);
                }
            }
        }
    }
}

#[test]
fn texts_do_not_depend_on_the_batch_to_the_last_bit() {
    let opened = Opened::new("models/starter/captioner");
    let network = opened.network();
    let pictures: Vec<Rgb8> = held_out().into_iter().map(|(_, picture)| picture).take(14).collect();
    let nucleus = Strategy::Nucleus { top_p: 0.9, temperature: 1.0, top_k: None };
    for (strategy, texts) in [(nucleus, 3), (Strategy::Beam { beams: 3 }, 2), (Strategy::Greedy, 1)] {
        let options = DecodingOptions { repetition_penalty: 1.1, min_length: 5, ..options(strategy) };
        let writing = Writing { prompt: "a".to_owned(), options, texts };
        let run = |size: usize| {
            let mut all = Vec::new();
            for (batch, pictures) in pictures.chunks(size).enumerate() {
                let seen = network.see(&opened.pixels(pictures), pictures.len()).unwrap();
                let seeds: Vec<u64> = (0..pictures.len()).map(|place| (batch * size + place) as u64).collect();
                all.extend(network.write(&seen, &seeds, &writing).unwrap());
            }
            all
        };
        let alone = run(1);
        for size in [7, 14] {
            for (alone, together) in alone.iter().flatten().zip(run(size).iter().flatten()) {
                assert_eq!(alone.ids, together.ids);
                assert_eq!(alone.log_prob.to_bits(), together.log_prob.to_bits(), "{alone:?} {together:?}");
            }
        }
        assert!(alone.iter().flatten().all(|text| text.ids.len() >= 5));
    }
}

#[test]
fn the_best_answer_of_a_list_is_the_one_of_the_reference() {
    let goldens = golden("trainer/tests/goldens/ranked_answers.json");
    let opened = Opened::new("tests/goldens/tiny-b/answerer");
    let answers: Vec<String> = serde_json::from_value(goldens["answers"].clone()).unwrap();
    for case in goldens["found"].as_array().unwrap() {
        let file = format!("tests/goldens/pictures/{}", case["picture"].as_str().unwrap());
        let seen = opened.network().see(&opened.pixels(&[picture::open(&repository(&file)).unwrap()]), 1).unwrap();
        let ranking = Ranking { answers: &answers, read: case["read"].as_u64().unwrap() as usize };
        let question = case["question"].as_str().unwrap().to_owned();
        let found = opened.network().choose(&seen, &[question], &ranking).unwrap()[0];
        assert_eq!(found.answer as u64, case["best"].as_u64().unwrap(), "{case}");
        assert!((found.loss - case["loss"].as_f64().unwrap()).abs() < 1e-3, "{found:?} {case}");
    }
}

#[test]
fn what_a_model_cannot_do_is_said() {
    let opened = Opened::new("models/starter/matcher");
    let seen = opened.network().see(&opened.pixels(&[held_out().swap_remove(0).1]), 1).unwrap();
    let error = opened.network().write(&seen, &[0], &plain(Strategy::Greedy)).unwrap_err();
    assert_eq!(error.to_string(), "the model has no text decoder: give a captioner or an answerer");
    let opened = Opened::new("models/starter/captioner");
    let seen = opened.network().see(&opened.pixels(&[held_out().swap_remove(0).1]), 1).unwrap();
    let mut long = plain(Strategy::Greedy);
    long.options.max_length = 33;
    let error = opened.network().write(&seen, &[0], &long).unwrap_err();
    assert!(error.to_string().starts_with("max length is 33 tokens, the model has 32 positions"), "{error}");
}
