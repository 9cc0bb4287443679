//! The text stacks: BERT with cross-attention, as encoder or as decoder.

mod decoding;

pub use decoding::{Cache, Continued};

use blip::config::TextConfig;

use super::{
    Attention, Pass,
    layout::{Builder, Initial},
};
use crate::engine::{AttentionShape, Device, Order, Result, RowsShape, TokensShape};
use crate::tape::{Asking, Linear, Norm, Parameter, Tape, Var};

/// Word and position tables with their norm.
#[derive(Clone, Copy, Debug)]
pub struct Embeddings {
    words: Parameter,
    positions: Parameter,
    norm: Norm,
}

/// One layer of a [`TextStack`].
#[derive(Clone, Copy, Debug)]
pub struct TextLayer {
    own: Attention,
    cross: Attention,
    wide: Linear,
    narrow: Linear,
    norm: Norm,
}

/// One text model.
#[derive(Clone, Debug)]
pub struct TextStack {
    /// Its sizes.
    pub config: TextConfig,
    embeddings: Embeddings,
    layers: Vec<TextLayer>,
}

/// From a decoder's state to logits; its output matrix is the word table.
#[derive(Clone, Copy, Debug)]
pub struct LanguageHead {
    transform: Linear,
    norm: Norm,
    output: Linear,
}

/// Token ids of a batch.
pub struct Texts<'a, D: Device> {
    /// `[batch, tokens]`.
    pub ids: &'a D::Indices,
    /// Tokens of each text that count.
    pub lengths: &'a D::Indices,
    /// Number of texts.
    pub batch: usize,
    /// Tokens of each, padding included.
    pub tokens: usize,
}

/// What cross-attention reads.
pub struct Memory<'a, D: Device> {
    /// `[samples, tokens, width]`.
    pub states: &'a Var<D>,
    /// Their shape.
    pub shape: TokensShape,
    /// Which sample each text reads; the one of its own number where there is none.
    pub rows: Option<&'a D::Indices>,
    /// Tokens that count, for each text; all where there are none.
    pub lengths: Option<&'a D::Indices>,
}

impl TextStack {
    pub(super) fn build(b: &mut Builder, part: &str, config: &TextConfig) -> TextStack {
        let name = |name: &str| format!("{part}.embeddings.{name}");
        let embeddings = Embeddings {
            words: b.add(&name("words"), &[config.vocabulary_size, config.width], Initial::Normal),
            positions: b.add(&name("positions"), &[config.positions, config.width], Initial::Normal),
            norm: b.norm(&name("norm"), config.width, config.norm_eps),
        };
        let layers = (0..config.layers).map(|number| TextLayer::build(b, part, number, config)).collect();
        TextStack { config: config.clone(), embeddings, layers }
    }

    /// A decoder that shares all but self-attention with this encoder.
    pub(super) fn sharing(&self, b: &mut Builder, config: &TextConfig) -> TextStack {
        let own = |b: &mut Builder, number| Attention::own(b, &format!("decoder.layers.{number}"), config);
        let layers = self.layers.iter().enumerate().map(|(number, layer)| TextLayer { own: own(b, number), ..*layer });
        let layers = layers.collect();
        TextStack { config: config.clone(), embeddings: self.embeddings, layers }
    }

