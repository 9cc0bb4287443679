//! A batch as a step reads it: padded, labelled, and on the device.

use blip::config::SpecialTokens;

use super::Objective;
use crate::engine::{Device, Result, scalars, step_seed};

/// A batch on the host. There is a text for each picture; with [`Answers`], `texts` are the answers.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// `[pictures, 3, S, S]`, normalized.
    pub pixels: Vec<f32>,
    /// Number of pictures.
    pub pictures: usize,
    /// Token ids, class token first and separator last.
    pub texts: Vec<Vec<u32>>,
    /// Tokens at the beginning of each text that are not learned: the prompt's, start token included.
    pub prompt: usize,
    /// A name for each picture. Pictures of one name are no negatives of each other, and positives in ITC.
    pub names: Vec<u32>,
    /// For VQA.
    pub answers: Option<Answers>,
}

/// Questions, and which of them each text answers.
#[derive(Clone, Debug, Default)]
pub struct Answers {
    /// Token ids of a question for each picture, class token first and separator last.
    pub questions: Vec<Vec<u32>>,
    /// For each answer, its question.
    pub of: Vec<u32>,
    /// What each answer counts.
    pub weights: Vec<f32>,
}

/// What a step knows besides its batch.
#[derive(Clone, Debug)]
pub struct StepFacts {
    /// From [`crate::engine::step_seed`].
    pub seed: [u32; 2],
    /// This process among all.
    pub rank: usize,
    /// Number of processes.
    pub world: usize,
    /// Words that are learned in this step, over all ranks.
    pub words: usize,
    /// Tokens that texts are padded to; the longest text's where it is zero.
    pub padded: usize,
    /// Values for [`scalars`].
    pub scalars: [f32; scalars::COUNT],
    /// First row of the queue that this step's vectors overwrite, times the width of a vector.
    pub queue_at: u32,
    /// Names of all ranks' samples, then those of the queue.
    pub bank_names: Vec<u32>,
}

/// A batch on the device, without its pictures.
pub struct Input<D: Device> {
    /// Number of pictures.
    pub pictures: usize,
    /// Number of texts.
    pub texts: usize,
    /// Tokens of a text, padding included.
    pub tokens: usize,
    /// Texts that start with the class token, `[texts, tokens]`.
    pub class_ids: D::Indices,
    /// Texts that start with the image-grounded encoder's token.
    pub encoder_ids: D::Indices,
    /// Texts that start with the decoder's token.
    pub decoder_ids: D::Indices,
    /// Tokens of each text that count.
    pub lengths: D::Indices,
    /// The word after each token, `[texts * tokens]`.
    pub next_words: D::Indices,
    /// What each of these counts in the LM loss; zero for prompts and padding.
    pub word_weights: D::Buffer,
    /// A name for each of this rank's samples.
    pub names: D::Indices,
    /// A name for each row of the bank.
    pub bank_names: D::Indices,
    /// This rank's samples among those of all ranks.
    pub samples: D::Indices,
    /// With several ranks, the rows that ITM reads of this rank's pictures and their negatives.
    pub local_rows: D::Indices,
    /// Match for the true pairs, then no match for twice as many.
    pub itm_labels: D::Indices,
    /// All alike.
    pub itm_weights: D::Buffer,
    /// Values for [`scalars`].
    pub scalars: D::Buffer,
    /// The step's seed, the same on all ranks.
    pub seed: D::Indices,
    /// This rank's seed of the step: what is dropped on one rank is not dropped alike on the others.
    pub own_seed: D::Indices,
    /// One zero.
    pub zero: D::Indices,
    /// Where the queue is overwritten, in values.
    pub queue_at: D::Indices,
    /// This rank's first sample among those of all ranks.
    pub first: usize,
    /// For VQA.
    pub questions: Option<QuestionInput<D>>,
}

/// Questions on the device.
pub struct QuestionInput<D: Device> {
    /// Questions that start with the image-grounded encoder's token, `[pictures, tokens]`.
    pub ids: D::Indices,
    /// Tokens of each that count.
    pub lengths: D::Indices,
    /// Tokens of a question, padding included.
    pub tokens: usize,
    /// For each answer, its question.
    pub of_answers: D::Indices,
}

impl Batch {
    /// How many words the LM loss learns from.
    pub fn words(&self) -> usize {
        let learned = |text: &Vec<u32>| text.len().saturating_sub(self.prompt.max(1));
        self.texts.iter().map(learned).sum()
    }
}

/// Everything of an input, on the host, in the order in which it is uploaded.
struct Rows {
    floats: [Vec<f32>; 3],
    indices: Vec<Vec<u32>>,
    tokens: usize,
    question_tokens: usize,
}

/// Batches on the device. What is recorded goes on reading where it was recorded, so that each shape of a batch has memory
/// of its own; pictures, which are most of it, have theirs once for each number of them.
pub struct Inputs<D: Device> {
    shapes: Vec<Input<D>>,
    pictures: Vec<(usize, D::Buffer)>,
}

