//! Matrix products: the one place that calls the `gemm` crate.

use super::real::Real;

/// Values as rows and columns.
#[derive(Clone, Copy)]
pub struct Matrix<'a, F> {
    values: &'a [F],
    rows: usize,
    columns: usize,
    row_step: usize,
    column_step: usize,
}

impl<'a, F> Matrix<'a, F> {
    /// Rows of `columns` values, the first values of `row_step` ones.
    pub fn new(values: &'a [F], [rows, columns]: [usize; 2], row_step: usize) -> Self {
        Self { values, rows, columns, row_step, column_step: 1 }
    }

    /// Rows for columns.
    pub fn transposed(self) -> Self {
        Self { rows: self.columns, columns: self.rows, row_step: self.column_step, column_step: self.row_step, ..self }
    }

    fn fits(&self) -> bool {
        fits(self.values.len(), [self.rows, self.columns], [self.row_step, self.column_step])
    }
}

/// What becomes of the values that are there.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Before {
    /// They are forgotten.
    Overwritten,
    /// The product is added to them.
    Added,
}

/// Writes `factor * a b` into rows of `out`, which are `row_step` apart. Runs on the thread that calls it.
///
/// # Panics
/// Where sizes do not match.
pub fn product<F: Real>(
    (out, row_step): (&mut [F], usize),
    a: Matrix<'_, F>,
    b: Matrix<'_, F>,
    factor: F,
    before: Before,
) {
    assert!(a.columns == b.rows, "columns of the left are rows of the right");
    assert!(a.fits() && b.fits(), "factors lie within their values");
    assert!(
        b.columns <= row_step && fits(out.len(), [a.rows, b.columns], [row_step, 1]),
        "the product lies within its values and its rows do not overlap"
    );
    let step = |step: usize| isize::try_from(step).expect("a slice is at most isize::MAX long");
    // SAFETY: the assertions above say that every address that the steps reach lies within the three slices; `out` is
    // borrowed for this call alone.
    unsafe {
        gemm::gemm(
            a.rows,
            b.columns,
            a.columns,
            out.as_mut_ptr(),
            1,
            step(row_step),
            before == Before::Added,
            a.values.as_ptr(),
            step(a.column_step),
            step(a.row_step),
            b.values.as_ptr(),
            step(b.column_step),
            step(b.row_step),
            F::ONE,
            factor,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}

/// Whether the last of `sizes`, `steps` apart, lies within `length` values.
fn fits(length: usize, sizes: [usize; 2], steps: [usize; 2]) -> bool {
    if sizes.contains(&0) {
        return true;
    }
    let last = |axis: usize| (sizes[axis] - 1).checked_mul(steps[axis]);
    last(0).zip(last(1)).and_then(|(row, column)| row.checked_add(column)).is_some_and(|last| last < length)
}
