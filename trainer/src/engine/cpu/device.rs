//! The contract: shapes to slices.

use std::sync::Arc;

use super::attention::{self, Inputs, Mask, Outputs, Saved};
use super::losses::{self, Labels};
use super::real::Real;
use super::vectors::{self, Step};
use super::{Cpu, CpuBuffer as Buffer, CpuFlat as Flat, linear, normalize, seed_of, sequences, sum_over};
use crate::engine::{
    AdamW, AdamWState, AppendShape, AttentionShape, Device, Dropout, GradientSlice, Heads, HeadsGradient, LinearShape,
    NegativesShape, PatchesShape, Result, RowsShape, Slice, TokensShape, scalars,
};

/// Whole numbers.
type Numbers = Arc<Vec<u32>>;

impl<F: Real> Device for Cpu<F> {
    type Buffer = Buffer<F>;
    type Indices = Numbers;
    type Flat = Flat<F>;

    fn name(&self) -> String {
        format!("cpu, threads: {}", self.threads())
    }

    fn upload(&self, values: &[f32]) -> Result<Buffer<F>> {
        Ok(self.filled(values.len(), |out| {
            out.iter_mut().zip(values).for_each(|(out, value)| *out = F::from_f32(*value));
        }))
    }

    fn rewrite(&self, buffer: &mut Buffer<F>, values: &[f32]) -> Result<()> {
        assert!(buffer.len() == values.len(), "a buffer keeps its length");
        *buffer = self.upload(values)?;
        Ok(())
    }

    fn download(&self, buffer: &Buffer<F>) -> Result<Vec<f32>> {
        Ok(buffer.iter().map(|value| value.to_f32()).collect())
    }

    fn upload_indices(&self, values: &[u32]) -> Result<Numbers> {
        Ok(Arc::new(values.to_vec()))
    }

    fn rewrite_indices(&self, indices: &mut Numbers, values: &[u32]) -> Result<()> {
        assert!(indices.len() == values.len(), "indices keep their length");
        *indices = self.upload_indices(values)?;
        Ok(())
    }

    fn download_indices(&self, indices: &Numbers) -> Result<Vec<u32>> {
        Ok(indices.to_vec())
    }

    fn flat(&self, values: &[f32]) -> Result<Flat<F>> {
        Ok(Flat(values.iter().map(|value| F::from_f32(*value)).collect()))
    }

    fn read_flat(&self, flat: &Flat<F>) -> Result<Vec<f32>> {
        Ok(flat.values().iter().map(|value| value.to_f32()).collect())
    }

    fn clear(&self, flat: &mut Flat<F>) -> Result<()> {
        flat.0.fill(F::ZERO);
        Ok(())
    }

    fn concat_indices(&self, parts: &[&Numbers]) -> Result<Numbers> {
        Ok(Arc::new(parts.iter().flat_map(|part| part.iter().copied()).collect()))
    }

    fn gather_indices(&self, values: &Numbers, rows: &Numbers, width: usize) -> Result<Numbers> {
        let mut out = vec![0; rows.len() * width];
        sequences::gather(&mut out, values, rows, width);
        Ok(Arc::new(out))
    }

    fn linear(
        &self,
        x: &Buffer<F>,
        weight: Slice<'_, Self>,
        bias: Option<Slice<'_, Self>>,
        shape: LinearShape,
    ) -> Result<Buffer<F>> {
        let inputs = (&x[..], weight.values(), bias.map(Slice::values));
        Ok(self.filled(shape.rows * shape.outputs, |out| linear::forward(&self.workers, out, inputs, shape)))
    }

    fn linear_gelu(
        &self,
        x: &Buffer<F>,
        weight: Slice<'_, Self>,
        bias: Slice<'_, Self>,
        shape: LinearShape,
    ) -> Result<(Buffer<F>, Buffer<F>)> {
        let inputs = (&x[..], weight.values(), bias.values());
        Ok(self.filled_pair([shape.rows * shape.outputs; 2], |out, before| {
            linear::forward_gelu(&self.workers, (out, before), inputs, shape);
        }))
    }

