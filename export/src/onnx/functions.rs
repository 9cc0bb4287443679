//! Our functions, spelled out in standard operators: these bodies are the specification of the runtime's operators.

mod attention;

use blip::manifest::{FUNCTION_DOMAIN, GELU, QUANTIZED_EMBEDDING, QUANTIZED_LINEAR, SMALLEST_ROW};

use super::attribute;
use super::format::{Attribute, Function, Node, OPSET, OperatorSet, Tensor, attribute_type, data_type};
use crate::graph::Attribute as GraphAttribute;
use crate::quantize::LARGEST;

/// Every function that a graph may call.
pub(super) fn all() -> Vec<Function> {
    let attentions = [attention::attention(), attention::cached(), attention::cross(), attention::keys_and_values()];
    [quantized_linear(), quantized_embedding(), gelu()].into_iter().chain(attentions).collect()
}

/// Activations are quantized by row, at run time: `scale = max(|x|) / 127`, `q = round(x / scale)`.
fn quantized_linear() -> Function {
    let node = vec![
        constant("smallest", SMALLEST_ROW),
        constant("largest", LARGEST),
        step("Abs", &["x"], "magnitude", &[]),
        step("ReduceMax", &["magnitude"], "row", &[ints("axes", -1), int("keepdims", 1)]),
        step("Max", &["row", "smallest"], "bounded_row", &[]),
        step("Div", &["bounded_row", "largest"], "row_scale", &[]),
        step("Div", &["x", "row_scale"], "scaled", &[]),
        step("Round", &["scaled"], "rounded", &[]),
        step("Cast", &["rounded"], "quantized", &[int("to", i64::from(data_type::INT8))]),
        step("Transpose", &["weight"], "columns", &[attribute(&GraphAttribute::Ints("perm", vec![1, 0]))]),
        step("MatMulInteger", &["quantized", "columns"], "sums", &[]),
        step("Cast", &["sums"], "sums_as_floats", &[int("to", i64::from(data_type::FLOAT))]),
        step("Mul", &["sums_as_floats", "row_scale"], "row_scaled", &[]),
        step("Mul", &["row_scaled", "scale"], "product", &[]),
        step("Add", &["product", "bias"], "y", &[]),
    ];
    let doc = "y = x W^T + bias with W int8 by output channel and x quantized to int8 by row";
    function(QUANTIZED_LINEAR, [&["x", "weight", "scale", "bias"], &["y"], &[]], node, doc)
}

fn quantized_embedding() -> Function {
    let node = vec![
        step("Gather", &["table", "ids"], "rows", &[int("axis", 0)]),
        step("Cast", &["rows"], "rows_as_floats", &[int("to", i64::from(data_type::FLOAT))]),
        step("Gather", &["scale", "ids"], "row_scale", &[int("axis", 0)]),
        step("Constant", &[], "last", &[last_axis()]),
        step("Unsqueeze", &["row_scale", "last"], "column", &[]),
        step("Mul", &["rows_as_floats", "column"], "y", &[]),
    ];
    let doc = "rows of an int8 table with a scale each";
    function(QUANTIZED_EMBEDDING, [&["ids", "table", "scale"], &["y"], &[]], node, doc)
}

/// Source: PyTorch `nn.GELU`, which BLIP `models/vit.py` and `models/med.py` use.
fn gelu() -> Function {
    let node = vec![
        constant("root", std::f32::consts::SQRT_2),
        constant("one", 1.0),
        constant("half", 0.5),
        step("Div", &["x", "root"], "scaled", &[]),
        step("Erf", &["scaled"], "erf", &[]),
        step("Add", &["erf", "one"], "gate", &[]),
        step("Mul", &["x", "gate"], "gated", &[]),
        step("Mul", &["gated", "half"], "y", &[]),
    ];
    function(GELU, [&["x"], &["y"], &[]], node, "y = x (1 + erf(x / sqrt 2)) / 2")
}

/// A function with its inputs, outputs and attributes.
fn function(name: &str, [input, output, attribute]: [&[&str]; 3], node: Vec<Node>, doc: &str) -> Function {
    let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
    Function {
        name: name.to_owned(),
        input: names(input),
        output: names(output),
        attribute: names(attribute),
        node,
        doc_string: doc.to_owned(),
        opset_import: vec![OperatorSet { domain: String::new(), version: OPSET }],
        domain: FUNCTION_DOMAIN.to_owned(),
    }
}

fn step(operator: &str, input: &[&str], output: &str, attributes: &[Attribute]) -> Node {
    steps(operator, input, &[output], attributes)
}

/// A node with several outputs.
fn steps(operator: &str, input: &[&str], output: &[&str], attributes: &[Attribute]) -> Node {
    Node {
        input: input.iter().map(|&name| name.to_owned()).collect(),
        output: output.iter().map(|&name| name.to_owned()).collect(),
        name: output[0].to_owned(),
        op_type: operator.to_owned(),
        attribute: attributes.to_vec(),
        domain: String::new(),
    }
}

fn constant(name: &str, value: f32) -> Node {
    step("Constant", &[], name, &[tensor(&[], data_type::FLOAT, value.to_le_bytes().to_vec())])
}

fn last_axis() -> Attribute {
    tensor(&[1], data_type::INT64, (-1i64).to_le_bytes().to_vec())
}

fn tensor(dims: &[i64], data_type: i32, bytes: Vec<u8>) -> Attribute {
    let value = Tensor { dims: dims.to_vec(), data_type, raw_data: Some(bytes), ..Default::default() };
    Attribute { name: "value".to_owned(), t: Some(value), r#type: attribute_type::TENSOR, ..Default::default() }
}

/// Integers as a constant list.
fn integers(name: &str, values: &[i64]) -> Node {
    let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    step("Constant", &[], name, &[tensor(&[values.len() as i64], data_type::INT64, bytes)])
}

/// The attribute `name` of a node has the value of the call's attribute `given`.
fn given(name: &str, given: &str, r#type: i32) -> Attribute {
    Attribute { name: name.to_owned(), ref_attr_name: Some(given.to_owned()), r#type, ..Default::default() }
}

fn int(name: &'static str, value: i64) -> Attribute {
    attribute(&GraphAttribute::Int(name, value))
}

fn ints(name: &'static str, value: i64) -> Attribute {
    ints_of(name, &[value])
}

fn ints_of(name: &'static str, values: &[i64]) -> Attribute {
    attribute(&GraphAttribute::Ints(name, values.to_vec()))
}
