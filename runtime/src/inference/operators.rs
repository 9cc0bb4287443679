//! Our operators inside tract: each owns its weights and takes only what differs from call to call.

mod attention;

use std::sync::Arc;

use blip::manifest::Element;
use tract_onnx::tract_hir::internal::*;

pub(super) use self::attention::Heads;
use super::cache::KeyValueCache;
use crate::bundle::{Location, WeightBytes};
use crate::kernels::gelu::gelu;
use crate::kernels::lanes;
use crate::kernels::layer_norm::{LayerNorm, layer_norm};
use crate::kernels::quantized_embedding::gather_rows;
use crate::kernels::quantized_linear::{Epilogue, PackedWeights, instruction_set, quantized_linear};

/// `QuantizedLinear`: `[.., inputs]` -> `[.., outputs]`.
pub(super) struct Linear {
    pub(super) weights: Arc<PackedWeights>,
    pub(super) bias: Vec<f32>,
    pub(super) after: After,
}

/// What a linear layer does with its answer before it leaves the registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum After {
    Nothing,
    Gelu,
    /// Adds the call's second input.
    Residual,
}

/// `QuantizedEmbedding`: ids `[..]` -> `[.., width]`.
pub(super) struct Embedding {
    pub(super) weights: WeightBytes,
    pub(super) location: Location,
    pub(super) scales: Vec<f32>,
    pub(super) width: usize,
}

/// `LayerNormalization` over the last axis.
pub(super) struct Norm {
    pub(super) weight: Vec<f32>,
    pub(super) bias: Vec<f32>,
    pub(super) epsilon: f32,
}

/// One of our operators with its weights.
#[derive(Clone)]
pub(super) enum Operator {
    Linear(Arc<Linear>),
    Embedding(Arc<Embedding>),
    Norm(Arc<Norm>),
    Gelu,
    /// `[batch, length, 3 x width]` -> `[batch, length, width]`.
    Attention(Heads),
    /// The same after what the cache of a layer holds, which then holds the call's keys and values too.
    CachedAttention(Heads, usize),
    /// Queries `[batch, length, width]`, and keys and values `[1, heads, memory, head width]`.
    CrossAttention(Heads),
    /// `[batch, length, 2 x width]` -> keys and values by head.
    KeysAndValues(Heads, Element),
}

/// Element type and shape.
type Kind = (DatumType, TVec<TDim>);

impl Operator {
    /// Instruction set that it runs on.
    pub(super) fn kernel(&self) -> String {
        match self {
            Operator::Linear(_) => instruction_set().to_string(),
            _ => lanes::InstructionSet::fastest().to_string(),
        }
    }

    fn inputs(&self) -> usize {
        match self {
            Operator::Linear(linear) if linear.after == After::Residual => 2,
            Operator::CrossAttention(_) => 3,
            _ => 1,
        }
    }

    fn outputs(&self) -> usize {
        match self {
            Operator::KeysAndValues(..) => 2,
            _ => 1,
        }
    }

    /// What the outputs are where the inputs are of these shapes.
    fn kinds(&self, shapes: &[TVec<TDim>]) -> TractResult<TVec<Kind>> {
        ensure!(shapes.len() == self.inputs(), "{} inputs, {} belong", shapes.len(), self.inputs());
        let mut shape = shapes[0].clone();
        match self {
            Operator::Linear(linear) => {
                replace_last(&mut shape, linear.weights.inputs(), linear.weights.outputs())?;
                let same = shapes.get(1).is_none_or(|residual| *residual == shape);
                ensure!(same, "what is added is {:?}, the layer's answer is {shape:?}", shapes.get(1));
            }
            Operator::Embedding(embedding) => shape.push(embedding.width.to_dim()),
            Operator::Norm(norm) => replace_last(&mut shape, norm.weight.len(), norm.weight.len())?,
            Operator::Gelu => (),
            Operator::Attention(heads) | Operator::CachedAttention(heads, _) => shape = heads.mixed(&shapes[0], 3)?,
            Operator::CrossAttention(heads) => heads.check_memory(shapes)?,
            Operator::KeysAndValues(heads, cache) => return heads.apart(&shapes[0], 2, *cache),
        }
        Ok(tvec!((f32::datum_type(), shape)))
    }
}

fn replace_last(shape: &mut TVec<TDim>, inputs: usize, outputs: usize) -> TractResult<()> {
    let last = shape.pop().context("the input has at least one dimension")?;
    ensure!(last == inputs.to_dim(), "the input is {last} wide, the weights {inputs}");
    shape.push(outputs.to_dim());
    Ok(())
}

impl std::fmt::Debug for Operator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Operator::Linear(linear) => {
                write!(f, "{}x{} then {:?}", linear.weights.outputs(), linear.weights.inputs(), linear.after)
            }
            Operator::Embedding(embedding) => write!(f, "{}x{}", embedding.scales.len(), embedding.width),
            Operator::Norm(norm) => write!(f, "{}", norm.weight.len()),
            Operator::Gelu => Ok(()),
            Operator::Attention(heads) | Operator::CrossAttention(heads) => write!(f, "{heads:?}"),
            Operator::CachedAttention(heads, layer) => write!(f, "{heads:?} layer {layer}"),
            Operator::KeysAndValues(heads, cache) => write!(f, "{heads:?} {cache:?}"),
        }
    }
}

