//! Activations as 8-bit rows, and the part of the answer that a kernel computes at once.

use std::cell::Cell;

use super::packed_weights::{GROUP_INPUTS, PANEL_OUTPUTS, PackedWeights};

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

/// Rows x whole panels of the answer, small enough that its sums stay in registers.
pub struct Tile<'a, 'y> {
    /// Quantized activations, `[groups][rows][4]`.
    pub x: &'a [[i8; GROUP_INPUTS]],
    /// Their scales, one a row.
    pub x_scales: &'a [f32],
    /// Weights of the layer.
    pub weights: &'a PackedWeights,
    /// Bias of the layer.
    pub bias: &'a [f32],
    /// Panels of the weights in this tile.
    pub panels: std::ops::Range<usize>,
    /// Rows of the answer; each slice begins at the output `first_output`.
    pub y: &'a mut [&'y mut [f32]],
    /// Output that the slices of `y` begin with, at or before the first panel.
    pub first_output: usize,
}

impl Tile<'_, '_> {
    /// Turns the integer sums of one row and panel into its answer.
    ///
    /// Multiplies by the row's scale, then by the weight's, then adds the bias: each step rounds, none is fused.
    #[inline(always)]
    pub fn finish(&mut self, row: usize, panel: usize, sums: &[i32; PANEL_OUTPUTS]) {
        let output = panel * PANEL_OUTPUTS;
        let x_scale = self.x_scales[row];
        let width = PANEL_OUTPUTS.min(self.weights.outputs() - output);
        let weight_scales = &self.weights.scales()[output..][..width];
        let bias = &self.bias[output..][..width];
        let y = &mut self.y[row][output - self.first_output..][..width];
        match (y.as_chunks_mut().0, weight_scales.as_chunks().0, bias.as_chunks().0) {
            ([y], [weight_scales], [bias]) => scale_panel::<PANEL_OUTPUTS>(sums, x_scale, weight_scales, bias, y),
            _ => {
                for (lane, y) in y.iter_mut().enumerate() {
                    *y = (sums[lane] as f32 * x_scale) * weight_scales[lane] + bias[lane];
                }
            }
        }
    }
}

#[inline(always)]
fn scale_panel<const WIDTH: usize>(
    sums: &[i32; WIDTH],
    x_scale: f32,
    weight_scales: &[f32; WIDTH],
    bias: &[f32; WIDTH],
    y: &mut [f32; WIDTH],
) {
    for lane in 0..WIDTH {
        y[lane] = (sums[lane] as f32 * x_scale) * weight_scales[lane] + bias[lane];
    }
}

/// What an instruction set brings: its tile, and the form of the activations it multiplies.
pub trait Kernel: Copy + Send + Sync {
    /// Rows of the largest tile.
    const ROWS: usize;

    /// Panels of the largest tile.
    const PANELS: usize;

    /// Value that stands for zero in this kernel's quantized rows: 0, or -128 where the instruction takes unsigned bytes.
    const ZERO: i8;

    /// Quantizes the rows of one tile, as many as `scales`, into `[groups][rows][4]`.
    fn quantize(self, x: &[f32], q: &mut [[i8; GROUP_INPUTS]], scales: &mut [f32]);

    /// Computes one tile of at most [`Self::ROWS`] rows and [`Self::PANELS`] panels.
    fn multiply(self, tile: Tile<'_, '_>);
}
