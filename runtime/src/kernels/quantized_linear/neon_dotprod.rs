//! NEON with dot products (ARMv8.2, Cortex-A55 and A76 on): one instruction for four outputs x four inputs of one row.
//!
//! Its intrinsics are not stable Rust, so the loop is in assembly, which also settles what stays in which register:
//! weights in v0 to v3, activations in v4 to v7 (v28 too for five rows), and sums from v8 on, four registers a row.

use std::arch::asm;
use std::mem::MaybeUninit;

use super::neon_rows;
use super::packed_weights::{Block, GROUP_INPUTS, Layout, PANEL_OUTPUTS, STEP_GROUPS};
use super::rows::{Kernel, Tile};

/// Proof that this processor has SDOT.
#[derive(Clone, Copy, Debug)]
pub struct DotProduct(());

impl DotProduct {
    /// The proof, where there is one.
    pub fn detect() -> Option<Self> {
        std::arch::is_aarch64_feature_detected!("dotprod").then_some(Self(()))
    }
}

impl Kernel for DotProduct {
    const ROWS: usize = 6;
    const PANELS: usize = 1;
    const LAYOUT: Layout = Layout::DotProduct;
    const ZERO: i8 = 0;

    fn quantize(self, x: &[f32], q: &mut [[i8; GROUP_INPUTS]], scales: &mut [f32]) {
        // SAFETY: every aarch64 processor has NEON.
        unsafe { neon_rows::quantize::<1>(x, q, scales) }
    }

    fn multiply(self, tile: Tile<'_, '_>) {
        // SAFETY: `self` proves dot products.
        unsafe { multiply_rows(tile) }
    }
}

#[target_feature(enable = "neon,dotprod")]
fn multiply_rows(mut tile: Tile<'_, '_>) {
    let panel = tile.panels.start;
    let weights = tile.layer.weights.panel(panel);
    let mut sums = MaybeUninit::uninit();
    let sums = match tile.y.len() {
        1 => products_of_1(weights, tile.x, &mut sums),
        2 => products_of_2(weights, tile.x, &mut sums),
        3 => products_of_3(weights, tile.x, &mut sums),
        4 => products_of_4(weights, tile.x, &mut sums),
        5 => products_of_5(weights, tile.x, &mut sums),
        6 => products_of_6(weights, tile.x, &mut sums),
        rows => unreachable!("a tile of {rows} rows"),
    };
    tile.finish(panel, sums);
}

/// Sums of the largest tile; a smaller one fills only its own rows.
type Sums = MaybeUninit<[[i32; PANEL_OUTPUTS]; DotProduct::ROWS]>;

/// Loads one of the four groups of a step: sixteen outputs, 64 bytes. The first moves on to the next step.
macro_rules! weights {
    (0) => {
        "ldp q0, q1, [{weights}], #256\n ldp q2, q3, [{weights}, #-224]\n"
    };
    (1) => {
        "ldp q0, q1, [{weights}, #-192]\n ldp q2, q3, [{weights}, #-160]\n"
    };
    (2) => {
        "ldp q0, q1, [{weights}, #-128]\n ldp q2, q3, [{weights}, #-96]\n"
    };
    (3) => {
        "ldp q0, q1, [{weights}, #-64]\n ldp q2, q3, [{weights}, #-32]\n"
    };
}

/// Multiplies sixteen outputs by a group of one row, which is one lane of a register.
#[rustfmt::skip]
macro_rules! row {
    ([$a:literal $b:literal $c:literal $d:literal] $x:literal[$lane:literal]) => {
        concat!(
            "sdot v", $a, ".4s, v0.16b, v", $x, ".4b[", $lane, "]\n",
            "sdot v", $b, ".4s, v1.16b, v", $x, ".4b[", $lane, "]\n",
            "sdot v", $c, ".4s, v2.16b, v", $x, ".4b[", $lane, "]\n",
            "sdot v", $d, ".4s, v3.16b, v", $x, ".4b[", $lane, "]\n",
        )
    };
}

#[rustfmt::skip]
macro_rules! clear {
    ([$a:literal $b:literal $c:literal $d:literal]) => {
        concat!(
            "movi v", $a, ".4s, #0\n movi v", $b, ".4s, #0\n",
            "movi v", $c, ".4s, #0\n movi v", $d, ".4s, #0\n",
        )
    };
}

macro_rules! store {
    ([$a:literal $b:literal $c:literal $d:literal]) => {
        concat!("stp q", $a, ", q", $b, ", [{sums}], #32\n stp q", $c, ", q", $d, ", [{sums}], #32\n")
    };
}

