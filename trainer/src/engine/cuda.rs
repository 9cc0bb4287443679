//! NVIDIA GPUs: cuBLASLt for products, kernels compiled at run time by NVRTC, NCCL between devices.
//!
//! Activations and their gradients are bf16, products sum in 32 bits. Parameters, their gradients and moments, losses,
//! similarities, logits and statistics are 32-bit; a parameter that products read has a bf16 shadow, renewed by whatever
//! changes the parameter. Every sum has one order, so that on one GPU the same step gives the same bits.

mod arena;
mod attention;
pub mod compiler;
mod cublaslt;
pub mod driver;
mod exchanges;
mod flats;
mod layers;
pub mod libraries;
mod losses;
mod memory;
mod nccl;
mod nvidia;
mod products;
mod recordings;
mod sequences;
mod staging;
mod values;

use std::cell::RefCell;
use std::path::PathBuf;
use std::rc::Rc;

pub use memory::{Buffer, Flat, Indices};

use self::driver::{Driver, Element};
use self::losses::Labelled;
use self::memory::Context;
use self::recordings::Recordings;
use super::{
    AdamW, AdamWState, AppendShape, AttentionShape, Device, Dropout, GradientSlice, Heads, HeadsGradient, LinearShape,
    NegativesShape, PatchesShape, Result, RowsShape, Slice, TokensShape,
};

/// A GPU. Clones are the same one.
#[derive(Clone)]
pub struct Cuda {
    recordings: Rc<RefCell<Recordings>>,
    context: Rc<Context>,
    rank: usize,
    world: usize,
}

impl Cuda {
    /// The GPU with this number. Libraries are looked for in the folders that the environment names, then where the loader
    /// looks: see [`libraries`].
    ///
    /// # Errors
    /// [`EngineError::Unavailable`](super::EngineError::Unavailable) says which library or device is missing, and where it
    /// was looked for.
    pub fn open(ordinal: usize) -> Result<Cuda> {
        Cuda::open_from(ordinal, &libraries::folders_of_the_environment())
    }

    /// The same, with these folders.
    ///
    /// # Errors
    /// As [`Cuda::open`].
    pub fn open_from(ordinal: usize, folders: &[PathBuf]) -> Result<Cuda> {
        Ok(Cuda::with_driver(Box::new(nvidia::Nvidia::open(ordinal, folders)?)))
    }

    /// A device that asks `driver` for everything.
    pub fn with_driver(driver: Box<dyn Driver>) -> Cuda {
        Cuda { recordings: Rc::default(), context: Context::new(driver), rank: 0, world: 1 }
    }
}

impl Device for Cuda {
    type Buffer = Buffer;
    type Indices = Indices;
    type Flat = Flat;

    fn name(&self) -> String {
        self.context.driver.name()
    }

    fn synchronize(&self) -> Result<()> {
        self.context.not_recording("a wait")?;
        self.context.driver.synchronize()
    }

    fn upload(&self, values: &[f32]) -> Result<Buffer> {
        self.uploaded(values)
    }

    fn rewrite(&self, buffer: &mut Buffer, values: &[f32]) -> Result<()> {
        self.rewritten(buffer, values)
    }

    fn download(&self, buffer: &Buffer) -> Result<Vec<f32>> {
        self.downloaded(buffer)
    }

    fn upload_indices(&self, values: &[u32]) -> Result<Indices> {
        self.uploaded_indices(values)
    }

    fn rewrite_indices(&self, indices: &mut Indices, values: &[u32]) -> Result<()> {
        self.rewritten_indices(indices, values)
    }

    fn download_indices(&self, indices: &Indices) -> Result<Vec<u32>> {
        self.downloaded_indices(indices)
    }

    fn flat(&self, values: &[f32]) -> Result<Flat> {
        self.new_flat(values)
    }

    fn read_flat(&self, flat: &Flat) -> Result<Vec<f32>> {
        self.slice_values(flat, 0, flat.length())
    }