impl<D: Device> Default for Inputs<D> {
    fn default() -> Inputs<D> {
        Inputs { shapes: Vec::new(), pictures: Vec::new() }
    }
}

impl<D: Device> Inputs<D> {
    /// Puts a batch where the last one of its shape was, and returns the number of that shape.
    ///
    /// # Errors
    /// As the device.
    pub fn put(
        &mut self,
        device: &D,
        batch: &Batch,
        facts: &StepFacts,
        kind: (Objective, SpecialTokens),
    ) -> Result<usize> {
        match self.pictures.iter_mut().find(|(count, _)| *count == batch.pictures) {
            Some((_, pixels)) => device.rewrite(pixels, &batch.pixels)?,
            None => self.pictures.push((batch.pictures, device.upload(&batch.pixels)?)),
        }
        if let Some(shape) = self.shapes.iter().position(|input| input.fits(batch, facts)) {
            self.shapes[shape].rewrite(device, batch, facts, kind)?;
            return Ok(shape);
        }
        self.shapes.push(Input::new(device, batch, facts, kind)?);
        Ok(self.shapes.len() - 1)
    }

    /// What was last put there, and its pictures, `[pictures, 3, S, S]`.
    pub fn at(&self, shape: usize) -> (&Input<D>, &D::Buffer) {
        let input = &self.shapes[shape];
        let pixels = self.pictures.iter().find(|(count, _)| *count == input.pictures);
        (input, &pixels.expect("a batch was put there with its pictures").1)
    }
}

impl<D: Device> Input<D> {
    /// Uploads a batch.
    ///
    /// # Errors
    /// As the device.
    pub fn new(
        device: &D,
        batch: &Batch,
        facts: &StepFacts,
        (objective, special): (Objective, SpecialTokens),
    ) -> Result<Input<D>> {
        let Rows { floats, indices, tokens, question_tokens } = Rows::new(batch, facts, (objective, special));
        let [word_weights, itm_weights, scalars] = floats;
        let mut indices = indices.into_iter().map(|values| device.upload_indices(&values));
        let mut next = || indices.next().expect("as many as Rows::new makes");
        Ok(Input {
            word_weights: device.upload(&word_weights)?,
            itm_weights: device.upload(&itm_weights)?,
            scalars: device.upload(&scalars)?,
            class_ids: next()?,
            encoder_ids: next()?,
            decoder_ids: next()?,
            lengths: next()?,
            next_words: next()?,
            names: next()?,
            bank_names: next()?,
            samples: next()?,
            local_rows: next()?,
            itm_labels: next()?,
            seed: next()?,
            own_seed: next()?,
            zero: next()?,
            queue_at: next()?,
            pictures: batch.pictures,
            texts: batch.texts.len(),
            tokens,
            first: facts.rank * batch.pictures,
            questions: match &batch.answers {
                Some(_) => {
                    Some(QuestionInput { ids: next()?, lengths: next()?, of_answers: next()?, tokens: question_tokens })
                }
                None => None,
            },
        })
    }

    /// Whether [`Input::rewrite`] can put this batch into the same memory.
    pub fn fits(&self, batch: &Batch, facts: &StepFacts) -> bool {
        self.pictures == batch.pictures
            && self.texts == batch.texts.len()
            && self.tokens == padded(&batch.texts, facts)
            && self.questions.as_ref().map(|questions| questions.tokens)
                == batch.answers.as_ref().map(|answers| padded(&answers.questions, facts))
    }

    /// Puts another batch of the same shape into the same memory.
    ///
    /// # Errors
    /// As the device.
    pub fn rewrite(
        &mut self,
        device: &D,
        batch: &Batch,
        facts: &StepFacts,
        (objective, special): (Objective, SpecialTokens),
    ) -> Result<()> {
        let Rows { floats, indices, .. } = Rows::new(batch, facts, (objective, special));
        let buffers = [&mut self.word_weights, &mut self.itm_weights, &mut self.scalars];
        for (buffer, values) in buffers.into_iter().zip(&floats) {
            device.rewrite(buffer, values)?;
        }
        let mut places = vec![
            &mut self.class_ids,
            &mut self.encoder_ids,
            &mut self.decoder_ids,
            &mut self.lengths,
            &mut self.next_words,
            &mut self.names,
            &mut self.bank_names,
            &mut self.samples,
            &mut self.local_rows,
            &mut self.itm_labels,
            &mut self.seed,
            &mut self.own_seed,
            &mut self.zero,
            &mut self.queue_at,
        ];
        if let Some(questions) = &mut self.questions {
            places.extend([&mut questions.ids, &mut questions.lengths, &mut questions.of_answers]);
        }
        for (place, values) in places.into_iter().zip(&indices) {
            device.rewrite_indices(place, values)?;
        }
        Ok(())
    }
}

