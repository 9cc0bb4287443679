//! Where the objects of a scene stand, and how it is lit.

use super::caption::{Arrangement, Background, Light, Object, Relation};
use super::chance::Chance;
use super::cutouts::Cutouts;

/// The light of a scene on `background`.
pub fn light(background: Background, chance: &mut Chance) -> Light {
    match background {
        Background::Night => Light::Night,
        _ => *chance.one_of(&[Light::Day, Light::Day, Light::Overcast, Light::Dusk]),
    }
}

/// Gives each object of an arrangement a cut-out and a place. Boxes do not meet, and lie within the picture.
pub fn place(arrangement: &Arrangement, cutouts: &Cutouts, side: usize, chance: &mut Chance) -> Vec<Object> {
    let slots = match arrangement {
        Arrangement::Group { count, .. } => group(*count, chance),
        Arrangement::Pair { relation, .. } => pair(*relation, chance),
    };
    let nouns: Vec<&str> = match arrangement {
        Arrangement::Group { noun, count } => vec![noun.as_str(); *count],
        Arrangement::Pair { first, second, .. } => vec![first, second],
    };
    nouns.into_iter().zip(slots).map(|(noun, slot)| object(noun, slot, cutouts, side, chance)).collect()
}

/// A square that an object must stay within: the centre and the side, as shares of the picture's side.
type Slot = [f32; 3];

fn group(count: usize, chance: &mut Chance) -> Vec<Slot> {
    match count {
        1 => {
            let side = chance.between(0.5, 0.9);
            let free = 0.5 * (1.0 - side);
            vec![[0.5 + chance.between(-free, free), 0.5 + chance.between(-free, free), side]]
        }
        2 => {
            let relation = *chance.one_of(&Relation::ALL);
            pair(relation, chance)
        }
        _ => {
            let (near, middle, far) = (0.25, 0.5, 0.75);
            let row = [1.0 / 6.0, 0.5, 5.0 / 6.0];
            let mut slots = match chance.below(4) {
                0 => row.map(|x| [x, 0.5 + chance.between(-0.2, 0.2), 1.0 / 3.0]),
                1 => row.map(|y| [0.5 + chance.between(-0.2, 0.2), y, 1.0 / 3.0]),
                2 => [[near, near, 0.48], [far, near, 0.48], [middle, far, 0.48]],
                _ => [[middle, near, 0.48], [near, far, 0.48], [far, far, 0.48]],
            };
            slots.rotate_left(chance.below(3));
            slots.to_vec()
        }
    }
}

/// Two halves of the picture; across them the objects are nearly level.
fn pair(relation: Relation, chance: &mut Chance) -> Vec<Slot> {
    let level = chance.between(0.3, 0.7);
    let mut across = || (level + chance.between(-0.06, 0.06)).clamp(0.25, 0.75);
    let (first, second) = (across(), across());
    match relation {
        Relation::LeftOf => vec![[0.25, first, 0.48], [0.75, second, 0.48]],
        Relation::RightOf => vec![[0.75, first, 0.48], [0.25, second, 0.48]],
        Relation::Above => vec![[first, 0.25, 0.48], [second, 0.75, 0.48]],
        Relation::Below => vec![[first, 0.75, 0.48], [second, 0.25, 0.48]],
    }
}

fn object(noun: &str, [x, y, room]: Slot, cutouts: &Cutouts, side: usize, chance: &mut Chance) -> Object {
    let (cutout, [width, height]) = cutouts.draw(noun, chance);
    let rotation = chance.between(-LARGEST_ROTATION, LARGEST_ROTATION);
    let tint = [(); 3].map(|()| chance.between(0.82, 1.18));
    let (cosine, sine) = turn(rotation);
    let box_width = width * cosine + height * sine.abs();
    let box_height = width * sine.abs() + height * cosine;
    let scale = room * chance.between(0.72, 1.0) / box_width.max(box_height);
    let (box_width, box_height) = (box_width * scale, box_height * scale);
    let free_x = 0.5 * (room - box_width);
    let free_y = 0.5 * (room - box_height);
    let left = x - 0.5 * box_width + chance.between(-free_x, free_x) * WANDER;
    let top = y - 0.5 * box_height + chance.between(-free_y, free_y) * WANDER;
    let pixels = side as f32;
    let place = [left * pixels, top * pixels, box_width * pixels, box_height * pixels];
    Object { noun: noun.to_owned(), cutout: cutout.to_owned(), place, rotation, tint }
}

/// Cosine and sine of a small angle, from the tangent of its half by its series: the same on every machine.
pub fn turn(rotation: f32) -> (f32, f32) {
    let half = 0.5 * rotation;
    let tangent = half * (1.0 + half * half / 3.0);
    let square = tangent * tangent;
    ((1.0 - square) / (1.0 + square), 2.0 * tangent / (1.0 + square))
}

/// Radians.
const LARGEST_ROTATION: f32 = 0.2;
/// How much of the free room of its slot an object may move in.
const WANDER: f32 = 0.8;
