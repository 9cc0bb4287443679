//! A JPEG through libjpeg in C, which Pillow runs too: the same inverse transform, chroma and colours, to the bit.

use std::cell::Cell;
use std::io::{BufRead, Read};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use blip::pixels::Rgb8;
use image::metadata::Orientation;
use mozjpeg::decompress::DecompressBuilder;
use mozjpeg::{ColorSpace, Decompress};

use super::{PictureError, PictureLimits, check_size, upright};

/// Most scans of a progressive JPEG. Encoders write about ten; each is a pass over the whole picture.
const MAX_SCANS: usize = 500;
pub(super) const KIND: &str = "JPEG";
/// What begins the message of an error of libjpeg, which `mozjpeg` unwinds with.
const FATAL: &str = "libjpeg fatal error: ";

/// Decodes a JPEG, which begins with its start marker.
pub(super) fn decode(bytes: &[u8], limits: &PictureLimits) -> Result<Rgb8, PictureError> {
    let header = Header::read(bytes)?;
    let end_is_missing = Cell::new(false);
    let file = Cut { rest: bytes, end_is_missing: &end_is_missing };
    let reason = match unwound(|| pixels(file, &header, limits)) {
        Ok(picture) => return picture,
        Err(_) if end_is_missing.get() => "its end is missing".to_owned(),
        Err(reason) => reason,
    };
    Err(damaged(reason))
}

pub(super) fn damaged(reason: impl ToString) -> PictureError {
    PictureError::Damaged { kind: KIND, reason: reason.to_string() }
}

fn unsupported(reason: impl ToString) -> PictureError {
    PictureError::Unsupported { kind: KIND, reason: reason.to_string() }
}

/// Runs a call into libjpeg, which gives up by unwinding: its message. A panic goes on as a panic.
pub(super) fn unwound<T>(call: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(call)).map_err(|cause| {
        match cause.downcast_ref::<String>().and_then(|message| message.strip_prefix(FATAL)) {
            Some(message) => message.to_owned(),
            None => resume_unwind(cause),
        }
    })
}

/// Unwinds where libjpeg gives up: call it within [`unwound`].
fn pixels(file: Cut, header: &Header, limits: &PictureLimits) -> Result<Rgb8, PictureError> {
    let jpeg = DecompressBuilder::new().from_reader(file).map_err(damaged)?;
    let (width, height) = jpeg.size();
    check_size(width, height, KIND, limits)?;
    let channels = jpeg.components().len();
    let memory = (width * height * 3) as u64 + header.coefficient_bytes(&jpeg);
    if memory > limits.decoder_bytes {
        return Err(PictureError::Memory { limit: limits.decoder_bytes });
    }
    let values = match channels {
        1 | 3 => rgb(jpeg)?,
        4 => rgb_of_cmyk(jpeg)?,
        _ => return Err(unsupported(format!("{channels} channels"))),
    };
    upright(width as u32, height as u32, values, header.orientation).ok_or_else(|| damaged("it has too few values"))
}

fn rgb(jpeg: Decompress<Cut>) -> Result<Vec<u8>, PictureError> {
    let mut jpeg = jpeg.to_colorspace(ColorSpace::JCS_RGB).map_err(damaged)?;
    let mut values = vec![0; jpeg.min_flat_buffer_size()];
    jpeg.read_scanlines_into(&mut values).map_err(damaged)?;
    jpeg.finish().map_err(damaged)?;
    Ok(values)
}

fn rgb_of_cmyk(jpeg: Decompress<Cut>) -> Result<Vec<u8>, PictureError> {
    let mut jpeg = jpeg.to_colorspace(ColorSpace::JCS_CMYK).map_err(damaged)?;
    let (width, height) = (jpeg.width(), jpeg.height());
    let mut values = Vec::with_capacity(width * height * 3);
    let mut row = vec![[0; 4]; width];
    for _ in 0..height {
        jpeg.read_scanlines_into(&mut row).map_err(damaged)?;
        values.extend(row.iter().flat_map(|ink| rgb_of_ink(*ink)));
    }
    jpeg.finish().map_err(damaged)?;
    Ok(values)
}

