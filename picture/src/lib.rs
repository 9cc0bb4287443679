//! A picture file becomes 8-bit RGB, as Pillow would open it: turned upright, alpha dropped, `convert("RGB")`; and so
//! does a raw [`frame`] of a camera.
//!
//! A file is a stranger's: its size is looked at before anything is allocated for it, and every fault is an error
//! that says what to do.

#![forbid(unsafe_code)]

mod jpeg;
mod encode;
mod luma;
pub mod frame;

pub use encode::{EncodeError, JpegQuality, encode_jpeg};
pub use luma::{Luma8, luma};

use std::io::{Cursor, Read};
use std::path::{Path, PathBuf};

use blip::pixels::{MAX_PIXELS, Rgb8, Rgb8Error};
use image::metadata::Orientation;
use image::{ColorType, DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits, RgbImage};

/// Largest file that is read: an uncompressed picture of [`MAX_PIXELS`], and room for what cameras append.
pub const MAX_FILE_BYTES: u64 = 128 << 20;
/// Most bytes that a decoder may take for itself and its answer: six a pixel at [`MAX_PIXELS`], which is 16-bit RGB,
/// or the 8-bit picture twice, as turning it takes.
pub const MAX_DECODER_BYTES: u64 = 6 * MAX_PIXELS as u64;

/// How large a picture may be. Within the default, reading one takes 320 MiB at worst: the file, and
/// [`MAX_DECODER_BYTES`]. That is the worst, not the usual: a photo of 12 million pixels takes 70 MiB to turn, and its
/// file. Not counted are a few rows, and what a decoder other than the JPEG's does not report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PictureLimits {
    /// Bytes in the file.
    pub file_bytes: u64,
    /// Pixels in the picture; [`MAX_PIXELS`] holds besides.
    pub pixels: usize,
    /// Bytes that the decoder may allocate, its answer included.
    pub decoder_bytes: u64,
}

impl Default for PictureLimits {
    fn default() -> Self {
        Self { file_bytes: MAX_FILE_BYTES, pixels: MAX_PIXELS, decoder_bytes: MAX_DECODER_BYTES }
    }
}

/// Why a file gives no picture.
#[derive(Debug, thiserror::Error)]
pub enum PictureError {
    /// One of the other faults, in a file.
    #[error("{}: {fault}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        fault: Box<PictureError>,
    },
    /// The operating system does not give it to us.
    #[error("cannot be read ({0}); check that it is there, that it is a file, and that you may read it")]
    Read(std::io::Error),
    /// Zero bytes.
    #[error("is empty (zero bytes); copy it again from where it came")]
    Empty,
    /// More bytes than the limit.
    #[error("has more than {limit} bytes, the most that is read; make it smaller first")]
    FileTooLarge {
        /// [`PictureLimits::file_bytes`].
        limit: u64,
    },
    /// None of the formats that we know.
    #[error("is not a picture that can be read: use JPEG, PNG, WebP, GIF, BMP, TIFF or PNM")]
    NotAPicture,
    /// More pixels than the limit.
    #[error("is {width} x {height} pixels, more than the {limit} that fit in memory; make it smaller first")]
    TooLarge {
        /// Pixels in a row, as the header says.
        width: usize,
        /// Rows, as the header says.
        height: usize,
        /// [`PictureLimits::pixels`].
        limit: usize,
    },
    /// Decoding it takes more memory than the limit.
    #[error("needs more than {limit} bytes to decode; save it as an ordinary 8-bit JPEG or PNG first")]
    Memory {
        /// [`PictureLimits::decoder_bytes`].
        limit: u64,
    },
    /// A picture of a kind that we do not read.
    #[error("is a {kind} that cannot be read ({reason}); save it as an ordinary 8-bit JPEG or PNG first")]
    Unsupported {
        /// Its format.
        kind: &'static str,
        /// What is special about it.
        reason: String,
    },
    /// It ends early, or its bytes contradict each other.
    #[error("is a {kind} that is cut short or damaged ({reason}); copy it again from where it came")]
    Damaged {
        /// Its format.
        kind: &'static str,
        /// What the decoder found.
        reason: String,
    },
}

/// Reads a picture file within the default limits.
///
/// # Errors
/// [`PictureError::File`], which names the file.
pub fn open(path: &Path) -> Result<Rgb8, PictureError> {
    let limits = PictureLimits::default();
    let picture = read(path, &limits).and_then(|bytes| decode_within(&bytes, &limits));
    picture.map_err(|fault| PictureError::File { path: path.to_owned(), fault: Box::new(fault) })
}

/// Decodes the bytes of a picture file within the default limits. The format is told from the bytes.
///
/// # Errors
/// Bytes that are no picture, one that is damaged, or one beyond the limits.
pub fn decode(bytes: &[u8]) -> Result<Rgb8, PictureError> {
    decode_within(bytes, &PictureLimits::default())
}

