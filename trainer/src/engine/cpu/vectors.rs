//! Value by value: dropout, and what an optimizer does with all parameters at once.

use super::real::Real;
use super::workers::{VALUES_PER_TASK, Workers, dot, vectorized};
use crate::engine::{AdamW, keeps, scalars};

/// Keeps the clip finite. Source: PyTorch `torch.nn.utils.clip_grad_norm_`.
const NORM_EPSILON: f64 = 1e-6;

/// Zero for groups of `group` values at random, larger for the others.
pub fn dropout<F: Real>(workers: &Workers, out: &mut [F], x: &[F], (share, seed, site): (f32, u64, u32), group: usize) {
    let factor = F::ONE / (F::ONE - F::from_f32(share));
    if group == 1 {
        let parts = out.chunks_mut(VALUES_PER_TASK).zip(x.chunks(VALUES_PER_TASK));
        return workers.each(parts, |task, (out, x)| {
            let first = (task * VALUES_PER_TASK) as u64;
            vectorized(
                #[inline(always)]
                || {
                    for (place, (out, x)) in out.iter_mut().zip(x).enumerate() {
                        *out = if keeps(seed, site, first + place as u64, share) { *x * factor } else { F::ZERO };
                    }
                },
            );
        });
    }
    workers.each(out.chunks_mut(group).zip(x.chunks(group)), |place, (out, x)| {
        let factor = if keeps(seed, site, place as u64, share) { factor } else { F::ZERO };
        out.iter_mut().zip(x).for_each(|(out, x)| *out = *x * factor);
    });
}

/// Sum of squares.
pub fn squared_norm<F: Real>(workers: &Workers, values: &[F]) -> F {
    const VALUES: usize = 4096;
    let mut sums = vec![0.0; values.len().div_ceil(VALUES_PER_TASK)];
    workers.each(sums.iter_mut().zip(values.chunks(VALUES_PER_TASK)), |_, (sum, values)| {
        *sum = vectorized(
            #[inline(always)]
            || {
                values
                    .chunks(VALUES)
                    .map(
                        #[inline(always)]
                        |values| dot(values, values).to_f64(),
                    )
                    .sum()
            },
        );
    });
    F::from_f64(sums.iter().sum())
}

/// What changes from step to step.
pub struct Step {
    /// Learning rate.
    pub learning_rate: f64,
    /// `1 - beta1^step` and `1 - beta2^step`.
    pub corrections: [f64; 2],
    /// Of all gradients together.
    pub squared_norm: f64,
}

impl Step {
    /// From the places of [`scalars`].
    pub fn new(squared_norm: f64, scalar: impl Fn(usize) -> f64) -> Self {
        Self {
            learning_rate: scalar(scalars::LEARNING_RATE),
            corrections: [scalar(scalars::FIRST_CORRECTION), scalar(scalars::SECOND_CORRECTION)],
            squared_norm,
        }
    }
}

/// One step for some parameters, in the order of PyTorch's `_single_tensor_adamw`: decay, moments, step.
pub fn adamw<F: Real>(
    workers: &Workers,
    [weights, first, second]: [&mut [F]; 3],
    gradients: &[F],
    constants: AdamW,
    step: &Step,
) {
    let length = weights.len();
    assert!(first.len() == length && second.len() == length && gradients.len() == length, "lengths");
    let real = |value: f32| F::from_f32(value);
    let clip = (f64::from(constants.max_norm) / (step.squared_norm.sqrt() + NORM_EPSILON)).min(1.0);
    // `min` passes over what is not a number.
    let clip = F::from_f64(if step.squared_norm.is_nan() { f64::NAN } else { clip });
    let kept = F::from_f64(1.0 - step.learning_rate * f64::from(constants.weight_decay));
    let rate = F::from_f64(step.learning_rate / step.corrections[0]);
    let root_factor = F::from_f64(1.0 / step.corrections[1].sqrt());
    let [beta1, beta2, epsilon] = [constants.beta1, constants.beta2, constants.epsilon].map(real);
    let moments = first.chunks_mut(VALUES_PER_TASK).zip(second.chunks_mut(VALUES_PER_TASK));
    let parts = weights.chunks_mut(VALUES_PER_TASK).zip(gradients.chunks(VALUES_PER_TASK)).zip(moments);
    workers.each(parts, |_, ((weights, gradients), (first, second))| {
        vectorized(
            #[inline(always)]
            || {
                let moments = first.iter_mut().zip(second.iter_mut());
                for ((weight, gradient), (first, second)) in weights.iter_mut().zip(gradients).zip(moments) {
                    let gradient = *gradient * clip;
                    *first += (gradient - *first) * (F::ONE - beta1);
                    *second = *second * beta2 + gradient * gradient * (F::ONE - beta2);
                    let root = second.sqrt() * root_factor + epsilon;
                    *weight = *weight * kept - rate * *first / root;
                }
            },
        );
    });
}

/// `average = momentum average + (1 - momentum) values`.
pub fn moving_average<F: Real>(workers: &Workers, average: &mut [F], values: &[F], momentum: F) {
    let rest = F::ONE - momentum;
    workers.update(
        average,
        values,
        #[inline(always)]
        |average, value| average * momentum + value * rest,
    );
}

/// Puts a value between two others; what is not a number stays so.
pub fn clamp<F: Real>(value: &mut F, lowest: F, highest: F) {
    if *value < lowest {
        *value = lowest;
    } else if *value > highest {
        *value = highest;
    }
}
