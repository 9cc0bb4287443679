//! From a graph's file to a plan: large tensors stay in the weight file, calls of our functions and layer norms become
//! our operators, and what follows a linear layer joins it.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use blip::manifest::{
    ATTENTION, CACHED_ATTENTION, CROSS_ATTENTION, FUNCTION_DOMAIN, GELU, KEYS_AND_VALUES, QUANTIZED_EMBEDDING,
    QUANTIZED_LINEAR, WEIGHTS,
};
use tract_onnx::data_resolver::ModelDataResolver;
use tract_onnx::pb::{AttributeProto, ModelProto, NodeProto, TensorProto, tensor_proto::DataType};
use tract_onnx::tract_hir::internal::*;

use super::Engine;
use super::fusion::fuse;
use super::operators::{After, Cache, Call, Embedding, Heads, Linear, Norm, Operator};
use crate::bundle::Location;
use crate::kernels::quantized_linear::PackedWeights;

/// Standard operators of our graphs. Any other one, a loop for instance, is not for us.
const OPERATORS: &[&str] = &[
    "Add",
    "Concat",
    "Div",
    "Expand",
    "Gather",
    "Identity",
    LAYER_NORM,
    "MatMul",
    "Max",
    "ReduceL2",
    "Reshape",
    "Shape",
    "Slice",
    "Transpose",
];
/// Our functions.
const FUNCTIONS: &[&str] =
    &[ATTENTION, CACHED_ATTENTION, CROSS_ATTENTION, GELU, KEYS_AND_VALUES, QUANTIZED_EMBEDDING, QUANTIZED_LINEAR];
/// A standard operator that we have a kernel for.
const LAYER_NORM: &str = "LayerNormalization";
/// Largest magnitude of an integer attribute of a standard operator: they are axes, element types and switches.
const MAX_ATTRIBUTE: u64 = 64;
/// Largest magnitude of an integer attribute of a function: heads are among them.
const MAX_FUNCTION_ATTRIBUTE: u64 = blip::config::MAX_SIZE as u64;

/// Refuses to read files: every tensor that is not in the graph itself comes from the bundle's weights.
struct NoFiles;

impl ModelDataResolver for NoFiles {
    fn read_bytes_from_path(
        &self,
        _: &mut Vec<u8>,
        path: &std::path::Path,
        _: usize,
        _: Option<usize>,
    ) -> TractResult<()> {
        bail!("the graph asks for the file {}", path.display())
    }
}

impl Engine {
    /// Reads, checks and optimises the graph `name`.
    pub(super) fn plan(&self, name: &str, sizes: &[(&str, usize)]) -> TractResult<Arc<TypedRunnableModel>> {
        let mut onnx = tract_onnx::onnx();
        onnx.provider = Arc::new(NoFiles);
        for operator in FUNCTIONS.iter().chain([&LAYER_NORM]) {
            onnx.op_register.insert(operator, |_, _| Ok((expand(Call::default()), vec![])));
        }
        let mut proto = onnx.proto_model_for_read(&mut self.bundle().file(name)?)?;
        check_nodes(&proto)?;
        let operators = self.take_operators(&mut proto)?;
        let parsed = onnx.parse(&proto, None)?;
        drop(proto);
        ensure!(parsed.unresolved_inputs.is_empty(), "inputs {:?} come from nowhere", parsed.unresolved_inputs);
        let mut model = parsed.model;
        for node in model.nodes_mut() {
            let Some(operator) = operators.get(&node.name) else { continue };
            let call = node.op_as_mut::<Box<dyn Expansion>>().and_then(|op| op.as_any_mut().downcast_mut::<Call>());
            call.context("one of our nodes is not a call")?.operator = Some(operator.clone());
        }
        let sizes = sizes.iter().map(|&(symbol, size)| (model.symbols.sym(symbol), size.to_dim())).collect();
        model.set_symbols(&sizes)?;
        model.into_typed()?.into_optimized()?.into_runnable()
    }

