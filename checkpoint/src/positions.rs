//! The image encoder's position table, for another image size than it was trained for.

use crate::tensor::Tensor;

/// The cubic convolution's parameter (PyTorch `aten/src/ATen/native/UpSample.h`, `get_cubic_upsample_coefficients`).
const A: f64 = -0.75;

/// Interpolates a table over another grid.
///
/// `[1 + from * from, width]` -> `[1 + to * to, width]`: the class token's row is kept, the patches' rows are
/// interpolated bicubically without antialiasing, pixel centres at one half, borders repeated.
///
/// Source: BLIP `models/vit.py`, `interpolate_pos_embed`, which is `torch.nn.functional.interpolate` with
/// `mode='bicubic', align_corners=False`.
///
/// # Panics
/// A table that has no row for the class token, or whose other rows are not a square.
pub fn interpolate(table: &Tensor, to: usize) -> Tensor {
    let (rows, width) = (table.shape[0], table.shape[1]);
    let from = (rows - 1).isqrt();
    assert!(from > 0 && 1 + from * from == rows, "a class token and a square of patches");
    let taps: Vec<_> = (0..to).map(|position| taps(position, from, to)).collect();
    let mut values = table.values[..width].to_vec();
    values.reserve(to * to * width);
    for vertical in &taps {
        for horizontal in &taps {
            let mut sum = vec![0f64; width];
            for (row, by_row) in vertical {
                for (column, by_column) in horizontal {
                    let start = (1 + row * from + column) * width;
                    let weight = by_row * by_column;
                    sum.iter_mut()
                        .zip(&table.values[start..start + width])
                        .for_each(|(sum, v)| *sum += weight * f64::from(*v));
                }
            }
            values.extend(sum.iter().map(|sum| *sum as f32));
        }
    }
    Tensor { shape: vec![1 + to * to, width], values }
}

/// The four places that `position` of `to` is made of, and their weights.
fn taps(position: usize, from: usize, to: usize) -> [(usize, f64); 4] {
    let centre = (position as f64 + 0.5) * from as f64 / to as f64 - 0.5;
    let first = centre.floor();
    let t = centre - first;
    let near = |x: f64| ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0;
    let far = |x: f64| ((A * x - 5.0 * A) * x + 8.0 * A) * x - 4.0 * A;
    let weights = [far(t + 1.0), near(t), near(1.0 - t), far(2.0 - t)];
    std::array::from_fn(|tap| {
        let place = (first + tap as f64 - 1.0).clamp(0.0, (from - 1) as f64);
        (place as usize, weights[tap])
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Deserialize)]
    struct Golden {
        width: usize,
        table: Vec<f32>,
        to: Vec<(usize, Vec<f32>)>,
    }

    #[test]
    fn other_grids_agree_with_torch() {
        let golden: Golden = serde_json::from_str(include_str!("../tests/fixtures/positions.json")).unwrap();
        let rows = golden.table.len() / golden.width;
        let table = Tensor { shape: vec![rows, golden.width], values: golden.table };
        for (to, expected) in golden.to {
            let found = interpolate(&table, to);
            assert_eq!(found.shape, [1 + to * to, golden.width]);
            let furthest = found.values.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0f32, f32::max);
            assert!(found.values.len() == expected.len() && furthest < 2e-6, "to {to}: {furthest}");
        }
    }

    #[test]
    fn same_grid_is_unchanged() {
        let table = Tensor { shape: vec![5, 1], values: vec![9.0, 1.0, 2.0, 3.0, 4.0] };
        assert_eq!(interpolate(&table, 2), table);
    }
}
