//! A frame: a picture as its source gave it, and what is known of it.

use std::sync::OnceLock;
use std::time::Duration;

use blip::pixels::Rgb8;
use picture::frame::{FrameError, PixelFormat, RawFrame};
use picture::{EncodeError, JpegQuality, Luma8, PictureError, PictureLimits, encode_jpeg};

/// A picture as its source gave it.
#[derive(Clone, Debug)]
pub enum Image {
    /// The bytes of a JPEG file.
    Jpeg(Vec<u8>),
    /// Samples of a camera's.
    Raw(RawFrame<Vec<u8>>),
    /// Pixels.
    Rgb(Rgb8),
}

/// What tells a file from every other, and from itself once it has changed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileStamp {
    /// When it was last written, since 1970; negative before.
    pub modified_ms: i64,
    /// Its name in its folder.
    pub name: String,
    /// Its length.
    pub bytes: u64,
}

/// One frame.
#[derive(Debug)]
pub struct Frame {
    /// The picture.
    pub image: Image,
    /// Counts what the camera captured, from 1. A gap is frames that were dropped.
    pub sequence: u64,
    /// When it was captured, since the epoch of [`crate::Options`]; in a video that waits, where in the video it is.
    pub taken: Duration,
    /// For how long it was exposed, if the source says so.
    pub exposure: Option<Duration>,
    /// What a text file beside it says.
    pub note: Option<String>,
    /// The file or device that it came from.
    pub origin: String,
    /// The file, where it came from a folder.
    pub file: Option<FileStamp>,
    pub(crate) quality: JpegQuality,
    pub(crate) encoded: OnceLock<Vec<u8>>,
}