/// Cyan, magenta, yellow and black as every JPEG of four channels is taken to hold them: 255 is no ink.
///
/// Source: Pillow 13.0.0, `JpegImagePlugin` (raw mode `CMYK;I`) and `cmyk2rgb` in `Convert.c`.
fn rgb_of_ink([cyan, magenta, yellow, black]: [u8; 4]) -> [u8; 3] {
    [cyan, magenta, yellow].map(|left| {
        let product = u32::from(255 - left) * u32::from(black) + 128;
        black.saturating_sub(((product + (product >> 8)) >> 8) as u8)
    })
}

/// A file in memory that says when more of it is asked for than there is. libjpeg by itself would go on in grey.
pub(super) struct Cut<'a> {
    pub(super) rest: &'a [u8],
    pub(super) end_is_missing: &'a Cell<bool>,
}

impl Read for Cut<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.rest.read(buffer)
    }
}

impl BufRead for Cut<'_> {
    fn fill_buf(&mut self) -> std::io::Result<&[u8]> {
        if self.rest.is_empty() {
            self.end_is_missing.set(true);
            return Err(std::io::Error::other("its end is missing"));
        }
        Ok(self.rest)
    }

    fn consume(&mut self, count: usize) {
        self.rest.consume(count);
    }
}

/// What is known of a JPEG before libjpeg sees it.
pub(super) struct Header {
    pub(super) orientation: Orientation,
    /// All coefficients are kept until the last scan is read.
    keeps_coefficients: bool,
}

impl Header {
    /// Looks at the whole file, and lets through what is damaged: libjpeg says what is wrong with it.
    pub(super) fn read(bytes: &[u8]) -> Result<Self, PictureError> {
        let mut header = Self { orientation: Orientation::NoTransforms, keeps_coefficients: false };
        let (mut channels, mut scans) = (None, 0);
        for segment in (Segments { rest: bytes }) {
            match (segment.marker, segment.content) {
                (marker::EXIF, [b'E', b'x', b'i', b'f', 0, 0, exif @ ..]) if scans == 0 => {
                    header.orientation = Orientation::from_exif_chunk(exif).unwrap_or(header.orientation);
                }
                (marker::BASELINE..=marker::LAST_FRAME, _) if scans > 0 => {}
                (marker::BASELINE..=marker::PROGRESSIVE, [8, _, _, _, _, count, ..]) => {
                    header.keeps_coefficients |= segment.marker == marker::PROGRESSIVE;
                    channels = Some(*count);
                }
                (marker::BASELINE..=marker::PROGRESSIVE, [bits, ..]) => {
                    return Err(unsupported(format!("{bits} bits a value")));
                }
                (marker::DHT | marker::JPG | marker::DAC, _) => {}
                (marker::BASELINE..=marker::LAST_FRAME, _) => {
                    let reason = "it is lossless, hierarchical or in arithmetic code";
                    return Err(unsupported(reason));
                }
                (marker::SCAN, content) => {
                    header.keeps_coefficients |= content.first().copied() != channels;
                    scans += 1;
                }
                _ => {}
            }
        }
        if scans > MAX_SCANS {
            return Err(unsupported(format!("{scans} scans, more than {MAX_SCANS}")));
        }
        Ok(header)
    }

    /// What libjpeg keeps besides some rows: two bytes a coefficient, in whole blocks.
    pub(super) fn coefficient_bytes(&self, jpeg: &Decompress<Cut>) -> u64 {
        if !self.keeps_coefficients {
            return 0;
        }
        let side = |blocks: u32, factor: i32| u64::from(blocks).next_multiple_of(factor.max(1) as u64);
        let blocks = jpeg.components().iter().map(|component| {
            side(component.width_in_blocks, component.h_samp_factor)
                * side(component.height_in_blocks, component.v_samp_factor)
        });
        blocks.sum::<u64>() * 64 * 2
    }
}

/// Second bytes of markers. Source: ITU-T T.81, table B.1.
mod marker {
    pub const STUFFED: u8 = 0x00;
    pub const TEM: u8 = 0x01;
    pub const BASELINE: u8 = 0xC0;
    pub const PROGRESSIVE: u8 = 0xC2;
    pub const DHT: u8 = 0xC4;
    pub const JPG: u8 = 0xC8;
    pub const DAC: u8 = 0xCC;
    pub const LAST_FRAME: u8 = 0xCF;
    pub const FIRST_RESTART: u8 = 0xD0;
    pub const START: u8 = 0xD8;
    pub const END: u8 = 0xD9;
    pub const SCAN: u8 = 0xDA;
    pub const EXIF: u8 = 0xE1;
    pub const FILL: u8 = 0xFF;
}

