//! Attention and its gradients.

use super::driver::{Address, Argument, Grid};
use super::memory::{Buffer, Indices};
use super::{Cuda, Result};
use crate::engine::{AttentionShape, Dropout, Heads, HeadsGradient, Order};

/// Queries, or keys, that a block of the tensor-core kernels has.
const BLOCK_ROWS: usize = 64;
/// Threads of such a block.
const THREADS: usize = 128;
/// Bytes of a value.
const VALUE: usize = 2;

/// A set of tensor-core kernels: for heads up to `width`, with tiles of `tile` rows in the backward.
struct Tiled {
    width: usize,
    tile: usize,
    forward: &'static str,
    queries: &'static str,
    keys: &'static str,
}

const TILED: [Tiled; 3] = [
    Tiled {
        width: 32,
        tile: 64,
        forward: "attention_32",
        queries: "attention_queries_gradient_32",
        keys: "attention_keys_gradient_32",
    },
    Tiled {
        width: 64,
        tile: 64,
        forward: "attention_64",
        queries: "attention_queries_gradient_64",
        keys: "attention_keys_gradient_64",
    },
    Tiled {
        width: 128,
        tile: 32,
        forward: "attention_128",
        queries: "attention_queries_gradient_128",
        keys: "attention_keys_gradient_128",
    },
];

/// Kernels for a head width, or none: then plain ones work.
fn tiled(head_width: usize) -> Option<&'static Tiled> {
    TILED.iter().find(|tiled| head_width.is_multiple_of(8) && head_width <= tiled.width)
}

impl Tiled {
    fn pitch(&self) -> usize {
        self.width + 8
    }

    fn grid(&self, rows: usize, shape: &AttentionShape, tile_rows: usize) -> Grid {
        Grid {
            blocks: [rows.div_ceil(BLOCK_ROWS), shape.heads, shape.batch],
            threads: THREADS,
            shared: tile_rows * self.pitch() * VALUE,
        }
    }
}

/// Queries, keys and values in bf16, kept alive while the kernels read them.
struct Read {
    q: Address,
    k: Address,
    v: Address,
    strides: [usize; 2],
    _kept: Vec<Buffer>,
}

/// The structure `Attention` of `kernels/attention.cu`.
fn structure(
    read: &Read,
    lengths: Option<&Indices>,
    dropout: Option<Dropout<'_, Cuda>>,
    shape: &AttentionShape,
) -> Argument {
    let head_width = shape.width / shape.heads;
    let scale = 1.0 / (head_width as f32).sqrt();
    let (seed, share, site) =
        dropout.map_or((0, 0.0f32, 0), |dropout| (dropout.seed.of(2), dropout.share, dropout.site));
    let causal = u32::from(shape.order == Order::Causal);
    let pair = |low: u32, high: u32| u64::from(low) | u64::from(high) << 32;
    let counts = [shape.batch, shape.heads, head_width, shape.queries, shape.keys].map(|count| count as u64);
    let mut words = vec![read.q, read.k, read.v, read.strides[0] as u64, read.strides[1] as u64];
    words.extend([lengths.map_or(0, |lengths| lengths.of(shape.batch)), seed]);
    words.extend(counts);
    words.extend([pair(scale.to_bits(), share.to_bits()), pair(site, causal)]);
    Argument::Structure(words)
}

impl Cuda {
    fn heads_read(&self, heads: Heads<'_, Cuda>, shape: &AttentionShape) -> Result<Read> {
        let AttentionShape { batch, width, queries, keys, .. } = *shape;
        assert!(width.is_multiple_of(shape.heads), "heads share the width evenly");
        match heads {
            Heads::Packed(packed) => {
                assert_eq!(queries, keys, "a packed buffer has as many queries as keys");
                let packed = self.narrowed(packed)?;
                let q = packed.of(batch * queries * 3 * width);
                let step = (width * VALUE) as Address;
                let strides = [3 * width, 3 * width];
                Ok(Read { q, k: q + step, v: q + 2 * step, strides, _kept: vec![packed] })
            }
            Heads::Split { q, k, v } => {
                let (q, k, v) = (self.narrowed(q)?, self.narrowed(k)?, self.narrowed(v)?);
                Ok(Read {
                    q: q.of(batch * queries * width),
                    k: k.of(batch * keys * width),
                    v: v.of(batch * keys * width),
                    strides: [width, width],
                    _kept: vec![q, k, v],
                })
            }
        }
    }

