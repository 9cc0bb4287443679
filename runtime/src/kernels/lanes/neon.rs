//! NEON: two registers of four floats.

use std::arch::aarch64::{
    float32x4_t, uint16x8_t, vabsq_f32, vaddq_f32, vaddq_s32, vbicq_u32, vcltq_f32, vcvtq_f32_s32, vcvtq_s32_f32,
    vdupq_n_f32, vfmaq_f32, vfmsq_f32, vget_low_s16, vld1_s8, vld1q_f32, vld1q_u16, vmaxq_f32, vminq_f32,
    vmovl_high_s16, vmovl_s8, vmovl_s16, vmulq_f32, vpaddq_f32, vreinterpretq_f32_s32, vreinterpretq_f32_u32,
    vreinterpretq_s32_f32, vreinterpretq_u32_f32, vrndnq_f32, vshlq_n_s32, vst1q_f32, vst1q_u16, vsubq_f32,
};
use std::arch::asm;

use half::f16;

use super::{Kernel, LANES, Lanes};

/// Every aarch64 processor has NEON.
#[derive(Clone, Copy, Debug)]
pub struct Neon;

type Vector = [float32x4_t; 2];

#[inline(always)]
fn both(a: Vector, b: Vector, run: impl Fn(float32x4_t, float32x4_t) -> float32x4_t) -> Vector {
    [run(a[0], b[0]), run(a[1], b[1])]
}

impl Lanes for Neon {
    type Vector = Vector;

    #[inline(always)]
    fn run<K: Kernel>(self, kernel: K) -> K::Output {
        kernel.run(self)
    }

    #[inline(always)]
    fn splat(self, value: f32) -> Vector {
        // SAFETY: every aarch64 processor has NEON.
        unsafe { [vdupq_n_f32(value); 2] }
    }

    #[inline(always)]
    fn load(self, from: &[f32; LANES]) -> Vector {
        let from = from.as_ptr();
        // SAFETY: the first 4 of 8 floats.
        let low = unsafe { vld1q_f32(from) };
        // SAFETY: the last 4 of 8 floats.
        let high = unsafe { vld1q_f32(from.add(4)) };
        [low, high]
    }

    #[inline(always)]
    fn store(self, a: Vector, to: &mut [f32; LANES]) {
        let to = to.as_mut_ptr();
        // SAFETY: the first 4 of 8 floats.
        unsafe { vst1q_f32(to, a[0]) };
        // SAFETY: the last 4 of 8 floats.
        unsafe { vst1q_f32(to.add(4), a[1]) };
    }

    #[inline(always)]
    fn load_half(self, from: &[f16; LANES]) -> Vector {
        // SAFETY: 8 half floats, which are 16 bits each.
        widen(unsafe { vld1q_u16(from.as_ptr().cast()) })
    }

    #[inline(always)]
    fn load_bytes(self, from: &[i8; LANES]) -> Vector {
        // SAFETY: 8 integers of 8 bits; every aarch64 processor has NEON.
        unsafe {
            let wide = vmovl_s8(vld1_s8(from.as_ptr()));
            [vcvtq_f32_s32(vmovl_s16(vget_low_s16(wide))), vcvtq_f32_s32(vmovl_high_s16(wide))]
        }
    }

    #[inline(always)]
    fn store_half(self, a: Vector, to: &mut [f16; LANES]) {
        // SAFETY: 8 half floats, which are 16 bits each.
        unsafe { vst1q_u16(to.as_mut_ptr().cast(), narrow(a)) };
    }

    #[inline(always)]
    fn add(self, a: Vector, b: Vector) -> Vector {
        // SAFETY: every aarch64 processor has NEON.
        both(a, b, |a, b| unsafe { vaddq_f32(a, b) })
    }

    #[inline(always)]
    fn sub(self, a: Vector, b: Vector) -> Vector {
        // SAFETY: every aarch64 processor has NEON.
        both(a, b, |a, b| unsafe { vsubq_f32(a, b) })
    }

    #[inline(always)]
    fn mul(self, a: Vector, b: Vector) -> Vector {
        // SAFETY: every aarch64 processor has NEON.
        both(a, b, |a, b| unsafe { vmulq_f32(a, b) })
    }

