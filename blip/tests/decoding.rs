//! Decoding against the answers of Hugging Face's `generate`, recorded by `goldens/decoding.py`.

#![allow(clippy::unwrap_used, reason = "a golden that cannot be read fails the test")]

use std::convert::Infallible;

use blip::decoding::{Decoded, DecodingError, DecodingOptions, LanguageModel, Search, Strategy, decode};
use serde_json::Value;

const GOLDENS: &str = include_str!("goldens/decoding.json");

/// The language model of the goldens: logits are sums of three table rows.
struct Tables {
    last: Vec<Vec<f32>>,
    before: Vec<Vec<f32>>,
    position: Vec<Vec<f32>>,
    rows: Vec<Vec<u32>>,
    steps: usize,
}

impl Tables {
    fn read(golden: &Value) -> Tables {
        let table = |name: &str| serde_json::from_value(golden[name].clone()).unwrap();
        Tables { last: table("last"), before: table("before"), position: table("position"), rows: Vec::new(), steps: 0 }
    }

    fn logits(&self) -> Vec<f32> {
        let mut all = Vec::new();
        for row in &self.rows {
            let last = row[row.len() - 1] as usize;
            let before = row[row.len().saturating_sub(2)] as usize;
            let position = &self.position[row.len() % self.position.len()];
            let sums = self.last[last].iter().zip(&self.before[before]).zip(position);
            all.extend(sums.map(|((last, before), position)| last + before + position));
        }
        all
    }
}

impl LanguageModel for Tables {
    type Error = Infallible;

    fn start(&mut self, prompt: &[u32]) -> Result<Vec<f32>, Infallible> {
        self.rows = vec![prompt.to_vec()];
        self.steps = 1;
        Ok(self.logits())
    }

    fn step(&mut self, rows: &[(usize, u32)]) -> Result<Vec<f32>, Infallible> {
        let grown = |&(parent, token): &(usize, u32)| [&self.rows[parent][..], &[token]].concat();
        self.rows = rows.iter().map(grown).collect();
        self.steps += 1;
        Ok(self.logits())
    }
}

fn goldens() -> (Value, Vec<Tables>, u32) {
    let goldens: Value = serde_json::from_str(GOLDENS).unwrap();
    let models = goldens["models"].as_array().unwrap().iter().map(Tables::read).collect();
    let end = goldens["end"].as_u64().unwrap() as u32;
    (goldens, models, end)
}

fn options(strategy: Strategy) -> DecodingOptions {
    DecodingOptions {
        strategy,
        repetition_penalty: 1.0,
        no_repeat_ngram: 0,
        min_length: 0,
        max_length: 14,
        length_penalty: 1.0,
    }
}

#[test]
fn greedy_and_beams_give_the_captions_and_scores_of_the_reference() {
    let (goldens, mut models, end) = goldens();
    let cases = goldens["searches"].as_array().unwrap();
    assert_eq!(cases.len(), 224);
    for case in cases {
        let size = |name: &str| case[name].as_u64().unwrap() as usize;
        let number = |name: &str| case[name].as_f64().unwrap() as f32;
        let beams = size("beams");
        // One beam goes both ways: the reference calls it greedy.
        let strategies =
            if beams == 1 { vec![Strategy::Greedy, Strategy::Beam { beams }] } else { vec![Strategy::Beam { beams }] };
        for strategy in strategies {
            let options = DecodingOptions {
                strategy,
                repetition_penalty: number("repetition_penalty"),
                no_repeat_ngram: size("no_repeat_ngram_size"),
                min_length: size("min_length"),
                max_length: size("max_length"),
                length_penalty: number("length_penalty"),
            };
            let prompt: Vec<u32> = serde_json::from_value(case["prompt"].clone()).unwrap();
            let search = Search { prompt: &prompt, end, options: &options, seed: 0, captions: size("captions") };
            let found = decode(&mut models[size("model")], &search).unwrap();
            let expected = case["answers"].as_array().unwrap();
            assert_eq!(found.len(), expected.len());
            for (found, expected) in found.iter().zip(expected) {
                let tokens: Vec<u32> = serde_json::from_value(expected["tokens"].clone()).unwrap();
                assert_eq!(found.tokens, tokens, "{case}");
                let log_prob = expected["log_prob"].as_f64().unwrap();
                assert!((f64::from(found.log_prob) - log_prob).abs() < 1e-5, "{found:?} {case}");
                let score = expected["score"].as_f64().unwrap_or(log_prob);
                assert!((f64::from(found.score) - score).abs() < 1e-5, "{found:?} {case}");
            }
        }
    }
}

