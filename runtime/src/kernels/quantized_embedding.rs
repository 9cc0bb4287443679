//! Rows of an 8-bit table: `f32(table[id]) * scales[id]`, the answer of Gather, Cast and Mul in ONNX, to the last bit.

use super::lanes::{InstructionSet, Kernel, Lanes};

/// An id that names no row of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("id {id} at position {position} is not in the table, which has ids 0 to {last}")]
pub struct IdOutOfRange {
    /// The id.
    pub id: i64,
    /// Where it stands among the ids.
    pub position: usize,
    /// The largest id that the table has.
    pub last: usize,
}

/// Looks `ids` up in `table`, `[scales.len(), width]`, and writes `[ids.len(), width]`.
///
/// # Errors
/// When an id is negative or beyond the table; `out` then holds the rows before it.
///
/// # Panics
/// When the table is empty or a length does not fit `width`.
pub fn gather_rows(
    table: &[i8],
    scales: &[f32],
    width: usize,
    ids: &[i64],
    out: &mut [f32],
) -> Result<(), IdOutOfRange> {
    gather_rows_on(InstructionSet::fastest(), Table { table, scales, width }, ids, out)
}

/// An 8-bit table, `[scales.len(), width]`.
#[derive(Clone, Copy)]
struct Table<'a> {
    table: &'a [i8],
    scales: &'a [f32],
    width: usize,
}

fn gather_rows_on(
    set: InstructionSet,
    Table { table, scales, width }: Table<'_>,
    ids: &[i64],
    out: &mut [f32],
) -> Result<(), IdOutOfRange> {
    assert!(width > 0 && !scales.is_empty(), "a table has at least one row and one column");
    assert_eq!(Some(table.len()), scales.len().checked_mul(width), "the table is [{}, {width}]", scales.len());
    assert_eq!(Some(out.len()), ids.len().checked_mul(width), "out is [{}, {width}]", ids.len());
    for (position, (out, &id)) in out.chunks_exact_mut(width).zip(ids).enumerate() {
        let row = usize::try_from(id).ok().filter(|&row| row < scales.len());
        let row = row.ok_or(IdOutOfRange { id, position, last: scales.len() - 1 })?;
        set.run(Scale { row: &table[row * width..][..width], scale: scales[row], out });
    }
    Ok(())
}

struct Scale<'a> {
    row: &'a [i8],
    scale: f32,
    out: &'a mut [f32],
}

impl Kernel for Scale<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        let scale = lanes.splat(self.scale);
        let (vectors, rest) = self.row.as_chunks();
        let (answers, answers_rest) = self.out.as_chunks_mut();
        for (from, to) in vectors.iter().zip(answers) {
            lanes.store(lanes.mul(lanes.load_bytes(from), scale), to);
        }
        for (&from, to) in rest.iter().zip(answers_rest) {
            *to = f32::from(from) * self.scale;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: [i8; 9] = [1, -2, 3, 127, -127, -128, 0, 5, 7];
    const SCALES: [f32; 3] = [0.5, 0.1, 1e-3];

    #[test]
    fn rows_are_scaled_in_the_order_of_the_ids() {
        let mut out = [0.0; 9];
        gather_rows(&TABLE, &SCALES, 3, &[1, 0, 1], &mut out).unwrap();
        let scaled = [127.0 * 0.1, -127.0 * 0.1, -128.0 * 0.1];
        assert_eq!(out[..3], scaled);
        assert_eq!(out[3..6], [0.5, -1.0, 1.5]);
        assert_eq!(out[6..], scaled);
    }

    #[test]
    fn every_width_and_start_is_the_same_everywhere() {
        let table: Vec<i8> = (0..3 * 70).map(|at| (at * 37 % 256) as u8 as i8).collect();
        let ids = [2, 0, 1, 2];
        for set in InstructionSet::available() {
            for width in 1..=70 {
                let mut out = vec![7.0; 4 * width + 1];
                let table = Table { table: &table[..3 * width], scales: &SCALES, width };
                gather_rows_on(set, table, &ids, &mut out[1..]).unwrap();
                let expected = |at: usize| {
                    let row = ids[at / width] as usize;
                    f32::from(table.table[row * width + at % width]) * SCALES[row]
                };
                assert!(out[1..].iter().enumerate().all(|(at, y)| *y == expected(at)), "{set}: rows of {width}");
            }
        }
    }

    #[test]
    fn an_id_outside_the_table_is_named() {
        for id in [-1, 3, i64::MIN, i64::MAX] {
            let found = gather_rows(&TABLE, &SCALES, 3, &[2, id], &mut [0.0; 6]);
            assert_eq!(found, Err(IdOutOfRange { id, position: 1, last: 2 }));
        }
    }

    #[test]
    fn no_ids_are_no_rows() {
        assert_eq!(gather_rows(&TABLE, &SCALES, 3, &[], &mut []), Ok(()));
    }
}
