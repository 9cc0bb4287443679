//! Operations that change values where they are.

use blip::pixels::Rgb8;

/// One new value for each, in each channel.
type Tables = [[u8; 256]; 3];

/// Source: Pillow `ImageOps.autocontrast` with its defaults.
pub(super) fn auto_contrast(picture: &Rgb8) -> Rgb8 {
    mapped(picture, &histograms(picture).map(|histogram| stretched(&histogram)))
}

fn stretched(histogram: &[u64; 256]) -> [u8; 256] {
    let low = histogram.iter().position(|count| *count > 0).unwrap_or(0);
    let high = histogram.iter().rposition(|count| *count > 0).unwrap_or(0);
    if high <= low {
        return std::array::from_fn(|value| value as u8);
    }
    let scale = 255.0 / (high - low) as f64;
    let offset = -(low as f64) * scale;
    std::array::from_fn(|value| (value as f64 * scale + offset).clamp(0.0, 255.0) as u8)
}

/// Source: BLIP `transform/randaugment.py`, `equalize_func`, and Pillow `ImageOps.equalize`.
pub(super) fn equalize(picture: &Rgb8) -> Rgb8 {
    mapped(picture, &histograms(picture).map(|histogram| evened(&histogram)))
}

fn evened(histogram: &[u64; 256]) -> [u8; 256] {
    let total: u64 = histogram.iter().sum();
    let last = histogram.iter().rfind(|count| **count > 0).copied().unwrap_or(0);
    let step = (total - last) / 255;
    if step == 0 {
        return std::array::from_fn(|value| value as u8);
    }
    let mut sum = step / 2;
    std::array::from_fn(|value| {
        let level = (sum / step).min(255) as u8;
        sum += histogram[value];
        level
    })
}

/// Source: BLIP `transform/randaugment.py`, `brightness_func`.
pub(super) fn brighten(picture: &Rgb8, factor: f32) -> Rgb8 {
    let table = std::array::from_fn(|value| (value as f32 * factor).clamp(0.0, 255.0) as u8);
    mapped(picture, &[table; 3])
}

/// Between the smoothed picture (factor 0) and the picture (1), and beyond; the outermost pixels stay, unless the
/// factor is 0, which the levels never give.
///
/// Source: BLIP `transform/randaugment.py`, `sharpness_func`: a kernel of 1, 5 in the middle, over 13.
pub(super) fn sharpen(picture: &Rgb8, factor: f32) -> Rgb8 {
    let (width, height) = (picture.width(), picture.height());
    let source = picture.values();
    let mut values = source.to_vec();
    let stride = width * 3;
    let sharpened = |at: usize| {
        let rows = [at - stride, at, at + stride];
        let around = rows.map(|row| [source[row - 3], source[row], source[row + 3]].map(u32::from));
        let middle = around[1][1];
        let sum = around.iter().flatten().sum::<u32>() + 4 * middle;
        let smooth = ((2 * sum + 13) / 26) as f32;
        (smooth + factor * (middle as f32 - smooth)).clamp(0.0, 255.0) as u8
    };
    for y in 1..height.saturating_sub(1) {
        let inner = y * stride + 3..(y + 1) * stride - 3;
        for (at, value) in inner.clone().zip(values.get_mut(inner).unwrap_or_default()) {
            *value = sharpened(at);
        }
    }
    Rgb8::new(width, height, values).expect("as many values as before")
}

fn histograms(picture: &Rgb8) -> [[u64; 256]; 3] {
    let mut histograms = [[0; 256]; 3];
    for pixel in picture.values().chunks_exact(3) {
        for (histogram, value) in histograms.iter_mut().zip(pixel) {
            histogram[usize::from(*value)] += 1;
        }
    }
    histograms
}

fn mapped(picture: &Rgb8, tables: &Tables) -> Rgb8 {
    let mut values = picture.values().to_vec();
    for pixel in values.chunks_exact_mut(3) {
        for (value, table) in pixel.iter_mut().zip(tables) {
            *value = table[usize::from(*value)];
        }
    }
    Rgb8::new(picture.width(), picture.height(), values).expect("as many values as before")
}
