//! Every instruction set against the contract word for word, and against numpy.

use std::iter::zip;

use half::f16;

use super::super::exponential::{Weigh, WeighAlone};
use super::super::lanes::tests::{Values, assert_bits, floats_of, golden, integers, with_threads};
use super::super::lanes::{Scalar, total};
use super::*;

/// An attention with its own numbers: queries, keys and values of this call side by side, the past by head.
#[derive(Clone)]
struct Case {
    heads: usize,
    head_width: usize,
    queries: usize,
    past: usize,
    fresh: usize,
    seen: Seen,
    q: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
    past_k: Vec<f16>,
    past_v: Vec<f16>,
}

/// Turns scores into weights; their sum.
fn weigh(scores: &mut Vec<f32>, is_alone: bool) -> f32 {
    let (scalar, keys) = (InstructionSet::Scalar(Scalar), scores.len());
    if is_alone {
        scores.resize(keys.next_multiple_of(8), f32::NEG_INFINITY);
        return scalar.run(WeighAlone(scores));
    }
    let mut fours: Vec<[f32; 4]> = scores.iter().map(|score| [*score; 4]).collect();
    fours.resize(keys.next_multiple_of(2), [f32::NEG_INFINITY; 4]);
    let [sum, ..] = scalar.run(Weigh(&mut fours));
    *scores = fours.into_iter().map(|[weight, ..]| weight).collect();
    sum
}

impl Case {
    fn new([heads, head_width, queries, past, fresh]: [usize; 5], seen: Seen) -> Self {
        let mut values = Values((heads * 7 + head_width * 31 + queries * 101 + past * 1009 + fresh) as u64);
        let mut floats = |rows: usize| values.floats(rows * heads * head_width);
        let (q, k, v) = (floats(queries), floats(fresh), floats(fresh));
        let mut halves = || floats(past).into_iter().map(f16::from_f32_const).collect();
        let (past_k, past_v) = (halves(), halves());
        Self { heads, head_width, queries, past, fresh, seen, q, k, v, past_k, past_v }
    }

    fn width(&self) -> usize {
        self.heads * self.head_width
    }

    fn run(&self, set: InstructionSet) -> Vec<f32> {
        let packed = |matrix| HeadRows::side_by_side(matrix, self.width(), 0, self.head_width);
        let cached = |half| HeadRows::cached(Elements::F16(half), self.past, self.past, self.head_width);
        let past = KeysValues { keys: cached(&self.past_k), values: cached(&self.past_v) };
        let call = Attention {
            heads: self.heads,
            head_width: self.head_width,
            queries: packed(&self.q),
            past: (self.past > 0).then_some(past),
            fresh: KeysValues { keys: packed(&self.k), values: packed(&self.v) },
            seen: self.seen,
        };
        let mut y = vec![7.0; self.queries * self.width()];
        attention_on(set, &call, &mut y);
        y
    }

    /// One row a key, past first: `[keys][head_width]` of a head.
    fn rows(&self, past: &[f16], fresh: &[f32], head: usize) -> Vec<Vec<f32>> {
        let old = (0..self.past).map(|row| (head * self.past + row) * self.head_width);
        let old = old.map(|start| past[start..][..self.head_width].iter().map(|half| half.to_f32_const()).collect());
        let new = (0..self.fresh).map(|row| row * self.width() + head * self.head_width);
        old.chain(new.map(|start| fresh[start..][..self.head_width].to_vec())).collect()
    }

    fn seen_by(&self, query: usize) -> usize {
        match self.seen {
            Seen::All => self.past + self.fresh,
            Seen::First(count) => count,
            Seen::Causal => self.past + query + 1,
        }
    }

    /// The contract word for word.
    fn plainly(&self) -> Vec<f32> {
        let scale = (std::f64::consts::LOG2_E / (self.head_width as f64).sqrt()) as f32;
        let mut y = vec![0.0; self.queries * self.width()];
        for head in 0..self.heads {
            let (keys, values) = (self.rows(&self.past_k, &self.k, head), self.rows(&self.past_v, &self.v, head));
            for query in 0..self.queries {
                let start = query * self.width() + head * self.head_width;
                let seen = self.seen_by(query);
                let is_alone = self.seen == Seen::Causal || query + 1 == self.queries && query % BLOCK_ROWS == 0;
                let score = |key: &Vec<f32>| {
                    let q = self.q[start..][..self.head_width].iter().map(|q| q * scale);
                    if !is_alone {
                        return zip(q, key).fold(0.0_f32, |sum, (q, k)| q.mul_add(*k, sum));
                    }
                    let mut sums = [0.0_f32; 8];
                    for (column, (q, k)) in zip(q, key).enumerate() {
                        sums[column % 8] = q.mul_add(*k, sums[column % 8]);
                    }
                    total(sums)
                };
                let mut weights: Vec<f32> = keys[..seen].iter().map(score).collect();
                let sum = weigh(&mut weights, is_alone);
                for column in 0..self.head_width {
                    let mixed = zip(&weights, &values[..seen]);
                    let mixed = mixed.fold(0.0_f32, |sum, (weight, value)| weight.mul_add(value[column], sum));
                    y[start + column] = mixed * (1.0 / sum);
                }
            }
        }
        y
    }

