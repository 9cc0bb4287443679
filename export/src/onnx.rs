//! Graphs as ONNX files.
//!
//! This is where weights get their form: a linear layer becomes a call of `edgeblip.QuantizedLinear`, whose body says in
//! standard operators what it computes, or a plain matrix product in f32. Large tensors go to the weight file.

pub mod format;
mod functions;

use std::collections::{HashMap, HashSet};

use blip::manifest::{
    Dimension, Element, FUNCTION_DOMAIN, Port, Precision, QUANTIZED_EMBEDDING, QUANTIZED_LINEAR, WEIGHTS,
};
use prost::Message;

use self::format::{attribute_type, data_type, dimension};
use crate::graph::{Attribute, Constant, Graph, Node, Parameter, Value};
use crate::quantize::quantize;
use crate::weight_file::{Location, WeightFile, WriteError};
use crate::weights::{Weights, WeightsError};
use terminal::progress::Progress;

/// Tensors up to this many bytes stay in the graph's own file.
const INLINE_BYTES: usize = 1024;

/// A graph that cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum OnnxError {
    /// A weight cannot be read.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// A weight cannot be written.
    #[error(transparent)]
    Write(#[from] WriteError),
}

/// A quantized tensor and what was lost.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct QuantizedTensor {
    /// Names in the checkpoint.
    pub name: String,
    /// Shape.
    pub shape: [usize; 2],
    /// `|W - stored W| / |W|` in the Frobenius norm.
    pub error: f32,
}

/// How a parameter is stored.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Form {
    Float,
    Int8,
}

/// A stored tensor without its name.
#[derive(Clone)]
struct Stored {
    data_type: i32,
    dims: Vec<usize>,
    place: Place,
}

#[derive(Clone)]
enum Place {
    Inline(Vec<u8>),
    WeightFile(Location),
}

/// Writes graphs of one bundle around one weight file.
pub struct Writer<'a> {
    weights: &'a Weights,
    precision: Precision,
    file: WeightFile,
    stored: HashMap<(usize, Vec<String>, Form), Vec<Stored>>,
    quantized: Vec<QuantizedTensor>,
    progress: &'a Progress,
}

impl<'a> Writer<'a> {
    /// A writer that stores weights in `file`.
    pub fn new(weights: &'a Weights, precision: Precision, file: WeightFile, progress: &'a Progress) -> Self {
        Self { weights, precision, file, stored: HashMap::new(), quantized: Vec::new(), progress }
    }

    /// The bytes of `graph` with the weights of checkpoint `source`.
    ///
    /// # Errors
    /// A weight that cannot be read or written.
    pub fn write(&mut self, graph: &Graph, source: usize) -> Result<Vec<u8>, OnnxError> {
        let mut file = GraphFile::default();
        for (name, constant) in &graph.constants {
            file.constant(name, constant);
        }
        for parameter in &graph.parameters {
            let stored = self.store(source, parameter, Form::Float)?;
            file.tensors([parameter.name.clone()], stored);
        }
        for node in &graph.nodes {
            self.node(&mut file, node, source)?;
        }
        Ok(file.model(graph).encode_to_vec())
    }

    /// Ends the weight file; returns its facts and what was quantized, worst first.
    ///
    /// # Errors
    /// The system's refusal.
    pub fn finish(self) -> Result<(blip::manifest::FileFacts, Vec<QuantizedTensor>), WriteError> {
        let mut quantized = self.quantized;
        quantized.sort_by(|left, right| right.error.total_cmp(&left.error).then_with(|| left.name.cmp(&right.name)));
        Ok((self.file.finish()?, quantized))
    }

    fn node(&mut self, file: &mut GraphFile, node: &Node, source: usize) -> Result<(), OnnxError> {
        match node {
            Node::Standard { operator, inputs, outputs, attributes } => {
                let attribute = attributes.iter().map(attribute).collect();
                file.push(operator, "", inputs.clone(), outputs.clone(), attribute);
            }
            Node::Call { function, inputs, outputs, attributes } => {
                let attribute = attributes.iter().map(attribute).collect();
                file.push(function, FUNCTION_DOMAIN, inputs.clone(), outputs.clone(), attribute);
            }
            Node::Linear { input, output, weight, bias } => {
                let stored = self.store(source, bias, Form::Float)?;
                file.tensors([bias.name.clone()], stored);
                self.linear(file, [input, output], [weight, bias], source)?;
            }
            Node::Embedding { ids, output, table } => self.embedding(file, [ids, output], table, source)?,
        }
        Ok(())
    }

