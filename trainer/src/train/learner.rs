//! A model that learns: one step at a time, on one device.

use blip::config::SpecialTokens;

use crate::engine::{AdamW, Device, Result, Slice, scalars, step_seed};
use crate::model::Blip;
use crate::objectives::{Bank, Batch, Input, Inputs, Losses, Objective, Opinion, Settings, Step, StepFacts, alpha};
use crate::optimizer::{Decayed, Optimizer, Schedule};
use crate::tape::Tape;

/// Range of the temperature. Source: BLIP `models/blip_pretrain.py`, `temp.clamp_`.
const TEMPERATURES: [f32; 2] = [0.001, 0.5];
/// A name that no sample has.
const NOBODY: u32 = u32::MAX;

/// What does not change while a model learns.
#[derive(Clone, Debug)]
pub struct LearnerSettings {
    /// How a step is computed.
    pub step: Settings,
    /// The optimizer's constants.
    pub adamw: AdamW,
    /// What its weight decay is on.
    pub decayed: Decayed,
    /// The learning rate over time.
    pub schedule: Schedule,
    /// Share of the momentum copy that stays in a step.
    pub momentum: f32,
    /// Weight of the momentum encoders' opinion, once it has grown.
    pub alpha: f32,
    /// Steps over which it grows.
    pub alpha_steps: u64,
    /// Ids with a meaning of their own.
    pub tokens: SpecialTokens,
    /// Seed of all that is random in a step.
    pub seed: u64,
    /// Pictures of a batch on this rank.
    pub batch: usize,
    /// Tokens that texts are padded to; the longest of each batch where it is zero.
    pub padded: usize,
}

/// Everything that training changes, on the host: what a run needs to go on.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct State {
    /// Parameters.
    pub weights: Vec<f32>,
    /// Momentum copies of the first of them; empty without ITC.
    pub momentum: Vec<f32>,
    /// AdamW's first moments.
    pub first: Vec<f32>,
    /// AdamW's second moments.
    pub second: Vec<f32>,
    /// The queue of pictures, `[queue, width]`; empty without ITC.
    pub image_queue: Vec<f32>,
    /// The queue of texts.
    pub text_queue: Vec<f32>,
    /// Names of the queue's samples.
    pub queue_names: Vec<u32>,
    /// Row of the queue that is overwritten next.
    pub queue_at: usize,
    /// Steps that were taken.
    pub step: u64,
}

/// What a step gave.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// The losses, in the order of [`Objective::losses`]; of the last batch where several were accumulated.
    pub losses: Vec<f32>,
    /// Norm of the whole gradient, before it was clipped.
    pub gradient_norm: f32,
    /// Learning rate of the step.
    pub learning_rate: f32,
    /// Temperature of ITC.
    pub temperature: Option<f32>,
}

impl Outcome {
    /// Whether every number is one.
    pub fn is_finite(&self) -> bool {
        self.losses.iter().all(|loss| loss.is_finite()) && self.gradient_norm.is_finite()
    }
}

/// A model that learns.
pub struct Learner<D: Device> {
    device: D,
    model: Blip,
    settings: LearnerSettings,
    weights: D::Flat,
    optimizer: Optimizer<D>,
    contrast: Option<Contrast<D>>,
    inputs: Inputs<D>,
    step: u64,
}

/// What ITC keeps between steps.
struct Contrast<D: Device> {
    momentum: D::Flat,
    bank: Bank<D>,
    names: Vec<u32>,
    at: usize,
}

impl State {
    /// Whether every value is a number.
    pub fn is_finite(&self) -> bool {
        let State { weights, momentum, first, second, image_queue, text_queue, .. } = self;
        let all = [weights, momentum, first, second, image_queue, text_queue];
        all.iter().all(|values| values.iter().all(|value| value.is_finite()))
    }

    /// A state to start from: moments of zero, momentum copies equal to the parameters, and a queue of random unit
    /// vectors. Source: BLIP `models/blip_pretrain.py`, `copy_params` and the queues.
    pub fn new(model: &Blip, weights: Vec<f32>, objective: Objective, (queue, seed): (usize, u64)) -> State {
        let mut state = State { first: vec![0.0; weights.len()], second: vec![0.0; weights.len()], ..State::default() };
        if matches!(objective, Objective::Joint | Objective::Matches) {
            let width = model.matching.as_ref().map_or(0, |matching| matching.vision_projection.outputs);
            state.momentum = weights[..model.layout.momentum_length()].to_vec();
            state.image_queue = unit_vectors([queue, width], seed);
            state.text_queue = unit_vectors([queue, width], seed ^ 1);
            state.queue_names = vec![NOBODY; queue];
        }
        state.weights = weights;
        state
    }
}

