//! Pixels in: an 8-bit RGB picture becomes the numbers that the image encoder reads.
//!
//! The reference is Pillow's bicubic on 8-bit values followed by Hugging Face's `BlipImageProcessor`; the answer is
//! theirs to the last bit, on every platform.

use serde::{Deserialize, Serialize};

/// Longest side that a picture may have: what a JPEG file can state.
pub const MAX_SIDE: usize = 65_535;
/// Most pixels that a picture may have: 100 MB as [`Rgb8`], so that a board with 512 MB can hold one.
pub const MAX_PIXELS: usize = 1 << 25;

/// An 8-bit RGB picture, row by row from the top left, three values a pixel.
#[derive(Clone, PartialEq, Eq)]
pub struct Rgb8 {
    width: usize,
    height: usize,
    values: Vec<u8>,
}

/// Sizes and values that make no picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rgb8Error {
    /// A side is zero.
    #[error("a picture of {width} x {height} pixels is empty")]
    Empty {
        /// Pixels in a row.
        width: usize,
        /// Rows.
        height: usize,
    },
    /// Beyond [`MAX_SIDE`] or [`MAX_PIXELS`].
    #[error(
        "a picture of {width} x {height} pixels is too large: at most {MAX_PIXELS} pixels and {MAX_SIDE} a side; \
         make it smaller first"
    )]
    TooLarge {
        /// Pixels in a row.
        width: usize,
        /// Rows.
        height: usize,
    },
    /// Not three values for each pixel.
    #[error("a picture of {width} x {height} pixels has {found} values instead of three a pixel")]
    Length {
        /// Pixels in a row.
        width: usize,
        /// Rows.
        height: usize,
        /// Values that were given.
        found: usize,
    },
}

impl Rgb8 {
    /// Takes `values` as a picture, after checking its size.
    ///
    /// # Errors
    /// An empty or too large size, and a number of values other than three a pixel.
    pub fn new(width: usize, height: usize, values: Vec<u8>) -> Result<Self, Rgb8Error> {
        Self::check_size(width, height)?;
        if values.len() != width * height * 3 {
            return Err(Rgb8Error::Length { width, height, found: values.len() });
        }
        Ok(Self { width, height, values })
    }

    /// Says whether a picture may have this size; for a reader to ask before it allocates.
    ///
    /// # Errors
    /// A side of zero, or one beyond [`MAX_SIDE`], or more than [`MAX_PIXELS`] in all.
    pub fn check_size(width: usize, height: usize) -> Result<(), Rgb8Error> {
        if width == 0 || height == 0 {
            return Err(Rgb8Error::Empty { width, height });
        }
        let pixels = width.checked_mul(height);
        if width > MAX_SIDE || height > MAX_SIDE || pixels.is_none_or(|pixels| pixels > MAX_PIXELS) {
            return Err(Rgb8Error::TooLarge { width, height });
        }
        Ok(())
    }

    /// Pixels in a row.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Rows.
    pub fn height(&self) -> usize {
        self.height
    }

    /// Red, green and blue of each pixel, row by row.
    pub fn values(&self) -> &[u8] {
        &self.values
    }

    /// The values alone.
    pub fn into_values(self) -> Vec<u8> {
        self.values
    }

    fn row(&self, y: usize) -> &[u8] {
        &self.values[y * self.width * 3..][..self.width * 3]
    }
}

impl std::fmt::Debug for Rgb8 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Rgb8 of {} x {} pixels", self.width, self.height)
    }
}

/// What is taken from each channel, and what it is divided by, once its values lie between 0 and 1.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Normalization {
    /// Taken from red, green and blue.
    pub mean: [f32; 3],
    /// Red, green and blue are divided by it.
    pub std: [f32; 3],
}

impl Default for Normalization {
    /// BLIP's, which are CLIP's.
    ///
    /// Source: BLIP `data/__init__.py`, `create_dataset`.
    #[expect(clippy::excessive_precision, reason = "as the authors write them")]
    fn default() -> Self {
        Self { mean: [0.48145466, 0.4578275, 0.40821073], std: [0.26862954, 0.26130258, 0.27577711] }
    }
}

