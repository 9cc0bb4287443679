//! NEON as every aarch64 processor has it: three instructions for sixteen products of one row by one output.
//!
//! SMULL and SMLAL2 multiply the halves of two registers into 16-bit lanes, SADALP adds pairs of them to 32-bit lanes.
//! Two products of -128..=127 by -127..=127 fit in 16 bits. The loop is in assembly because compilers, given the
//! intrinsics, load so far ahead that sums are spilled.

use std::arch::asm;
use std::mem::MaybeUninit;

use super::neon_rows;
use super::packed_weights::{Block, GROUP_INPUTS, Layout, PANEL_OUTPUTS, STEP_GROUPS};
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

    fn multiply(self, mut tile: Tile<'_, '_>) {
        let panel = tile.panels.start;
        let weights = tile.layer.weights.panel(panel);
        let mut sums = MaybeUninit::uninit();
        let sums = match tile.y.len() {
            1 => products_of_1(weights, tile.x, &mut sums),
            2 => products_of_2(weights, tile.x, &mut sums),
            3 => products_of_3(weights, tile.x, &mut sums),
            4 => products_of_4(weights, tile.x, &mut sums),
            rows => unreachable!("a tile of {rows} rows"),
        };
        tile.finish(panel, sums);
    }
}

/// Sums of the largest tile; a smaller one fills only its own rows.
type Sums = MaybeUninit<[[i32; PANEL_OUTPUTS]; Neon::ROWS]>;

/// Loads, adds the products of the turn before to their sums, then multiplies: nothing waits for what has just begun.
///
/// A product is `[sum product weights x]`, the numbers of its registers.
#[rustfmt::skip]
macro_rules! turn {
    (
        $load:literal,
        [$([$sum:literal $before:literal $($_before:literal)*])*],
        [$([$_sum:literal $product:literal $weights:literal $x:literal])*]
    ) => {
        concat!(
            $load, "\n",
            $("sadalp v", $sum, ".4s, v", $before, ".8h\n",)*
            $("smull v", $product, ".8h, v", $weights, ".8b, v", $x, ".8b\n",)*
            $("smlal2 v", $product, ".8h, v", $weights, ".16b, v", $x, ".16b\n",)*
        )
    };
}

/// The turns of one step, the first of them after `$before`.
macro_rules! step {
    ($before:tt) => {
        ""
    };
    ($before:tt $load:literal $turn:tt $($rest:tt)*) => {
        concat!(turn!($load, $before, $turn), step!($turn $($rest)*))
    };
}

/// Adds the last products to their sums.
macro_rules! last {
    ([$([$sum:literal $product:literal $($_rest:literal)*])*]) => {
        concat!($("sadalp v", $sum, ".4s, v", $product, ".8h\n",)*)
    };
}

/// Sets to zero what the first turn adds.
macro_rules! clear_products {
    ([$([$_sum:literal $product:literal $($_rest:literal)*])*]) => {
        concat!($("movi v", $product, ".4s, #0\n",)*)
    };
}

#[rustfmt::skip]
macro_rules! clear_sums {
    ([$a:literal $b:literal $c:literal $d:literal]) => {
        concat!(
            "movi v", $a, ".4s, #0\n movi v", $b, ".4s, #0\n",
            "movi v", $c, ".4s, #0\n movi v", $d, ".4s, #0\n",
        )
    };
}

/// Adds up the lanes of four sums, and stores the four `$place` bytes after where the sums begin.
#[rustfmt::skip]
macro_rules! store {
    ($place:literal [$a:literal $b:literal $c:literal $d:literal]) => {
        concat!(
            "addp v", $a, ".4s, v", $a, ".4s, v", $b, ".4s\n addp v", $c, ".4s, v", $c, ".4s, v", $d, ".4s\n",
            "addp v", $a, ".4s, v", $a, ".4s, v", $c, ".4s\n str q", $a, ", [{sums}, #", $place, "]\n",
        )
    };
}

