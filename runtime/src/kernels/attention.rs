//! Softmax attention of several heads, read where queries, keys and values lie.
//!
//! ```text
//! q       = query * f32(log2(e) / sqrt(head width))
//! score   = q . key                                   fused, from the first column to the last
//! weights = 2^(score - largest score)                 as in `exponential`
//! y       = (sum of weight * value) * (1 / sum of weights)      fused, from the first key to the last
//! ```
//!
//! Queries come in blocks of eight. One that is alone in its block, as every one of a text is that sees what stands before
//! it, has each score from eight partial sums, of every eighth column in order, which `lanes::total` adds.
//!
//! A query with a NaN or an infinity in it, or among the scores, is NaN in all columns of its head, and leaves the others
//! alone; a key or value that no query sees has no part in the answer.

mod alone;
mod block;
mod scalar;
mod views;
#[cfg(target_arch = "aarch64")]
mod neon;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;

use rayon::prelude::*;

use self::alone::Alone;
use self::block::{Gathered, Spare, Tiles, attend};
pub use self::views::{Elements, HeadRows, KeysValues};
use super::lanes::InstructionSet;

/// Products that are worth waking other threads for.
const PARALLEL_PRODUCTS: usize = 1 << 20;

/// Pieces for each thread, so that a slow one does not keep the others waiting for long.
const PIECES_PER_THREAD: usize = 4;

/// Queries that a kernel takes at once.
const BLOCK_ROWS: usize = 8;

/// Queries, and what they look at.
#[derive(Clone, Copy, Debug)]
pub struct Attention<'a> {
    /// Heads, side by side in the answer.
    pub heads: usize,
    /// Columns of a head.
    pub head_width: usize,
    /// Queries, as f32.
    pub queries: HeadRows<'a>,
    /// Keys and values of calls before, which come first.
    pub past: Option<KeysValues<'a>>,
    /// Keys and values of this call.
    pub fresh: KeysValues<'a>,
    /// Which of them a query sees.
    pub seen: Seen,
}

/// Which keys a query sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// All.
    All,
    /// This many of the first ones.
    First(usize),
    /// Those of the past, and as many fresh ones as the query's place in this call: one for the first query.
    Causal,
}

impl Attention<'_> {
    fn keys(&self) -> usize {
        self.past_keys() + self.fresh.keys.count
    }

    fn past_keys(&self) -> usize {
        self.past.map_or(0, |past| past.keys.count)
    }

    /// How many keys the query sees.
    fn seen_by(&self, query: usize) -> usize {
        match self.seen {
            Seen::All => self.keys(),
            Seen::First(count) => count,
            Seen::Causal => self.past_keys() + query + 1,
        }
    }

    fn check(&self, y: &[f32]) {
        let columns = self.heads * self.head_width;
        assert!(columns > 0, "there is at least one head and one column");
        assert!(matches!(self.queries.elements, Elements::F32(_)), "queries are f32");
        self.queries.check(self.heads, self.head_width, "queries");
        for (part, name) in [(self.past, "past"), (Some(self.fresh), "fresh")] {
            let Some(part) = part else { continue };
            assert_eq!(part.keys.count, part.values.count, "{name}: a value for each key");
            part.keys.check(self.heads, self.head_width, name);
            part.values.check(self.heads, self.head_width, name);
        }
        assert_eq!(Some(y.len()), self.queries.count.checked_mul(columns), "y is [{}, {columns}]", self.queries.count);
        match self.seen {
            Seen::All => assert!(self.keys() > 0, "there is at least one key"),
            Seen::First(count) => assert!((1..=self.keys()).contains(&count), "{count} of {} keys", self.keys()),
            Seen::Causal => assert_eq!(self.queries.count, self.fresh.keys.count, "a fresh key for each query"),
        }
    }
}

/// Writes the answer, `[queries, heads * head_width]`.
///
/// Uses rayon's current pool where there is much to do.
///
/// # Panics
/// When a view reaches beyond its elements, keys and values differ in number, queries are not f32, `y` has another size,
/// a query sees no key or more than there are, or a causal call has not one fresh key a query.
pub fn attention(call: &Attention<'_>, y: &mut [f32]) {
    attention_on(InstructionSet::fastest(), call, y);
}

