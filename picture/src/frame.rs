//! A raw frame of a camera becomes 8-bit RGB: the formats that V4L2 calls YUYV, YUV420 (I420) and NV12.
//!
//! A pixel has the colour of the chroma sample that covers it, without interpolation. Sums are of integers, so that the
//! answer is the same on every processor, and at most 1 of 255 from the standards' own.
//!
//! Of crates, `yuv` 0.8 has other bits of YUYV on x86-64 than on aarch64 and takes what is below black for black, and
//! `dcv-color-primitives` does not read YUYV.

use blip::pixels::{Rgb8, Rgb8Error};

/// How the samples of a frame lie in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PixelFormat {
    /// Two pixels in four bytes: luma, blue, luma, red. V4L2's `YUYV`, also called YUY2.
    Yuyv,
    /// A plane of luma, then blue and red at half the width and height. V4L2's `YUV420`.
    I420,
    /// A plane of luma, then one of pairs of blue and red at half the width and height. V4L2's `NV12`.
    Nv12,
}

/// Which sums of red, green and blue luma and chroma are: V4L2's `ycbcr_enc`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Matrix {
    /// Of standard definition and of most webcams.
    Bt601,
    /// Of high definition.
    Bt709,
}

/// Which bytes are black and white: V4L2's `quantization`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Range {
    /// Luma from 16 to 235, chroma from 16 to 240.
    Limited,
    /// From 0 to 255, as in JPEG.
    Full,
}

/// A frame as the camera's driver hands it over, and what it says about it; `B` is its bytes, borrowed or its own.
#[derive(Clone, Copy)]
pub struct RawFrame<B> {
    /// How the samples lie.
    pub format: PixelFormat,
    /// Pixels in a row.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// Bytes from one row of the first plane to the next: V4L2's `bytesperline`. A row of I420's blue and red has half
    /// as many, one of NV12's pairs as many.
    pub stride: usize,
    /// Which sums luma and chroma are.
    pub matrix: Matrix,
    /// Which bytes are black and white.
    pub range: Range,
    /// The planes, one right after the other. More bytes than they need are left alone.
    pub bytes: B,
}

/// Why a frame gives no picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// No size for a picture.
    #[error(transparent)]
    Size(#[from] Rgb8Error),
    /// A side cannot be halved that the format halves.
    #[error(
        "a frame of {width} x {height} pixels cannot be {format:?}, which halves a side that is odd; \
         ask for another size"
    )]
    Odd {
        /// Its format.
        format: PixelFormat,
        /// Pixels in a row.
        width: usize,
        /// Rows.
        height: usize,
    },
    /// Rows overlap, or those of I420's chroma start between two bytes.
    #[error(
        "rows of {format:?} that are {stride} bytes apart cannot hold {width} pixels; give the driver's bytesperline"
    )]
    Stride {
        /// Its format.
        format: PixelFormat,
        /// Bytes from row to row, as given.
        stride: usize,
        /// Pixels in a row.
        width: usize,
    },
    /// Fewer bytes than its planes have.
    #[error("a frame of {found} bytes lacks some of the {needed} that its size takes; read it again")]
    Short {
        /// Bytes that were given.
        found: usize,
        /// Bytes up to the end of the last row.
        needed: usize,
    },
}

impl<B> std::fmt::Debug for RawFrame<B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} of {} x {} pixels", self.format, self.width, self.height)
    }
}

impl<B: AsRef<[u8]>> RawFrame<B> {
    /// The frame as a picture.
    ///
    /// # Errors
    /// A size that is no picture's or that the format cannot have, a stride below a row, and missing bytes.
    pub fn to_rgb(&self) -> Result<Rgb8, FrameError> {
        self.check()?;
        let weights = Weights::new(self.matrix, self.range);
        let mut row = Row { luma: vec![0; self.width], blue: vec![0; self.width], red: vec![0; self.width] };
        let mut values = vec![0; self.width * self.height * 3];
        for (y, output) in values.chunks_exact_mut(self.width * 3).enumerate() {
            self.read_row(y, &mut row);
            weights.convert(&row, output);
        }
        Ok(Rgb8::new(self.width, self.height, values)?)
    }

    fn check(&self) -> Result<(), FrameError> {
        let Self { format, width, height, stride, .. } = *self;
        Rgb8::check_size(width, height)?;
        if width % 2 == 1 || format != PixelFormat::Yuyv && height % 2 == 1 {
            return Err(FrameError::Odd { format, width, height });
        }
        let row = if format == PixelFormat::Yuyv { width * 2 } else { width };
        if stride < row || format == PixelFormat::I420 && stride % 2 == 1 {
            return Err(FrameError::Stride { format, stride, width });
        }
        // The last row may end before its padding.
        let (strides, rest) = match format {
            PixelFormat::Yuyv => (height - 1, row),
            PixelFormat::I420 => (height / 2 * 3 - 1, stride / 2 + row / 2),
            PixelFormat::Nv12 => (height / 2 * 3 - 1, row),
        };
        let needed = stride.saturating_mul(strides).saturating_add(rest);
        if self.bytes.as_ref().len() < needed {
            return Err(FrameError::Short { found: self.bytes.as_ref().len(), needed });
        }
        Ok(())
    }

