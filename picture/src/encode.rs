//! A picture becomes a JPEG file, for a camera that gives raw frames.

use blip::pixels::Rgb8;
use mozjpeg::{ColorSpace, Compress};

use super::jpeg::unwound;

/// How much of a picture a JPEG keeps: from 1 to 100, on libjpeg's scale.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct JpegQuality(u8);

/// Why a picture gives no JPEG.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// No quality of libjpeg's.
    #[error("a JPEG quality of {0} is not from 1 to 100")]
    Quality(u8),
    /// libjpeg gives up.
    #[error("the picture cannot be written as a JPEG ({0})")]
    Encoder(String),
}

impl JpegQuality {
    /// Checks a quality.
    ///
    /// # Errors
    /// One that is not from 1 to 100.
    pub fn new(quality: u8) -> Result<Self, EncodeError> {
        if (1..=100).contains(&quality) { Ok(Self(quality)) } else { Err(EncodeError::Quality(quality)) }
    }

    /// The number.
    pub fn get(self) -> u8 {
        self.0
    }
}

impl Default for JpegQuality {
    /// 90: what most cameras write, and far above where a caption changes.
    fn default() -> Self {
        Self(90)
    }
}

/// Writes a picture as a baseline JPEG with chroma at half the width and height, as libjpeg-turbo does.
///
/// mozjpeg's own search for a smaller file takes a small processor several times as long, and is off.
///
/// # Errors
/// libjpeg gives up, as it does when memory runs out.
pub fn encode_jpeg(picture: &Rgb8, quality: JpegQuality) -> Result<Vec<u8>, EncodeError> {
    let written = unwound(|| {
        let mut jpeg = Compress::new(ColorSpace::JCS_RGB);
        jpeg.set_size(picture.width(), picture.height());
        jpeg.set_fastest_defaults();
        jpeg.set_quality(f32::from(quality.get()));
        let mut jpeg = jpeg.start_compress(Vec::new())?;
        jpeg.write_scanlines(picture.values())?;
        jpeg.finish()
    });
    written.and_then(|written| written.map_err(|error| error.to_string())).map_err(EncodeError::Encoder)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gradient(width: usize, height: usize) -> Rgb8 {
        let pixel = |x: usize, y: usize| [(x * 255 / width) as u8, (y * 255 / height) as u8, 128];
        let values = (0..height).flat_map(|y| (0..width).flat_map(move |x| pixel(x, y))).collect();
        Rgb8::new(width, height, values).unwrap()
    }

    #[test]
    fn picture_comes_back_nearly_as_it_was() {
        for (width, height) in [(64, 48), (33, 17), (1, 1)] {
            let picture = gradient(width, height);
            let bytes = encode_jpeg(&picture, JpegQuality::default()).unwrap();
            let back = crate::decode(&bytes).unwrap();
            assert_eq!((back.width(), back.height()), (width, height));
            let furthest = back.values().iter().zip(picture.values()).map(|(one, other)| one.abs_diff(*other)).max();
            assert!(furthest.unwrap() <= 12, "{furthest:?} at {width} x {height}");
        }
    }

    #[test]
    fn more_quality_is_more_bytes_and_nothing_beyond_the_scale_is_taken() {
        let picture = gradient(256, 256);
        let size = |quality| encode_jpeg(&picture, JpegQuality::new(quality).unwrap()).unwrap().len();
        assert!(size(10) < size(90) && size(90) < size(100));
        assert_eq!(JpegQuality::new(0), Err(EncodeError::Quality(0)));
        assert_eq!(JpegQuality::new(101).unwrap_err().to_string(), "a JPEG quality of 101 is not from 1 to 100");
    }
}