fn unit_vectors([rows, width]: [usize; 2], seed: u64) -> Vec<f32> {
    let mut values = Vec::with_capacity(rows * width);
    for row in 0..rows {
        // The sum of uniform values is near enough to a normal one for a direction.
        let value = |place: usize| {
            let bits = |turn| crate::engine::random_bits(seed, ((row * width + place) * 4 + turn) as u64) >> 40;
            (0..4).map(|turn| bits(turn) as f32 / (1 << 24) as f32 - 0.5).sum::<f32>()
        };
        let vector: Vec<f32> = (0..width).map(value).collect();
        let length = vector.iter().map(|value| value * value).sum::<f32>().sqrt().max(1e-12);
        values.extend(vector.iter().map(|value| value / length));
    }
    values
}

impl<D: Device> Learner<D> {
    /// A learner that goes on from `state`.
    ///
    /// # Errors
    /// As the device.
    pub fn new(device: D, model: Blip, settings: LearnerSettings, state: &State) -> Result<Learner<D>> {
        let current = settings.batch * device.world();
        let contrast = match state.momentum.is_empty() {
            true => None,
            false => Some(Contrast {
                momentum: device.flat(&state.momentum)?,
                bank: Bank::new(
                    &device,
                    [&state.image_queue, &state.text_queue],
                    current,
                    model.matching.as_ref().map_or(0, |matching| matching.vision_projection.outputs),
                )?,
                names: state.queue_names.clone(),
                at: state.queue_at,
            }),
        };
        let groups = settings.decayed.groups(&model.layout, settings.adamw.weight_decay);
        let optimizer = Optimizer::new(&device, settings.adamw, groups, [&state.first, &state.second])?;
        let weights = device.flat(&state.weights)?;
        Ok(Learner {
            device,
            model,
            settings,
            weights,
            optimizer,
            contrast,
            inputs: Inputs::default(),
            step: state.step,
        })
    }

    /// Everything that training changed.
    ///
    /// # Errors
    /// As the device.
    pub fn state(&self) -> Result<State> {
        let device = &self.device;
        let mut state = State {
            weights: device.read_flat(&self.weights)?,
            first: device.read_flat(&self.optimizer.first)?,
            second: device.read_flat(&self.optimizer.second)?,
            step: self.step,
            ..State::default()
        };
        if let Some(contrast) = &self.contrast {
            state.momentum = device.read_flat(&contrast.momentum)?;
            [state.image_queue, state.text_queue] = contrast.bank.queues(device)?;
            state.queue_names.clone_from(&contrast.names);
            state.queue_at = contrast.at;
        }
        Ok(state)
    }

    /// The device.
    pub fn device(&self) -> &D {
        &self.device
    }

    /// The model.
    pub fn model(&self) -> &Blip {
        &self.model
    }

    /// The parameters, on the device.
    pub fn weights(&self) -> &D::Flat {
        &self.weights
    }

    /// Gradients of the last step, on the host.
    ///
    /// # Errors
    /// As the device.
    pub fn gradients(&self) -> Result<Vec<f32>> {
        self.device.read_flat(&self.optimizer.gradients)
    }

    /// Runs the last layers of each stack again in the backward pass, to save memory.
    pub fn checkpoint_layers(&mut self, vision: usize, text: usize) {
        self.settings.step.checkpointed_vision = vision;
        self.settings.step.checkpointed_text = text;
    }

    /// Steps that were taken.
    pub fn steps(&self) -> u64 {
        self.step
    }

    /// Learns from batches, whose gradients are added and then used at once. `names` are those of all ranks' samples for
    /// each batch, and `words` how many words of all ranks are learned in it.
    ///
    /// # Errors
    /// As the device.
    pub fn learn(&mut self, batches: &[Batch], shared: &[Shared]) -> Result<Outcome> {
        let rate = self.settings.schedule.at(self.step);
        let mut losses = Vec::new();
        let mut squared_norm = 0.0;
        for (number, (batch, shared)) in batches.iter().zip(shared).enumerate() {
            let turn = Turn { first: number == 0, last: number + 1 == batches.len(), count: batches.len() };
            let (values, norm) = self.one_batch(batch, shared, rate, turn)?;
            losses = values;
            squared_norm = norm;
        }
        self.step += 1;
        Ok(Outcome {
            losses,
            gradient_norm: squared_norm.sqrt(),
            learning_rate: rate,
            temperature: self.temperature()?,
        })
    }

    /// The temperature of ITC, where there is one.
    ///
    /// # Errors
    /// As the device.
    pub fn temperature(&self) -> Result<Option<f32>> {
        let Some(matching) = &self.model.matching else { return Ok(None) };
        let slice = Slice { flat: &self.weights, start: matching.temperature.start, length: 1 };
        Ok(self.device.read_slice(slice)?.first().copied())
    }