/// Resizes both sides to `side`, without a crop and without keeping the aspect ratio: bicubic with antialiasing, on
/// 8-bit values. The horizontal pass comes first, but for pictures much taller than wide.
///
/// Besides the result it holds the rows that one output row reads, never a whole intermediate picture.
///
/// # Panics
/// If `side` is zero or beyond [`MAX_SIDE`]; a model's image size is neither.
///
/// Source: Pillow 13 `src/libImaging/Resample.c`, `ImagingResample`. Up to Pillow 12 the horizontal pass always comes
/// first, which moves some values of tall pictures by one.
pub fn resize(picture: &Rgb8, side: usize) -> Rgb8 {
    assert!((1..=MAX_SIDE).contains(&side), "the side of an image input lies between 1 and {MAX_SIDE}");
    if (picture.width, picture.height) == (side, side) {
        return picture.clone();
    }
    let (columns, rows) = (windows(picture.width, side), windows(picture.height, side));
    let values = if is_vertical_first(picture, side) {
        vertical_first(picture, &columns, &rows)
    } else {
        horizontal_first(picture, &columns, &rows)
    };
    Rgb8 { width: side, height: side, values }
}

/// Brings values between 0 and 255 to the range that the model was trained on: over 255, less the mean, over the
/// standard deviation.
///
/// Returns `[3, height, width]`, plane by plane.
///
/// Source: transformers `image_transforms.py`, `rescale` (in f64, then rounded to f32) and `normalize` (in f32).
pub fn normalize(picture: &Rgb8, normalization: &Normalization) -> Vec<f32> {
    let mut planes = Vec::with_capacity(picture.values.len());
    for channel in 0..3 {
        let (mean, std) = (normalization.mean[channel], normalization.std[channel]);
        let table: [f32; 256] = std::array::from_fn(|value| ((value as f64 * (1.0 / 255.0)) as f32 - mean) / std);
        planes.extend(picture.values.chunks_exact(3).map(|pixel| table[usize::from(pixel[channel])]));
    }
    planes
}

/// A picture as the image encoder reads it: [`resize`], then [`normalize`]; `[3, side, side]`.
///
/// # Panics
/// As [`resize`] does.
pub fn preprocess(picture: &Rgb8, side: usize, normalization: &Normalization) -> Vec<f32> {
    normalize(&resize(picture, side), normalization)
}

/// Pillow goes down the columns first where the height shrinks by more than twice what the width does.
///
/// Source: Pillow pull request 9549, and 409 sizes tried with Pillow 13.0.0.
fn is_vertical_first(picture: &Rgb8, side: usize) -> bool {
    picture.height > side && 2 * picture.width < picture.height + side
}

fn vertical_first(picture: &Rgb8, columns: &[Window], rows: &[Window]) -> Vec<u8> {
    let mut sums = vec![0_i32; picture.width * 3];
    let mut low = vec![0_u8; sums.len()];
    let mut values = vec![0_u8; columns.len() * rows.len() * 3];
    for (window, output) in rows.iter().zip(values.chunks_exact_mut(columns.len() * 3)) {
        blend(window, |y| picture.row(y), &mut sums, &mut low);
        resize_row(&low, columns, output);
    }
    values
}

fn horizontal_first(picture: &Rgb8, columns: &[Window], rows: &[Window]) -> Vec<u8> {
    let length = columns.len() * 3;
    let kept = rows.iter().map(|window| window.weights.len()).max().unwrap_or(1);
    let mut ring = vec![0_u8; kept * length];
    let mut narrowed = 0;
    let mut sums = vec![0_i32; length];
    let mut values = vec![0_u8; rows.len() * length];
    for (window, output) in rows.iter().zip(values.chunks_exact_mut(length)) {
        for y in narrowed.max(window.start)..window.end() {
            resize_row(picture.row(y), columns, &mut ring[y % kept * length..][..length]);
        }
        narrowed = window.end();
        blend(window, |y| &ring[y % kept * length..][..length], &mut sums, output);
    }
    values
}

/// Fraction bits of a weight: of 32, eight are for the value, and two for sums beyond it and the sign.
///
/// Source: Pillow `Resample.c`, `PRECISION_BITS`.
const WEIGHT_BITS: u32 = 32 - 8 - 2;
/// One half, with which each sum starts so that the shift rounds.
const HALF: i32 = 1 << (WEIGHT_BITS - 1);

/// The neighbouring values that one output value reads, with their fixed-point weights.
struct Window {
    start: usize,
    weights: Vec<i32>,
}

impl Window {
    fn end(&self) -> usize {
        self.start + self.weights.len()
    }
}

/// One window for each output value along a side.
///
/// Source: Pillow `Resample.c`, `precompute_coeffs` and `normalize_coeffs_8bpc`.
fn windows(input: usize, output: usize) -> Vec<Window> {
    let scale = input as f64 / output as f64;
    let stretch = scale.max(1.0);
    let support = 2.0 * stretch;
    let window = |index: usize| {
        let center = (index as f64 + 0.5) * scale;
        let start = (center - support + 0.5).max(0.0) as usize;
        let end = ((center + support + 0.5) as usize).min(input);
        let shares: Vec<f64> = (start..end).map(|x| bicubic((x as f64 - center + 0.5) * (1.0 / stretch))).collect();
        let total: f64 = shares.iter().sum();
        Window { start, weights: shares.iter().map(|share| fixed(share / total)).collect() }
    };
    (0..output).map(window).collect()
}

