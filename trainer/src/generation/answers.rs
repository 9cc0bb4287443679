//! Which answer of a given list fits best.
//!
//! Source: BLIP `models/blip_vqa.py`, `rank_answer`.

use blip::config::TextConfig;
use rayon::prelude::*;

use super::{GenerationError, Network, Seen, cut_to, padded};
use crate::engine::{Device, Order};
use crate::model::{Continued, Pass, Texts};
use crate::tape::Tape;

/// Label smoothing of the loss that answers are ranked by. Source: BLIP `models/med.py`, `BertLMHeadModel.forward`, whose
/// loss `rank_answer` reads.
pub const RANK_SMOOTHING: f64 = 0.1;
/// Answers that are read in one pass.
const ANSWERS_A_PASS: usize = 128;

/// A list of answers, and how many of them are read in full.
pub struct Ranking<'a> {
    /// The answers.
    pub answers: &'a [String],
    /// For each question, as many answers with the likeliest first token are read to their end. Source: BLIP
    /// `configs/vqa.yaml`, `k_test: 128`.
    pub read: usize,
}

/// The best answer of a list.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Chosen {
    /// Its place in the list.
    pub answer: usize,
    /// The loss that it was chosen by, summed over its tokens.
    pub loss: f64,
}

impl<D: Device> Network<'_, D> {
    /// For each picture and question the best answer.
    ///
    /// # Errors
    /// As [`Network::answer`]; no answers to choose from.
    pub fn choose(
        &self,
        seen: &Seen<D>,
        questions: &[String],
        ranking: &Ranking<'_>,
    ) -> Result<Vec<Chosen>, GenerationError> {
        let (decoder, head) = self.decoder()?;
        let asked = self.ask(seen, questions)?;
        let special = self.tokenizer.tokens();
        let mut answers = Vec::with_capacity(ranking.answers.len());
        for answer in ranking.answers {
            let ids = self.tokenizer.classified(answer, special.decoder_start)?;
            answers.push(cut_to(ids, decoder.config.positions, special.separator));
        }
        if answers.is_empty() || ranking.read == 0 {
            return Err(GenerationError::Count { what: "answers", found: 0, pictures: questions.len() });
        }
        let mut tape = Tape::forgetting(self.device, self.parameters);
        let mut cache = decoder.read(&mut tape, &asked.memory())?;
        let starts = vec![special.decoder_start; questions.len()];
        let first = Continued { parents: None, ids: &starts, tokens: 1 };
        let states = decoder.advance(&mut tape, &mut cache, &first)?;
        let logits = self.device.download(&head.forward(&mut tape, &states, questions.len())?.buffer)?;
        let rows = logits.chunks_exact(decoder.config.vocabulary_size).enumerate();
        rows.map(|(question, logits)| {
            let candidates = likeliest(logits, &answers, ranking.read);
            let mut best = Chosen { answer: candidates[0], loss: f64::INFINITY };
            for some in candidates.chunks(ANSWERS_A_PASS) {
                let texts: Vec<&Vec<u32>> = some.iter().map(|candidate| &answers[*candidate]).collect();
                for (loss, candidate) in self.losses(&asked, question, &texts)?.into_iter().zip(some) {
                    if loss < best.loss {
                        best = Chosen { answer: *candidate, loss };
                    }
                }
            }
            Ok(best)
        })
        .collect()
    }

    /// The loss of each text as what is written about a sample, summed over its tokens.
    fn losses(&self, asked: &super::Asked<D>, sample: usize, texts: &[&Vec<u32>]) -> Result<Vec<f64>, GenerationError> {
        let (decoder, head) = self.decoder()?;
        let TextConfig { vocabulary_size, .. } = decoder.config;
        let rows: Vec<Vec<u32>> = texts.iter().map(|text| (*text).clone()).collect();
        let (ids, counts, tokens) = padded(&rows, self.tokenizer.tokens().pad);
        let samples = self.device.upload_indices(&vec![sample as u32; texts.len()])?;
        let lengths = self.device.gather_indices(&asked.lengths, &samples, 1)?;
        let mut memory = asked.memory();
        memory.rows = Some(&samples);
        memory.lengths = Some(&lengths);
        let counts = self.device.upload_indices(&counts)?;
        let batch = Texts { ids: &self.device.upload_indices(&ids)?, lengths: &counts, batch: texts.len(), tokens };
        let mut tape = Tape::forgetting(self.device, self.parameters);
        let states = decoder.forward(&mut tape, &batch, Some(&memory), Order::Causal, Pass::still())?;
        let logits = self.device.download(&head.forward(&mut tape, &states, texts.len() * tokens)?.buffer)?;
        let each = texts.par_iter().zip(logits.par_chunks_exact(tokens * vocabulary_size));
        Ok(each.map(|(text, logits)| loss(text, logits, vocabulary_size)).collect())
    }
}

/// The answers whose first token is likeliest, best first; of equal ones the first.
fn likeliest(logits: &[f32], answers: &[Vec<u32>], most: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..answers.len()).collect();
    let logit = |answer: &usize| logits[answers[*answer][1] as usize];
    order.sort_by(|a, b| logit(b).total_cmp(&logit(a)));
    order.truncate(most);
    order
}

/// Cross-entropy with label smoothing of each token after the first, summed. Source: PyTorch `CrossEntropyLoss`.
fn loss(text: &[u32], logits: &[f32], vocabulary: usize) -> f64 {
    let rows = logits.chunks_exact(vocabulary).zip(&text[1..]);
    rows.map(|(logits, token)| {
        let most = logits.iter().fold(f32::NEG_INFINITY, |most, logit| most.max(*logit));
        let total: f64 = logits.iter().map(|logit| f64::from(logit - most).exp()).sum();
        let normalizer = f64::from(most) + total.ln();
        let mean: f64 = logits.iter().map(|logit| f64::from(*logit)).sum::<f64>() / vocabulary as f64;
        let own = f64::from(logits[*token as usize]);
        normalizer - (1.0 - RANK_SMOOTHING) * own - RANK_SMOOTHING * mean
    })
    .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_equal_those_of_pytorch() {
        // torch.nn.functional.cross_entropy(torch.tensor([[0., 1., 2.], [3., -1., 0.5]]), torch.tensor([2, 0]),
        // reduction="sum", label_smoothing=0.1), PyTorch 2.
        let logits = [0.0, 1.0, 2.0, 3.0, -1.0, 0.5, 9.0, 9.0, 9.0];
        assert!((loss(&[1, 2, 0], &logits, 3) - 0.819_947).abs() < 1e-5);
    }

    #[test]
    fn of_equal_first_tokens_the_first_answer_is_read() {
        let answers = [vec![9, 1, 3], vec![9, 0, 3], vec![9, 1, 2, 3]];
        assert_eq!(likeliest(&[0.0, 1.0], &answers, 2), [0, 2]);
    }
}
