//! Pillow's bicubic: every output value is a sum of neighbours times fixed-point weights, first along one side of the
//! picture, then along the other.
//!
//! Both passes are one loop over [`LANES`] values that lie side by side and share a weight, which a compiler makes
//! vectors of. Down the columns they lie so already; along the rows they do once [`ROWS`] rows are interleaved.
//!
//! The crate `fast_image_resize` 6.1 does not give Pillow's bits: with its weights of 16 bits a quarter of the values
//! of a 640 x 480 picture are off by one, and some of an enlargement's by up to 25.

use super::{MAX_SIDE, Rgb8};

/// Resizes both sides to `side`, without a crop and without keeping the aspect ratio: bicubic with antialiasing, on
/// 8-bit values. The horizontal pass comes first, but for pictures much taller than wide.
///
/// Besides the result it holds the rows that one output row reads and some of the picture's, never a whole
/// intermediate picture.
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

/// Pillow goes down the columns first where the height shrinks by more than twice what the width does.
///
/// Source: Pillow pull request 9549, and 409 sizes tried with Pillow 13.0.0.
fn is_vertical_first(picture: &Rgb8, side: usize) -> bool {
    picture.height > side && 2 * picture.width < picture.height + side
}

fn vertical_first(picture: &Rgb8, columns: &[Window], rows: &[Window]) -> Vec<u8> {
    let (length, narrow) = (picture.width * 3, columns.len() * 3);
    let mut low = vec![0; ROWS * length];
    let mut narrowing = Narrowing::new(picture.width, columns);
    let mut values = vec![0; rows.len().next_multiple_of(ROWS) * narrow];
    for (windows, output) in rows.chunks(ROWS).zip(values.chunks_exact_mut(ROWS * narrow)) {
        for (window, low) in windows.iter().zip(low.chunks_exact_mut(length)) {
            blend(window, |y| picture.row(y), low);
        }
        narrowing.run(|index| &low[index * length..][..length], output);
    }
    values.truncate(rows.len() * narrow);
    values
}

fn horizontal_first(picture: &Rgb8, columns: &[Window], rows: &[Window]) -> Vec<u8> {
    let length = columns.len() * 3;
    let read = rows.iter().map(|window| window.weights.len()).max().unwrap_or(1);
    // Rows are narrowed up to the next multiple, and each stays until no output row reads it.
    let kept = (read + ROWS - 1).next_multiple_of(ROWS);
    let mut ring = vec![0; kept * length];
    let mut narrowing = Narrowing::new(picture.width, columns);
    let mut narrowed = 0;
    let mut values = vec![0; rows.len() * length];
    for (window, output) in rows.iter().zip(values.chunks_exact_mut(length)) {
        while narrowed < window.end() {
            let output = &mut ring[narrowed % kept * length..][..ROWS * length];
            narrowing.run(|index| picture.row((narrowed + index).min(picture.height - 1)), output);
            narrowed += ROWS;
        }
        blend(window, |y| &ring[y % kept * length..][..length], output);
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

/// Rows that are narrowed together.
const ROWS: usize = 8;
/// Values that share a weight: a pixel of each of these rows. Their sums fit in the registers of NEON.
const LANES: usize = 3 * ROWS;

/// The vertical pass: the rows of a window, each times its weight.
fn blend<'a>(window: &Window, row: impl Fn(usize) -> &'a [u8], output: &mut [u8]) {
    let rows: Vec<_> = (window.start..window.end()).map(|y| row(y).as_chunks::<LANES>()).collect();
    let (chunks, pixels) = output.as_chunks_mut::<LANES>();
    for (index, chunk) in chunks.iter_mut().enumerate() {
        *chunk = weighted(rows.iter().map(|(chunks, _)| &chunks[index]), &window.weights);
    }
    for (index, pixel) in pixels.as_chunks_mut::<3>().0.iter_mut().enumerate() {
        *pixel = weighted(rows.iter().map(|(_, pixels)| &pixels.as_chunks::<3>().0[index]), &window.weights);
    }
}

/// The horizontal pass over [`ROWS`] rows at a time, and what it needs room for.
struct Narrowing<'a> {
    columns: &'a [Window],
    quads: [Vec<[u8; 4]>; 2],
    interleaved: Vec<[[u8; 4]; 2]>,
    narrow: Vec<[u8; LANES]>,
    narrow_quads: [Vec<[u8; 4]>; 2],
}

impl<'a> Narrowing<'a> {
    fn new(width: usize, columns: &'a [Window]) -> Self {
        let quads = |pixels: usize| [(); 2].map(|()| vec![[0; 4]; pixels * 3]);
        Self {
            columns,
            quads: quads(width),
            interleaved: vec![[[0; 4]; 2]; width * 3],
            narrow: vec![[0; LANES]; columns.len()],
            narrow_quads: quads(columns.len()),
        }
    }

