//! Every operation of a device, at awkward sizes and masks.

use edgeblip_trainer::engine::{
    AppendShape, AttentionShape, Device, Dropout, GradientSlice, Heads, HeadsGradient, LinearShape, Order,
    PatchesShape, Result, RowsShape, TokensShape,
};

use crate::losses::{cross_entropies, itc, long_vectors, negatives};
use crate::trial::Precision::{Bf16, Exact, F32};
use crate::trial::{Trial, slice};

type Run<D> = Box<dyn Fn(&mut Trial<'_, D>) -> Result<()>>;

/// A trial by name.
pub struct Case<D: Device> {
    /// What it tries, and at which size.
    pub name: String,
    /// Does it.
    pub run: Run<D>,
}

/// All cases. `large`: also sizes of the models that are trained, which only a real device gets through in a moment.
pub fn all<D: Device>(large: Large) -> Vec<Case<D>> {
    let mut cases: Vec<Case<D>> = Vec::new();
    let mut add = |name: String, run: Run<D>| cases.push(Case { name, run });
    let mut linears = vec![[1, 8, 8], [5, 24, 40], [33, 7, 2], [17, 64, 30], [70, 96, 130]];
    if large == Large::Included {
        linears.extend([[6304, 768, 768], [6304, 768, 3072], [6304, 3072, 768], [960, 768, 30524], [64, 768, 2]]);
    }
    for [rows, inputs, outputs] in linears {
        let shape = LinearShape { rows, inputs, outputs };
        add(format!("linear {shape:?}"), Box::new(move |trial| linear(trial, shape)));
    }
    let mut rows =
        vec![[1, 8], [5, 100], [37, 192], [9, 384], [3, 768], [600, 40], [5, 1024], [4, 1032], [2, 2048], [3, 7]];
    if large == Large::Included {
        rows.extend([[6304, 768], [960, 1024], [577, 4096]]);
    }
    for [rows, width] in rows {
        let shape = RowsShape { rows, width };
        add(format!("rows {shape:?}"), Box::new(move |trial| rows_of(trial, shape)));
    }
    for attention in attentions(large) {
        add(format!("attention {attention:?}"), Box::new(move |trial| attend(trial, attention)));
    }
    for [batch, tokens, width] in [[2, 5, 8], [9, 40, 24], [1, 2, 7], [4, 3, 300]] {
        let shape = TokensShape { batch, tokens, width };
        add(format!("sequences {shape:?}"), Box::new(move |trial| sequences(trial, shape)));
    }
    for [batch, side, patch] in [[2, 8, 4], [1, 48, 16], [3, 9, 3]] {
        let shape = PatchesShape { batch, side, patch };
        add(format!("patches {shape:?}"), Box::new(move |trial| patches(trial, shape)));
    }
    for [rows, inputs, outputs] in [[4, 16, 4], [7, 256, 100], [3, 30, 517]] {
        let shape = LinearShape { rows, inputs, outputs };
        add(format!("itc {shape:?}"), Box::new(move |trial| itc(trial, shape)));
        add(format!("negatives {shape:?}"), Box::new(move |trial| negatives(trial, shape)));
    }
    for [rows, width] in [[3, 2], [10, 101], [5, 1000], [2, 30524]] {
        let shape = RowsShape { rows, width };
        add(format!("cross-entropy {shape:?}"), Box::new(move |trial| cross_entropies(trial, shape)));
    }
    for count in [1, 1000, 4099] {
        add(format!("long vectors of {count}"), Box::new(move |trial| long_vectors(trial, count)));
    }
    cases
}

/// Whether sizes of real models are among the cases.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Large {
    /// They are.
    Included,
    /// They are not.
    Left,
}

fn linear<D: Device>(trial: &mut Trial<'_, D>, shape: LinearShape) -> Result<()> {
    let LinearShape { rows, inputs, outputs } = shape;
    let device = trial.device;
    let (x, dy, before) = (trial.buffer(rows * inputs)?, trial.buffer(rows * outputs)?, trial.buffer(rows * inputs)?);
    let parameters = trial.flat(8 + inputs * outputs + 8 + outputs)?;
    let mut gradients = trial.flat(8 + inputs * outputs + 3 + outputs)?;
    let weight = slice(&parameters, 8, inputs * outputs);
    let bias = slice(&parameters, 16 + inputs * outputs, outputs);
    let odd_bias = slice(&parameters, 15 + inputs * outputs, outputs);
    trial.keep("with bias", &device.linear(&x, weight, Some(bias), shape)?, Bf16)?;
    trial.keep("with a bias at an odd place", &device.linear(&x, weight, Some(odd_bias), shape)?, Bf16)?;
    trial.keep("without", &device.linear(&x, weight, None, shape)?, Bf16)?;
    trial.keep("logits", &device.linear_logits(&x, weight, Some(bias), shape)?, F32)?;
    let (out, into_gelu) = device.linear_gelu(&x, weight, bias, shape)?;
    trial.keep("gelu", &out, Bf16)?;
    trial.keep("before gelu", &into_gelu, Bf16)?;
    trial.keep("input gradient", &device.linear_input_gradient(&dy, weight, shape)?, Bf16)?;
    trial.keep("through gelu", &device.linear_gelu_input_gradient(&dy, weight, &before, shape)?, Bf16)?;
    let slope = device.gelu_gradient(&x, &before)?;
    trial.keep("gelu gradient", &slope, Bf16)?;
    device.linear_weight_gradient(&dy, &x, GradientSlice { flat: &mut gradients, start: 8 }, shape)?;
    let into = GradientSlice { flat: &mut gradients, start: 11 + inputs * outputs };
    device.bias_gradient(&dy, into, RowsShape { rows, width: outputs })?;
    trial.keep_flat("parameters' gradients", &gradients, F32)
}

