//! How bright a picture is, coarsely: for what watches for motion.

use std::cell::Cell;

use image::metadata::Orientation;
use mozjpeg::decompress::DecompressBuilder;

use super::jpeg::{Cut, Header, damaged, unwound};
use super::{PictureError, PictureLimits, check_size, decode_within};
use blip::pixels::Rgb8;

/// Brightness by row from the top left, one value a pixel.
#[derive(Clone, PartialEq, Eq)]
pub struct Luma8 {
    width: usize,
    height: usize,
    values: Vec<u8>,
}

impl std::fmt::Debug for Luma8 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Luma8 of {} x {} pixels", self.width, self.height)
    }
}

impl Luma8 {
    /// Takes `values` as brightness, if there is one for each pixel and there are any.
    pub fn new(width: usize, height: usize, values: Vec<u8>) -> Option<Self> {
        let pixels = width.checked_mul(height)?;
        (pixels > 0 && values.len() == pixels).then_some(Self { width, height, values })
    }

    /// A picture's, with the weights that JPEG gives red, green and blue.
    pub fn of(picture: &Rgb8) -> Self {
        let grey = |[red, green, blue]: &[u8; 3]| {
            ((u32::from(*red) * 77 + u32::from(*green) * 150 + u32::from(*blue) * 29 + 128) >> 8) as u8
        };
        let values = picture.values().as_chunks().0.iter().map(grey).collect();
        Self { width: picture.width(), height: picture.height(), values }
    }

    /// Pixels in a row.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Rows.
    pub fn height(&self) -> usize {
        self.height
    }

    /// The values, row by row.
    pub fn values(&self) -> &[u8] {
        &self.values
    }

    /// At most `side` pixels wide and high: each value is the mean of a rectangle, and all rectangles together are the
    /// picture.
    pub fn shrunk(&self, side: usize) -> Self {
        let (width, height) = (self.width.min(side.max(1)), self.height.min(side.max(1)));
        let span = |index: usize, parts: usize, whole: usize| index * whole / parts..(index + 1) * whole / parts;
        let mean = |x: usize, y: usize| {
            let (columns, rows) = (span(x, width, self.width), span(y, height, self.height));
            let count = columns.len() * rows.len();
            let row = |y: usize| self.values[y * self.width..][columns.clone()].iter().map(|value| usize::from(*value));
            ((rows.flat_map(row).sum::<usize>() + count / 2) / count.max(1)).min(255) as u8
        };
        let values = (0..height).flat_map(|y| (0..width).map(move |x| (x, y))).map(|(x, y)| mean(x, y)).collect();
        Self { width, height, values }
    }
}

/// The brightness of a picture file. Of a JPEG that stands upright it is an eighth of the width and height, for which
/// one coefficient of each 8 x 8 is enough; of any other file it is all of it.
///
/// # Errors
/// As [`crate::decode`].
pub fn luma(bytes: &[u8], limits: &PictureLimits) -> Result<Luma8, PictureError> {
    let is_jpeg = bytes.starts_with(b"\xff\xd8\xff") && bytes.len() as u64 <= limits.file_bytes;
    if is_jpeg {
        let header = Header::read(bytes)?;
        if header.orientation == Orientation::NoTransforms {
            return luma_eighth(bytes, &header, limits);
        }
    }
    decode_within(bytes, limits).map(|picture| Luma8::of(&picture))
}

fn luma_eighth(bytes: &[u8], header: &Header, limits: &PictureLimits) -> Result<Luma8, PictureError> {
    let end_is_missing = Cell::new(false);
    let file = Cut { rest: bytes, end_is_missing: &end_is_missing };
    let read = unwound(|| {
        let mut jpeg = DecompressBuilder::new().from_reader(file).map_err(damaged)?;
        let (width, height) = jpeg.size();
        check_size(width, height, super::jpeg::KIND, limits)?;
        if header.coefficient_bytes(&jpeg) > limits.decoder_bytes {
            return Err(PictureError::Memory { limit: limits.decoder_bytes });
        }
        jpeg.scale(1);
        let mut jpeg = jpeg.grayscale().map_err(damaged)?;
        let (width, height) = (jpeg.width(), jpeg.height());
        let mut values = vec![0; jpeg.min_flat_buffer_size()];
        jpeg.read_scanlines_into(&mut values).map_err(damaged)?;
        jpeg.finish().map_err(damaged)?;
        Luma8::new(width, height, values).ok_or_else(|| damaged("it has too few values"))
    });
    match read {
        Ok(luma) => luma,
        Err(_) if end_is_missing.get() => Err(damaged("its end is missing")),
        Err(reason) => Err(damaged(reason)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{JpegQuality, encode_jpeg};

    fn halves(width: usize, height: usize) -> Rgb8 {
        let values = (0..height).flat_map(|_| (0..width).flat_map(|x| [if x < width / 2 { 40 } else { 200 }; 3]));
        Rgb8::new(width, height, values.collect()).unwrap()
    }

    #[test]
    fn jpeg_gives_an_eighth_and_the_same_brightness() {
        let bytes = encode_jpeg(&halves(640, 480), JpegQuality::default()).unwrap();
        let luma = luma(&bytes, &PictureLimits::default()).unwrap();
        assert_eq!((luma.width(), luma.height()), (80, 60));
        for row in luma.values().chunks(80) {
            assert!(row[..40].iter().all(|value| value.abs_diff(40) <= 2), "{row:?}");
            assert!(row[40..].iter().all(|value| value.abs_diff(200) <= 2), "{row:?}");
        }
    }

    #[test]
    fn other_files_give_all_of_it_and_bad_ones_an_error() {
        let limits = PictureLimits::default();
        let luma_of = |bytes: &[u8]| luma(bytes, &limits);
        assert_eq!(luma_of(b"P6 2 1 255\n\xff\xff\xff\0\0\0").unwrap(), Luma8::new(2, 1, vec![255, 0]).unwrap());
        let bytes = encode_jpeg(&halves(64, 64), JpegQuality::default()).unwrap();
        for length in 0..bytes.len() {
            assert!(luma_of(&bytes[..length]).is_err(), "{length} bytes");
        }
    }

    #[test]
    fn shrinking_takes_means_and_never_grows() {
        let luma = Luma8::new(4, 2, vec![0, 10, 20, 30, 0, 10, 20, 30]).unwrap();
        assert_eq!(luma.shrunk(2), Luma8::new(2, 2, vec![5, 25, 5, 25]).unwrap());
        assert_eq!(luma.shrunk(9), luma);
        assert_eq!(luma.shrunk(0), Luma8::new(1, 1, vec![15]).unwrap());
        assert_eq!(Luma8::new(0, 1, vec![]), None);
        assert_eq!(Luma8::new(2, 1, vec![1]), None);
    }
}
