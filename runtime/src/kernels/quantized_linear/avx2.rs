//! AVX2: eight outputs a register, four inputs a lane.

use std::arch::x86_64::{
    __m256i, _mm256_abs_epi8, _mm256_add_epi32, _mm256_load_si256, _mm256_madd_epi16, _mm256_maddubs_epi16,
    _mm256_set1_epi16, _mm256_set1_epi32, _mm256_setzero_si256, _mm256_sign_epi8, _mm256_storeu_si256,
};

use super::packed_weights::{Block, GROUP_INPUTS, Layout, PANEL_OUTPUTS};
use super::rows::{Kernel, Tile};
use super::scalar;

/// Proof that this processor has AVX2.
#[derive(Clone, Copy, Debug)]
pub struct Avx2(());

impl Avx2 {
    /// The proof, where there is one.
    pub fn detect() -> Option<Self> {
        is_x86_feature_detected!("avx2").then_some(Self(()))
    }
}

impl Kernel for Avx2 {
    const ROWS: usize = 5;
    const PANELS: usize = 1;
    const LAYOUT: Layout = Layout::DotProduct;
    const ZERO: i8 = 0;

    fn quantize(self, x: &[f32], q: &mut [[i8; GROUP_INPUTS]], scales: &mut [f32]) {
        // SAFETY: `self` proves AVX2.
        unsafe { quantize(x, q, scales) }
    }

    fn multiply(self, tile: Tile<'_, '_>) {
        // SAFETY: `self` proves AVX2.
        unsafe { multiply_rows(tile) }
    }
}

#[target_feature(enable = "avx2")]
fn quantize(x: &[f32], q: &mut [[i8; GROUP_INPUTS]], scales: &mut [f32]) {
    scalar::quantize::<0>(x, q, scales);
}

#[target_feature(enable = "avx2")]
fn multiply_rows(tile: Tile<'_, '_>) {
    match tile.y.len() {
        1 => multiply::<1>(tile),
        2 => multiply::<2>(tile),
        3 => multiply::<3>(tile),
        4 => multiply::<4>(tile),
        5 => multiply::<5>(tile),
        rows => unreachable!("a tile of {rows} rows"),
    }
}

/// `maddubs` multiplies unsigned by signed bytes: the weight's magnitude by the activation with the weight's sign.
///
/// Two products are at most 2 x 128 x 127 = 32,512, so its 16-bit sums never saturate.
#[target_feature(enable = "avx2")]
fn multiply<const ROWS: usize>(mut tile: Tile<'_, '_>) {
    let panel = tile.panels.start;
    let blocks = tile.layer.weights.panel(panel);
    let ones = _mm256_set1_epi16(1);
    let mut sums = [[_mm256_setzero_si256(); 2]; ROWS];
    for (block, x) in blocks.iter().zip(tile.x.as_chunks::<ROWS>().0) {
        let weights = load(block);
        let magnitudes = weights.map(|weights| _mm256_abs_epi8(weights));
        for (sums, x) in sums.iter_mut().zip(x) {
            let x = _mm256_set1_epi32(i32::from_le_bytes(x.map(i8::cast_unsigned)));
            for half in 0..2 {
                let pairs = _mm256_maddubs_epi16(magnitudes[half], _mm256_sign_epi8(x, weights[half]));
                sums[half] = _mm256_add_epi32(sums[half], _mm256_madd_epi16(pairs, ones));
            }
        }
    }
    let mut stored = [[0; PANEL_OUTPUTS]; ROWS];
    for (stored, sums) in stored.iter_mut().zip(&sums) {
        store(stored, *sums);
    }
    tile.finish(panel, &stored);
}

#[inline]
#[target_feature(enable = "avx2")]
fn load(block: &Block) -> [__m256i; 2] {
    let block: *const __m256i = std::ptr::from_ref(block).cast();
    // SAFETY: a block is 64 bytes, aligned to 64.
    let low = unsafe { _mm256_load_si256(block) };
    // SAFETY: as above; this is its second half.
    let high = unsafe { _mm256_load_si256(block.add(1)) };
    [low, high]
}

#[inline]
#[target_feature(enable = "avx2")]
fn store(stored: &mut [i32; PANEL_OUTPUTS], sums: [__m256i; 2]) {
    let (low, high) = stored.split_at_mut(PANEL_OUTPUTS / 2);
    // SAFETY: `low` is 8 x 32 bits.
    unsafe { _mm256_storeu_si256(low.as_mut_ptr().cast(), sums[0]) };
    // SAFETY: `high` is 8 x 32 bits.
    unsafe { _mm256_storeu_si256(high.as_mut_ptr().cast(), sums[1]) };
}