    /// Narrows the rows that `row` gives for 0 to [`ROWS`], into as many rows of `output`.
    fn run<'b>(&mut self, row: impl Fn(usize) -> &'b [u8], output: &mut [u8]) {
        for (first, quads) in (0..).step_by(4).zip(&mut self.quads) {
            interleave_four(std::array::from_fn(|index| row(first + index)), quads);
        }
        interleave_two(self.quads.each_ref().map(Vec::as_slice), &mut self.interleaved);
        let pixels = self.interleaved.as_flattened().as_flattened().as_chunks().0;
        for (window, narrow) in self.columns.iter().zip(&mut self.narrow) {
            *narrow = weighted(pixels[window.start..window.end()].iter(), &window.weights);
        }
        let narrow = self.narrow.as_flattened().as_chunks().0.as_chunks().0;
        deinterleave_two(narrow, self.narrow_quads.each_mut().map(Vec::as_mut_slice));
        let length = self.columns.len() * 3;
        for (quads, rows) in self.narrow_quads.iter().zip(output.chunks_exact_mut(4 * length)) {
            let mut rows = rows.chunks_exact_mut(length);
            deinterleave_four(quads, std::array::from_fn(|_| rows.next().unwrap_or_default()));
        }
    }
}

// Written out for two and for four, since a compiler makes vectors of these and none of a loop over rows.

fn interleave_four([one, two, three, four]: [&[u8]; 4], interleaved: &mut [[u8; 4]]) {
    for ((((values, one), two), three), four) in interleaved.iter_mut().zip(one).zip(two).zip(three).zip(four) {
        *values = [*one, *two, *three, *four];
    }
}

fn deinterleave_four(interleaved: &[[u8; 4]], [one, two, three, four]: [&mut [u8]; 4]) {
    for ((((values, one), two), three), four) in interleaved.iter().zip(one).zip(two).zip(three).zip(four) {
        [*one, *two, *three, *four] = *values;
    }
}

fn interleave_two([one, two]: [&[[u8; 4]]; 2], interleaved: &mut [[[u8; 4]; 2]]) {
    for ((values, one), two) in interleaved.iter_mut().zip(one).zip(two) {
        *values = [*one, *two];
    }
}

fn deinterleave_two(interleaved: &[[[u8; 4]; 2]], [one, two]: [&mut [[u8; 4]]; 2]) {
    for ((values, one), two) in interleaved.iter().zip(one).zip(two) {
        [*one, *two] = *values;
    }
}

/// The sums of values times the weights that come with them, rounded.
#[inline(always)]
fn weighted<'a, const N: usize>(taps: impl Iterator<Item = &'a [u8; N]>, weights: &[i32]) -> [u8; N] {
    let mut sums = [HALF; N];
    for (values, weight) in taps.zip(weights) {
        for (sum, value) in sums.iter_mut().zip(values) {
            *sum += i32::from(*value) * weight;
        }
    }
    sums.map(|sum| (sum >> WEIGHT_BITS).clamp(0, 255) as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ramp(width: usize, height: usize) -> Rgb8 {
        let values = (0..width * height * 3).map(|index| (index * 37 % 251) as u8).collect();
        Rgb8::new(width, height, values).unwrap()
    }

    /// Black and white without order: the sums go beyond both ends.
    fn specks(width: usize, height: usize) -> Rgb8 {
        let value = |index: u32| if index.wrapping_mul(2_654_435_761) >> 30 == 0 { 255 } else { 0 };
        Rgb8::new(width, height, (0..(width * height * 3) as u32).map(value).collect()).unwrap()
    }

    /// What the answer is: one value after the other.
    fn plain(picture: &Rgb8, side: usize) -> Vec<u8> {
        let (columns, rows) = (windows(picture.width, side), windows(picture.height, side));
        let sum = |window: &Window, value: &dyn Fn(usize) -> u8| {
            let products =
                (window.start..).zip(&window.weights).map(|(at, weight)| i64::from(value(at)) * i64::from(*weight));
            ((products.sum::<i64>() + i64::from(HALF)) >> WEIGHT_BITS).clamp(0, 255) as u8
        };
        let along = |values: &[u8], width: usize| -> Vec<u8> {
            let row = |row: &[u8]| -> Vec<u8> {
                (0..side * 3).map(|at| sum(&columns[at / 3], &|x| row[x * 3 + at % 3])).collect()
            };
            values.chunks_exact(width * 3).flat_map(row).collect()
        };
        let down = |values: &[u8], width: usize| -> Vec<u8> {
            let row = |window| (0..width * 3).map(move |at| sum(window, &|y| values[y * width * 3 + at]));
            rows.iter().flat_map(row).collect()
        };
        if is_vertical_first(picture, side) {
            along(&down(&picture.values, picture.width), picture.width)
        } else {
            down(&along(&picture.values, picture.width), side)
        }
    }

    #[test]
    fn every_value_is_that_of_the_plain_definition() {
        let edges = [1, 2, 7, 8, 9, 15, 16, 17, 31, 100];
        for (width, height) in edges.iter().flat_map(|width| edges.map(|height| (*width, height))) {
            for side in [1, 3, 7, 8, 9, 16, 25, 40] {
                for picture in [ramp(width, height), specks(width, height)] {
                    let (width, height) = (picture.width, picture.height);
                    if (width, height) != (side, side) {
                        assert!(resize(&picture, side).values == plain(&picture, side), "{width} x {height} at {side}");
                    }
                }
            }
        }
        for (width, height, side) in
            [(1, 3000, 9), (3000, 1, 9), (65_535, 1, 1), (1, 65_535, 1), (333, 250, 96), (250, 733, 96)]
        {
            let picture = specks(width, height);
            assert!(resize(&picture, side).values == plain(&picture, side), "{width} x {height} at {side}");
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
}