    /// Spreads the samples of row `y` over its pixels. [`Self::check`] has found them to be there.
    fn read_row(&self, y: usize, row: &mut Row) {
        let (width, stride) = (self.width, self.stride);
        let at = |start: usize, length: usize| &self.bytes.as_ref()[start..][..length];
        let (luma, _) = row.luma.as_chunks_mut::<2>();
        let pixels = luma.iter_mut().zip(row.blue.as_chunks_mut().0).zip(row.red.as_chunks_mut().0);
        let chroma = self.height * stride;
        match self.format {
            PixelFormat::Yuyv => {
                for (((luma, blue), red), samples) in pixels.zip(at(y * stride, width * 2).as_chunks().0) {
                    let [first, blue_sample, second, red_sample] = *samples;
                    (*luma, *blue, *red) = ([first, second], [blue_sample; 2], [red_sample; 2]);
                }
            }
            PixelFormat::I420 => {
                let blues = at(chroma + y / 2 * (stride / 2), width / 2);
                let reds = at(chroma + (self.height / 2 + y / 2) * (stride / 2), width / 2);
                let samples = at(y * stride, width).as_chunks().0.iter().zip(blues).zip(reds);
                for (((luma, blue), red), ((pair, blue_sample), red_sample)) in pixels.zip(samples) {
                    (*luma, *blue, *red) = (*pair, [*blue_sample; 2], [*red_sample; 2]);
                }
            }
            PixelFormat::Nv12 => {
                let samples = at(y * stride, width).as_chunks().0.iter();
                let chroma = at(chroma + y / 2 * stride, width).as_chunks().0;
                for (((luma, blue), red), (pair, [blue_sample, red_sample])) in pixels.zip(samples.zip(chroma)) {
                    (*luma, *blue, *red) = (*pair, [*blue_sample; 2], [*red_sample; 2]);
                }
            }
        }
    }
}

/// One row's samples, one of each for a pixel.
struct Row {
    luma: Vec<u8>,
    blue: Vec<u8>,
    red: Vec<u8>,
}

/// Fraction bits of a weight: the sums stay below 2^31.
const WEIGHT_BITS: u32 = 20;

/// What a sample adds to red, green and blue, in fixed point.
struct Weights {
    black: i32,
    luma: i32,
    red_of_red: i32,
    green_of_blue: i32,
    green_of_red: i32,
    blue_of_blue: i32,
}

impl Weights {
    /// Source: ITU-R BT.601-7, 2.5.1 to 2.5.3, and BT.709-6, items 3.2 to 3.4.
    fn new(matrix: Matrix, range: Range) -> Self {
        let (red, blue) = match matrix {
            Matrix::Bt601 => (0.299, 0.114),
            Matrix::Bt709 => (0.2126, 0.0722),
        };
        let green = 1.0 - red - blue;
        let (black, luma, chroma) = match range {
            Range::Limited => (16, 255.0 / 219.0, 255.0 / 224.0),
            Range::Full => (0, 1.0, 1.0),
        };
        let fixed = |weight: f64| (weight * f64::from(1 << WEIGHT_BITS)).round() as i32;
        Self {
            black,
            luma: fixed(luma),
            red_of_red: fixed(chroma * 2.0 * (1.0 - red)),
            green_of_blue: fixed(chroma * -2.0 * (1.0 - blue) * blue / green),
            green_of_red: fixed(chroma * -2.0 * (1.0 - red) * red / green),
            blue_of_blue: fixed(chroma * 2.0 * (1.0 - blue)),
        }
    }

    fn convert(&self, row: &Row, output: &mut [u8]) {
        let samples = row.luma.iter().zip(&row.blue).zip(&row.red);
        for (pixel, ((luma, blue), red)) in output.as_chunks_mut().0.iter_mut().zip(samples) {
            let grey = (i32::from(*luma) - self.black) * self.luma + (1 << (WEIGHT_BITS - 1));
            let (blue, red) = (i32::from(*blue) - 128, i32::from(*red) - 128);
            *pixel = [
                clipped(grey + red * self.red_of_red),
                clipped(grey + blue * self.green_of_blue + red * self.green_of_red),
                clipped(grey + blue * self.blue_of_blue),
            ];
        }
    }
}