/// Why a frame gives no pixels or no JPEG.
#[derive(Debug, thiserror::Error)]
pub enum FrameFault {
    /// Its file cannot be decoded.
    #[error(transparent)]
    Picture(#[from] PictureError),
    /// Its samples make no picture.
    #[error(transparent)]
    Raw(#[from] FrameError),
    /// It cannot be written.
    #[error(transparent)]
    Encode(#[from] EncodeError),
}

/// The brightness of a raw frame, every `step`th pixel of every `step`th row.
fn luma(frame: &RawFrame<Vec<u8>>, step: usize) -> Option<Luma8> {
    let every = if frame.format == PixelFormat::Yuyv { 2 } else { 1 };
    let mut values = Vec::new();
    for y in (0..frame.height).step_by(step) {
        let start = y.checked_mul(frame.stride)?;
        let row = frame.bytes.get(start..start.checked_add(frame.width.checked_mul(every)?)?)?;
        values.extend(row.iter().step_by(every * step));
    }
    Luma8::new(frame.width.div_ceil(step), frame.height.div_ceil(step), values)
}

impl Frame {
    /// A frame that no camera gave.
    pub fn new(image: Image, origin: impl Into<String>) -> Self {
        Self {
            image,
            sequence: 1,
            taken: Duration::ZERO,
            exposure: None,
            note: None,
            origin: origin.into(),
            file: None,
            quality: JpegQuality::default(),
            encoded: OnceLock::new(),
        }
    }

    /// Its pixels, turned upright.
    ///
    /// # Errors
    /// A file that cannot be decoded, and samples that make no picture.
    pub fn to_rgb(&self) -> Result<Rgb8, FrameFault> {
        match &self.image {
            Image::Jpeg(bytes) => Ok(picture::decode(bytes)?),
            Image::Raw(raw) => Ok(raw.to_rgb()?),
            Image::Rgb(rgb) => Ok(rgb.clone()),
        }
    }

    /// Its JPEG: as captured, or encoded the first time that it is asked for.
    ///
    /// # Errors
    /// Samples that make no picture, and a picture that cannot be written.
    pub fn jpeg(&self) -> Result<&[u8], FrameFault> {
        let encoded = match &self.image {
            Image::Jpeg(bytes) => return Ok(bytes),
            _ if self.encoded.get().is_some() => return Ok(self.encoded.get_or_init(Vec::new)),
            Image::Raw(raw) => encode_jpeg(&raw.to_rgb()?, self.quality)?,
            Image::Rgb(rgb) => encode_jpeg(rgb, self.quality)?,
        };
        Ok(self.encoded.get_or_init(|| encoded))
    }

    /// How bright it is, at most `side` pixels wide and high. All of its pixels are not made for it, if it can be helped.
    ///
    /// # Errors
    /// As [`Self::to_rgb`].
    pub fn luma(&self, side: usize) -> Result<Luma8, FrameFault> {
        let luma = match &self.image {
            Image::Jpeg(bytes) => picture::luma(bytes, &PictureLimits::default())?,
            Image::Raw(raw) => {
                let step = raw.width.max(raw.height).div_euclid(side.max(1) * 4).max(1);
                luma(raw, step).map_or_else(|| raw.to_rgb().map(|rgb| Luma8::of(&rgb)), Ok)?
            }
            Image::Rgb(rgb) => Luma8::of(rgb),
        };
        Ok(luma.shrunk(side))
    }
}

#[cfg(test)]
mod tests {
    use picture::frame::{Matrix, Range};

    use super::*;

    fn raw(format: PixelFormat, bytes: Vec<u8>) -> RawFrame<Vec<u8>> {
        RawFrame { format, width: 16, height: 8, stride: 16, matrix: Matrix::Bt601, range: Range::Full, bytes }
    }

    #[test]
    fn jpeg_stays_as_captured_and_raw_is_encoded_once() {
        let grey = Rgb8::new(16, 8, vec![90; 16 * 8 * 3]).unwrap();
        let jpeg = encode_jpeg(&grey, JpegQuality::default()).unwrap();
        let captured = Frame::new(Image::Jpeg(jpeg.clone()), "test");
        assert_eq!(captured.jpeg().unwrap(), jpeg);
        assert_eq!(captured.to_rgb().unwrap(), grey);
        let mut planes = vec![90; 16 * 8];
        planes.resize(16 * 12, 128);
        let raw = Frame::new(Image::Raw(raw(PixelFormat::I420, planes)), "test");
        assert_eq!(raw.to_rgb().unwrap(), grey);
        let first = raw.jpeg().unwrap();
        assert_eq!(first, jpeg);
        assert!(std::ptr::eq(first, raw.jpeg().unwrap()));
    }

    #[test]
    fn brightness_is_the_same_whatever_the_image_is() {
        let half = |x: usize| if x < 8 { 30 } else { 220 };
        let luma: Vec<u8> = (0..16 * 8).map(|index| half(index % 16)).collect();
        let planes = [luma.clone(), vec![128; 64]].concat();
        let yuyv: Vec<u8> = luma.iter().flat_map(|luma| [*luma, 128]).collect();
        let rgb = Rgb8::new(16, 8, luma.iter().flat_map(|luma| [*luma; 3]).collect()).unwrap();
        let images = [
            Image::Raw(raw(PixelFormat::Nv12, planes)),
            Image::Raw(RawFrame { stride: 32, ..raw(PixelFormat::Yuyv, yuyv) }),
            Image::Rgb(rgb.clone()),
            Image::Jpeg(encode_jpeg(&rgb, JpegQuality::new(100).unwrap()).unwrap()),
        ];
        for image in images {
            let seen = Frame::new(image, "test").luma(2).unwrap();
            let values = seen.values().chunks(2);
            assert!(values.clone().count() <= 2, "{seen:?}");
            for row in values {
                assert!(row[0].abs_diff(30) <= 1 && row[1].abs_diff(220) <= 1, "{row:?}");
            }
        }
    }

    #[test]
    fn jpeg_without_code_tables_is_read_with_the_usual_ones() {
        // As many webcams write MJPEG. Source: ITU-T T.81, annex K.3.
        let rgb = Rgb8::new(16, 8, (0..16 * 8 * 3).map(|index| (index * 5) as u8).collect()).unwrap();
        let whole = encode_jpeg(&rgb, JpegQuality::default()).unwrap();
        let (mut without, mut at) = (whole[..2].to_vec(), 2);
        while whole[at + 1] != 0xDA {
            let end = at + 2 + usize::from(u16::from_be_bytes([whole[at + 2], whole[at + 3]]));
            if whole[at + 1] != 0xC4 {
                without.extend(&whole[at..end]);
            }
            at = end;
        }
        without.extend(&whole[at..]);
        assert!(without.len() < whole.len() - 400);
        let read = |bytes: Vec<u8>| Frame::new(Image::Jpeg(bytes), "test").to_rgb().unwrap();
        assert_eq!(read(without), read(whole));
    }

    #[test]
    fn samples_that_are_missing_are_an_error() {
        let short = Frame::new(Image::Raw(raw(PixelFormat::I420, vec![0; 100])), "test");
        assert!(short.to_rgb().is_err() && short.jpeg().is_err() && short.luma(4).is_err());
    }
}
