//! Into sequences and out of them, on a tape.

use super::{Parameter, Tape, Var};
use crate::engine::{Device, LinearShape, PatchesShape, Result, RowsShape, TokensShape};
use crate::tape::layers::Linear;

impl<D: Device> Tape<'_, D> {
    /// Word plus position: ids `[batch, tokens]` -> `[batch, tokens, width]`.
    ///
    /// # Errors
    /// As the device.
    pub fn embedding(
        &mut self,
        ids: &D::Indices,
        [words, positions]: [Parameter; 2],
        shape: TokensShape,
    ) -> Result<Var<D>> {
        let device = self.device;
        let y = device.embedding(ids, self.slice(words), self.slice(positions), shape)?;
        let ids = ids.clone();
        Ok(self.push(y, move |backward, dy| {
            device.embedding_gradient(&dy, &ids, backward.flat, [words.start, positions.start], shape)
        }))
    }

    /// Pixels `[batch, 3, side, side]` through the patch embedding, with class token and positions:
    /// `[batch, 1 + patches, width]`.
    ///
    /// # Errors
    /// As the device.
    pub fn picture_tokens(
        &mut self,
        pixels: &D::Buffer,
        embedding: &Linear,
        [class, positions]: [Parameter; 2],
        cut: PatchesShape,
    ) -> Result<Var<D>> {
        let device = self.device;
        let grid = cut.side / cut.patch;
        let linear =
            LinearShape { rows: cut.batch * grid * grid, inputs: embedding.inputs, outputs: embedding.outputs };
        let shape = TokensShape { batch: cut.batch, tokens: 1 + grid * grid, width: embedding.outputs };
        let patches = device.patches(pixels, cut)?;
        let rows = device.linear(&patches, self.slice(embedding.weight), Some(self.slice(embedding.bias)), linear)?;
        let y = device.vision_tokens(&rows, self.slice(class), self.slice(positions), shape)?;
        let embedding = *embedding;
        Ok(self.push(y, move |backward, dy| {
            let starts = [class.start, positions.start];
            let dy = device.vision_tokens_gradient(&dy, backward.flat, starts, shape)?;
            let rows = RowsShape { rows: linear.rows, width: linear.outputs };
            device.bias_gradient(&dy, backward.parameter(embedding.bias), rows)?;
            device.linear_weight_gradient(&dy, &patches, backward.parameter(embedding.weight), linear)
        }))
    }

    /// The first token of each sequence: `[batch, tokens, width]` -> `[batch, width]`.
    ///
    /// # Errors
    /// As the device.
    pub fn first_token(&mut self, x: &Var<D>, shape: TokensShape) -> Result<Var<D>> {
        let device = self.device;
        let y = device.first_token(&x.buffer, shape)?;
        let x = x.node;
        Ok(self.push_if(x.is_some(), y, move |backward, dy| {
            let dx = device.first_token_gradient(&dy, shape)?;
            backward.give(x, dx)
        }))
    }

    /// Rows of `shape.width` values by number; `shape.rows` is how many rows there are to choose from.
    ///
    /// # Errors
    /// As the device.
    pub fn gather_rows(&mut self, x: &Var<D>, rows: &D::Indices, shape: RowsShape) -> Result<Var<D>> {
        let device = self.device;
        let y = device.gather_rows(&x.buffer, rows, shape.width)?;
        let (x, rows) = (x.node, rows.clone());
        Ok(self.push_if(x.is_some(), y, move |backward, dy| {
            let dx = device.gather_rows_gradient(&dy, &rows, shape)?;
            backward.give(x, dx)
        }))
    }

    /// All ranks' values one after the other.
    ///
    /// # Errors
    /// As the device.
    pub fn all_gather(&mut self, x: &Var<D>) -> Result<Var<D>> {
        let device = self.device;
        if device.world() == 1 {
            return Ok(x.clone());
        }
        let y = device.all_gather(&x.buffer)?;
        let x = x.node;
        Ok(self.push_if(x.is_some(), y, move |backward, dy| {
            let dx = device.reduce_scatter(&dy)?;
            backward.give(x, dx)
        }))
    }

    /// Rows of length one.
    ///
    /// # Errors
    /// As the device.
    pub fn l2_normalize(&mut self, x: &Var<D>, shape: RowsShape) -> Result<Var<D>> {
        let device = self.device;
        let (y, lengths) = device.l2_normalize(&x.buffer, shape)?;
        let (x, output) = (x.node, y.clone());
        Ok(self.push_if(x.is_some(), y, move |backward, dy| {
            let dx = device.l2_normalize_gradient(&dy, (&output, &lengths), shape)?;
            backward.give(x, dx)
        }))
    }
}
