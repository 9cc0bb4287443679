//! Layers, and the ways in and out of sequences.

use super::{Operation, ROWS, WIDTHS, all_of, values, whole};
use crate::engine::cpu::{Cpu, CpuBuffer, CpuFlat};
use crate::engine::{
    AttentionShape, Device, Dropout, Heads, HeadsGradient, LinearShape, Order, RowsShape, TokensShape,
};

fn cpu() -> Cpu<f64> {
    Cpu::new(1).unwrap()
}

fn zeros(length: usize) -> CpuFlat<f64> {
    cpu().vector(&vec![0.0; length])
}

#[test]
fn gradients_of_a_linear_are_its_differences() {
    for (rows, inputs, outputs) in [(1, 1, 1), (5, 24, 33), (37, 33, 24), (300, 3, 2), (2, 5, 270)] {
        let shape = LinearShape { rows, inputs, outputs };
        Operation {
            name: format!("linear {shape:?}"),
            inputs: vec![values(1, rows * inputs), values(2, inputs * outputs), values(3, outputs)],
            forward: &|x| {
                let [weight, bias] = [1, 2].map(|place| cpu().vector(&x[place]));
                cpu().linear(&x[0], whole(&weight), Some(whole(&bias)), shape).unwrap()
            },
            backward: &|x, dy| {
                let weight = cpu().vector(&x[1]);
                let (mut into, mut into_bias) = (zeros(inputs * outputs), zeros(outputs));
                cpu().linear_weight_gradient(dy, &x[0], all_of(&mut into), shape).unwrap();
                let bias_shape = RowsShape { rows, width: outputs };
                cpu().bias_gradient(dy, all_of(&mut into_bias), bias_shape).unwrap();
                let dx = cpu().linear_input_gradient(dy, whole(&weight), shape).unwrap();
                vec![dx.to_vec(), into.0, into_bias.0]
            },
        }
        .check();
    }
}

#[test]
fn gradients_of_two_linears_with_a_gelu_between_are_its_differences() {
    for (rows, inputs) in [(1, 1), (5, 24), (37, 33)] {
        let first = LinearShape { rows, inputs, outputs: 7 };
        let second = LinearShape { rows, inputs: 7, outputs: inputs };
        let run = |x: &[CpuBuffer<f64>]| {
            let [w1, bias, w2] = [1, 2, 3].map(|place| cpu().vector(&x[place]));
            let (hidden, before) = cpu().linear_gelu(&x[0], whole(&w1), whole(&bias), first).unwrap();
            (cpu().linear(&hidden, whole(&w2), None, second).unwrap(), hidden, before)
        };
        Operation {
            name: format!("linear, gelu, linear {first:?}"),
            inputs: vec![values(1, rows * inputs), values(2, inputs * 7), values(3, 7), values(4, inputs * 7)],
            forward: &|x| run(x).0,
            backward: &|x, dy| {
                let [w1, w2] = [1, 3].map(|place| cpu().vector(&x[place]));
                let (_, hidden, before) = run(x);
                let [mut d1, mut db, mut d2] = [inputs * 7, 7, inputs * 7].map(zeros);
                cpu().linear_weight_gradient(dy, &hidden, all_of(&mut d2), second).unwrap();
                let dh = cpu().linear_gelu_input_gradient(dy, whole(&w2), &before, second).unwrap();
                cpu().linear_weight_gradient(&dh, &x[0], all_of(&mut d1), first).unwrap();
                cpu().bias_gradient(&dh, all_of(&mut db), RowsShape { rows, width: 7 }).unwrap();
                let dx = cpu().linear_input_gradient(&dh, whole(&w1), first).unwrap();
                let plain = cpu().linear_input_gradient(dy, whole(&w2), second).unwrap();
                assert_eq!(cpu().gelu_gradient(&plain, &before).unwrap()[..], dh[..]);
                vec![dx.to_vec(), d1.0, db.0, d2.0]
            },
        }
        .check();
    }
}

