//! Records the forward pass and plays it backward.
//!
//! Model code reads like the forward pass. Every operation keeps what its backward needs, and only where a gradient
//! is wanted: a tape that forgets, or an input that is a constant, keeps nothing.

mod layers;
mod sequences;
mod losses;

pub use layers::{Asking, Linear, Norm};
pub use losses::Labels;

use crate::engine::{Device, GradientSlice, Result, Slice};

/// A parameter's place among all parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parameter {
    /// First value.
    pub start: usize,
    /// Number of values.
    pub length: usize,
}

/// A value on a tape.
pub struct Var<D: Device> {
    /// What was computed.
    pub buffer: D::Buffer,
    node: Option<usize>,
}

impl<D: Device> Clone for Var<D> {
    fn clone(&self) -> Self {
        Var { buffer: self.buffer.clone(), node: self.node }
    }
}

/// A loss on a tape: one value, where the backward pass can start.
pub struct Loss<D: Device> {
    /// The value.
    pub buffer: D::Buffer,
    node: Option<usize>,
}

impl<D: Device> Clone for Loss<D> {
    fn clone(&self) -> Self {
        Loss { buffer: self.buffer.clone(), node: self.node }
    }
}

/// Whether a backward pass will follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Memory {
    Keep,
    Forget,
}

type Step<'p, D> = Box<dyn FnOnce(&mut Backward<'_, D>, <D as Device>::Buffer) -> Result<()> + 'p>;
type LossStep<'p, D> = Box<dyn FnOnce(&mut Backward<'_, D>, f32) -> Result<()> + 'p>;

enum Node<'p, D: Device> {
    /// An input whose gradient is wanted.
    Leaf,
    Inner(Step<'p, D>),
    Loss(LossStep<'p, D>),
}

/// A forward pass over one set of parameters.
pub struct Tape<'p, D: Device> {
    device: &'p D,
    parameters: &'p D::Flat,
    memory: Memory,
    nodes: Vec<Node<'p, D>>,
}

/// What a backward step may do: give gradients to its inputs and add to those of parameters.
pub struct Backward<'a, D: Device> {
    device: &'a D,
    gradients: Vec<Option<D::Buffer>>,
    flat: &'a mut D::Flat,
}

impl<D: Device> Backward<'_, D> {
    /// Adds to the gradient of a value; nothing happens for a constant.
    fn give(&mut self, node: Option<usize>, gradient: D::Buffer) -> Result<()> {
        let Some(node) = node else { return Ok(()) };
        self.gradients[node] = Some(match self.gradients[node].take() {
            Some(sum) => self.device.accumulate(sum, &gradient)?,
            None => gradient,
        });
        Ok(())
    }

    /// Where the gradient of a parameter is.
    fn parameter(&mut self, parameter: Parameter) -> GradientSlice<'_, D> {
        GradientSlice { flat: self.flat, start: parameter.start }
    }
}