    fn linear(
        &mut self,
        file: &mut GraphFile,
        [input, output]: [&Value; 2],
        [weight, bias]: [&Parameter; 2],
        source: usize,
    ) -> Result<(), OnnxError> {
        let form = self.form();
        let stored = self.store(source, weight, form)?;
        let outputs = vec![output.clone()];
        if form == Form::Int8 {
            let scale = format!("{}.scale", weight.name);
            file.tensors([weight.name.clone(), scale.clone()], stored);
            let inputs = vec![input.clone(), weight.name.clone(), scale, bias.name.clone()];
            file.push(QUANTIZED_LINEAR, FUNCTION_DOMAIN, inputs, outputs, Vec::new());
            return Ok(());
        }
        file.tensors([weight.name.clone()], stored);
        let (transposed, product) = (format!("{output}_weight"), format!("{output}_product"));
        let order = attribute(&Attribute::Ints("perm", vec![1, 0]));
        file.push("Transpose", "", vec![weight.name.clone()], vec![transposed.clone()], vec![order]);
        file.push("MatMul", "", vec![input.clone(), transposed], vec![product.clone()], Vec::new());
        file.push("Add", "", vec![product, bias.name.clone()], outputs, Vec::new());
        Ok(())
    }

    fn embedding(
        &mut self,
        file: &mut GraphFile,
        [ids, output]: [&Value; 2],
        table: &Parameter,
        source: usize,
    ) -> Result<(), OnnxError> {
        let form = self.form();
        let stored = self.store(source, table, form)?;
        let outputs = vec![output.clone()];
        if form == Form::Int8 {
            let scale = format!("{}.scale", table.name);
            file.tensors([table.name.clone(), scale.clone()], stored);
            let inputs = vec![ids.clone(), table.name.clone(), scale];
            file.push(QUANTIZED_EMBEDDING, FUNCTION_DOMAIN, inputs, outputs, Vec::new());
        } else {
            file.tensors([table.name.clone()], stored);
            let axis = attribute(&Attribute::Int("axis", 0));
            file.push("Gather", "", vec![table.name.clone(), ids.clone()], outputs, vec![axis]);
        }
        Ok(())
    }

    fn form(&self) -> Form {
        match self.precision {
            Precision::Int8 => Form::Int8,
            Precision::Fp32 => Form::Float,
        }
    }

    /// The stored tensors of a parameter: its values, and its scales if it is int8.
    fn store(&mut self, source: usize, parameter: &Parameter, form: Form) -> Result<Vec<Stored>, OnnxError> {
        let key = (source, parameter.pieces.clone(), form);
        let known = match self.stored.get(&key) {
            Some(known) => known.clone(),
            None => {
                let values = self.weights.load(source, &parameter.pieces, parameter.shape.iter().product())?;
                let stored = self.store_values(parameter, &values, form)?;
                self.progress.step();
                self.stored.insert(key, stored.clone());
                stored
            }
        };
        Ok(known)
    }

    fn store_values(&mut self, parameter: &Parameter, values: &[f32], form: Form) -> Result<Vec<Stored>, OnnxError> {
        let shape = &parameter.shape;
        let floats = |values: &[f32]| values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>();
        if form == Form::Float {
            return Ok(vec![self.put(data_type::FLOAT, shape.clone(), floats(values))?]);
        }
        let width = shape[1];
        let quantized = quantize(values, width);
        let (name, shape) = (parameter.pieces.join(", "), [shape[0], width]);
        self.quantized.push(QuantizedTensor { name, shape, error: quantized.error });
        let bytes = quantized.values.iter().map(|value| value.to_le_bytes()[0]).collect::<Vec<u8>>();
        let location = self.file.store(&bytes)?;
        let matrix = Stored { data_type: data_type::INT8, dims: shape.to_vec(), place: Place::WeightFile(location) };
        let scales = self.put(data_type::FLOAT, vec![shape[0]], floats(&quantized.scales))?;
        Ok(vec![matrix, scales])
    }

    fn put(&mut self, data_type: i32, dims: Vec<usize>, bytes: Vec<u8>) -> Result<Stored, WriteError> {
        let place = match bytes.len() {
            0..=INLINE_BYTES => Place::Inline(bytes),
            _ => Place::WeightFile(self.file.store(&bytes)?),
        };
        Ok(Stored { data_type, dims, place })
    }
}

/// A file in the making.
#[derive(Default)]
struct GraphFile {
    nodes: Vec<format::Node>,
    tensors: Vec<format::Tensor>,
    names: HashSet<String>,
}

