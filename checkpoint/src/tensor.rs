//! Tensors as a file stores them, and as values.

use half::{bf16, f16};

/// Most axes that a tensor may have.
pub const MAX_RANK: usize = 8;

/// A tensor's values, row-major.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    /// Length of each axis.
    pub shape: Vec<usize>,
    /// The values; as many as the product of `shape`.
    pub values: Vec<f32>,
}

/// How one element is stored; always little-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dtype {
    /// One byte, 0 or 1.
    Bool,
    /// Unsigned, 8 bits.
    U8,
    /// Signed, 8 bits.
    I8,
    /// Unsigned, 16 bits.
    U16,
    /// Signed, 16 bits.
    I16,
    /// Unsigned, 32 bits.
    U32,
    /// Signed, 32 bits.
    I32,
    /// Unsigned, 64 bits.
    U64,
    /// Signed, 64 bits.
    I64,
    /// IEEE half precision.
    F16,
    /// The upper half of an `F32`.
    Bf16,
    /// IEEE single precision.
    F32,
    /// IEEE double precision.
    F64,
}

impl Dtype {
    /// Bytes of one element.
    pub fn width(self) -> usize {
        match self {
            Dtype::Bool | Dtype::U8 | Dtype::I8 => 1,
            Dtype::U16 | Dtype::I16 | Dtype::F16 | Dtype::Bf16 => 2,
            Dtype::U32 | Dtype::I32 | Dtype::F32 => 4,
            Dtype::U64 | Dtype::I64 | Dtype::F64 => 8,
        }
    }

    /// Whether a weight may be stored so.
    pub fn is_float(self) -> bool {
        matches!(self, Dtype::F16 | Dtype::Bf16 | Dtype::F32 | Dtype::F64)
    }

    /// Values of the elements in `bytes`; `None` where the type is not a float or `bytes` ends inside an element.
    pub(crate) fn decode(self, bytes: &[u8]) -> Option<Vec<f32>> {
        if !self.is_float() || !bytes.len().is_multiple_of(self.width()) {
            return None;
        }
        Some(match self {
            Dtype::F16 => bytes.as_chunks().0.iter().map(|b| f16::from_le_bytes(*b).to_f32()).collect(),
            Dtype::Bf16 => bytes.as_chunks().0.iter().map(|b| bf16::from_le_bytes(*b).to_f32()).collect(),
            Dtype::F64 => bytes.as_chunks().0.iter().map(|b| f64::from_le_bytes(*b) as f32).collect(),
            _ => bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect(),
        })
    }
}

/// A run of elements in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Storage {
    /// Which of the checkpoint's files.
    pub file: usize,
    /// First byte in the file.
    pub start: u64,
    /// Bytes.
    pub length: u64,
}

/// Where a tensor lies in a file; made only by [`StoredTensor::new`], so every element is inside its storage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StoredTensor {
    pub dtype: Dtype,
    pub shape: Vec<usize>,
    /// Elements between neighbours on each axis.
    strides: Vec<usize>,
    pub file: usize,
    /// First byte of the first element, in the file.
    pub start: u64,
    /// Bytes from the first element to the end of the last.
    pub span: usize,
}

impl StoredTensor {
    /// A view of `storage`, `offset` elements from its start.
    ///
    /// # Errors
    /// Why no tensor can lie there: an element outside, more elements than the storage holds, too many axes.
    pub fn new(
        dtype: Dtype,
        shape: Vec<usize>,
        strides: Option<Vec<usize>>,
        offset: u64,
        storage: Storage,
    ) -> Result<StoredTensor, String> {
        if shape.len() > MAX_RANK {
            return Err(format!("it has {} axes, at most {MAX_RANK} are read", shape.len()));
        }
        let count = checked_product(&shape).ok_or_else(|| format!("the product of its shape {shape:?} overflows"))?;
        let width = dtype.width() as u64;
        let held = storage.length / width;
        if count as u64 > held {
            return Err(format!("its shape {shape:?} has {count} elements, its storage holds {held}"));
        }
        let strides = match strides {
            Some(strides) if strides.len() == shape.len() => strides,
            Some(strides) => return Err(format!("its shape {shape:?} and its strides {strides:?} differ in length")),
            None => dense_strides(&shape),
        };
        let outside = || format!("its shape {shape:?} with strides {strides:?} reaches outside its storage of {held}");
        let reach = match count {
            0 => 0,
            _ => reach(&shape, &strides).ok_or_else(outside)?,
        };
        let end = offset.checked_add(reach).ok_or_else(outside)?;
        if end > held {
            return Err(outside());
        }
        let span = usize::try_from(reach * width).map_err(|_| outside())?;
        let start = storage.start.checked_add(offset * width).ok_or_else(outside)?;
        Ok(StoredTensor { dtype, shape, strides, file: storage.file, start, span })
    }

