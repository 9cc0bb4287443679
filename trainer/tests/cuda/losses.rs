//! Cases of similarities, losses and long vectors.

use edgeblip_trainer::engine::{
    AdamW, AdamWState, Device, Direction, GradientSlice, LinearShape, NegativesShape, Result, RowsShape, scalars,
};

use crate::trial::Precision::{Bf16, F32};
use crate::trial::{Trial, slice};

/// Alpha, momentum, learning rate and corrections of some step.
fn step<D: Device>(device: &D) -> Result<D::Buffer> {
    let mut values = [0.0; scalars::COUNT];
    values[scalars::LEARNING_RATE] = 3e-3;
    values[scalars::FIRST_CORRECTION] = 1.0 - 0.9f32.powi(3);
    values[scalars::SECOND_CORRECTION] = 1.0 - 0.999f32.powi(3);
    values[scalars::ALPHA] = 0.4;
    values[scalars::MOMENTUM] = 0.995;
    device.upload(&values)
}

pub fn itc<D: Device>(trial: &mut Trial<'_, D>, shape: LinearShape) -> Result<()> {
    let LinearShape { rows, inputs, outputs } = shape;
    let device = trial.device;
    let features = RowsShape { rows, width: inputs };
    let logits = RowsShape { rows, width: outputs };
    let x = trial.buffer(rows * inputs)?;
    let (a, lengths) = device.l2_normalize(&x, features)?;
    trial.keep("normalized", &a, F32)?;
    trial.keep("lengths", &lengths, F32)?;
    let activation = trial.activation(rows * inputs)?;
    trial.keep("normalized activations", &device.l2_normalize(&activation, features)?.0, F32)?;
    let bank = trial.flat(3 + outputs * inputs)?;
    let degree = device.flat(&[9.0, 0.07])?;
    let mut gradients = trial.flat(4)?;
    let (bank, temperature) = (slice(&bank, 3, outputs * inputs), slice(&degree, 1, 1));
    let similarity = device.similarity(&a, bank, temperature, shape)?;
    trial.keep("similarity", &similarity, F32)?;
    let (names, others) = (trial.indices(rows, 3)?, trial.whole(outputs, 3));
    let mut others = others;
    others[..3].copy_from_slice(&[0, 1, 2]);
    let others = device.upload_indices(&others)?;
    let values = step(device)?;
    let targets = device.soft_targets(&similarity, &values, &names, &others)?;
    trial.keep("targets", &targets, F32)?;
    let (loss, saved) = device.soft_cross_entropy(&similarity, &targets, logits)?;
    trial.keep("loss", &loss, F32)?;
    let opinion = trial.buffer(rows * outputs)?;
    trial.keep(
        "first gradient",
        &device.soft_cross_entropy_gradient(&similarity, &targets, &saved, logits, 2.0)?,
        F32,
    )?;
    let (_, saved) = device.soft_cross_entropy(&similarity, &opinion, logits)?;
    let slope = device.soft_cross_entropy_gradient(&similarity, &opinion, &saved, logits, 0.5)?;
    trial.keep("logits' gradient", &slope, F32)?;
    let into = GradientSlice { flat: &mut gradients, start: 2 };
    let slope = device.similarity_gradient(&slope, &similarity, bank, temperature, into, shape)?;
    trial.keep("features' gradient", &slope, F32)?;
    trial.keep_flat("temperature's gradient", &gradients, F32)?;
    trial.keep("input's gradient", &device.l2_normalize_gradient(&slope, (&a, &lengths), features)?, Bf16)
}

pub fn negatives<D: Device>(trial: &mut Trial<'_, D>, shape: LinearShape) -> Result<()> {
    let (rows, columns) = (shape.rows, shape.outputs);
    let device = trial.device;
    let candidates = rows + (columns - rows) / 2;
    let similarity = trial.buffer(rows * columns)?;
    let names: Vec<u32> = (0..columns as u32).map(|column| column % 5).collect();
    let (own, all) = (device.upload_indices(&names[..rows])?, device.upload_indices(&names)?);
    let seed = trial.seed()?;
    for direction in [Direction::PictureForText, Direction::TextForPicture] {
        let shape = NegativesShape { rows, columns, candidates, first: 0, direction };
        trial.keep_indices("negatives", &device.draw_negatives(&similarity, (&own, &all), &seed, shape)?)?;
    }
    Ok(())
}