/// Decodes the bytes of a picture file within `limits`.
///
/// # Errors
/// As [`decode`].
pub fn decode_within(bytes: &[u8], limits: &PictureLimits) -> Result<Rgb8, PictureError> {
    if bytes.is_empty() {
        return Err(PictureError::Empty);
    }
    if bytes.len() as u64 > limits.file_bytes {
        return Err(PictureError::FileTooLarge { limit: limits.file_bytes });
    }
    let format = image::guess_format(bytes).map_err(|_| PictureError::NotAPicture)?;
    let kind = name(format).ok_or(PictureError::NotAPicture)?;
    if format == ImageFormat::Jpeg {
        return jpeg::decode(bytes, limits);
    }
    let fault = |error| fault(error, kind, limits);

    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    reader.limits(memory(limits.decoder_bytes));
    let mut decoder = reader.into_decoder().map_err(fault)?;
    let (width, height) = decoder.dimensions();
    check_size(width as usize, height as usize, kind, limits)?;
    let total = decoder.total_bytes();
    let rest = limits.decoder_bytes.checked_sub(total).ok_or(PictureError::Memory { limit: limits.decoder_bytes })?;
    decoder.set_limits(memory(rest)).map_err(fault)?;
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let color = decoder.color_type();
    let layout = Layout::of(color, format)
        .ok_or_else(|| PictureError::Unsupported { kind, reason: format!("{color:?} values") })?;
    let mut samples = vec![0; total as usize];
    decoder.read_image(&mut samples).map_err(fault)?;
    upright(width, height, layout.rgb(samples), orientation)
        .ok_or_else(|| PictureError::Damaged { kind, reason: "it has fewer values than pixels".to_owned() })
}

fn read(path: &Path, limits: &PictureLimits) -> Result<Vec<u8>, PictureError> {
    let file = std::fs::File::open(path).map_err(PictureError::Read)?;
    let stated = file.metadata().map_err(PictureError::Read)?.len();
    if stated > limits.file_bytes {
        return Err(PictureError::FileTooLarge { limit: limits.file_bytes });
    }
    let mut bytes = Vec::with_capacity(stated as usize);
    file.take(limits.file_bytes + 1).read_to_end(&mut bytes).map_err(PictureError::Read)?;
    Ok(bytes)
}

fn check_size(width: usize, height: usize, kind: &'static str, limits: &PictureLimits) -> Result<(), PictureError> {
    match Rgb8::check_size(width, height) {
        Err(Rgb8Error::Empty { .. }) => {
            Err(PictureError::Damaged { kind, reason: format!("{width} x {height} pixels") })
        }
        Ok(()) if width * height <= limits.pixels => Ok(()),
        _ => Err(PictureError::TooLarge { width, height, limit: limits.pixels.min(MAX_PIXELS) }),
    }
}

fn memory(bytes: u64) -> Limits {
    let mut limits = Limits::no_limits();
    limits.max_alloc = Some(bytes);
    limits
}

fn name(format: ImageFormat) -> Option<&'static str> {
    Some(match format {
        ImageFormat::Bmp => "BMP",
        ImageFormat::Gif => "GIF",
        ImageFormat::Jpeg => "JPEG",
        ImageFormat::Png => "PNG",
        ImageFormat::Pnm => "PNM",
        ImageFormat::Tiff => "TIFF",
        ImageFormat::WebP => "WebP",
        _ => return None,
    })
}

fn fault(error: ImageError, kind: &'static str, limits: &PictureLimits) -> PictureError {
    match error {
        ImageError::Limits(_) => PictureError::Memory { limit: limits.decoder_bytes },
        ImageError::Unsupported(error) => PictureError::Unsupported { kind, reason: error.to_string() },
        error => PictureError::Damaged { kind, reason: error.to_string() },
    }
}

/// How a decoder lays out a pixel.
struct Layout {
    channels: usize,
    /// The bytes of a sample become one.
    narrow: fn([u8; 2]) -> u8,
    bytes: usize,
}

impl Layout {
    /// Source: Pillow 13.0.0: 16-bit values keep their high byte, in PNM they are rounded, and alone (`I;16`) they are
    /// clipped at 255, so that an ordinary 16-bit grey picture is white.
    fn of(color: ColorType, format: ImageFormat) -> Option<Self> {
        let narrow: fn([u8; 2]) -> u8 = match (color, format) {
            (ColorType::L16, _) => |sample| u16::from_ne_bytes(sample).min(255) as u8,
            (_, ImageFormat::Pnm) => |sample| ((u32::from(u16::from_ne_bytes(sample)) * 255 + 32_767) / 65_535) as u8,
            _ => |sample| (u16::from_ne_bytes(sample) >> 8) as u8,
        };
        let (channels, bytes) = match color {
            ColorType::L8 => (1, 1),
            ColorType::La8 => (2, 1),
            ColorType::Rgb8 => (3, 1),
            ColorType::Rgba8 => (4, 1),
            ColorType::L16 => (1, 2),
            ColorType::La16 => (2, 2),
            ColorType::Rgb16 => (3, 2),
            ColorType::Rgba16 => (4, 2),
            _ => return None,
        };
        Some(Self { channels, narrow, bytes })
    }

