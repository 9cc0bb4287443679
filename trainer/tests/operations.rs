//! Every operation of the CPU engine, forward and backward, against PyTorch: `goldens/operations.safetensors`, made by
//! `reference/operations.py`. Operations that the goldens have and the engine has not as such are made of those it has.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use edgeblip_trainer::engine::cpu::{Cpu, CpuBuffer, CpuFlat};
use edgeblip_trainer::engine::{
    AdamW, AdamWState, AttentionShape, Device, GradientSlice, Heads, HeadsGradient, LinearShape, Order, PatchesShape,
    Result, RowsShape, Slice, TokensShape, scalars,
};
use safetensors::SafeTensors;
use serde_json::Value;

/// Largest error, of the largest value of a tensor.
const TOLERANCE: f32 = 1e-5;
/// Taken as the largest value of a tensor of zeros, such as a softmax's gradient over one key.
const LARGEST_OF_ZEROS: f32 = 0.1;
/// As [`TOLERANCE`] for AdamW's second moments: `1 - 0.999` in 32 bits is 1.3e-5 off.
const SECOND_MOMENT_TOLERANCE: f32 = 2e-5;

#[test]
fn operations_give_what_pytorch_gives() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens");
    let arrays = std::fs::read(folder.join("operations.safetensors")).unwrap();
    let arrays = SafeTensors::deserialize(&arrays).unwrap();
    let text = std::fs::read_to_string(folder.join("operations.json")).unwrap();
    let cases: Value = serde_json::from_str(&text).unwrap();
    let cpu = Cpu::new(1).unwrap();
    let cases = cases["cases"].as_array().unwrap();
    assert!(cases.len() >= 45, "{} cases", cases.len());
    for facts in cases {
        let case = Case { facts, arrays: &arrays, cpu: &cpu };
        case.check().unwrap();
    }
}

/// One case of the goldens.
struct Case<'a> {
    facts: &'a Value,
    arrays: &'a SafeTensors<'a>,
    cpu: &'a Cpu,
}

