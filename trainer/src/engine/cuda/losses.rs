//! Similarities' companions and the losses.

use super::driver::{Element, Grid};
use super::memory::{Buffer, Indices};
use super::{Cuda, Result};
use crate::engine::{NegativesShape, RowsShape, scalars};

/// What a hard cross-entropy reads besides the logits.
pub(super) struct Labelled<'a> {
    pub(super) labels: &'a Indices,
    pub(super) weights: &'a Buffer,
    pub(super) smoothing: f32,
}

impl Cuda {
    pub(super) fn normalized_rows(&self, x: &Buffer, shape: RowsShape) -> Result<(Buffer, Buffer)> {
        let RowsShape { rows, width } = shape;
        let (out, lengths) = (self.values(rows * width)?, self.values(rows)?);
        let kernel = match x.element() {
            Element::Bf16 => "l2_normalize_bf16",
            Element::F32 => "l2_normalize_f32",
        };
        let arguments = [x.of(rows * width).into(), out.at().into(), lengths.at().into(), rows.into(), width.into()];
        self.context.launch(kernel, Grid::warps(rows), &arguments)?;
        Ok((out, lengths))
    }

    pub(super) fn normalized_rows_gradient(
        &self,
        dy: &Buffer,
        saved: (&Buffer, &Buffer),
        shape: RowsShape,
    ) -> Result<Buffer> {
        let RowsShape { rows, width } = shape;
        let (dy, out) = (self.widened(dy)?, self.values(rows * width)?);
        let arguments = [
            dy.of(rows * width).into(),
            saved.0.of(rows * width).into(),
            saved.1.of(rows).into(),
            out.at().into(),
            rows.into(),
            width.into(),
        ];
        self.context.launch("l2_normalize_gradient", Grid::warps(rows), &arguments)?;
        Ok(out)
    }

    pub(super) fn mixed_targets(
        &self,
        opinion: &Buffer,
        values: &Buffer,
        rows: &Indices,
        columns: &Indices,
    ) -> Result<Buffer> {
        let (height, width) = (rows.length(), columns.length());
        let opinion = self.widened(opinion)?;
        let out = self.values(height * width)?;
        let arguments = [
            opinion.of(height * width).into(),
            values.of(scalars::COUNT).into(),
            rows.at().into(),
            columns.at().into(),
            out.at().into(),
            width.into(),
        ];
        self.context.launch("soft_targets", Grid::blocks(height), &arguments)?;
        Ok(out)
    }

    /// One value: the sum of `values` times `factor`.
    fn total(&self, values: &Buffer, factor: f32) -> Result<Buffer> {
        let out = self.values(1)?;
        let arguments = [values.at().into(), out.at().into(), values.length().into(), factor.into()];
        self.context.launch("sum_values", Grid { threads: 1024, ..Grid::blocks(1) }, &arguments)?;
        Ok(out)
    }

    pub(super) fn soft_loss(&self, logits: &Buffer, targets: &Buffer, shape: RowsShape) -> Result<(Buffer, Buffer)> {
        let RowsShape { rows, width } = shape;
        let (logits, targets) = (self.widened(logits)?, self.widened(targets)?);
        let (losses, saved) = (self.values(rows)?, self.values(2 * rows)?);
        let arguments = [
            logits.of(rows * width).into(),
            targets.of(rows * width).into(),
            losses.at().into(),
            saved.at().into(),
            rows.into(),
            width.into(),
        ];
        self.context.launch("soft_cross_entropy", Grid::blocks(rows), &arguments)?;
        Ok((self.total(&losses, 1.0 / rows as f32)?, saved))
    }

    pub(super) fn soft_loss_gradient(
        &self,
        logits: &Buffer,
        targets: &Buffer,
        saved: &Buffer,
        shape: RowsShape,
        scale: f32,
    ) -> Result<Buffer> {
        let RowsShape { rows, width } = shape;
        let (logits, targets) = (self.widened(logits)?, self.widened(targets)?);
        let out = self.values(rows * width)?;
        let arguments = [
            logits.of(rows * width).into(),
            targets.of(rows * width).into(),
            saved.of(2 * rows).into(),
            out.at().into(),
            rows.into(),
            width.into(),
            scale.into(),
        ];
        self.context.launch("soft_cross_entropy_gradient", Grid::each(rows * width), &arguments)?;
        Ok(out)
    }

    pub(super) fn hard_loss(
        &self,
        logits: &Buffer,
        labelled: Labelled<'_>,
        shape: RowsShape,
    ) -> Result<(Buffer, Buffer)> {
        let RowsShape { rows, width } = shape;
        let weights = self.widened(labelled.weights)?;
        let (losses, saved) = (self.values(rows)?, self.values(rows)?);
        let kernel = match logits.element() {
            Element::Bf16 => "cross_entropy_bf16",
            Element::F32 => "cross_entropy_f32",
        };
        let arguments = [
            logits.of(rows * width).into(),
            labelled.labels.of(rows).into(),
            weights.of(rows).into(),
            losses.at().into(),
            saved.at().into(),
            width.into(),
            labelled.smoothing.into(),
        ];
        self.context.launch(kernel, Grid::blocks(rows), &arguments)?;
        Ok((self.total(&losses, 1.0)?, saved))
    }

    /// In bf16 whatever the logits are: only products read it.
    pub(super) fn hard_loss_gradient(
        &self,
        logits: &Buffer,
        labelled: Labelled<'_>,
        saved: &Buffer,
        shape: RowsShape,
        scale: f32,
    ) -> Result<Buffer> {
        let RowsShape { rows, width } = shape;
        let weights = self.widened(labelled.weights)?;
        let out = self.activations(rows * width)?;
        let kernel = match logits.element() {
            Element::Bf16 => "cross_entropy_gradient_bf16",
            Element::F32 => "cross_entropy_gradient_f32",
        };
        let arguments = [
            logits.of(rows * width).into(),
            labelled.labels.of(rows).into(),
            weights.of(rows).into(),
            saved.of(rows).into(),
            out.at().into(),
            width.into(),
            labelled.smoothing.into(),
            scale.into(),
        ];
        self.context.launch(kernel, Grid::blocks(rows), &arguments)?;
        Ok(out)
    }

    pub(super) fn drawn_negatives(
        &self,
        similarity: &Buffer,
        (rows, columns): (&Indices, &Indices),
        seed: &Indices,
        shape: NegativesShape,
    ) -> Result<Indices> {
        let similarity = self.widened(similarity)?;
        assert!(columns.length() >= shape.candidates, "every candidate has a name");
        let weights = self.values(shape.rows * shape.candidates)?;
        let out = Indices::new(&self.context, shape.rows)?;
        let arguments = [
            similarity.of(shape.rows * shape.columns).into(),
            rows.of(shape.rows).into(),
            columns.at().into(),
            seed.of(2).into(),
            weights.at().into(),
            out.at().into(),
            shape.columns.into(),
            shape.candidates.into(),
            shape.first.into(),
            (shape.direction as usize).into(),
        ];
        self.context.launch("draw_negatives", Grid::blocks(shape.rows), &arguments)?;
        Ok(out)
    }
}
