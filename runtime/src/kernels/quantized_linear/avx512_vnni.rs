//! AVX-512 VNNI: sixteen outputs a register, and one instruction for four products a lane.

use std::arch::x86_64::{
    __m512i, _mm512_add_epi32, _mm512_dpbusd_epi32, _mm512_load_si512, _mm512_loadu_si512, _mm512_set1_epi32,
    _mm512_setzero_si512, _mm512_storeu_si512,
};

use super::packed_weights::{Block, GROUP_INPUTS, Layout, PANEL_OUTPUTS, Packed, STEP_GROUPS};
use super::rows::{Kernel, Tile};
use super::scalar;

/// Proof that this processor has AVX-512 with VNNI and the byte, word and vector-length parts.
#[derive(Clone, Copy, Debug)]
pub struct Avx512Vnni(());

impl Avx512Vnni {
    /// The proof, where there is one.
    pub fn detect() -> Option<Self> {
        let found = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512vnni");
        found.then_some(Self(()))
    }
}

impl Kernel for Avx512Vnni {
    const ROWS: usize = 12;
    const PANELS: usize = 2;
    const LAYOUT: Layout = Layout::DotProduct;
    const ZERO: i8 = -128;

    fn quantize(self, x: &[f32], q: &mut [[i8; GROUP_INPUTS]], scales: &mut [f32]) {
        // SAFETY: `self` proves the features.
        unsafe { quantize(x, q, scales) }
    }

    fn multiply(self, tile: Tile<'_, '_>) {
        // SAFETY: `self` proves the features.
        unsafe { multiply_rows(tile) }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
fn quantize(x: &[f32], q: &mut [[i8; GROUP_INPUTS]], scales: &mut [f32]) {
    scalar::quantize::<{ Avx512Vnni::ZERO }>(x, q, scales);
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
fn multiply_rows(tile: Tile<'_, '_>) {
    match tile.y.len() {
        1 => multiply_narrow::<1>(tile),
        2 => multiply_narrow::<2>(tile),
        3 => multiply_narrow::<3>(tile),
        4 => multiply_narrow::<4>(tile),
        5 => multiply_panels::<5>(tile),
        6 => multiply_panels::<6>(tile),
        7 => multiply_panels::<7>(tile),
        8 => multiply_panels::<8>(tile),
        9 => multiply_panels::<9>(tile),
        10 => multiply_panels::<10>(tile),
        11 => multiply_panels::<11>(tile),
        12 => multiply_panels::<12>(tile),
        rows => unreachable!("a tile of {rows} rows"),
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
fn multiply_panels<const ROWS: usize>(tile: Tile<'_, '_>) {
    match tile.panels.len() {
        1 => multiply_wide::<ROWS, 1>(tile),
        2 => multiply_wide::<ROWS, 2>(tile),
        panels => unreachable!("a tile of {panels} panels"),
    }
}

/// For few rows memory is the limit: panels one after the other are one stream of weights.
///
/// Four sums a row keep the multiplier busy while each waits for its last product.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
fn multiply_narrow<const ROWS: usize>(mut tile: Tile<'_, '_>) {
    let x = tile.x.as_chunks::<ROWS>().0.as_chunks::<STEP_GROUPS>().0;
    for panel in tile.panels.clone() {
        let blocks = tile.layer.weights.panel(panel).as_chunks::<STEP_GROUPS>().0;
        let start = correction(tile.layer.weights, panel);
        let mut sums = [[_mm512_setzero_si512(); STEP_GROUPS]; ROWS];
        for (blocks, x) in blocks.iter().zip(x) {
            for (lane, (block, x)) in blocks.iter().zip(x).enumerate() {
                let block = load(block);
                for (sums, x) in sums.iter_mut().zip(x) {
                    sums[lane] = _mm512_dpbusd_epi32(sums[lane], broadcast(*x), block);
                }
            }
        }
        let mut stored = [[0; PANEL_OUTPUTS]; ROWS];
        for (stored, [a, b, c, d]) in stored.iter_mut().zip(sums) {
            let sum = _mm512_add_epi32(_mm512_add_epi32(a, b), _mm512_add_epi32(c, d));
            store(stored, _mm512_add_epi32(sum, start));
        }
        tile.finish(panel, &stored);
    }
}

/// For many rows the multiplier is the limit: each block is loaded once for all of them.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
fn multiply_wide<const ROWS: usize, const PANELS: usize>(mut tile: Tile<'_, '_>) {
    let weights = tile.layer.weights;
    let first = tile.panels.start;
    let last = first + PANELS - 1;
    let mut starts = [correction(weights, first); PANELS];
    starts[PANELS - 1] = correction(weights, last);
    let mut sums = [starts; ROWS];
    let x = tile.x.as_chunks::<ROWS>().0;
    for ((first, last), x) in weights.panel(first).iter().zip(weights.panel(last)).zip(x) {
        let mut blocks = [load(first); PANELS];
        blocks[PANELS - 1] = load(last);
        for (sums, x) in sums.iter_mut().zip(x) {
            let x = broadcast(*x);
            for (sum, block) in sums.iter_mut().zip(&blocks) {
                *sum = _mm512_dpbusd_epi32(*sum, x, *block);
            }
        }
    }
    let mut stored = [[[0; PANEL_OUTPUTS]; ROWS]; PANELS];
    for (row, sums) in sums.iter().enumerate() {
        for (stored, sums) in stored.iter_mut().zip(sums) {
            store(&mut stored[row], *sums);
        }
    }
    for (panel, sums) in (first..).zip(&stored) {
        tile.finish(panel, sums);
    }
}

/// What to add to the sums of a panel: `dpbusd` multiplies unsigned by signed bytes, so activations are 128 too high.
#[inline]
#[target_feature(enable = "avx512f")]
fn correction(weights: Packed<'_>, panel: usize) -> __m512i {
    let correction = weights.sums(panel).map(|sum| sum.wrapping_mul(-128));
    // SAFETY: 16 x 32 bits.
    unsafe { _mm512_loadu_si512(correction.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn broadcast(x: [i8; GROUP_INPUTS]) -> __m512i {
    _mm512_set1_epi32(i32::from_le_bytes(x.map(i8::cast_unsigned)))
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load(block: &Block) -> __m512i {
    // SAFETY: a block is 64 bytes, aligned to 64.
    unsafe { _mm512_load_si512(std::ptr::from_ref(block).cast()) }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn store(stored: &mut [i32; PANEL_OUTPUTS], sums: __m512i) {
    // SAFETY: 16 x 32 bits.
    unsafe { _mm512_storeu_si512(stored.as_mut_ptr().cast(), sums) };
}
