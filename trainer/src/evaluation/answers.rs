//! Answers to questions about pictures.

use serde::{Deserialize, Serialize};

use super::{Broken, EvaluationError, Run};
use crate::dataset::Question;
use crate::engine::Device;
use crate::generation::{Network, Ranking, Writing};
use crate::metrics::{AnswerRule, vqa_accuracy};

/// People whose answers a question has. Source: Antol et al., arXiv 1505.00468, section 3.
const PEOPLE: f32 = 10.0;

/// How questions are answered.
#[derive(Clone, Debug)]
pub enum AnswerWay {
    /// Written word by word.
    Generated(Writing),
    /// Chosen from a list, as the authors evaluate.
    Chosen {
        /// The list.
        answers: Vec<String>,
        /// Answers that are read in full for each question.
        read: usize,
    },
}

/// A question and its answer, as VQA's server takes it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Answered {
    /// The file's number for the question, where there is one.
    pub question_id: Option<u64>,
    /// The answer.
    pub answer: String,
}

/// What was measured of answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AnswerFigures {
    /// Questions that people answered.
    pub questions: usize,
    /// VQA accuracy, 0 to 1; nothing where no question has answers.
    pub accuracy: Option<f64>,
    /// All answers, in the dataset's order.
    pub answers: Vec<Answered>,
}

pub(super) fn measure<D: Device>(
    run: &Run<'_>,
    answerer: &Network<'_, D>,
    broken: &mut Broken,
) -> Result<AnswerFigures, EvaluationError> {
    let (mut answers, mut scores) = (Vec::new(), Vec::new());
    run.each("answers", broken, |batch| {
        let pixels = batch.pixels(answerer.image_size(), &answerer.normalization);
        let seen = answerer.see(&pixels, batch.entries.len())?;
        let asked: Vec<(u32, &Question)> = (0..)
            .zip(&batch.entries)
            .flat_map(|(picture, entry)| run.dataset.entry(*entry).questions.iter().map(move |q| (picture, q)))
            .collect();
        for asked in asked.chunks(run.settings.batch.max(1)) {
            let rows: Vec<u32> = asked.iter().map(|(picture, _)| *picture).collect();
            let questions: Vec<String> = asked.iter().map(|(_, question)| question.text.clone()).collect();
            let seen = answerer.gather(&seen, &rows)?;
            let found: Vec<String> = match &run.settings.answers {
                AnswerWay::Generated(writing) => {
                    let seeds: Vec<u64> = (answers.len() as u64..).take(questions.len()).collect();
                    let written = answerer.answer(&seen, &questions, &seeds, writing)?.into_iter();
                    written.map(|texts| texts.into_iter().next().map(|text| text.text).unwrap_or_default()).collect()
                }
                AnswerWay::Chosen { answers, read } => {
                    let chosen = answerer.choose(&seen, &questions, &Ranking { answers, read: *read })?;
                    chosen.into_iter().map(|chosen| answers[chosen.answer].clone()).collect()
                }
            };
            for (answer, (_, question)) in found.into_iter().zip(asked) {
                if !question.answers.is_empty() {
                    scores.push(vqa_accuracy(&answer, &people(question), AnswerRule::Official)?);
                }
                answers.push(Answered { question_id: question.id, answer });
            }
        }
        Ok(())
    })?;
    if answers.is_empty() {
        return Err(EvaluationError::Nothing { what: "questions" });
    }
    let accuracy = (!scores.is_empty()).then(|| scores.iter().sum::<f64>() / scores.len() as f64);
    Ok(AnswerFigures { questions: scores.len(), accuracy, answers })
}

/// The answers as ten people gave them: one that a dataset has alone counts as everybody's.
fn people(question: &Question) -> Vec<String> {
    let total: f32 = question.answers.iter().map(|answer| answer.weight).sum();
    let count = |weight: f32| (weight / total * PEOPLE).round().max(1.0) as usize;
    question.answers.iter().flat_map(|answer| vec![answer.text.clone(); count(answer.weight)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::Answer;

    #[test]
    fn answers_are_counted_as_ten_people() {
        let answer = |text: &str, weight| Answer { text: text.to_owned(), weight };
        let question = Question { text: String::new(), id: None, answers: vec![answer("2", 0.7), answer("3", 0.3)] };
        assert_eq!(people(&question), ["2", "2", "2", "2", "2", "2", "2", "3", "3", "3"]);
        let alone = Question { answers: vec![answer("grass", 0.2)], ..question };
        assert_eq!(people(&alone).len(), 10);
    }
}
