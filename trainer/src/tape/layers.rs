//! Linear maps, norms, attention and dropout on a tape.

use super::{Parameter, Tape, Var};
use crate::engine::{AttentionShape, Device, Dropout, Heads, HeadsGradient, LinearShape, Result, RowsShape};

/// `x wᵀ + b`.
#[derive(Clone, Copy, Debug)]
pub struct Linear {
    /// `[outputs, inputs]`.
    pub weight: Parameter,
    /// `[outputs]`.
    pub bias: Parameter,
    /// Columns of the input.
    pub inputs: usize,
    /// Columns of the output.
    pub outputs: usize,
}

impl Linear {
    fn shape(&self, rows: usize) -> LinearShape {
        LinearShape { rows, inputs: self.inputs, outputs: self.outputs }
    }
}

/// Gain and bias of a layer norm.
#[derive(Clone, Copy, Debug)]
pub struct Norm {
    /// `[width]`.
    pub gain: Parameter,
    /// `[width]`.
    pub bias: Parameter,
    /// Added to the variance.
    pub epsilon: f32,
}

/// What an attention reads, as it was computed.
pub enum Asking<'v, D: Device> {
    /// `[batch, tokens, 3 * width]`.
    Packed(&'v Var<D>),
    /// Queries, keys, values.
    Split([&'v Var<D>; 3]),
}

impl<'p, D: Device> Tape<'p, D> {
    /// `[rows, inputs]` -> `[rows, outputs]`.
    ///
    /// # Errors
    /// As the device.
    pub fn linear(&mut self, x: &Var<D>, layer: &Linear, rows: usize) -> Result<Var<D>> {
        let (weight, bias) = (self.slice(layer.weight), self.slice(layer.bias));
        let y = self.device.linear(&x.buffer, weight, Some(bias), layer.shape(rows))?;
        Ok(self.push_linear(x, layer, rows, y))
    }

    /// The same for logits, which are 32-bit on every device.
    ///
    /// # Errors
    /// As the device.
    pub fn logits(&mut self, x: &Var<D>, layer: &Linear, rows: usize) -> Result<Var<D>> {
        let (weight, bias) = (self.slice(layer.weight), self.slice(layer.bias));
        let y = self.device.linear_logits(&x.buffer, weight, Some(bias), layer.shape(rows))?;
        Ok(self.push_linear(x, layer, rows, y))
    }

    fn push_linear(&mut self, x: &Var<D>, layer: &Linear, rows: usize, y: D::Buffer) -> Var<D> {
        let (device, shape, weight) = (self.device, layer.shape(rows), self.slice(layer.weight));
        let (x, layer) = (x.clone(), *layer);
        self.push(y, move |backward, dy| {
            device.bias_gradient(
                &dy,
                backward.parameter(layer.bias),
                RowsShape { rows: shape.rows, width: shape.outputs },
            )?;
            device.linear_weight_gradient(&dy, &x.buffer, backward.parameter(layer.weight), shape)?;
            if x.node.is_some() {
                let dx = device.linear_input_gradient(&dy, weight, shape)?;
                backward.give(x.node, dx)?;
            }
            Ok(())
        })
    }

    /// GELU between: `gelu(x w1ᵀ + b1)`.
    ///
    /// # Errors
    /// As the device.
    pub fn linear_gelu(&mut self, x: &Var<D>, layer: &Linear, rows: usize) -> Result<Var<D>> {
        let (device, shape) = (self.device, layer.shape(rows));
        let weight = self.slice(layer.weight);
        let (y, before) = device.linear_gelu(&x.buffer, weight, self.slice(layer.bias), shape)?;
        let (x, layer) = (x.clone(), *layer);
        Ok(self.push(y, move |backward, dy| {
            let dy = device.gelu_gradient(&dy, &before)?;
            device.bias_gradient(
                &dy,
                backward.parameter(layer.bias),
                RowsShape { rows: shape.rows, width: shape.outputs },
            )?;
            device.linear_weight_gradient(&dy, &x.buffer, backward.parameter(layer.weight), shape)?;
            if x.node.is_some() {
                let dx = device.linear_input_gradient(&dy, weight, shape)?;
                backward.give(x.node, dx)?;
            }
            Ok(())
        }))
    }

    /// The feed-forward block: `gelu(x w1ᵀ + b1) w2ᵀ + b2`.
    ///
    /// # Errors
    /// As the device.
    pub fn feed_forward(&mut self, x: &Var<D>, [wide, narrow]: [&Linear; 2], rows: usize) -> Result<Var<D>> {
        let device = self.device;
        let (first, second) = (wide.shape(rows), narrow.shape(rows));
        let (weight1, weight2) = (self.slice(wide.weight), self.slice(narrow.weight));
        let (hidden, before) = device.linear_gelu(&x.buffer, weight1, self.slice(wide.bias), first)?;
        let y = device.linear(&hidden, weight2, Some(self.slice(narrow.bias)), second)?;
        let (x, wide, narrow) = (x.clone(), *wide, *narrow);
        Ok(self.push(y, move |backward, dy| {
            let rows = |shape: LinearShape| RowsShape { rows: shape.rows, width: shape.outputs };
            device.bias_gradient(&dy, backward.parameter(narrow.bias), rows(second))?;
            device.linear_weight_gradient(&dy, &hidden, backward.parameter(narrow.weight), second)?;
            let dh = device.linear_gelu_input_gradient(&dy, weight2, &before, second)?;
            device.bias_gradient(&dh, backward.parameter(wide.bias), rows(first))?;
            device.linear_weight_gradient(&dh, &x.buffer, backward.parameter(wide.weight), first)?;
            if x.node.is_some() {
                let dx = device.linear_input_gradient(&dh, weight1, first)?;
                backward.give(x.node, dx)?;
            }
            Ok(())
        }))
    }

    /// Sum of two values of one length.
    ///
    /// # Errors
    /// As the device.
    pub fn add(&mut self, a: &Var<D>, b: &Var<D>) -> Result<Var<D>> {
        let y = self.device.add(&a.buffer, &b.buffer)?;
        let (a, b) = (a.node, b.node);
        Ok(self.push_if(a.is_some() || b.is_some(), y, move |backward, dy| {
            backward.give(a, dy.clone())?;
            backward.give(b, dy)
        }))
    }

    /// Layer norm of each row.
    ///
    /// # Errors
    /// As the device.
    pub fn norm(&mut self, x: &Var<D>, norm: &Norm, rows: usize) -> Result<Var<D>> {
        let (device, shape) = (self.device, RowsShape { rows, width: norm.gain.length });
        let gain = self.slice(norm.gain);
        let (y, statistics) = device.layer_norm(&x.buffer, gain, self.slice(norm.bias), shape, norm.epsilon)?;
        let (x, norm) = (x.clone(), *norm);
        Ok(self.push(y, move |backward, dy| {
            let into = backward.parameter(norm.gain);
            let dx = device.layer_norm_gradient(&dy, &x.buffer, &statistics, gain, into, norm.bias.start, shape)?;
            backward.give(x.node, dx)
        }))
    }

    /// Multi-head attention, `[batch, queries, width]`.
    ///
    /// # Errors
    /// As the device.
    pub fn attention(
        &mut self,
        asking: Asking<'_, D>,
        lengths: Option<&D::Indices>,
        dropout: Option<(f32, &'p D::Indices, u32)>,
        shape: AttentionShape,
    ) -> Result<Var<D>> {
        let device = self.device;
        let dropout = dropout.filter(|(share, ..)| *share > 0.0);
        let dropout = dropout.map(|(share, seed, site)| Dropout::<D> { share, seed, site });
        let inputs: Vec<Var<D>> = match asking {
            Asking::Packed(qkv) => vec![qkv.clone()],
            Asking::Split(qkv) => qkv.map(Clone::clone).to_vec(),
        };
        let (y, sums) = device.attention(heads(&inputs), lengths, dropout, shape)?;
        let wanted = inputs.iter().any(|input| input.node.is_some());
        let (lengths, output) = (lengths.cloned(), y.clone());
        Ok(self.push_if(wanted, y, move |backward, dy| {
            let saved = (&output, &sums);
            match device.attention_gradient(&dy, heads(&inputs), saved, lengths.as_ref(), dropout, shape)? {
                HeadsGradient::Packed(gradient) => backward.give(inputs[0].node, gradient),
                HeadsGradient::Split { q, k, v } => {
                    for (input, gradient) in inputs.iter().zip([q, k, v]) {
                        backward.give(input.node, gradient)?;
                    }
                    Ok(())
                }
            }
        }))
    }

    /// Dropout of single values, or of whole groups of `group` values (stochastic depth).
    ///
    /// # Errors
    /// As the device.
    pub fn dropout(
        &mut self,
        x: &Var<D>,
        (share, seed, site): (f32, &'p D::Indices, u32),
        group: usize,
    ) -> Result<Var<D>> {
        if share <= 0.0 {
            return Ok(x.clone());
        }
        let device = self.device;
        let dropout = Dropout::<D> { share, seed, site };
        let y = device.dropout(&x.buffer, dropout, group)?;
        let x = x.node;
        Ok(self.push_if(x.is_some(), y, move |backward, dy| {
            let dx = device.dropout(&dy, dropout, group)?;
            backward.give(x, dx)
        }))
    }
}

fn heads<D: Device>(inputs: &[Var<D>]) -> Heads<'_, D> {
    match inputs {
        [q, k, v] => Heads::Split { q: &q.buffer, k: &k.buffer, v: &v.buffer },
        packed => Heads::Packed(&packed[0].buffer),
    }
}
