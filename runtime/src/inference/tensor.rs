//! Values that go into graphs and come out of them.

use std::collections::HashMap;
use std::sync::Arc;

use blip::manifest::{Dimension, Element, Port};
use half::f16;
use tract_onnx::prelude::{DatumType, IntoArcTensor, IntoTValue, TValue, Tensor as Values};

/// A dense array; cloning shares the elements.
#[derive(Clone)]
pub struct Tensor(Arc<Values>);

impl Tensor {
    /// An array of floats.
    ///
    /// # Panics
    /// If `values` does not have as many elements as `shape` says.
    pub fn from_f32(shape: &[usize], values: &[f32]) -> Tensor {
        Tensor(Arc::new(Values::from_shape(shape, values).expect("length and shape agree")))
    }

    /// An array of integers.
    ///
    /// # Panics
    /// If `values` does not have as many elements as `shape` says.
    pub fn from_i64(shape: &[usize], values: &[i64]) -> Tensor {
        Tensor(Arc::new(Values::from_shape(shape, values).expect("length and shape agree")))
    }

    /// Ids as one row, `[1, length]`.
    pub fn from_ids(ids: &[u32]) -> Tensor {
        let ids: Vec<i64> = ids.iter().map(|&id| i64::from(id)).collect();
        Tensor::from_i64(&[1, ids.len()], &ids)
    }

    /// A cache with no rows in it yet: `shape` with a zero.
    pub fn empty(element: Element, shape: &[usize]) -> Tensor {
        let values = match element {
            Element::F32 => Values::from_shape::<f32>(shape, &[]),
            Element::F16 => Values::from_shape::<f16>(shape, &[]),
            Element::I64 => Values::from_shape::<i64>(shape, &[]),
        };
        Tensor(Arc::new(values.expect("a shape with a zero has no elements")))
    }

    /// Shape.
    pub fn shape(&self) -> &[usize] {
        self.0.shape()
    }

    /// The elements in row-major order, if they are f32.
    pub fn as_f32(&self) -> Option<&[f32]> {
        self.0.as_plain_ram().and_then(|view| view.as_slice::<f32>().ok())
    }

    /// Element type, if it is one that graphs have at their edges.
    pub fn element(&self) -> Option<Element> {
        match self.0.datum_type() {
            DatumType::F32 => Some(Element::F32),
            DatumType::F16 => Some(Element::F16),
            DatumType::I64 => Some(Element::I64),
            _ => None,
        }
    }

    /// Says whether this is what `port` takes; a named dimension has the size in `sizes`, or puts its own there.
    pub(super) fn fits<'a>(&self, port: &'a Port, sizes: &mut HashMap<&'a str, usize>) -> bool {
        let same = |(dimension, &size): (&'a Dimension, &usize)| match dimension {
            Dimension::Fixed(fixed) => *fixed == size,
            Dimension::Symbol(name) => *sizes.entry(name.as_str()).or_insert(size) == size,
        };
        self.element() == Some(port.element)
            && self.shape().len() == port.shape.len()
            && port.shape.iter().zip(self.shape()).all(same)
    }

    pub(super) fn to_value(&self) -> TValue {
        Arc::clone(&self.0).into_tvalue()
    }

    pub(super) fn from_value(value: TValue) -> Tensor {
        Tensor(value.into_arc_tensor())
    }
}
