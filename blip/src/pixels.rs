//! Pixels in: an 8-bit RGB picture becomes the numbers that the image encoder reads.
//!
//! The reference is Pillow's bicubic on 8-bit values followed by Hugging Face's `BlipImageProcessor`; the answer is
//! theirs to the last bit, on every platform.

mod resize;

pub use resize::resize;

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

/// Brings values between 0 and 255 to the range that the model was trained on: over 255, less the mean, over the
/// standard deviation.
///
/// Returns `[3, height, width]`, plane by plane.
///
/// Source: transformers `image_transforms.py`, `rescale` (in f64, then rounded to f32) and `normalize` (in f32).
pub fn normalize(picture: &Rgb8, normalization: &Normalization) -> Vec<f32> {
    let tables: [[f32; 256]; 3] = std::array::from_fn(|channel| {
        let (mean, std) = (normalization.mean[channel], normalization.std[channel]);
        std::array::from_fn(|value| ((value as f64 * (1.0 / 255.0)) as f32 - mean) / std)
    });
    let mut planes = vec![0.0; picture.values.len()];
    let (reds, rest) = planes.split_at_mut(picture.width * picture.height);
    let (greens, blues) = rest.split_at_mut(picture.width * picture.height);
    let (pixels, _) = picture.values.as_chunks::<3>();
    for (((pixel, red), green), blue) in pixels.iter().zip(reds).zip(greens).zip(blues) {
        let at = pixel.map(usize::from);
        (*red, *green, *blue) = (tables[0][at[0]], tables[1][at[1]], tables[2][at[2]]);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_that_make_no_picture_are_refused() {
        assert_eq!(Rgb8::new(0, 4, vec![]), Err(Rgb8Error::Empty { width: 0, height: 4 }));
        assert_eq!(Rgb8::new(2, 1, vec![0; 5]), Err(Rgb8Error::Length { width: 2, height: 1, found: 5 }));
        for (width, height) in [(65_500, 65_500), (65_536, 1), (1, 65_536), (usize::MAX, usize::MAX)] {
            assert_eq!(Rgb8::check_size(width, height), Err(Rgb8Error::TooLarge { width, height }));
        }
    }

    #[test]
    fn black_and_white_are_the_ends_of_the_models_range() {
        let picture = Rgb8::new(2, 1, vec![0, 0, 0, 255, 255, 255]).unwrap();
        let planes = normalize(&picture, &Normalization { mean: [0.5; 3], std: [0.5, 0.25, 0.5] });
        assert_eq!(planes, [-1.0, 1.0, -2.0, 2.0, -1.0, 1.0]);
    }
}
