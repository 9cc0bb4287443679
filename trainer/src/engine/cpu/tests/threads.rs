//! The number of threads changes no bit.

use super::{all_of, values, whole};
use crate::engine::cpu::{Cpu, CpuBuffer, CpuFlat};
use crate::engine::{
    AdamW, AdamWState, AttentionShape, Device, Direction, Dropout, Heads, HeadsGradient, LinearShape, NegativesShape,
    Order, PatchesShape, RowsShape, TokensShape, scalars,
};

/// A device, and everything it has answered.
struct Answers {
    cpu: Cpu,
    found: Vec<(&'static str, Vec<u32>)>,
}

impl Answers {
    fn of(threads: usize) -> Vec<(&'static str, Vec<u32>)> {
        let mut answers = Self { cpu: Cpu::new(threads).unwrap(), found: Vec::new() };
        assert_eq!(answers.cpu.threads(), threads);
        answers.layers();
        answers.attention();
        answers.sequences();
        answers.losses();
        answers.long_vectors();
        answers.found
    }

    fn keep(&mut self, name: &'static str, values: &[f32]) {
        assert!(values.iter().all(|value| !value.is_nan()), "{name} writes all its values");
        self.found.push((name, values.iter().map(|value| value.to_bits()).collect()));
    }

    fn buffer(&self, seed: u64, length: usize) -> CpuBuffer<f32> {
        self.cpu.upload(&values(seed, length).iter().map(|value| *value as f32).collect::<Vec<_>>()).unwrap()
    }

    fn flat(&self, seed: u64, length: usize) -> CpuFlat<f32> {
        self.cpu.vector(&self.buffer(seed, length))
    }

    fn layers(&mut self) {
        let cpu = self.cpu.clone();
        let shape = LinearShape { rows: 1037, inputs: 192, outputs: 576 };
        let rows = RowsShape { rows: 1037, width: 576 };
        let (x, dy) = (self.buffer(1, 1037 * 192), self.buffer(2, 1037 * 576));
        let (weight, bias) = (self.flat(3, 192 * 576), self.flat(4, 576));
        let out = cpu.linear(&x, whole(&weight), Some(whole(&bias)), shape).unwrap();
        self.keep("linear", &out);
        let (out, before) = cpu.linear_gelu(&x, whole(&weight), whole(&bias), shape).unwrap();
        self.keep("linear, gelu", &out);
        self.keep("before gelu", &before);
        self.keep("input gradient", &cpu.linear_input_gradient(&dy, whole(&weight), shape).unwrap());
        self.keep("gelu input gradient", &cpu.linear_gelu_input_gradient(&dy, whole(&weight), &x, shape).unwrap());
        self.keep("gelu gradient", &cpu.gelu_gradient(&dy, &before).unwrap());
        let mut into = self.flat(5, 192 * 576);
        cpu.linear_weight_gradient(&dy, &x, all_of(&mut into), shape).unwrap();
        self.keep("weight gradient", into.values());
        cpu.bias_gradient(&dy, all_of(&mut into), rows).unwrap();
        self.keep("bias gradient", into.values());
        self.keep("sum", &cpu.add(&out, &dy).unwrap());
        let (out, statistics) = cpu.layer_norm(&dy, whole(&bias), whole(&bias), rows, 1e-6).unwrap();
        self.keep("layer norm", &out);
        let dx =
            cpu.layer_norm_gradient(&before, &dy, &statistics, whole(&bias), all_of(&mut into), 576, rows).unwrap();
        self.keep("layer norm gradient", &dx);
        self.keep("gain and bias gradient", into.values());
        let seed = cpu.upload_indices(&[1, 2]).unwrap();
        for group in [1, 1037] {
            let dropout = Dropout { share: 0.1, seed: &seed, site: 3 };
            self.keep("dropout", &cpu.dropout(&dy, dropout, group).unwrap());
        }
        self.keep("accumulated", &cpu.accumulate(dy, &before).unwrap());
    }

