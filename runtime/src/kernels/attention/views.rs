//! Rows of several heads inside a larger matrix or a cache.

use half::f16;

/// Where the numbers lie.
#[derive(Clone, Copy, Debug)]
pub enum Elements<'a> {
    /// As they are computed with.
    F32(&'a [f32]),
    /// As caches keep them.
    F16(&'a [f16]),
}

impl Elements<'_> {
    fn len(&self) -> usize {
        match self {
            Self::F32(elements) => elements.len(),
            Self::F16(elements) => elements.len(),
        }
    }
}

/// One row a head and token: that of `head` and `row` begins at `head * head_stride + slot * row_stride`, where the slot is
/// the row's number, or what `slots` has for it.
#[derive(Clone, Copy, Debug)]
pub struct HeadRows<'a> {
    /// The elements, from the first row of the first head on.
    pub elements: Elements<'a>,
    /// Rows of a head.
    pub count: usize,
    /// Elements from a row to the next.
    pub row_stride: usize,
    /// Elements from a head to the next.
    pub head_stride: usize,
    /// Where each row lies, if not one after the other.
    pub slots: Option<&'a [u32]>,
}

impl<'a> HeadRows<'a> {
    /// Heads side by side from a column on, in a matrix `[rows, columns]`: queries in `[tokens, 3 * width]` for instance.
    ///
    /// # Panics
    /// When there are no columns, the matrix is not of whole rows, or it has no such column.
    pub fn side_by_side(matrix: &'a [f32], columns: usize, first_column: usize, head_width: usize) -> Self {
        assert!(first_column < columns, "column {first_column} of {columns}");
        assert!(matrix.len().is_multiple_of(columns), "the matrix is [rows, {columns}]");
        Self {
            elements: Elements::F32(matrix.get(first_column..).unwrap_or_default()),
            count: matrix.len() / columns,
            row_stride: columns,
            head_stride: head_width,
            slots: None,
        }
    }

    /// The first `count` rows of each head of a cache `[heads, capacity, head_width]`.
    ///
    /// # Panics
    /// When the cache has not room for as many.
    pub fn cached(elements: Elements<'a>, count: usize, capacity: usize, head_width: usize) -> Self {
        assert!(count <= capacity, "{count} rows in a cache of {capacity}");
        Self { elements, count, row_stride: head_width, head_stride: capacity * head_width, slots: None }
    }

    /// Rows of a cache `[capacity, heads * head_width]` in the order of `slots`.
    pub fn in_slots(elements: Elements<'a>, slots: &'a [u32], heads: usize, head_width: usize) -> Self {
        let (row_stride, head_stride) = (heads * head_width, head_width);
        Self { elements, count: slots.len(), row_stride, head_stride, slots: Some(slots) }
    }

    /// # Panics
    /// When a row ends beyond the elements, or there are not as many slots as rows.
    pub(super) fn check(&self, heads: usize, head_width: usize, name: &str) {
        let slots = self.slots.map_or(self.count, |slots| {
            assert_eq!(slots.len(), self.count, "{name}: a slot for each row");
            slots.iter().max().map_or(0, |&last| last as usize + 1)
        });
        let last = |count: usize, stride: usize| count.checked_sub(1)?.checked_mul(stride);
        let end = || last(heads, self.head_stride)?.checked_add(last(slots, self.row_stride)?)?.checked_add(head_width);
        let is_inside = self.count == 0 || end().is_some_and(|end| end <= self.elements.len());
        assert!(is_inside, "{name}: {heads} heads of {} rows are more than the elements", self.count);
    }

    pub(super) fn start(&self, head: usize, row: usize) -> usize {
        head * self.head_stride + self.slots.map_or(row, |slots| slots[row] as usize) * self.row_stride
    }
}

/// Keys and their values.
#[derive(Clone, Copy, Debug)]
pub struct KeysValues<'a> {
    /// What scores are computed with.
    pub keys: HeadRows<'a>,
    /// What is mixed, one for each key.
    pub values: HeadRows<'a>,
}