/// What an operation gives, and the gradients of inputs by name.
type Answer = (CpuBuffer<f32>, Vec<(&'static str, Vec<f32>)>);

impl Case<'_> {
    fn check(&self) -> Result<()> {
        let (out, gradients) = match self.facts["operation"].as_str().unwrap() {
            "linear" => self.linear()?,
            "linear_gelu" => self.linear_gelu()?,
            "gelu" => self.gelu()?,
            "add" => self.add()?,
            "layer_norm" => self.layer_norm()?,
            "attention" if self.has("qkv") => self.packed_attention()?,
            "attention" => self.cross_attention()?,
            "embedding" => self.embedding()?,
            "vision_tokens" => self.vision_tokens()?,
            "patches" => self.patches()?,
            "select_token" => self.select_token()?,
            "gather_rows" => self.gather_rows()?,
            "l2_normalize" => self.l2_normalize()?,
            "similarity" => self.similarity()?,
            "momentum_soft_targets" => self.soft_targets()?,
            "cross_entropy" => self.cross_entropy()?,
            "soft_cross_entropy" => self.soft_cross_entropy()?,
            "adamw" => return self.adamw(),
            "clip_global_norm" => return self.clip(),
            "exponential_average" => self.average()?,
            other => panic!("no test of {other}"),
        };
        self.compare("output", &out, TOLERANCE);
        for (name, gradient) in gradients {
            self.compare(&format!("{name}.gradient"), &gradient, TOLERANCE);
        }
        Ok(())
    }

    fn linear(&self) -> Result<Answer> {
        let (x, dy) = (self.buffer("x"), self.dy());
        let (weight, bias, shape) = (self.flat("weight"), self.flat("bias"), self.linear_shape());
        let out = self.cpu.linear(&x, whole(&weight), Some(whole(&bias)), shape)?;
        Ok((out, self.linear_gradients(&x, &weight, &dy, shape)?))
    }

    fn linear_gelu(&self) -> Result<Answer> {
        let (x, weight, bias, shape) = (self.buffer("x"), self.flat("weight"), self.flat("bias"), self.linear_shape());
        let (out, before) = self.cpu.linear_gelu(&x, whole(&weight), whole(&bias), shape)?;
        let dy = self.cpu.gelu_gradient(&self.dy(), &before)?;
        Ok((out, self.linear_gradients(&x, &weight, &dy, shape)?))
    }

    fn linear_gradients(
        &self,
        x: &CpuBuffer<f32>,
        weight: &CpuFlat<f32>,
        dy: &CpuBuffer<f32>,
        shape: LinearShape,
    ) -> Result<Vec<(&'static str, Vec<f32>)>> {
        let mut into = self.zeros(shape.inputs * shape.outputs);
        self.cpu.linear_weight_gradient(dy, x, all_of(&mut into), shape)?;
        let mut into_bias = self.zeros(shape.outputs);
        let rows = RowsShape { rows: shape.rows, width: shape.outputs };
        self.cpu.bias_gradient(dy, all_of(&mut into_bias), rows)?;
        let dx = self.cpu.linear_input_gradient(dy, whole(weight), shape)?;
        Ok(vec![("x", dx.to_vec()), ("weight", into.values().to_vec()), ("bias", into_bias.values().to_vec())])
    }

    fn gelu(&self) -> Result<Answer> {
        let x = self.buffer("x");
        let (one, zero) = (self.cpu.flat(&[1.0])?, self.cpu.flat(&[0.0])?);
        let shape = LinearShape { rows: x.len(), inputs: 1, outputs: 1 };
        let (out, before) = self.cpu.linear_gelu(&x, whole(&one), whole(&zero), shape)?;
        let dx = self.cpu.linear_gelu_input_gradient(&self.dy(), whole(&one), &before, shape)?;
        Ok((out, vec![("x", dx.to_vec())]))
    }

    fn add(&self) -> Result<Answer> {
        let (a, b) = (self.buffer("a"), self.buffer("b"));
        let out = self.cpu.add(&a, &b)?;
        assert_eq!(self.cpu.accumulate(a, &b)?[..], out[..]);
        Ok((out, vec![]))
    }

    fn layer_norm(&self) -> Result<Answer> {
        let (x, gain, bias, shape) = (self.buffer("x"), self.flat("weight"), self.flat("bias"), self.rows_shape("x"));
        let epsilon = self.number("eps");
        let (out, statistics) = self.cpu.layer_norm(&x, whole(&gain), whole(&bias), shape, epsilon)?;
        let mut into = self.zeros(2 * shape.width);
        let place = all_of(&mut into);
        let dx = self.cpu.layer_norm_gradient(&self.dy(), &x, &statistics, whole(&gain), place, shape.width, shape)?;
        let (gain, bias) = into.values().split_at(shape.width);
        Ok((out, vec![("x", dx.to_vec()), ("weight", gain.to_vec()), ("bias", bias.to_vec())]))
    }

    fn packed_attention(&self) -> Result<Answer> {
        let (qkv, shape, lengths) = (self.buffer("qkv"), self.attention_shape(), self.lengths());
        let (out, logs) = self.cpu.attention(Heads::Packed(&qkv), lengths.as_ref(), None, shape)?;
        let heads = Heads::Packed(&qkv);
        let gradient = self.cpu.attention_gradient(&self.dy(), heads, (&out, &logs), lengths.as_ref(), None, shape)?;
        let HeadsGradient::Packed(gradient) = gradient else { panic!("packed goes in and comes out") };
        Ok((out, vec![("qkv", gradient.to_vec())]))
    }

    fn cross_attention(&self) -> Result<Answer> {
        let [q, k, v] = ["query", "key", "value"].map(|name| self.buffer(name));
        let (shape, lengths) = (self.attention_shape(), self.lengths());
        let heads = || Heads::Split { q: &q, k: &k, v: &v };
        let (out, logs) = self.cpu.attention(heads(), lengths.as_ref(), None, shape)?;
        let saved = (&out, &logs);
        let gradient = self.cpu.attention_gradient(&self.dy(), heads(), saved, lengths.as_ref(), None, shape)?;
        let HeadsGradient::Split { q, k, v } = gradient else { panic!("split goes in and comes out") };
        Ok((out, vec![("query", q.to_vec()), ("key", k.to_vec()), ("value", v.to_vec())]))
    }

    fn embedding(&self) -> Result<Answer> {
        let (words, positions) = (self.flat("words"), self.flat("positions"));
        let [rows, width] = self.shape("words")[..] else { panic!("two axes") };
        let batch = self.facts["ids"].as_array().unwrap();
        let ids: Vec<u32> = batch.iter().flat_map(integers).map(|id| id as u32).collect();
        let shape = TokensShape { batch: batch.len(), tokens: ids.len() / batch.len(), width };
        let ids = self.cpu.upload_indices(&ids)?;
        let out = self.cpu.embedding(&ids, whole(&words), whole(&positions), shape)?;
        let mut into = self.zeros(words.values().len() + positions.values().len());
        self.cpu.embedding_gradient(&self.dy(), &ids, &mut into, [0, rows * width], shape)?;
        let (words, positions) = into.values().split_at(rows * width);
        Ok((out, vec![("words", words.to_vec()), ("positions", positions.to_vec())]))
    }

    fn vision_tokens(&self) -> Result<Answer> {
        let (patches, class, positions) = (self.buffer("patches"), self.flat("class_token"), self.flat("positions"));
        let [batch, tokens, width] = self.shape("output")[..] else { panic!("three axes") };
        let shape = TokensShape { batch, tokens, width };
        let out = self.cpu.vision_tokens(&patches, whole(&class), whole(&positions), shape)?;
        let mut into = self.zeros(width + tokens * width);
        let dx = self.cpu.vision_tokens_gradient(&self.dy(), &mut into, [0, width], shape)?;
        let (class, positions) = into.values().split_at(width);
        Ok((out, vec![("patches", dx.to_vec()), ("class_token", class.to_vec()), ("positions", positions.to_vec())]))
    }

    fn patches(&self) -> Result<Answer> {
        let [batch, _, side, _] = self.shape("pixels")[..] else { panic!("four axes") };
        let patch = self.number("patch") as usize;
        let patches = self.cpu.patches(&self.buffer("pixels"), PatchesShape { batch, side, patch })?;
        self.compare("patches", &patches, 0.0);
        let (weight, bias) = (self.flat("weight"), self.flat("bias"));
        let rows = batch * (side / patch) * (side / patch);
        let shape = LinearShape { rows, inputs: 3 * patch * patch, outputs: bias.values().len() };
        let out = self.cpu.linear(&patches, whole(&weight), Some(whole(&bias)), shape)?;
        let mut gradients = self.linear_gradients(&patches, &weight, &self.dy(), shape)?;
        gradients.retain(|(name, _)| *name != "x");
        Ok((out, gradients))
    }

    fn select_token(&self) -> Result<Answer> {
        let x = self.buffer("x");
        let [batch, tokens, width] = self.shape("x")[..] else { panic!("three axes") };
        let token = self.number("token") as usize;
        if token == 0 {
            let shape = TokensShape { batch, tokens, width };
            let gradient = self.cpu.first_token_gradient(&self.dy(), shape)?;
            return Ok((self.cpu.first_token(&x, shape)?, vec![("x", gradient.to_vec())]));
        }
        let rows: Vec<u32> = (0..batch).map(|row| (row * tokens + token) as u32).collect();
        self.gathered(&rows, RowsShape { rows: batch * tokens, width })
    }

    fn gather_rows(&self) -> Result<Answer> {
        let rows: Vec<u32> = integers(&self.facts["rows"]).map(|row| row as u32).collect();
        self.gathered(&rows, self.rows_shape("x"))
    }

    fn gathered(&self, rows: &[u32], shape: RowsShape) -> Result<Answer> {
        let rows = self.cpu.upload_indices(rows)?;
        let out = self.cpu.gather_rows(&self.buffer("x"), &rows, shape.width)?;
        Ok((out, vec![("x", self.cpu.gather_rows_gradient(&self.dy(), &rows, shape)?.to_vec())]))
    }

    fn l2_normalize(&self) -> Result<Answer> {
        let shape = self.rows_shape("x");
        let (out, lengths) = self.cpu.l2_normalize(&self.buffer("x"), shape)?;
        let dx = self.cpu.l2_normalize_gradient(&self.dy(), (&out, &lengths), shape)?;
        Ok((out, vec![("x", dx.to_vec())]))
    }

    fn similarity(&self) -> Result<Answer> {
        let (a, bank, temperature) = (self.buffer("a"), self.flat("b"), self.flat("temperature"));
        let RowsShape { rows, width: inputs } = self.rows_shape("a");
        let shape = LinearShape { rows, inputs, outputs: self.shape("b")[0] };
        let (bank, temperature) = (whole(&bank), whole(&temperature));
        let out = self.cpu.similarity(&a, bank, temperature, shape)?;
        let mut into = self.zeros(1);
        let da = self.cpu.similarity_gradient(&self.dy(), &out, bank, temperature, all_of(&mut into), shape)?;
        Ok((out, vec![("a", da.to_vec()), ("temperature", into.values().to_vec())]))
    }

    fn soft_targets(&self) -> Result<Answer> {
        let RowsShape { rows, width } = self.rows_shape("sims");
        let first = self.number("first_column") as u32;
        let names = |range: std::ops::Range<u32>| self.cpu.upload_indices(&range.collect::<Vec<_>>());
        let (rows, columns) = (names(first..first + rows as u32)?, names(0..width as u32)?);
        let scalars = self.scalars(&[(scalars::ALPHA, self.number("alpha"))])?;
        Ok((self.cpu.soft_targets(&self.buffer("sims"), &scalars, &rows, &columns)?, vec![]))
    }

    fn cross_entropy(&self) -> Result<Answer> {
        let (logits, shape, smoothing) = (self.buffer("logits"), self.rows_shape("logits"), self.number("smoothing"));
        let ignored = self.facts["ignored"].as_i64().unwrap();
        let targets: Vec<i64> = integers(&self.facts["targets"]).collect();
        let counted = targets.iter().filter(|target| **target != ignored).count();
        let (given, divisor) = if self.has("weights") {
            (self.buffer("weights").to_vec(), self.number("divisor"))
        } else {
            (vec![1.0; shape.rows], counted as f32)
        };
        let weight = |(target, weight): (&i64, f32)| if *target == ignored { 0.0 } else { weight / divisor };
        let weights: Vec<f32> = targets.iter().zip(given).map(weight).collect();
        let labels: Vec<u32> = targets.iter().map(|target| *target as u32).collect();
        let (weights, labels) = (self.cpu.upload(&weights)?, self.cpu.upload_indices(&labels)?);
        let (out, saved) = self.cpu.cross_entropy(&logits, &labels, &weights, smoothing, shape)?;
        let scale = self.dy()[0];
        let dx = self.cpu.cross_entropy_gradient(&logits, &labels, &weights, &saved, smoothing, shape, scale)?;
        Ok((out, vec![("logits", dx.to_vec())]))
    }

    fn soft_cross_entropy(&self) -> Result<Answer> {
        let (logits, targets, shape) = (self.buffer("logits"), self.buffer("targets"), self.rows_shape("logits"));
        let (out, saved) = self.cpu.soft_cross_entropy(&logits, &targets, shape)?;
        let dx = self.cpu.soft_cross_entropy_gradient(&logits, &targets, &saved, shape, self.dy()[0])?;
        Ok((out, vec![("logits", dx.to_vec())]))
    }

    fn adamw(&self) -> Result<()> {
        let [beta1, beta2] = [0, 1].map(|place| self.facts["betas"][place].as_f64().unwrap() as f32);
        let (epsilon, weight_decay) = (self.number("eps"), self.number("weight_decay"));
        let constants = AdamW { beta1, beta2, epsilon, weight_decay, max_norm: f32::INFINITY };
        let mut weights = self.flat("parameter");
        let length = weights.values().len();
        let (mut first, mut second) = (self.zeros(length), self.zeros(length));
        let mut after = Vec::new();
        let rates = self.facts["learning_rates"].as_array().unwrap();
        for (step, (rate, gradients)) in (1..).zip(rates.iter().zip(self.values("gradients").chunks(length))) {
            let correction = |beta: f32| (1.0 - f64::from(beta).powi(step)) as f32;
            let scalars = self.scalars(&[
                (scalars::LEARNING_RATE, rate.as_f64().unwrap() as f32),
                (scalars::FIRST_CORRECTION, correction(beta1)),
                (scalars::SECOND_CORRECTION, correction(beta2)),
            ])?;
            let gradients = self.cpu.flat(gradients)?;
            let norm = self.cpu.squared_norm(&gradients)?;
            let range = 0..weights.values().len();
            let state = AdamWState {
                weights: &mut weights,
                gradients: &gradients,
                first: &mut first,
                second: &mut second,
                range,
            };
            self.cpu.adamw(state, constants, &norm, &scalars)?;
            after.extend_from_slice(weights.values());
        }
        self.compare("output", &after, TOLERANCE);
        self.compare("mean", first.values(), TOLERANCE);
        self.compare("square", second.values(), SECOND_MOMENT_TOLERANCE);
        Ok(())
    }

    /// Without memory, AdamW's first moments are the clipped gradients.
    fn clip(&self) -> Result<()> {
        let parts = ["gradients.0", "gradients.1", "gradients.2"].map(|name| self.values(name));
        let gradients = self.cpu.flat(&parts.concat())?;
        let norm = self.cpu.squared_norm(&gradients)?;
        self.compare("norm", &[norm[0].sqrt()], TOLERANCE);
        let [mut weights, mut first, mut second] = [0; 3].map(|_| self.zeros(gradients.values().len()));
        let max_norm = self.number("max_norm");
        let constants = AdamW { beta1: 0.0, beta2: 0.0, epsilon: 1.0, weight_decay: 0.0, max_norm };
        let scalars = self.scalars(&[(scalars::FIRST_CORRECTION, 1.0), (scalars::SECOND_CORRECTION, 1.0)])?;
        let range = 0..weights.values().len();
        let state =
            AdamWState { weights: &mut weights, gradients: &gradients, first: &mut first, second: &mut second, range };
        self.cpu.adamw(state, constants, &norm, &scalars)?;
        let mut start = 0;
        for (name, part) in ["output.0", "output.1", "output.2"].into_iter().zip(&parts) {
            self.compare(name, &first.values()[start..][..part.len()], TOLERANCE);
            start += part.len();
        }
        Ok(())
    }

    fn average(&self) -> Result<Answer> {
        let mut average = self.flat("average");
        let scalars = self.scalars(&[(scalars::MOMENTUM, self.number("rate"))])?;
        self.cpu.moving_average(&mut average, &self.flat("online"), &scalars)?;
        Ok((self.cpu.upload(average.values())?, vec![]))
    }

    fn compare(&self, array: &str, found: &[f32], tolerance: f32) {
        let expected = self.values(array);
        let name = &self.facts["name"];
        assert_eq!(found.len(), expected.len(), "{name} {array}");
        let largest = expected.iter().fold(0.0, |most: f32, value| most.max(value.abs()));
        let largest = if largest == 0.0 { LARGEST_OF_ZEROS } else { largest };
        for (place, (found, expected)) in found.iter().zip(&expected).enumerate() {
            let error = (found - expected).abs();
            assert!(error <= tolerance * largest, "{name} {array} at {place}: {found} for {expected}");
        }
    }

    fn array_name(&self, array: &str) -> String {
        format!("{}/{array}", self.facts["name"].as_str().unwrap())
    }

    fn has(&self, array: &str) -> bool {
        self.arrays.tensor(&self.array_name(array)).is_ok()
    }

    fn values(&self, array: &str) -> Vec<f32> {
        let tensor = self.arrays.tensor(&self.array_name(array)).unwrap();
        let (values, []) = tensor.data().as_chunks::<4>() else { panic!("four bytes each") };
        values.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
    }

    fn shape(&self, array: &str) -> Vec<usize> {
        self.arrays.tensor(&self.array_name(array)).unwrap().shape().to_vec()
    }

    fn buffer(&self, array: &str) -> CpuBuffer<f32> {
        self.cpu.upload(&self.values(array)).unwrap()
    }

    fn flat(&self, array: &str) -> CpuFlat<f32> {
        self.cpu.flat(&self.values(array)).unwrap()
    }

    fn dy(&self) -> CpuBuffer<f32> {
        self.buffer("output.gradient")
    }

    fn zeros(&self, length: usize) -> CpuFlat<f32> {
        self.cpu.flat(&vec![0.0; length]).unwrap()
    }

    fn number(&self, fact: &str) -> f32 {
        self.facts[fact].as_f64().unwrap() as f32
    }

    fn scalars(&self, values: &[(usize, f32)]) -> Result<CpuBuffer<f32>> {
        let mut scalars = [0.0; scalars::COUNT];
        values.iter().for_each(|(place, value)| scalars[*place] = *value);
        self.cpu.upload(&scalars)
    }

    fn rows_shape(&self, array: &str) -> RowsShape {
        let [rows, width] = self.shape(array)[..] else { panic!("two axes") };
        RowsShape { rows, width }
    }

    fn linear_shape(&self) -> LinearShape {
        let RowsShape { rows, width: inputs } = self.rows_shape("x");
        LinearShape { rows, inputs, outputs: self.shape("weight")[0] }
    }

    fn attention_shape(&self) -> AttentionShape {
        let [batch, queries, keys, heads, head_width] =
            ["batch", "queries", "keys", "heads", "head_width"].map(|fact| self.number(fact) as usize);
        let order = if self.facts["causal"].as_bool().unwrap() { Order::Causal } else { Order::Free };
        AttentionShape { batch, heads, width: heads * head_width, queries, keys, order }
    }

    fn lengths(&self) -> Option<<Cpu as Device>::Indices> {
        let lengths = self.facts["key_lengths"].as_array()?;
        let lengths: Vec<u32> = lengths.iter().map(|length| length.as_u64().unwrap() as u32).collect();
        Some(self.cpu.upload_indices(&lengths).unwrap())
    }
}

fn integers(list: &Value) -> impl Iterator<Item = i64> {
    list.as_array().unwrap().iter().map(|value| value.as_i64().unwrap())
}

fn whole(flat: &CpuFlat<f32>) -> Slice<'_, Cpu> {
    Slice { flat, start: 0, length: flat.values().len() }
}

fn all_of(flat: &mut CpuFlat<f32>) -> GradientSlice<'_, Cpu> {
    GradientSlice { flat, start: 0 }
}