    fn one_batch(&mut self, batch: &Batch, shared: &Shared, rate: f32, turn: Turn) -> Result<(Vec<f32>, f32)> {
        let facts = self.facts(shared, rate, turn);
        let kind = (self.settings.step.objective, self.settings.tokens);
        let shape = self.inputs.put(&self.device, batch, &facts, kind)?;
        let input = self.inputs.at(shape);
        let key = (shape as u64) << 2 | u64::from(turn.first) << 1 | u64::from(turn.last);
        let (device, model, settings) = (&self.device, &self.model, self.settings.step);
        let (weights, optimizer, contrast) = (&mut self.weights, &mut self.optimizer, &mut self.contrast);
        let mut program = || -> Result<Vec<D::Buffer>> {
            let losses = backward(device, model, (settings, turn), (weights, optimizer, contrast), input)?;
            let mut values: Vec<D::Buffer> = losses.values.into_iter().flatten().collect();
            if turn.last {
                values.push(optimizer.step(device, weights, &input.0.scalars)?);
            }
            Ok(values)
        };
        let values = match device.world() {
            // What crosses ranks on the host cannot be recorded.
            1 => device.replay(key, &mut program)?,
            _ => program()?,
        };
        let mut numbers = values.iter().map(|buffer| Ok(device.download(buffer)?[0])).collect::<Result<Vec<f32>>>()?;
        let norm = if turn.last { numbers.pop().unwrap_or(0.0) } else { 0.0 };
        if let Some(contrast) = &mut self.contrast {
            contrast.remember(&shared.names);
            let [to_text, to_image] = [numbers.remove(0), numbers.remove(0)];
            numbers.insert(0, (to_text + to_image) / 2.0);
        }
        Ok((numbers, norm))
    }

    fn facts(&self, shared: &Shared, rate: f32, turn: Turn) -> StepFacts {
        let mut scalars = self.optimizer.scalars(rate, self.step);
        scalars[scalars::ALPHA] = alpha(self.settings.alpha, self.step, self.settings.alpha_steps);
        scalars[scalars::MOMENTUM] = self.settings.momentum;
        let width = self.contrast.as_ref().map_or(0, |contrast| contrast.bank.width);
        let mut bank_names = shared.names.clone();
        bank_names.extend(self.contrast.iter().flat_map(|contrast| &contrast.names));
        StepFacts {
            seed: step_seed(self.settings.seed, self.step * turn.count as u64 + shared.number),
            rank: self.device.rank(),
            world: self.device.world(),
            words: shared.words,
            padded: shared.padded.max(self.settings.padded),
            scalars,
            queue_at: self.contrast.as_ref().map_or(0, |contrast| (contrast.at * width) as u32),
            bank_names,
        }
    }
}

/// What all ranks know of a batch.
#[derive(Clone, Debug, Default)]
pub struct Shared {
    /// Names of all ranks' samples, in rank order.
    pub names: Vec<u32>,
    /// Words that all ranks learn.
    pub words: usize,
    /// Tokens that all ranks pad to, where it matters that they agree; otherwise zero.
    pub padded: usize,
    /// Which of the step's batches this is.
    pub number: u64,
}

/// Where a batch stands among those of its step.
#[derive(Clone, Copy)]
struct Turn {
    first: bool,
    last: bool,
    count: usize,
}

impl<D: Device> Contrast<D> {
    /// Names what was put into the queue, and moves on.
    fn remember(&mut self, names: &[u32]) {
        let queue = self.names.len();
        if queue == 0 {
            return;
        }
        for (place, name) in names.iter().enumerate() {
            self.names[(self.at + place) % queue] = *name;
        }
        self.at = (self.at + names.len()) % queue;
    }
}

type Changed<'a, D> = (&'a mut <D as Device>::Flat, &'a mut Optimizer<D>, &'a mut Option<Contrast<D>>);

/// Forward and backward of one batch, in the authors' order. Source: BLIP `models/blip_pretrain.py`, `forward`.
fn backward<D: Device>(
    device: &D,
    model: &Blip,
    (settings, turn): (Settings, Turn),
    (weights, optimizer, contrast): Changed<'_, D>,
    (input, pixels): (&Input<D>, &D::Buffer),
) -> Result<Losses<D>> {
    if turn.first {
        device.clear(&mut optimizer.gradients)?;
    }
    if let Some(matching) = &model.matching {
        device.clamp(weights, matching.temperature.start, TEMPERATURES)?;
    }
    let opinion = match contrast {
        Some(Contrast { momentum, bank, .. }) => {
            if turn.first {
                device.moving_average(momentum, weights, &input.scalars)?;
            }
            Some(Opinion::of(model, (device, momentum), (input, pixels), bank)?)
        }
        None => None,
    };
    let losses = {
        let bank = contrast.as_ref().map(|contrast| &contrast.bank).zip(opinion.as_ref());
        let step = Step { model, settings, input, pixels, bank };
        let mut tape = Tape::recording(device, weights);
        let losses = step.forward(&mut tape)?;
        let share = 1.0 / turn.count as f32;
        let parts: Vec<_> = losses.parts.iter().map(|(loss, factor)| (loss, factor * share)).collect();
        tape.backward(&parts, &mut optimizer.gradients)?;
        losses
    };
    if let (Some(contrast), Some(opinion)) = (contrast, opinion) {
        opinion.enqueue(device, &mut contrast.bank, &input.queue_at)?;
    }
    Ok(losses)
}
