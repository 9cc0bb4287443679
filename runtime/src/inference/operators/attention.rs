//! Attention over tensors of tract: which parts of them are queries, keys and values.

use blip::manifest::Element;
use half::f16;
use tract_onnx::tract_hir::internal::*;

use super::super::cache::Slots;
use super::Kind;
use crate::kernels::attention::{Attention, Elements, HeadRows, KeysValues, Seen, attention};
use crate::kernels::half_rows::narrow;

/// Heads of an attention that stand side by side in a row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in super::super) struct Heads {
    pub(in super::super) count: usize,
    /// What the graph multiplies scores by, where it has any; the kernel's own is the only one there is.
    pub(in super::super) scale: Option<f32>,
}

/// Sizes of one call.
struct Sizes {
    batch: usize,
    length: usize,
    /// Columns of a row, all its parts together.
    columns: usize,
    /// Columns of one part.
    width: usize,
    head_width: usize,
}

impl Heads {
    /// Rows of `parts` parts `[batch, length, parts x width]` -> `[batch, length, width]`.
    pub(super) fn mixed(self, rows: &TVec<TDim>, parts: usize) -> TractResult<TVec<TDim>> {
        let [batch, length, columns] = rows.as_slice() else { bail!("rows are {rows:?}, not [batch, length, width]") };
        let width = self.width(columns.to_usize()?, parts)?;
        Ok(tvec!(batch.clone(), length.clone(), width.to_dim()))
    }

    /// Rows of `parts` parts -> each part by head, `[batch, heads, length, head width]`.
    pub(super) fn apart(self, rows: &TVec<TDim>, parts: usize, cache: Element) -> TractResult<TVec<Kind>> {
        let mixed = self.mixed(rows, parts)?;
        let head_width = mixed[2].to_usize()? / self.count;
        let shape: TVec<TDim> = tvec!(mixed[0].clone(), self.count.to_dim(), mixed[1].clone(), head_width.to_dim());
        Ok((0..parts).map(|_| (datum_type(cache), shape.clone())).collect())
    }

    /// Queries, and the keys and values of another part.
    pub(super) fn check_memory(self, shapes: &[TVec<TDim>]) -> TractResult<()> {
        let mixed = self.mixed(&shapes[0], 1)?;
        let head_width = (mixed[2].to_usize()? / self.count).to_dim();
        self.check_rows(&shapes[1], &1.to_dim(), &head_width)?;
        ensure!(shapes[1] == shapes[2], "the memory has {:?} keys and {:?} values", shapes[1], shapes[2]);
        Ok(())
    }

    fn check_rows(self, rows: &TVec<TDim>, batch: &TDim, head_width: &TDim) -> TractResult<()> {
        let fits = rows.len() == 4 && rows[0] == *batch && rows[1] == self.count.to_dim() && rows[3] == *head_width;
        ensure!(fits, "keys are {rows:?}, where [{batch}, {}, length, {head_width}] belongs", self.count);
        Ok(())
    }

    fn width(self, columns: usize, parts: usize) -> TractResult<usize> {
        let whole = self.count > 0 && columns > 0 && columns.is_multiple_of(parts * self.count);
        ensure!(whole, "{columns} columns are not {parts} parts of {} heads", self.count);
        let scale = 1.0 / ((columns / parts / self.count) as f32).sqrt();
        ensure!(self.scale.is_none_or(|theirs| theirs == scale), "scores are scaled by {:?}, not {scale}", self.scale);
        Ok(columns / parts)
    }

    fn sizes(self, rows: &[usize], parts: usize) -> TractResult<Sizes> {
        let &[batch, length, columns] = rows else { bail!("rows are {rows:?}") };
        let width = self.width(columns, parts)?;
        Ok(Sizes { batch, length, columns, width, head_width: width / self.count })
    }

    fn attention<'a>(self, sizes: &Sizes, queries: HeadRows<'a>, fresh: KeysValues<'a>) -> Attention<'a> {
        let (heads, head_width) = (self.count, sizes.head_width);
        Attention { heads, head_width, queries, past: None, fresh, seen: Seen::All }
    }

    /// Every token of a text or picture sees all of it.
    pub(super) fn attend(self, qkv: &Tensor, y: &mut Tensor) -> TractResult<()> {
        let sizes = self.sizes(qkv.shape(), 3)?;
        let (qkv, mut y) = (qkv.try_as_plain_ram()?, y.try_as_plain_ram_mut()?);
        for (qkv, y) in sizes.texts(qkv.as_slice()?, sizes.columns).zip(sizes.texts_mut(y.as_slice_mut()?)) {
            let [queries, fresh] = [sizes.part(qkv, 0), sizes.part(qkv, 1)];
            let fresh = KeysValues { keys: fresh, values: sizes.part(qkv, 2) };
            attention(&self.attention(&sizes, queries, fresh), y);
        }
        Ok(())
    }