#[test]
fn beams_stop_when_no_open_hypothesis_can_win() {
    let (_, mut models, end) = goldens();
    let options = DecodingOptions { max_length: 200, ..options(Strategy::Beam { beams: 2 }) };
    let search = Search { prompt: &[1], end, options: &options, seed: 0, captions: 1 };
    decode(&mut models[1], &search).unwrap();
    assert!(models[1].steps < 199, "{} steps", models[1].steps);
}

fn sample(model: &mut Tables, end: u32, seed: u64, captions: usize) -> Vec<Decoded> {
    let options = options(Strategy::Nucleus { top_p: 0.9, temperature: 1.0, top_k: None });
    decode(model, &Search { prompt: &[1], end, options: &options, seed, captions }).unwrap()
}

#[test]
fn nucleus_samples_of_a_seed_are_fixed_forever() {
    let (_, mut models, end) = goldens();
    let tokens: Vec<Vec<u32>> = sample(&mut models[0], end, 7, 4).into_iter().map(|caption| caption.tokens).collect();
    let expected: [&[u32]; 4] = [
        &[1, 2],
        &[1, 7, 11, 1, 2],
        &[1, 7, 13, 5, 6, 6, 4, 11, 11, 11, 11, 11, 9, 4],
        &[1, 12, 11, 11, 11, 11, 11, 11, 11, 11, 13, 7, 7, 0],
    ];
    assert_eq!(tokens, expected);
}

#[test]
fn a_nucleus_sample_does_not_depend_on_how_many_are_drawn() {
    let (_, mut models, end) = goldens();
    let many = sample(&mut models[0], end, 3, 40);
    for captions in 1..10 {
        assert_eq!(sample(&mut models[0], end, 3, captions), many[..captions]);
    }
    assert_ne!(sample(&mut models[0], end, 4, 40), many);
}

#[test]
fn first_sampled_tokens_come_as_often_as_the_nucleus_says() {
    let (_, mut models, end) = goldens();
    let logits = models[0].start(&[1]).unwrap();
    let weights: Vec<f64> = logits.iter().map(|&logit| f64::from(logit).exp()).collect();
    let total: f64 = weights.iter().sum();
    let mut order: Vec<usize> = (0..weights.len()).collect();
    order.sort_by(|&a, &b| weights[b].total_cmp(&weights[a]));
    let mut kept = 0.0;
    let nucleus = order.iter().position(|&token| {
        kept += weights[token];
        kept >= 0.9 * total
    });
    let nucleus = &order[..=nucleus.unwrap()];
    let mut counts = vec![0_u32; weights.len()];
    for seed in 0..300 {
        for caption in sample(&mut models[0], end, seed, 20) {
            counts[caption.tokens[1] as usize] += 1;
        }
    }
    for (token, &count) in counts.iter().enumerate() {
        let share = if nucleus.contains(&token) { weights[token] / kept } else { 0.0 };
        let deviation = (6000.0 * share * (1.0 - share)).sqrt();
        assert!((f64::from(count) - 6000.0 * share).abs() <= 5.0 * deviation, "{token}: {count} of 6000, {share}");
    }
}

