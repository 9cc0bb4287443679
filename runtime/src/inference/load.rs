//! From a graph's file to a plan: large tensors stay in the weight file, calls of our functions and layer norms become
//! our operators, and what follows a linear layer joins it.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use blip::manifest::{
    ATTENTION, CACHED_ATTENTION, CROSS_ATTENTION, Element, FUNCTION_DOMAIN, GELU, KEYS_AND_VALUES, QUANTIZED_EMBEDDING,
    QUANTIZED_LINEAR,
};
use tract_onnx::data_resolver::ModelDataResolver;
use tract_onnx::pb::{AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, tensor_proto::DataType};
use tract_onnx::tract_hir::internal::*;

use super::Engine;
use super::fusion::fuse;
use super::in_place::keep_caches_in_place;
use super::operators::{After, Call, Embedding, Heads, Linear, Norm, Operator};
use super::stored::{Stored, width};

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

/// What a call's place in its graph says about it.
struct Place {
    after: After,
    /// The decoder layer whose cache it reads.
    layer: Option<usize>,
}

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
    /// Reads, checks and optimises the graph `name`; says how many of its layers have a cache.
    pub(super) fn plan(&self, name: &str, sizes: &[(&str, usize)]) -> TractResult<(Arc<TypedRunnableModel>, usize)> {
        let mut onnx = tract_onnx::onnx();
        onnx.provider = Arc::new(NoFiles);
        for operator in FUNCTIONS.iter().chain([&LAYER_NORM]) {
            onnx.op_register.insert(operator, |_, _| Ok((expand(Call::default()), vec![])));
        }
        let mut proto = onnx.proto_model_for_read(&mut self.bundle().file(name)?)?;
        check_nodes(&proto)?;
        let graph = proto.graph.as_mut().context("the file holds no graph")?;
        let layers = keep_caches_in_place(graph)?;
        let operators = self.take_operators(graph, &layers)?;
        proto.functions.clear();
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
        Ok((model.into_typed()?.into_optimized()?.into_runnable()?, layers.len()))
    }

    /// Takes weights that our operators own out of the graph, and brings the others in.
    fn take_operators(
        &self,
        graph: &mut GraphProto,
        layers: &HashMap<String, usize>,
    ) -> TractResult<HashMap<String, Operator>> {
        let mut tensors = HashMap::new();
        for tensor in std::mem::take(&mut graph.initializer) {
            let name = tensor.name.clone();
            ensure!(tensors.insert(name.clone(), tensor).is_none(), "tensor {name} stands there twice");
        }
        let after = fuse(graph, |name| tensors.contains_key(name));
        let mut operators = HashMap::new();
        for node in graph.node.iter_mut().filter(|node| node.domain == FUNCTION_DOMAIN || node.op_type == LAYER_NORM) {
            let place = Place {
                after: after.get(&node.name).copied().unwrap_or(After::Nothing),
                layer: layers.get(&node.name).copied(),
            };
            let operator = self.operator(node, &tensors, place).with_context(|| format!("node {}", node.name))?;
            node.input.retain(|input| !tensors.contains_key(input));
            ensure!(operators.insert(node.name.clone(), operator).is_none(), "node {} stands there twice", node.name);
        }
        let mut used = HashSet::new();
        for name in graph.node.iter().flat_map(|node| &node.input) {
            if used.insert(name)
                && let Some(mut tensor) = tensors.remove(name)
            {
                Stored(self.bundle()).bring_in(&mut tensor).with_context(|| format!("tensor {name}"))?;
                graph.initializer.push(tensor);
            }
        }
        Ok(operators)
    }

    fn operator(
        &self,
        node: &NodeProto,
        tensors: &HashMap<String, TensorProto>,
        place: Place,
    ) -> TractResult<Operator> {
        let tensor = |index: usize| {
            let name = node.input.get(index).with_context(|| format!("input {index} is missing"))?;
            tensors.get(name).with_context(|| format!("{name} is not a stored tensor"))
        };
        let stored = Stored(self.bundle());
        match node.op_type.as_str() {
            QUANTIZED_LINEAR => {
                let (location, [outputs, inputs]) = stored.matrix(tensor(1)?)?;
                let scales = stored.floats(tensor(2)?, outputs)?;
                let bias = stored.floats(tensor(3)?, outputs)?;
                let weights = self.packing.pack(stored, location, &scales, [outputs, inputs])?;
                Ok(Operator::Linear(Arc::new(Linear { weights, bias, after: place.after })))
            }
            QUANTIZED_EMBEDDING => {
                let (location, [rows, width]) = stored.matrix(tensor(1)?)?;
                let scales = stored.floats(tensor(2)?, rows)?;
                let weights = self.bundle().weights().clone();
                Ok(Operator::Embedding(Arc::new(Embedding { weights, location, scales, width })))
            }
            LAYER_NORM => {
                let weight = stored.floats(tensor(1)?, width(tensor(1)?)?)?;
                let bias = stored.floats(tensor(2)?, weight.len())?;
                ensure!(!weight.is_empty(), "it is over rows without a value");
                ensure!(attribute(node, "axis")?.i == -1, "it is not over the last axis");
                let epsilon = attribute(node, "epsilon")?.f;
                ensure!(epsilon.is_finite() && epsilon > 0.0, "epsilon is {epsilon}");
                Ok(Operator::Norm(Arc::new(Norm { weight, bias, epsilon })))
            }
            GELU => Ok(Operator::Gelu),
            ATTENTION => Ok(Operator::Attention(scaled_heads(node)?)),
            CACHED_ATTENTION => {
                let (found, expected) = (cache(node)?, self.bundle().manifest().precision.cache());
                ensure!(found == expected, "its cache is {found:?}, the manifest says {expected:?}");
                Ok(Operator::CachedAttention(scaled_heads(node)?, place.layer.context("it is of no layer")?))
            }
            CROSS_ATTENTION => Ok(Operator::CrossAttention(scaled_heads(node)?)),
            KEYS_AND_VALUES => Ok(Operator::KeysAndValues(heads(node)?, cache(node)?)),
            other => bail!("the function {other} is not one of ours"),
        }
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

fn cache(node: &NodeProto) -> TractResult<Element> {
    let element = attribute(node, "cache")?.i;
    match DataType::try_from(i32::try_from(element)?) {
        Ok(DataType::Float) => Ok(Element::F32),
        Ok(DataType::Float16) => Ok(Element::F16),
        _ => bail!("its cache is of the element type {element}"),
    }
}