    /// Every token sees what its text's cache holds, the tokens before it and itself; the cache then holds them too.
    pub(super) fn attend_cached(
        self,
        cache: &mut Slots,
        layer: usize,
        qkv: &Tensor,
        y: &mut Tensor,
    ) -> TractResult<()> {
        let sizes = self.sizes(qkv.shape(), 3)?;
        let texts = [sizes.batch, sizes.length];
        ensure!(cache.has_room(layer, texts, [self.count, sizes.head_width]), "the cache is not that of the call");
        let (qkv, mut y) = (qkv.try_as_plain_ram()?, y.try_as_plain_ram_mut()?);
        let rows = sizes.texts(qkv.as_slice()?, sizes.columns).zip(sizes.texts_mut(y.as_slice_mut()?));
        for (text, (qkv, y)) in rows.enumerate() {
            let fresh = KeysValues { keys: sizes.part(qkv, 1), values: sizes.part(qkv, 2) };
            let call = self.attention(&sizes, sizes.part(qkv, 0), fresh);
            attention(&Attention { past: cache.past(layer, text), seen: Seen::Causal, ..call }, y);
            for (token, row) in qkv.chunks_exact(sizes.columns).enumerate() {
                let part = |number: usize| &row[number * sizes.width..][..sizes.width];
                cache.keep(layer, [text, token], [part(1), part(2)]);
            }
        }
        Ok(())
    }

    /// Every token of every text sees the same memory.
    pub(super) fn attend_memory(self, inputs: &[TValue], y: &mut Tensor) -> TractResult<()> {
        let sizes = self.sizes(inputs[0].shape(), 1)?;
        let memory = inputs[1].shape()[2];
        let rows = |elements| HeadRows::cached(elements, memory, memory, sizes.head_width);
        let memory = KeysValues { keys: rows(elements(&inputs[1])?), values: rows(elements(&inputs[2])?) };
        let (queries, mut y) = (inputs[0].try_as_plain_ram()?, y.try_as_plain_ram_mut()?);
        let y = y.as_slice_mut::<f32>()?;
        if y.is_empty() {
            return Ok(());
        }
        ensure!(memory.keys.count > 0, "the memory has no rows");
        let queries = sizes.part(queries.as_slice()?, 0);
        attention(&self.attention(&sizes, queries, memory), y);
        Ok(())
    }

    /// Each part of the rows by head.
    pub(super) fn take_apart(self, rows: &Tensor, outputs: &mut [Tensor]) -> TractResult<()> {
        let sizes = self.sizes(rows.shape(), outputs.len())?;
        let rows = rows.try_as_plain_ram()?;
        for (number, output) in outputs.iter_mut().enumerate() {
            self.write_by_head(&sizes, rows.as_slice()?, number, output)?;
        }
        Ok(())
    }

    /// One part of `[batch, length, columns]` as `[batch, heads, length, head width]`.
    fn write_by_head(self, sizes: &Sizes, rows: &[f32], number: usize, output: &mut Tensor) -> TractResult<()> {
        let element = output.datum_type();
        let mut output = output.try_as_plain_ram_mut()?;
        let width = sizes.head_width;
        let places = (0..sizes.batch).flat_map(|text| {
            (0..self.count).flat_map(move |head| (0..sizes.length).map(move |token| (text, head, token)))
        });
        let from = places.map(|(text, head, token)| {
            &rows[(text * sizes.length + token) * sizes.columns + number * sizes.width + head * width..][..width]
        });
        if element == f16::datum_type() {
            output.as_slice_mut::<f16>()?.chunks_exact_mut(width).zip(from).for_each(|(to, from)| narrow(from, to));
        } else {
            output.as_slice_mut::<f32>()?.chunks_exact_mut(width).zip(from).for_each(|(to, from)| {
                to.copy_from_slice(from);
            });
        }
        Ok(())
    }
}

impl Sizes {
    /// The texts of a batch, one after the other; none where there are no tokens.
    fn texts<'a>(&self, rows: &'a [f32], columns: usize) -> std::slice::ChunksExact<'a, f32> {
        rows.chunks_exact((self.length * columns).max(1))
    }

    fn texts_mut<'a>(&self, rows: &'a mut [f32]) -> std::slice::ChunksExactMut<'a, f32> {
        rows.chunks_exact_mut((self.length * self.width).max(1))
    }

    /// Part `number` of each row.
    fn part<'a>(&self, rows: &'a [f32], number: usize) -> HeadRows<'a> {
        HeadRows::side_by_side(rows, self.columns, number * self.width, self.head_width)
    }
}

fn elements(tensor: &Tensor) -> TractResult<Elements<'_>> {
    let view = tensor.try_as_plain_ram()?;
    Ok(match tensor.datum_type() {
        DatumType::F16 => Elements::F16(view.as_slice()?),
        _ => Elements::F32(view.as_slice()?),
    })
}

fn datum_type(element: Element) -> DatumType {
    match element {
        Element::F32 => f32::datum_type(),
        Element::F16 => f16::datum_type(),
        Element::I64 => i64::datum_type(),
    }
}
