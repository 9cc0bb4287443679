//! One query of a head by itself, as where a text is written token by token: columns stand side by side, then keys do.

use std::ops::Range;

use half::f16;

use super::super::exponential::WeighAlone;
use super::super::lanes::{Kernel, LANES, Lanes};
use super::block::Spare;
use super::{Attention, Elements, HeadRows};

/// Vectors of an answer that stay in registers while the values pass by.
const VECTORS: usize = 8;

/// Answers the query `query` of the head `head`.
pub struct Alone<'a, 'call> {
    pub call: &'a Attention<'call>,
    pub head: usize,
    pub query: usize,
    pub row: &'a mut [f32],
    pub spare: &'a mut Spare,
}

impl Kernel for Alone<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        let Self { call, head, query, row, spare } = self;
        let seen = call.seen_by(query);
        let Spare { queries, scores, .. } = spare;
        let Elements::F32(elements) = call.queries.elements else { unreachable!("checked at the start") };
        let scale = (std::f64::consts::LOG2_E / (call.head_width as f64).sqrt()) as f32;
        queries.clear();
        queries.extend(elements[call.queries.start(head, query)..][..call.head_width].iter().map(|q| q * scale));
        scores.clear();
        scores.resize(seen.next_multiple_of(LANES), f32::NEG_INFINITY);

        let parts = [call.past, Some(call.fresh)].into_iter().flatten();
        let places = parts.scan(0, |first, part| {
            let start = *first;
            *first = seen.min(start + part.keys.count);
            Some((part, start..*first))
        });
        for (part, place) in places.clone() {
            match part.keys.elements {
                Elements::F32(keys) => score(lanes, queries, (keys, part.keys, head), &mut scores[place]),
                Elements::F16(keys) => score(lanes, queries, (keys, part.keys, head), &mut scores[place]),
            }
        }
        let sum = WeighAlone(scores).run(lanes);
        row.fill(0.0);
        for (part, place) in places {
            match part.values.elements {
                Elements::F32(values) => mix(lanes, &scores[place], (values, part.values, head), row),
                Elements::F16(values) => mix(lanes, &scores[place], (values, part.values, head), row),
            }
        }
        let factor = 1.0 / sum;
        row.iter_mut().for_each(|y| *y *= factor);
    }
}

/// A number of a key or a value.
trait Element: Copy {
    const ZERO: Self;

    fn load<L: Lanes>(lanes: L, from: &[Self; LANES]) -> L::Vector;
}

impl Element for f32 {
    const ZERO: Self = 0.0;

    #[inline(always)]
    fn load<L: Lanes>(lanes: L, from: &[Self; LANES]) -> L::Vector {
        lanes.load(from)
    }
}

impl Element for f16 {
    const ZERO: Self = f16::ZERO;

    #[inline(always)]
    fn load<L: Lanes>(lanes: L, from: &[Self; LANES]) -> L::Vector {
        lanes.load_half(from)
    }
}

/// Rows of one head.
type Rows<'a, E> = (&'a [E], HeadRows<'a>, usize);

#[inline(always)]
fn row_of<'a, E>((elements, rows, head): Rows<'a, E>, row: usize, columns: Range<usize>) -> &'a [E] {
    &elements[rows.start(head, row)..][columns]
}

#[inline(always)]
fn score<E: Element, L: Lanes>(lanes: L, query: &[f32], keys: Rows<'_, E>, scores: &mut [f32]) {
    let (eights, rest) = scores.as_chunks_mut::<LANES>();
    for (at, scores) in eights.iter_mut().enumerate() {
        *scores = score_eight(lanes, query, std::array::from_fn(|key| row_of(keys, at * LANES + key, 0..query.len())));
    }
    if !rest.is_empty() {
        let (first, last) = (eights.len() * LANES, rest.len() - 1);
        let row = |key: usize| row_of(keys, first + key.min(last), 0..query.len());
        rest.copy_from_slice(&score_eight(lanes, query, std::array::from_fn(row))[..=last]);
    }
}

