//! The operations that BLIP needs, forward and backward, on a device.
//!
//! A [`Device`] computes; it records nothing. Each operation that training differentiates has an explicit backward
//! beside it, and the [tape](crate::tape) decides which to call. Two implementations exist: [`cpu::Cpu`], which defines
//! the answer, and `cuda::Cuda`, which gets there faster.
//!
//! Tensors are row-major and dense. Shapes are arguments: a buffer knows only its length. What is random is drawn from a
//! counter, so that it depends on the seed and the place and on nothing else: see [`random_bits`].

mod shapes;
mod chance;
mod adamw;
pub mod cpu;
pub mod cuda;

pub use adamw::{AdamW, AdamWState, scalars};
pub use chance::{draw, keeps, random_bits, splitmix64, step_seed};
pub use shapes::{
    AppendShape, AttentionShape, Direction, LinearShape, NegativesShape, Order, PatchesShape, RowsShape, TokensShape,
};

/// A device that cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// A library or driver that the device needs is not there.
    #[error("{device} cannot be used: {missing}")]
    Unavailable {
        /// The device, as the user named it.
        device: String,
        /// What is missing, and where it was looked for.
        missing: String,
    },
    /// The device has no room.
    #[error(
        "{device} has no room for {bytes} more bytes: use a smaller batch, accumulate gradients, or checkpoint layers"
    )]
    Memory {
        /// The device.
        device: String,
        /// What was asked for.
        bytes: usize,
    },
    /// The device or one of its libraries failed.
    #[error("{device}: {what}")]
    Failed {
        /// The device.
        device: String,
        /// Which call, and what it said.
        what: String,
    },
    /// Another rank is gone or slow.
    #[error(transparent)]
    Ranks(#[from] crate::ranks::RanksError),
}

/// What every device operation returns.
pub type Result<T> = std::result::Result<T, EngineError>;

/// Part of a [`Device::Flat`] vector: one parameter among all.
pub struct Slice<'a, D: Device> {
    /// The vector.
    pub flat: &'a D::Flat,
    /// First value.
    pub start: usize,
    /// Number of values.
    pub length: usize,
}

impl<D: Device> Clone for Slice<'_, D> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<D: Device> Copy for Slice<'_, D> {}

/// Where the gradient of a parameter is added.
pub struct GradientSlice<'a, D: Device> {
    /// The gradients of all parameters.
    pub flat: &'a mut D::Flat,
    /// First value of this one.
    pub start: usize,
}

/// Queries, keys and values of an attention.
pub enum Heads<'a, D: Device> {
    /// One buffer `[batch, tokens, 3 * width]`: a token's query, key and value stand one after the other.
    Packed(&'a D::Buffer),
    /// `[batch, queries, width]`, and twice `[batch, keys, width]`.
    Split {
        /// Queries.
        q: &'a D::Buffer,
        /// Keys.
        k: &'a D::Buffer,
        /// Values.
        v: &'a D::Buffer,
    },
}

/// Gradients of [`Heads`], laid out as these were.
pub enum HeadsGradient<B> {
    /// `[batch, tokens, 3 * width]`.
    Packed(B),
    /// Those of queries, keys and values.
    Split {
        /// Of the queries.
        q: B,
        /// Of the keys.
        k: B,
        /// Of the values.
        v: B,
    },
}

/// What is left out of an operation at random.
pub struct Dropout<'a, D: Device> {
    /// Share that is left out, 0 to 1; what is kept grows by `1 / (1 - share)`.
    pub share: f32,
    /// The step's seed: two values, low and high word.
    pub seed: &'a D::Indices,
    /// The place in the model: no two places of a step may share one.
    pub site: u32,
}

impl<D: Device> Clone for Dropout<'_, D> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<D: Device> Copy for Dropout<'_, D> {}