    fn linear_input_gradient(&self, dy: &Buffer<F>, weight: Slice<'_, Self>, shape: LinearShape) -> Result<Buffer<F>> {
        let inputs = (&dy[..], weight.values());
        Ok(self.filled(shape.rows * shape.inputs, |out| linear::input_gradient(&self.workers, out, inputs, shape)))
    }

    fn linear_gelu_input_gradient(
        &self,
        dy: &Buffer<F>,
        weight: Slice<'_, Self>,
        before: &Buffer<F>,
        shape: LinearShape,
    ) -> Result<Buffer<F>> {
        let inputs = (&dy[..], weight.values(), &before[..]);
        Ok(self.filled(shape.rows * shape.inputs, |out| linear::gelu_input_gradient(&self.workers, out, inputs, shape)))
    }

    fn gelu_gradient(&self, dy: &Buffer<F>, before: &Buffer<F>) -> Result<Buffer<F>> {
        Ok(self.filled(dy.len(), |out| linear::gelu_gradient(&self.workers, out, dy, before)))
    }

    fn linear_weight_gradient(
        &self,
        dy: &Buffer<F>,
        x: &Buffer<F>,
        into: GradientSlice<'_, Self>,
        shape: LinearShape,
    ) -> Result<()> {
        let into = into.flat.part(into.start, shape.inputs * shape.outputs);
        linear::weight_gradient(&self.workers, into, (dy, x), shape);
        Ok(())
    }

    fn bias_gradient(&self, dy: &Buffer<F>, into: GradientSlice<'_, Self>, shape: RowsShape) -> Result<()> {
        linear::bias_gradient(&self.workers, into.flat.part(into.start, shape.width), dy, shape);
        Ok(())
    }

    fn add(&self, a: &Buffer<F>, b: &Buffer<F>) -> Result<Buffer<F>> {
        Ok(self.filled(a.len(), |out| {
            self.workers.zip(
                out,
                a,
                b,
                #[inline(always)]
                |a, b| a + b,
            )
        }))
    }

    fn accumulate(&self, mut a: Buffer<F>, b: &Buffer<F>) -> Result<Buffer<F>> {
        let Some(values) = a.get_mut() else { return self.add(&a, b) };
        self.workers.update(
            values,
            b,
            #[inline(always)]
            |a, b| a + b,
        );
        Ok(a)
    }

    fn layer_norm(
        &self,
        x: &Buffer<F>,
        gain: Slice<'_, Self>,
        bias: Slice<'_, Self>,
        shape: RowsShape,
        epsilon: f32,
    ) -> Result<(Buffer<F>, Buffer<F>)> {
        let inputs = (&x[..], gain.values(), bias.values());
        Ok(self.filled_pair([shape.rows * shape.width, 2 * shape.rows], |out, statistics| {
            normalize::layer_norm(&self.workers, (out, statistics), inputs, shape.width, F::from_f32(epsilon));
        }))
    }

    fn layer_norm_gradient(
        &self,
        dy: &Buffer<F>,
        x: &Buffer<F>,
        statistics: &Buffer<F>,
        gain: Slice<'_, Self>,
        into: GradientSlice<'_, Self>,
        bias_start: usize,
        shape: RowsShape,
    ) -> Result<Buffer<F>> {
        let inputs = (&dy[..], &x[..], &statistics[..], gain.values());
        let into = (&mut into.flat.0[..], [into.start, bias_start]);
        Ok(self.filled(x.len(), |out| normalize::layer_norm_gradient(&self.workers, out, inputs, into, shape.width)))
    }

    fn attention(
        &self,
        heads: Heads<'_, Self>,
        lengths: Option<&Numbers>,
        dropout: Option<Dropout<'_, Self>>,
        shape: AttentionShape,
    ) -> Result<(Buffer<F>, Buffer<F>)> {
        let sizes = [shape.batch * shape.queries * shape.width, shape.batch * shape.heads * shape.queries];
        let mask = Mask::of(lengths, dropout);
        Ok(self.filled_pair(sizes, |out, logs| {
            attention::forward((&self.workers, &self.memory), (out, logs), &Inputs::of(&heads), &mask, shape);
        }))
    }