    fn check(&self) {
        let expected = self.plainly();
        for set in InstructionSet::available() {
            let Self { heads, head_width, queries, past, fresh, seen, .. } = self;
            let what =
                format!("{set}: {heads} heads of {head_width}, {queries} queries, {past} + {fresh} keys, {seen:?}");
            assert_bits(&self.run(set), &expected, &what);
        }
    }
}

#[test]
fn every_number_of_keys_is_the_same_everywhere() {
    for keys in (1..=35).chain([63, 64, 65, 66, 127, 128, 129, 577]) {
        for queries in [1, 3, 8] {
            Case::new([1, 12, queries, 0, keys], Seen::All).check();
        }
    }
}

#[test]
fn every_number_of_queries_is_the_same_everywhere() {
    for queries in 1..=26 {
        Case::new([2, 16, queries, 0, 11], Seen::All).check();
        Case::new([2, 16, queries, 5, queries], Seen::Causal).check();
    }
}

#[test]
fn every_head_width_is_the_same_everywhere() {
    for head_width in (1..=40).chain([47, 48, 63, 64, 65, 80, 96, 128]) {
        for queries in [1, 2, 4, 8, 13] {
            Case::new([2, head_width, queries, 0, 21], Seen::All).check();
            Case::new([2, head_width, queries, 9, 3], Seen::All).check();
        }
    }
}

#[test]
fn past_and_fresh_keys_are_one_row_of_keys() {
    for past in (1..=20).chain([64, 65, 130]) {
        Case::new([3, 8, 5, past, 5], Seen::Causal).check();
        Case::new([3, 8, 2, past, 3], Seen::All).check();
        for count in [1, past, past + 1, past + 3] {
            Case::new([3, 8, 2, past, 3], Seen::First(count)).check();
        }
    }
}

#[test]
fn keys_that_are_not_seen_have_no_part() {
    for bad in [f32::NAN, f32::INFINITY] {
        let mut case = Case::new([2, 20, 6, 4, 6], Seen::Causal);
        let expected = case.plainly();
        let width = case.width();
        case.k[5 * width..].fill(bad);
        case.v[5 * width..].fill(bad);
        for set in InstructionSet::available() {
            assert_bits(&case.run(set)[..5 * width], &expected[..5 * width], &format!("{set}"));
        }
        let mut case = Case::new([2, 20, 6, 0, 9], Seen::First(7));
        let expected = case.plainly();
        case.k[7 * width..].fill(bad);
        case.v[7 * width..].fill(bad);
        for set in InstructionSet::available() {
            assert_bits(&case.run(set), &expected, &format!("{set}"));
        }
    }
}

#[test]
fn a_bad_query_is_nan_and_leaves_the_others_alone() {
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        for queries in [1, 3, 8, 9] {
            let good = Case::new([2, 20, queries, 0, 9], Seen::All);
            for query in [0, queries - 1] {
                let mut case = good.clone();
                let start = query * case.width() + 20;
                case.q[start + 3] = bad;
                for set in InstructionSet::available() {
                    let (mut found, mut expected) = (case.run(set), good.plainly());
                    assert!(found[start..][..20].iter().all(|y| y.is_nan()), "{set} {bad}");
                    found[start..][..20].fill(0.0);
                    expected[start..][..20].fill(0.0);
                    assert_bits(&found, &expected, &format!("{set} {bad}"));
                }
            }
        }
    }
}

