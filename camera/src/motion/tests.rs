//! Drawn scenes of four frames a second, with noise.

use super::*;
use crate::mask::Shape;

const SIDE: usize = 80;

/// A scene at some time: its light, and where a bright square of `size` pixels is, if it is there.
struct Moment {
    light: i32,
    square: Option<[usize; 2]>,
    size: usize,
}

impl Default for Moment {
    fn default() -> Self {
        Self { light: 0, square: None, size: 10 }
    }
}

fn drawn(moment: &Moment, seed: u32) -> Luma8 {
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(12_345);
    let values = (0..SIDE * SIDE).map(|at| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let noise = (state >> 24) as i32 % 9 - 4;
        let (x, y) = (at % SIDE, at / SIDE);
        let is_inside =
            |[left, top]: [usize; 2]| (left..left + moment.size).contains(&x) && (top..top + moment.size).contains(&y);
        let ground = 60 + (x / 8 * 7) as i32;
        let value = if moment.square.is_some_and(is_inside) { 220 } else { ground };
        (value + moment.light + noise).clamp(0, 255) as u8
    });
    Luma8::new(SIDE, SIDE, values.collect()).unwrap()
}

/// Shows a clip of `seconds` to a detector, and says at which quarters of a second there was motion.
fn watch(sensitivity: Sensitivity, seconds: u32, scene: impl Fn(u32) -> Moment) -> Vec<u32> {
    let mut detector = MotionDetector::new(sensitivity);
    let mut see = |quarter| {
        let luma = drawn(&scene(quarter), quarter);
        detector.see(&luma, Duration::from_millis(250) * quarter).is_motion
    };
    (0..seconds * 4).filter(|quarter| see(*quarter)).collect()
}

#[test]
fn what_moves_is_seen_while_it_moves_and_nothing_before() {
    let walk = |quarter: u32| {
        let square = (40..60).contains(&quarter).then(|| [(quarter as usize - 40) * 3, 30]);
        Moment { square, ..Moment::default() }
    };
    let seen = watch(Sensitivity::default(), 30, walk);
    assert!((40..60).all(|quarter| seen.contains(&quarter)), "{seen:?}");
    assert!(seen.iter().all(|quarter| (40..64).contains(quarter)), "{seen:?}");
}

#[test]
fn what_stays_becomes_part_of_the_background() {
    let stays = |quarter: u32| Moment { square: (quarter >= 20).then_some([30, 30]), ..Moment::default() };
    let seen = watch(Sensitivity::default(), 60, stays);
    assert_eq!(seen.first(), Some(&20));
    assert!((60..150).contains(seen.last().unwrap()), "{seen:?}");
}

#[test]
fn noise_alone_and_slow_or_sudden_light_are_no_motion() {
    let lights: [fn(u32) -> i32; 4] = [
        |_| 0,
        |quarter| quarter as i32 / 8,
        |quarter| if quarter >= 40 { 40 } else { 0 },
        |quarter| {
            if quarter >= 40 { -60 } else { 0 }
        },
    ];
    for light in lights {
        let seen = watch(Sensitivity::default(), 30, |quarter| Moment { light: light(quarter), ..Moment::default() });
        assert!(seen.is_empty(), "{seen:?}, light {}", light(119));
    }
}

#[test]
fn motion_is_seen_although_the_light_changes_with_it() {
    let both = |quarter: u32| Moment {
        light: if quarter >= 40 { 30 } else { 0 },
        square: (quarter >= 40).then_some([20, 20]),
        size: 14,
    };
    assert_eq!(watch(Sensitivity::default(), 12, both).first(), Some(&40));
}

#[test]
fn another_scene_starts_anew() {
    let mut detector = MotionDetector::new(Sensitivity::default());
    let still = drawn(&Moment::default(), 1);
    let turned = Luma8::new(SIDE, SIDE, (0..SIDE * SIDE).map(|at| (at * 37 % 251) as u8).collect()).unwrap();
    assert!(detector.see(&still, Duration::ZERO).is_new_scene);
    let motion = detector.see(&turned, Duration::from_secs(1));
    assert!(motion.is_new_scene && !motion.is_motion && motion.area > 0.7, "{motion:?}");
    assert_eq!(detector.see(&turned, Duration::from_secs(2)), STILL);
    let small = turned.shrunk(20);
    assert!(detector.see(&small, Duration::from_secs(3)).is_new_scene);
}

#[test]
fn small_things_far_things_and_what_is_ignored_do_not_count() {
    let at = |square: [usize; 2], size| {
        move |quarter: u32| Moment { square: (quarter >= 8).then_some(square), size, ..Moment::default() }
    };
    assert!(watch(Sensitivity::default(), 4, at([40, 40], 2)).is_empty());
    assert!(!watch(Sensitivity { area: 0.0005, ..Sensitivity::default() }, 4, at([40, 40], 3)).is_empty());
    assert!(watch(Sensitivity { threshold: 200, ..Sensitivity::default() }, 4, at([40, 40], 20)).is_empty());
    let right = Shape::Rectangle { left: 0.5, top: 0.0, width: 0.5, height: 1.0 };
    let ignored = Mask::new(vec![right]).unwrap();
    let half = || Sensitivity { ignored: ignored.clone(), ..Sensitivity::default() };
    assert!(watch(half(), 4, at([50, 40], 12)).is_empty());
    assert!(!watch(half(), 4, at([10, 40], 12)).is_empty());
    let everything = Mask::new(vec![Shape::Rectangle { left: 0.0, top: 0.0, width: 1.0, height: 1.0 }]).unwrap();
    assert!(watch(Sensitivity { ignored: everything, ..Sensitivity::default() }, 4, at([10, 40], 12)).is_empty());
}

#[test]
fn bounds_are_where_it_moves() {
    let mut detector = MotionDetector::new(Sensitivity::default());
    detector.see(&drawn(&Moment::default(), 1), Duration::ZERO);
    let moment = Moment { square: Some([40, 20]), size: 16, ..Moment::default() };
    let motion = detector.see(&drawn(&moment, 2), Duration::from_secs(1));
    let bounds = motion.bounds.unwrap();
    for (bound, exact) in bounds.into_iter().zip([0.5, 0.25, 0.7, 0.45]) {
        assert!((bound - exact).abs() < 0.02, "{bounds:?}");
    }
    assert!((motion.area - 256.0 / 6400.0).abs() < 0.005, "{motion:?}");
}
