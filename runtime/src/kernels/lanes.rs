//! Eight floats at a time: what the float kernels are written in.
//!
//! An operation is written once, in [`Lanes`], so that every instruction set gives the same bits: each step here rounds
//! once and as IEEE 754 says, products and sums are fused where the name says so and nowhere else, and sums have the
//! order that the operation writes down. A NaN is a NaN on all of them; its sign and payload are not part of the answer.

mod scalar;
#[cfg(target_arch = "aarch64")]
mod neon;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;

use std::fmt;

use half::f16;

#[cfg(target_arch = "x86_64")]
pub use self::avx2::Avx2;
#[cfg(target_arch = "x86_64")]
pub use self::avx512::Avx512;
#[cfg(target_arch = "aarch64")]
pub use self::neon::Neon;
pub use self::scalar::Scalar;

/// Floats in a vector.
pub const LANES: usize = 8;

/// Vectors of [`LANES`] floats on an instruction set; a value of the type proves that this processor has it.
pub trait Lanes: Copy + Send + Sync {
    /// [`LANES`] floats.
    type Vector: Copy;

    /// Runs a kernel with the instruction set switched on.
    fn run<K: Kernel>(self, kernel: K) -> K::Output;

    /// `value` in every lane.
    fn splat(self, value: f32) -> Self::Vector;

    /// The floats at `from`.
    fn load(self, from: &[f32; LANES]) -> Self::Vector;

    /// Writes the floats to `to`.
    fn store(self, a: Self::Vector, to: &mut [f32; LANES]);

    /// The half floats at `from`, exactly; a signalling NaN becomes quiet.
    fn load_half(self, from: &[f16; LANES]) -> Self::Vector;

    /// The 8-bit integers at `from`, exactly.
    fn load_bytes(self, from: &[i8; LANES]) -> Self::Vector;

    /// Writes the floats to `to`, rounded to the nearest half float, ties to even.
    fn store_half(self, a: Self::Vector, to: &mut [f16; LANES]);

    /// `a + b`
    fn add(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;

    /// `a - b`
    fn sub(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;

    /// `a * b`
    fn mul(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;

    /// `a * b + c`, rounded once.
    fn mul_add(self, a: Self::Vector, b: Self::Vector, c: Self::Vector) -> Self::Vector;

    /// `c - a * b`, rounded once.
    fn neg_mul_add(self, a: Self::Vector, b: Self::Vector, c: Self::Vector) -> Self::Vector;

    /// The smaller, NaN where `b` is NaN; `a` must not be, and of two zeros it may be either.
    fn min(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;

    /// The larger, NaN where `b` is NaN; where only `a` is, `b` or NaN; of two zeros the positive one if that is `b`.
    fn max(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;

    /// The magnitude.
    fn abs(self, a: Self::Vector) -> Self::Vector;

    /// The nearest whole number, ties to even.
    fn round(self, a: Self::Vector) -> Self::Vector;

    /// `a * 2^n` for whole `n` where neither `a` nor the answer is zero, subnormal or infinite; NaN where `a` and `n` are.
    ///
    /// Any bits otherwise.
    fn times_power_of_two(self, a: Self::Vector, n: Self::Vector) -> Self::Vector;

    /// Zero where `x` is less than `limit`, else `a`.
    fn zero_below(self, a: Self::Vector, x: Self::Vector, limit: Self::Vector) -> Self::Vector;

    /// The sum of each vector's lanes, as [`total`] adds them.
    fn totals(self, a: [Self::Vector; LANES]) -> Self::Vector;
}

/// The sum of neighbours, then of neighbouring sums, then of the two that are left.
#[inline(always)]
pub fn total([a, b, c, d, e, f, g, h]: [f32; LANES]) -> f32 {
    ((a + b) + (c + d)) + ((e + f) + (g + h))
}

/// A piece of work in [`Lanes`], with what it works on.
pub trait Kernel {
    /// What comes of it, besides what it writes.
    type Output;

    /// Does the work. Always inlined, as all that it calls with `lanes`: only inside [`Lanes::run`] is the instruction set
    /// switched on, and a function of its own would call its single instructions.
    fn run<L: Lanes>(self, lanes: L) -> Self::Output;
}

/// An instruction set that the float kernels have, and that this processor has.
#[derive(Clone, Copy, Debug)]
pub enum InstructionSet {
    /// What every processor of the target has.
    Scalar(Scalar),
    /// 128-bit floats, of every aarch64 processor.
    #[cfg(target_arch = "aarch64")]
    Neon(Neon),
    /// 256-bit floats with fused products and half floats.
    #[cfg(target_arch = "x86_64")]
    Avx2(Avx2),
    /// The same, and 512-bit floats where sixteen rows are there.
    #[cfg(target_arch = "x86_64")]
    Avx512(Avx512),
}

impl InstructionSet {
    /// The fastest of this processor.
    pub fn fastest() -> Self {
        #[cfg(target_arch = "aarch64")]
        return Self::Neon(Neon);
        #[cfg(target_arch = "x86_64")]
        if let Some(avx512) = Avx512::detect() {
            return Self::Avx512(avx512);
        }
        #[cfg(target_arch = "x86_64")]
        if let Some(avx2) = Avx2::detect() {
            return Self::Avx2(avx2);
        }
        #[cfg(not(target_arch = "aarch64"))]
        Self::Scalar(Scalar)
    }

    /// All that this processor has, slowest first.
    pub fn available() -> Vec<Self> {
        let sets = [
            Some(Self::Scalar(Scalar)),
            #[cfg(target_arch = "aarch64")]
            Some(Self::Neon(Neon)),
            #[cfg(target_arch = "x86_64")]
            Avx2::detect().map(Self::Avx2),
            #[cfg(target_arch = "x86_64")]
            Avx512::detect().map(Self::Avx512),
        ];
        sets.into_iter().flatten().collect()
    }

    /// Runs a kernel on it.
    pub fn run<K: Kernel>(self, kernel: K) -> K::Output {
        match self {
            Self::Scalar(scalar) => scalar.run(kernel),
            #[cfg(target_arch = "aarch64")]
            Self::Neon(neon) => neon.run(kernel),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(avx2) => avx2.run(kernel),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(avx512) => avx512.run(kernel),
        }
    }
}

impl fmt::Display for InstructionSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Scalar(_) => "scalar",
            #[cfg(target_arch = "aarch64")]
            Self::Neon(_) => "neon",
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(_) => "avx2",
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(_) => "avx512",
        })
    }
}

#[cfg(test)]
pub(crate) mod tests;
