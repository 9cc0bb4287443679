//! Against pycocoevalcap, scikit-learn and the official VQA code: `tests/reference/metrics.py`.

use serde::Deserialize;

use super::*;

#[derive(Deserialize)]
struct Golden {
    tokens: Vec<(String, String)>,
    captions: Vec<GoldenCaptions>,
    meteor_of_last: f64,
    vqa: GoldenAnswers,
    matching: Vec<GoldenMatching>,
}

#[derive(Deserialize)]
struct GoldenCaptions {
    candidates: Vec<String>,
    references: Vec<Vec<String>>,
    bleu: [f64; 4],
    bleus: Vec<[f64; 4]>,
    cider: f64,
    ciders: Vec<f64>,
    rouge: f64,
    rouges: Vec<f64>,
}

impl GoldenCaptions {
    fn set(&self) -> CaptionSet {
        let pictures = self.candidates.iter().cloned().zip(self.references.iter().cloned());
        CaptionSet::of_tokens(pictures.map(|(candidate, references)| Captioned { candidate, references }).collect())
            .unwrap()
    }
}

#[derive(Deserialize)]
struct GoldenAnswers {
    cases: Vec<GoldenAnswer>,
    normalized: Vec<(String, String)>,
}

#[derive(Deserialize)]
struct GoldenAnswer {
    answer: String,
    people: Vec<String>,
    accuracy: f64,
}

#[derive(Deserialize)]
struct GoldenMatching {
    scores: Vec<f64>,
    labels: Vec<bool>,
    roc_auc: f64,
    average_precision: f64,
    bin_scores: Vec<f64>,
    bin_matches: Vec<f64>,
}

fn golden() -> Golden {
    serde_json::from_str(include_str!("../../tests/goldens/metrics.json")).unwrap()
}

#[track_caller]
fn assert_near(found: f64, expected: f64, what: &str) {
    assert!((found - expected).abs() < 1e-7, "{what}: {found} instead of {expected}");
}

#[test]
fn bleu_cider_and_rouge_are_those_of_pycocoevalcap() {
    let golden = golden();
    assert!(golden.captions.len() >= 60);
    for (number, expected) in golden.captions.iter().enumerate() {
        let set = expected.set();
        let (bleu, cider, rouge) = (set.bleu(), set.cider(), set.rouge_l());
        assert_near(cider.mean, expected.cider, &format!("CIDEr of set {number}"));
        assert_near(rouge.mean, expected.rouge, &format!("ROUGE-L of set {number}"));
        for n in 0..4 {
            assert_near(bleu.corpus[n], expected.bleu[n], &format!("BLEU-{} of set {number}", n + 1));
        }
        for picture in 0..expected.candidates.len() {
            let what = format!("set {number}, picture {picture}");
            assert_near(cider.each[picture], expected.ciders[picture], &what);
            assert_near(rouge.each[picture], expected.rouges[picture], &what);
            (0..4).for_each(|n| assert_near(bleu.each[picture][n], expected.bleus[picture][n], &what));
        }
    }
}

#[test]
fn words_are_those_of_the_penn_treebank_tokenizer() {
    let wrong: Vec<_> = golden().tokens.into_iter().filter(|(text, expected)| tokenized(text) != *expected).collect();
    let shown: Vec<_> = wrong
        .iter()
        .map(|(text, expected)| format!("{text:?}: {:?} instead of {expected:?}", tokenized(text)))
        .collect();
    assert!(wrong.is_empty(), "\n{}", shown.join("\n"));
}

#[test]
fn meteor_is_that_of_pycocoevalcap_where_it_can_run() {
    let golden = golden();
    match meteor(&golden.captions[golden.captions.len() - 1].set(), "python3") {
        JavaScore::Measured(score) => assert_near(score, golden.meteor_of_last, "METEOR"),
        JavaScore::NotMeasured { why } => assert!(why.contains("install"), "{why}"),
    }
}

#[test]
fn answers_are_judged_as_the_official_code_judges_them() {
    let GoldenAnswers { cases, normalized } = golden().vqa;
    for (text, expected) in normalized {
        assert_eq!(normalized_answer(&text), expected, "{text:?}");
    }
    for GoldenAnswer { answer, people, accuracy } in cases {
        let found = vqa_accuracy(&answer, &people, AnswerRule::Official).unwrap();
        assert_near(found, accuracy, &format!("{answer:?} against {people:?}"));
    }
}

#[test]
fn ranking_and_calibration_are_those_of_scikit_learn() {
    for expected in golden().matching {
        let pairs = expected.scores.iter().copied().zip(expected.labels.iter().copied());
        let judged = Judgements::new(pairs).unwrap();
        assert_near(judged.roc_auc(), expected.roc_auc, "ROC AUC");
        assert_near(judged.average_precision(), expected.average_precision, "average precision");
        let calibration = judged.calibration(10);
        let filled: Vec<&Bin> = calibration.bins.iter().filter(|bin| bin.pairs > 0).collect();
        assert_eq!(filled.len(), expected.bin_scores.len());
        for (place, bin) in filled.iter().enumerate() {
            assert_near(bin.score, expected.bin_scores[place], "mean score of a bin");
            assert_near(bin.matches, expected.bin_matches[place], "share of matches of a bin");
        }
    }
}
