//! Parts of a picture that are never kept: a neighbour's window, the street.

use std::sync::OnceLock;

use blip::pixels::Rgb8;

use crate::frame::{Frame, FrameFault, Image};

/// Most corners of all shapes of a mask together.
const MOST: usize = 1000;

/// A part of a picture, in shares of its width and height from the top left: 0.5 is the middle, whatever its size.
#[derive(Clone, Debug, PartialEq)]
pub enum Shape {
    /// An upright rectangle.
    Rectangle {
        /// Of the left side.
        left: f32,
        /// Of the top side.
        top: f32,
        /// From left to right.
        width: f32,
        /// From top to bottom.
        height: f32,
    },
    /// The inside of a line through corners, as the even-odd rule has it.
    Polygon(Vec<[f32; 2]>),
}

/// Shapes, all together one part of a picture.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Mask {
    polygons: Vec<Vec<[f32; 2]>>,
}

/// Why shapes are no mask.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum MaskError {
    /// Not a share of a side.
    #[error("{value} in a mask is not a share of the picture from 0 to 1: 0.5 is the middle")]
    Coordinate {
        /// The number.
        value: f32,
    },
    /// No area.
    #[error("a polygon of {corners} corners has no inside; give at least 3")]
    Corners {
        /// How many.
        corners: usize,
    },
    /// More than are painted in time.
    #[error("a mask of {corners} corners is slow to paint; give at most {MOST} in all its shapes")]
    TooMany {
        /// How many.
        corners: usize,
    },
}

impl Mask {
    /// Checks shapes. None is a mask that hides nothing.
    ///
    /// # Errors
    /// Coordinates outside the picture, polygons without an area, and too many of either.
    pub fn new(shapes: Vec<Shape>) -> Result<Self, MaskError> {
        let polygons: Vec<Vec<_>> = shapes.into_iter().map(corners).collect::<Result<_, _>>()?;
        let corners = polygons.iter().map(Vec::len).sum();
        if corners > MOST { Err(MaskError::TooMany { corners }) } else { Ok(Self { polygons }) }
    }

    /// Hides nothing.
    pub fn is_empty(&self) -> bool {
        self.polygons.is_empty()
    }

    /// For each pixel of a picture of this size, whether it is inside: row by row. A pixel that the line only touches
    /// counts as inside, so that nothing shows at an edge.
    pub fn pixels(&self, width: usize, height: usize) -> Vec<bool> {
        let mut inside = vec![false; width * height];
        for polygon in &self.polygons {
            for y in 0..height {
                // The top, middle and bottom of a row of pixels, so that thin shapes and edges are covered.
                for part in [0.001, 0.5, 0.999] {
                    let line = (y as f32 + part) / height as f32;
                    for [from, to] in crossings(polygon, line).as_chunks().0 {
                        let first = (from * width as f32).floor().max(0.0) as usize;
                        let end = ((to * width as f32).ceil().max(0.0) as usize).min(width);
                        inside[y * width..][first.min(end)..end].fill(true);
                    }
                }
            }
        }
        inside
    }

    /// Paints a frame black inside the shapes. The frame is then pixels: nothing is left of its file, such as a
    /// thumbnail or a place.
    ///
    /// # Errors
    /// A frame that cannot be decoded, which must not be kept.
    pub(crate) fn paint(&self, frame: &mut Frame) -> Result<(), FrameFault> {
        if self.is_empty() {
            return Ok(());
        }
        let picture = match std::mem::replace(&mut frame.image, Image::Jpeg(Vec::new())) {
            Image::Rgb(picture) => picture,
            image => {
                frame.image = image;
                frame.to_rgb()?
            }
        };
        let (width, height) = (picture.width(), picture.height());
        let mut values = picture.into_values();
        for (pixel, is_inside) in values.as_chunks_mut::<3>().0.iter_mut().zip(self.pixels(width, height)) {
            if is_inside {
                *pixel = [0; 3];
            }
        }
        frame.image = Image::Rgb(Rgb8::new(width, height, values).map_err(picture::frame::FrameError::from)?);
        frame.encoded = OnceLock::new();
        Ok(())
    }
}

fn corners(shape: Shape) -> Result<Vec<[f32; 2]>, MaskError> {
    let corners = match shape {
        Shape::Rectangle { left, top, width, height } => {
            for side in [left, top, width, height] {
                check(side)?;
            }
            let (right, bottom) = ((left + width).min(1.0), (top + height).min(1.0));
            vec![[left, top], [right, top], [right, bottom], [left, bottom]]
        }
        Shape::Polygon(corners) => corners,
    };
    if corners.len() < 3 {
        return Err(MaskError::Corners { corners: corners.len() });
    }
    corners.iter().flatten().try_for_each(|value| check(*value))?;
    Ok(corners)
}