    /// Takes weights that our operators own out of the graph, and brings the others in.
    fn take_operators(&self, proto: &mut ModelProto) -> TractResult<HashMap<String, Operator>> {
        proto.functions.clear();
        let graph = proto.graph.as_mut().context("the file holds no graph")?;
        let mut tensors = HashMap::new();
        for tensor in std::mem::take(&mut graph.initializer) {
            let name = tensor.name.clone();
            ensure!(tensors.insert(name.clone(), tensor).is_none(), "tensor {name} stands there twice");
        }
        let after = fuse(graph, |name| tensors.contains_key(name));
        let mut operators = HashMap::new();
        for node in graph.node.iter_mut().filter(|node| node.domain == FUNCTION_DOMAIN || node.op_type == LAYER_NORM) {
            let after = after.get(&node.name).copied().unwrap_or(After::Nothing);
            let operator = self.operator(node, &tensors, after).with_context(|| format!("node {}", node.name))?;
            node.input.retain(|input| !tensors.contains_key(input));
            ensure!(operators.insert(node.name.clone(), operator).is_none(), "node {} stands there twice", node.name);
        }
        let mut used = HashSet::new();
        for name in graph.node.iter().flat_map(|node| &node.input) {
            if used.insert(name)
                && let Some(mut tensor) = tensors.remove(name)
            {
                self.bring_in(&mut tensor).with_context(|| format!("tensor {name}"))?;
                graph.initializer.push(tensor);
            }
        }
        Ok(operators)
    }

    fn operator(
        &self,
        node: &NodeProto,
        tensors: &HashMap<String, TensorProto>,
        after: After,
    ) -> TractResult<Operator> {
        let tensor = |index: usize| {
            let name = node.input.get(index).with_context(|| format!("input {index} is missing"))?;
            tensors.get(name).with_context(|| format!("{name} is not a stored tensor"))
        };
        match node.op_type.as_str() {
            QUANTIZED_LINEAR => {
                let (location, [outputs, inputs]) = self.matrix(tensor(1)?)?;
                let scales = self.floats(tensor(2)?, outputs)?;
                let bias = self.floats(tensor(3)?, outputs)?;
                let weights = self.pack(location, &scales, [outputs, inputs])?;
                Ok(Operator::Linear(Arc::new(Linear { weights, bias, after })))
            }
            QUANTIZED_EMBEDDING => {
                let (location, [rows, width]) = self.matrix(tensor(1)?)?;
                let scales = self.floats(tensor(2)?, rows)?;
                let weights = self.bundle().weights().clone();
                Ok(Operator::Embedding(Arc::new(Embedding { weights, location, scales, width })))
            }
            LAYER_NORM => {
                let weight = self.floats(tensor(1)?, width(tensor(1)?)?)?;
                let bias = self.floats(tensor(2)?, weight.len())?;
                ensure!(!weight.is_empty(), "it is over rows without a value");
                ensure!(attribute(node, "axis")?.i == -1, "it is not over the last axis");
                let epsilon = attribute(node, "epsilon")?.f;
                ensure!(epsilon.is_finite() && epsilon > 0.0, "epsilon is {epsilon}");
                Ok(Operator::Norm(Arc::new(Norm { weight, bias, epsilon })))
            }
            GELU => Ok(Operator::Gelu),
            ATTENTION => Ok(Operator::Attention(scaled_heads(node)?)),
            CACHED_ATTENTION => Ok(Operator::CachedAttention(scaled_heads(node)?, cache(node)?)),
            CROSS_ATTENTION => Ok(Operator::CrossAttention(scaled_heads(node)?)),
            KEYS_AND_VALUES => Ok(Operator::KeysAndValues(heads(node)?, cache(node)?)),
            other => bail!("the function {other} is not one of ours"),
        }
    }

    /// Packs a matrix once, whichever graphs use it.
    fn pack(
        &self,
        location: Location,
        scales: &[f32],
        [outputs, inputs]: [usize; 2],
    ) -> TractResult<Arc<PackedWeights>> {
        let mut packed = self.packed.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(weights) = packed.get(&location) {
            ensure!(weights.outputs() == outputs && weights.scales() == scales, "one matrix has two shapes or scales");
            return Ok(Arc::clone(weights));
        }
        let bytes = bytemuck::cast_slice(self.bundle().weights().part(location));
        let weights = Arc::new(PackedWeights::pack(bytes, scales, outputs, inputs));
        packed.insert(location, Arc::clone(&weights));
        Ok(weights)
    }

    /// An int8 matrix in the weight file and its shape.
    fn matrix(&self, tensor: &TensorProto) -> TractResult<(Location, [usize; 2])> {
        ensure!(tensor.data_type == DataType::Int8 as i32, "{} is not int8", tensor.name);
        let shape = shape(tensor)?;
        let &[rows, width] = shape.as_slice() else { bail!("{} is not a matrix: {shape:?}", tensor.name) };
        ensure!(rows > 0, "{} has no rows", tensor.name);
        ensure!((1..=crate::kernels::quantized_linear::MAX_INPUTS).contains(&width), "{} is {width} wide", tensor.name);
        let location = self.location(tensor)?.with_context(|| format!("{} is not in the weight file", tensor.name))?;
        Ok((location, [rows, width]))
    }