/// Scores of eight keys, each from eight partial sums.
#[inline(always)]
fn score_eight<E: Element, L: Lanes>(lanes: L, query: &[f32], keys: [&[E]; LANES]) -> [f32; LANES] {
    let [a, b, c, d, e, f, g, h] = keys;
    let [a, b, c, d] = partial_sums(lanes, query, [a, b, c, d]);
    let [e, f, g, h] = partial_sums(lanes, query, [e, f, g, h]);
    let mut scores = [0.0; LANES];
    lanes.store(lanes.totals([a, b, c, d, e, f, g, h]), &mut scores);
    scores
}

/// Few enough keys that pointers and sums stay in registers.
#[inline(always)]
fn partial_sums<E: Element, L: Lanes>(lanes: L, query: &[f32], keys: [&[E]; 4]) -> [L::Vector; 4] {
    let (query, query_rest) = query.as_chunks::<LANES>();
    let [a, b, c, d] = keys.map(|key| key.as_chunks::<LANES>().0);
    let mut sums = [lanes.splat(0.0); 4];
    for ((((query, a), b), c), d) in query.iter().zip(a).zip(b).zip(c).zip(d) {
        let query = lanes.load(query);
        for (sum, key) in sums.iter_mut().zip([a, b, c, d]) {
            *sum = lanes.mul_add(query, E::load(lanes, key), *sum);
        }
    }
    if !query_rest.is_empty() {
        let query = lanes.load(&filled(query_rest, 0.0));
        for (sum, key) in sums.iter_mut().zip(keys) {
            let key = filled(key.as_chunks::<LANES>().1, E::ZERO);
            *sum = lanes.mul_add(query, E::load(lanes, &key), *sum);
        }
    }
    sums
}

fn filled<E: Copy>(from: &[E], with: E) -> [E; LANES] {
    let mut vector = [with; LANES];
    vector[..from.len()].copy_from_slice(from);
    vector
}

/// Adds each value times its weight to `mixed`.
#[inline(always)]
fn mix<E: Element, L: Lanes>(lanes: L, weights: &[f32], values: Rows<'_, E>, mixed: &mut [f32]) {
    let mut column = 0;
    while column + VECTORS * LANES <= mixed.len() {
        mix_columns::<E, L, VECTORS>(lanes, weights, values, column, mixed);
        column += VECTORS * LANES;
    }
    while column + LANES <= mixed.len() {
        mix_columns::<E, L, 1>(lanes, weights, values, column, mixed);
        column += LANES;
    }
    if column < mixed.len() {
        let columns = column..mixed.len();
        let mixed = &mut mixed[column..];
        let mut sum = lanes.load(&filled(mixed, 0.0));
        for (row, weight) in weights.iter().enumerate() {
            let value = filled(row_of(values, row, columns.clone()), E::ZERO);
            sum = lanes.mul_add(lanes.splat(*weight), E::load(lanes, &value), sum);
        }
        let mut found = [0.0; LANES];
        lanes.store(sum, &mut found);
        mixed.copy_from_slice(&found[..mixed.len()]);
    }
}

#[inline(always)]
fn mix_columns<E: Element, L: Lanes, const COUNT: usize>(
    lanes: L,
    weights: &[f32],
    values: Rows<'_, E>,
    column: usize,
    mixed: &mut [f32],
) {
    let mixed = &mut mixed[column..].as_chunks_mut::<LANES>().0[..COUNT];
    let mut sums: [L::Vector; COUNT] = std::array::from_fn(|vector| lanes.load(&mixed[vector]));
    for (row, weight) in weights.iter().enumerate() {
        let value = row_of(values, row, column..column + COUNT * LANES).as_chunks::<LANES>().0;
        let value: &[[E; LANES]; COUNT] = value.first_chunk().expect("as many columns as vectors have");
        let weight = lanes.splat(*weight);
        for (sum, value) in sums.iter_mut().zip(value) {
            *sum = lanes.mul_add(weight, E::load(lanes, value), *sum);
        }
    }
    for (mixed, sum) in mixed.iter_mut().zip(sums) {
        lanes.store(sum, mixed);
    }
}