impl Rows {
    fn new(batch: &Batch, facts: &StepFacts, (objective, special): (Objective, SpecialTokens)) -> Rows {
        let tokens = padded(&batch.texts, facts);
        let (count, first) = (batch.pictures as u32, (facts.rank * batch.pictures) as u32);
        let starting = |token| rows_of(&batch.texts, tokens, Some(token), special.pad);
        let (next_words, word_weights) = labels(batch, facts, tokens, objective);
        let mut indices = vec![
            starting(special.class),
            starting(special.encoder_start),
            starting(special.decoder_start),
            lengths(&batch.texts, tokens),
            next_words,
            batch.names.clone(),
            facts.bank_names.clone(),
            (first..first + count).collect(),
            (0..2 * count).chain(0..count).collect(),
            (0..3 * count).map(|row| u32::from(row < count)).collect(),
            facts.seed.to_vec(),
            step_seed(u64::from(facts.seed[1]) << 32 | u64::from(facts.seed[0]), facts.rank as u64).to_vec(),
            vec![0],
            vec![facts.queue_at],
        ];
        let mut question_tokens = 0;
        if let Some(answers) = &batch.answers {
            question_tokens = padded(&answers.questions, facts);
            indices.push(rows_of(&answers.questions, question_tokens, Some(special.encoder_start), special.pad));
            indices.push(lengths(&answers.questions, question_tokens));
            indices.push(answers.of.clone());
        }
        let itm = vec![1.0 / (3 * count.max(1)) as f32; 3 * count as usize];
        Rows { floats: [word_weights, itm, facts.scalars.to_vec()], indices, tokens, question_tokens }
    }
}

fn padded(texts: &[Vec<u32>], facts: &StepFacts) -> usize {
    match facts.padded {
        0 => texts.iter().map(Vec::len).max().unwrap_or(1),
        padded => padded,
    }
}

fn rows_of(texts: &[Vec<u32>], tokens: usize, first: Option<u32>, pad: u32) -> Vec<u32> {
    let mut rows = Vec::with_capacity(texts.len() * tokens);
    for text in texts {
        let start = rows.len();
        rows.extend(text.iter().copied().take(tokens));
        rows.resize(start + tokens, pad);
        if let Some(first) = first {
            rows[start] = first;
        }
    }
    rows
}

fn lengths(texts: &[Vec<u32>], tokens: usize) -> Vec<u32> {
    texts.iter().map(|text| text.len().clamp(1, tokens) as u32).collect()
}

/// The word after each token and what it counts. Captions: every word of all ranks alike, so that ranks of different
/// length average to the mean over all. Answers: each word what its answer counts, over the number of questions.
///
/// Source: BLIP `models/med.py`, `BertLMHeadModel.forward`, and `models/blip_vqa.py`, `forward`.
fn labels(batch: &Batch, facts: &StepFacts, tokens: usize, objective: Objective) -> (Vec<u32>, Vec<f32>) {
    let mut words = vec![0; batch.texts.len() * tokens];
    let mut weights = vec![0.0; batch.texts.len() * tokens];
    let alike = facts.world as f32 / facts.words.max(1) as f32;
    for (row, text) in batch.texts.iter().enumerate() {
        let weight = match (objective, &batch.answers) {
            (Objective::Answers, Some(answers)) => answers.weights[row] / batch.pictures.max(1) as f32,
            _ => alike,
        };
        for (place, &word) in text.iter().enumerate().take(tokens).skip(batch.prompt.max(1)) {
            words[row * tokens + place - 1] = word;
            weights[row * tokens + place - 1] = weight;
        }
    }
    (words, weights)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::cpu::Cpu;

    #[test]
    fn ranks_draw_negatives_alike_and_drop_each_for_itself() {
        let device = Cpu::<f32>::new(1).unwrap();
        let tokens = SpecialTokens { pad: 0, unknown: 1, class: 2, separator: 3, decoder_start: 4, encoder_start: 5 };
        let batch = Batch {
            pixels: vec![0.0; 12],
            pictures: 1,
            texts: vec![vec![2, 6, 3]],
            names: vec![7],
            ..Batch::default()
        };
        let seeds = [0, 1].map(|rank| {
            let facts = StepFacts {
                seed: step_seed(3, 9),
                rank,
                world: 2,
                words: 4,
                padded: 3,
                scalars: [0.0; scalars::COUNT],
                queue_at: 0,
                bank_names: vec![7, 8],
            };
            let input = Input::new(&device, &batch, &facts, (Objective::Joint, tokens)).unwrap();
            (input.seed.to_vec(), input.own_seed.to_vec())
        });
        assert_eq!(seeds[0].0, seeds[1].0);
        assert_ne!(seeds[0].1, seeds[1].1);
    }
}