    fn floats(&self, tensor: &TensorProto, expected: usize) -> TractResult<Vec<f32>> {
        ensure!(tensor.data_type == DataType::Float as i32, "{} is not f32", tensor.name);
        ensure!(shape(tensor)? == [expected], "{} does not have {expected} values", tensor.name);
        let bytes = match self.location(tensor)? {
            Some(location) => self.bundle().weights().part(location),
            None => tensor.raw_data.as_slice(),
        };
        ensure!(bytes.len() == expected * 4, "{} has {} bytes", tensor.name, bytes.len());
        let values: Vec<f32> = bytes.as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect();
        ensure!(values.iter().all(|value| value.is_finite()), "{} has a value that is not finite", tensor.name);
        Ok(values)
    }

    /// Copies the bytes of a tensor in the weight file into the graph.
    fn bring_in(&self, tensor: &mut TensorProto) -> TractResult<()> {
        if let Some(location) = self.location(tensor)? {
            tensor.raw_data = self.bundle().weights().part(location).to_vec();
            tensor.external_data.clear();
            tensor.data_location = None;
        }
        let expected = byte_length(tensor)?;
        ensure!(tensor.raw_data.len() == expected, "{} bytes where {expected} belong", tensor.raw_data.len());
        Ok(())
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
        let inside = start.checked_add(length).is_some_and(|end| end <= self.bundle().weights().len());
        ensure!(inside, "{} lies beyond the end of {WEIGHTS}", tensor.name);
        ensure!(length == byte_length(tensor)?, "{} has {length} bytes, its shape wants another number", tensor.name);
        Ok(Some(Location { start, length }))
    }
}

/// Refuses what no graph of ours has: other operators, attributes out of range, outputs that nothing computes.
fn check_nodes(proto: &ModelProto) -> TractResult<()> {
    let graph = proto.graph.as_ref().context("the file holds no graph")?;
    let mut values: HashSet<&str> = graph.input.iter().map(|input| input.name.as_str()).collect();
    for node in &graph.node {
        let (name, operator) = (&node.name, node.op_type.as_str());
        let (known, largest) = match node.domain.is_empty() {
            true => (OPERATORS, MAX_ATTRIBUTE),
            false => (FUNCTIONS, MAX_FUNCTION_ATTRIBUTE),
        };
        ensure!(known.contains(&operator), "node {name}: {operator} is not an operator of our graphs");
        let small = |value: &i64| value.unsigned_abs() <= largest;
        let fits = node.attribute.iter().all(|attribute| small(&attribute.i) && attribute.ints.iter().all(small));
        ensure!(fits, "node {name}: an attribute is larger than {largest}");
        ensure!(!node.output.is_empty(), "node {name} has no output");
        for output in &node.output {
            ensure!(values.insert(output), "{output} is computed twice");
        }
    }
    ensure!(!graph.output.is_empty(), "the graph has no output");
    let nowhere = graph.output.iter().find(|output| !values.contains(output.name.as_str()));
    ensure!(nowhere.is_none(), "nothing computes the output {}", nowhere.map_or("", |output| output.name.as_str()));
    Ok(())
}

fn attribute<'a>(node: &'a NodeProto, name: &str) -> TractResult<&'a AttributeProto> {
    node.attribute.iter().find(|attribute| attribute.name == name).with_context(|| format!("it has no {name}"))
}

fn heads(node: &NodeProto) -> TractResult<Heads> {
    let count = usize::try_from(attribute(node, "heads")?.i)?;
    ensure!(count > 0, "it has no heads");
    Ok(Heads { count, scale: None })
}

fn scaled_heads(node: &NodeProto) -> TractResult<Heads> {
    Ok(Heads { scale: Some(attribute(node, "scale")?.f), ..heads(node)? })
}

fn cache(node: &NodeProto) -> TractResult<Cache> {
    let element = attribute(node, "cache")?.i;
    match DataType::try_from(i32::try_from(element)?) {
        Ok(DataType::Float) => Ok(Cache::F32),
        Ok(DataType::Float16) => Ok(Cache::F16),
        _ => bail!("its cache is of the element type {element}"),
    }
}

/// Values of a vector.
fn width(tensor: &TensorProto) -> TractResult<usize> {
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
