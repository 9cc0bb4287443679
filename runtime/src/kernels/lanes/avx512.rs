//! AVX-512: the eight lanes are AVX2's, and attention takes sixteen queries at once.

use std::arch::x86_64::__m256;

use half::f16;

use super::{Avx2, Kernel, LANES, Lanes};

/// Proof that this processor has AVX-512F beside AVX2.
#[derive(Clone, Copy, Debug)]
pub struct Avx512(Avx2);

impl Avx512 {
    /// The proof, where there is one.
    pub fn detect() -> Option<Self> {
        Avx2::detect().filter(|_| is_x86_feature_detected!("avx512f")).map(Self)
    }

    /// What it has besides.
    pub fn avx2(self) -> Avx2 {
        self.0
    }
}

#[target_feature(enable = "avx2,fma,f16c,avx512f")]
fn switched_on<K: Kernel>(avx512: Avx512, kernel: K) -> K::Output {
    kernel.run(avx512)
}

macro_rules! as_avx2 {
    ($( $name:ident($($argument:ident: $type:ty),*) $(-> $answer:ty)?; )*) => { $(
        #[inline(always)]
        fn $name(self, $($argument: $type),*) $(-> $answer)? {
            self.0.$name($($argument),*)
        }
    )* };
}

impl Lanes for Avx512 {
    type Vector = __m256;

    #[inline(always)]
    fn run<K: Kernel>(self, kernel: K) -> K::Output {
        // SAFETY: `self` proves the features.
        unsafe { switched_on(self, kernel) }
    }

    as_avx2! {
        splat(value: f32) -> __m256;
        load(from: &[f32; LANES]) -> __m256;
        store(a: __m256, to: &mut [f32; LANES]);
        load_half(from: &[f16; LANES]) -> __m256;
        load_bytes(from: &[i8; LANES]) -> __m256;
        store_half(a: __m256, to: &mut [f16; LANES]);
        add(a: __m256, b: __m256) -> __m256;
        sub(a: __m256, b: __m256) -> __m256;
        mul(a: __m256, b: __m256) -> __m256;
        mul_add(a: __m256, b: __m256, c: __m256) -> __m256;
        neg_mul_add(a: __m256, b: __m256, c: __m256) -> __m256;
        min(a: __m256, b: __m256) -> __m256;
        max(a: __m256, b: __m256) -> __m256;
        abs(a: __m256) -> __m256;
        round(a: __m256) -> __m256;
        times_power_of_two(a: __m256, n: __m256) -> __m256;
        zero_below(a: __m256, x: __m256, limit: __m256) -> __m256;
        totals(a: [__m256; LANES]) -> __m256;
    }
}
