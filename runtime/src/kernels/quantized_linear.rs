//! A linear layer on 8-bit integers: weights quantized by output, activations by row, at run time.
//!
//! The answer is that of these ONNX operators, to the last bit, on every instruction set and however it is split:
//!
//! ```text
//! scale = Max(ReduceMax(Abs(x), last axis), 1e-12) / 127
//! q     = int8(Round(x / scale))                                    half to even, -127..=127
//! y     = ((f32(MatMulInteger(q, W^T)) * scale) * weight_scale) + bias
//! ```
//!
//! and of what [`Epilogue`] says of `y` after them.
//!
//! A row with a NaN or an infinity in it is NaN in every output, and leaves the other rows alone.

mod packed_weights;
mod rows;
mod scalar;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512_vnni;
#[cfg(target_arch = "aarch64")]
mod neon_rows;
#[cfg(target_arch = "aarch64")]
mod neon;
#[cfg(target_arch = "aarch64")]
mod neon_dotprod;

use std::fmt;

use rayon::prelude::*;

use super::gelu::gelu;

#[cfg(target_arch = "x86_64")]
pub use self::avx2::Avx2;
#[cfg(target_arch = "x86_64")]
pub use self::avx512_vnni::Avx512Vnni;
#[cfg(target_arch = "aarch64")]
pub use self::neon::Neon;
#[cfg(target_arch = "aarch64")]
pub use self::neon_dotprod::DotProduct;
pub use self::packed_weights::{ALIGNMENT, Layout, MAX_INPUTS, PackedWeights, SharedBytes};
use self::packed_weights::{GROUP_INPUTS, PANEL_OUTPUTS, groups};
pub use self::rows::Epilogue;
use self::rows::{Kernel, Layer, QuantizedRows, Tile};
use self::scalar::Scalar;

/// Multiplications in a layer that are worth waking other threads for.
const PARALLEL_PRODUCTS: usize = 1 << 20;

/// Pieces for each thread, so that a slow one does not keep the others waiting for long.
const PIECES_PER_THREAD: usize = 4;

/// Bytes of weights that stay in the second-level cache while the rows pass by.
const PIECE_WEIGHT_BYTES: usize = 384 << 10;

/// Multiplies the rows of `x` by `weights`, adds `bias`, and does what `epilogue` says: `[rows, inputs]` -> `[rows, outputs]`.
///
/// Uses rayon's current pool where the layer is large.
///
/// # Panics
/// When `x` or `y` is not of whole rows, they differ in rows, `bias` is not one value an output, or a residual is not
/// as long as `y`; and when the weights are packed for another instruction set.
pub fn quantized_linear(x: &[f32], weights: &PackedWeights, bias: &[f32], epilogue: Epilogue<'_>, y: &mut [f32]) {
    instruction_set().quantized_linear(x, weights, bias, epilogue, y);
}

/// Quantizes rows of `width` values to -127..=127, and gives their scales: `x` is about `q * scale`.
///
/// # Panics
/// When `width` is zero, `q` is not as long as `x`, or `scales` is not one value a row.
pub fn quantize_rows(x: &[f32], width: usize, q: &mut [i8], scales: &mut [f32]) {
    instruction_set().quantize_rows(x, width, q, scales);
}

/// The fastest instruction set of this processor, which [`quantized_linear`] runs on.
pub fn instruction_set() -> InstructionSet {
    #[cfg(target_arch = "aarch64")]
    let fastest = DotProduct::detect().map_or(InstructionSet::Neon(Neon), InstructionSet::NeonDotProduct);
    #[cfg(target_arch = "x86_64")]
    let fastest = Avx512Vnni::detect()
        .map(InstructionSet::Avx512Vnni)
        .or_else(|| Avx2::detect().map(InstructionSet::Avx2))
        .unwrap_or(InstructionSet::Scalar);
    #[cfg(not(any(target_arch = "aarch64", target_arch = "x86_64")))]
    let fastest = InstructionSet::Scalar;
    fastest
}

