//! Rows of floats to 8-bit rows with the vectors that every aarch64 processor has.

use std::arch::aarch64::{
    float32x4_t, int8x16_t, vabsq_f32, vcvtnq_s32_f32, vdivq_f32, vdupq_n_f32, vdupq_n_u32, vld1q_f32, vmaxq_u32,
    vmaxvq_u32, vreinterpretq_s8_s16, vreinterpretq_s16_s32, vreinterpretq_u32_f32, vst1q_s8, vuzp1q_s8, vuzp1q_s16,
};

use super::packed_weights::{GROUP_INPUTS, STEP_GROUPS};
use super::scalar;

const STEP_INPUTS: usize = STEP_GROUPS * GROUP_INPUTS;

/// Quantizes the rows of a tile, each by its own scale, into `[inputs / run][rows][run]`, where a run is `RUN` groups.
///
/// A row that is not finite becomes zeros, as [`scalar::quantize`] says.
#[target_feature(enable = "neon")]
pub fn quantize<const RUN: usize>(x: &[f32], q: &mut [[i8; GROUP_INPUTS]], scales: &mut [f32]) {
    let rows = scales.len();
    for (row, (x, scale)) in x.chunks_exact(x.len() / rows).zip(scales).enumerate() {
        *scale = row_scale(x);
        let mut steps = q.chunks_exact_mut(STEP_GROUPS * rows);
        if !scale.is_finite() {
            steps.for_each(|q| spread::<RUN>([[0; GROUP_INPUTS]; STEP_GROUPS], row, q));
            continue;
        }
        let (x, rest) = x.as_chunks();
        for (x, q) in x.iter().zip(&mut steps) {
            spread::<RUN>(quantize_step(x, *scale), row, q);
        }
        if let Some(q) = steps.next() {
            let mut x = [0.0; STEP_INPUTS];
            x[..rest.len()].copy_from_slice(rest);
            spread::<RUN>(quantize_step(&x, *scale), row, q);
        }
    }
}

#[inline]
#[target_feature(enable = "neon")]
fn row_scale(x: &[f32]) -> f32 {
    let (x, rest) = x.as_chunks::<STEP_INPUTS>();
    let mut largest = [vdupq_n_u32(scalar::largest_magnitude(rest)); 4];
    for x in x {
        for (largest, x) in largest.iter_mut().zip(load(x)) {
            *largest = vmaxq_u32(*largest, vreinterpretq_u32_f32(vabsq_f32(x)));
        }
    }
    let [a, b, c, d] = largest;
    scalar::scale_of(vmaxvq_u32(vmaxq_u32(vmaxq_u32(a, b), vmaxq_u32(c, d))))
}

/// A value divided by its row's scale is at most 127, so that narrowing keeps its low bits.
#[inline]
#[target_feature(enable = "neon")]
fn quantize_step(x: &[f32; STEP_INPUTS], scale: f32) -> [[i8; GROUP_INPUTS]; STEP_GROUPS] {
    let scale = vdupq_n_f32(scale);
    let [a, b, c, d] = load(x).map(|x| vreinterpretq_s16_s32(vcvtnq_s32_f32(vdivq_f32(x, scale))));
    let (low, high) = (vuzp1q_s16(a, b), vuzp1q_s16(c, d));
    store(vuzp1q_s8(vreinterpretq_s8_s16(low), vreinterpretq_s8_s16(high)))
}

/// Puts a step's groups of one row where the tile has them.
#[inline(always)]
fn spread<const RUN: usize>(groups: [[i8; GROUP_INPUTS]; STEP_GROUPS], row: usize, q: &mut [[i8; GROUP_INPUTS]]) {
    let rows = q.len() / STEP_GROUPS;
    for (runs, q) in groups.as_chunks::<RUN>().0.iter().zip(q.chunks_exact_mut(RUN * rows)) {
        q[row * RUN..][..RUN].copy_from_slice(runs);
    }
}

#[inline]
#[target_feature(enable = "neon")]
fn load(x: &[f32; STEP_INPUTS]) -> [float32x4_t; 4] {
    let [a, b, c, d] = x.as_chunks::<4>().0 else { unreachable!("sixteen are four times four") };
    // SAFETY: each array is 4 x 32 bits.
    [a, b, c, d].map(|x| unsafe { vld1q_f32(x.as_ptr()) })
}

#[inline]
#[target_feature(enable = "neon")]
fn store(values: int8x16_t) -> [[i8; GROUP_INPUTS]; STEP_GROUPS] {
    let mut groups = [[0; GROUP_INPUTS]; STEP_GROUPS];
    // SAFETY: 4 x 4 bytes.
    unsafe { vst1q_s8(groups.as_flattened_mut().as_mut_ptr(), values) };
    groups
}