    fn read_slice(&self, slice: Slice<'_, Self>) -> Result<Vec<f32>> {
        self.slice_values(slice.flat, slice.start, slice.length)
    }

    fn clear(&self, flat: &mut Flat) -> Result<()> {
        self.cleared(flat)
    }

    fn concat_indices(&self, parts: &[&Indices]) -> Result<Indices> {
        self.joined_indices(parts)
    }

    fn gather_indices(&self, values: &Indices, rows: &Indices, width: usize) -> Result<Indices> {
        self.gathered_indices(values, rows, width)
    }

    fn linear(
        &self,
        x: &Buffer,
        weight: Slice<'_, Self>,
        bias: Option<Slice<'_, Self>>,
        shape: LinearShape,
    ) -> Result<Buffer> {
        self.product(x, weight, bias, shape, Element::Bf16)
    }

    fn linear_logits(
        &self,
        x: &Buffer,
        weight: Slice<'_, Self>,
        bias: Option<Slice<'_, Self>>,
        shape: LinearShape,
    ) -> Result<Buffer> {
        self.product(x, weight, bias, shape, Element::F32)
    }

    fn linear_gelu(
        &self,
        x: &Buffer,
        weight: Slice<'_, Self>,
        bias: Slice<'_, Self>,
        shape: LinearShape,
    ) -> Result<(Buffer, Buffer)> {
        self.product_and_gelu(x, weight, bias, shape)
    }

    fn linear_input_gradient(&self, dy: &Buffer, weight: Slice<'_, Self>, shape: LinearShape) -> Result<Buffer> {
        self.product_input_gradient(dy, weight, shape)
    }

    fn linear_gelu_input_gradient(
        &self,
        dy: &Buffer,
        weight: Slice<'_, Self>,
        before: &Buffer,
        shape: LinearShape,
    ) -> Result<Buffer> {
        let out = self.product_input_gradient(dy, weight, shape)?;
        self.gelu_slope(&out, &self.narrowed(before)?, &out)?;
        Ok(out)
    }

    fn gelu_gradient(&self, dy: &Buffer, before: &Buffer) -> Result<Buffer> {
        let out = self.activations(dy.length())?;
        self.gelu_slope(&self.narrowed(dy)?, &self.narrowed(before)?, &out)?;
        Ok(out)
    }

    fn linear_weight_gradient(
        &self,
        dy: &Buffer,
        x: &Buffer,
        into: GradientSlice<'_, Self>,
        shape: LinearShape,
    ) -> Result<()> {
        self.product_weight_gradient(dy, x, into, shape)
    }

    fn bias_gradient(&self, dy: &Buffer, into: GradientSlice<'_, Self>, shape: RowsShape) -> Result<()> {
        self.summed_rows(dy, into, shape)
    }

    fn add(&self, a: &Buffer, b: &Buffer) -> Result<Buffer> {
        self.sum(a, b)
    }

    fn accumulate(&self, a: Buffer, b: &Buffer) -> Result<Buffer> {
        self.accumulated(a, b)
    }

    fn layer_norm(
        &self,
        x: &Buffer,
        gain: Slice<'_, Self>,
        bias: Slice<'_, Self>,
        shape: RowsShape,
        epsilon: f32,
    ) -> Result<(Buffer, Buffer)> {
        self.normalized(x, gain, bias, shape, epsilon)
    }

    fn layer_norm_gradient(
        &self,
        dy: &Buffer,
        x: &Buffer,
        statistics: &Buffer,
        gain: Slice<'_, Self>,
        into: GradientSlice<'_, Self>,
        bias_start: usize,
        shape: RowsShape,
    ) -> Result<Buffer> {
        self.normalized_gradient([dy, x, statistics], gain, into.flat, [into.start, bias_start], shape)
    }

