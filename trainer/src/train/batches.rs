//! Batches as the losses read them: texts become tokens, pictures get names.

use blip::caption::{clean_for_training, clean_question_for_training};
use blip::tokenizer::Tokenizer;

use super::TrainError;
use crate::engine::splitmix64;
use crate::loader;
use crate::objectives::{Answers, Batch};
use crate::settings::{Settings, Task};

/// Names stay below the one that nobody has.
const NAMES: u32 = u32::MAX >> 1;

/// Makes batches.
pub struct Reader<'a> {
    tokenizer: &'a Tokenizer,
    tokens: usize,
    prompt: String,
    prompt_tokens: usize,
    positives_by_picture: bool,
    task: Task,
}

impl<'a> Reader<'a> {
    /// Reads as the settings say.
    ///
    /// # Errors
    /// A prompt that cannot be tokenized, or that leaves no room for words.
    pub fn new(tokenizer: &'a Tokenizer, settings: &Settings, task: Task) -> Result<Reader<'a>, TrainError> {
        let prompt = settings.data.prompt.clone();
        let prompt_tokens = if prompt.is_empty() { 0 } else { tokenizer.prompt(&prompt)?.len() };
        if prompt_tokens + 2 > settings.data.tokens {
            return Err(TrainError::Prompt { prompt_tokens, tokens: settings.data.tokens });
        }
        let positives_by_picture = settings.losses.positives_by_picture;
        Ok(Reader { tokenizer, tokens: settings.data.tokens, prompt, prompt_tokens, positives_by_picture, task })
    }

    /// A batch of the loader; `first` is the number of its first sample among all that the run has seen.
    ///
    /// # Errors
    /// A text that the tokenizer refuses.
    pub fn read(&self, from: loader::Batch, first: u64) -> Result<Batch, TrainError> {
        let pictures = from.len();
        let name = |(place, image): (usize, &u64)| match self.positives_by_picture {
            true => splitmix64(*image) as u32 & NAMES,
            false => (first + place as u64) as u32 & NAMES,
        };
        let names = from.images.iter().enumerate().map(name).collect();
        let mut batch = Batch { pixels: from.pixels, pictures, names, ..Batch::default() };
        if self.task != Task::Answerer {
            batch.prompt = self.prompt_tokens;
            batch.texts = from.texts.iter().map(|text| self.tokens_of(text)).collect::<Result<_, _>>()?;
            return Ok(batch);
        }
        let mut answers = Answers::default();
        for (place, question) in from.questions.iter().enumerate() {
            answers.questions.push(self.ids(&clean_question_for_training(&question.text))?);
            for answer in &question.answers {
                batch.texts.push(self.ids(&answer.text)?);
                answers.of.push(place as u32);
                answers.weights.push(answer.weight);
            }
        }
        batch.answers = Some(answers);
        Ok(batch)
    }

    fn tokens_of(&self, text: &str) -> Result<Vec<u32>, TrainError> {
        let text = format!("{}{}", self.prompt, clean_for_training(text));
        self.ids(&text)
    }

    /// At most as many tokens as fit; the last one stays. Source: transformers `truncation=True`.
    fn ids(&self, text: &str) -> Result<Vec<u32>, TrainError> {
        let mut ids = self.tokenizer.classified(text, self.tokenizer.tokens().class)?;
        if ids.len() > self.tokens {
            let last = ids[ids.len() - 1];
            ids.truncate(self.tokens);
            ids[self.tokens - 1] = last;
        }
        Ok(ids)
    }
}