pub fn cross_entropies<D: Device>(trial: &mut Trial<'_, D>, shape: RowsShape) -> Result<()> {
    let RowsShape { rows, width } = shape;
    let device = trial.device;
    let logits = trial.buffer(rows * width)?;
    let labels = trial.indices(rows, width as u64)?;
    let mut weights = trial.values(rows);
    weights[0] = 0.0;
    let weights = device.upload(&weights)?;
    for smoothing in [0.0, 0.1] {
        let (loss, saved) = device.cross_entropy(&logits, &labels, &weights, smoothing, shape)?;
        trial.keep("loss", &loss, F32)?;
        let slope = device.cross_entropy_gradient(&logits, &labels, &weights, &saved, smoothing, shape, 0.25)?;
        trial.keep("gradient", &slope, Bf16)?;
    }
    let activation = trial.activation(rows * width)?;
    let (loss, saved) = device.cross_entropy(&activation, &labels, &weights, 0.1, shape)?;
    trial.keep("loss of activations", &loss, F32)?;
    let slope = device.cross_entropy_gradient(&activation, &labels, &weights, &saved, 0.1, shape, 0.25)?;
    trial.keep("activations' gradient", &slope, Bf16)
}

pub fn long_vectors<D: Device>(trial: &mut Trial<'_, D>, count: usize) -> Result<()> {
    let device = trial.device;
    let values = step(device)?;
    let gradients = trial.flat(count)?;
    let norm = device.squared_norm(&gradients)?;
    trial.keep("squared norm", &norm, F32)?;
    let (mut weights, mut average) = (trial.flat(count)?, trial.flat(count)?);
    let zeros = vec![0.0; count];
    let (mut first, mut second) = (device.flat(&zeros)?, device.flat(&zeros)?);
    for (max_norm, range) in [(1.0, 0..count), (f32::INFINITY, count / 3..count - count / 7)] {
        let state =
            AdamWState { weights: &mut weights, gradients: &gradients, first: &mut first, second: &mut second, range };
        let constants = AdamW { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.05, max_norm };
        device.adamw(state, constants, &norm, &values)?;
        device.moving_average(&mut average, &weights, &values)?;
    }
    trial.keep_flat("weights", &weights, F32)?;
    trial.keep_flat("first moments", &first, F32)?;
    trial.keep_flat("second moments", &second, F32)?;
    trial.keep_flat("average", &average, F32)?;
    device.scale_flat(&mut average, -3.0)?;
    device.clamp(&mut average, count / 2, [0.1, 0.2])?;
    let at = device.upload_indices(&[count as u32 / 4])?;
    let some = trial.buffer(count.div_ceil(4))?;
    device.write_flat(&mut average, 0, &at, &some)?;
    trial.keep_flat("changed in place", &average, F32)?;
    let part = device.read_slice(slice(&average, count / 3, count / 4))?;
    let part = device.upload(&part)?;
    trial.keep("a part", &part, F32)?;
    shadows(trial, count)?;
    device.clear(&mut average)?;
    trial.keep_flat("cleared", &average, F32)
}

/// What products read of a vector follows whatever changes it.
fn shadows<D: Device>(trial: &mut Trial<'_, D>, count: usize) -> Result<()> {
    let device = trial.device;
    let shape = LinearShape { rows: 1, inputs: 1, outputs: count };
    let one = device.upload(&[1.0])?;
    let values = step(device)?;
    let (mut flat, other) = (trial.flat(count)?, trial.flat(count)?);
    trial.keep("read", &device.linear(&one, slice(&flat, 0, count), None, shape)?, Bf16)?;
    device.scale_flat(&mut flat, 2.0)?;
    trial.keep("scaled", &device.linear(&one, slice(&flat, 0, count), None, shape)?, Bf16)?;
    device.moving_average(&mut flat, &other, &values)?;
    trial.keep("averaged", &device.linear(&one, slice(&flat, 0, count), None, shape)?, Bf16)?;
    device.clamp(&mut flat, 0, [7.0, 8.0])?;
    trial.keep("clamped", &device.linear(&one, slice(&flat, 0, count), None, shape)?, Bf16)?;
    let at = device.upload_indices(&[0])?;
    let some = trial.buffer(1)?;
    let activation = device.linear(&some, slice(&other, 0, 1), None, LinearShape { rows: 1, inputs: 1, outputs: 1 })?;
    device.write_flat(&mut flat, count - 1, &at, &activation)?;
    trial.keep("written", &device.linear(&one, slice(&flat, 0, count), None, shape)?, Bf16)?;
    let (zeros, norm) = (vec![0.0; count], device.upload(&[4.0])?);
    let (mut first, mut second) = (device.flat(&zeros)?, device.flat(&zeros)?);
    for (range, weight_decay) in [(0..count / 2, 0.0), (count / 2..count, 0.5)] {
        let state = AdamWState { weights: &mut flat, gradients: &other, first: &mut first, second: &mut second, range };
        let constants = AdamW { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay, max_norm: 1.0 };
        device.adamw(state, constants, &norm, &values)?;
    }
    trial.keep("stepped", &device.linear(&one, slice(&flat, 0, count), None, shape)?, Bf16)?;
    device.clear(&mut flat)?;
    trial.keep("cleared", &device.linear(&one, slice(&flat, 0, count), None, shape)?, Bf16)
}