fn clipped(sum: i32) -> u8 {
    (sum >> WEIGHT_BITS).clamp(0, 255) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(format: PixelFormat, [width, height, stride]: [usize; 3], bytes: &[u8]) -> RawFrame<&[u8]> {
        RawFrame { format, width, height, stride, matrix: Matrix::Bt601, range: Range::Limited, bytes }
    }

    /// The standards' conversion in double precision.
    fn exact([luma, blue, red]: [f64; 3], matrix: Matrix, range: Range) -> [f64; 3] {
        let (share_red, share_blue) = if matrix == Matrix::Bt601 { (0.299, 0.114) } else { (0.2126, 0.0722) };
        let (luma, blue, red) = match range {
            Range::Limited => ((luma - 16.0) / 219.0, (blue - 128.0) / 224.0, (red - 128.0) / 224.0),
            Range::Full => (luma / 255.0, (blue - 128.0) / 255.0, (red - 128.0) / 255.0),
        };
        let (r, b) = (luma + 2.0 * (1.0 - share_red) * red, luma + 2.0 * (1.0 - share_blue) * blue);
        let g = (luma - share_red * r - share_blue * b) / (1.0 - share_red - share_blue);
        [r, g, b].map(|value| (value * 255.0).clamp(0.0, 255.0))
    }

    #[test]
    fn every_colour_is_within_rounding_of_the_exact_one() {
        for (matrix, range) in [Matrix::Bt601, Matrix::Bt709]
            .iter()
            .flat_map(|matrix| [Range::Limited, Range::Full].map(|range| (*matrix, range)))
        {
            for (blue, red) in (0..=255).step_by(5).flat_map(|blue| (0..=255).step_by(5).map(move |red| (blue, red))) {
                let bytes: Vec<u8> = (0..128).flat_map(|pair| [2 * pair, blue, 2 * pair + 1, red]).collect();
                let frame = RawFrame { matrix, range, ..frame(PixelFormat::Yuyv, [256, 1, 512], &bytes) };
                for (luma, pixel) in frame.to_rgb().unwrap().values().as_chunks::<3>().0.iter().enumerate() {
                    let exact = exact([luma as f64, f64::from(blue), f64::from(red)], matrix, range);
                    let is_near =
                        pixel.iter().zip(exact).all(|(value, exact)| (f64::from(*value) - exact).abs() < 0.501);
                    assert!(is_near, "{luma} {blue} {red} {matrix:?} {range:?}: {pixel:?}, exact {exact:?}");
                }
            }
        }
    }

    #[test]
    fn frame_that_lacks_a_byte_is_refused_and_one_without_the_last_padding_is_read() {
        let sizes =
            [(PixelFormat::Yuyv, 3 * 20 + 12), (PixelFormat::I420, 5 * 20 + 10 + 3), (PixelFormat::Nv12, 5 * 20 + 6)];
        for (format, needed) in sizes {
            let bytes = vec![128; needed];
            assert!(frame(format, [6, 4, 20], &bytes).to_rgb().is_ok(), "{format:?}");
            for found in 0..needed {
                let error = FrameError::Short { found, needed };
                assert_eq!(frame(format, [6, 4, 20], &bytes[..found]).to_rgb(), Err(error), "{format:?}");
            }
        }
    }

    #[test]
    fn sizes_and_strides_that_cannot_be_are_refused() {
        use PixelFormat::{I420, Nv12, Yuyv};
        let refused = |format, sizes: [usize; 3]| frame(format, sizes, &[0; 999]).to_rgb().unwrap_err();
        for format in [Yuyv, I420, Nv12] {
            assert!(matches!(refused(format, [0, 2, 8]), FrameError::Size(Rgb8Error::Empty { .. })));
            assert!(matches!(refused(format, [2, 65_536, 8]), FrameError::Size(Rgb8Error::TooLarge { .. })));
            assert!(matches!(
                refused(format, [usize::MAX, usize::MAX, 8]),
                FrameError::Size(Rgb8Error::TooLarge { .. })
            ));
            assert!(matches!(refused(format, [3, 2, 8]), FrameError::Odd { .. }));
            assert!(matches!(refused(format, [16, 2, 15]), FrameError::Stride { .. }));
            for stride in [usize::MAX - 1, usize::MAX / 2 + 1, usize::MAX / 4] {
                let stride = stride / 2 * 2;
                assert!(matches!(refused(format, [2, 2, stride]), FrameError::Short { .. }), "{format:?} {stride}");
            }
        }
        assert!(matches!(refused(I420, [2, 3, 8]), FrameError::Odd { .. }));
        assert!(matches!(refused(Nv12, [2, 3, 8]), FrameError::Odd { .. }));
        assert!(matches!(refused(I420, [2, 2, 9]), FrameError::Stride { .. }));
        assert!(frame(Yuyv, [2, 3, 9], &[0; 99]).to_rgb().is_ok());
        assert!(frame(Nv12, [2, 2, 9], &[0; 99]).to_rgb().is_ok());
    }

    #[test]
    fn errors_say_what_to_do() {
        let message = |sizes, bytes: &[u8]| frame(PixelFormat::Nv12, sizes, bytes).to_rgb().unwrap_err().to_string();
        assert_eq!(
            message([6, 3, 6], &[]),
            "a frame of 6 x 3 pixels cannot be Nv12, which halves a side that is odd; \
         ask for another size"
        );
        assert_eq!(
            message([6, 4, 5], &[]),
            "rows of Nv12 that are 5 bytes apart cannot hold 6 pixels; give the driver's bytesperline"
        );
        assert_eq!(
            message([6, 4, 6], &[0; 8]),
            "a frame of 8 bytes lacks some of the 36 that its size takes; read it again"
        );
    }
}
