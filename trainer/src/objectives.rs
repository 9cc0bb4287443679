//! The losses: ITC with momentum encoders and queues, ITM with hard negatives, LM, and the answers of VQA.
//!
//! Source: BLIP `models/blip_pretrain.py`, `models/blip_retrieval.py`, `models/blip.py` and `models/blip_vqa.py`, `forward`.

mod input;
mod matching;

pub use input::{Answers, Batch, Input, Inputs, StepFacts};
pub use matching::{Bank, Opinion, alpha, image_features, unit_texts};

use crate::engine::{Device, Order, Result, RowsShape, TokensShape};
use crate::model::{Blip, Memory, Pass, Shares, Texts};
use crate::tape::{Labels, Loss, Tape, Var};

/// Which losses a step computes; which are there also says what the model is trained for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Objective {
    /// ITC, ITM and LM: pre-training.
    Joint,
    /// LM: a captioner.
    Captions,
    /// ITC and ITM: a matcher.
    Matches,
    /// LM of answers: an answerer.
    Answers,
}

impl Objective {
    /// Names of the losses, in the order in which a step gives them.
    pub fn losses(self) -> &'static [&'static str] {
        match self {
            Objective::Joint => &["itc", "itm", "lm"],
            Objective::Captions | Objective::Answers => &["lm"],
            Objective::Matches => &["itc", "itm"],
        }
    }
}

/// How a step is computed: what does not change between steps.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Which losses.
    pub objective: Objective,
    /// What is dropped.
    pub shares: Shares,
    /// Label smoothing of the LM loss. Source: BLIP `models/med.py`, `BertLMHeadModel.forward`.
    pub smoothing: f32,
    /// Image layers, from the last, that run again in the backward pass instead of keeping what is inside them.
    pub checkpointed_vision: usize,
    /// Text layers, likewise.
    pub checkpointed_text: usize,
}

/// The parts of a step, each one value, in the order of [`Objective::losses`].
pub struct Losses<D: Device> {
    /// Each loss with its factor in the sum.
    pub parts: Vec<(Loss<D>, f32)>,
    /// Values to report; one that is the mean of two has both.
    pub values: Vec<Vec<D::Buffer>>,
}

/// What a step works on.
pub struct Step<'p, D: Device> {
    /// The model.
    pub model: &'p Blip,
    /// How.
    pub settings: Settings,
    /// The batch, on the device.
    pub input: &'p Input<D>,
    /// Its pictures, `[pictures, 3, S, S]`.
    pub pixels: &'p D::Buffer,
    /// For ITC: what to contrast with, and what the momentum encoders say.
    pub bank: Option<(&'p Bank<D>, &'p Opinion<D>)>,
}

impl<'p, D: Device> Step<'p, D> {
    /// The forward pass, with all losses of the objective.
    ///
    /// # Errors
    /// As the device.
    pub fn forward(&self, tape: &mut Tape<'p, D>) -> Result<Losses<D>> {
        let input = self.input;
        let images = self.model.vision.forward(tape, self.pixels, input.pictures, self.pass(0))?;
        let mut losses = Losses { parts: Vec::new(), values: Vec::new() };
        match self.settings.objective {
            Objective::Joint => {
                self.matching(tape, &images, &mut losses)?;
                self.captions(tape, &images, &mut losses)?;
            }
            Objective::Captions => self.captions(tape, &images, &mut losses)?,
            Objective::Matches => self.matching(tape, &images, &mut losses)?,
            Objective::Answers => self.answers(tape, &images, &mut losses)?,
        }
        Ok(losses)
    }

    fn matching(&self, tape: &mut Tape<'p, D>, images: &Var<D>, losses: &mut Losses<D>) -> Result<()> {
        let bank = self.bank.expect("an objective with ITC has a bank");
        let (itc, negatives) = matching::contrast(self, tape, images, bank)?;
        losses.values.push(itc.iter().map(|loss| loss.buffer.clone()).collect());
        losses.parts.extend(itc.into_iter().map(|loss| (loss, 0.5)));
        let itm = matching::judge(self, tape, images, &negatives)?;
        losses.values.push(vec![itm.buffer.clone()]);
        losses.parts.push((itm, 1.0));
        Ok(())
    }

    /// LM: the decoder writes the text of its picture.
    fn captions(&self, tape: &mut Tape<'p, D>, images: &Var<D>, losses: &mut Losses<D>) -> Result<()> {
        let shape = self.model.vision.shape(self.input.pictures);
        let memory = Memory { states: images, shape, rows: None, lengths: None };
        self.write(tape, &memory, self.input.pictures, losses)
    }

    /// LM of answers: the decoder reads the question encoder's states.
    fn answers(&self, tape: &mut Tape<'p, D>, images: &Var<D>, losses: &mut Losses<D>) -> Result<()> {
        let input = self.input;
        let questions = input.questions.as_ref().expect("an objective with answers has questions");
        let encoder = self.model.encoder.as_ref().expect("an answerer has a question encoder");
        let texts =
            Texts { ids: &questions.ids, lengths: &questions.lengths, batch: input.pictures, tokens: questions.tokens };
        let shape = self.model.vision.shape(input.pictures);
        let memory = Memory { states: images, shape, rows: None, lengths: None };
        let states = encoder.forward(tape, &texts, Some(&memory), Order::Free, self.pass(2))?;
        let lengths = tape.device().gather_indices(&questions.lengths, &questions.of_answers, 1)?;
        let memory = Memory {
            states: &states,
            shape: encoder.shape(input.pictures, questions.tokens),
            rows: Some(&questions.of_answers),
            lengths: Some(&lengths),
        };
        self.write(tape, &memory, input.texts, losses)
    }

    fn write(
        &self,
        tape: &mut Tape<'p, D>,
        memory: &Memory<'_, D>,
        texts: usize,
        losses: &mut Losses<D>,
    ) -> Result<()> {
        let input = self.input;
        let (decoder, head) = self.model.decoder.as_ref().expect("an objective with LM has a decoder");
        let ids = Texts { ids: &input.decoder_ids, lengths: &input.lengths, batch: texts, tokens: input.tokens };
        let states = decoder.forward(tape, &ids, Some(memory), Order::Causal, self.pass(3))?;
        let TokensShape { batch, tokens, .. } = decoder.shape(texts, input.tokens);
        let logits = head.forward(tape, &states, batch * tokens)?;
        let labels =
            Labels { classes: &input.next_words, weights: &input.word_weights, smoothing: self.settings.smoothing };
        let shape = RowsShape { rows: batch * tokens, width: decoder.config.vocabulary_size };
        let loss = tape.cross_entropy(&logits, labels, shape)?;
        losses.values.push(vec![loss.buffer.clone()]);
        losses.parts.push((loss, 1.0));
        Ok(())
    }

    /// How pass `number` of this step runs.
    fn pass(&self, number: u32) -> Pass<'p, D> {
        let checkpointed = match number {
            0 => self.settings.checkpointed_vision,
            _ => self.settings.checkpointed_text,
        };
        Pass { shares: self.settings.shares, seed: Some(&self.input.own_seed), number, checkpointed }
    }
}