fn check(value: f32) -> Result<(), MaskError> {
    if (0.0..=1.0).contains(&value) { Ok(()) } else { Err(MaskError::Coordinate { value }) }
}

/// Where a horizontal line crosses the polygon's sides, from left to right.
fn crossings(polygon: &[[f32; 2]], line: f32) -> Vec<f32> {
    let ends = polygon.iter().zip(polygon.iter().cycle().skip(1));
    let mut crossings: Vec<f32> = ends
        .filter(|([_, from], [_, to])| (*from <= line) != (*to <= line))
        .map(|([x, from], [other, to])| x + (line - from) / (to - from) * (other - x))
        .collect();
    crossings.sort_by(f32::total_cmp);
    crossings
}

#[cfg(test)]
mod tests {
    use super::*;
    use picture::{JpegQuality, encode_jpeg};

    fn drawn(mask: &Mask, width: usize, height: usize) -> Vec<String> {
        let row = |row: &[bool]| row.iter().map(|inside| if *inside { '#' } else { '.' }).collect();
        mask.pixels(width, height).chunks(width).map(row).collect()
    }

    #[test]
    fn shapes_cover_every_pixel_that_they_touch() {
        let rectangle = Shape::Rectangle { left: 0.25, top: 0.0, width: 0.3, height: 0.5 };
        assert_eq!(drawn(&Mask::new(vec![rectangle]).unwrap(), 8, 4), ["..###...", "..###...", "........", "........"]);
        let triangle = Shape::Polygon(vec![[0.0, 0.0], [1.0, 1.0], [0.0, 1.0]]);
        assert_eq!(drawn(&Mask::new(vec![triangle]).unwrap(), 4, 4), ["#...", "##..", "###.", "####"]);
        let all = Shape::Rectangle { left: 0.0, top: 0.0, width: 1.0, height: 1.0 };
        assert!(Mask::new(vec![all]).unwrap().pixels(7, 5).iter().all(|inside| *inside));
        let thin = Shape::Rectangle { left: 0.5, top: 0.5, width: 0.01, height: 0.2 };
        assert_eq!(drawn(&Mask::new(vec![thin]).unwrap(), 4, 4), ["....", "....", "..#.", "...."]);
    }

    #[test]
    fn nothing_of_what_is_hidden_is_left_in_a_frame() {
        let white = Rgb8::new(64, 64, vec![255; 64 * 64 * 3]).unwrap();
        let half = Shape::Rectangle { left: 0.0, top: 0.0, width: 0.5, height: 1.0 };
        let mask = Mask::new(vec![half]).unwrap();
        let jpeg = encode_jpeg(&white, JpegQuality::default()).unwrap();
        for image in [Image::Rgb(white), Image::Jpeg(jpeg.clone())] {
            let mut frame = Frame::new(image, "test");
            mask.paint(&mut frame).unwrap();
            let rgb = frame.to_rgb().unwrap();
            let is_black = |x: usize, y: usize| rgb.values()[(y * 64 + x) * 3..][..3] == [0; 3];
            assert!((0..64).all(|y| (0..32).all(|x| is_black(x, y)) && !is_black(32, y)));
            let kept = picture::decode(frame.jpeg().unwrap()).unwrap();
            assert!(kept.values()[..28 * 3].iter().all(|value| *value < 8), "{:?}", &kept.values()[..96]);
        }
        let mut damaged = Frame::new(Image::Jpeg(jpeg[..jpeg.len() / 2].to_vec()), "test");
        assert!(mask.paint(&mut damaged).is_err());
        let mut untouched = Frame::new(Image::Jpeg(jpeg.clone()), "test");
        Mask::default().paint(&mut untouched).unwrap();
        assert_eq!(untouched.jpeg().unwrap(), jpeg);
    }

    #[test]
    fn shapes_outside_the_picture_are_refused() {
        let rectangle = |left| Mask::new(vec![Shape::Rectangle { left, top: 0.0, width: 0.1, height: 0.1 }]);
        let message = "320 in a mask is not a share of the picture from 0 to 1: 0.5 is the middle";
        assert_eq!(rectangle(320.0).unwrap_err().to_string(), message);
        for left in [-0.1, 1.1, f32::NAN, f32::INFINITY] {
            assert!(rectangle(left).is_err());
        }
        let line = Shape::Polygon(vec![[0.0, 0.0], [1.0, 1.0]]);
        assert_eq!(Mask::new(vec![line]), Err(MaskError::Corners { corners: 2 }));
        let many = vec![Shape::Rectangle { left: 0.0, top: 0.0, width: 0.1, height: 0.1 }; 251];
        assert_eq!(Mask::new(many), Err(MaskError::TooMany { corners: 1004 }));
    }
}
