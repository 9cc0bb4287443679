//! Derivatives against finite differences in 64 bits, and answers that threads do not change.

mod derivatives;
mod loss_derivatives;
mod threads;
mod vectors;

use super::{Cpu, CpuBuffer, CpuFlat, Real};
use crate::engine::{GradientSlice, Slice, random_bits};

/// Sizes around a vector register, and of nothing but itself.
const ROWS: [usize; 3] = [1, 5, 37];
const WIDTHS: [usize; 3] = [1, 24, 33];

/// Values from -1 to 1.
fn values(seed: u64, length: usize) -> Vec<f64> {
    (0..length as u64).map(|place| (random_bits(seed << 32, place) >> 40) as f64 / (1u64 << 23) as f64 - 1.0).collect()
}

fn whole<F: Real>(flat: &CpuFlat<F>) -> Slice<'_, Cpu<F>> {
    Slice { flat, start: 0, length: flat.values().len() }
}

fn all_of<F: Real>(flat: &mut CpuFlat<F>) -> GradientSlice<'_, Cpu<F>> {
    GradientSlice { flat, start: 0 }
}

/// An operation: what it gives for its inputs, and the gradients of these for one of what it gave.
struct Operation<'a> {
    name: String,
    inputs: Vec<Vec<f64>>,
    forward: &'a dyn Fn(&[CpuBuffer<f64>]) -> CpuBuffer<f64>,
    backward: &'a Backward<'a>,
}

/// Of inputs and the gradient of the result.
type Backward<'a> = dyn Fn(&[CpuBuffer<f64>], &CpuBuffer<f64>) -> Vec<Vec<f64>> + 'a;

impl Operation<'_> {
    /// Compares the backward with central differences of `sum(dy * forward)` at every input value.
    ///
    /// The differences are off by the third derivative times `STEP^2 / 6`, and by rounding, about `1e-16 / STEP`.
    fn check(&self) {
        const STEP: f64 = 1.0 / 8192.0;
        const TOLERANCE: f64 = 2e-6;
        let cpu = Cpu::<f64>::new(1).unwrap();
        let buffers: Vec<_> = self.inputs.iter().map(|input| cpu.buffer(input)).collect();
        let out = (self.forward)(&buffers);
        let dy = cpu.buffer(&values(99, out.len()));
        let gradients = (self.backward)(&buffers, &dy);
        assert_eq!(gradients.len(), self.inputs.len(), "{}", self.name);
        let loss = |input: usize, place: usize, step: f64| -> f64 {
            let mut moved = self.inputs[input].clone();
            moved[place] += step;
            let mut buffers = buffers.clone();
            buffers[input] = cpu.buffer(&moved);
            (self.forward)(&buffers).iter().zip(dy.iter()).map(|(y, dy)| y * dy).sum()
        };
        for (input, gradient) in gradients.iter().enumerate() {
            assert_eq!(gradient.len(), self.inputs[input].len(), "{} input {input}", self.name);
            let largest = gradient.iter().fold(1.0, |most: f64, value| most.max(value.abs()));
            let step = gradient.len().div_ceil(150);
            for place in (0..gradient.len()).step_by(step) {
                let expected = (loss(input, place, STEP) - loss(input, place, -STEP)) / (2.0 * STEP);
                let error = (gradient[place] - expected).abs() / largest;
                let name = &self.name;
                assert!(error < TOLERANCE, "{name} input {input} at {place}: {} for {expected}", gradient[place]);
            }
        }
    }
}