    fn attention_gradient(
        &self,
        dy: &Buffer<F>,
        heads: Heads<'_, Self>,
        (out, logs): (&Buffer<F>, &Buffer<F>),
        lengths: Option<&Numbers>,
        dropout: Option<Dropout<'_, Self>>,
        shape: AttentionShape,
    ) -> Result<HeadsGradient<Buffer<F>>> {
        let saved = (&Saved { dy, out, logs }, &Mask::of(lengths, dropout));
        let run = |outputs: Outputs<'_, F>| {
            attention::gradient((&self.workers, &self.memory), outputs, &Inputs::of(&heads), saved, shape);
        };
        let queries = shape.batch * shape.queries * shape.width;
        let keys = shape.batch * shape.keys * shape.width;
        if let Heads::Packed(_) = heads {
            return Ok(HeadsGradient::Packed(self.filled(3 * queries, |out| run(Outputs::Packed(out)))));
        }
        let mut q = self.memory.take(queries);
        let (k, v) = self.filled_pair([keys; 2], |k, v| run(Outputs::Split([&mut q, k, v])));
        Ok(HeadsGradient::Split { q: self.memory.buffer(q), k, v })
    }

    fn dropout(&self, x: &Buffer<F>, dropout: Dropout<'_, Self>, group: usize) -> Result<Buffer<F>> {
        Ok(self.filled(x.len(), |out| vectors::dropout(&self.workers, out, x, dropout.scheme(), group)))
    }

    fn embedding(
        &self,
        ids: &Numbers,
        words: Slice<'_, Self>,
        positions: Slice<'_, Self>,
        shape: TokensShape,
    ) -> Result<Buffer<F>> {
        let tables = (words.values(), positions.values());
        Ok(self.filled(shape.length(), |out| sequences::embedding(&self.workers, out, ids, tables, shape)))
    }

    fn embedding_gradient(
        &self,
        dy: &Buffer<F>,
        ids: &Numbers,
        into: &mut Flat<F>,
        starts: [usize; 2],
        shape: TokensShape,
    ) -> Result<()> {
        sequences::embedding_gradient(&mut into.0, dy, ids, starts, shape);
        Ok(())
    }

    fn patches(&self, pixels: &Buffer<F>, shape: PatchesShape) -> Result<Buffer<F>> {
        Ok(self.filled(pixels.len(), |out| sequences::patches(&self.workers, out, pixels, shape)))
    }

    fn vision_tokens(
        &self,
        patches: &Buffer<F>,
        class: Slice<'_, Self>,
        positions: Slice<'_, Self>,
        shape: TokensShape,
    ) -> Result<Buffer<F>> {
        let inputs = (&patches[..], class.values(), positions.values());
        Ok(self.filled(shape.length(), |out| sequences::vision_tokens(&self.workers, out, inputs, shape)))
    }

    fn vision_tokens_gradient(
        &self,
        dy: &Buffer<F>,
        into: &mut Flat<F>,
        starts: [usize; 2],
        shape: TokensShape,
    ) -> Result<Buffer<F>> {
        let length = shape.length() - shape.batch * shape.width;
        Ok(self.filled(length, |out| sequences::vision_tokens_gradient(out, &mut into.0, dy, starts, shape)))
    }

    fn first_token(&self, x: &Buffer<F>, shape: TokensShape) -> Result<Buffer<F>> {
        Ok(self.filled(shape.batch * shape.width, |out| sequences::first_token(out, x, shape)))
    }

    fn first_token_gradient(&self, dy: &Buffer<F>, shape: TokensShape) -> Result<Buffer<F>> {
        Ok(self.filled(shape.length(), |out| sequences::first_token_gradient(out, dy, shape)))
    }

    fn gather_rows(&self, x: &Buffer<F>, rows: &Numbers, width: usize) -> Result<Buffer<F>> {
        Ok(self.filled(rows.len() * width, |out| sequences::gather(out, x, rows, width)))
    }

    fn gather_rows_gradient(&self, dy: &Buffer<F>, rows: &Numbers, shape: RowsShape) -> Result<Buffer<F>> {
        Ok(self.filled(shape.rows * shape.width, |out| sequences::gather_gradient(out, dy, rows, shape)))
    }

    fn append_tokens(
        &self,
        tokens: &Buffer<F>,
        more: &Buffer<F>,
        rows: &Arc<Vec<u32>>,
        shape: AppendShape,
    ) -> Result<Buffer<F>> {
        let length = shape.rows * (shape.before + shape.added) * shape.width;
        Ok(self.filled(length, |out| sequences::append(out, (tokens, more), rows, shape)))
    }

    fn l2_normalize(&self, x: &Buffer<F>, shape: RowsShape) -> Result<(Buffer<F>, Buffer<F>)> {
        Ok(self.filled_pair([shape.rows * shape.width, shape.rows], |out, lengths| {
            normalize::l2(&self.workers, (out, lengths), x, shape);
        }))
    }

    fn l2_normalize_gradient(
        &self,
        dy: &Buffer<F>,
        (rows, lengths): (&Buffer<F>, &Buffer<F>),
        shape: RowsShape,
    ) -> Result<Buffer<F>> {
        let inputs = (&dy[..], &rows[..], &lengths[..]);
        Ok(self.filled(dy.len(), |out| normalize::l2_gradient(&self.workers, out, inputs, shape.width)))
    }

    fn similarity(
        &self,
        a: &Buffer<F>,
        bank: Slice<'_, Self>,
        temperature: Slice<'_, Self>,
        shape: LinearShape,
    ) -> Result<Buffer<F>> {
        let inputs = (&a[..], bank.values(), temperature.values()[0]);
        Ok(self.filled(shape.rows * shape.outputs, |out| losses::similarity(&self.workers, out, inputs, shape)))
    }

    fn similarity_gradient(
        &self,
        dy: &Buffer<F>,
        similarity: &Buffer<F>,
        bank: Slice<'_, Self>,
        temperature: Slice<'_, Self>,
        into: GradientSlice<'_, Self>,
        shape: LinearShape,
    ) -> Result<Buffer<F>> {
        let inputs = (&dy[..], &similarity[..], bank.values(), temperature.values()[0]);
        let into = &mut into.flat.part(into.start, 1)[0];
        Ok(self.filled(shape.rows * shape.inputs, |out| {
            losses::similarity_gradient(&self.workers, out, into, inputs, shape);
        }))
    }

    fn soft_targets(
        &self,
        opinion: &Buffer<F>,
        scalars: &Buffer<F>,
        rows: &Numbers,
        columns: &Numbers,
    ) -> Result<Buffer<F>> {
        let alpha = scalars[scalars::ALPHA];
        Ok(self.filled(opinion.len(), |out| {
            losses::soft_targets(&self.workers, out, opinion, alpha, (rows, columns));
        }))
    }

    fn soft_cross_entropy(
        &self,
        logits: &Buffer<F>,
        targets: &Buffer<F>,
        shape: RowsShape,
    ) -> Result<(Buffer<F>, Buffer<F>)> {
        Ok(self.filled_pair([1, 2 * shape.rows], |loss, saved| {
            loss[0] = losses::soft_cross_entropy(&self.workers, saved, (logits, targets), shape);
        }))
    }

    fn soft_cross_entropy_gradient(
        &self,
        logits: &Buffer<F>,
        targets: &Buffer<F>,
        saved: &Buffer<F>,
        shape: RowsShape,
        scale: f32,
    ) -> Result<Buffer<F>> {
        let inputs = (&logits[..], &targets[..], &saved[..]);
        Ok(self.filled(logits.len(), |out| {
            losses::soft_cross_entropy_gradient(&self.workers, out, inputs, shape, F::from_f32(scale));
        }))
    }

    fn cross_entropy(
        &self,
        logits: &Buffer<F>,
        labels: &Numbers,
        weights: &Buffer<F>,
        smoothing: f32,
        shape: RowsShape,
    ) -> Result<(Buffer<F>, Buffer<F>)> {
        let right = Labels { labels, weights, smoothing: F::from_f32(smoothing) };
        Ok(self.filled_pair([1, shape.rows], |loss, saved| {
            loss[0] = losses::cross_entropy(&self.workers, saved, logits, &right, shape);
        }))
    }

    fn cross_entropy_gradient(
        &self,
        logits: &Buffer<F>,
        labels: &Numbers,
        weights: &Buffer<F>,
        saved: &Buffer<F>,
        smoothing: f32,
        shape: RowsShape,
        scale: f32,
    ) -> Result<Buffer<F>> {
        let right = Labels { labels, weights, smoothing: F::from_f32(smoothing) };
        let by = (shape, F::from_f32(scale));
        Ok(self.filled(logits.len(), |out| {
            losses::cross_entropy_gradient(&self.workers, out, (logits, saved), &right, by);
        }))
    }

    fn draw_negatives(
        &self,
        similarity: &Buffer<F>,
        (rows, columns): (&Numbers, &Numbers),
        seed: &Numbers,
        shape: NegativesShape,
    ) -> Result<Numbers> {
        losses::draw_negatives(&self.workers, similarity, (rows, columns), seed_of(seed), &shape).map(Arc::new)
    }

    fn squared_norm(&self, flat: &Flat<F>) -> Result<Buffer<F>> {
        Ok(self.buffer(&[vectors::squared_norm(&self.workers, &flat.0)]))
    }

    fn adamw(
        &self,
        state: AdamWState<'_, Self>,
        constants: AdamW,
        squared_norm: &Buffer<F>,
        scalars: &Buffer<F>,
    ) -> Result<()> {
        let step = Step::new(squared_norm[0].to_f64(), |place| scalars[place].to_f64());
        let changed = [state.weights, state.first, state.second].map(|flat| &mut flat.0[state.range.clone()]);
        vectors::adamw(&self.workers, changed, &state.gradients.0[state.range], constants, &step);
        Ok(())
    }

    fn moving_average(&self, average: &mut Flat<F>, values: &Flat<F>, scalars: &Buffer<F>) -> Result<()> {
        let first = &values.0[..average.0.len()];
        vectors::moving_average(&self.workers, &mut average.0, first, scalars[scalars::MOMENTUM]);
        Ok(())
    }

    fn clamp(&self, flat: &mut Flat<F>, at: usize, [lowest, highest]: [f32; 2]) -> Result<()> {
        vectors::clamp(&mut flat.0[at], F::from_f32(lowest), F::from_f32(highest));
        Ok(())
    }

    fn write_flat(&self, flat: &mut Flat<F>, start: usize, at: &Numbers, values: &Buffer<F>) -> Result<()> {
        flat.part(start + at[0] as usize, values.len()).copy_from_slice(values);
        Ok(())
    }

    fn scale_flat(&self, flat: &mut Flat<F>, factor: f32) -> Result<()> {
        flat.0.iter_mut().for_each(|value| *value *= F::from_f32(factor));
        Ok(())
    }

    fn with_group(self, group: &Arc<crate::ranks::Group>) -> Result<Self> {
        Ok(self.with_ranks(group.clone()))
    }

    fn rank(&self) -> usize {
        self.ranks.as_ref().map_or(0, |ranks| ranks.rank())
    }

    fn world(&self) -> usize {
        self.ranks.as_ref().map_or(1, |ranks| ranks.world())
    }

    fn all_reduce(&self, flat: &mut Flat<F>) -> Result<()> {
        self.ranks.as_ref().map_or(Ok(()), |ranks| sum_over(&**ranks, flat))
    }

    fn all_gather(&self, buffer: &Buffer<F>) -> Result<Buffer<F>> {
        let Some(ranks) = &self.ranks else { return Ok(buffer.clone()) };
        self.upload(&ranks.all_gather(&self.download(buffer)?)?)
    }

    fn all_gather_indices(&self, indices: &Numbers) -> Result<Numbers> {
        let Some(ranks) = &self.ranks else { return Ok(indices.clone()) };
        Ok(Arc::new(ranks.all_gather_u32(indices)?))
    }

    fn reduce_scatter(&self, buffer: &Buffer<F>) -> Result<Buffer<F>> {
        let Some(ranks) = &self.ranks else { return Ok(buffer.clone()) };
        self.upload(&ranks.reduce_scatter(&self.download(buffer)?)?)
    }
}
