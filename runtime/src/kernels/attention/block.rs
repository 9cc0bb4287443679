//! A few queries of one head: their scores, weights and sums stay in the first-level cache while keys and values pass by.

use std::cell::Cell;
use std::ops::Range;

use super::super::exponential::Weigh;
use super::super::half_rows::Widen;
use super::super::lanes::Lanes;
use super::{Attention, Elements, HeadRows, KeysValues};

/// Keys or values that pass at once: as floats, they stay in the first-level cache too.
const BLOCK_KEYS: usize = 64;

thread_local! {
    /// Taken for the length of a piece and put back, so that a call inside a call merely allocates its own.
    static SPARE: Cell<Spare> = const { Cell::new(Spare::new()) };
}

/// Memory of a thread.
#[derive(Default)]
pub struct Spare {
    pub queries: Vec<f32>,
    pub scores: Vec<f32>,
    widened: Vec<f32>,
    mixed: Vec<f32>,
    gathered: [Vec<f32>; 2],
}

impl Spare {
    const fn new() -> Self {
        let gathered = [Vec::new(), Vec::new()];
        Self { queries: Vec::new(), scores: Vec::new(), widened: Vec::new(), mixed: Vec::new(), gathered }
    }

    /// This thread's memory.
    pub fn take() -> Self {
        SPARE.take()
    }

    /// Leaves the memory to this thread's next call.
    pub fn put_back(self) {
        SPARE.set(self);
    }
}

/// Keys and values of one head, as floats one after the other.
pub struct Gathered {
    keys: Vec<f32>,
    values: Vec<f32>,
}

impl Gathered {
    /// Those that the queries of `head` see.
    pub fn new<T: Tiles>(tiles: T, call: &Attention<'_>, head: usize, spare: &mut Spare) -> Self {
        let [mut keys, mut values] = std::mem::take(&mut spare.gathered);
        keys.clear();
        values.clear();
        for part in [call.past, Some(call.fresh)].into_iter().flatten() {
            for (rows, copy) in [(part.keys, &mut keys), (part.values, &mut values)] {
                for_each_block(tiles, rows, [head, call.head_width], 0..rows.count, &mut spare.widened, |block, _| {
                    block.iter().for_each(|row| copy.extend_from_slice(row));
                });
            }
        }
        Self { keys, values }
    }

    /// `call` over them.
    pub fn call<'a>(&'a self, call: &Attention<'a>) -> Attention<'a> {
        let width = call.head_width;
        let rows = |floats: &'a [f32]| HeadRows {
            elements: Elements::F32(floats),
            count: floats.len() / width,
            row_stride: width,
            head_stride: 0,
            slots: None,
        };
        Attention { past: None, fresh: KeysValues { keys: rows(&self.keys), values: rows(&self.values) }, ..*call }
    }

    /// Leaves the memory to the next call.
    pub fn put_back(self, spare: &mut Spare) {
        spare.gathered = [self.keys, self.values];
    }
}

/// Keys or values of one head, as floats.
#[derive(Clone, Copy)]
pub struct Rows<'a> {
    values: &'a [f32],
    count: usize,
    stride: usize,
    width: usize,
}

impl<'a> Rows<'a> {
    /// # Panics
    /// When the last row ends beyond the values.
    fn new(values: &'a [f32], count: usize, stride: usize, width: usize) -> Self {
        let end = count.checked_sub(1).map_or(0, |last| last * stride + width);
        Self { values: &values[..end], count, stride, width }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Columns of a row.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Floats from a row to the next.
    #[cfg(any(target_arch = "aarch64", target_arch = "x86_64"))]
    pub fn stride(&self) -> usize {
        self.stride
    }

    /// Where the first row begins; row `r` < `count` is `width` floats from `r * stride` on.
    #[cfg(any(target_arch = "aarch64", target_arch = "x86_64"))]
    pub fn as_ptr(&self) -> *const f32 {
        self.values.as_ptr()
    }

    /// One after the other.
    pub fn iter(self) -> impl Iterator<Item = &'a [f32]> {
        (0..self.count).map(move |row| &self.values[row * self.stride..][..self.width])
    }
}

/// What an instruction set brings: the products. `ROWS` queries stand side by side, 4 or 8, or 16 where it is wide.
pub trait Tiles: Lanes {
    /// Whether it takes 16 queries at once.
    const IS_WIDE: bool = false;

