//! Long vectors: the optimizer, the momentum copies, the queues.

use super::driver::{Element, Grid};
use super::memory::{Buffer, Flat, Indices};
use super::{Cuda, Result};
use crate::engine::{AdamW, AdamWState, scalars};

/// Blocks of a sum over a whole vector, and so partial sums: fixed, so that the sum is the same on every GPU.
const SUM_BLOCKS: usize = 1024;

impl Cuda {
    pub(super) fn cleared(&self, flat: &Flat) -> Result<()> {
        self.context.zero(flat.part(0, flat.length()), flat.length() * 4)?;
        flat.renew()
    }

    pub(super) fn sum_of_squares(&self, flat: &Flat) -> Result<Buffer> {
        let count = flat.length();
        let (partial, out) = (self.values(SUM_BLOCKS)?, self.values(1)?);
        let arguments = [flat.part(0, count).into(), partial.at().into(), count.into()];
        self.context.launch("squares_partials", Grid::blocks(SUM_BLOCKS), &arguments)?;
        let arguments = [partial.at().into(), out.at().into(), SUM_BLOCKS.into(), 1.0f32.into()];
        self.context.launch("sum_values", Grid { threads: 1024, ..Grid::blocks(1) }, &arguments)?;
        Ok(out)
    }

    pub(super) fn adamw_step(
        &self,
        state: AdamWState<'_, Cuda>,
        constants: AdamW,
        squared_norm: &Buffer,
        values: &Buffer,
    ) -> Result<()> {
        let (start, count) = (state.range.start, state.range.len());
        let mut arguments = vec![state.weights.part(start, count).into(), state.weights.shadow_from(start).into()];
        arguments.extend([state.gradients, state.first, state.second].map(|flat| flat.part(start, count).into()));
        arguments.extend([squared_norm.of(1).into(), values.of(scalars::COUNT).into(), count.into()]);
        let AdamW { beta1, beta2, epsilon, weight_decay, max_norm } = constants;
        arguments.extend([beta1, beta2, epsilon, weight_decay, max_norm].map(|constant| constant.into()));
        self.context.launch("adamw", Grid::each(count), &arguments)
    }

    pub(super) fn averaged(&self, average: &Flat, values: &Flat, step: &Buffer) -> Result<()> {
        let count = average.length();
        let arguments = [
            average.part(0, count).into(),
            average.shadow_or_null().into(),
            values.part(0, count).into(),
            step.of(scalars::COUNT).into(),
            count.into(),
        ];
        self.context.launch("moving_average", Grid::each(count), &arguments)
    }

    pub(super) fn clamped(&self, flat: &Flat, at: usize, [low, high]: [f32; 2]) -> Result<()> {
        flat.part(at, 1);
        let arguments = [flat.part(0, 1).into(), flat.shadow_or_null().into(), at.into(), low.into(), high.into()];
        self.context.launch("clamp", Grid { threads: 1, ..Grid::blocks(1) }, &arguments)
    }

    pub(super) fn written(&self, flat: &Flat, start: usize, at: &Indices, values: &Buffer) -> Result<()> {
        let count = values.length();
        let kernel = match values.element() {
            Element::Bf16 => "write_flat_bf16",
            Element::F32 => "write_flat_f32",
        };
        let arguments = [
            flat.part(0, start + count).into(),
            flat.shadow_or_null().into(),
            start.into(),
            at.of(1).into(),
            values.at().into(),
            count.into(),
        ];
        self.context.launch(kernel, Grid::each(count), &arguments)
    }

    pub(super) fn scaled(&self, flat: &Flat, factor: f32) -> Result<()> {
        let count = flat.length();
        let arguments = [flat.part(0, count).into(), flat.shadow_or_null().into(), count.into(), factor.into()];
        self.context.launch("scale_flat", Grid::each(count), &arguments)
    }
}