impl<'p, D: Device> Tape<'p, D> {
    /// A tape for training.
    pub fn recording(device: &'p D, parameters: &'p D::Flat) -> Tape<'p, D> {
        Tape { device, parameters, memory: Memory::Keep, nodes: Vec::new() }
    }

    /// A tape that keeps nothing: for momentum encoders, captions and measurements.
    pub fn forgetting(device: &'p D, parameters: &'p D::Flat) -> Tape<'p, D> {
        Tape { device, parameters, memory: Memory::Forget, nodes: Vec::new() }
    }

    /// The device that computes.
    pub fn device(&self) -> &'p D {
        self.device
    }

    /// The parameters that it reads.
    pub fn parameters(&self) -> &'p D::Flat {
        self.parameters
    }

    /// A value that needs no gradient.
    pub fn constant(&self, buffer: D::Buffer) -> Var<D> {
        Var { buffer, node: None }
    }

    /// The values of a parameter.
    fn slice(&self, parameter: Parameter) -> Slice<'p, D> {
        Slice { flat: self.parameters, start: parameter.start, length: parameter.length }
    }

    /// Puts an operation's result on the tape. `step` is called with its gradient.
    fn push(
        &mut self,
        buffer: D::Buffer,
        step: impl FnOnce(&mut Backward<'_, D>, D::Buffer) -> Result<()> + 'p,
    ) -> Var<D> {
        let node = self.node(|| Node::Inner(Box::new(step)));
        Var { buffer, node }
    }

    /// The same for an operation without parameters, whose result needs no gradient if its inputs need none.
    fn push_if(
        &mut self,
        wanted: bool,
        buffer: D::Buffer,
        step: impl FnOnce(&mut Backward<'_, D>, D::Buffer) -> Result<()> + 'p,
    ) -> Var<D> {
        if wanted { self.push(buffer, step) } else { self.constant(buffer) }
    }

    fn node(&mut self, node: impl FnOnce() -> Node<'p, D>) -> Option<usize> {
        if self.memory == Memory::Forget {
            return None;
        }
        self.nodes.push(node());
        Some(self.nodes.len() - 1)
    }

    /// Runs `layer` without keeping what is inside it; the backward pass runs it again. `layer` must compute the same both
    /// times. Source: Chen et al., arXiv 1604.06174.
    ///
    /// # Errors
    /// As the layer.
    pub fn checkpoint(
        &mut self,
        inputs: &[&Var<D>],
        layer: impl Fn(&mut Tape<'p, D>, &[Var<D>]) -> Result<Var<D>> + 'p,
    ) -> Result<Var<D>> {
        let (device, parameters) = (self.device, self.parameters);
        let constants: Vec<Var<D>> = inputs.iter().map(|input| self.constant(input.buffer.clone())).collect();
        let output = layer(&mut Tape::forgetting(device, parameters), &constants)?;
        let nodes: Vec<Option<usize>> = inputs.iter().map(|input| input.node).collect();
        Ok(self.push(output.buffer, move |backward, dy| {
            let mut again = Tape::recording(device, parameters);
            let leaves: Vec<Var<D>> = constants
                .into_iter()
                .map(|constant| Var { buffer: constant.buffer, node: again.node(|| Node::Leaf) })
                .collect();
            let output = layer(&mut again, &leaves)?;
            let mut inner = Backward { device, gradients: Vec::new(), flat: &mut *backward.flat };
            inner.gradients.resize_with(again.nodes.len(), || None);
            inner.give(output.node, dy)?;
            let mut gradients = again.play(inner, &[])?;
            for (leaf, node) in nodes.into_iter().enumerate() {
                if let Some(gradient) = gradients[leaf].take() {
                    backward.give(node, gradient)?;
                }
            }
            Ok(())
        }))
    }

    /// Plays the tape backward from `losses`, each with the factor that it has in the sum, and adds the parameters'
    /// gradients to `gradients`.
    ///
    /// # Errors
    /// As the device.
    pub fn backward(self, losses: &[(&Loss<D>, f32)], gradients: &mut D::Flat) -> Result<()> {
        let mut backward = Backward { device: self.device, gradients: Vec::new(), flat: gradients };
        backward.gradients.resize_with(self.nodes.len(), || None);
        let factors: Vec<(usize, f32)> =
            losses.iter().filter_map(|(loss, factor)| loss.node.map(|node| (node, *factor))).collect();
        self.play(backward, &factors)?;
        Ok(())
    }

    fn play(mut self, mut backward: Backward<'_, D>, losses: &[(usize, f32)]) -> Result<Vec<Option<D::Buffer>>> {
        while let Some(node) = self.nodes.pop() {
            let place = self.nodes.len();
            match node {
                Node::Leaf => {}
                Node::Inner(step) => {
                    if let Some(gradient) = backward.gradients[place].take() {
                        step(&mut backward, gradient)?;
                    }
                }
                Node::Loss(step) => {
                    let factor: f32 = losses.iter().filter(|(node, _)| *node == place).map(|(_, factor)| factor).sum();
                    if factor != 0.0 {
                        step(&mut backward, factor)?;
                    }
                }
            }
        }
        Ok(backward.gradients)
    }
}
