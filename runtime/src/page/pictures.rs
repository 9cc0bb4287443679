//! Small pictures for lists.

use blip::pixels::Rgb8;
use picture::{JpegQuality, PictureError, decode, encode_jpeg};

/// Widest small picture, in pixels: twice what a list shows, for screens with fine dots.
const WIDEST: usize = 640;
/// Enough for a look.
const QUALITY: u8 = 75;

/// A picture file as a small JPEG.
///
/// # Errors
/// A file that cannot be decoded.
pub(super) fn small(file: &[u8]) -> Result<Vec<u8>, PictureError> {
    let small = shrunk(&decode(file)?);
    let quality = JpegQuality::new(QUALITY).unwrap_or_default();
    encode_jpeg(&small, quality).map_err(|error| PictureError::Damaged { kind: "JPEG", reason: error.to_string() })
}

/// Means of square blocks of pixels, the smallest that make it narrow enough; what is left at the edges is cut off.
fn shrunk(picture: &Rgb8) -> Rgb8 {
    let step = picture.width().max(picture.height()).div_ceil(WIDEST);
    let (width, height) = (picture.width() / step, picture.height() / step);
    if step == 1 || width == 0 || height == 0 {
        return picture.clone();
    }
    let area = u32::try_from(step * step).unwrap_or(u32::MAX);
    let stride = picture.width() * 3;
    let mut values = Vec::with_capacity(width * height * 3);
    let mut sums = vec![0_u32; width * 3];
    for rows in picture.values().chunks_exact(stride * step).take(height) {
        sums.fill(0);
        for row in rows.chunks_exact(stride) {
            for (sums, block) in sums.chunks_exact_mut(3).zip(row.chunks_exact(step * 3)) {
                for pixel in block.chunks_exact(3) {
                    sums.iter_mut().zip(pixel).for_each(|(sum, value)| *sum += u32::from(*value));
                }
            }
        }
        values.extend(sums.iter().map(|sum| u8::try_from((sum + area / 2) / area).unwrap_or(u8::MAX)));
    }
    Rgb8::new(width, height, values).unwrap_or_else(|_| picture.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_become_their_means() {
        let (width, height) = (1301, 41);
        let value = |place: usize| (place % 7 * 30) as u8;
        let picture = Rgb8::new(width, height, (0..width * height * 3).map(value).collect()).unwrap();
        let small = shrunk(&picture);
        assert_eq!((small.width(), small.height()), (433, 13));
        let sum: u32 = (0..9).map(|i| u32::from(picture.values()[((i / 3) * width + i % 3) * 3])).sum();
        assert_eq!(u32::from(small.values()[0]), (sum + 4) / 9);
        let tiny = Rgb8::new(3, 2, vec![9; 18]).unwrap();
        assert_eq!(shrunk(&tiny), tiny);
        // Too narrow for its height to shrink.
        let line = Rgb8::new(1, 2000, vec![9; 6000]).unwrap();
        assert_eq!(shrunk(&line), line);
    }
}