    #[inline(always)]
    fn mul_add(self, a: Vector, b: Vector, c: Vector) -> Vector {
        // SAFETY: every aarch64 processor has NEON.
        unsafe { [vfmaq_f32(c[0], a[0], b[0]), vfmaq_f32(c[1], a[1], b[1])] }
    }

    #[inline(always)]
    fn neg_mul_add(self, a: Vector, b: Vector, c: Vector) -> Vector {
        // SAFETY: every aarch64 processor has NEON.
        unsafe { [vfmsq_f32(c[0], a[0], b[0]), vfmsq_f32(c[1], a[1], b[1])] }
    }

    #[inline(always)]
    fn min(self, a: Vector, b: Vector) -> Vector {
        // SAFETY: every aarch64 processor has NEON.
        both(a, b, |a, b| unsafe { vminq_f32(a, b) })
    }

    #[inline(always)]
    fn max(self, a: Vector, b: Vector) -> Vector {
        // SAFETY: every aarch64 processor has NEON.
        both(a, b, |a, b| unsafe { vmaxq_f32(a, b) })
    }

    #[inline(always)]
    fn abs(self, a: Vector) -> Vector {
        // SAFETY: every aarch64 processor has NEON.
        a.map(|a| unsafe { vabsq_f32(a) })
    }

    #[inline(always)]
    fn round(self, a: Vector) -> Vector {
        // SAFETY: every aarch64 processor has NEON.
        a.map(|a| unsafe { vrndnq_f32(a) })
    }

    #[inline(always)]
    fn times_power_of_two(self, a: Vector, n: Vector) -> Vector {
        // SAFETY: every aarch64 processor has NEON.
        both(a, n, |a, n| unsafe {
            let exponent = vshlq_n_s32::<23>(vcvtq_s32_f32(n));
            vreinterpretq_f32_s32(vaddq_s32(vreinterpretq_s32_f32(a), exponent))
        })
    }

    #[inline(always)]
    fn zero_below(self, a: Vector, x: Vector, limit: Vector) -> Vector {
        // SAFETY: every aarch64 processor has NEON.
        std::array::from_fn(|at| unsafe {
            let below = vcltq_f32(x[at], limit[at]);
            vreinterpretq_f32_u32(vbicq_u32(vreinterpretq_u32_f32(a[at]), below))
        })
    }

    #[inline(always)]
    fn totals(self, a: [Vector; LANES]) -> Vector {
        // SAFETY: every aarch64 processor has NEON.
        let neighbours = |a: float32x4_t, b: float32x4_t| unsafe { vpaddq_f32(a, b) };
        let four = |at: usize, half: usize| {
            let [a, b, c, d] = std::array::from_fn(|key| a[at + key][half]);
            neighbours(neighbours(a, b), neighbours(c, d))
        };
        // SAFETY: as above.
        both([four(0, 0), four(4, 0)], [four(0, 1), four(4, 1)], |a, b| unsafe { vaddq_f32(a, b) })
    }
}

/// Every aarch64 processor converts half floats, and stable Rust has no name for their vectors without arithmetic on them.
#[inline(always)]
fn widen(half: uint16x8_t) -> Vector {
    let (low, high);
    // SAFETY: reads and writes the named registers and nothing else.
    unsafe {
        asm!("fcvtl {low:v}.4s, {half:v}.4h", "fcvtl2 {high:v}.4s, {half:v}.8h",
            half = in(vreg) half, low = out(vreg) low, high = lateout(vreg) high,
            options(pure, nomem, nostack));
    }
    [low, high]
}

#[inline(always)]
fn narrow([low, high]: Vector) -> uint16x8_t {
    let half;
    // SAFETY: reads and writes the named registers and nothing else.
    unsafe {
        asm!("fcvtn {half:v}.4h, {low:v}.4s", "fcvtn2 {half:v}.8h, {high:v}.4s",
            low = in(vreg) low, high = in(vreg) high, half = out(vreg) half,
            options(pure, nomem, nostack));
    }
    half
}
