//! NEON as every aarch64 processor has it: three instructions for sixteen products of one row by one output.

use std::arch::aarch64::{
    int8x16_t, int32x4_t, vdupq_n_s32, vget_low_s8, vld1q_s8, vmlal_high_s8, vmull_s8, vpadalq_s16, vpaddq_s32,
    vst1q_s32,
};

use super::neon_rows;
use super::packed_weights::{GROUP_INPUTS, Layout, PANEL_OUTPUTS, STEP_GROUPS};
use super::rows::{Kernel, Tile};

/// 128-bit vectors, which are part of aarch64.
#[derive(Clone, Copy, Debug)]
pub struct Neon;

impl Kernel for Neon {
    const ROWS: usize = 4;
    const PANELS: usize = 1;
    const LAYOUT: Layout = Layout::Widening;
    const ZERO: i8 = 0;

    fn quantize(self, x: &[f32], q: &mut [[i8; GROUP_INPUTS]], scales: &mut [f32]) {
        // SAFETY: every aarch64 processor has NEON.
        unsafe { neon_rows::quantize::<STEP_GROUPS>(x, q, scales) }
    }

    fn multiply(self, tile: Tile<'_, '_>) {
        // SAFETY: every aarch64 processor has NEON.
        unsafe { multiply_rows(tile) }
    }
}

/// Few rows take more outputs at once: about sixteen sums keep the multiplier busy while each waits for its last.
#[target_feature(enable = "neon")]
fn multiply_rows(tile: Tile<'_, '_>) {
    match tile.y.len() {
        1 => multiply::<1, 4>(tile),
        2 => multiply::<2, 2>(tile),
        3 => multiply::<3, 1>(tile),
        4 => multiply::<4, 1>(tile),
        rows => unreachable!("a tile of {rows} rows"),
    }
}

/// A block is four outputs; `BLOCKS` of the four in a step are multiplied at once.
#[target_feature(enable = "neon")]
fn multiply<const ROWS: usize, const BLOCKS: usize>(mut tile: Tile<'_, '_>) {
    let panel = tile.panels.start;
    let steps = tile.layer.weights.panel(panel).as_chunks::<STEP_GROUPS>().0;
    let x = tile.x.as_chunks::<STEP_GROUPS>().0.as_chunks::<ROWS>().0;
    let mut stored = [[0; PANEL_OUTPUTS]; ROWS];
    for first in (0..STEP_GROUPS).step_by(BLOCKS) {
        let mut sums = [[[vdupq_n_s32(0); 4]; BLOCKS]; ROWS];
        for (blocks, x) in steps.iter().zip(x) {
            let x = x.each_ref().map(|x| load(x));
            for block in 0..BLOCKS {
                let weights = blocks[first + block].0.as_chunks().0;
                for (output, weights) in weights.iter().enumerate() {
                    let weights = load(weights);
                    for row in 0..ROWS {
                        let sum = &mut sums[row][block][output];
                        *sum = add_products(*sum, x[row], weights);
                    }
                }
            }
        }
        for (stored, sums) in stored.iter_mut().zip(sums) {
            for (stored, sums) in stored.as_chunks_mut().0[first..].iter_mut().zip(sums) {
                store(stored, sums);
            }
        }
    }
    tile.finish(panel, &stored);
}

/// Two products of -128..=127 by -127..=127 fit in 16 bits, so that pairs are summed before they are widened.
#[inline]
#[target_feature(enable = "neon")]
fn add_products(sum: int32x4_t, x: int8x16_t, weights: int8x16_t) -> int32x4_t {
    let products = vmull_s8(vget_low_s8(x), vget_low_s8(weights));
    vpadalq_s16(sum, vmlal_high_s8(products, x, weights))
}

#[inline]
#[target_feature(enable = "neon")]
fn load(run: &[[i8; GROUP_INPUTS]; STEP_GROUPS]) -> int8x16_t {
    // SAFETY: a run is 16 bytes.
    unsafe { vld1q_s8(run.as_flattened().as_ptr()) }
}

/// Adds up the lanes of four outputs' sums.
#[inline]
#[target_feature(enable = "neon")]
fn store(stored: &mut [i32; 4], [a, b, c, d]: [int32x4_t; 4]) {
    let sums = vpaddq_s32(vpaddq_s32(a, b), vpaddq_s32(c, d));
    // SAFETY: 4 x 32 bits.
    unsafe { vst1q_s32(stored.as_mut_ptr(), sums) };
}