    fn attention(
        &self,
        heads: Heads<'_, Self>,
        lengths: Option<&Indices>,
        dropout: Option<Dropout<'_, Self>>,
        shape: AttentionShape,
    ) -> Result<(Buffer, Buffer)> {
        self.attended(heads, lengths, dropout, shape)
    }

    fn attention_gradient(
        &self,
        dy: &Buffer,
        heads: Heads<'_, Self>,
        saved: (&Buffer, &Buffer),
        lengths: Option<&Indices>,
        dropout: Option<Dropout<'_, Self>>,
        shape: AttentionShape,
    ) -> Result<HeadsGradient<Buffer>> {
        self.attended_gradient((dy, saved), heads, lengths, dropout, shape)
    }

    fn dropout(&self, x: &Buffer, dropout: Dropout<'_, Self>, group: usize) -> Result<Buffer> {
        self.dropped(x, dropout, group)
    }

    fn embedding(
        &self,
        ids: &Indices,
        words: Slice<'_, Self>,
        positions: Slice<'_, Self>,
        shape: TokensShape,
    ) -> Result<Buffer> {
        self.embedded(ids, words, positions, shape)
    }

    fn embedding_gradient(
        &self,
        dy: &Buffer,
        ids: &Indices,
        into: &mut Flat,
        starts: [usize; 2],
        shape: TokensShape,
    ) -> Result<()> {
        self.embedded_gradient(dy, ids, into, starts, shape)
    }

    fn patches(&self, pixels: &Buffer, shape: PatchesShape) -> Result<Buffer> {
        self.cut_patches(pixels, shape)
    }

    fn vision_tokens(
        &self,
        patches: &Buffer,
        class: Slice<'_, Self>,
        positions: Slice<'_, Self>,
        shape: TokensShape,
    ) -> Result<Buffer> {
        self.picture_tokens(patches, class, positions, shape)
    }

    fn vision_tokens_gradient(
        &self,
        dy: &Buffer,
        into: &mut Flat,
        starts: [usize; 2],
        shape: TokensShape,
    ) -> Result<Buffer> {
        self.picture_tokens_gradient(dy, into, starts, shape)
    }

    fn first_token(&self, x: &Buffer, shape: TokensShape) -> Result<Buffer> {
        self.first_tokens(x, shape)
    }

    fn first_token_gradient(&self, dy: &Buffer, shape: TokensShape) -> Result<Buffer> {
        self.first_tokens_gradient(dy, shape)
    }

    fn gather_rows(&self, x: &Buffer, rows: &Indices, width: usize) -> Result<Buffer> {
        self.gathered_rows(x, rows, width)
    }

    fn append_tokens(&self, tokens: &Buffer, more: &Buffer, rows: &Indices, shape: AppendShape) -> Result<Buffer> {
        self.appended_tokens(tokens, more, rows, shape)
    }

    fn gather_rows_gradient(&self, dy: &Buffer, rows: &Indices, shape: RowsShape) -> Result<Buffer> {
        self.gathered_rows_gradient(dy, rows, shape)
    }

    fn l2_normalize(&self, x: &Buffer, shape: RowsShape) -> Result<(Buffer, Buffer)> {
        self.normalized_rows(x, shape)
    }

    fn l2_normalize_gradient(&self, dy: &Buffer, saved: (&Buffer, &Buffer), shape: RowsShape) -> Result<Buffer> {
        self.normalized_rows_gradient(dy, saved, shape)
    }

    fn similarity(
        &self,
        a: &Buffer,
        bank: Slice<'_, Self>,
        temperature: Slice<'_, Self>,
        shape: LinearShape,
    ) -> Result<Buffer> {
        self.similarities(a, bank, temperature, shape)
    }

    fn similarity_gradient(
        &self,
        dy: &Buffer,
        similarity: &Buffer,
        bank: Slice<'_, Self>,
        temperature: Slice<'_, Self>,
        into: GradientSlice<'_, Self>,
        shape: LinearShape,
    ) -> Result<Buffer> {
        self.similarities_gradient((dy, similarity), bank, temperature, into, shape)
    }