#[test]
fn extremes_are_the_same_everywhere() {
    for factor in [0.0, 1e-40, 1e-20, 1e3, 1e18, 1e30] {
        let mut case = Case::new([2, 24, 9, 3, 14], Seen::All);
        case.q.iter_mut().for_each(|q| *q *= factor);
        case.check();
        case.v.iter_mut().for_each(|v| *v *= 1e37);
        case.check();
    }
    let mut case = Case::new([2, 24, 9, 3, 14], Seen::All);
    case.v[30] = f32::NAN;
    case.v[90] = f32::INFINITY;
    case.check();
}

#[test]
fn views_into_one_matrix_are_the_same_as_apart() {
    let case = Case::new([3, 8, 13, 0, 13], Seen::All);
    let width = case.width();
    for margin in 0..5 {
        let columns = 3 * width + margin;
        let mut matrix = vec![f32::NAN; 13 * columns];
        for (row, matrix) in matrix.chunks_exact_mut(columns).enumerate() {
            for (part, values) in [&case.q, &case.k, &case.v].into_iter().enumerate() {
                matrix[margin + part * width..][..width].copy_from_slice(&values[row * width..][..width]);
            }
        }
        let part = |part: usize| HeadRows::side_by_side(&matrix, columns, margin + part * width, 8);
        let fresh = KeysValues { keys: part(1), values: part(2) };
        let call = Attention { heads: 3, head_width: 8, queries: part(0), past: None, fresh, seen: Seen::All };
        for set in InstructionSet::available() {
            let mut y = vec![7.0; 13 * width + margin];
            attention_on(set, &call, &mut y[margin..]);
            assert_bits(&y[margin..], &case.plainly(), &format!("{set}"));
        }
    }
}

#[test]
fn a_cache_of_floats_with_room_to_spare_is_read_in_place() {
    let case = Case::new([3, 8, 2, 7, 2], Seen::Causal);
    let spread = |past: &[f16]| {
        let mut cache = vec![f32::NAN; 3 * 11 * 8];
        for (cache, past) in cache.chunks_exact_mut(11 * 8).zip(past.chunks_exact(7 * 8)) {
            zip(cache, past).for_each(|(cache, past)| *cache = past.to_f32_const());
        }
        cache
    };
    let (past_k, past_v) = (spread(&case.past_k), spread(&case.past_v));
    let cached = |cache| HeadRows::cached(Elements::F32(cache), 7, 11, 8);
    let packed = |matrix| HeadRows::side_by_side(matrix, 24, 0, 8);
    let call = Attention {
        heads: 3,
        head_width: 8,
        queries: packed(&case.q),
        past: Some(KeysValues { keys: cached(&past_k), values: cached(&past_v) }),
        fresh: KeysValues { keys: packed(&case.k), values: packed(&case.v) },
        seen: Seen::Causal,
    };
    for set in InstructionSet::available() {
        let mut y = vec![7.0; 2 * 24];
        attention_on(set, &call, &mut y);
        assert_bits(&y, &case.plainly(), &format!("{set}"));
    }
}

#[test]
fn threads_do_not_change_a_bit() {
    for size in [[3, 20, 150, 0, 150], [1, 33, 201, 0, 170], [13, 16, 1, 10, 6000]] {
        let case = Case::new(size, Seen::All);
        let expected = case.run(InstructionSet::fastest());
        assert!(expected.len() * (case.past + case.fresh) >= PARALLEL_PRODUCTS);
        with_threads(|| assert_bits(&case.run(InstructionSet::fastest()), &expected, &format!("{size:?}")));
    }
    let case = Case::new([4, 16, 140, 30, 140], Seen::Causal);
    with_threads(|| case.check());
}

#[test]
fn calls_inside_calls_do_not_share_memory() {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
    pool.install(|| {
        (1..=8_usize).into_par_iter().for_each(|heads| {
            let case = Case::new([heads, 16, 150, 0, 60 + heads], Seen::All);
            assert_bits(&case.run(InstructionSet::fastest()), &case.plainly(), &format!("{heads} heads"));
        });
    });
}

