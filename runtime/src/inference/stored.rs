//! Tensors of a graph's file: in the file itself, or in the bundle's weights.

use std::borrow::Cow;

use blip::manifest::WEIGHTS;
use tract_onnx::pb::{TensorProto, tensor_proto::DataType};
use tract_onnx::tract_hir::internal::*;

use crate::bundle::{Bundle, Location};

/// Reads what a bundle's graphs store.
#[derive(Clone, Copy)]
pub(super) struct Stored<'a>(pub(super) &'a Bundle);

impl Stored<'_> {
    /// An int8 matrix in the weight file and its shape.
    pub(super) fn matrix(&self, tensor: &TensorProto) -> TractResult<(Location, [usize; 2])> {
        ensure!(tensor.data_type == DataType::Int8 as i32, "{} is not int8", tensor.name);
        let shape = shape(tensor)?;
        let &[rows, width] = shape.as_slice() else { bail!("{} is not a matrix: {shape:?}", tensor.name) };
        ensure!(rows > 0, "{} has no rows", tensor.name);
        ensure!((1..=crate::kernels::quantized_linear::MAX_INPUTS).contains(&width), "{} is {width} wide", tensor.name);
        let location = self.location(tensor)?.with_context(|| format!("{} is not in the weight file", tensor.name))?;
        Ok((location, [rows, width]))
    }

    /// A vector of `expected` finite floats.
    pub(super) fn floats(&self, tensor: &TensorProto, expected: usize) -> TractResult<Vec<f32>> {
        ensure!(tensor.data_type == DataType::Float as i32, "{} is not f32", tensor.name);
        ensure!(shape(tensor)? == [expected], "{} does not have {expected} values", tensor.name);
        let bytes = match self.location(tensor)? {
            Some(location) => self.read(location)?,
            None => Cow::Borrowed(tensor.raw_data.as_slice()),
        };
        ensure!(bytes.len() == expected * 4, "{} has {} bytes", tensor.name, bytes.len());
        let values: Vec<f32> = bytes.as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect();
        ensure!(values.iter().all(|value| value.is_finite()), "{} has a value that is not finite", tensor.name);
        Ok(values)
    }

    /// Copies the bytes of a tensor in the weight file into the graph.
    pub(super) fn bring_in(&self, tensor: &mut TensorProto) -> TractResult<()> {
        if let Some(location) = self.location(tensor)? {
            tensor.raw_data = self.read(location)?.into_owned();
            tensor.external_data.clear();
            tensor.data_location = None;
        }
        let expected = byte_length(tensor)?;
        ensure!(tensor.raw_data.len() == expected, "{} bytes where {expected} belong", tensor.raw_data.len());
        Ok(())
    }

    /// Bytes of the weight file.
    pub(super) fn read(&self, location: Location) -> TractResult<Cow<'_, [u8]>> {
        self.0.weights().read(location).with_context(|| format!("reading {WEIGHTS}"))
    }

    /// Where the tensor lies in the weight file; nothing if it is in the graph.
    fn location(&self, tensor: &TensorProto) -> TractResult<Option<Location>> {
        if tensor.external_data.is_empty() {
            return Ok(None);
        }
        let entry = |key: &str| tensor.external_data.iter().find(|entry| entry.key == key).map(|e| e.value.as_str());
        ensure!(entry("location") == Some(WEIGHTS), "{} is in a file that is not {WEIGHTS}", tensor.name);
        let number = |key: &str| entry(key).and_then(|value| value.parse::<usize>().ok());
        let start = number("offset").with_context(|| format!("{} has no offset", tensor.name))?;
        let length = number("length").with_context(|| format!("{} has no length", tensor.name))?;
        let inside = start.checked_add(length).is_some_and(|end| end <= self.0.weights().length());
        ensure!(inside, "{} lies beyond the end of {WEIGHTS}", tensor.name);
        ensure!(length == byte_length(tensor)?, "{} has {length} bytes, its shape wants another number", tensor.name);
        Ok(Some(Location { start, length }))
    }
}

/// Values of a vector.
pub(super) fn width(tensor: &TensorProto) -> TractResult<usize> {
    let &[width] = shape(tensor)?.as_slice() else { bail!("{} is not a vector", tensor.name) };
    Ok(width)
}

fn shape(tensor: &TensorProto) -> TractResult<Vec<usize>> {
    tensor.dims.iter().map(|&size| usize::try_from(size).context("a negative size")).collect()
}

fn byte_length(tensor: &TensorProto) -> TractResult<usize> {
    let size = match DataType::try_from(tensor.data_type) {
        Ok(DataType::Float) => 4,
        Ok(DataType::Float16) => 2,
        Ok(DataType::Int64) => 8,
        Ok(DataType::Int8) => 1,
        _ => bail!("{} has an element type that our graphs do not use", tensor.name),
    };
    let sizes = shape(tensor)?;
    let length = sizes.iter().try_fold(size, |product: usize, &size| product.checked_mul(size));
    length.with_context(|| format!("{} is larger than memory", tensor.name))
}