#[test]
fn gradients_of_a_layer_norm_are_its_differences() {
    for rows in ROWS.into_iter().chain([300]) {
        for width in [2, 24, 33, 70] {
            let shape = RowsShape { rows, width };
            let run = |x: &[CpuBuffer<f64>]| {
                let [gain, bias] = [1, 2].map(|place| cpu().vector(&x[place]));
                cpu().layer_norm(&x[0], whole(&gain), whole(&bias), shape, 1e-1).unwrap()
            };
            Operation {
                name: format!("layer norm {shape:?}"),
                inputs: vec![values(1, rows * width), values(2, width), values(3, width)],
                forward: &|x| run(x).0,
                backward: &|x, dy| {
                    let gain = cpu().vector(&x[1]);
                    let mut into = zeros(2 * width);
                    let statistics = run(x).1;
                    let dx = cpu()
                        .layer_norm_gradient(dy, &x[0], &statistics, whole(&gain), all_of(&mut into), width, shape)
                        .unwrap();
                    let (gain, bias) = into.0.split_at(width);
                    vec![dx.to_vec(), gain.to_vec(), bias.to_vec()]
                },
            }
            .check();
        }
    }
}

#[test]
fn a_layer_norm_of_width_one_gives_its_bias_and_no_gradient() {
    let shape = RowsShape { rows: 5, width: 1 };
    let x = cpu().buffer(&values(1, 5));
    let [gain, bias] = [3.0, 2.0].map(|value| cpu().vector(&[value]));
    let (out, statistics) = cpu().layer_norm(&x, whole(&gain), whole(&bias), shape, 1e-5).unwrap();
    assert_eq!(out[..], [2.0; 5]);
    let mut into = zeros(2);
    let dx = cpu().layer_norm_gradient(&x, &x, &statistics, whole(&gain), all_of(&mut into), 1, shape).unwrap();
    assert_eq!(dx[..], [0.0; 5]);
}

#[test]
fn gradients_of_attention_are_its_differences() {
    let small = AttentionShape { batch: 2, heads: 3, width: 33, queries: 5, keys: 5, order: Order::Free };
    let shapes = [
        AttentionShape { batch: 1, heads: 1, width: 1, queries: 1, keys: 1, ..small },
        small,
        AttentionShape { order: Order::Causal, ..small },
        AttentionShape { heads: 1, width: 24, queries: 37, keys: 37, order: Order::Causal, ..small },
        AttentionShape { queries: 4, keys: 37, ..small },
        AttentionShape { queries: 37, keys: 3, ..small },
    ];
    for shape in shapes {
        for lengths in [None, Some([shape.keys as u32, shape.keys.div_ceil(2) as u32])] {
            for share in [None, Some(0.3)] {
                check_attention(shape, lengths.map(|lengths| lengths[..shape.batch].to_vec()), share);
            }
        }
    }
}

fn check_attention(shape: AttentionShape, lengths: Option<Vec<u32>>, share: Option<f32>) {
    let lengths = lengths.map(|lengths| cpu().upload_indices(&lengths).unwrap());
    let seed = cpu().upload_indices(&[3, 4]).unwrap();
    let dropout = share.map(|share| Dropout { share, seed: &seed, site: 5 });
    let run = |x: &[CpuBuffer<f64>]| {
        let heads = Heads::Split { q: &x[0], k: &x[1], v: &x[2] };
        cpu().attention(heads, lengths.as_ref(), dropout, shape).unwrap()
    };
    let sizes = [shape.queries, shape.keys, shape.keys].map(|tokens| shape.batch * tokens * shape.width);
    Operation {
        name: format!("attention {shape:?} {lengths:?} {share:?}"),
        inputs: (1..).zip(sizes).map(|(seed, size)| values(seed, size)).collect(),
        forward: &|x| run(x).0,
        backward: &|x, dy| {
            let (out, logs) = run(x);
            let heads = Heads::Split { q: &x[0], k: &x[1], v: &x[2] };
            let split = cpu().attention_gradient(dy, heads, (&out, &logs), lengths.as_ref(), dropout, shape).unwrap();
            let HeadsGradient::Split { q, k, v } = split else { panic!("split goes in and comes out") };
            let parts = vec![q.to_vec(), k.to_vec(), v.to_vec()];
            if shape.queries == shape.keys {
                let packed = cpu().buffer(&interleaved([&x[0], &x[1], &x[2]], shape.width));
                let heads = || Heads::Packed(&packed);
                let (packed_out, packed_logs) = cpu().attention(heads(), lengths.as_ref(), dropout, shape).unwrap();
                assert!(packed_out[..] == out[..] && packed_logs[..] == logs[..]);
                let saved = (&out, &logs);
                let gradient = cpu().attention_gradient(dy, heads(), saved, lengths.as_ref(), dropout, shape).unwrap();
                let HeadsGradient::Packed(gradient) = gradient else { panic!("packed goes in and comes out") };
                assert_eq!(gradient[..], interleaved([&parts[0], &parts[1], &parts[2]], shape.width));
            }
            parts
        },
    }
    .check();
}

