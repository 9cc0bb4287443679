//! Our operators inside tract: each owns its weights and takes only what differs from call to call.

use std::sync::Arc;

use tract_onnx::tract_hir::internal::*;

use crate::bundle::{Location, WeightBytes};
use crate::kernels::quantized_embedding::gather_rows;
use crate::kernels::quantized_linear::{Epilogue, PackedWeights, quantized_linear};

/// `QuantizedLinear`: `[.., inputs]` -> `[.., outputs]`.
pub(super) struct Linear {
    pub(super) weights: Arc<PackedWeights>,
    pub(super) bias: Vec<f32>,
}

/// `QuantizedEmbedding`: ids `[..]` -> `[.., width]`.
pub(super) struct Embedding {
    pub(super) weights: WeightBytes,
    pub(super) location: Location,
    pub(super) scales: Vec<f32>,
    pub(super) width: usize,
}

/// One of our operators with its weights.
#[derive(Clone)]
pub(super) enum Operator {
    Linear(Arc<Linear>),
    Embedding(Arc<Embedding>),
}

impl Operator {
    fn last_dimension(&self) -> usize {
        match self {
            Operator::Linear(linear) => linear.weights.outputs(),
            Operator::Embedding(embedding) => embedding.width,
        }
    }

    fn output_shape(&self, input: &[TDim]) -> TractResult<TVec<TDim>> {
        let mut shape: TVec<TDim> = input.into();
        if let Operator::Linear(linear) = self {
            let inputs = shape.pop().context("a linear layer's input has at least one dimension")?;
            ensure!(
                inputs == linear.weights.inputs().to_dim(),
                "input is {inputs} wide, weights {}",
                linear.weights.inputs()
            );
        }
        shape.push(self.last_dimension().to_dim());
        Ok(shape)
    }
}

impl std::fmt::Debug for Operator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Operator::Linear(linear) => write!(f, "{}x{}", linear.weights.outputs(), linear.weights.inputs()),
            Operator::Embedding(embedding) => write!(f, "{}x{}", embedding.scales.len(), embedding.width),
        }
    }
}

impl PartialEq for Operator {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Operator::Linear(left), Operator::Linear(right)) => Arc::ptr_eq(left, right),
            (Operator::Embedding(left), Operator::Embedding(right)) => Arc::ptr_eq(left, right),
            _ => false,
        }
    }
}

impl Eq for Operator {}

/// A function's call in a parsed graph; the loader puts the operator in.
#[derive(Clone, Debug, Default)]
pub(super) struct Call {
    pub(super) operator: Option<Operator>,
}

impl Call {
    fn operator(&self) -> TractResult<&Operator> {
        self.operator.as_ref().context("the call has no weights")
    }
}

impl Expansion for Call {
    fn name(&self) -> StaticName {
        "Call".into()
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        s: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        check_input_arity(inputs, 1)?;
        check_output_arity(outputs, 1)?;
        let operator = self.operator()?;
        s.equals(&outputs[0].datum_type, f32::datum_type())?;
        s.given(&inputs[0].shape, move |s, shape| s.equals(&outputs[0].shape, operator.output_shape(&shape)?))
    }

    fn wire(&self, prefix: &str, model: &mut TypedModel, inputs: &[OutletId]) -> TractResult<TVec<OutletId>> {
        model.wire_node(prefix, self.operator()?.clone(), inputs)
    }
}

impl Op for Operator {
    fn name(&self) -> StaticName {
        match self {
            Operator::Linear(_) => "QuantizedLinear".into(),
            Operator::Embedding(_) => "QuantizedEmbedding".into(),
        }
    }

    op_as_typed_op!();
}

impl EvalOp for Operator {
    op_out_of_plan!();

    fn eval(&self, _: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let input = args_1!(inputs);
        let mut shape: TVec<usize> = input.shape().into();
        if let Operator::Linear(_) = self {
            shape.pop();
        }
        shape.push(self.last_dimension());
        let mut output = Tensor::zero::<f32>(&shape)?;
        {
            let mut view = output.try_as_plain_ram_mut()?;
            let values = view.as_slice_mut::<f32>()?;
            match self {
                Operator::Linear(linear) => {
                    let rows = input.try_as_plain_ram()?;
                    let x = rows.as_slice::<f32>()?;
                    quantized_linear(x, &linear.weights, &linear.bias, Epilogue::None, values);
                }
                Operator::Embedding(embedding) => {
                    let table = bytemuck::cast_slice(embedding.weights.part(embedding.location));
                    let ids = input.try_as_plain_ram()?;
                    gather_rows(table, &embedding.scales, embedding.width, ids.as_slice::<i64>()?, values)?;
                }
            }
        }
        Ok(tvec!(output.into_tvalue()))
    }
}

impl TypedOp for Operator {
    as_op!();

    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let shape = self.output_shape(&inputs[0].shape.to_tvec())?;
        Ok(tvec!(f32::fact(shape)))
    }
}
