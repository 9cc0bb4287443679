//! ITC and ITM: contrast with momentum features and a queue, then judge pairs with hard negatives.

use super::Step;
use crate::engine::{Device, Direction, LinearShape, NegativesShape, Order, Result, RowsShape, Slice};
use crate::model::{Blip, Matching, Memory, Pass, TextStack, Texts};
use crate::tape::{Labels, Loss, Tape, Var};

/// Unit vectors to contrast with: first this step's momentum features of all ranks, then the queue.
pub struct Bank<D: Device> {
    /// `[current + queue, width]`.
    pub images: D::Flat,
    /// `[current + queue, width]`.
    pub texts: D::Flat,
    /// Rows for the current step.
    pub current: usize,
    /// Rows of the queue.
    pub queue: usize,
    /// Width of a vector.
    pub width: usize,
}

impl<D: Device> Bank<D> {
    /// A bank whose queue holds `images` and `texts`, `[queue, width]` each.
    ///
    /// # Errors
    /// As the device.
    pub fn new(device: &D, [images, texts]: [&[f32]; 2], current: usize, width: usize) -> Result<Bank<D>> {
        let with_room = |queue: &[f32]| {
            let mut values = vec![0.0; current * width];
            values.extend_from_slice(queue);
            device.flat(&values)
        };
        let queue = images.len() / width;
        Ok(Bank { images: with_room(images)?, texts: with_room(texts)?, current, queue, width })
    }

    /// The queues, `[queue, width]` each.
    ///
    /// # Errors
    /// As the device.
    pub fn queues(&self, device: &D) -> Result<[Vec<f32>; 2]> {
        let start = self.current * self.width;
        Ok([device.read_flat(&self.images)?.split_off(start), device.read_flat(&self.texts)?.split_off(start)])
    }

    fn rows(&self) -> usize {
        self.current + self.queue
    }

    fn slices(&self) -> [Slice<'_, D>; 2] {
        let length = self.rows() * self.width;
        [&self.images, &self.texts].map(|flat| Slice { flat, start: 0, length })
    }
}

/// What the momentum encoders make of a batch: unit vectors of pictures and of texts.
pub struct Opinion<D: Device> {
    /// This rank's, `[batch, width]`.
    own: [D::Buffer; 2],
    /// All ranks', `[current, width]`.
    all: [D::Buffer; 2],
}

impl<D: Device> Opinion<D> {
    /// Runs the momentum encoders, whose parameters are `momentum`, and puts what they say at the beginning of the bank.
    ///
    /// # Errors
    /// As the device.
    pub fn of(
        model: &Blip,
        (device, momentum): (&D, &D::Flat),
        (input, pixels): (&super::Input<D>, &D::Buffer),
        bank: &mut Bank<D>,
    ) -> Result<Opinion<D>> {
        let mut tape = Tape::forgetting(device, momentum);
        let still = Pass::still();
        let images = model.vision.forward(&mut tape, pixels, input.pictures, still)?;
        let image = image_features(model, &mut tape, &images, input.pictures)?;
        let text = text_features(model, &mut tape, input, still)?;
        let own = [image.buffer, text.buffer];
        let all = [device.all_gather(&own[0])?, device.all_gather(&own[1])?];
        device.write_flat(&mut bank.images, 0, &input.zero, &all[0])?;
        device.write_flat(&mut bank.texts, 0, &input.zero, &all[1])?;
        Ok(Opinion { own, all })
    }

    /// Puts the vectors in place of the queue's oldest.
    ///
    /// # Errors
    /// As the device.
    pub fn enqueue(&self, device: &D, bank: &mut Bank<D>, at: &D::Indices) -> Result<()> {
        let start = bank.current * bank.width;
        device.write_flat(&mut bank.images, start, at, &self.all[0])?;
        device.write_flat(&mut bank.texts, start, at, &self.all[1])
    }
}

/// What ITM judges besides the true pairs.
pub(super) struct Negatives<D: Device> {
    /// A sample of all ranks for each text.
    pictures: D::Indices,
    /// A sample of all ranks for each picture.
    texts: D::Indices,
}

/// ITC in both directions, and the hard negatives that its similarities give.
pub(super) fn contrast<'p, D: Device>(
    step: &Step<'p, D>,
    tape: &mut Tape<'p, D>,
    images: &Var<D>,
    (bank, opinion): (&'p Bank<D>, &Opinion<D>),
) -> Result<([Loss<D>; 2], Negatives<D>)> {
    let (device, input) = (tape.device(), step.input);
    let image = image_features(step.model, tape, images, input.pictures)?;
    let text = text_features(step.model, tape, input, step.pass(1))?;
    let shape = LinearShape { rows: input.pictures, inputs: bank.width, outputs: bank.rows() };
    let temperature = matching(step.model).temperature;
    let [image_bank, text_bank] = bank.slices();
    let divisor = Slice { flat: tape.parameters(), start: temperature.start, length: 1 };
    let mut losses = Vec::with_capacity(2);
    let mut drawn = Vec::with_capacity(2);
    for (features, momentum, theirs, direction) in [
        (&image, &opinion.own[0], text_bank, Direction::TextForPicture),
        (&text, &opinion.own[1], image_bank, Direction::PictureForText),
    ] {
        let opinion = device.similarity(momentum, theirs, divisor, shape)?;
        let targets = device.soft_targets(&opinion, &input.scalars, &input.names, &input.bank_names)?;
        let similarity = tape.similarity(features, theirs, temperature, shape)?;
        let rows = RowsShape { rows: shape.rows, width: shape.outputs };
        losses.push(tape.soft_cross_entropy(&similarity, &targets, rows)?);
        let draw = NegativesShape {
            rows: shape.rows,
            columns: shape.outputs,
            candidates: bank.current,
            first: input.first,
            direction,
        };
        drawn.push(device.draw_negatives(&similarity.buffer, (&input.names, &input.bank_names), &input.seed, draw)?);
    }
    let [pictures, texts] = [drawn.remove(1), drawn.remove(0)];
    let [to_text, to_image] = [losses.remove(0), losses.remove(0)];
    Ok(([to_text, to_image], Negatives { pictures, texts }))
}