/// `[tokens, width]` three times to `[tokens, 3 * width]`.
fn interleaved(parts: [&[f64]; 3], width: usize) -> Vec<f64> {
    let tokens = 0..parts[0].len() / width;
    tokens.flat_map(|token| parts.map(|part| part[token * width..][..width].to_vec()).concat()).collect()
}

#[test]
fn gradients_of_a_dropout_are_its_differences() {
    for group in [1, 24] {
        let seed = cpu().upload_indices(&[1, 2]).unwrap();
        let dropout = Dropout { share: 0.4, seed: &seed, site: 1 };
        Operation {
            name: format!("dropout of groups of {group}"),
            inputs: vec![values(1, 5 * 24)],
            forward: &|x| cpu().dropout(&x[0], dropout, group).unwrap(),
            backward: &|_, dy| vec![cpu().dropout(dy, dropout, group).unwrap().to_vec()],
        }
        .check();
    }
}

#[test]
fn gradients_of_an_embedding_are_its_differences() {
    for width in WIDTHS {
        let shape = TokensShape { batch: 3, tokens: 5, width };
        let ids = cpu().upload_indices(&[0, 3, 3, 1, 2, 3, 3, 3, 0, 0, 1, 1, 2, 3, 0]).unwrap();
        Operation {
            name: format!("embedding {shape:?}"),
            inputs: vec![values(1, 4 * width), values(2, 6 * width)],
            forward: &|x| {
                let [words, positions] = [0, 1].map(|place| cpu().vector(&x[place]));
                cpu().embedding(&ids, whole(&words), whole(&positions), shape).unwrap()
            },
            backward: &|_, dy| {
                let mut into = zeros(10 * width);
                cpu().embedding_gradient(dy, &ids, &mut into, [0, 4 * width], shape).unwrap();
                let (words, positions) = into.0.split_at(4 * width);
                vec![words.to_vec(), positions.to_vec()]
            },
        }
        .check();
    }
}

#[test]
fn gradients_of_vision_tokens_are_their_differences() {
    for width in WIDTHS {
        let shape = TokensShape { batch: 3, tokens: 5, width };
        Operation {
            name: format!("vision tokens {shape:?}"),
            inputs: vec![values(1, 3 * 4 * width), values(2, width), values(3, 5 * width)],
            forward: &|x| {
                let [class, positions] = [1, 2].map(|place| cpu().vector(&x[place]));
                cpu().vision_tokens(&x[0], whole(&class), whole(&positions), shape).unwrap()
            },
            backward: &|_, dy| {
                let mut into = zeros(6 * width);
                let dx = cpu().vision_tokens_gradient(dy, &mut into, [0, width], shape).unwrap();
                let (class, positions) = into.0.split_at(width);
                vec![dx.to_vec(), class.to_vec(), positions.to_vec()]
            },
        }
        .check();
    }
}

#[test]
fn gradients_of_first_tokens_and_gathered_rows_are_their_differences() {
    for width in WIDTHS {
        let shape = TokensShape { batch: 3, tokens: 5, width };
        Operation {
            name: format!("first token {shape:?}"),
            inputs: vec![values(1, shape.length())],
            forward: &|x| cpu().first_token(&x[0], shape).unwrap(),
            backward: &|_, dy| vec![cpu().first_token_gradient(dy, shape).unwrap().to_vec()],
        }
        .check();
        let rows = cpu().upload_indices(&[4, 0, 4, 4, 2]).unwrap();
        Operation {
            name: format!("gathered rows of {width}"),
            inputs: vec![values(1, 5 * width)],
            forward: &|x| cpu().gather_rows(&x[0], &rows, width).unwrap(),
            backward: &|_, dy| {
                vec![cpu().gather_rows_gradient(dy, &rows, RowsShape { rows: 5, width }).unwrap().to_vec()]
            },
        }
        .check();
    }
}
