//! Activations as 8-bit rows, and the part of the answer that a kernel computes at once.

use std::cell::Cell;

use super::packed_weights::{GROUP_INPUTS, Layout, PANEL_OUTPUTS, Packed};

thread_local! {
    /// Taken for the length of a call and put back, so that a call inside a call merely allocates its own.
    static SPARE: Cell<QuantizedRows> = const { Cell::new(QuantizedRows::new()) };
}

/// Quantized activations and a scale a row, in the order in which a kernel reads them.
///
/// Tiles of as many rows as the kernel takes at once, the last one smaller: `[tile][groups][rows of the tile][4]`.
#[derive(Default)]
pub struct QuantizedRows {
    values: Vec<[i8; GROUP_INPUTS]>,
    scales: Vec<f32>,
    groups: usize,
}

impl QuantizedRows {
    const fn new() -> Self {
        Self { values: Vec::new(), scales: Vec::new(), groups: 0 }
    }

    /// Room for `rows` rows of `groups` groups, with arbitrary values in it: this thread's spare memory if it has any.
    pub fn take(rows: usize, groups: usize) -> Self {
        let mut taken = SPARE.take();
        taken.values.resize(rows * groups, [0; GROUP_INPUTS]);
        taken.scales.resize(rows, 0.0);
        taken.groups = groups;
        taken
    }

    /// Leaves the memory to this thread's next call.
    pub fn put_back(self) {
        SPARE.set(self);
    }

    /// Each tile's values and scales, to be written.
    pub fn tiles_mut(&mut self, rows: usize) -> Vec<(&mut [[i8; GROUP_INPUTS]], &mut [f32])> {
        self.values.chunks_mut(rows * self.groups).zip(self.scales.chunks_mut(rows)).collect()
    }

    /// The tile of `rows` rows that begins with the row `first`, and its scales.
    pub fn tile(&self, first: usize, rows: usize) -> (&[[i8; GROUP_INPUTS]], &[f32]) {
        (&self.values[first * self.groups..][..rows * self.groups], &self.scales[first..][..rows])
    }
}

/// What happens to a product and its bias before they are written.
#[derive(Clone, Copy, Debug)]
pub enum Epilogue<'a> {
    /// Nothing: they are the answer.
    None,
    /// The answer is their GELU, as [`super::super::gelu::gelu`] has it.
    Gelu,
    /// A value shaped like the answer is added to each, as a residual connection does.
    Residual(&'a [f32]),
}

/// A linear layer and what follows it.
#[derive(Clone, Copy)]
pub struct Layer<'a> {
    /// Weights, `[outputs, inputs]`.
    pub weights: Packed<'a>,
    /// One value an output.
    pub bias: &'a [f32],
    /// What follows.
    pub epilogue: Epilogue<'a>,
}

/// Rows x whole panels of the answer, small enough that its sums stay in registers.
pub struct Tile<'a, 'y> {
    /// Quantized activations, in the order in which the kernel wrote them.
    pub x: &'a [[i8; GROUP_INPUTS]],
    /// Their scales, one a row.
    pub x_scales: &'a [f32],
    /// The layer.
    pub layer: &'a Layer<'a>,
    /// Panels of the weights in this tile.
    pub panels: std::ops::Range<usize>,
    /// Rows of the answer; each slice begins at the output `first_output`.
    pub y: &'a mut [&'y mut [f32]],
    /// Row of the whole answer that `y` begins with.
    pub first_row: usize,
    /// Output that the slices of `y` begin with, at or before the first panel.
    pub first_output: usize,
}

impl Tile<'_, '_> {
    /// Turns the integer sums of one panel, row by row, into its answers.
    ///
    /// Inlined where that gives it the caller's instructions: NEON is always there.
    #[cfg_attr(target_arch = "x86_64", inline(always))]
    pub fn finish(&mut self, panel: usize, sums: &[[i32; PANEL_OUTPUTS]]) {
        let output = panel * PANEL_OUTPUTS;
        let width = self.layer.weights.outputs() - output;
        if width >= PANEL_OUTPUTS {
            self.finish_outputs::<PANEL_OUTPUTS>(output, sums, 0);
        } else {
            (0..width).for_each(|lane| self.finish_outputs::<1>(output + lane, sums, lane));
        }
    }

    /// Finishes the outputs from `output` on, whose sums begin at `lane`, up to a GELU.
    ///
    /// Multiplies by the row's scale, then by the weight's, then adds the bias: each step rounds, none is fused.
    #[inline(always)]
    fn finish_outputs<const WIDTH: usize>(&mut self, output: usize, sums: &[[i32; PANEL_OUTPUTS]], lane: usize) {
        let Layer { weights, bias, epilogue } = *self.layer;
        let weight_scales = *values::<_, WIDTH>(weights.scales(), output);
        let bias = *values::<_, WIDTH>(bias, output);
        for (row, (sums, (x_scale, y))) in sums.iter().zip(self.x_scales.iter().zip(&mut *self.y)).enumerate() {
            let sums = values::<_, WIDTH>(sums, lane);
            let linear: [_; WIDTH] =
                std::array::from_fn(|at| (sums[at] as f32 * x_scale) * weight_scales[at] + bias[at]);
            let answer = match epilogue {
                Epilogue::None | Epilogue::Gelu => linear,
                Epilogue::Residual(residual) => {
                    let start = (self.first_row + row) * weights.outputs() + output;
                    let residual = values::<_, WIDTH>(residual, start);
                    std::array::from_fn(|at| linear[at] + residual[at])
                }
            };
            y[output - self.first_output..][..WIDTH].copy_from_slice(&answer);
        }
    }
}

#[inline(always)]
fn values<T, const WIDTH: usize>(values: &[T], start: usize) -> &[T; WIDTH] {
    values[start..].first_chunk().expect("a value for each output")
}

/// What an instruction set brings: its tile, and the form of the activations it multiplies.
pub trait Kernel: Copy + Send + Sync {
    /// Rows of the largest tile.
    const ROWS: usize;

    /// Panels of the largest tile.
    const PANELS: usize;

    /// Order of the weights that it reads.
    const LAYOUT: Layout;

    /// Value that stands for zero in this kernel's quantized rows: 0, or -128 where the instruction takes unsigned bytes.
    const ZERO: i8;

    /// Quantizes the rows of one tile, as many as `scales`, in the order in which it will read them.
    ///
    /// `q` has whole steps for each row; those of a single row are in the order of its inputs.
    fn quantize(self, x: &[f32], q: &mut [[i8; GROUP_INPUTS]], scales: &mut [f32]);

    /// Computes one tile of at most [`Self::ROWS`] rows and [`Self::PANELS`] panels.
    fn multiply(self, tile: Tile<'_, '_>);
}