    fn soft_targets(&self, opinion: &Buffer, scalars: &Buffer, rows: &Indices, columns: &Indices) -> Result<Buffer> {
        self.mixed_targets(opinion, scalars, rows, columns)
    }

    fn soft_cross_entropy(&self, logits: &Buffer, targets: &Buffer, shape: RowsShape) -> Result<(Buffer, Buffer)> {
        self.soft_loss(logits, targets, shape)
    }

    fn soft_cross_entropy_gradient(
        &self,
        logits: &Buffer,
        targets: &Buffer,
        saved: &Buffer,
        shape: RowsShape,
        scale: f32,
    ) -> Result<Buffer> {
        self.soft_loss_gradient(logits, targets, saved, shape, scale)
    }

    fn cross_entropy(
        &self,
        logits: &Buffer,
        labels: &Indices,
        weights: &Buffer,
        smoothing: f32,
        shape: RowsShape,
    ) -> Result<(Buffer, Buffer)> {
        self.hard_loss(logits, Labelled { labels, weights, smoothing }, shape)
    }

    fn cross_entropy_gradient(
        &self,
        logits: &Buffer,
        labels: &Indices,
        weights: &Buffer,
        saved: &Buffer,
        smoothing: f32,
        shape: RowsShape,
        scale: f32,
    ) -> Result<Buffer> {
        self.hard_loss_gradient(logits, Labelled { labels, weights, smoothing }, saved, shape, scale)
    }

    fn draw_negatives(
        &self,
        similarity: &Buffer,
        names: (&Indices, &Indices),
        seed: &Indices,
        shape: NegativesShape,
    ) -> Result<Indices> {
        self.drawn_negatives(similarity, names, seed, shape)
    }

    fn squared_norm(&self, flat: &Flat) -> Result<Buffer> {
        self.sum_of_squares(flat)
    }

    fn adamw(
        &self,
        state: AdamWState<'_, Self>,
        constants: AdamW,
        squared_norm: &Buffer,
        scalars: &Buffer,
    ) -> Result<()> {
        self.adamw_step(state, constants, squared_norm, scalars)
    }

    fn moving_average(&self, average: &mut Flat, values: &Flat, scalars: &Buffer) -> Result<()> {
        self.averaged(average, values, scalars)
    }

    fn clamp(&self, flat: &mut Flat, at: usize, range: [f32; 2]) -> Result<()> {
        self.clamped(flat, at, range)
    }

    fn write_flat(&self, flat: &mut Flat, start: usize, at: &Indices, values: &Buffer) -> Result<()> {
        self.written(flat, start, at, values)
    }

    fn scale_flat(&self, flat: &mut Flat, factor: f32) -> Result<()> {
        self.scaled(flat, factor)
    }

    fn with_group(self, group: &std::sync::Arc<crate::ranks::Group>) -> Result<Cuda> {
        self.with_ranks(group.rank(), group.world(), |name| Ok(group.broadcast_bytes(&name.unwrap_or_default())?))
    }

    fn rank(&self) -> usize {
        self.rank
    }

    fn world(&self) -> usize {
        self.world
    }

    fn all_reduce(&self, flat: &mut Flat) -> Result<()> {
        self.summed_over_ranks(flat)
    }

    fn all_gather(&self, buffer: &Buffer) -> Result<Buffer> {
        self.gathered_buffers(buffer)
    }

    fn all_gather_indices(&self, indices: &Indices) -> Result<Indices> {
        self.gathered_index_lists(indices)
    }

    fn reduce_scatter(&self, buffer: &Buffer) -> Result<Buffer> {
        self.summed_and_parted(buffer)
    }

    fn replay(&self, key: u64, program: &mut dyn FnMut() -> Result<Vec<Buffer>>) -> Result<Vec<Buffer>> {
        self.replayed(key, program)
    }
}