    /// `scores[key][query]` = sum over columns of `queries[column][query] * keys[key][column]`, fused, in order, from 0.
    ///
    /// # Panics
    /// When there is not a query value for each column and a score for each key.
    fn scores<const ROWS: usize>(self, queries: &[[f32; ROWS]], keys: Rows<'_>, scores: &mut [[f32; ROWS]]);

    /// Adds `weights[key][query] * values[key][column]` to `mixed[query][column]`, fused, key by key.
    ///
    /// # Panics
    /// When there is not a weight for each value, or `mixed` is not `ROWS` rows.
    fn mix<const ROWS: usize>(self, weights: &[[f32; ROWS]], values: Rows<'_>, mixed: &mut [f32]);
}

/// Answers two to `ROWS` queries of a head, those from `first_query` on, which all see the same keys.
pub fn attend<T: Tiles, const ROWS: usize>(
    tiles: T,
    call: &Attention<'_>,
    [head, first_query]: [usize; 2],
    rows: &mut [&mut [f32]],
    spare: &mut Spare,
) {
    let width = call.head_width;
    let seen = call.seen_by(first_query);
    let parts = [call.past, Some(call.fresh)].into_iter().flatten();
    let places = parts.scan(0, |first, part| {
        let start = *first;
        *first = seen.min(start + part.keys.count);
        Some((part, start..*first))
    });

    let Spare { queries, scores, widened, mixed, .. } = spare;
    queries.resize(width * ROWS, 0.0);
    scores.resize(seen.next_multiple_of(2) * ROWS, 0.0);
    mixed.clear();
    mixed.resize(width * ROWS, 0.0);
    let queries = queries.as_chunks_mut::<ROWS>().0;
    let scores = scores.as_chunks_mut::<ROWS>().0;
    pack_queries(call, head, first_query, rows.len(), queries);

    for (part, place) in places.clone() {
        for_each_block(tiles, part.keys, [head, width], place, widened, |keys, place| {
            tiles.scores(queries, keys, &mut scores[place]);
        });
    }
    scores[seen..].fill([f32::NEG_INFINITY; ROWS]);
    let sums = tiles.run(Weigh(scores));
    for (part, place) in places {
        for_each_block(tiles, part.values, [head, width], place, widened, |values, place| {
            tiles.mix(&scores[place], values, mixed);
        });
    }
    for ((row, mixed), sum) in rows.iter_mut().zip(mixed.chunks_exact(width)).zip(sums) {
        let factor = 1.0 / sum;
        for (y, mixed) in row.iter_mut().zip(mixed) {
            *y = mixed * factor;
        }
    }
}

/// Scales the queries and lays them side by side, `[width, ROWS]`; the last one again where there is none.
fn pack_queries<const ROWS: usize>(
    call: &Attention<'_>,
    head: usize,
    first_query: usize,
    count: usize,
    packed: &mut [[f32; ROWS]],
) {
    let Elements::F32(elements) = call.queries.elements else { unreachable!("checked at the start") };
    let scale = (std::f64::consts::LOG2_E / (call.head_width as f64).sqrt()) as f32;
    let rows: [&[f32]; ROWS] = std::array::from_fn(|row| {
        let start = call.queries.start(head, first_query + row.min(count - 1));
        &elements[start..][..packed.len()]
    });
    for (column, packed) in packed.iter_mut().enumerate() {
        for (packed, row) in packed.iter_mut().zip(rows) {
            *packed = row[column] * scale;
        }
    }
}

/// Gives the rows that the keys in `place` come from to `run`, a block at a time, as floats.
fn for_each_block<T: Tiles>(
    tiles: T,
    rows: HeadRows<'_>,
    [head, width]: [usize; 2],
    place: Range<usize>,
    widened: &mut Vec<f32>,
    mut run: impl FnMut(Rows<'_>, Range<usize>),
) {
    for first in place.clone().step_by(BLOCK_KEYS) {
        let count = BLOCK_KEYS.min(place.end - first);
        let first_row = first - place.start;
        let start = rows.start(head, first_row);
        let block = match (rows.elements, rows.slots) {
            (Elements::F32(elements), None) => Rows::new(&elements[start..], count, rows.row_stride, width),
            (Elements::F16(elements), None) if rows.row_stride == width => {
                widened.resize(BLOCK_KEYS * width, 0.0);
                let from = &elements[start..][..count * width];
                tiles.run(Widen { from, to: &mut widened[..count * width] });
                Rows::new(widened, count, width, width)
            }
            (elements, _) => {
                widened.resize(BLOCK_KEYS * width, 0.0);
                for (row, to) in (first_row..first_row + count).zip(widened.chunks_exact_mut(width)) {
                    let start = rows.start(head, row);
                    match elements {
                        Elements::F32(elements) => to.copy_from_slice(&elements[start..][..width]),
                        Elements::F16(elements) => tiles.run(Widen { from: &elements[start..][..width], to }),
                    }
                }
                Rows::new(widened, count, width, width)
            }
        };
        run(block, first..first + count);
    }
}
