//! Linear layers and their gradients.
//!
//! cuBLASLt's GELU epilogues are not used: they compute the tanh approximation, and BLIP's GELU is the error function's.
//! Source: PyTorch `aten/src/ATen/native/cuda/Blas.cpp`, where `gelu_(…, "tanh")` stands in for that epilogue.

use super::driver::{Address, Before, Element, Factor, Grid, Product, Stored};
use super::memory::Buffer;
use super::{Cuda, Result};
use crate::engine::{GradientSlice, LinearShape, Slice};

/// cuBLASLt reads a bias by vectors of so many bytes.
const BIAS_ALIGNMENT: Address = 16;

fn by_row(at: Address) -> Factor {
    Factor { at, stored: Stored::ByRow }
}

fn by_column(at: Address) -> Factor {
    Factor { at, stored: Stored::ByColumn }
}

impl Cuda {
    pub(super) fn product(
        &self,
        x: &Buffer,
        weight: Slice<'_, Cuda>,
        bias: Option<Slice<'_, Cuda>>,
        shape: LinearShape,
        element: Element,
    ) -> Result<Buffer> {
        let LinearShape { rows, inputs, outputs } = shape;
        assert_eq!(weight.length, inputs * outputs, "a weight has the shape's size");
        let x = self.narrowed(x)?;
        let out = self.room(rows * outputs, element)?;
        let plain = bias.map(|bias| bias.flat.part(bias.start, outputs));
        let fused = match (bias, element) {
            (Some(bias), Element::Bf16) => Some(bias.flat.shadow_part(bias.start, outputs)?),
            _ => plain,
        };
        let product = Product {
            left: by_row(x.of(rows * inputs)),
            right: by_column(weight.flat.shadow_part(weight.start, weight.length)?),
            element: Element::Bf16,
            out: out.at(),
            out_element: element,
            bias: fused.filter(|bias| bias % BIAS_ALIGNMENT == 0),
            before: Before::Overwritten,
            rows,
            columns: outputs,
            inner: inputs,
        };
        self.context.multiply(&product, plain)?;
        Ok(out)
    }

    pub(super) fn product_and_gelu(
        &self,
        x: &Buffer,
        weight: Slice<'_, Cuda>,
        bias: Slice<'_, Cuda>,
        shape: LinearShape,
    ) -> Result<(Buffer, Buffer)> {
        let before = self.product(x, weight, Some(bias), shape, Element::Bf16)?;
        let count = before.length();
        let out = self.activations(count)?;
        self.context.launch(
            "gelu",
            Grid::each(count.div_ceil(8)),
            &[before.at().into(), out.at().into(), count.into()],
        )?;
        Ok((out, before))
    }

    pub(super) fn product_input_gradient(
        &self,
        dy: &Buffer,
        weight: Slice<'_, Cuda>,
        shape: LinearShape,
    ) -> Result<Buffer> {
        let LinearShape { rows, inputs, outputs } = shape;
        assert_eq!(weight.length, inputs * outputs, "a weight has the shape's size");
        let dy = self.narrowed(dy)?;
        let out = self.activations(rows * inputs)?;
        let product = Product {
            left: by_row(dy.of(rows * outputs)),
            right: by_row(weight.flat.shadow_part(weight.start, weight.length)?),
            element: Element::Bf16,
            out: out.at(),
            out_element: Element::Bf16,
            bias: None,
            before: Before::Overwritten,
            rows,
            columns: inputs,
            inner: outputs,
        };
        self.context.multiply(&product, None)?;
        Ok(out)
    }

    /// Multiplies a gradient by the GELU's slope, in `out`'s memory.
    pub(super) fn gelu_slope(&self, dy: &Buffer, before: &Buffer, out: &Buffer) -> Result<()> {
        let count = before.length();
        let arguments = [dy.of(count).into(), before.at().into(), out.of(count).into(), count.into()];
        self.context.launch("gelu_gradient", Grid::each(count.div_ceil(8)), &arguments)
    }

    pub(super) fn product_weight_gradient(
        &self,
        dy: &Buffer,
        x: &Buffer,
        into: GradientSlice<'_, Cuda>,
        shape: LinearShape,
    ) -> Result<()> {
        let LinearShape { rows, inputs, outputs } = shape;
        let (dy, x) = (self.narrowed(dy)?, self.narrowed(x)?);
        let product = Product {
            left: by_column(dy.of(rows * outputs)),
            right: by_row(x.of(rows * inputs)),
            element: Element::Bf16,
            out: into.flat.part(into.start, inputs * outputs),
            out_element: Element::F32,
            bias: None,
            before: Before::Added,
            rows: outputs,
            columns: inputs,
            inner: rows,
        };
        self.context.multiply(&product, None)?;
        into.flat.renew()
    }

    /// `a bankᵀ / temperature`. The temperature is applied to `a`, which is small.
    pub(super) fn similarities(
        &self,
        a: &Buffer,
        bank: Slice<'_, Cuda>,
        temperature: Slice<'_, Cuda>,
        shape: LinearShape,
    ) -> Result<Buffer> {
        let LinearShape { rows, inputs, outputs } = shape;
        let a = self.widened(a)?;
        let scaled = self.values(rows * inputs)?;
        let out = self.values(rows * outputs)?;
        self.divide(&a, temperature, scaled.of(a.length()))?;
        let product = Product {
            left: by_row(scaled.at()),
            right: by_column(bank.flat.part(bank.start, outputs * inputs)),
            element: Element::F32,
            out: out.at(),
            out_element: Element::F32,
            bias: None,
            before: Before::Overwritten,
            rows,
            columns: outputs,
            inner: inputs,
        };
        self.context.multiply(&product, None)?;
        Ok(out)
    }

    pub(super) fn similarities_gradient(
        &self,
        slopes: (&Buffer, &Buffer),
        bank: Slice<'_, Cuda>,
        temperature: Slice<'_, Cuda>,
        into: GradientSlice<'_, Cuda>,
        shape: LinearShape,
    ) -> Result<Buffer> {
        let LinearShape { rows, inputs, outputs } = shape;
        let (dy, similarity) = (self.widened(slopes.0)?, slopes.1);
        let count = rows * outputs;
        let out = self.values(rows * inputs)?;
        let product = Product {
            left: by_row(dy.of(count)),
            right: by_row(bank.flat.part(bank.start, outputs * inputs)),
            element: Element::F32,
            out: out.at(),
            out_element: Element::F32,
            bias: None,
            before: Before::Overwritten,
            rows,
            columns: inputs,
            inner: outputs,
        };
        self.context.multiply(&product, None)?;
        self.divide(&out, temperature, out.at())?;
        let grid = Grid::each(count);
        let partial = self.values(grid.blocks[0])?;
        let arguments = [dy.at().into(), similarity.of(count).into(), partial.at().into(), count.into()];
        self.context.launch("dot_partials", grid, &arguments)?;
        let degree = temperature.flat.part(temperature.start, 1);
        let into_at = into.flat.part(into.start, 1);
        let arguments = [partial.at().into(), degree.into(), into_at.into(), partial.length().into()];
        self.context.launch("temperature_gradient", Grid::blocks(1), &arguments)?;
        into.flat.renew()?;
        Ok(out)
    }

    fn divide(&self, x: &Buffer, by: Slice<'_, Cuda>, out: Address) -> Result<()> {
        let arguments = [x.at().into(), by.flat.part(by.start, 1).into(), out.into(), x.length().into()];
        self.context.launch("divide_by", Grid::each(x.length()), &arguments)
    }
}
