//! Long vectors, draws and copies.

use super::{values, whole};
use crate::engine::cpu::Cpu;
use crate::engine::{
    AdamW, AdamWState, Device, Direction, Dropout, NegativesShape, PatchesShape, RowsShape, keeps, scalars, step_seed,
};

fn cpu() -> Cpu {
    Cpu::new(1).unwrap()
}

#[test]
fn adamw_clips_to_the_largest_norm() {
    let step = |gradient: [f32; 2], max_norm: f32| {
        let cpu = cpu();
        let [mut weights, mut first, mut second] = [[1.0, -2.0], [0.0; 2], [0.0; 2]].map(|x| cpu.flat(&x).unwrap());
        let gradients = cpu.flat(&gradient).unwrap();
        let norm = cpu.squared_norm(&gradients).unwrap();
        let mut values = [0.0; scalars::COUNT];
        values[scalars::LEARNING_RATE] = 0.1;
        values[scalars::FIRST_CORRECTION] = 0.1;
        values[scalars::SECOND_CORRECTION] = 0.001;
        let scalars = cpu.upload(&values).unwrap();
        let constants = AdamW { beta1: 0.9, beta2: 0.999, epsilon: 1.0, weight_decay: 0.0, max_norm };
        let range = 0..weights.values().len();
        let state =
            AdamWState { weights: &mut weights, gradients: &gradients, first: &mut first, second: &mut second, range };
        cpu.adamw(state, constants, &norm, &scalars).unwrap();
        cpu.read_flat(&weights).unwrap()
    };
    let (long, short) = (step([30.0, -40.0], 5.0), step([3.0, -4.0], f32::INFINITY));
    assert!(long.iter().zip(&short).all(|(long, short)| (long - short).abs() < 1e-6), "{long:?} {short:?}");
    assert!(step([f32::NAN, 0.0], 1.0).iter().all(|weight| weight.is_nan()), "a lost gradient is not hidden");
}

#[test]
fn a_drop_of_groups_drops_whole_groups() {
    let cpu = cpu();
    let seed = step_seed(7, 8);
    let mixed = u64::from(seed[0]) | u64::from(seed[1]) << 32;
    let seed = cpu.upload_indices(&seed).unwrap();
    let x = cpu.upload(&[1.0; 600]).unwrap();
    let out = cpu.dropout(&x, Dropout { share: 0.25, seed: &seed, site: 9 }, 6).unwrap();
    for (place, group) in out.chunks(6).enumerate() {
        let expected = if keeps(mixed, 9, place as u64, 0.25) { 1.0 / 0.75 } else { 0.0 };
        assert_eq!(group, [expected; 6]);
    }
    let kept = out.iter().filter(|value| **value > 0.0).count();
    assert!((350..550).contains(&kept), "{kept} of 600 kept");
}

#[test]
fn patches_stand_by_row_with_channels_first() {
    let pixels: Vec<f32> = (0..2 * 3 * 4 * 4).map(|value| value as f32).collect();
    let shape = PatchesShape { batch: 2, side: 4, patch: 2 };
    let patches = cpu().patches(&cpu().upload(&pixels).unwrap(), shape).unwrap();
    assert_eq!(patches[..12], [0.0, 1.0, 4.0, 5.0, 16.0, 17.0, 20.0, 21.0, 32.0, 33.0, 36.0, 37.0]);
    assert_eq!(patches[12..16], [2.0, 3.0, 6.0, 7.0]);
    assert_eq!(patches[24..28], [8.0, 9.0, 12.0, 13.0]);
    assert_eq!(patches[48..52], [48.0, 49.0, 52.0, 53.0]);
}

#[test]
fn negatives_have_other_names_and_follow_the_similarity() {
    let cpu = cpu();
    let (rows, columns) = (400, 8);
    let names: Vec<u32> = (0..columns as u32).map(|column| column / 2).collect();
    let row_names = cpu.upload_indices(&vec![1; rows]).unwrap();
    let columns_names = cpu.upload_indices(&names).unwrap();
    let mut similarity = vec![0.0; rows * columns];
    similarity.chunks_mut(columns).for_each(|row| row.copy_from_slice(&[1.0, 0.0, 9.0, 9.0, 1.0, 0.0, -20.0, 5.0]));
    let similarity = cpu.upload(&similarity).unwrap();
    let seed = cpu.upload_indices(&[1, 2]).unwrap();
    let draw = |candidates, first, direction| {
        let shape = NegativesShape { rows, columns, candidates, first, direction };
        cpu.draw_negatives(&similarity, (&row_names, &columns_names), &seed, shape)
    };
    let drawn = draw(7, 0, Direction::TextForPicture).unwrap();
    assert!(drawn.iter().all(|column| names[*column as usize] != 1 && *column < 7));
    // After e^9 is left out, the softmax is so small that 1e-4 weighs: e / 2 e^9 + 1e-4 for columns 0 and 4.
    let share = drawn.iter().filter(|column| [0, 4].contains(*column)).count() as f64 / rows as f64;
    let weight = |x: f64| x.exp() / (2.0 * 9f64.exp() + 2.0 * 1f64.exp() + 2.0) + 1e-4;
    let expected = 2.0 * weight(1.0) / (2.0 * weight(1.0) + 2.0 * weight(0.0) + weight(-20.0));
    assert!((share - expected).abs() < 0.06, "{share} for {expected}");
    assert_ne!(drawn, draw(7, 0, Direction::PictureForText).unwrap());
    let later = draw(7, 100, Direction::TextForPicture).unwrap();
    assert_eq!(later[..300], drawn[100..], "a draw belongs to the sample and not to its place in the batch");
    let none = cpu.upload_indices(&vec![1; columns]).unwrap();
    let shape = NegativesShape { rows, columns, candidates: 8, first: 0, direction: Direction::TextForPicture };
    assert!(cpu.draw_negatives(&similarity, (&row_names, &none), &seed, shape).is_err());
}