struct Segment<'a> {
    marker: u8,
    content: &'a [u8],
}

/// The segments up to the end marker. What lies between them is passed over, as libjpeg does.
struct Segments<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Segments<'a> {
    type Item = Segment<'a>;

    fn next(&mut self) -> Option<Segment<'a>> {
        loop {
            let start = self.rest.iter().position(|byte| *byte == marker::FILL)?;
            let (&marker, rest) = self.rest[start + 1..].split_first()?;
            match marker {
                marker::FILL => self.rest = &self.rest[start + 1..],
                marker::STUFFED | marker::TEM | marker::FIRST_RESTART..=marker::START => self.rest = rest,
                marker::END => return None,
                _ => {
                    let length = usize::from(u16::from_be_bytes(*rest.first_chunk()?));
                    let content = rest.get(2..length)?;
                    self.rest = &rest[length..];
                    return Some(Segment { marker, content });
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCAN: &[u8] = b"\xff\xda\0\x08\x01\x01\0\0\x3f\0\0";

    fn grey(marker: u8, bits: u8, scans: usize) -> Vec<u8> {
        let mut bytes = b"\xff\xd8".to_vec();
        bytes.extend([0xFF, marker, 0, 11, bits, 0, 8, 0, 8, 1, 1, 0x11, 0]);
        bytes.extend(SCAN.repeat(scans));
        bytes.extend(b"\xff\xd9");
        bytes
    }

    #[test]
    fn white_black_and_a_mean_become_what_pillow_makes_of_them() {
        assert_eq!(rgb_of_ink([255, 255, 255, 255]), [255, 255, 255]);
        assert_eq!(rgb_of_ink([255, 255, 255, 0]), [0, 0, 0]);
        assert_eq!(rgb_of_ink([0, 128, 255, 200]), [0, 100, 200]);
    }

    #[test]
    fn kinds_that_libjpeg_is_not_built_for_are_named() {
        for (bytes, reason) in [
            (grey(0xC1, 12, 1), "12 bits a value"),
            (grey(0xC3, 8, 1), "it is lossless, hierarchical or in arithmetic code"),
            (grey(0xC9, 8, 1), "it is lossless, hierarchical or in arithmetic code"),
            (grey(0xC2, 8, 501), "501 scans, more than 500"),
        ] {
            let error = decode(&bytes, &PictureLimits::default()).unwrap_err();
            assert!(matches!(&error, PictureError::Unsupported { reason: found, .. } if found == reason), "{error}");
        }
    }

    #[test]
    fn error_of_libjpeg_is_an_error_with_its_words() {
        let error = decode(&grey(0xC0, 8, 1), &PictureLimits::default()).unwrap_err().to_string();
        assert!(error.starts_with("is a JPEG that is cut short or damaged (Quantization table"), "{error}");
        let error = decode(b"\xff\xd8\xff\xd9", &PictureLimits::default()).unwrap_err().to_string();
        assert!(error.starts_with("is a JPEG that is cut short or damaged ("), "{error}");
    }

    #[test]
    fn coefficients_that_must_be_kept_are_within_the_limit() {
        let limits = PictureLimits { decoder_bytes: 8 * 8 * 3 + 127, ..PictureLimits::default() };
        let memory = |marker, limits: &PictureLimits| {
            matches!(decode(&grey(marker, 8, 1), limits), Err(PictureError::Memory { .. }))
        };
        assert!(memory(0xC2, &limits));
        assert!(!memory(0xC0, &limits));
        assert!(!memory(0xC2, &PictureLimits { decoder_bytes: limits.decoder_bytes + 1, ..limits }));
    }

    #[test]
    fn scans_are_counted_past_data_thumbnails_and_fill_bytes() {
        let mut bytes = b"\xff\xd8\xff\xe1\0\x06\xff\xda\xff\xd9".to_vec();
        bytes.extend(SCAN);
        bytes.extend(b"\x12\xff\0\xda\xff\xd3\xff\xff");
        bytes.extend(SCAN);
        bytes.extend(b"\xff\xd9");
        bytes.extend(SCAN);
        let markers: Vec<u8> = Segments { rest: &bytes }.map(|segment| segment.marker).collect();
        assert_eq!(markers, [marker::EXIF, marker::SCAN, marker::SCAN]);
    }

    #[test]
    #[should_panic(expected = "ours")]
    fn panic_of_ours_stays_a_panic() {
        let _ = unwound(|| panic!("ours {}", 1));
    }
}