    /// Three bytes a pixel, in the same memory where a pixel has as many.
    fn rgb(&self, mut samples: Vec<u8>) -> Vec<u8> {
        let step = self.channels * self.bytes;
        let pixels = samples.len() / step;
        let pixel = |samples: &[u8], index: usize| {
            let channel = |channel: usize| {
                let at = index * step + if self.channels < 3 { 0 } else { channel * self.bytes };
                if self.bytes == 1 { samples[at] } else { (self.narrow)([samples[at], samples[at + 1]]) }
            };
            [channel(0), channel(1), channel(2)]
        };
        if step == 3 {
            return samples;
        }
        if step < 3 {
            return (0..pixels).flat_map(|index| pixel(&samples, index)).collect();
        }
        for index in 0..pixels {
            let values = pixel(&samples, index);
            samples[index * 3..][..3].copy_from_slice(&values);
        }
        samples.truncate(pixels * 3);
        samples.shrink_to_fit();
        samples
    }
}

fn upright(width: u32, height: u32, values: Vec<u8>, orientation: Orientation) -> Option<Rgb8> {
    let mut picture = DynamicImage::ImageRgb8(RgbImage::from_raw(width, height, values)?);
    picture.apply_orientation(orientation);
    let (width, height) = (picture.width() as usize, picture.height() as usize);
    Rgb8::new(width, height, picture.into_rgb8().into_raw()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: PictureLimits = PictureLimits { file_bytes: 1 << 16, pixels: 4096, decoder_bytes: 1 << 20 };

    fn ppm(width: usize, height: usize) -> Vec<u8> {
        let mut bytes = format!("P6 {width} {height} 255\n").into_bytes();
        bytes.extend((0..width * height * 3).map(|index| index as u8));
        bytes
    }

    fn png_header(width: u32, height: u32) -> Vec<u8> {
        let mut bytes = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR".to_vec();
        bytes.extend(width.to_be_bytes());
        bytes.extend(height.to_be_bytes());
        bytes.extend([8, 2, 0, 0, 0]);
        let mut crc = u32::MAX;
        for byte in &bytes[12..] {
            crc ^= u32::from(*byte);
            for _ in 0..8 {
                crc = if crc & 1 == 1 { (crc >> 1) ^ 0xEDB8_8320 } else { crc >> 1 };
            }
        }
        bytes.extend((!crc).to_be_bytes());
        bytes.extend([0, 0, 0, 0]);
        bytes.extend(b"IDAT\x35\xaf\x06\x1e");
        bytes
    }

    #[test]
    fn picture_of_8_bits_keeps_its_values() {
        let bytes = ppm(3, 2);
        let picture = decode(&bytes).unwrap();
        assert_eq!((picture.width(), picture.height()), (3, 2));
        assert_eq!(picture.values(), (0..18).collect::<Vec<u8>>());
    }

    #[test]
    fn empty_bytes_and_text_are_not_pictures() {
        assert!(matches!(decode(b""), Err(PictureError::Empty)));
        for text in [&b"a"[..], b"Dear diary, today I saw a cat.\n", &[0; 400]] {
            assert!(matches!(decode(text), Err(PictureError::NotAPicture)));
        }
    }

    #[test]
    fn huge_header_is_refused_before_anything_is_allocated() {
        let mut jpeg = b"\xff\xd8\xff\xc0\0\x11\x08\xff\xdc\xff\xdc\x03\x01\x11\0\x02\x11\0\x03\x11\0".to_vec();
        jpeg.extend(b"\xff\xda\0\x0c\x03\x01\0\x02\0\x03\0\0\x3f\0");
        for bytes in [png_header(65_500, 65_500), jpeg] {
            let message = decode(&bytes).unwrap_err().to_string();
            let expected = "is 65500 x 65500 pixels, more than the 33554432 that fit in memory; make it smaller first";
            assert_eq!(message, expected);
        }
    }

    #[test]
    fn picture_cut_anywhere_is_an_error() {
        let bytes = ppm(5, 4);
        for length in 0..bytes.len() {
            assert!(decode(&bytes[..length]).is_err(), "{length} bytes");
        }
        let message = decode(&png_header(4, 4)).unwrap_err().to_string();
        assert!(message.starts_with("is a PNG that is cut short or damaged ("), "{message}");
    }

    #[test]
    fn each_limit_is_kept() {
        assert!(decode_within(&ppm(64, 64), &SMALL).is_ok());
        assert!(matches!(decode_within(&ppm(65, 64), &SMALL), Err(PictureError::TooLarge { .. })));
        assert!(matches!(decode_within(&[0; 70_000], &SMALL), Err(PictureError::FileTooLarge { .. })));
        let tight = PictureLimits { decoder_bytes: 1000, ..SMALL };
        assert!(matches!(decode_within(&ppm(64, 64), &tight), Err(PictureError::Memory { .. })));
    }

    #[test]
    fn errors_name_the_file() {
        let message = open(Path::new("no/such/cat.jpg")).unwrap_err().to_string();
        assert!(message.starts_with("no/such/cat.jpg: cannot be read ("), "{message}");
        assert!(open(Path::new(".")).unwrap_err().to_string().starts_with(".: cannot be read ("));
    }
}