fn rows_of<D: Device>(trial: &mut Trial<'_, D>, shape: RowsShape) -> Result<()> {
    let RowsShape { rows, width } = shape;
    let device = trial.device;
    let (x, dy) = (trial.buffer(rows * width)?, trial.buffer(rows * width)?);
    let parameters = trial.flat(3 + 2 * width)?;
    let mut gradients = trial.flat(5 + 2 * width)?;
    let gain = slice(&parameters, 3, width);
    let (out, statistics) = device.layer_norm(&x, gain, slice(&parameters, 3 + width, width), shape, 1e-6)?;
    trial.keep("layer norm", &out, Bf16)?;
    let into = GradientSlice { flat: &mut gradients, start: 1 };
    let dx = device.layer_norm_gradient(&dy, &x, &statistics, gain, into, 3 + width, shape)?;
    trial.keep("layer norm gradient", &dx, Bf16)?;
    trial.keep_flat("gain and bias", &gradients, F32)?;
    trial.keep("sum", &device.add(&out, &dy)?, Bf16)?;
    let kept = out.clone();
    let sum = device.accumulate(out, &dx)?;
    trial.keep("a shared sum", &device.accumulate(sum, &dy)?, Bf16)?;
    trial.keep("what was shared", &kept, Bf16)?;
    let seed = trial.seed()?;
    for (name, group) in [("dropout", 1), ("dropout of rows", width)] {
        let dropout = Dropout { share: 0.3, seed: &seed, site: 7 };
        trial.keep(name, &device.dropout(&x, dropout, group)?, F32)?;
        trial.keep(name, &device.dropout(&kept, dropout, group)?, Bf16)?;
    }
    let read = trial.indices(2 * rows + 3, rows as u64)?;
    trial.keep("gathered", &device.gather_rows(&x, &read, width)?, Exact)?;
    trial.keep("gathered activations", &device.gather_rows(&kept, &read, width)?, Bf16)?;
    let grown = AppendShape { rows: 2 * rows + 3, before: 1, added: 1, width };
    let slope = trial.buffer((2 * rows + 3) * width)?;
    trial.keep("appended", &device.append_tokens(&x, &slope, &read, grown)?, Exact)?;
    trial.keep("gather gradient", &device.gather_rows_gradient(&slope, &read, shape)?, F32)?;
    let slope = trial.activation((2 * rows + 3) * width)?;
    trial.keep("appended activations", &device.append_tokens(&kept, &slope, &read, grown)?, Bf16)?;
    trial.keep("activations' gather gradient", &device.gather_rows_gradient(&slope, &read, shape)?, Bf16)?;
    let names = trial.indices(rows * width, 1000)?;
    trial.keep_indices("gathered indices", &device.gather_indices(&names, &read, width)?)?;
    trial.keep_indices("joined indices", &device.concat_indices(&[&read, &names, &seed])?)
}

/// How queries, keys and values are given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Given {
    Packed,
    Split,
}

#[derive(Clone, Copy, Debug)]
struct Attention {
    shape: AttentionShape,
    given: Given,
    lengths: bool,
    share: f32,
}

