//! Sums, layer normalisation, dropout.

use super::driver::{Address, Argument, Element, Grid};
use super::memory::{Buffer, Flat};
use super::{Cuda, Result};
use crate::engine::{Dropout, GradientSlice, RowsShape, Slice};

/// Threads of a block of the fused layer norm gradient: each keeps much in registers.
const NORM_THREADS: usize = 128;
/// Most of its blocks, and so most partial sums.
const NORM_BLOCKS: usize = 384;
/// Most vectors of eight that a thread of it keeps; beyond, another kernel works without.
const NORM_GRADIENT_VECTORS: usize = 4;
/// Rows that a block sums up for the gradient of a bias.
const STRIP: usize = 64;

/// The kernel for rows of `width` values: one that keeps a row in registers, if there is one.
fn kernel_for(width: usize, kernels: &[(usize, &'static str)], any: &'static str) -> &'static str {
    if !width.is_multiple_of(8) {
        return any;
    }
    kernels.iter().find(|(vectors, _)| width <= vectors * 256).map_or(any, |(_, kernel)| kernel)
}

impl Cuda {
    /// `a + b` in `out`'s memory, all held alike.
    fn add_into(&self, a: &Buffer, b: &Buffer, out: &Buffer) -> Result<()> {
        let count = out.length();
        let kernel = match out.element() {
            Element::Bf16 => "add_bf16",
            Element::F32 => "add_f32",
        };
        let arguments = [a.of(count).into(), b.of(count).into(), out.at().into(), count.into()];
        self.context.launch(kernel, Grid::each(count.div_ceil(8)), &arguments)
    }

    pub(super) fn sum(&self, a: &Buffer, b: &Buffer) -> Result<Buffer> {
        let (a, b) = self.alike(a, b)?;
        let out = self.room(a.length(), a.element())?;
        self.add_into(&a, &b, &out)?;
        Ok(out)
    }

    pub(super) fn accumulated(&self, a: Buffer, b: &Buffer) -> Result<Buffer> {
        if !a.is_alone() || (a.element() == Element::Bf16 && b.element() == Element::F32) {
            return self.sum(&a, b);
        }
        let (a, b) = self.alike(&a, b)?;
        self.add_into(&a, &b, &a)?;
        Ok(a)
    }

    /// Both in 32 bits where one is.
    fn alike(&self, a: &Buffer, b: &Buffer) -> Result<(Buffer, Buffer)> {
        if a.element() == b.element() {
            return Ok((a.clone(), b.clone()));
        }
        Ok((self.widened(a)?, self.widened(b)?))
    }

    pub(super) fn normalized(
        &self,
        x: &Buffer,
        gain: Slice<'_, Cuda>,
        bias: Slice<'_, Cuda>,
        shape: RowsShape,
        epsilon: f32,
    ) -> Result<(Buffer, Buffer)> {
        let RowsShape { rows, width } = shape;
        let x = self.narrowed(x)?;
        let (out, statistics) = (self.activations(rows * width)?, self.values(2 * rows)?);
        let kernels =
            [(1, "layer_norm_1"), (2, "layer_norm_2"), (3, "layer_norm_3"), (4, "layer_norm_4"), (8, "layer_norm_8")];
        let arguments = [
            x.of(rows * width).into(),
            gain.flat.part(gain.start, width).into(),
            bias.flat.part(bias.start, width).into(),
            out.at().into(),
            statistics.at().into(),
            rows.into(),
            width.into(),
            epsilon.into(),
        ];
        self.context.launch(kernel_for(width, &kernels, "layer_norm_any"), Grid::warps(rows), &arguments)?;
        Ok((out, statistics))
    }

    pub(super) fn normalized_gradient(
        &self,
        slopes: [&Buffer; 3],
        gain: Slice<'_, Cuda>,
        into: &Flat,
        starts: [usize; 2],
        shape: RowsShape,
    ) -> Result<Buffer> {
        let RowsShape { rows, width } = shape;
        let (dy, x, statistics) = (self.narrowed(slopes[0])?, self.narrowed(slopes[1])?, slopes[2]);
        let out = self.activations(rows * width)?;
        let kernels = [
            (1, "layer_norm_gradient_1"),
            (2, "layer_norm_gradient_2"),
            (3, "layer_norm_gradient_3"),
            (NORM_GRADIENT_VECTORS, "layer_norm_gradient_4"),
        ];
        let kernel = kernel_for(width, &kernels, "layer_norm_gradient_any");
        let fused = kernel != "layer_norm_gradient_any";
        let strips = if fused { rows.div_ceil(NORM_THREADS / 32).min(NORM_BLOCKS) } else { rows.div_ceil(STRIP) };
        let partial = self.values(strips * 2 * width)?;
        let (dy_at, x_at) = (dy.of(rows * width), x.of(rows * width));
        let statistics_at = statistics.of(2 * rows);
        let arguments: [Argument; 8] = [
            dy_at.into(),
            x_at.into(),
            statistics_at.into(),
            gain.flat.part(gain.start, width).into(),
            out.at().into(),
            partial.at().into(),
            rows.into(),
            width.into(),
        ];
        if fused {
            let grid = Grid { blocks: [strips, 1, 1], threads: NORM_THREADS, shared: 2 * width * 4 };
            self.context.launch(kernel, grid, &arguments)?;
        } else {
            self.context.launch(kernel, Grid::warps(rows), &arguments)?;
            let grid = Grid { blocks: [width.div_ceil(Grid::THREADS), strips, 1], ..Grid::blocks(1) };
            let [dy, x, statistics, _, _, partial, rows, width] = arguments;
            let arguments = [dy, x, statistics, partial, rows, width, STRIP.into()];
            self.context.launch("layer_norm_sums_any", grid, &arguments)?;
        }
        for (part, start) in starts.into_iter().enumerate() {
            let from = partial.at() + (part * width * 4) as Address;
            self.add_partials(from, into.part(start, width), [strips, 2 * width, width])?;
        }
        into.renew()?;
        Ok(out)
    }

    /// Adds sums of strips, `stride` values apart, to `width` values.
    fn add_partials(&self, from: Address, into: Address, [strips, stride, width]: [usize; 3]) -> Result<()> {
        let arguments = [from.into(), into.into(), strips.into(), stride.into(), width.into()];
        self.context.launch("add_partials", Grid::blocks(width.div_ceil(32)), &arguments)
    }

    pub(super) fn summed_rows(&self, dy: &Buffer, into: GradientSlice<'_, Cuda>, shape: RowsShape) -> Result<()> {
        let RowsShape { rows, width } = shape;
        let dy = self.narrowed(dy)?;
        let strips = rows.div_ceil(STRIP);
        let partial = self.values(strips * width)?;
        let (kernel, columns) = if width.is_multiple_of(8) { ("column_sums_8", 256) } else { ("column_sums_1", 32) };
        let grid = Grid { blocks: [width.div_ceil(columns), strips, 1], ..Grid::blocks(1) };
        let arguments = [dy.of(rows * width).into(), partial.at().into(), rows.into(), width.into(), STRIP.into()];
        self.context.launch(kernel, grid, &arguments)?;
        self.add_partials(partial.at(), into.flat.part(into.start, width), [strips, width, width])?;
        into.flat.renew()
    }

    pub(super) fn dropped(&self, x: &Buffer, dropout: Dropout<'_, Cuda>, group: usize) -> Result<Buffer> {
        let count = x.length();
        let out = self.room(count, x.element())?;
        let kernel = match x.element() {
            Element::Bf16 => "dropout_bf16",
            Element::F32 => "dropout_f32",
        };
        let arguments = [
            x.at().into(),
            out.at().into(),
            count.into(),
            group.into(),
            dropout.seed.of(2).into(),
            dropout.site.into(),
            dropout.share.into(),
        ];
        self.context.launch(kernel, Grid::each(count), &arguments)?;
        Ok(out)
    }
}