#[test]
fn soft_targets_share_the_truth_among_equal_names() {
    let cpu = cpu();
    let mut values = [0.0; scalars::COUNT];
    values[scalars::ALPHA] = 0.4;
    let scalars = cpu.upload(&values).unwrap();
    let opinion = cpu.upload(&[0.0; 8]).unwrap();
    let rows = cpu.upload_indices(&[5, 6]).unwrap();
    let columns = cpu.upload_indices(&[5, 6, 5, 7]).unwrap();
    let targets = cpu.soft_targets(&opinion, &scalars, &rows, &columns).unwrap();
    let expected = [0.4, 0.1, 0.4, 0.1, 0.1, 0.7, 0.1, 0.1];
    assert!(
        targets.iter().zip(expected).all(|(target, expected)| (target - expected).abs() < 1e-6),
        "{targets:?}",
        targets = &targets[..]
    );
}

#[test]
fn a_lost_number_is_not_hidden() {
    let cpu = cpu();
    for lost in [0, 5, 40] {
        let mut logits = vec![0.5; 41];
        logits[lost] = f32::NAN;
        let shape = RowsShape { rows: 1, width: 41 };
        let labels = cpu.upload_indices(&[3]).unwrap();
        let (logits, weights) = (cpu.upload(&logits).unwrap(), cpu.upload(&[1.0]).unwrap());
        assert!(cpu.cross_entropy(&logits, &labels, &weights, 0.0, shape).unwrap().0[0].is_nan());
        assert!(cpu.soft_cross_entropy(&logits, &logits, shape).unwrap().0[0].is_nan());
    }
}

#[test]
fn long_vectors_are_changed_in_place() {
    let cpu = Cpu::<f64>::new(1).unwrap();
    let start = values(1, 10);
    let mut flat = cpu.vector(&start);
    let at = cpu.upload_indices(&[2]).unwrap();
    cpu.write_flat(&mut flat, 3, &at, &cpu.buffer(&[7.0, 8.0])).unwrap();
    assert_eq!(
        (flat.values()[4], flat.values()[5..7].to_vec(), flat.values()[7]),
        (start[4], vec![7.0, 8.0], start[7])
    );
    cpu.clamp(&mut flat, 5, [0.0, 0.5]).unwrap();
    cpu.clamp(&mut flat, 6, [8.5, 9.0]).unwrap();
    assert_eq!(flat.values()[5..7], [0.5, 8.5]);
    cpu.scale_flat(&mut flat, 2.0).unwrap();
    assert_eq!(flat.values()[..7], [&start[..5], &[0.5, 8.5]].concat().iter().map(|x| x * 2.0).collect::<Vec<_>>());
    let norm: f64 = flat.values().iter().map(|value| value * value).sum();
    assert!((cpu.squared_norm(&flat).unwrap()[0] - norm).abs() < 1e-12);
    assert_eq!(whole(&flat).length, 10);
    cpu.clear(&mut flat).unwrap();
    assert_eq!(flat.values(), [0.0; 10]);
}

#[test]
fn indices_are_joined_and_gathered() {
    let cpu = cpu();
    let [a, b, rows] = [vec![1, 2], vec![3, 4, 5, 6], vec![2, 0, 2]].map(|x| cpu.upload_indices(&x).unwrap());
    let joined = cpu.concat_indices(&[&a, &b]).unwrap();
    assert_eq!(joined[..], [1, 2, 3, 4, 5, 6]);
    assert_eq!(cpu.gather_indices(&joined, &rows, 2).unwrap()[..], [5, 6, 1, 2, 5, 6]);
}

#[test]
fn what_others_hold_is_not_changed() {
    let cpu = cpu();
    let [a, b] = [[1.0, 2.0], [3.0, 4.0]].map(|x| cpu.upload(&x).unwrap());
    let held = a.clone();
    let sum = cpu.accumulate(a, &b).unwrap();
    assert_eq!((&held[..], &sum[..]), (&[1.0, 2.0][..], &[4.0, 6.0][..]));
    let place = sum.as_ptr();
    let sum = cpu.accumulate(sum, &b).unwrap();
    assert_eq!((sum.as_ptr(), &sum[..]), (place, &[7.0, 10.0][..]));
}
