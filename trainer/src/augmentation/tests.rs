//! Every operation against the authors' functions, OpenCV and Pillow: equal to the last bit.

use serde::Deserialize;

use super::*;

#[derive(Deserialize)]
struct Cases {
    width: usize,
    height: usize,
    crops: Vec<[usize; 4]>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    operation: Operation,
    level: f64,
    side: String,
}

fn golden(name: &str) -> Vec<u8> {
    std::fs::read(format!("{}/tests/goldens/augmentation/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

fn cases() -> Cases {
    serde_json::from_slice(&golden("cases.json")).unwrap()
}

/// The pictures that a golden has one below the other.
fn stack(name: &str, width: usize, height: usize) -> Vec<Rgb8> {
    let whole = picture::decode(&golden(name)).unwrap();
    assert_eq!(whole.width(), width);
    let parts = whole.values().chunks_exact(width * height * 3);
    parts.map(|values| Rgb8::new(width, height, values.to_vec()).unwrap()).collect()
}

fn ramp(width: usize, height: usize) -> Rgb8 {
    let values = (0..width * height * 3).map(|index| (index * 37 % 251) as u8).collect();
    Rgb8::new(width, height, values).unwrap()
}

#[test]
fn operations_equal_the_authors_to_the_bit() {
    let Cases { width, height, cases, .. } = cases();
    let inputs = stack("inputs.png", width, height);
    let outputs = stack("outputs.png", width, height);
    assert_eq!(outputs.len(), cases.len() * inputs.len());
    for (case, outputs) in cases.iter().zip(outputs.chunks_exact(inputs.len())) {
        let side = if case.side == "Plus" { Side::Plus } else { Side::Minus };
        for (input, output) in inputs.iter().zip(outputs) {
            let found = case.operation.apply(input, case.level, side);
            let differs = found.values().iter().zip(output.values()).filter(|(one, other)| one != other).count();
            assert_eq!(differs, 0, "{:?} at {} {}", case.operation, case.level, case.side);
        }
    }
}

#[test]
fn crop_and_resize_equal_pillows() {
    let Cases { width, height, crops, .. } = cases();
    let squares = stack("crops.png", 12, 12);
    let inputs = stack("inputs.png", width, height);
    for ([left, top, width, height], squares) in crops.into_iter().zip(squares.chunks_exact(inputs.len())) {
        for (input, square) in inputs.iter().zip(squares) {
            let area = Area { left, top, width, height };
            assert_eq!(resize(&geometry::crop(input, area), 12).values(), square.values(), "{area:?}");
        }
    }
}

#[test]
fn default_level_leaves_brightness_and_sharpness_alone() {
    for operation in [Operation::Brightness, Operation::Sharpness, Operation::Identity] {
        assert_eq!(operation.apply(&ramp(9, 7), RandAugment::default().level, Side::Plus), ramp(9, 7));
    }
}

#[derive(Deserialize)]
struct CropMeans {
    picture: (usize, usize),
    scale: [f64; 2],
    means: std::collections::HashMap<String, f64>,
}

#[test]
fn crops_are_on_average_as_torchvisions() {
    const DRAWS: u64 = 20_000;
    for CropMeans { picture, scale, means } in
        serde_json::from_slice::<Vec<CropMeans>>(&golden("crop_means.json")).unwrap()
    {
        let augmentation = Augmentation { scale, ..Augmentation::finetuning() };
        let (width, height) = (picture.0 as f64, picture.1 as f64);
        let mut sums = [0.0; 6];
        for place in 0..DRAWS {
            let area = augmentation.area(picture, &mut Draw::new(1, 2, place));
            assert!(area.left + area.width <= picture.0 && area.top + area.height <= picture.1);
            let ratio = area.width as f64 / area.height as f64;
            assert!((0.73..1.36).contains(&ratio), "{ratio}");
            let (columns, rows) = (area.width as f64 / width, area.height as f64 / height);
            let values = [area.top as f64 / height, area.left as f64 / width, rows, columns, rows * columns];
            for (sum, value) in sums.iter_mut().zip(values) {
                *sum += value / DRAWS as f64;
            }
            sums[5] += (rows * columns).powi(2) / DRAWS as f64;
        }
        sums[5] = (sums[5] - sums[4] * sums[4]).max(0.0).sqrt();
        for (name, found) in ["top", "left", "height", "width", "share", "share_deviation"].iter().zip(sums) {
            let expected = means[*name];
            assert!((found - expected).abs() < 0.008, "{picture:?} {scale:?} {name}: {found}, not {expected}");
        }
    }
}

#[test]
fn picture_too_long_for_any_crop_gives_its_middle() {
    let augmentation = Augmentation { scale: [0.9, 1.0], ..Augmentation::pretraining() };
    let wide = augmentation.area((1000, 3), &mut Draw::new(0, 0, 0));
    assert_eq!(wide, Area { left: 498, top: 0, width: 4, height: 3 });
    let tall = augmentation.area((3, 1000), &mut Draw::new(0, 0, 0));
    assert_eq!(tall, Area { left: 0, top: 498, width: 3, height: 4 });
}

#[test]
fn every_operation_bears_the_smallest_pictures() {
    for (width, height) in [(1, 1), (1, 5), (5, 1), (2, 2), (2, 9)] {
        for operation in RandAugment::default().operations {
            for level in [0.0, 5.0, 10.0] {
                let picture = operation.apply(&ramp(width, height), level, Side::Minus);
                assert_eq!((picture.width(), picture.height()), (width, height));
            }
        }
    }
}

#[test]
fn mirrored_twice_is_the_picture_and_zero_never_mirrors() {
    assert_eq!(geometry::mirror(&geometry::mirror(&ramp(7, 4))), ramp(7, 4));
    let plain = Augmentation { scale: [1.0, 1.0], ratio: [1.0, 1.0], flip: 0.0, rand_augment: None };
    assert!((0..200).all(|place| plain.apply(&ramp(8, 8), 8, &mut Draw::new(5, 0, place)) == ramp(8, 8)));
    let flipped = Augmentation { flip: 0.5, ..plain };
    let count = (0..2000).filter(|place| flipped.apply(&ramp(8, 8), 8, &mut Draw::new(5, 0, *place)) != ramp(8, 8));
    assert!((900..1100).contains(&count.count()));
}

#[test]
fn samples_depend_on_seed_epoch_and_place_alone() {
    let augmentation = Augmentation::pretraining();
    let made = |seed, epoch, place| augmentation.apply(&ramp(60, 50), 32, &mut Draw::new(seed, epoch, place));
    assert_eq!(made(1, 2, 3), made(1, 2, 3));
    assert!([made(9, 2, 3), made(1, 9, 3), made(1, 2, 9)].iter().all(|other| *other != made(1, 2, 3)));
}

#[test]
fn draws_are_even() {
    let mut draw = Draw::new(4, 4, 4);
    let mut counts = [0; 10];
    (0..10_000).for_each(|_| counts[draw.below(10)] += 1);
    assert!(counts.iter().all(|count| (880..1120).contains(count)), "{counts:?}");
    assert!((0..1000).all(|_| (0.0..1.0).contains(&draw.share())));
}
