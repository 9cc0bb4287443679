//! The answer, in plain Rust that every processor runs and that compilers turn into whatever vectors they have.

use super::packed_weights::{Block, GROUP_INPUTS, Layout, PANEL_OUTPUTS};
use super::rows::{Kernel, Tile};

/// Smallest largest magnitude of a row, so that a row of zeros has a scale that divides.
const MIN_MAGNITUDE: f32 = 1e-12;

/// 1.5 x 2^23: added to a small number, it leaves the number rounded half to even in the low bits of the sum.
const ROUNDING: f32 = 12_582_912.0;

/// Values that are quantized before they are spread over a tile.
const CHUNK: usize = 256;

/// No instruction set beyond what the target always has.
#[derive(Clone, Copy, Debug)]
pub struct Scalar;

impl Kernel for Scalar {
    const ROWS: usize = 4;
    const PANELS: usize = 1;
    const LAYOUT: Layout = Layout::DotProduct;
    const ZERO: i8 = 0;

    fn quantize(self, x: &[f32], q: &mut [[i8; GROUP_INPUTS]], scales: &mut [f32]) {
        quantize::<0>(x, q, scales);
    }

    fn multiply(self, tile: Tile<'_, '_>) {
        match tile.y.len() {
            1 => multiply::<1>(tile),
            2 => multiply::<2>(tile),
            3 => multiply::<3>(tile),
            4 => multiply::<4>(tile),
            rows => unreachable!("a tile of {rows} rows"),
        }
    }
}

/// Quantizes the rows of a tile, each by its own scale, into `[groups][rows][4]`; adds `ZERO` to each value.
///
/// A row with a NaN or an infinity gets a scale of NaN or infinity and zeros, so that all its answers are NaN.
#[inline(always)]
pub fn quantize<const ZERO: i8>(x: &[f32], q: &mut [[i8; GROUP_INPUTS]], scales: &mut [f32]) {
    let rows = scales.len();
    for (row, (x, scale)) in x.chunks_exact(x.len() / rows).zip(scales).enumerate() {
        *scale = scale_of(largest_magnitude(x));
        for (x, q) in x.chunks(CHUNK).zip(q.chunks_mut(CHUNK / GROUP_INPUTS * rows)) {
            let mut values = [ZERO; CHUNK];
            if scale.is_finite() {
                quantize_values::<ZERO>(x, *scale, &mut values);
            }
            for (q, group) in q[row..].iter_mut().step_by(rows).zip(values.as_chunks().0) {
                *q = *group;
            }
        }
    }
}

/// Bits of the largest magnitude: their order is that of floats without their sign, with NaN above infinity.
#[inline(always)]
pub fn largest_magnitude(x: &[f32]) -> u32 {
    x.iter().map(|x| x.to_bits() & (u32::MAX >> 1)).fold(0, u32::max)
}

/// Scale of a row whose [`largest_magnitude`] this is.
#[inline(always)]
pub fn scale_of(magnitude: u32) -> f32 {
    let magnitude = f32::from_bits(magnitude);
    (if magnitude < MIN_MAGNITUDE { MIN_MAGNITUDE } else { magnitude }) / 127.0
}

#[inline(always)]
fn quantize_values<const ZERO: i8>(x: &[f32], scale: f32, q: &mut [i8]) {
    for (q, x) in q.iter_mut().zip(x) {
        *q = (x / scale + ROUNDING).to_bits() as i8 ^ ZERO;
    }
}

fn multiply<const ROWS: usize>(mut tile: Tile<'_, '_>) {
    let panel = tile.panels.start;
    let blocks = tile.layer.weights.panel(panel);
    let mut sums = [[0; PANEL_OUTPUTS]; ROWS];
    for (block, x) in blocks.iter().zip(tile.x.as_chunks::<ROWS>().0) {
        for (sums, x) in sums.iter_mut().zip(x) {
            add_products(sums, block, *x);
        }
    }
    tile.finish(panel, &sums);
}

/// Two products of -128..=127 by -127..=127 fit in 16 bits, which halves the widening.
#[inline(always)]
fn add_products(sums: &mut [i32; PANEL_OUTPUTS], block: &Block, x: [i8; GROUP_INPUTS]) {
    let x = x.map(i16::from);
    for (sum, weights) in sums.iter_mut().zip(&block.0) {
        let weights = weights.map(i16::from);
        let low = weights[0] * x[0] + weights[1] * x[1];
        let high = weights[2] * x[2] + weights[3] * x[3];
        *sum += i32::from(low) + i32::from(high);
    }
}