impl GraphFile {
    fn push(
        &mut self,
        operator: &str,
        domain: &str,
        input: Vec<String>,
        output: Vec<String>,
        attribute: Vec<format::Attribute>,
    ) {
        let name = format!("{operator}_{}", self.nodes.len());
        let (op_type, domain) = (operator.to_owned(), domain.to_owned());
        self.nodes.push(format::Node { input, output, name, op_type, attribute, domain });
    }

    /// Declares tensors under their names; a second declaration of a name is the same tensor.
    fn tensors<const N: usize>(&mut self, names: [String; N], stored: Vec<Stored>) {
        for (name, stored) in names.into_iter().zip(stored) {
            if !self.names.insert(name.clone()) {
                continue;
            }
            let dims = stored.dims.iter().map(|&size| size as i64).collect();
            let mut tensor = format::Tensor { dims, data_type: stored.data_type, name, ..Default::default() };
            match stored.place {
                Place::Inline(bytes) => tensor.raw_data = Some(bytes),
                Place::WeightFile(location) => {
                    let entry = |key: &str, value: String| format::Entry { key: key.to_owned(), value };
                    tensor.data_location = Some(format::EXTERNAL);
                    tensor.external_data = vec![
                        entry("location", WEIGHTS.to_owned()),
                        entry("offset", location.offset.to_string()),
                        entry("length", location.length.to_string()),
                    ];
                }
            }
            self.tensors.push(tensor);
        }
    }

    fn constant(&mut self, name: &str, constant: &Constant) {
        let (data_type, dims, bytes) = match constant {
            Constant::I64(shape, values) => {
                let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
                (data_type::INT64, shape.clone(), bytes)
            }
            Constant::F32(value) => (data_type::FLOAT, Vec::new(), value.to_le_bytes().to_vec()),
        };
        self.tensors([name.to_owned()], vec![Stored { data_type, dims, place: Place::Inline(bytes) }]);
    }

    fn model(self, graph: &Graph) -> format::Model {
        let opset = |domain: &str, version| format::OperatorSet { domain: domain.to_owned(), version };
        let mut opset_import = vec![opset("", format::OPSET)];
        let called: HashSet<&str> =
            self.nodes.iter().filter(|node| node.domain == FUNCTION_DOMAIN).map(|node| node.op_type.as_str()).collect();
        let functions: Vec<_> =
            functions::all().into_iter().filter(|function| called.contains(function.name.as_str())).collect();
        if !functions.is_empty() {
            opset_import.push(opset(FUNCTION_DOMAIN, 1));
        }
        format::Model {
            ir_version: format::IR_VERSION,
            producer_name: env!("CARGO_PKG_NAME").to_owned(),
            producer_version: env!("CARGO_PKG_VERSION").to_owned(),
            graph: Some(format::Graph {
                node: self.nodes,
                name: graph.name.to_owned(),
                initializer: self.tensors,
                input: graph.inputs.iter().map(value_info).collect(),
                output: graph.outputs.iter().map(value_info).collect(),
            }),
            opset_import,
            functions,
        }
    }
}

fn attribute(attribute: &Attribute) -> format::Attribute {
    let named = |name: &str, r#type| format::Attribute { name: name.to_owned(), r#type, ..Default::default() };
    match attribute {
        Attribute::Int(name, value) => format::Attribute { i: Some(*value), ..named(name, attribute_type::INT) },
        Attribute::Ints(name, values) => {
            format::Attribute { ints: values.clone(), ..named(name, attribute_type::INTS) }
        }
        Attribute::Float(name, value) => format::Attribute { f: Some(*value), ..named(name, attribute_type::FLOAT) },
    }
}

fn value_info(port: &Port) -> format::ValueInfo {
    let elem_type = match port.element {
        Element::F32 => data_type::FLOAT,
        Element::F16 => data_type::FLOAT16,
        Element::I64 => data_type::INT64,
    };
    let size = |dimension: &Dimension| match dimension {
        Dimension::Fixed(size) => dimension::Size::Value(*size as i64),
        Dimension::Symbol(name) => dimension::Size::Parameter(name.clone()),
    };
    let dim = port.shape.iter().map(|dimension| format::Dimension { size: Some(size(dimension)) }).collect();
    let tensor_type = Some(format::TensorType { elem_type, shape: Some(format::Shape { dim }) });
    format::ValueInfo { name: port.name.clone(), r#type: Some(format::Type { tensor_type }) }
}