/// Computes. Every buffer argument must have the length that the shape says: a device may panic otherwise, since a
/// wrong length is a fault in our own code and not in what a user gave.
pub trait Device: Clone + Sized + 'static {
    /// Values between operations, cheap to clone, never changed while shared. A device may hold activations in
    /// less than 32 bits; losses, statistics and what was uploaded it holds in 32.
    type Buffer: Clone;
    /// Whole numbers: token ids, lengths, rows.
    type Indices: Clone;
    /// A long vector of 32-bit values that is changed in place: parameters, gradients, moments, queues.
    type Flat;

    /// What a person calls this device.
    fn name(&self) -> String;

    /// Waits until everything asked for is done; a device that does it at once need not.
    fn synchronize(&self) -> Result<()> {
        Ok(())
    }

    // Between the host and the device.

    /// Values from the host, kept in 32 bits.
    fn upload(&self, values: &[f32]) -> Result<Self::Buffer>;
    /// New values for a buffer from [`Device::upload`] of the same length, in the same place.
    fn rewrite(&self, buffer: &mut Self::Buffer, values: &[f32]) -> Result<()>;
    /// Values to the host.
    fn download(&self, buffer: &Self::Buffer) -> Result<Vec<f32>>;
    /// Whole numbers from the host.
    fn upload_indices(&self, values: &[u32]) -> Result<Self::Indices>;
    /// New whole numbers for indices of the same length, in the same place.
    fn rewrite_indices(&self, indices: &mut Self::Indices, values: &[u32]) -> Result<()>;
    /// Whole numbers to the host.
    fn download_indices(&self, indices: &Self::Indices) -> Result<Vec<u32>>;
    /// A long vector.
    fn flat(&self, values: &[f32]) -> Result<Self::Flat>;
    /// A long vector to the host.
    fn read_flat(&self, flat: &Self::Flat) -> Result<Vec<f32>>;
    /// Part of a long vector to the host.
    fn read_slice(&self, slice: Slice<'_, Self>) -> Result<Vec<f32>> {
        let mut all = self.read_flat(slice.flat)?;
        Ok(all.drain(slice.start..slice.start + slice.length).collect())
    }
    /// Zero everywhere.
    fn clear(&self, flat: &mut Self::Flat) -> Result<()>;
    /// Whole numbers one list after the other.
    fn concat_indices(&self, parts: &[&Self::Indices]) -> Result<Self::Indices>;
    /// Rows of `width` whole numbers: result row `i` is row `rows[i]`.
    fn gather_indices(&self, values: &Self::Indices, rows: &Self::Indices, width: usize) -> Result<Self::Indices>;

    // Products.

    /// `x wᵀ + bias`: `[rows, inputs]` -> `[rows, outputs]`.
    fn linear(
        &self,
        x: &Self::Buffer,
        weight: Slice<'_, Self>,
        bias: Option<Slice<'_, Self>>,
        shape: LinearShape,
    ) -> Result<Self::Buffer>;
    /// [`Device::linear`] where the result is logits: 32-bit on every device.
    fn linear_logits(
        &self,
        x: &Self::Buffer,
        weight: Slice<'_, Self>,
        bias: Option<Slice<'_, Self>>,
        shape: LinearShape,
    ) -> Result<Self::Buffer> {
        self.linear(x, weight, bias, shape)
    }
    /// GELU (erf) of [`Device::linear`]; also what went into the GELU.
    fn linear_gelu(
        &self,
        x: &Self::Buffer,
        weight: Slice<'_, Self>,
        bias: Slice<'_, Self>,
        shape: LinearShape,
    ) -> Result<(Self::Buffer, Self::Buffer)>;
    /// Gradient of a linear's input: `dy w`.
    fn linear_input_gradient(
        &self,
        dy: &Self::Buffer,
        weight: Slice<'_, Self>,
        shape: LinearShape,
    ) -> Result<Self::Buffer>;
    /// The same, times the GELU's derivative at `before`, which is what went into the GELU that made the input.
    fn linear_gelu_input_gradient(
        &self,
        dy: &Self::Buffer,
        weight: Slice<'_, Self>,
        before: &Self::Buffer,
        shape: LinearShape,
    ) -> Result<Self::Buffer>;
    /// `dy` times the GELU's derivative at `before`.
    fn gelu_gradient(&self, dy: &Self::Buffer, before: &Self::Buffer) -> Result<Self::Buffer>;
    /// Adds `dyᵀ x` to the gradient of the weight.
    fn linear_weight_gradient(
        &self,
        dy: &Self::Buffer,
        x: &Self::Buffer,
        into: GradientSlice<'_, Self>,
        shape: LinearShape,
    ) -> Result<()>;
    /// Adds the sum of `dy`'s rows to the gradient of the bias.
    fn bias_gradient(&self, dy: &Self::Buffer, into: GradientSlice<'_, Self>, shape: RowsShape) -> Result<()>;

    // Layers.

    /// Sum.
    fn add(&self, a: &Self::Buffer, b: &Self::Buffer) -> Result<Self::Buffer>;
    /// Sum, in the memory of `a` where nobody else holds it.
    fn accumulate(&self, a: Self::Buffer, b: &Self::Buffer) -> Result<Self::Buffer>;
    /// `(x - mean) / sqrt(variance + epsilon) * gain + bias` by row; also the statistics that the backward needs.
    fn layer_norm(
        &self,
        x: &Self::Buffer,
        gain: Slice<'_, Self>,
        bias: Slice<'_, Self>,
        shape: RowsShape,
        epsilon: f32,
    ) -> Result<(Self::Buffer, Self::Buffer)>;
    /// Gradient of [`Device::layer_norm`]'s input; those of gain and bias, `width` values each, the bias's at
    /// `bias_start`, are added to `into`.
    #[expect(clippy::too_many_arguments, reason = "one operation; a struct would name the same things again")]
    fn layer_norm_gradient(
        &self,
        dy: &Self::Buffer,
        x: &Self::Buffer,
        statistics: &Self::Buffer,
        gain: Slice<'_, Self>,
        into: GradientSlice<'_, Self>,
        bias_start: usize,
        shape: RowsShape,
    ) -> Result<Self::Buffer>;
    /// Attention, `[batch, queries, width]`, and the logarithm of each softmax's sum, `[batch, heads, queries]`.
    /// `lengths`: keys of each sequence that count, at least one; all where there are none. Dropout is on the
    /// probabilities.
    fn attention(
        &self,
        heads: Heads<'_, Self>,
        lengths: Option<&Self::Indices>,
        dropout: Option<Dropout<'_, Self>>,
        shape: AttentionShape,
    ) -> Result<(Self::Buffer, Self::Buffer)>;
    /// Gradients of [`Device::attention`]'s queries, keys and values. `saved` is what it returned.
    #[expect(clippy::too_many_arguments, reason = "one operation; a struct would name the same things again")]
    fn attention_gradient(
        &self,
        dy: &Self::Buffer,
        heads: Heads<'_, Self>,
        saved: (&Self::Buffer, &Self::Buffer),
        lengths: Option<&Self::Indices>,
        dropout: Option<Dropout<'_, Self>>,
        shape: AttentionShape,
    ) -> Result<HeadsGradient<Self::Buffer>>;
    /// Sets groups of `group` values to zero at random and scales the others. Its own backward.
    fn dropout(&self, x: &Self::Buffer, dropout: Dropout<'_, Self>, group: usize) -> Result<Self::Buffer>;

    // In and out of sequences.

    /// Word plus position: ids `[batch, tokens]` -> `[batch, tokens, width]`. Ids are below the number of words.
    fn embedding(
        &self,
        ids: &Self::Indices,
        words: Slice<'_, Self>,
        positions: Slice<'_, Self>,
        shape: TokensShape,
    ) -> Result<Self::Buffer>;
    /// Adds the gradients of words (at `words_start`) and positions (at `positions_start`).
    fn embedding_gradient(
        &self,
        dy: &Self::Buffer,
        ids: &Self::Indices,
        into: &mut Self::Flat,
        starts: [usize; 2],
        shape: TokensShape,
    ) -> Result<()>;
    /// Pixels to patches: `[batch * patches, 3 * patch * patch]`, channel, row, column, as a convolution's weight is
    /// laid out.
    fn patches(&self, pixels: &Self::Buffer, shape: PatchesShape) -> Result<Self::Buffer>;
    /// Puts the class token before the patches and adds positions. `shape.tokens` counts the class token.
    fn vision_tokens(
        &self,
        patches: &Self::Buffer,
        class: Slice<'_, Self>,
        positions: Slice<'_, Self>,
        shape: TokensShape,
    ) -> Result<Self::Buffer>;
    /// Gradient of the patches; those of class token and positions are added at `starts`.
    fn vision_tokens_gradient(
        &self,
        dy: &Self::Buffer,
        into: &mut Self::Flat,
        starts: [usize; 2],
        shape: TokensShape,
    ) -> Result<Self::Buffer>;
    /// The first token of each sequence: `[batch, width]`.
    fn first_token(&self, x: &Self::Buffer, shape: TokensShape) -> Result<Self::Buffer>;
    /// Its gradient: zero for the other tokens.
    fn first_token_gradient(&self, dy: &Self::Buffer, shape: TokensShape) -> Result<Self::Buffer>;
    /// Rows of `width` values: result row `i` is row `rows[i]`.
    fn gather_rows(&self, x: &Self::Buffer, rows: &Self::Indices, width: usize) -> Result<Self::Buffer>;
    /// Its gradient: row `rows[i]` of `shape.rows` gets the sum of the rows that were read from it, in their order.
    fn gather_rows_gradient(&self, dy: &Self::Buffer, rows: &Self::Indices, shape: RowsShape) -> Result<Self::Buffer>;

    /// Rows with tokens added: result row `i` is row `rows[i]` of `tokens`, `[any, before, width]`, and after it row `i` of
    /// `more`, `[rows, added, width]`. The result is `[rows, before + added, width]`.
    fn append_tokens(
        &self,
        tokens: &Self::Buffer,
        more: &Self::Buffer,
        rows: &Self::Indices,
        shape: AppendShape,
    ) -> Result<Self::Buffer>;

    // Similarities and losses. Logits, similarities and losses are 32-bit on every device.

    /// Rows over their length; also the lengths. Source: `torch.nn.functional.normalize`, epsilon 1e-12.
    fn l2_normalize(&self, x: &Self::Buffer, shape: RowsShape) -> Result<(Self::Buffer, Self::Buffer)>;
    /// Gradient of [`Device::l2_normalize`]; `saved` is what it returned.
    fn l2_normalize_gradient(
        &self,
        dy: &Self::Buffer,
        saved: (&Self::Buffer, &Self::Buffer),
        shape: RowsShape,
    ) -> Result<Self::Buffer>;
    /// `a bankᵀ / temperature`: `[rows, inputs]` and `[outputs, inputs]` -> `[rows, outputs]`.
    fn similarity(
        &self,
        a: &Self::Buffer,
        bank: Slice<'_, Self>,
        temperature: Slice<'_, Self>,
        shape: LinearShape,
    ) -> Result<Self::Buffer>;
    /// Gradient of `a`; that of the temperature is added to `into`. `similarity` is what the forward returned.
    #[expect(clippy::too_many_arguments, reason = "one operation; a struct would name the same things again")]
    fn similarity_gradient(
        &self,
        dy: &Self::Buffer,
        similarity: &Self::Buffer,
        bank: Slice<'_, Self>,
        temperature: Slice<'_, Self>,
        into: GradientSlice<'_, Self>,
        shape: LinearShape,
    ) -> Result<Self::Buffer>;
    /// `alpha * softmax(opinion) + (1 - alpha) * truth` by row, where `truth` is one for the columns whose name in
    /// `columns` is the row's in `rows`, shared evenly. Alpha is read from `scalars`.
    fn soft_targets(
        &self,
        opinion: &Self::Buffer,
        scalars: &Self::Buffer,
        rows: &Self::Indices,
        columns: &Self::Indices,
    ) -> Result<Self::Buffer>;
    /// Mean over rows of `-sum(target * log softmax(logits))`, one value; also what the backward needs.
    fn soft_cross_entropy(
        &self,
        logits: &Self::Buffer,
        targets: &Self::Buffer,
        shape: RowsShape,
    ) -> Result<(Self::Buffer, Self::Buffer)>;
    /// Gradient of the logits, times `scale`.
    fn soft_cross_entropy_gradient(
        &self,
        logits: &Self::Buffer,
        targets: &Self::Buffer,
        saved: &Self::Buffer,
        shape: RowsShape,
        scale: f32,
    ) -> Result<Self::Buffer>;
    /// Sum over rows of weight times cross-entropy with label smoothing, one value; also what the backward needs. A row
    /// of weight zero does not count and its label is not read. Source: PyTorch `CrossEntropyLoss`, `label_smoothing`.
    fn cross_entropy(
        &self,
        logits: &Self::Buffer,
        labels: &Self::Indices,
        weights: &Self::Buffer,
        smoothing: f32,
        shape: RowsShape,
    ) -> Result<(Self::Buffer, Self::Buffer)>;
    /// Gradient of the logits, times `scale`.
    #[expect(clippy::too_many_arguments, reason = "one operation; a struct would name the same things again")]
    fn cross_entropy_gradient(
        &self,
        logits: &Self::Buffer,
        labels: &Self::Indices,
        weights: &Self::Buffer,
        saved: &Self::Buffer,
        smoothing: f32,
        shape: RowsShape,
        scale: f32,
    ) -> Result<Self::Buffer>;
    /// Draws one column for each row with probability `softmax(similarity over the candidates) + 1e-4`, never one whose
    /// name in `columns` is the row's own in `rows`. Source: BLIP `models/blip_pretrain.py`, "select a negative image
    /// for each text"; the draw itself is [`draw`].
    fn draw_negatives(
        &self,
        similarity: &Self::Buffer,
        names: (&Self::Indices, &Self::Indices),
        seed: &Self::Indices,
        shape: NegativesShape,
    ) -> Result<Self::Indices>;

    // Long vectors.

    /// Sum of squares, one value.
    fn squared_norm(&self, flat: &Self::Flat) -> Result<Self::Buffer>;
    /// One step of AdamW for a range of values. `squared_norm` is of all gradients, for the clip; learning rate and corrections are read from
    /// `scalars`.
    fn adamw(
        &self,
        state: AdamWState<'_, Self>,
        constants: AdamW,
        squared_norm: &Self::Buffer,
        scalars: &Self::Buffer,
    ) -> Result<()>;
    /// `average = momentum * average + (1 - momentum) * values`, momentum read from `scalars`. Where there are more values
    /// than averages, the first ones count.
    fn moving_average(&self, average: &mut Self::Flat, values: &Self::Flat, scalars: &Self::Buffer) -> Result<()>;
    /// Puts one value into its range.
    fn clamp(&self, flat: &mut Self::Flat, at: usize, range: [f32; 2]) -> Result<()>;
    /// Overwrites `flat` from `start + at[0]` on, where `at` is in values.
    fn write_flat(&self, flat: &mut Self::Flat, start: usize, at: &Self::Indices, values: &Self::Buffer) -> Result<()>;
    /// Multiplies everywhere.
    fn scale_flat(&self, flat: &mut Self::Flat, factor: f32) -> Result<()>;

    // Other ranks. On one rank each of these gives back what it was given.

    /// This device as one rank of a group.
    fn with_group(self, group: &std::sync::Arc<crate::ranks::Group>) -> Result<Self>;
    /// This process among `world`.
    fn rank(&self) -> usize;
    /// Number of processes.
    fn world(&self) -> usize;
    /// Sum over ranks, in rank order.
    fn all_reduce(&self, flat: &mut Self::Flat) -> Result<()>;
    /// All ranks' buffers one after the other.
    fn all_gather(&self, buffer: &Self::Buffer) -> Result<Self::Buffer>;
    /// All ranks' indices one after the other.
    fn all_gather_indices(&self, indices: &Self::Indices) -> Result<Self::Indices>;
    /// Sum over ranks of buffers `world` times as long as the result, of which each rank keeps its own part: the
    /// backward of [`Device::all_gather`].
    fn reduce_scatter(&self, buffer: &Self::Buffer) -> Result<Self::Buffer>;

    /// Runs `program`, or what it did the last time with this `key`. A device that can record its launches does so the
    /// second time and then only plays them, so `program` may only read buffers that live on, must ask for the same
    /// operations each time, and gets new input through [`Device::rewrite`].
    fn replay(&self, _key: u64, program: &mut dyn FnMut() -> Result<Vec<Self::Buffer>>) -> Result<Vec<Self::Buffer>> {
        program()
    }
}