impl PartialEq for Operator {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Operator::Linear(left), Operator::Linear(right)) => Arc::ptr_eq(left, right),
            (Operator::Embedding(left), Operator::Embedding(right)) => Arc::ptr_eq(left, right),
            (Operator::Norm(left), Operator::Norm(right)) => Arc::ptr_eq(left, right),
            (Operator::Gelu, Operator::Gelu) => true,
            (Operator::Attention(left), Operator::Attention(right))
            | (Operator::CrossAttention(left), Operator::CrossAttention(right)) => left == right,
            (Operator::CachedAttention(left, layer), Operator::CachedAttention(right, other)) => {
                left == right && layer == other
            }
            (Operator::KeysAndValues(left, cache), Operator::KeysAndValues(right, other)) => {
                left == right && cache == other
            }
            _ => false,
        }
    }
}

impl Eq for Operator {}

/// A call in a parsed graph; the loader puts the operator in.
#[derive(Clone, Debug, Default)]
pub(super) struct Call {
    pub(super) operator: Option<Operator>,
}

impl Call {
    fn operator(&self) -> TractResult<&Operator> {
        self.operator.as_ref().context("the call has no operator")
    }
}

impl Expansion for Call {
    fn name(&self) -> StaticName {
        "Call".into()
    }

    fn nboutputs(&self) -> TractResult<usize> {
        Ok(self.operator()?.outputs())
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        s: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        let operator = self.operator()?;
        check_input_arity(inputs, operator.inputs())?;
        check_output_arity(outputs, operator.outputs())?;
        s.given_all(inputs.iter().map(|input| &input.shape), move |s, shapes: Vec<TVec<TDim>>| {
            for (output, (element, shape)) in outputs.iter().zip(operator.kinds(&shapes)?) {
                s.equals(&output.datum_type, element)?;
                s.equals(&output.shape, shape)?;
            }
            Ok(())
        })
    }

    fn wire(&self, prefix: &str, model: &mut TypedModel, inputs: &[OutletId]) -> TractResult<TVec<OutletId>> {
        model.wire_node(prefix, self.operator()?.clone(), inputs)
    }
}

impl Op for Operator {
    fn name(&self) -> StaticName {
        match self {
            Operator::Linear(_) => "QuantizedLinear",
            Operator::Embedding(_) => "QuantizedEmbedding",
            Operator::Norm(_) => "LayerNormalization",
            Operator::Gelu => "Gelu",
            Operator::Attention(_) => "Attention",
            Operator::CachedAttention(..) => "CachedAttention",
            Operator::CrossAttention(_) => "CrossAttention",
            Operator::KeysAndValues(..) => "KeysAndValues",
        }
        .into()
    }

    op_as_typed_op!();
}

impl EvalOp for Operator {
    op_out_of_plan!();

    fn eval(&self, context: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let shapes: Vec<TVec<TDim>> =
            inputs.iter().map(|input| input.shape().iter().map(|size| size.to_dim()).collect()).collect();
        let mut outputs = TVec::new();
        for (element, shape) in self.kinds(&shapes)? {
            let shape: TVec<usize> = shape.iter().map(TDim::to_usize).collect::<Result<_, _>>()?;
            outputs.push(Tensor::zero_dt(element, &shape)?);
        }
        self.compute(context, &inputs, &mut outputs)?;
        Ok(outputs.into_iter().map(IntoTValue::into_tvalue).collect())
    }
}

impl Operator {
    fn compute(&self, context: &EvalContext, inputs: &[TValue], outputs: &mut [Tensor]) -> TractResult<()> {
        match self {
            Operator::Attention(heads) => return heads.attend(&inputs[0], &mut outputs[0]),
            Operator::CachedAttention(heads, layer) => {
                let cache =
                    context.shared.and_then(|shared| shared.get::<KeyValueCache>()).context("it has no cache")?;
                return heads.attend_cached(&mut cache.lock(), *layer, &inputs[0], &mut outputs[0]);
            }
            Operator::CrossAttention(heads) => return heads.attend_memory(inputs, &mut outputs[0]),
            Operator::KeysAndValues(heads, _) => return heads.take_apart(&inputs[0], outputs),
            _ => (),
        }
        let mut view = outputs[0].try_as_plain_ram_mut()?;
        let y = view.as_slice_mut::<f32>()?;
        let input = inputs[0].try_as_plain_ram()?;
        match self {
            Operator::Linear(linear) => {
                let residual = inputs.get(1).map(|residual| residual.try_as_plain_ram()).transpose()?;
                let epilogue = match (linear.after, &residual) {
                    (After::Residual, Some(residual)) => Epilogue::Residual(residual.as_slice::<f32>()?),
                    (After::Gelu, _) => Epilogue::Gelu,
                    _ => Epilogue::None,
                };
                quantized_linear(input.as_slice::<f32>()?, &linear.weights, &linear.bias, epilogue, y);
            }
            Operator::Embedding(embedding) => {
                let table = bytemuck::cast_slice(embedding.weights.part(embedding.location));
                gather_rows(table, &embedding.scales, embedding.width, input.as_slice::<i64>()?, y)?;
            }
            Operator::Norm(norm) => {
                let Norm { weight, bias, epsilon } = &**norm;
                layer_norm(input.as_slice::<f32>()?, LayerNorm { weight, bias, epsilon: *epsilon }, y);
            }
            _ => {
                y.copy_from_slice(input.as_slice::<f32>()?);
                gelu(y);
            }
        }
        Ok(())
    }
}

impl TypedOp for Operator {
    as_op!();

    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let shapes: Vec<TVec<TDim>> = inputs.iter().map(|input| input.shape.to_tvec()).collect();
        Ok(self.kinds(&shapes)?.into_iter().map(|(element, shape)| element.fact(shape)).collect())
    }
}