    fn attention(&mut self) {
        let cpu = self.cpu.clone();
        let shape = AttentionShape { batch: 5, heads: 3, width: 192, queries: 37, keys: 37, order: Order::Causal };
        let x = self.buffer(1, 5 * 37 * 576);
        let dy = self.buffer(2, 5 * 37 * 192);
        let lengths = cpu.upload_indices(&[37, 1, 5, 30, 37]).unwrap();
        let seed = cpu.upload_indices(&[1, 2]).unwrap();
        let dropout = Some(Dropout { share: 0.1, seed: &seed, site: 3 });
        let (out, logs) = cpu.attention(Heads::Packed(&x), Some(&lengths), dropout, shape).unwrap();
        let gradient =
            cpu.attention_gradient(&dy, Heads::Packed(&x), (&out, &logs), Some(&lengths), dropout, shape).unwrap();
        self.keep("attention", &out);
        self.keep("attention's logarithms", &logs);
        let HeadsGradient::Packed(gradient) = gradient else { panic!("packed") };
        self.keep("attention gradient", &gradient);
        let shape = AttentionShape { keys: 41, order: Order::Free, ..shape };
        let (k, v) = (self.buffer(3, 5 * 41 * 192), self.buffer(4, 5 * 41 * 192));
        let heads = || Heads::Split { q: &dy, k: &k, v: &v };
        let (out, logs) = cpu.attention(heads(), None, None, shape).unwrap();
        self.keep("cross-attention", &out);
        let gradient = cpu.attention_gradient(&dy, heads(), (&out, &logs), None, None, shape).unwrap();
        let HeadsGradient::Split { q, k, v } = gradient else { panic!("split") };
        [q, k, v].iter().for_each(|part| self.keep("cross-attention gradient", part));
    }

    fn sequences(&mut self) {
        let cpu = self.cpu.clone();
        let shape = TokensShape { batch: 7, tokens: 37, width: 192 };
        let ids: Vec<u32> = (0..7 * 37).map(|place| place * 31 % 100).collect();
        let ids = cpu.upload_indices(&ids).unwrap();
        let (words, positions) = (self.flat(1, 100 * 192), self.flat(2, 40 * 192));
        let out = cpu.embedding(&ids, whole(&words), whole(&positions), shape).unwrap();
        self.keep("embedding", &out);
        let mut into = self.flat(3, 140 * 192);
        cpu.embedding_gradient(&out, &ids, &mut into, [0, 100 * 192], shape).unwrap();
        self.keep("embedding gradient", into.values());
        let patches = self.buffer(4, 7 * 36 * 192);
        let tokens = cpu.vision_tokens(&patches, part(&words, 192), part(&positions, 37 * 192), shape).unwrap();
        self.keep("vision tokens", &tokens);
        let gradient = cpu.vision_tokens_gradient(&out, &mut into, [0, 192], shape).unwrap();
        self.keep("vision tokens gradient", &gradient);
        self.keep("class and positions gradient", into.values());
        let first = cpu.first_token(&tokens, shape).unwrap();
        self.keep("first token", &first);
        self.keep("first token gradient", &cpu.first_token_gradient(&first, shape).unwrap());
        let gathered = cpu.gather_rows(&self.buffer(5, 100 * 192), &ids, 192).unwrap();
        self.keep("gathered", &gathered);
        let rows = RowsShape { rows: 100, width: 192 };
        self.keep("gathered gradient", &cpu.gather_rows_gradient(&gathered, &ids, rows).unwrap());
        let pixels = PatchesShape { batch: 3, side: 96, patch: 16 };
        self.keep("patches", &cpu.patches(&self.buffer(6, 3 * 3 * 96 * 96), pixels).unwrap());
    }

