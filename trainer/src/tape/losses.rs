//! Similarities and losses on a tape.

use super::{Backward, Loss, Node, Parameter, Tape, Var};
use crate::engine::{Device, LinearShape, Result, RowsShape, Slice};

/// The labels of a cross-entropy.
pub struct Labels<'a, D: Device> {
    /// A class for each row.
    pub classes: &'a D::Indices,
    /// What each row counts; zero leaves it out.
    pub weights: &'a D::Buffer,
    /// Share of each label that is spread over all classes.
    pub smoothing: f32,
}

impl<'p, D: Device> Tape<'p, D> {
    /// `x bankᵀ / temperature`. The bank gets no gradient; the temperature does.
    ///
    /// # Errors
    /// As the device.
    pub fn similarity(
        &mut self,
        x: &Var<D>,
        bank: Slice<'p, D>,
        temperature: Parameter,
        shape: LinearShape,
    ) -> Result<Var<D>> {
        let (device, divisor) = (self.device, self.slice(temperature));
        let y = device.similarity(&x.buffer, bank, divisor, shape)?;
        let (x, output) = (x.node, y.clone());
        Ok(self.push(y, move |backward, dy| {
            let into = backward.parameter(temperature);
            let dx = device.similarity_gradient(&dy, &output, bank, divisor, into, shape)?;
            backward.give(x, dx)
        }))
    }

    /// Mean over rows of the cross-entropy with whole distributions as targets.
    ///
    /// # Errors
    /// As the device.
    pub fn soft_cross_entropy(&mut self, logits: &Var<D>, targets: &D::Buffer, shape: RowsShape) -> Result<Loss<D>> {
        let device = self.device;
        let (value, saved) = device.soft_cross_entropy(&logits.buffer, targets, shape)?;
        let (logits, targets) = (logits.clone(), targets.clone());
        Ok(self.push_loss(value, move |backward, factor| {
            let gradient = device.soft_cross_entropy_gradient(&logits.buffer, &targets, &saved, shape, factor)?;
            backward.give(logits.node, gradient)
        }))
    }

    /// Sum over rows of weight times cross-entropy.
    ///
    /// # Errors
    /// As the device.
    pub fn cross_entropy(&mut self, logits: &Var<D>, labels: Labels<'_, D>, shape: RowsShape) -> Result<Loss<D>> {
        let device = self.device;
        let (classes, weights, smoothing) = (labels.classes.clone(), labels.weights.clone(), labels.smoothing);
        let (value, saved) = device.cross_entropy(&logits.buffer, &classes, &weights, smoothing, shape)?;
        let logits = logits.clone();
        Ok(self.push_loss(value, move |backward, factor| {
            let gradient =
                device.cross_entropy_gradient(&logits.buffer, &classes, &weights, &saved, smoothing, shape, factor)?;
            backward.give(logits.node, gradient)
        }))
    }

    fn push_loss(
        &mut self,
        buffer: D::Buffer,
        step: impl FnOnce(&mut Backward<'_, D>, f32) -> Result<()> + 'p,
    ) -> Loss<D> {
        let node = self.node(|| Node::Loss(Box::new(step)));
        Loss { buffer, node }
    }
}