/// Makes the function for one number of rows: a panel, `$blocks` blocks of four outputs at once.
///
/// A step has as many registers of activations as rows, and four of weights in each block.
macro_rules! products {
    (
        $name:ident, $rows:literal, $blocks:literal,
        sums: $($place:literal $sums:tt)*,
        turns: $($load:literal $turn:tt)*;
        last: $last_load:literal $last:tt
    ) => {
        #[inline]
        fn $name<'s>(weights: &[Block], x: &[[i8; GROUP_INPUTS]], sums: &'s mut Sums) -> &'s [[i32; PANEL_OUTPUTS]] {
            const { assert!($rows <= Neon::ROWS && matches!($blocks, 1 | 2 | 4)) };
            const { assert!([$($place),*].len() == $rows * $blocks, "four sums for each row and block") };
            assert!(!weights.is_empty() && weights.len() % STEP_GROUPS == 0, "weights are of whole steps");
            assert_eq!(x.len(), weights.len() * $rows, "a group of each row for each of the weights");
            let sums: *mut [i32; PANEL_OUTPUTS] = sums.as_mut_ptr().cast();
            for first in (0..STEP_GROUPS).step_by($blocks) {
                // SAFETY: Each step reads `$blocks` blocks of 64 bytes from its block `first` on, which is inside the
                // step, and 16 bytes of each row, for as many steps as both are checked to have. It stores 16 bytes
                // for each row and block, and there is room for 64 for each of `$rows` rows.
                unsafe {
                    asm!(
                        $(clear_sums!($sums),)*
                        clear_products!($last),
                        "tbnz {steps}, #0, 3f",
                        "2:",
                        step!($last $($load $turn)* $last_load $last),
                        "3:",
                        step!($last $($load $turn)* $last_load $last),
                        "subs {steps}, {steps}, #2",
                        "b.hi 2b",
                        last!($last),
                        $(store!($place $sums),)*
                        weights = inout(reg) weights.as_ptr().add(first) => _,
                        x = inout(reg) x.as_ptr() => _,
                        steps = inout(reg) weights.len() / STEP_GROUPS => _,
                        sums = in(reg) sums.cast::<[i32; 4]>().add(first),
                        out("v0") _, out("v1") _, out("v2") _, out("v3") _, out("v4") _, out("v5") _, out("v6") _,
                        out("v7") _, out("v8") _, out("v9") _, out("v10") _, out("v11") _, out("v12") _,
                        out("v13") _, out("v14") _, out("v15") _, out("v16") _, out("v17") _, out("v18") _,
                        out("v19") _, out("v20") _, out("v21") _, out("v22") _, out("v23") _, out("v24") _,
                        out("v25") _, out("v26") _, out("v27") _, out("v28") _, out("v29") _, out("v30") _,
                        out("v31") _,
                        options(nostack),
                    );
                }
            }
            // SAFETY: the sums of `$rows` rows have just been stored.
            unsafe { std::slice::from_raw_parts(sums, $rows) }
        }
    };
}

products! {
    products_of_1, 1, 4,
    sums: 0 [16 17 18 19] 16 [20 21 22 23] 32 [24 25 26 27] 48 [28 29 30 31],
    turns:
    "ldr q0, [{x}], #16\n ldp q4, q5, [{weights}], #256\n ldp q6, q7, [{weights}, #-224]"
    [[16 8 4 0] [17 9 5 0] [18 10 6 0] [19 11 7 0]]
    "ldp q1, q2, [{weights}, #-192]\n ldp q3, q12, [{weights}, #-160]"
    [[20 8 1 0] [21 9 2 0] [22 10 3 0] [23 11 12 0]]
    "ldp q4, q5, [{weights}, #-128]\n ldp q6, q7, [{weights}, #-96]"
    [[24 8 4 0] [25 9 5 0] [26 10 6 0] [27 11 7 0]];
    last:
    "ldp q1, q2, [{weights}, #-64]\n ldp q3, q12, [{weights}, #-32]"
    [[28 8 1 0] [29 9 2 0] [30 10 3 0] [31 11 12 0]]
}

products! {
    products_of_2, 2, 2,
    sums: 0 [16 17 18 19] 16 [20 21 22 23] 64 [24 25 26 27] 80 [28 29 30 31],
    turns:
    "ldp q0, q1, [{x}], #32\n ldp q4, q5, [{weights}], #256\n ldp q6, q7, [{weights}, #-224]"
    [[16 8 4 0] [24 9 4 1] [17 10 5 0] [25 11 5 1] [18 12 6 0] [26 13 6 1] [19 14 7 0] [27 15 7 1]];
    last:
    "ldp q4, q5, [{weights}, #-192]\n ldp q6, q7, [{weights}, #-160]"
    [[20 8 4 0] [28 9 4 1] [21 10 5 0] [29 11 5 1] [22 12 6 0] [30 13 6 1] [23 14 7 0] [31 15 7 1]]
}

products! {
    products_of_3, 3, 1,
    sums: 0 [16 17 18 19] 64 [20 21 22 23] 128 [24 25 26 27],
    turns:
    "ldp q0, q1, [{x}], #48\n ldr q2, [{x}, #-16]\n ldp q4, q5, [{weights}], #256"
    [[16 8 4 0] [20 9 4 1] [24 10 4 2] [17 11 5 0] [21 12 5 1] [25 13 5 2]];
    last:
    "ldp q6, q7, [{weights}, #-224]"
    [[18 8 6 0] [22 9 6 1] [26 10 6 2] [19 11 7 0] [23 12 7 1] [27 13 7 2]]
}

products! {
    products_of_4, 4, 1,
    sums: 0 [16 17 18 19] 64 [20 21 22 23] 128 [24 25 26 27] 192 [28 29 30 31],
    turns:
    "ldp q0, q1, [{x}], #64\n ldp q2, q3, [{x}, #-32]\n ldp q4, q5, [{weights}], #256"
    [[16 8 4 0] [20 9 4 1] [24 10 4 2] [28 11 4 3] [17 12 5 0] [21 13 5 1] [25 14 5 2] [29 15 5 3]];
    last:
    "ldp q6, q7, [{weights}, #-224]"
    [[18 8 6 0] [22 9 6 1] [26 10 6 2] [30 11 6 3] [19 12 7 0] [23 13 7 1] [27 14 7 2] [31 15 7 3]]
}