/// ITM over the true pairs, each text with a wrong picture, and each picture with a wrong text.
pub(super) fn judge<'p, D: Device>(
    step: &Step<'p, D>,
    tape: &mut Tape<'p, D>,
    images: &Var<D>,
    negatives: &Negatives<D>,
) -> Result<Loss<D>> {
    let (device, input) = (tape.device(), step.input);
    let encoder = encoder(step.model);
    let (count, tokens) = (input.pictures, input.tokens);
    let ids = device.all_gather_indices(&input.encoder_ids)?;
    let lengths = device.all_gather_indices(&input.lengths)?;
    let texts = device.concat_indices(&[&input.samples, &input.samples, &negatives.texts])?;
    let ids = device.gather_indices(&ids, &texts, tokens)?;
    let lengths = device.gather_indices(&lengths, &texts, 1)?;

    let mut shape = step.model.vision.shape(count);
    let (states, rows) = if device.world() == 1 {
        (images.clone(), device.concat_indices(&[&input.samples, &negatives.pictures, &input.samples])?)
    } else {
        // Of all ranks' pictures, only this rank's and its negatives are projected.
        let all = tape.all_gather(images)?;
        let chosen = device.concat_indices(&[&input.samples, &negatives.pictures])?;
        let everywhere = RowsShape { rows: count * device.world(), width: shape.tokens * shape.width };
        shape.batch = 2 * count;
        (tape.gather_rows(&all, &chosen, everywhere)?, input.local_rows.clone())
    };
    let memory = Memory { states: &states, shape, rows: Some(&rows), lengths: None };
    let texts = Texts { ids: &ids, lengths: &lengths, batch: 3 * count, tokens };
    let states = encoder.forward(tape, &texts, Some(&memory), Order::Free, step.pass(2))?;
    let first = tape.first_token(&states, encoder.shape(3 * count, tokens))?;
    let logits = tape.logits(&first, &matching(step.model).itm_head, 3 * count)?;
    let labels = Labels { classes: &input.itm_labels, weights: &input.itm_weights, smoothing: 0.0 };
    tape.cross_entropy(&logits, labels, RowsShape { rows: 3 * count, width: 2 })
}

/// Unit vectors of pictures, from their class tokens: `[batch, D]`.
///
/// # Errors
/// As the device.
pub fn image_features<D: Device>(
    model: &Blip,
    tape: &mut Tape<'_, D>,
    images: &Var<D>,
    batch: usize,
) -> Result<Var<D>> {
    let class = tape.first_token(images, model.vision.shape(batch))?;
    let projection = matching(model).vision_projection;
    let features = tape.linear(&class, &projection, batch)?;
    tape.l2_normalize(&features, RowsShape { rows: batch, width: projection.outputs })
}

/// Unit vectors of the batch's texts, read without pictures: `[batch, D]`.
fn text_features<'p, D: Device>(
    model: &Blip,
    tape: &mut Tape<'p, D>,
    input: &super::Input<D>,
    pass: Pass<'p, D>,
) -> Result<Var<D>> {
    let texts = Texts { ids: &input.class_ids, lengths: &input.lengths, batch: input.texts, tokens: input.tokens };
    unit_texts(model, tape, &texts, pass)
}

/// Unit vectors of texts that start with the class token: `[batch, D]`.
///
/// # Errors
/// As the device.
pub fn unit_texts<'p, D: Device>(
    model: &Blip,
    tape: &mut Tape<'p, D>,
    texts: &Texts<'_, D>,
    pass: Pass<'p, D>,
) -> Result<Var<D>> {
    let encoder = encoder(model);
    let states = encoder.forward(tape, texts, None, Order::Free, pass)?;
    let first = tape.first_token(&states, encoder.shape(texts.batch, texts.tokens))?;
    let projection = matching(model).text_projection;
    let features = tape.linear(&first, &projection, texts.batch)?;
    tape.l2_normalize(&features, RowsShape { rows: texts.batch, width: projection.outputs })
}

fn matching(model: &Blip) -> &Matching {
    model.matching.as_ref().expect("a model that is matched with has projections")
}

fn encoder(model: &Blip) -> &TextStack {
    model.encoder.as_ref().expect("a model that is matched with has a text encoder")
}

/// Alpha of this step: it grows over the first `growing` steps. Source: BLIP `pretrain.py`, `train`, where these are two
/// epochs.
pub fn alpha(full: f32, step: u64, growing: u64) -> f32 {
    match growing {
        0 => full,
        growing => full * (step as f64 / growing as f64).min(1.0) as f32,
    }
}