/// An instruction set that there is a kernel for, and that this processor has.
#[derive(Clone, Copy, Debug)]
pub enum InstructionSet {
    /// What every processor of the target has, used plainly.
    Scalar,
    /// 256-bit integers.
    #[cfg(target_arch = "x86_64")]
    Avx2(Avx2),
    /// 512-bit dot products.
    #[cfg(target_arch = "x86_64")]
    Avx512Vnni(Avx512Vnni),
    /// ARMv8.0: 128-bit vectors and widening products.
    #[cfg(target_arch = "aarch64")]
    Neon(Neon),
    /// ARMv8.2: dot products.
    #[cfg(target_arch = "aarch64")]
    NeonDotProduct(DotProduct),
}

/// Calls `$call` with the kernel of `$set` as `$kernel`.
macro_rules! with_kernel {
    ($set:expr, $kernel:ident => $call:expr) => {
        match $set {
            InstructionSet::Scalar => {
                let $kernel = Scalar;
                $call
            }
            #[cfg(target_arch = "x86_64")]
            InstructionSet::Avx2($kernel) => $call,
            #[cfg(target_arch = "x86_64")]
            InstructionSet::Avx512Vnni($kernel) => $call,
            #[cfg(target_arch = "aarch64")]
            InstructionSet::Neon($kernel) => $call,
            #[cfg(target_arch = "aarch64")]
            InstructionSet::NeonDotProduct($kernel) => $call,
        }
    };
}

impl InstructionSet {
    /// All that this processor has, slowest first.
    pub fn available() -> Vec<Self> {
        let sets = [
            Some(Self::Scalar),
            #[cfg(target_arch = "x86_64")]
            Avx2::detect().map(Self::Avx2),
            #[cfg(target_arch = "x86_64")]
            Avx512Vnni::detect().map(Self::Avx512Vnni),
            #[cfg(target_arch = "aarch64")]
            Some(Self::Neon(Neon)),
            #[cfg(target_arch = "aarch64")]
            DotProduct::detect().map(Self::NeonDotProduct),
        ];
        sets.into_iter().flatten().collect()
    }

    /// [`quantized_linear`] on this instruction set, which the weights must be packed for.
    ///
    /// # Panics
    /// As [`quantized_linear`].
    pub fn quantized_linear(
        self,
        x: &[f32],
        weights: &PackedWeights,
        bias: &[f32],
        epilogue: Epilogue<'_>,
        y: &mut [f32],
    ) {
        assert_eq!(weights.layout(), self.layout(), "the weights are packed for another instruction set");
        let inputs = weights.inputs();
        let layer = Layer { weights: weights.view(), bias, epilogue };
        with_kernel!(self, kernel => run(kernel, x, inputs, &layer, y));
    }

    /// [`quantize_rows`] on this instruction set.
    ///
    /// # Panics
    /// As [`quantize_rows`].
    pub fn quantize_rows(self, x: &[f32], width: usize, q: &mut [i8], scales: &mut [f32]) {
        assert!(width > 0, "a row has at least one value");
        assert_eq!(x.len(), q.len(), "a quantized value for each value");
        assert_eq!(Some(x.len()), scales.len().checked_mul(width), "a scale for each row of {width}");
        with_kernel!(self, kernel => quantize_plainly(kernel, x, width, q, scales));
    }

    /// Order of the weights that this instruction set reads.
    pub fn layout(self) -> Layout {
        with_kernel!(self, kernel => layout_of(kernel))
    }
}

impl fmt::Display for InstructionSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Scalar => "scalar",
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(_) => "avx2",
            #[cfg(target_arch = "x86_64")]
            Self::Avx512Vnni(_) => "avx512-vnni",
            #[cfg(target_arch = "aarch64")]
            Self::Neon(_) => "neon",
            #[cfg(target_arch = "aarch64")]
            Self::NeonDotProduct(_) => "neon-dot-product",
        })
    }
}

fn layout_of<K: Kernel>(_: K) -> Layout {
    K::LAYOUT
}

/// A piece of the answer: some outputs of every row.
struct Piece<'y> {
    first_output: usize,
    rows: Vec<&'y mut [f32]>,
}

