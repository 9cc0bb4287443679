//! Operations that move pixels.

use blip::pixels::Rgb8;

use super::{Area, FILL};

/// Fraction bits of a place in the source. Source: OpenCV 4.5 `imgwarp.cpp`, `AB_BITS`.
const PLACE_BITS: u32 = 10;
/// Fraction bits of a weight along one side. Source: the same file, `INTER_BITS`.
const WEIGHT_BITS: u32 = 5;
const ONE: i64 = 1 << WEIGHT_BITS;

/// Cuts out a part, which lies within the picture.
pub(super) fn crop(picture: &Rgb8, area: Area) -> Rgb8 {
    if (area.width, area.height) == (picture.width(), picture.height()) {
        return picture.clone();
    }
    let stride = picture.width() * 3;
    let rows = picture.values().chunks_exact(stride).skip(area.top).take(area.height);
    let values = rows.flat_map(|row| &row[area.left * 3..][..area.width * 3]).copied().collect();
    made(area.width, area.height, values)
}

/// Left becomes right.
pub(super) fn mirror(picture: &Rgb8) -> Rgb8 {
    let rows = picture.values().chunks_exact(picture.width() * 3);
    let values = rows.flat_map(|row| row.chunks_exact(3).rev().flatten()).copied().collect();
    made(picture.width(), picture.height(), values)
}

/// Adds a share of the row to each column's place, and of the column to each row's.
///
/// Source: BLIP `transform/randaugment.py`, `shear_x_func` and `shear_y_func`.
pub(super) fn shear(picture: &Rgb8, [sideways, down]: [f32; 2]) -> Rgb8 {
    warp(picture, [1.0, sideways.into(), 0.0, down.into(), 1.0, 0.0])
}

/// Moves left and up by so many pixels.
///
/// Source: BLIP `transform/randaugment.py`, `translate_x_func` and `translate_y_func`.
pub(super) fn translate(picture: &Rgb8, [left, up]: [f32; 2]) -> Rgb8 {
    warp(picture, [1.0, 0.0, (-left).into(), 0.0, 1.0, (-up).into()])
}

/// Turns counter-clockwise about the middle.
///
/// Source: BLIP `transform/randaugment.py`, `rotate_func`; OpenCV `getRotationMatrix2D`.
pub(super) fn rotate(picture: &Rgb8, degrees: f64) -> Rgb8 {
    let angle = degrees * (std::f64::consts::PI / 180.0);
    let (sine, cosine) = (angle.sin(), angle.cos());
    let (x, y) = (picture.width() as f64 / 2.0, picture.height() as f64 / 2.0);
    let right = (1.0 - cosine) * x - sine * y;
    let down = sine * x + (1.0 - cosine) * y;
    warp(picture, [cosine, sine, right, -sine, cosine, down])
}

/// Moves each pixel by `[a, b, c, d, e, f]`, `x' = a x + b y + c`, `y' = d x + e y + f`; between pixels linear, in fixed
/// point, and [`FILL`] beyond the picture.
///
/// Source: OpenCV 4.5 `imgwarp.cpp`, `warpAffine` (which inverts the matrix) and `remapBilinear`, in its 8-bit form.
fn warp(picture: &Rgb8, matrix: [f64; 6]) -> Rgb8 {
    let [a, b, c, d, e, f] = inverse(matrix);
    let scale = f64::from(1 << PLACE_BITS);
    let fixed = |place: f64| (place * scale).round_ties_even() as i64;
    let half = 1 << (PLACE_BITS - WEIGHT_BITS - 1);
    let (width, height) = (picture.width(), picture.height());
    let steps: Vec<[i64; 2]> = (0..width).map(|x| [fixed(a * x as f64), fixed(d * x as f64)]).collect();
    let mut values = Vec::with_capacity(picture.values().len());
    for y in 0..height {
        let start = [fixed(b * y as f64 + c) + half, fixed(e * y as f64 + f) + half];
        for step in &steps {
            let [x, y] = [0, 1].map(|axis| (start[axis] + step[axis]) >> (PLACE_BITS - WEIGHT_BITS));
            values.extend(between(picture, x, y));
        }
    }
    made(width, height, values)
}

fn inverse([a, b, c, d, e, f]: [f64; 6]) -> [f64; 6] {
    let determinant = a * e - b * d;
    let over = if determinant == 0.0 { 0.0 } else { 1.0 / determinant };
    let (a, b, d, e) = (e * over, b * -over, d * -over, a * over);
    [a, b, -a * c - b * f, d, e, -d * c - e * f]
}

/// The colour at a place, whose lowest [`WEIGHT_BITS`] bits are its fraction.
fn between(picture: &Rgb8, x: i64, y: i64) -> [u8; 3] {
    let (left, top) = (x >> WEIGHT_BITS, y >> WEIGHT_BITS);
    let (right_weight, low_weight) = (x & (ONE - 1), y & (ONE - 1));
    let corners = [
        (pixel(picture, left, top), (ONE - right_weight) * (ONE - low_weight)),
        (pixel(picture, left + 1, top), right_weight * (ONE - low_weight)),
        (pixel(picture, left, top + 1), (ONE - right_weight) * low_weight),
        (pixel(picture, left + 1, top + 1), right_weight * low_weight),
    ];
    std::array::from_fn(|channel| {
        let sum: i64 = corners.iter().map(|(colour, weight)| i64::from(colour[channel]) * weight).sum();
        ((sum + ONE * ONE / 2) >> (2 * WEIGHT_BITS)) as u8
    })
}

fn pixel(picture: &Rgb8, x: i64, y: i64) -> [u8; 3] {
    let (width, height) = (picture.width() as i64, picture.height() as i64);
    if x < 0 || y < 0 || x >= width || y >= height {
        return FILL;
    }
    let at = (y * width + x) as usize * 3;
    std::array::from_fn(|channel| picture.values()[at + channel])
}

fn made(width: usize, height: usize, values: Vec<u8>) -> Rgb8 {
    Rgb8::new(width, height, values).expect("a part of a picture, or one of its size, is a picture")
}
