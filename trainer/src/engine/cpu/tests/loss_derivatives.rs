//! Similarities and losses.

use super::{Operation, ROWS, WIDTHS, all_of, values, whole};
use crate::engine::cpu::{Cpu, CpuBuffer};
use crate::engine::{Device, LinearShape, RowsShape};

fn cpu() -> Cpu<f64> {
    Cpu::new(1).unwrap()
}

#[test]
fn gradients_of_an_l2_norm_are_its_differences() {
    for (rows, width) in [(1, 2), (5, 24), (37, 33)] {
        let shape = RowsShape { rows, width };
        Operation {
            name: format!("l2 {shape:?}"),
            inputs: vec![values(1, rows * width)],
            forward: &|x| cpu().l2_normalize(&x[0], shape).unwrap().0,
            backward: &|x, dy| {
                let (out, lengths) = cpu().l2_normalize(&x[0], shape).unwrap();
                vec![cpu().l2_normalize_gradient(dy, (&out, &lengths), shape).unwrap().to_vec()]
            },
        }
        .check();
    }
}

#[test]
fn a_row_of_zeros_stays_zeros() {
    let shape = RowsShape { rows: 2, width: 24 };
    let (out, lengths) = cpu().l2_normalize(&cpu().buffer(&[0.0; 48]), shape).unwrap();
    assert_eq!(out[..], [0.0; 48]);
    let gradient = cpu().l2_normalize_gradient(&cpu().buffer(&[1.0; 48]), (&out, &lengths), shape).unwrap();
    assert!(gradient.iter().all(|value| (value * 1e-12 - 1.0).abs() < 1e-6));
}

#[test]
fn gradients_of_a_similarity_are_its_differences() {
    for (rows, inputs, outputs) in [(1, 1, 1), (5, 24, 33), (37, 33, 24)] {
        let shape = LinearShape { rows, inputs, outputs };
        let bank = cpu().vector(&values(4, inputs * outputs));
        let run =
            |x: &[CpuBuffer<f64>]| cpu().similarity(&x[0], whole(&bank), whole(&cpu().vector(&x[1])), shape).unwrap();
        Operation {
            name: format!("similarity {shape:?}"),
            inputs: vec![values(1, rows * inputs), vec![0.7]],
            forward: &run,
            backward: &|x, dy| {
                let (temperature, mut into) = (cpu().vector(&x[1]), cpu().vector(&[0.0]));
                let (bank, temperature) = (whole(&bank), whole(&temperature));
                let dx = cpu().similarity_gradient(dy, &run(x), bank, temperature, all_of(&mut into), shape).unwrap();
                vec![dx.to_vec(), into.0]
            },
        }
        .check();
    }
}

#[test]
fn gradients_of_a_soft_cross_entropy_are_its_differences() {
    for rows in ROWS {
        for width in WIDTHS {
            let shape = RowsShape { rows, width };
            let targets = cpu().buffer(&values(2, rows * width));
            Operation {
                name: format!("soft cross-entropy {shape:?}"),
                inputs: vec![values(1, rows * width)],
                forward: &|x| cpu().soft_cross_entropy(&x[0], &targets, shape).unwrap().0,
                backward: &|x, dy| {
                    let saved = cpu().soft_cross_entropy(&x[0], &targets, shape).unwrap().1;
                    let gradient = cpu().soft_cross_entropy_gradient(&x[0], &targets, &saved, shape, 1.0).unwrap();
                    vec![gradient.iter().map(|value| value * dy[0]).collect()]
                },
            }
            .check();
        }
    }
}

#[test]
fn gradients_of_a_cross_entropy_are_its_differences() {
    for rows in ROWS {
        for width in WIDTHS {
            for smoothing in [0.0, 0.1] {
                check_cross_entropy(RowsShape { rows, width }, smoothing);
            }
        }
    }
}

fn check_cross_entropy(shape: RowsShape, smoothing: f32) {
    let mut weights = values(2, shape.rows);
    let mut labels: Vec<u32> = (0..shape.rows as u32).map(|row| row * 7 % shape.width as u32).collect();
    if shape.rows > 1 {
        weights[1] = 0.0;
        labels[1] = u32::MAX;
    }
    let (weights, labels) = (cpu().buffer(&weights), cpu().upload_indices(&labels).unwrap());
    let run = |x: &[CpuBuffer<f64>]| cpu().cross_entropy(&x[0], &labels, &weights, smoothing, shape).unwrap();
    Operation {
        name: format!("cross-entropy {shape:?} {smoothing}"),
        inputs: vec![values(1, shape.rows * shape.width)],
        forward: &|x| run(x).0,
        backward: &|x, dy| {
            let saved = run(x).1;
            let scale = 0.5;
            let gradient =
                cpu().cross_entropy_gradient(&x[0], &labels, &weights, &saved, smoothing, shape, scale).unwrap();
            vec![gradient.iter().map(|value| value * dy[0] / f64::from(scale)).collect()]
        },
    }
    .check();
}