    pub(super) fn attended(
        &self,
        heads: Heads<'_, Cuda>,
        lengths: Option<&Indices>,
        dropout: Option<Dropout<'_, Cuda>>,
        shape: AttentionShape,
    ) -> Result<(Buffer, Buffer)> {
        let read = self.heads_read(heads, &shape)?;
        let dropout = dropout.filter(|dropout| dropout.share > 0.0);
        let structure = structure(&read, lengths, dropout, &shape);
        let rows = shape.batch * shape.heads * shape.queries;
        let out = self.activations(shape.batch * shape.queries * shape.width)?;
        let logarithms = self.values(rows)?;
        if let Some(tiled) = tiled(shape.width / shape.heads) {
            let grid = tiled.grid(shape.queries, &shape, 2 * BLOCK_ROWS);
            self.context.launch(tiled.forward, grid, &[structure, out.at().into(), logarithms.at().into()])?;
            return Ok((out, logarithms));
        }
        let scores = self.plain_scores(&structure, &shape)?;
        let arguments = [scores.at().into(), logarithms.at().into(), rows.into(), shape.keys.into()];
        self.context.launch("attention_plain_softmax", Grid::warps(rows), &arguments)?;
        let arguments = [structure, scores.at().into(), out.at().into()];
        self.context.launch("attention_plain_output", Grid::each(out.length()), &arguments)?;
        Ok((out, logarithms))
    }

    fn plain_scores(&self, structure: &Argument, shape: &AttentionShape) -> Result<Buffer> {
        let count = shape.batch * shape.heads * shape.queries * shape.keys;
        let scores = self.values(count)?;
        let arguments = [structure.clone(), scores.at().into()];
        self.context.launch("attention_plain_scores", Grid::each(count), &arguments)?;
        Ok(scores)
    }

    pub(super) fn attended_gradient(
        &self,
        (dy, saved): (&Buffer, (&Buffer, &Buffer)),
        heads: Heads<'_, Cuda>,
        lengths: Option<&Indices>,
        dropout: Option<Dropout<'_, Cuda>>,
        shape: AttentionShape,
    ) -> Result<HeadsGradient<Buffer>> {
        let AttentionShape { batch, width, queries, keys, .. } = shape;
        let packed = matches!(heads, Heads::Packed(_));
        let read = self.heads_read(heads, &shape)?;
        let dropout = dropout.filter(|dropout| dropout.share > 0.0);
        let structure = structure(&read, lengths, dropout, &shape);
        let rows = batch * shape.heads * queries;
        let (dy, out) = (self.narrowed(dy)?, self.narrowed(saved.0)?);
        let delta = self.values(rows)?;
        let mut arguments: Vec<Argument> =
            vec![dy.of(batch * queries * width).into(), out.of(dy.length()).into(), delta.at().into()];
        arguments.extend([batch, shape.heads, width / shape.heads, queries].map(Argument::from));
        self.context.launch("attention_delta", Grid::warps(rows), &arguments)?;

        let (gradient, [dq, dk, dv], strides) = if packed {
            let gradient = self.activations(batch * queries * 3 * width)?;
            let (at, step) = (gradient.at(), (width * VALUE) as Address);
            (HeadsGradient::Packed(gradient), [at, at + step, at + 2 * step], [3 * width, 3 * width])
        } else {
            let q = self.activations(batch * queries * width)?;
            let (k, v) = (self.activations(batch * keys * width)?, self.activations(batch * keys * width)?);
            let places = [q.at(), k.at(), v.at()];
            (HeadsGradient::Split { q, k, v }, places, [width, width])
        };
        let words = vec![dy.at(), saved.1.of(rows), delta.at(), dq, dk, dv, strides[0] as u64, strides[1] as u64];
        self.attention_slopes(structure, Argument::Structure(words), &shape)?;
        Ok(gradient)
    }

    fn attention_slopes(&self, read: Argument, written: Argument, shape: &AttentionShape) -> Result<()> {
        if let Some(tiled) = tiled(shape.width / shape.heads) {
            let grid = tiled.grid(shape.queries, shape, 2 * BLOCK_ROWS);
            self.context.launch(tiled.queries, grid, &[read.clone(), written.clone()])?;
            let mut grid = tiled.grid(shape.keys, shape, 2 * BLOCK_ROWS + 2 * tiled.tile);
            grid.shared += 2 * tiled.tile * 4;
            return self.context.launch(tiled.keys, grid, &[read, written]);
        }
        let scores = self.plain_scores(&read, shape)?;
        let probabilities = self.values(scores.length())?;
        let mut arguments = vec![read, written, scores.at().into(), probabilities.at().into()];
        self.context.launch("attention_plain_slopes", Grid::each(scores.length()), &arguments)?;
        let count = shape.batch * shape.keys * shape.width;
        self.context.launch("attention_plain_keys_gradient", Grid::each(count), &arguments)?;
        arguments.pop();
        let count = shape.batch * shape.queries * shape.width;
        self.context.launch("attention_plain_queries_gradient", Grid::each(count), &arguments)
    }
}
