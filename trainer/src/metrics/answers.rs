//! VQA accuracy: how many of ten people gave the same answer.
//!
//! Source: Antol et al. 2015 (arXiv 1505.00468), section 3, and the official `vqaEval.py` (GT-Vision-Lab/VQA,
//! `PythonEvaluationTools/vqaEvaluation`, as LAVIS carries it in `lavis/common/vqa_tools/vqa_eval.py`).

use super::MetricError;
use super::contractions::CONTRACTIONS;

/// What is done to people's answers before they are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnswerRule {
    /// As the official code: punctuation, and only where people disagree; articles and number words stay, since the
    /// official annotations have none.
    Official,
    /// All that is done to the model's answer: for annotations that are as people wrote them ("a cat", "Two").
    BothNormalized,
}

/// The accuracy of one answer, 0 to 1: `min(n / 3, 1)`, where `n` of the others agree, averaged over leaving each
/// person out once.
///
/// # Errors
/// No reference.
pub fn vqa_accuracy(answer: &str, people: &[String], rule: AnswerRule) -> Result<f64, MetricError> {
    if people.is_empty() {
        return Err(MetricError::NoReference { what: "VQA accuracy", index: 0 });
    }
    let answer = normalized_answer(answer);
    let agree = people.iter().all(|other| *other == people[0]);
    let normalized = |text: &String| match rule {
        AnswerRule::Official if agree => text.clone(),
        AnswerRule::Official => without_punctuation(text),
        AnswerRule::BothNormalized => normalized_answer(text),
    };
    let same: Vec<bool> = people.iter().map(|text| normalized(text) == answer).collect();
    let all = same.iter().filter(|same| **same).count();
    let without = |same: &bool| ((all - usize::from(*same)) as f64 / 3.0).min(1.0);
    Ok(same.iter().map(without).sum::<f64>() / people.len() as f64)
}

/// A model's answer as it is compared: lower case, without articles and punctuation, number words as digits,
/// contractions with their apostrophes.
///
/// Source: `processPunctuation`, then `processDigitArticle`.
pub fn normalized_answer(answer: &str) -> String {
    let answer = answer.replace(['\n', '\t'], " ");
    let answer = without_punctuation(answer.trim()).to_lowercase();
    let words = answer.split_whitespace().map(number).filter(|word| !["a", "an", "the"].contains(word));
    words.map(contracted).collect::<Vec<_>>().join(" ")
}

/// Source: `processPunctuation`. A period goes where no digit follows; the original's count of 32 is kept.
fn without_punctuation(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let has_grouped_digits =
        chars.windows(3).any(|three| three[0].is_numeric() && three[1] == ',' && three[2].is_numeric());
    let mut out = text.to_owned();
    for mark in PUNCTUATION {
        let is_at_a_space = text.contains(&format!("{mark} ")) || text.contains(&format!(" {mark}"));
        out = out.replace(mark, if is_at_a_space || has_grouped_digits { "" } else { " " });
    }
    let mut left = MOST_PERIODS;
    let mut kept = String::with_capacity(out.len());
    let mut rest = out.chars().peekable();
    while let Some(c) = rest.next() {
        let goes = c == '.' && left > 0 && !rest.peek().is_some_and(|next| next.is_numeric());
        if goes {
            left -= 1;
        } else {
            kept.push(c);
        }
    }
    kept
}

const PUNCTUATION: [char; 21] =
    [';', '/', '[', ']', '"', '{', '}', '(', ')', '=', '+', '\\', '_', '-', '>', '<', '@', '`', ',', '?', '!'];
/// The original hands the flag `re.UNICODE`, which is 32, to `sub` where it takes a count.
const MOST_PERIODS: usize = 32;

fn number(word: &str) -> &str {
    match word {
        "none" | "zero" => "0",
        "one" => "1",
        "two" => "2",
        "three" => "3",
        "four" => "4",
        "five" => "5",
        "six" => "6",
        "seven" => "7",
        "eight" => "8",
        "nine" => "9",
        "ten" => "10",
        other => other,
    }
}

fn contracted(word: &str) -> &str {
    CONTRACTIONS.binary_search_by_key(&word, |(without, _)| without).map_or(word, |place| CONTRACTIONS[place].1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn people(answers: &[&str]) -> Vec<String> {
        answers.iter().map(|answer| (*answer).to_owned()).collect()
    }

    #[test]
    fn three_of_ten_people_leave_nine_tenths() {
        let people = people(&["cat", "cat", "cat", "dog", "dog", "dog", "dog", "dog", "dog", "dog"]);
        let accuracy = vqa_accuracy("A cat.", &people, AnswerRule::Official).unwrap();
        assert!((accuracy - 0.9).abs() < 1e-12);
        assert_eq!(vqa_accuracy("dog", &people, AnswerRule::Official).unwrap(), 1.0);
        assert_eq!(vqa_accuracy("cow", &people, AnswerRule::Official).unwrap(), 0.0);
    }

    #[test]
    fn an_article_in_a_reference_matters_only_to_the_official_rule() {
        let people = people(&["a cat"; 4]);
        assert_eq!(vqa_accuracy("a cat", &people, AnswerRule::Official).unwrap(), 0.0);
        assert_eq!(vqa_accuracy("a cat", &people, AnswerRule::BothNormalized).unwrap(), 1.0);
    }

    #[test]
    fn contractions_are_in_order() {
        assert!(CONTRACTIONS.is_sorted());
    }
}