    /// Ids `[batch, tokens]` -> states `[batch, tokens, width]`. Without a memory there is no cross-attention.
    ///
    /// Source: BLIP `models/med.py`, `BertModel.forward`.
    ///
    /// # Errors
    /// As the device.
    pub fn forward<'p, D: Device>(
        &self,
        tape: &mut Tape<'p, D>,
        texts: &Texts<'_, D>,
        memory: Option<&Memory<'_, D>>,
        order: Order,
        pass: Pass<'p, D>,
    ) -> Result<Var<D>> {
        let TextConfig { width, heads, .. } = self.config;
        let shape = TokensShape { batch: texts.batch, tokens: texts.tokens, width };
        let rows = shape.rows().rows;
        let embeddings = [self.embeddings.words, self.embeddings.positions];
        let x = tape.embedding(texts.ids, embeddings, shape)?;
        let mut x = tape.norm(&x, &self.embeddings.norm, rows)?;
        if let Some(drop) = pass.drop(pass.shares.hidden, EMBEDDINGS, 0) {
            x = tape.dropout(&x, drop, 1)?;
        }
        for (number, &layer) in self.layers.iter().enumerate() {
            let run = Run { shape, heads, order, number, pass };
            if number + pass.checkpointed < self.layers.len() {
                x = layer.forward(tape, &x, texts.lengths, memory, run)?;
                continue;
            }
            let lengths = texts.lengths.clone();
            let kept = memory.map(|memory| (memory.shape, memory.rows.cloned(), memory.lengths.cloned()));
            let mut inputs = vec![&x];
            inputs.extend(memory.map(|memory| memory.states));
            x = tape.checkpoint(&inputs, move |tape, inputs| {
                let memory = kept.as_ref().map(|(shape, rows, lengths)| Memory {
                    states: &inputs[1],
                    shape: *shape,
                    rows: rows.as_ref(),
                    lengths: lengths.as_ref(),
                });
                layer.forward(tape, &inputs[0], &lengths, memory.as_ref(), run)
            })?;
        }
        Ok(x)
    }

    /// Shape of what [`TextStack::forward`] gives.
    pub fn shape(&self, batch: usize, tokens: usize) -> TokensShape {
        TokensShape { batch, tokens, width: self.config.width }
    }
}

/// The number that the embeddings' dropout has among layers.
const EMBEDDINGS: usize = 0xFFF;

/// What a layer's pass needs besides its input.
struct Run<'p, D: Device> {
    shape: TokensShape,
    heads: usize,
    order: Order,
    number: usize,
    pass: Pass<'p, D>,
}

impl<D: Device> Clone for Run<'_, D> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<D: Device> Copy for Run<'_, D> {}

impl Attention {
    fn own(b: &mut Builder, layer: &str, config: &TextConfig) -> Attention {
        let width = config.width;
        let name = |part: &str| format!("{layer}.self.{part}");
        Attention {
            query: b.stacked(&["query", "key", "value"].map(name), [width, width]),
            memory: None,
            output: b.linear(&name("output"), [width, width], Initial::Normal),
            norm: b.norm(&name("norm"), width, config.norm_eps),
        }
    }

    fn cross(b: &mut Builder, layer: &str, config: &TextConfig) -> Attention {
        let (width, memory) = (config.width, config.cross_width);
        let name = |part: &str| format!("{layer}.cross.{part}");
        let query = b.linear(&name("query"), [width, width], Initial::Normal);
        let memory = ["key", "value"].map(|part| b.linear(&name(part), [width, memory], Initial::Normal));
        let output = b.linear(&name("output"), [width, width], Initial::Normal);
        Attention { query, memory: Some(memory), output, norm: b.norm(&name("norm"), width, config.norm_eps) }
    }
}

impl TextLayer {
    fn build(b: &mut Builder, part: &str, number: usize, config: &TextConfig) -> TextLayer {
        let layer = format!("{part}.layers.{number}");
        let TextConfig { width, feed_forward, norm_eps, .. } = *config;
        TextLayer {
            own: Attention::own(b, &layer, config),
            cross: Attention::cross(b, &layer, config),
            wide: b.linear(&format!("{layer}.intermediate"), [feed_forward, width], Initial::Normal),
            narrow: b.linear(&format!("{layer}.output"), [width, feed_forward], Initial::Normal),
            norm: b.norm(&format!("{layer}.norm"), width, norm_eps),
        }
    }