    /// Row-major values from the `span` decoded from the file.
    pub fn gather(&self, span: Vec<f32>) -> Vec<f32> {
        let count: usize = self.shape.iter().product();
        if count == 0 || self.strides_are_dense() {
            return span;
        }
        let mut values = Vec::with_capacity(count);
        let mut index = vec![0; self.shape.len()];
        for _ in 0..count {
            let at: usize = index.iter().zip(&self.strides).map(|(i, stride)| i * stride).sum();
            values.push(span[at]);
            for (i, length) in index.iter_mut().zip(&self.shape).rev() {
                *i += 1;
                if *i < *length {
                    break;
                }
                *i = 0;
            }
        }
        values
    }

    fn strides_are_dense(&self) -> bool {
        let dense = dense_strides(&self.shape);
        self.shape
            .iter()
            .zip(&self.strides)
            .zip(&dense)
            .all(|((length, stride), dense)| *length == 1 || stride == dense)
    }
}

/// Product of the lengths, unless it overflows.
pub(crate) fn checked_product(shape: &[usize]) -> Option<usize> {
    shape.iter().try_fold(1usize, |product, length| product.checked_mul(*length))
}

/// Strides of a row-major tensor whose product of lengths fits.
fn dense_strides(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1usize; shape.len()];
    for axis in (1..shape.len()).rev() {
        strides[axis - 1] = strides[axis].saturating_mul(shape[axis]);
    }
    strides
}

/// Elements from the first to the end of the last; no axis is empty.
fn reach(shape: &[usize], strides: &[usize]) -> Option<u64> {
    shape.iter().zip(strides).try_fold(1u64, |reach, (length, stride)| {
        reach.checked_add((*length as u64).checked_sub(1)?.checked_mul(*stride as u64)?)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const STORAGE: Storage = Storage { file: 0, start: 64, length: 24 };

    fn view(shape: &[usize], strides: &[usize], offset: u64) -> Result<StoredTensor, String> {
        StoredTensor::new(Dtype::F32, shape.to_vec(), Some(strides.to_vec()), offset, STORAGE)
    }

    #[test]
    fn every_float_type_is_read() {
        let one_and_a_half = [0x3fc0_0000u32, 0xc000_0000].map(f32::from_bits);
        let single: Vec<u8> = one_and_a_half.iter().flat_map(|v| v.to_le_bytes()).collect();
        let double: Vec<u8> = one_and_a_half.iter().flat_map(|v| f64::from(*v).to_le_bytes()).collect();
        assert_eq!(Dtype::F32.decode(&single).unwrap(), [1.5, -2.0]);
        assert_eq!(Dtype::F64.decode(&double).unwrap(), [1.5, -2.0]);
        assert_eq!(Dtype::F16.decode(&[0x00, 0x3e, 0x00, 0xc0]).unwrap(), [1.5, -2.0]);
        assert_eq!(Dtype::Bf16.decode(&[0xc0, 0x3f, 0x00, 0xc0]).unwrap(), [1.5, -2.0]);
        assert_eq!(Dtype::I32.decode(&single), None);
        assert_eq!(Dtype::F32.decode(&single[1..]), None);
    }

    #[test]
    fn transposed_view_is_gathered_by_row() {
        let tensor = view(&[3, 2], &[1, 3], 0).unwrap();
        assert_eq!((tensor.start, tensor.span), (64, 24));
        assert_eq!(tensor.gather(vec![0., 1., 2., 3., 4., 5.]), [0., 3., 1., 4., 2., 5.]);
    }

    #[test]
    fn view_from_an_offset_starts_there() {
        let tensor = view(&[2], &[2], 3).unwrap();
        assert_eq!((tensor.start, tensor.span), (64 + 12, 12));
        assert_eq!(tensor.gather(vec![3., 4., 5.]), [3., 5.]);
    }

    #[test]
    fn views_that_reach_outside_are_refused() {
        assert!(view(&[2], &[3], 3).is_err());
        assert!(view(&[6], &[1], u64::MAX).is_err());
        assert!(view(&[2, 3], &[usize::MAX, 1], 0).is_err());
        assert!(view(&[usize::MAX, usize::MAX], &[0, 0], 0).is_err());
        assert!(view(&[7], &[0], 0).unwrap_err().contains("storage holds 6"));
        assert!(view(&[2, 3], &[1], 0).is_err());
        assert!(view(&[1; 9], &[1; 9], 0).is_err());
        assert_eq!(view(&[0, usize::MAX], &[1, 1], 6).unwrap().span, 0);
    }

    #[test]
    fn scalar_is_one_element() {
        assert_eq!(view(&[], &[], 5).unwrap().span, 4);
    }
}