#[test]
fn answers_are_those_of_numpy() {
    for golden in golden()["attention"].as_array().unwrap() {
        let size = |name: &str| usize::try_from(golden[name].as_u64().unwrap()).unwrap();
        let halves = |name: &str| -> Vec<f16> {
            integers(&golden[name]).into_iter().map(|bits| f16::from_bits(u16::try_from(bits).unwrap())).collect()
        };
        let case = Case {
            heads: size("heads"),
            head_width: size("head_width"),
            queries: size("queries"),
            past: size("past"),
            fresh: size("fresh"),
            seen: match golden["kind"].as_str().unwrap() {
                "causal" => Seen::Causal,
                "first" => Seen::First(size("past") + 1),
                _ => Seen::All,
            },
            q: floats_of(&golden["q"]),
            k: floats_of(&golden["k"]),
            v: floats_of(&golden["v"]),
            past_k: halves("past_k"),
            past_v: halves("past_v"),
        };
        // Scores of up to 60 make the weights of the sharp case as inexact as their rounding.
        let part = if golden["kind"] == "sharp" { 1e-5 } else { 1e-6 };
        for set in InstructionSet::available() {
            for (found, expected) in zip(case.run(set), floats_of(&golden["y"])) {
                let tolerance = part * expected.abs().max(0.5);
                assert!((found - expected).abs() <= tolerance, "{set} {}: {found} is not {expected}", golden["kind"]);
            }
        }
    }
}

#[test]
#[should_panic(expected = "fresh: 2 heads of 3 rows are more than the elements")]
fn a_view_beyond_its_elements_is_refused() {
    let numbers = [0.0; 48];
    let queries = HeadRows::side_by_side(&numbers, 16, 0, 8);
    let beyond = HeadRows { head_stride: 9, ..queries };
    let fresh = KeysValues { keys: beyond, values: queries };
    let call = Attention { heads: 2, head_width: 8, queries, past: None, fresh, seen: Seen::All };
    attention(&call, &mut [0.0; 48]);
}

#[test]
#[should_panic(expected = "there is at least one key")]
fn no_keys_are_refused() {
    let numbers = [0.0; 8];
    let queries = HeadRows::side_by_side(&numbers, 8, 0, 8);
    let none = HeadRows { count: 0, ..queries };
    let fresh = KeysValues { keys: none, values: none };
    let call = Attention { heads: 1, head_width: 8, queries, past: None, fresh, seen: Seen::All };
    attention(&call, &mut [0.0; 8]);
}

#[test]
fn rows_in_slots_are_rows_one_after_the_other() {
    let (heads, head_width, past) = (3, 20, 70);
    let case = Case::new([heads, head_width, 2, past, 2], Seen::Causal);
    // Every second slot belongs to somebody else, and the last row lies first.
    let slots: Vec<u32> = (0..past as u32).map(|row| 2 * (past as u32 - 1 - row)).collect();
    let scattered = |by_head: &[f16]| {
        let mut cache = vec![f16::NAN; 2 * past * heads * head_width];
        for (row, &slot) in slots.iter().enumerate() {
            for head in 0..heads {
                let to = (slot as usize * heads + head) * head_width;
                cache[to..][..head_width].copy_from_slice(&by_head[(head * past + row) * head_width..][..head_width]);
            }
        }
        cache
    };
    let (keys, values) = (scattered(&case.past_k), scattered(&case.past_v));
    let floats = |halves: &[f16]| halves.iter().map(|half| half.to_f32_const()).collect::<Vec<_>>();
    let (float_keys, float_values) = (floats(&keys), floats(&values));
    let packed = |matrix| HeadRows::side_by_side(matrix, case.width(), 0, head_width);
    for set in InstructionSet::available() {
        for [keys, values] in
            [[Elements::F16(&keys), Elements::F16(&values)], [Elements::F32(&float_keys), Elements::F32(&float_values)]]
        {
            let rows = |elements| HeadRows::in_slots(elements, &slots, heads, head_width);
            let call = Attention {
                heads,
                head_width,
                queries: packed(&case.q),
                past: Some(KeysValues { keys: rows(keys), values: rows(values) }),
                fresh: KeysValues { keys: packed(&case.k), values: packed(&case.v) },
                seen: Seen::Causal,
            };
            let mut y = vec![7.0; 2 * case.width()];
            attention_on(set, &call, &mut y);
            assert_bits(&y, &case.run(set), &format!("{set}: {past} rows in slots"));
        }
    }
}

#[test]
#[should_panic(expected = "past: 1 heads of 2 rows are more than the elements")]
fn a_slot_beyond_the_cache_is_refused() {
    let numbers = [0.0; 16];
    let queries = HeadRows::side_by_side(&numbers[..8], 8, 0, 8);
    let rows = HeadRows::in_slots(Elements::F32(&numbers), &[0, 2], 1, 8);
    let call = Attention {
        heads: 1,
        head_width: 8,
        queries,
        past: Some(KeysValues { keys: rows, values: rows }),
        fresh: KeysValues { keys: queries, values: queries },
        seen: Seen::Causal,
    };
    attention(&call, &mut [0.0; 8]);
}
