//! What a picture looks like, in 64 bits: pictures that look alike differ in few of them.
//!
//! Source: Neal Krawetz, "Kind of Like That" (2013), dHash: the picture as 9 x 8 shades of grey, and for each two
//! neighbours in a row whether it gets brighter.

use picture::{Luma8, PictureError, PictureLimits};

const COLUMNS: usize = 9;
const ROWS: usize = 8;
/// A reduced picture of fewer pixels in a cell would say little.
const CELL: usize = 3;

/// The hash of a picture file.
///
/// # Errors
/// A file that cannot be decoded.
pub fn likeness_of(picture: &[u8]) -> Result<u64, PictureError> {
    let reduced = picture::luma(picture, &PictureLimits::default())?;
    if reduced.width() >= COLUMNS * CELL && reduced.height() >= ROWS * CELL {
        return Ok(likeness(&reduced));
    }
    picture::decode(picture).map(|picture| likeness(&Luma8::of(&picture)))
}

/// The hash of a picture. The first bit is that of the top left.
pub fn likeness(picture: &Luma8) -> u64 {
    let mut hash = 0;
    for row in 0..ROWS {
        let shades: [u64; COLUMNS] = std::array::from_fn(|column| shade(picture, column, row));
        for pair in shades.windows(2) {
            hash = hash << 1 | u64::from(pair[0] < pair[1]);
        }
    }
    hash
}

/// The mean of a cell, in 256ths of a value.
fn shade(picture: &Luma8, column: usize, row: usize) -> u64 {
    let span = |index: usize, parts: usize, whole: usize| {
        let start = index * whole / parts;
        start..((index + 1) * whole / parts).max(start + 1)
    };
    let (columns, rows) = (span(column, COLUMNS, picture.width()), span(row, ROWS, picture.height()));
    let count = (columns.len() * rows.len()) as u64;
    let values =
        |y: usize| picture.values()[y * picture.width()..][columns.clone()].iter().map(|value| u64::from(*value));
    (rows.flat_map(values).sum::<u64>() << 8) / count
}

#[cfg(test)]
mod tests {
    use blip::pixels::Rgb8;
    use picture::{JpegQuality, encode_jpeg};

    use super::*;

    fn scene(width: usize, height: usize, shift: usize) -> Rgb8 {
        let value = |x: usize, y: usize| {
            let (x, y) = ((x + shift) as f64 / width as f64, y as f64 / height as f64);
            (127.0 + 60.0 * (9.0 * x).sin() + 60.0 * (7.0 * y + 5.0 * x).cos()) as u8
        };
        let values = (0..height).flat_map(|y| (0..width).flat_map(move |x| [value(x, y); 3]));
        Rgb8::new(width, height, values.collect()).unwrap()
    }

    #[test]
    fn it_gets_brighter_to_the_right_or_it_does_not() {
        let ramp: Vec<u8> = (0..72).map(|place| (place % 9) as u8 * 20).collect();
        assert_eq!(likeness(&Luma8::new(9, 8, ramp.clone()).unwrap()), u64::MAX);
        assert_eq!(likeness(&Luma8::new(9, 8, ramp.into_iter().rev().collect()).unwrap()), 0);
        let mut first = vec![0; 72];
        first[1] = 1;
        assert_eq!(likeness(&Luma8::new(9, 8, first).unwrap()), 1 << 63);
        assert_eq!(likeness(&Luma8::new(1, 1, vec![7]).unwrap()), 0);
    }

    #[test]
    fn another_size_or_quality_looks_alike_and_another_scene_does_not() {
        let jpeg = |picture: &Rgb8, quality| encode_jpeg(picture, JpegQuality::new(quality).unwrap()).unwrap();
        let hash = likeness_of(&jpeg(&scene(640, 480, 0), 90)).unwrap();
        for near in [jpeg(&scene(640, 480, 0), 30), jpeg(&scene(320, 240, 0), 90), jpeg(&scene(100, 75, 0), 90)] {
            let bits = (hash ^ likeness_of(&near).unwrap()).count_ones();
            assert!(bits <= 4, "{bits} bits");
        }
        let bits = (hash ^ likeness_of(&jpeg(&scene(640, 480, 200), 90)).unwrap()).count_ones();
        assert!(bits > 16, "{bits} bits");
        assert!(likeness_of(b"no picture").is_err());
    }
}
