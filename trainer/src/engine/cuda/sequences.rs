//! Embeddings, patches and rows.

use super::driver::{Address, Element, Grid};
use super::memory::{Buffer, Flat, Indices};
use super::{Cuda, Result};
use crate::engine::{AppendShape, PatchesShape, RowsShape, Slice, TokensShape};

impl Cuda {
    pub(super) fn embedded(
        &self,
        ids: &Indices,
        words: Slice<'_, Cuda>,
        positions: Slice<'_, Cuda>,
        shape: TokensShape,
    ) -> Result<Buffer> {
        let TokensShape { batch, tokens, width } = shape;
        assert!(positions.length >= tokens * width, "every token has a position");
        let out = self.activations(shape.length())?;
        let arguments = [
            ids.of(batch * tokens).into(),
            words.flat.part(words.start, words.length).into(),
            positions.flat.part(positions.start, positions.length).into(),
            out.at().into(),
            batch.into(),
            tokens.into(),
            width.into(),
        ];
        self.context.launch("embedding", Grid::each(out.length()), &arguments)?;
        Ok(out)
    }

    pub(super) fn embedded_gradient(
        &self,
        dy: &Buffer,
        ids: &Indices,
        into: &Flat,
        starts: [usize; 2],
        shape: TokensShape,
    ) -> Result<()> {
        let TokensShape { batch, tokens, width } = shape;
        let dy = self.narrowed(dy)?;
        let (dy_at, count) = (dy.of(shape.length()), batch * tokens);
        let words = into.part(starts[0], 0);
        let arguments = [dy_at.into(), ids.of(count).into(), words.into(), count.into(), width.into()];
        self.context.launch("embedding_words_gradient", Grid::blocks(count), &arguments)?;
        let positions = into.part(starts[1], tokens * width);
        let arguments = [dy_at.into(), positions.into(), batch.into(), tokens.into(), width.into()];
        self.context.launch("embedding_positions_gradient", Grid::blocks(tokens), &arguments)?;
        into.renew()
    }

    pub(super) fn cut_patches(&self, pixels: &Buffer, shape: PatchesShape) -> Result<Buffer> {
        let PatchesShape { batch, side, patch } = shape;
        let pixels = self.widened(pixels)?;
        let count = batch * 3 * side * side;
        let out = self.activations(count)?;
        let arguments = [pixels.of(count).into(), out.at().into(), batch.into(), side.into(), patch.into()];
        self.context.launch("patches", Grid::each(count), &arguments)?;
        Ok(out)
    }

    pub(super) fn picture_tokens(
        &self,
        patches: &Buffer,
        class: Slice<'_, Cuda>,
        positions: Slice<'_, Cuda>,
        shape: TokensShape,
    ) -> Result<Buffer> {
        let TokensShape { batch, tokens, width } = shape;
        let patches = self.narrowed(patches)?;
        let out = self.activations(shape.length())?;
        let arguments = [
            patches.of(batch * (tokens - 1) * width).into(),
            class.flat.part(class.start, width).into(),
            positions.flat.part(positions.start, tokens * width).into(),
            out.at().into(),
            batch.into(),
            tokens.into(),
            width.into(),
        ];
        self.context.launch("vision_tokens", Grid::each(out.length()), &arguments)?;
        Ok(out)
    }

    pub(super) fn picture_tokens_gradient(
        &self,
        dy: &Buffer,
        into: &Flat,
        starts: [usize; 2],
        shape: TokensShape,
    ) -> Result<Buffer> {
        let TokensShape { batch, tokens, width } = shape;
        let dy = self.narrowed(dy)?;
        let out = self.activations(batch * (tokens - 1) * width)?;
        let arguments = [
            dy.of(shape.length()).into(),
            out.at().into(),
            into.part(starts[0], width).into(),
            into.part(starts[1], tokens * width).into(),
            batch.into(),
            tokens.into(),
            width.into(),
        ];
        self.context.launch("vision_tokens_gradient", Grid::blocks(tokens), &arguments)?;
        into.renew()?;
        Ok(out)
    }

    /// Copies rows of `width` values, so many values apart, between two buffers.
    fn copy_rows(
        &self,
        from: &Buffer,
        to: &Buffer,
        rows: usize,
        [width, from_step, to_step]: [usize; 3],
    ) -> Result<()> {
        let size = from.element().bytes();
        let mut arguments = vec![from.at().into(), to.at().into(), rows.into()];
        arguments.extend([width, from_step, to_step].map(|values| (values * size).into()));
        self.context.launch("copy_rows", Grid::each(rows * width * size / 2), &arguments)
    }

    pub(super) fn first_tokens(&self, x: &Buffer, shape: TokensShape) -> Result<Buffer> {
        let TokensShape { batch, tokens, width } = shape;
        x.of(shape.length());
        let out = self.room(batch * width, x.element())?;
        self.copy_rows(x, &out, batch, [width, tokens * width, width])?;
        Ok(out)
    }

    pub(super) fn first_tokens_gradient(&self, dy: &Buffer, shape: TokensShape) -> Result<Buffer> {
        let TokensShape { batch, tokens, width } = shape;
        dy.of(batch * width);
        let out = self.room(shape.length(), dy.element())?;
        self.context.zero(out.at(), out.length() * out.element().bytes())?;
        self.copy_rows(dy, &out, batch, [width, width, tokens * width])?;
        Ok(out)
    }

    pub(super) fn gathered_rows(&self, x: &Buffer, rows: &Indices, width: usize) -> Result<Buffer> {
        let count = rows.length();
        let out = self.room(count * width, x.element())?;
        let kernel = match x.element() {
            Element::Bf16 => "gather_16_bit",
            Element::F32 => "gather_32_bit",
        };
        let arguments = [x.at().into(), rows.at().into(), out.at().into(), count.into(), width.into()];
        self.context.launch(kernel, Grid::each(count * width), &arguments)?;
        Ok(out)
    }

    /// Both buffers are of one element: the cache is made of what it grows by.
    pub(super) fn appended_tokens(
        &self,
        x: &Buffer,
        more: &Buffer,
        rows: &Indices,
        shape: AppendShape,
    ) -> Result<Buffer> {
        let AppendShape { rows: count, before, added, width } = shape;
        let values = count * (before + added) * width;
        let out = self.room(values, more.element())?;
        let kernel = match more.element() {
            Element::Bf16 => "append_16_bit",
            Element::F32 => "append_32_bit",
        };
        let from: Address = if before == 0 { more.at() } else { x.at() };
        let (before, added) = ((before * width).into(), (added * width).into());
        let arguments = [from.into(), more.at().into(), rows.at().into(), out.at().into(), count.into(), before, added];
        self.context.launch(kernel, Grid::each(values), &arguments)?;
        Ok(out)
    }

    pub(super) fn gathered_rows_gradient(&self, dy: &Buffer, rows: &Indices, shape: RowsShape) -> Result<Buffer> {
        let (count, width) = (rows.length(), shape.width);
        let out = self.room(shape.rows * width, dy.element())?;
        let kernel = match dy.element() {
            Element::Bf16 => "gather_gradient_bf16",
            Element::F32 => "gather_gradient_f32",
        };
        let at: Address = dy.of(count * width);
        let arguments = [at.into(), rows.at().into(), out.at().into(), count.into(), width.into()];
        let grid = Grid { blocks: [shape.rows, width.div_ceil(Grid::THREADS), 1], ..Grid::blocks(1) };
        self.context.launch(kernel, grid, &arguments)?;
        Ok(out)
    }
}