/// [`attention`] on an instruction set.
///
/// # Panics
/// As [`attention`].
pub fn attention_on(set: InstructionSet, call: &Attention<'_>, y: &mut [f32]) {
    call.check(y);
    match set {
        InstructionSet::Scalar(scalar) => run(scalar, call, y),
        #[cfg(target_arch = "aarch64")]
        InstructionSet::Neon(neon) => run(neon, call, y),
        #[cfg(target_arch = "x86_64")]
        InstructionSet::Avx2(avx2) => run(avx2, call, y),
        #[cfg(target_arch = "x86_64")]
        InstructionSet::Avx512(avx512) => run(avx512, call, y),
    }
}

/// A piece of the answer: one head of some queries.
struct Piece<'y> {
    head: usize,
    first_query: usize,
    rows: Vec<&'y mut [f32]>,
}

fn run<T: Tiles>(tiles: T, call: &Attention<'_>, y: &mut [f32]) {
    let products = y.len().saturating_mul(call.keys());
    let threads = if products >= PARALLEL_PRODUCTS { rayon::current_num_threads() } else { 1 };
    let pieces = split(call, y, threads);
    if threads > 1 {
        pieces.into_par_iter().for_each(|piece| attend_piece(tiles, call, piece));
    } else {
        pieces.into_iter().for_each(|piece| attend_piece(tiles, call, piece));
    }
}

/// Splits by head first, since the queries of a head share what the caches hold.
fn split<'y>(call: &Attention<'_>, y: &'y mut [f32], threads: usize) -> Vec<Piece<'y>> {
    let wanted = if threads > 1 { (threads * PIECES_PER_THREAD).div_ceil(call.heads) } else { 1 };
    let piece_rows = call.queries.count.div_ceil(wanted).next_multiple_of(BLOCK_ROWS).max(BLOCK_ROWS);
    let spans = y.chunks_mut(piece_rows * call.heads * call.head_width);
    let mut pieces = Vec::with_capacity(spans.len() * call.heads);
    for (span, y) in spans.enumerate() {
        let first_query = span * piece_rows;
        let new = |head| Piece { head, first_query, rows: Vec::with_capacity(piece_rows) };
        let first = pieces.len();
        pieces.extend((0..call.heads).map(new));
        for (at, part) in y.chunks_exact_mut(call.head_width).enumerate() {
            pieces[first + at % call.heads].rows.push(part);
        }
    }
    pieces.sort_by_key(|piece| piece.head);
    pieces
}

fn attend_piece<T: Tiles>(tiles: T, call: &Attention<'_>, piece: Piece<'_>) {
    let mut spare = Spare::take();
    if piece.rows.len() > BLOCK_ROWS && call.seen != Seen::Causal {
        // Rows of a head are far apart, each on a page of its own: blocks that all read them share a copy.
        let gathered = Gathered::new(tiles, call, piece.head, &mut spare);
        attend_rows(tiles, &gathered.call(call), piece, &mut spare);
        gathered.put_back(&mut spare);
    } else {
        attend_rows(tiles, call, piece, &mut spare);
    }
    spare.put_back();
}

fn attend_rows<T: Tiles>(tiles: T, call: &Attention<'_>, mut piece: Piece<'_>, spare: &mut Spare) {
    // Queries that see different keys do not share a block.
    let block_rows = if call.seen == Seen::Causal { 1 } else { BLOCK_ROWS };
    let mut first_query = piece.first_query;
    let mut rows_left = piece.rows.as_mut_slice();
    // Two blocks at once, where they are whole: no answer depends on it.
    while T::IS_WIDE && call.seen != Seen::Causal && rows_left.len() >= 2 * BLOCK_ROWS {
        let (rows, left) = std::mem::take(&mut rows_left).split_at_mut(2 * BLOCK_ROWS);
        attend::<T, { 2 * BLOCK_ROWS }>(tiles, call, [piece.head, first_query], rows, spare);
        (first_query, rows_left) = (first_query + rows.len(), left);
    }
    for rows in rows_left.chunks_mut(block_rows) {
        if let [row] = rows {
            tiles.run(Alone { call, head: piece.head, query: first_query, row, spare });
        } else if rows.len() > BLOCK_ROWS / 2 {
            attend::<T, BLOCK_ROWS>(tiles, call, [piece.head, first_query], rows, spare);
        } else {
            attend::<T, { BLOCK_ROWS / 2 }>(tiles, call, [piece.head, first_query], rows, spare);
        }
        first_query += rows.len();
    }
}

#[cfg(test)]
mod tests;