fn fixed(share: f64) -> i32 {
    let scaled = share * f64::from(1 << WEIGHT_BITS);
    (scaled + 0.5_f64.copysign(scaled)) as i32
}

/// Keys' cubic with a = -0.5.
///
/// Source: Pillow `Resample.c`, `bicubic_filter`.
fn bicubic(distance: f64) -> f64 {
    const A: f64 = -0.5;
    let x = distance.abs();
    if x < 1.0 {
        ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        (((x - 5.0) * x + 8.0) * x - 4.0) * A
    } else {
        0.0
    }
}

/// The vertical pass: the rows of a window, each times its weight.
fn blend<'a>(window: &Window, row: impl Fn(usize) -> &'a [u8], sums: &mut [i32], output: &mut [u8]) {
    sums.fill(HALF);
    for (y, weight) in (window.start..).zip(&window.weights) {
        for (sum, value) in sums.iter_mut().zip(row(y)) {
            *sum += i32::from(*value) * weight;
        }
    }
    for (value, sum) in output.iter_mut().zip(sums) {
        *value = rounded(*sum);
    }
}

/// The horizontal pass over one row.
fn resize_row(row: &[u8], columns: &[Window], narrow: &mut [u8]) {
    for (window, pixel) in columns.iter().zip(narrow.chunks_exact_mut(3)) {
        let mut sums = [HALF; 3];
        let read = row[window.start * 3..].chunks_exact(3);
        for (weight, values) in window.weights.iter().zip(read) {
            for (sum, value) in sums.iter_mut().zip(values) {
                *sum += i32::from(*value) * weight;
            }
        }
        pixel.copy_from_slice(&sums.map(rounded));
    }
}

fn rounded(sum: i32) -> u8 {
    (sum >> WEIGHT_BITS).clamp(0, 255) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ramp(width: usize, height: usize) -> Rgb8 {
        let values = (0..width * height * 3).map(|index| (index * 37 % 251) as u8).collect();
        Rgb8::new(width, height, values).unwrap()
    }

    #[test]
    fn sizes_that_make_no_picture_are_refused() {
        assert_eq!(Rgb8::new(0, 4, vec![]), Err(Rgb8Error::Empty { width: 0, height: 4 }));
        assert_eq!(Rgb8::new(2, 1, vec![0; 5]), Err(Rgb8Error::Length { width: 2, height: 1, found: 5 }));
        for (width, height) in [(65_500, 65_500), (65_536, 1), (1, 65_536), (usize::MAX, usize::MAX)] {
            assert_eq!(Rgb8::check_size(width, height), Err(Rgb8Error::TooLarge { width, height }));
        }
    }

    #[test]
    fn picture_of_the_right_size_is_left_as_it_is() {
        assert_eq!(resize(&ramp(32, 32), 32), ramp(32, 32));
    }

    #[test]
    fn one_colour_stays_that_colour_at_every_extreme_shape() {
        for (width, height) in [(1, 1), (1, 10_000), (10_000, 1), (65_535, 2), (2, 65_535), (7, 500), (500, 7)] {
            let picture = Rgb8::new(width, height, [255, 128, 1].repeat(width * height)).unwrap();
            for side in [1, 2, 32, 96] {
                assert_eq!(resize(&picture, side).values(), [255, 128, 1].repeat(side * side), "{width} x {height}");
            }
        }
    }

    #[test]
    fn passes_in_either_order_differ_by_rounding_only() {
        let picture = ramp(90, 201);
        let (columns, rows) = (windows(90, 64), windows(201, 64));
        let one = vertical_first(&picture, &columns, &rows);
        let other = horizontal_first(&picture, &columns, &rows);
        assert_ne!(one, other);
        assert!(one.iter().zip(&other).all(|(one, other)| one.abs_diff(*other) <= 3));
    }

    #[test]
    fn black_and_white_are_the_ends_of_the_models_range() {
        let picture = Rgb8::new(2, 1, vec![0, 0, 0, 255, 255, 255]).unwrap();
        let planes = normalize(&picture, &Normalization { mean: [0.5; 3], std: [0.5, 0.25, 0.5] });
        assert_eq!(planes, [-1.0, 1.0, -2.0, 2.0, -1.0, 1.0]);
    }
}
