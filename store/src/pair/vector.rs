//! A picture's ITC vector as it is kept: two bytes a number.

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use half::f16;
use serde::{Deserialize, Serialize};

/// Longest vector; BLIP's have 256 numbers.
const MAX_LENGTH: usize = 4096;

/// A vector in half floats. In the facts it is base64 of their bytes, little-endian.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Vector(Vec<f16>);

impl Vector {
    /// Keeps a vector; `None` where it is empty, too long, or holds what is no number.
    pub fn new(values: &[f32]) -> Option<Vector> {
        let values: Vec<f16> = values.iter().map(|value| f16::from_f32(*value)).collect();
        Vector::checked(values)
    }

    fn checked(values: Vec<f16>) -> Option<Vector> {
        let is_whole = (1..=MAX_LENGTH).contains(&values.len()) && values.iter().all(|value| value.is_finite());
        is_whole.then_some(Vector(values))
    }

    /// Cosine to a vector of length one; `None` where the lengths differ.
    pub fn cosine(&self, other: &[f32]) -> Option<f32> {
        let product = || self.0.iter().zip(other).map(|(one, other)| one.to_f32() * other).sum();
        (self.0.len() == other.len()).then(product)
    }
}

impl From<Vector> for String {
    fn from(Vector(values): Vector) -> String {
        let bytes: Vec<u8> = values.into_iter().flat_map(f16::to_le_bytes).collect();
        STANDARD_NO_PAD.encode(bytes)
    }
}

/// A text that is no vector.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("a vector that is not base64 of half floats")]
pub struct VectorError;

impl TryFrom<String> for Vector {
    type Error = VectorError;

    fn try_from(text: String) -> Result<Vector, VectorError> {
        let bytes = STANDARD_NO_PAD.decode(text).map_err(|_| VectorError)?;
        let (values, rest) = bytes.as_chunks::<2>();
        let values = values.iter().map(|bytes| f16::from_le_bytes(*bytes)).collect();
        if rest.is_empty() { Vector::checked(values).ok_or(VectorError) } else { Err(VectorError) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vector_reads_back_as_it_was_written() {
        let vector = Vector::new(&[0.5, -0.25, 1.0]).unwrap();
        let json = serde_json::to_string(&vector).unwrap();
        // python3 -c 'import base64, struct; print(base64.b64encode(struct.pack("<3e", 0.5, -0.25, 1)))'
        assert_eq!(json, r#""ADgAtAA8""#);
        assert_eq!(serde_json::from_str::<Vector>(&json).unwrap(), vector);
        assert_eq!(vector.cosine(&[1.0, 1.0, 1.0]), Some(1.25));
        assert_eq!(vector.cosine(&[1.0]), None);
    }

    #[test]
    fn what_is_no_vector_is_refused() {
        assert_eq!(Vector::new(&[]), None);
        assert_eq!(Vector::new(&[f32::NAN]), None);
        assert_eq!(Vector::new(&[1e9]), None);
        for text in ["", "A", "ADgA", "!!!!", "AHw"] {
            assert!(Vector::try_from(text.to_owned()).is_err(), "{text}");
        }
    }
}
