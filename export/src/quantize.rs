//! Weights as int8: symmetric, one scale for each output channel.

/// Largest magnitude of a quantized weight; -128 is not used, so that every sum of products stays symmetric.
pub const LARGEST: f32 = 127.0;

/// A matrix in int8.
#[derive(Clone, Debug, PartialEq)]
pub struct Quantized {
    /// `[rows, width]`, row-major, -127 to 127.
    pub values: Vec<i8>,
    /// What a row's values are multiplied by, `[rows]`.
    pub scales: Vec<f32>,
    /// `|W - stored W| / |W|` in the Frobenius norm; 0 for a matrix of zeros.
    pub error: f32,
}

/// Quantizes the rows of a finite matrix `[rows, width]`.
///
/// The scale is the row's largest magnitude over 127; values are rounded half to even.
///
/// # Panics
/// If `width` is 0 or does not divide the number of values.
pub fn quantize(values: &[f32], width: usize) -> Quantized {
    assert!(width > 0 && values.len().is_multiple_of(width), "the matrix has whole rows");
    let mut quantized = Vec::with_capacity(values.len());
    let mut scales = Vec::with_capacity(values.len() / width);
    let (mut lost, mut total) = (0.0f64, 0.0f64);
    for row in values.chunks_exact(width) {
        let largest = row.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
        let scale = (largest / LARGEST).max(f32::MIN_POSITIVE);
        for &value in row {
            let stored = (value / scale).round_ties_even().clamp(-LARGEST, LARGEST);
            let difference = f64::from(value) - f64::from(stored * scale);
            lost += difference * difference;
            total += f64::from(value) * f64::from(value);
            quantized.push(stored as i8);
        }
        scales.push(scale);
    }
    let error = if total > 0.0 { (lost / total).sqrt() as f32 } else { 0.0 };
    Quantized { values: quantized, scales, error }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_value_of_a_row_is_kept_exactly() {
        let quantized = quantize(&[1.0, -0.5, 0.25, 0.0, -254.0, 2.0], 3);
        assert_eq!(quantized.values, [127, -64, 32, 0, -127, 1]);
        assert_eq!(quantized.scales, [1.0 / 127.0, 2.0]);
        assert!(quantized.error < 0.01);
    }

    #[test]
    fn a_row_of_zeros_stays_zeros() {
        let quantized = quantize(&[0.0; 4], 2);
        assert_eq!((quantized.values.as_slice(), quantized.error), ([0; 4].as_slice(), 0.0));
    }

    #[test]
    fn no_weight_is_off_by_more_than_half_a_step() {
        let values: Vec<f32> = (0..999).map(|i| ((i * 7919 % 1000) as f32 - 500.0) * 1e-3).collect();
        let quantized = quantize(&values, 27);
        for (row, (stored, scale)) in values.chunks(27).zip(quantized.values.chunks(27).zip(&quantized.scales)) {
            for (value, &stored) in row.iter().zip(stored) {
                assert!((value - f32::from(stored) * scale).abs() <= scale * 0.5001);
            }
        }
    }
}