/// Makes the function for one number of rows: a panel by as many rows as there are `$sum` registers in fours.
///
/// A step has four groups, `[4][rows][4]` bytes: as many registers as rows. Before each group stands what it loads of
/// them; after it, the register and lane of each row. The loop is two steps long; where their number is odd, it begins
/// with its second half.
macro_rules! products {
    (
        $name:ident, [$($sum:tt)*],
        $load0:literal $([$($x0:tt)*])*, $load1:literal $([$($x1:tt)*])*,
        $load2:literal $([$($x2:tt)*])*, $load3:literal $([$($x3:tt)*])*,
    ) => {
        #[inline]
        #[target_feature(enable = "neon,dotprod")]
        fn $name<'s>(weights: &[Block], x: &[[i8; GROUP_INPUTS]], sums: &'s mut Sums) -> &'s [[i32; PANEL_OUTPUTS]] {
            const ROWS: usize = [$(stringify!($sum)),*].len();
            const { assert!(ROWS <= DotProduct::ROWS) };
            assert!(!weights.is_empty() && weights.len() % STEP_GROUPS == 0, "weights are of whole steps");
            assert_eq!(x.len(), weights.len() * ROWS, "a group of each row for each of the weights");
            let sums: *mut [i32; PANEL_OUTPUTS] = sums.as_mut_ptr().cast();
            // SAFETY: dot products are enabled. Each step reads 256 bytes of weights and as many groups of `x` for each
            // row, whose lengths are checked above. A row's sums are 64 bytes, and there is room for `ROWS` of them.
            unsafe {
                asm!(
                    $(clear!($sum),)*
                    "tbnz {steps}, #0, 3f",
                    "2:",
                    $load0, weights!(0), $(row!($sum $($x0)*),)*
                    $load1, weights!(1), $(row!($sum $($x1)*),)*
                    $load2, weights!(2), $(row!($sum $($x2)*),)*
                    $load3, weights!(3), $(row!($sum $($x3)*),)*
                    "3:",
                    $load0, weights!(0), $(row!($sum $($x0)*),)*
                    $load1, weights!(1), $(row!($sum $($x1)*),)*
                    $load2, weights!(2), $(row!($sum $($x2)*),)*
                    $load3, weights!(3), $(row!($sum $($x3)*),)*
                    "subs {steps}, {steps}, #2",
                    "b.hi 2b",
                    $(store!($sum),)*
                    weights = inout(reg) weights.as_ptr() => _,
                    x = inout(reg) x.as_ptr() => _,
                    steps = inout(reg) weights.len() / STEP_GROUPS => _,
                    sums = inout(reg) sums => _,
                    out("v0") _, out("v1") _, out("v2") _, out("v3") _, out("v4") _, out("v5") _, out("v6") _,
                    out("v7") _, out("v8") _, out("v9") _, out("v10") _, out("v11") _, out("v12") _, out("v13") _,
                    out("v14") _, out("v15") _, out("v16") _, out("v17") _, out("v18") _, out("v19") _,
                    out("v20") _, out("v21") _, out("v22") _, out("v23") _, out("v24") _, out("v25") _,
                    out("v26") _, out("v27") _, out("v28") _, out("v29") _, out("v30") _, out("v31") _,
                    options(nostack),
                );
            }
            // SAFETY: the sums of `ROWS` rows have just been stored.
            unsafe { std::slice::from_raw_parts(sums, ROWS) }
        }
    };
}

products! {
    products_of_1, [[8 9 10 11]],
    "ldr q4, [{x}], #16" [4[0]],
    "" [4[1]],
    "" [4[2]],
    "" [4[3]],
}

products! {
    products_of_2, [[8 9 10 11] [12 13 14 15]],
    "ldp q4, q5, [{x}], #32" [4[0]] [4[1]],
    "" [4[2]] [4[3]],
    "" [5[0]] [5[1]],
    "" [5[2]] [5[3]],
}

products! {
    products_of_3, [[8 9 10 11] [12 13 14 15] [16 17 18 19]],
    "ldp q4, q5, [{x}], #48" [4[0]] [4[1]] [4[2]],
    "ldr q6, [{x}, #-16]" [4[3]] [5[0]] [5[1]],
    "" [5[2]] [5[3]] [6[0]],
    "" [6[1]] [6[2]] [6[3]],
}

products! {
    products_of_4, [[8 9 10 11] [12 13 14 15] [16 17 18 19] [20 21 22 23]],
    "ldp q4, q5, [{x}], #64" [4[0]] [4[1]] [4[2]] [4[3]],
    "" [5[0]] [5[1]] [5[2]] [5[3]],
    "ldp q6, q7, [{x}, #-32]" [6[0]] [6[1]] [6[2]] [6[3]],
    "" [7[0]] [7[1]] [7[2]] [7[3]],
}

products! {
    products_of_5, [[8 9 10 11] [12 13 14 15] [16 17 18 19] [20 21 22 23] [24 25 26 27]],
    "ldp q4, q5, [{x}], #80" [4[0]] [4[1]] [4[2]] [4[3]] [5[0]],
    "ldp q6, q7, [{x}, #-48]" [5[1]] [5[2]] [5[3]] [6[0]] [6[1]],
    "ldr q28, [{x}, #-16]" [6[2]] [6[3]] [7[0]] [7[1]] [7[2]],
    "" [7[3]] [28[0]] [28[1]] [28[2]] [28[3]],
}

products! {
    products_of_6, [[8 9 10 11] [12 13 14 15] [16 17 18 19] [20 21 22 23] [24 25 26 27] [28 29 30 31]],
    "ldp q4, q5, [{x}], #96" [4[0]] [4[1]] [4[2]] [4[3]] [5[0]] [5[1]],
    "ldp q6, q7, [{x}, #-64]" [5[2]] [5[3]] [6[0]] [6[1]] [6[2]] [6[3]],
    "ldp q4, q5, [{x}, #-32]" [7[0]] [7[1]] [7[2]] [7[3]] [4[0]] [4[1]],
    "" [4[2]] [4[3]] [5[0]] [5[1]] [5[2]] [5[3]],
}