    fn losses(&mut self) {
        let cpu = self.cpu.clone();
        let (rows, width, columns) = (65, 64, 1100);
        let x = self.buffer(1, rows * width);
        let shape = RowsShape { rows, width };
        let (unit, lengths) = cpu.l2_normalize(&x, shape).unwrap();
        self.keep("l2", &unit);
        self.keep("l2 gradient", &cpu.l2_normalize_gradient(&x, (&unit, &lengths), shape).unwrap());
        let (bank, temperature) = (self.flat(2, columns * width), cpu.vector(&[0.07]));
        let (bank, temperature) = (whole(&bank), whole(&temperature));
        let shape = LinearShape { rows, inputs: width, outputs: columns };
        let similarity = cpu.similarity(&unit, bank, temperature, shape).unwrap();
        self.keep("similarity", &similarity);
        let scalars = cpu.upload(&[0.4; scalars::COUNT]).unwrap();
        let names = |count: u32| cpu.upload_indices(&(0..count).collect::<Vec<_>>()).unwrap();
        let names = (names(rows as u32), names(columns as u32));
        let targets = cpu.soft_targets(&similarity, &scalars, &names.0, &names.1).unwrap();
        self.keep("soft targets", &targets);
        let wide = RowsShape { rows, width: columns };
        let (loss, saved) = cpu.soft_cross_entropy(&similarity, &targets, wide).unwrap();
        self.keep("soft cross-entropy", &loss);
        let dy = cpu.soft_cross_entropy_gradient(&similarity, &targets, &saved, wide, 0.5).unwrap();
        self.keep("soft cross-entropy gradient", &dy);
        let mut into = cpu.vector(&[0.0]);
        let dx = cpu.similarity_gradient(&dy, &similarity, bank, temperature, all_of(&mut into), shape).unwrap();
        self.keep("similarity gradient", &dx);
        self.keep("temperature gradient", into.values());
        let weights = self.buffer(3, rows);
        let (loss, saved) = cpu.cross_entropy(&similarity, &names.0, &weights, 0.1, wide).unwrap();
        self.keep("cross-entropy", &loss);
        let dy = cpu.cross_entropy_gradient(&similarity, &names.0, &weights, &saved, 0.1, wide, 0.5).unwrap();
        self.keep("cross-entropy gradient", &dy);
        let seed = cpu.upload_indices(&[1, 2]).unwrap();
        let shape = NegativesShape { rows, columns, candidates: 90, first: 0, direction: Direction::PictureForText };
        let drawn = cpu.draw_negatives(&similarity, (&names.0, &names.1), &seed, shape).unwrap();
        self.found.push(("negatives", drawn.to_vec()));
    }

    fn long_vectors(&mut self) {
        let cpu = self.cpu.clone();
        let length = 200_001;
        let [mut weights, gradients, mut first] = [1, 2, 3].map(|seed| self.flat(seed, length));
        let mut second = cpu.vector(&first.values().iter().map(|value| value * value).collect::<Vec<_>>());
        let norm = cpu.squared_norm(&gradients).unwrap();
        self.keep("squared norm", &norm);
        let scalars = cpu.upload(&[0.01; scalars::COUNT]).unwrap();
        let constants = AdamW { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.05, max_norm: 1.0 };
        let range = 0..weights.values().len();
        let state =
            AdamWState { weights: &mut weights, gradients: &gradients, first: &mut first, second: &mut second, range };
        cpu.adamw(state, constants, &norm, &scalars).unwrap();
        cpu.moving_average(&mut first, &weights, &scalars).unwrap();
        [weights, first, second].iter().for_each(|flat| self.keep("adamw", flat.values()));
    }
}

fn part(flat: &CpuFlat<f32>, length: usize) -> crate::engine::Slice<'_, Cpu> {
    crate::engine::Slice { flat, start: 0, length }
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    let alone = Answers::of(1);
    for threads in [2, 3] {
        for (expected, found) in alone.iter().zip(Answers::of(threads)) {
            assert!(*expected == found, "{} with {threads} threads", expected.0);
        }
    }
}
