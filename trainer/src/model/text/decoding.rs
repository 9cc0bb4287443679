//! A decoder that reads one token after another and keeps the keys and values of those before.

use super::{Memory, Run, TextLayer, TextStack};
use crate::engine::{AppendShape, AttentionShape, Device, Order, Result, RowsShape, TokensShape};
use crate::model::Pass;
use crate::tape::{Asking, Linear, Parameter, Tape, Var};

/// What a decoder keeps of the tokens that it has read, and of the samples that it writes about.
///
/// Rows are ordered by sample, and each sample has equally many, so that a sample's rows read its keys and values in
/// one attention and nothing is copied for each row.
pub struct Cache<D: Device> {
    /// Keys and values of each layer, `[rows, tokens, width]`; none before the first token.
    own: Vec<[D::Buffer; 2]>,
    /// Keys and values of each layer's cross-attention, `[samples, keys, width]`.
    cross: Vec<[D::Buffer; 2]>,
    /// Keys of each sample that count; all where there are none.
    lengths: Option<D::Indices>,
    keys: usize,
    samples: usize,
    tokens: usize,
}

impl<D: Device> Cache<D> {
    /// Number of samples.
    pub fn samples(&self) -> usize {
        self.samples
    }

    /// Tokens of each row.
    pub fn tokens(&self) -> usize {
        self.tokens
    }

    /// Forgets all samples but these. Rows are not touched: the next call of [`TextStack::advance`] says which go on.
    ///
    /// # Errors
    /// As the device.
    pub fn keep(&mut self, device: &D, samples: &[u32], width: usize) -> Result<()> {
        let rows = device.upload_indices(samples)?;
        for [keys, values] in &mut self.cross {
            *keys = device.gather_rows(keys, &rows, self.keys * width)?;
            *values = device.gather_rows(values, &rows, self.keys * width)?;
        }
        if let Some(lengths) = &mut self.lengths {
            *lengths = device.gather_indices(lengths, &rows, 1)?;
        }
        self.samples = samples.len();
        Ok(())
    }
}

/// Rows that go on.
pub struct Continued<'a> {
    /// For each new row the old row that it continues; nothing at the first call, when rows are samples.
    pub parents: Option<&'a [u32]>,
    /// Token ids, `[rows, tokens]`.
    pub ids: &'a [u32],
    /// Tokens that each row gets: one, or, at the first call, any number.
    pub tokens: usize,
}

impl TextStack {
    /// Reads the samples that texts are about. One row of `memory` is one sample; its `rows` are not used.
    ///
    /// # Errors
    /// As the device.
    pub fn read<D: Device>(&self, tape: &mut Tape<'_, D>, memory: &Memory<'_, D>) -> Result<Cache<D>> {
        let mut cross = Vec::with_capacity(self.layers.len());
        for layer in &self.layers {
            let [key, value] = layer.cross.memory.expect("cross-attention has keys and values of its own");
            let rows = memory.shape.rows().rows;
            let keys = tape.linear(memory.states, &key, rows)?.buffer;
            cross.push([keys, tape.linear(memory.states, &value, rows)?.buffer]);
        }
        Ok(Cache {
            own: Vec::with_capacity(self.layers.len()),
            cross,
            lengths: memory.lengths.cloned(),
            keys: memory.shape.tokens,
            samples: memory.shape.batch,
            tokens: 0,
        })
    }