fn run<K: Kernel>(kernel: K, x: &[f32], inputs: usize, layer: &Layer<'_>, y: &mut [f32]) {
    let outputs = layer.weights.outputs();
    let rows = x.len() / inputs;
    assert_eq!(x.len(), rows * inputs, "x is [rows, {inputs}]");
    assert_eq!(Some(y.len()), rows.checked_mul(outputs), "y is [{rows}, {outputs}]");
    assert_eq!(layer.bias.len(), outputs, "one bias an output");
    if let Epilogue::Residual(residual) = layer.epilogue {
        assert_eq!(residual.len(), y.len(), "the residual is [{rows}, {outputs}]");
    }
    let large = x.len().saturating_mul(outputs) >= PARALLEL_PRODUCTS;
    let threads = if large { rayon::current_num_threads() } else { 1 };

    let mut quantized = QuantizedRows::take(rows, layer.weights.groups());
    quantize(kernel, x, inputs, &mut quantized, threads);
    let pieces = split(y, [inputs, outputs], K::PANELS * PANEL_OUTPUTS, threads);
    if threads > 1 {
        pieces.into_par_iter().for_each(|piece| multiply(kernel, piece, &quantized, layer));
    } else {
        pieces.into_iter().for_each(|piece| multiply(kernel, piece, &quantized, layer));
    }
    quantized.put_back();
}

fn quantize<K: Kernel>(kernel: K, x: &[f32], inputs: usize, quantized: &mut QuantizedRows, threads: usize) {
    let tiles = quantized.tiles_mut(K::ROWS);
    if threads > 1 && tiles.len() > threads {
        let tiles = x.par_chunks(K::ROWS * inputs).zip(tiles);
        tiles.for_each(|(x, (q, scales))| kernel.quantize(x, q, scales));
    } else {
        let tiles = x.chunks(K::ROWS * inputs).zip(tiles);
        tiles.for_each(|(x, (q, scales))| kernel.quantize(x, q, scales));
    }
}

/// Quantizes row by row, so that no tile mixes them, and drops what fills the last step.
fn quantize_plainly<K: Kernel>(kernel: K, x: &[f32], width: usize, q: &mut [i8], scales: &mut [f32]) {
    let mut groups = vec![[0; GROUP_INPUTS]; groups(width)];
    for ((x, q), scale) in x.chunks_exact(width).zip(q.chunks_exact_mut(width)).zip(scales.chunks_exact_mut(1)) {
        kernel.quantize(x, &mut groups, scale);
        for (q, value) in q.iter_mut().zip(groups.as_flattened()) {
            *q = value ^ K::ZERO;
        }
    }
}

/// Splits the answer by whole tiles of outputs, so that a piece's weights stay in cache and every thread has work.
fn split(y: &mut [f32], [inputs, outputs]: [usize; 2], tile_outputs: usize, threads: usize) -> Vec<Piece<'_>> {
    let cached = PIECE_WEIGHT_BYTES / inputs / tile_outputs;
    let shared = outputs.div_ceil(tile_outputs).div_ceil(threads * PIECES_PER_THREAD);
    let tiles = if threads > 1 { cached.min(shared) } else { cached };
    let piece_outputs = tiles.max(1) * tile_outputs;
    let starts = (0..outputs).step_by(piece_outputs);
    let rows = y.len() / outputs;
    let mut pieces: Vec<_> =
        starts.map(|first_output| Piece { first_output, rows: Vec::with_capacity(rows) }).collect();
    for row in y.chunks_exact_mut(outputs) {
        for (piece, part) in pieces.iter_mut().zip(row.chunks_mut(piece_outputs)) {
            piece.rows.push(part);
        }
    }
    pieces
}

fn multiply<K: Kernel>(kernel: K, mut piece: Piece<'_>, quantized: &QuantizedRows, layer: &Layer<'_>) {
    let first_output = piece.first_output;
    let width = piece.rows.first().map_or(0, |row| row.len());
    let first_panel = first_output / PANEL_OUTPUTS;
    let end_panel = first_panel + width.div_ceil(PANEL_OUTPUTS);
    for (tile, y) in piece.rows.chunks_mut(K::ROWS).enumerate() {
        let first_row = tile * K::ROWS;
        let (x, x_scales) = quantized.tile(first_row, y.len());
        for panel in (first_panel..end_panel).step_by(K::PANELS) {
            let panels = panel..end_panel.min(panel + K::PANELS);
            kernel.multiply(Tile { x, x_scales, layer, panels, y, first_row, first_output });
        }
        if let Epilogue::Gelu = layer.epilogue {
            y.iter_mut().for_each(|row| gelu(row));
        }
    }
}

#[cfg(test)]
mod tests;
