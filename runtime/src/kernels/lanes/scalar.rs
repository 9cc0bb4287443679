//! The answer, in plain Rust that every processor runs.

use half::f16;

use super::{Kernel, LANES, Lanes, total};

/// No instruction set beyond what the target always has.
#[derive(Clone, Copy, Debug)]
pub struct Scalar;

impl Lanes for Scalar {
    type Vector = [f32; LANES];

    #[inline(always)]
    fn run<K: Kernel>(self, kernel: K) -> K::Output {
        kernel.run(self)
    }

    #[inline(always)]
    fn splat(self, value: f32) -> Self::Vector {
        [value; LANES]
    }

    #[inline(always)]
    fn load(self, from: &[f32; LANES]) -> Self::Vector {
        *from
    }

    #[inline(always)]
    fn store(self, a: Self::Vector, to: &mut [f32; LANES]) {
        *to = a;
    }

    #[inline(always)]
    fn load_half(self, from: &[f16; LANES]) -> Self::Vector {
        from.map(f16::to_f32_const)
    }

    #[inline(always)]
    fn load_bytes(self, from: &[i8; LANES]) -> Self::Vector {
        from.map(f32::from)
    }

    #[inline(always)]
    fn store_half(self, a: Self::Vector, to: &mut [f16; LANES]) {
        *to = a.map(f16::from_f32_const);
    }

    #[inline(always)]
    fn add(self, a: Self::Vector, b: Self::Vector) -> Self::Vector {
        std::array::from_fn(|lane| a[lane] + b[lane])
    }

    #[inline(always)]
    fn sub(self, a: Self::Vector, b: Self::Vector) -> Self::Vector {
        std::array::from_fn(|lane| a[lane] - b[lane])
    }

    #[inline(always)]
    fn mul(self, a: Self::Vector, b: Self::Vector) -> Self::Vector {
        std::array::from_fn(|lane| a[lane] * b[lane])
    }

    #[inline(always)]
    fn mul_add(self, a: Self::Vector, b: Self::Vector, c: Self::Vector) -> Self::Vector {
        std::array::from_fn(|lane| a[lane].mul_add(b[lane], c[lane]))
    }

    #[inline(always)]
    fn neg_mul_add(self, a: Self::Vector, b: Self::Vector, c: Self::Vector) -> Self::Vector {
        std::array::from_fn(|lane| (-a[lane]).mul_add(b[lane], c[lane]))
    }

    #[inline(always)]
    fn min(self, a: Self::Vector, b: Self::Vector) -> Self::Vector {
        std::array::from_fn(|lane| if a[lane] < b[lane] { a[lane] } else { b[lane] })
    }

    #[inline(always)]
    fn max(self, a: Self::Vector, b: Self::Vector) -> Self::Vector {
        std::array::from_fn(|lane| if a[lane] > b[lane] { a[lane] } else { b[lane] })
    }

    #[inline(always)]
    fn abs(self, a: Self::Vector) -> Self::Vector {
        a.map(f32::abs)
    }

    #[inline(always)]
    fn round(self, a: Self::Vector) -> Self::Vector {
        a.map(f32::round_ties_even)
    }

    #[inline(always)]
    fn times_power_of_two(self, a: Self::Vector, n: Self::Vector) -> Self::Vector {
        std::array::from_fn(|lane| {
            let exponent = (n[lane] as i32).cast_unsigned() << (f32::MANTISSA_DIGITS - 1);
            f32::from_bits(a[lane].to_bits().wrapping_add(exponent))
        })
    }

    #[inline(always)]
    fn zero_below(self, a: Self::Vector, x: Self::Vector, limit: Self::Vector) -> Self::Vector {
        std::array::from_fn(|lane| if x[lane] < limit[lane] { 0.0 } else { a[lane] })
    }

    #[inline(always)]
    fn totals(self, a: [Self::Vector; LANES]) -> Self::Vector {
        a.map(total)
    }
}