    /// Gives each row its next tokens: the state of each row's last token, `[rows, width]`.
    ///
    /// Source: BLIP `models/med.py`, `BertModel.forward` with `past_key_values`.
    ///
    /// # Errors
    /// As the device.
    pub fn advance<D: Device>(
        &self,
        tape: &mut Tape<'_, D>,
        cache: &mut Cache<D>,
        continued: &Continued<'_>,
    ) -> Result<Var<D>> {
        let device = tape.device();
        let (width, tokens) = (self.config.width, continued.tokens);
        let batch = continued.ids.len() / tokens;
        let shape = TokensShape { batch, tokens, width };
        let rows = shape.rows().rows;
        let ids = device.upload_indices(continued.ids)?;
        let parents = continued.parents.map(|parents| device.upload_indices(parents)).transpose()?;

        let all = self.embeddings.positions;
        let positions = Parameter { start: all.start + cache.tokens * width, length: tokens * width };
        let x = tape.embedding(&ids, [self.embeddings.words, positions], shape)?;
        let mut x = tape.norm(&x, &self.embeddings.norm, rows)?;
        for (number, layer) in self.layers.iter().enumerate() {
            let order = if parents.is_some() { Order::Free } else { Order::Causal };
            let run = Run { shape, heads: self.config.heads, order, number, pass: Pass::still() };
            x = layer.advance(tape, &x, (cache, parents.as_ref()), run)?;
        }
        cache.tokens += tokens;
        if tokens == 1 {
            return Ok(x);
        }
        let last: Vec<u32> = (1..=batch).map(|row| (row * tokens - 1) as u32).collect();
        tape.gather_rows(&x, &device.upload_indices(&last)?, RowsShape { rows, width })
    }
}

impl TextLayer {
    fn advance<'p, D: Device>(
        &self,
        tape: &mut Tape<'p, D>,
        x: &Var<D>,
        (cache, parents): (&mut Cache<D>, Option<&D::Indices>),
        run: Run<'p, D>,
    ) -> Result<Var<D>> {
        let Run { shape, heads, order, number, .. } = run;
        let TokensShape { batch, tokens, width } = shape;
        let rows = shape.rows().rows;
        let [query, key, value] = [0, 1, 2].map(|part| third(&self.own.query, part));
        let q = tape.linear(x, &query, rows)?;
        let mut k = tape.linear(x, &key, rows)?;
        let mut v = tape.linear(x, &value, rows)?;
        match parents {
            None => cache.own.push([k.buffer.clone(), v.buffer.clone()]),
            Some(parents) => {
                let append = AppendShape { rows: batch, before: cache.tokens, added: tokens, width };
                let device = tape.device();
                let [keys, values] = &mut cache.own[number];
                *keys = device.append_tokens(keys, &k.buffer, parents, append)?;
                *values = device.append_tokens(values, &v.buffer, parents, append)?;
                (k, v) = (tape.constant(keys.clone()), tape.constant(values.clone()));
            }
        }
        let attention = AttentionShape { batch, heads, width, queries: tokens, keys: cache.tokens + tokens, order };
        let mixed = tape.attention(Asking::Split([&q, &k, &v]), None, None, attention)?;
        let x = self.own.finish(tape, [&mixed, x], rows, (run, 1))?;

        let q = tape.linear(&x, &self.cross.query, rows)?;
        let [k, v] = cache.cross[number].clone().map(|buffer| tape.constant(buffer));
        // A sample's rows ask as if they were the tokens of one sequence.
        let attention = AttentionShape {
            batch: cache.samples,
            heads,
            width,
            queries: rows / cache.samples,
            keys: cache.keys,
            order: Order::Free,
        };
        let mixed = tape.attention(Asking::Split([&q, &k, &v]), cache.lengths.as_ref(), None, attention)?;
        let x = self.cross.finish(tape, [&mixed, &x], rows, (run, 3))?;

        let narrow = tape.feed_forward(&x, [&self.wide, &self.narrow], rows)?;
        let sum = tape.add(&narrow, &x)?;
        tape.norm(&sum, &self.norm, rows)
    }
}

/// One of the three that stand one after the other.
fn third(stacked: &Linear, part: usize) -> Linear {
    let outputs = stacked.outputs / 3;
    let of = |parameter: Parameter| {
        let length = parameter.length / 3;
        Parameter { start: parameter.start + part * length, length }
    };
    Linear { weight: of(stacked.weight), bias: of(stacked.bias), inputs: stacked.inputs, outputs }
}