/// Answers the same row of logits whatever it reads.
struct Fixed(Vec<f32>);

impl LanguageModel for Fixed {
    type Error = std::io::Error;

    fn start(&mut self, _prompt: &[u32]) -> Result<Vec<f32>, std::io::Error> {
        if self.0.is_empty() { Err(std::io::Error::other("out of order")) } else { Ok(self.0.clone()) }
    }

    fn step(&mut self, rows: &[(usize, u32)]) -> Result<Vec<f32>, std::io::Error> {
        Ok(self.0.repeat(rows.len()))
    }
}

const STRATEGIES: [Strategy; 3] =
    [Strategy::Greedy, Strategy::Beam { beams: 3 }, Strategy::Nucleus { top_p: 0.9, temperature: 1.0, top_k: Some(3) }];

fn failure(logits: &[f32], prompt: &[u32], options: &DecodingOptions) -> String {
    let search = Search { prompt, end: 1, options, seed: 0, captions: 1 };
    match decode(&mut Fixed(logits.to_vec()), &search) {
        Err(error) => error.to_string(),
        Ok(found) => panic!("{found:?}"),
    }
}

#[test]
fn logits_without_a_maximum_are_an_error() {
    for strategy in STRATEGIES {
        let options = options(strategy);
        for logits in [[f32::NEG_INFINITY; 4], [f32::NAN; 4], [0.0, f32::INFINITY, 0.0, 0.0], [0.0, 0.0, f32::NAN, 0.0]]
        {
            let message = failure(&logits, &[0], &options);
            assert!(message.starts_with("the logits after 1 tokens have no maximum"), "{message}");
        }
    }
}

#[test]
fn impossible_prompts_and_answers_are_errors() {
    for strategy in STRATEGIES {
        let options = options(strategy);
        assert!(failure(&[0.0; 4], &[], &options).starts_with("the prompt is empty"));
        let message = failure(&[0.0; 4], &[0; 14], &options);
        assert!(
            message.starts_with("the prompt has 14 tokens, start token included, and max_length is 14"),
            "{message}"
        );
        assert!(failure(&[0.0], &[0], &options).starts_with("the model gave 1 logits for 1 rows"));
        assert_eq!(failure(&[], &[0], &options), "the model failed after 1 tokens");
    }
}

#[test]
fn rules_that_forbid_every_token_are_an_error() {
    for strategy in STRATEGIES {
        let options = DecodingOptions { no_repeat_ngram: 1, min_length: 10, ..options(strategy) };
        let message = failure(&[0.0; 4], &[0], &options);
        assert_eq!(message, "no token is allowed after 3 tokens: relax no_repeat_ngram or min_length");
    }
}

#[test]
fn a_beam_search_that_runs_out_of_tokens_returns_what_it_finished() {
    let options = DecodingOptions { no_repeat_ngram: 1, ..options(Strategy::Beam { beams: 3 }) };
    let search = Search { prompt: &[0], end: 1, options: &options, seed: 0, captions: 3 };
    let found = decode(&mut Fixed(vec![0.0, 0.0, 3.0]), &search).unwrap();
    let tokens: Vec<&[u32]> = found.iter().map(|caption| &caption.tokens[..]).collect();
    assert_eq!(tokens, [&[0, 2, 1][..], &[0, 1]]);
}

#[test]
fn more_captions_than_a_strategy_can_give_are_refused() {
    for (strategy, captions) in [(STRATEGIES[0], 2), (STRATEGIES[1], 4), (STRATEGIES[2], 65), (STRATEGIES[2], 0)] {
        let options = options(strategy);
        let search = Search { prompt: &[0], end: 1, options: &options, seed: 0, captions };
        let error = decode(&mut Fixed(vec![0.0; 4]), &search).unwrap_err();
        assert!(matches!(error, DecodingError::Options(_)), "{error}");
        assert!(error.to_string().starts_with("captions is"), "{error}");
    }
}