fn attentions(large: Large) -> Vec<Attention> {
    use Given::{Packed, Split};
    let shape = |batch, heads, head_width: usize, queries, keys, order| AttentionShape {
        batch,
        heads,
        width: heads * head_width,
        queries,
        keys,
        order,
    };
    let attention = |shape, given, lengths, share| Attention { shape, given, lengths, share };
    let mut all = vec![
        attention(shape(1, 1, 16, 1, 1, Order::Free), Packed, false, 0.0),
        attention(shape(2, 2, 64, 20, 20, Order::Causal), Packed, true, 0.1),
        attention(shape(1, 2, 64, 130, 130, Order::Free), Packed, false, 0.0),
        attention(shape(1, 1, 64, 130, 130, Order::Causal), Packed, false, 0.0),
        attention(shape(2, 1, 32, 7, 70, Order::Free), Split, true, 0.2),
        attention(shape(1, 3, 24, 65, 5, Order::Free), Split, false, 0.0),
        attention(shape(1, 1, 128, 70, 70, Order::Causal), Packed, true, 0.1),
        attention(shape(1, 1, 80, 3, 129, Order::Free), Split, true, 0.0),
        attention(shape(2, 2, 7, 9, 13, Order::Free), Split, true, 0.2),
        attention(shape(1, 2, 136, 5, 5, Order::Causal), Packed, false, 0.0),
    ];
    if large == Large::Included {
        all.push(attention(shape(8, 12, 64, 197, 197, Order::Free), Packed, false, 0.0));
        all.push(attention(shape(2, 12, 64, 577, 577, Order::Free), Packed, false, 0.0));
        all.push(attention(shape(32, 12, 64, 30, 197, Order::Free), Split, false, 0.1));
        all.push(attention(shape(32, 12, 64, 30, 30, Order::Causal), Packed, true, 0.1));
    }
    all
}

fn attend<D: Device>(trial: &mut Trial<'_, D>, attention: Attention) -> Result<()> {
    let device = trial.device;
    let shape = attention.shape;
    let (asking, read) = (shape.batch * shape.queries * shape.width, shape.batch * shape.keys * shape.width);
    let seed = trial.seed()?;
    let dropout = Dropout { share: attention.share, seed: &seed, site: 3 };
    let dropout = (attention.share > 0.0).then_some(dropout);
    let mut lengths: Vec<u32> =
        trial.whole(shape.batch, shape.keys as u64).into_iter().map(|length| length + 1).collect();
    lengths[0] = shape.keys.div_ceil(2) as u32;
    let lengths = device.upload_indices(&lengths)?;
    let lengths = attention.lengths.then_some(&lengths);
    let packed = trial.buffer(3 * asking)?;
    let split = [trial.buffer(asking)?, trial.buffer(read)?, trial.buffer(read)?];
    let heads = || match attention.given {
        Given::Packed => Heads::Packed(&packed),
        Given::Split => Heads::Split { q: &split[0], k: &split[1], v: &split[2] },
    };
    let (out, logarithms) = device.attention(heads(), lengths, dropout, shape)?;
    trial.keep("attention", &out, Bf16)?;
    trial.keep("logarithms", &logarithms, F32)?;
    let dy = trial.buffer(asking)?;
    match device.attention_gradient(&dy, heads(), (&out, &logarithms), lengths, dropout, shape)? {
        HeadsGradient::Packed(gradient) => trial.keep("gradient", &gradient, Bf16),
        HeadsGradient::Split { q, k, v } => {
            trial.keep("queries' gradient", &q, Bf16)?;
            trial.keep("keys' gradient", &k, Bf16)?;
            trial.keep("values' gradient", &v, Bf16)
        }
    }
}

fn sequences<D: Device>(trial: &mut Trial<'_, D>, shape: TokensShape) -> Result<()> {
    let TokensShape { batch, tokens, width } = shape;
    let device = trial.device;
    let words = 11;
    let parameters = trial.flat(5 + (words + tokens) * width)?;
    let mut gradients = trial.flat(5 + (words + tokens) * width)?;
    let ids = trial.indices(batch * tokens, words as u64)?;
    let positions = slice(&parameters, 5 + words * width, tokens * width);
    let embedded = device.embedding(&ids, slice(&parameters, 5, words * width), positions, shape)?;
    trial.keep("embedding", &embedded, Bf16)?;
    let dy = trial.buffer(shape.length())?;
    device.embedding_gradient(&dy, &ids, &mut gradients, [5, 5 + words * width], shape)?;
    trial.keep_flat("embedding gradient", &gradients, F32)?;
    let patches = trial.buffer(batch * (tokens - 1) * width)?;
    let class = slice(&parameters, 5, width);
    trial.keep("picture tokens", &device.vision_tokens(&patches, class, positions, shape)?, Bf16)?;
    let slope = device.vision_tokens_gradient(&dy, &mut gradients, [5, 5 + words * width], shape)?;
    trial.keep("patches' gradient", &slope, Exact)?;
    trial.keep_flat("picture tokens' gradient", &gradients, F32)?;
    let first = device.first_token(&embedded, shape)?;
    trial.keep("first token", &first, Bf16)?;
    trial.keep("first token's gradient", &device.first_token_gradient(&first, shape)?, Bf16)
}

fn patches<D: Device>(trial: &mut Trial<'_, D>, shape: PatchesShape) -> Result<()> {
    let pixels = trial.buffer(shape.batch * 3 * shape.side * shape.side)?;
    trial.keep("patches", &trial.device.patches(&pixels, shape)?, Exact)
}