    /// Source: BLIP `models/med.py`, `BertLayer.forward`.
    fn forward<'p, D: Device>(
        &self,
        tape: &mut Tape<'p, D>,
        x: &Var<D>,
        lengths: &D::Indices,
        memory: Option<&Memory<'_, D>>,
        run: Run<'p, D>,
    ) -> Result<Var<D>> {
        let Run { shape, heads, order, number, pass } = run;
        let TokensShape { batch, tokens, width } = shape;
        let rows = shape.rows().rows;
        let attention = AttentionShape { batch, heads, width, queries: tokens, keys: tokens, order };
        let qkv = tape.linear(x, &self.own.query, rows)?;
        let drop = pass.drop(pass.shares.attention, number, 0);
        let mixed = tape.attention(Asking::Packed(&qkv), Some(lengths), drop, attention)?;
        let mut x = self.own.finish(tape, [&mixed, x], rows, (run, 1))?;
        if let Some(memory) = memory {
            x = self.cross_attention(tape, &x, memory, run)?;
        }
        let mut narrow = tape.feed_forward(&x, [&self.wide, &self.narrow], rows)?;
        if let Some(drop) = pass.drop(pass.shares.hidden, number, 4) {
            narrow = tape.dropout(&narrow, drop, 1)?;
        }
        let sum = tape.add(&narrow, &x)?;
        tape.norm(&sum, &self.norm, rows)
    }

    fn cross_attention<'p, D: Device>(
        &self,
        tape: &mut Tape<'p, D>,
        x: &Var<D>,
        memory: &Memory<'_, D>,
        run: Run<'p, D>,
    ) -> Result<Var<D>> {
        let Run { shape, heads, number, pass, .. } = run;
        let TokensShape { batch, tokens, width } = shape;
        let keys = memory.shape.tokens;
        let [key, value] = self.cross.memory.expect("cross-attention has keys and values of its own");
        let mut read = |linear: &Linear| {
            let all = tape.linear(memory.states, linear, memory.shape.rows().rows)?;
            match memory.rows {
                // Projected once a sample, then handed to every text that reads it.
                Some(rows) => tape.gather_rows(&all, rows, RowsShape { rows: memory.shape.batch, width: keys * width }),
                None => Ok(all),
            }
        };
        let (k, v) = (read(&key)?, read(&value)?);
        let q = tape.linear(x, &self.cross.query, shape.rows().rows)?;
        let attention = AttentionShape { batch, heads, width, queries: tokens, keys, order: Order::Free };
        let drop = pass.drop(pass.shares.attention, number, 2);
        let mixed = tape.attention(Asking::Split([&q, &k, &v]), memory.lengths, drop, attention)?;
        self.cross.finish(tape, [&mixed, x], shape.rows().rows, (run, 3))
    }
}

impl Attention {
    /// Source: BLIP `models/med.py`, `BertSelfOutput.forward`.
    fn finish<'p, D: Device>(
        &self,
        tape: &mut Tape<'p, D>,
        [mixed, x]: [&Var<D>; 2],
        rows: usize,
        (run, place): (Run<'p, D>, u32),
    ) -> Result<Var<D>> {
        let mut output = tape.linear(mixed, &self.output, rows)?;
        if let Some(drop) = run.pass.drop(run.pass.shares.hidden, run.number, place) {
            output = tape.dropout(&output, drop, 1)?;
        }
        let sum = tape.add(&output, x)?;
        tape.norm(&sum, &self.norm, rows)
    }
}

impl LanguageHead {
    pub(super) fn build(b: &mut Builder, stack: &TextStack) -> LanguageHead {
        let TextConfig { width, vocabulary_size, norm_eps, .. } = stack.config;
        let transform = b.linear("decoder.head.transform", [width, width], Initial::Normal);
        let norm = b.norm("decoder.head.norm", width, norm_eps);
        let bias = b.add("decoder.head.bias", &[vocabulary_size], Initial::Constant(0.0));
        let output = Linear { weight: stack.embeddings.words, bias, inputs: width, outputs: vocabulary_size };
        LanguageHead { transform, norm, output }
    }

    /// States `[rows, width]` -> logits `[rows, vocabulary]`.
    ///
    /// Source: BLIP `models/med.py`, `BertLMPredictionHead.forward`.
    ///
    /// # Errors
    /// As the device.
    pub fn forward<D: Device>(&self, tape: &mut Tape<'_, D>, states: &Var<D>, rows: usize) -> Result<Var<D>> {
        let x = tape.linear_gelu(states, &self.transform, rows)?;
        let x = tape.norm(&x, &self.norm, rows)?;
        tape.logits(&x, &self.output, rows)
    }
}
