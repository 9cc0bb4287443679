//! BLIP's parts as graphs, before anybody decides how the weights are stored.
//!
//! A graph is a list of nodes over named values. Standard operators are ONNX's; calls are of our functions, which `onnx`
//! spells out; [`Node::Linear`] and [`Node::Embedding`] leave open what they become: an int8 or an f32 form.

mod attention;
mod heads;
mod text;
mod vision;

pub use heads::{cross, decoder, image_embedding, matcher, question, text_embedding};
pub use vision::vision;

use blip::manifest::{Dimension, Element, GELU, Port, Precision};

/// What is known of a model when its graphs are built.
#[derive(Clone, Copy, Debug)]
pub struct Style {
    /// How weights are stored; decides the element type of caches at the graphs' edges.
    pub precision: Precision,
}

impl Style {
    /// Element type of key/value caches and cross-attention keys and values.
    pub fn cache(self) -> Element {
        self.precision.cache()
    }
}

/// Name of a value inside a graph.
pub type Value = String;

/// A trained tensor: one of the checkpoint's, or several stacked along the first axis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameter {
    /// Name in the graph.
    pub name: String,
    /// Names in the checkpoint.
    pub pieces: Vec<String>,
    /// Shape in the graph; the same number of elements as the pieces have together.
    pub shape: Vec<usize>,
}

/// An attribute of a standard operator or of a call.
#[derive(Clone, Debug, PartialEq)]
pub enum Attribute {
    /// One integer.
    Int(&'static str, i64),
    /// Integers.
    Ints(&'static str, Vec<i64>),
    /// A float.
    Float(&'static str, f32),
}

/// A constant that is not trained.
#[derive(Clone, Debug, PartialEq)]
pub enum Constant {
    /// Integers with a shape.
    I64(Vec<usize>, Vec<i64>),
    /// One float.
    F32(f32),
}

/// One step of a graph.
#[derive(Clone, Debug, PartialEq)]
pub enum Node {
    /// A standard operator.
    Standard {
        /// Its name.
        operator: &'static str,
        /// What it reads.
        inputs: Vec<Value>,
        /// What it makes.
        outputs: Vec<Value>,
        /// How.
        attributes: Vec<Attribute>,
    },
    /// A call of one of our functions.
    Call {
        /// Its name.
        function: &'static str,
        /// What it reads.
        inputs: Vec<Value>,
        /// What it makes.
        outputs: Vec<Value>,
        /// How.
        attributes: Vec<Attribute>,
    },
    /// `y = x W^T + b`, `W` as `[outputs, inputs]`.
    Linear {
        /// `x`, `[.., inputs]`.
        input: Value,
        /// `y`, `[.., outputs]`.
        output: Value,
        /// `W`.
        weight: Parameter,
        /// `b`, `[outputs]`.
        bias: Parameter,
    },
    /// Rows of a table, `[.., ]` ids -> `[.., width]`.
    Embedding {
        /// Row numbers.
        ids: Value,
        /// The rows.
        output: Value,
        /// `[rows, width]`.
        table: Parameter,
    },
}

/// A whole graph.
#[derive(Clone, Debug, PartialEq)]
pub struct Graph {
    /// Name, and the stem of its file's.
    pub name: &'static str,
    /// Inputs.
    pub inputs: Vec<Port>,
    /// Outputs.
    pub outputs: Vec<Port>,
    /// Steps, in an order in which they can run.
    pub nodes: Vec<Node>,
    /// Trained tensors that standard operators use as they are.
    pub parameters: Vec<Parameter>,
    /// Constants by name.
    pub constants: Vec<(Value, Constant)>,
}

impl Graph {
    /// Number of trained tensors that the graph names.
    pub fn tensors(&self) -> usize {
        let of = |node: &Node| match node {
            Node::Standard { .. } | Node::Call { .. } => 0,
            Node::Linear { .. } => 2,
            Node::Embedding { .. } => 1,
        };
        self.parameters.len() + self.nodes.iter().map(of).sum::<usize>()
    }
}

pub(crate) fn fixed(size: usize) -> Dimension {
    Dimension::Fixed(size)
}

pub(crate) fn symbol(name: &str) -> Dimension {
    Dimension::Symbol(name.to_owned())
}

/// Writes a graph step by step; every method returns the name of the value that it made.
pub(crate) struct Builder {
    graph: Graph,
    /// Prefix of the checkpoint's names, such as `decoder.`.
    part: String,
}

impl Builder {
    pub(crate) fn new(name: &'static str, part: &str) -> Self {
        let graph = Graph {
            name,
            inputs: Vec::new(),
            outputs: Vec::new(),
            nodes: Vec::new(),
            parameters: Vec::new(),
            constants: Vec::new(),
        };
        Self { graph, part: part.to_owned() }
    }

    /// From here on, names are the checkpoint's whole names.
    pub(crate) fn root(&mut self) {
        self.part.clear();
    }

    pub(crate) fn finish(self) -> Graph {
        self.graph
    }

    /// Declares an input.
    pub(crate) fn input(&mut self, name: &str, element: Element, shape: Vec<Dimension>) -> Value {
        self.graph.inputs.push(Port { name: name.to_owned(), element, shape });
        name.to_owned()
    }

    /// Declares an output and gives it `value`, which is of that element type and shape.
    pub(crate) fn output(&mut self, name: &str, value: &Value, element: Element, shape: Vec<Dimension>) {
        self.push("Identity", vec![value.clone()], vec![name.to_owned()], Vec::new());
        self.graph.outputs.push(Port { name: name.to_owned(), element, shape });
    }

    /// A call of our function `function`, which makes `count` values.
    pub(crate) fn call<const COUNT: usize>(
        &mut self,
        function: &'static str,
        inputs: &[&Value],
        attributes: Vec<Attribute>,
    ) -> [Value; COUNT] {
        let stem = self.fresh(function);
        let outputs = std::array::from_fn(|number| format!("{stem}_{number}"));
        let inputs = inputs.iter().map(|&input| input.clone()).collect();
        self.graph.nodes.push(Node::Call { function, inputs, outputs: outputs.to_vec(), attributes });
        outputs
    }

    /// A standard operator with one output.
    pub(crate) fn node(&mut self, operator: &'static str, inputs: &[&Value], attributes: Vec<Attribute>) -> Value {
        let output = self.fresh(operator);
        let inputs = inputs.iter().map(|&input| input.clone()).collect();
        self.push(operator, inputs, vec![output.clone()], attributes);
        output
    }

    /// Rows `from..to` of `axis`; the bounds are values of shape `[1]`.
    pub(crate) fn slice(&mut self, value: &Value, from: &Value, to: &Value, axis: i64) -> Value {
        let axis = self.integers(&[axis]);
        self.node("Slice", &[value, from, to, &axis], Vec::new())
    }

    /// Size of `axis`, as a value of shape `[1]`.
    pub(crate) fn size(&mut self, value: &Value, axis: i64) -> Value {
        let shape = self.node("Shape", &[value], Vec::new());
        let (from, to) = (self.integers(&[axis]), self.integers(&[axis + 1]));
        self.slice(&shape, &from, &to, 0)
    }

    /// Another shape; 0 keeps a dimension and -1 takes what is left.
    pub(crate) fn reshape(&mut self, value: &Value, shape: &[i64]) -> Value {
        let shape = self.integers(shape);
        self.node("Reshape", &[value, &shape], Vec::new())
    }

    /// Another order of the axes.
    pub(crate) fn transpose(&mut self, value: &Value, order: &[i64]) -> Value {
        self.node("Transpose", &[value], vec![Attribute::Ints("perm", order.to_vec())])
    }

    /// A constant list of integers.
    pub(crate) fn integers(&mut self, values: &[i64]) -> Value {
        self.constant(Constant::I64(vec![values.len()], values.to_vec()))
    }

    /// A constant, stored once however often it is asked for.
    pub(crate) fn constant(&mut self, constant: Constant) -> Value {
        if let Some((name, _)) = self.graph.constants.iter().find(|(_, known)| *known == constant) {
            return name.clone();
        }
        let name = format!("constant_{}", self.graph.constants.len());
        self.graph.constants.push((name.clone(), constant));
        name
    }

    /// One trained tensor of the part, used by a standard operator.
    pub(crate) fn parameter(&mut self, name: &str, shape: Vec<usize>) -> Value {
        let parameter = self.one(name, shape);
        let value = parameter.name.clone();
        self.graph.parameters.push(parameter);
        value
    }

    /// Linear layer `name`.
    pub(crate) fn linear(&mut self, input: &Value, name: &str, [outputs, inputs]: [usize; 2]) -> Value {
        let weight = self.one(&format!("{name}.weight"), vec![outputs, inputs]);
        let bias = self.one(&format!("{name}.bias"), vec![outputs]);
        self.push_linear(input, weight, bias)
    }

    /// Linear layer `name` that stays f32 in every bundle: hardly any of the work, and much hangs on it.
    pub(crate) fn f32_linear(&mut self, input: &Value, name: &str, [outputs, inputs]: [usize; 2]) -> Value {
        let weight = self.parameter(&format!("{name}.weight"), vec![outputs, inputs]);
        let bias = self.parameter(&format!("{name}.bias"), vec![outputs]);
        let columns = self.transpose(&weight, &[1, 0]);
        let product = self.node("MatMul", &[input, &columns], Vec::new());
        self.add(&product, &bias)
    }

    /// Several linear layers that read the same input, as one: their outputs stand side by side.
    pub(crate) fn stacked_linear(&mut self, input: &Value, names: &[String], [outputs, inputs]: [usize; 2]) -> Value {
        let stack = |kind: &str, shape: Vec<usize>| Parameter {
            name: format!("{}.{kind}", names.join("+")),
            pieces: names.iter().map(|name| format!("{}{name}.{kind}", self.part)).collect(),
            shape,
        };
        let weight = stack("weight", vec![outputs * names.len(), inputs]);
        let bias = stack("bias", vec![outputs * names.len()]);
        self.push_linear(input, weight, bias)
    }

    /// Linear layer whose weight is the table of an embedding.
    pub(crate) fn tied_linear(&mut self, input: &Value, table: &str, bias: &str, shape: [usize; 2]) -> Value {
        let weight = self.one(table, shape.to_vec());
        let bias = self.one(bias, vec![shape[0]]);
        self.push_linear(input, weight, bias)
    }

    /// Rows of table `name`.
    pub(crate) fn embedding(&mut self, ids: &Value, name: &str, shape: [usize; 2]) -> Value {
        let output = self.fresh("Embedding");
        let table = self.one(name, shape.to_vec());
        self.graph.nodes.push(Node::Embedding { ids: ids.clone(), output: output.clone(), table });
        output
    }

    /// Layer norm `name` over the last axis.
    pub(crate) fn norm(&mut self, input: &Value, name: &str, width: usize, eps: f32) -> Value {
        let weight = self.parameter(&format!("{name}.weight"), vec![width]);
        let bias = self.parameter(&format!("{name}.bias"), vec![width]);
        let attributes = vec![Attribute::Int("axis", -1), Attribute::Float("epsilon", eps)];
        self.node("LayerNormalization", &[input, &weight, &bias], attributes)
    }

    /// GELU in its exact form, `x (1 + erf(x / sqrt 2)) / 2`.
    pub(crate) fn gelu(&mut self, input: &Value) -> Value {
        let [output] = self.call(GELU, &[input], Vec::new());
        output
    }

    pub(crate) fn add(&mut self, left: &Value, right: &Value) -> Value {
        self.node("Add", &[left, right], Vec::new())
    }

    /// Vectors of length one along the last axis, as `torch.nn.functional.normalize` gives them.
    pub(crate) fn unit(&mut self, input: &Value) -> Value {
        let least = self.constant(Constant::F32(1e-12));
        let axis = vec![Attribute::Ints("axes", vec![-1]), Attribute::Int("keepdims", 1)];
        let length = self.node("ReduceL2", &[input], axis);
        let length = self.node("Max", &[&length, &least], Vec::new());
        self.node("Div", &[input, &length], Vec::new())
    }

    fn push_linear(&mut self, input: &Value, weight: Parameter, bias: Parameter) -> Value {
        let output = self.fresh("Linear");
        self.graph.nodes.push(Node::Linear { input: input.clone(), output: output.clone(), weight, bias });
        output
    }

    fn push(&mut self, operator: &'static str, inputs: Vec<Value>, outputs: Vec<Value>, attributes: Vec<Attribute>) {
        self.graph.nodes.push(Node::Standard { operator, inputs, outputs, attributes });
    }

    fn one(&self, name: &str, shape: Vec<usize>) -> Parameter {
        Parameter { name: name.to_owned(), pieces: vec![format!("{}{name}", self.part)], shape }
    }

    fn fresh(&self, operator: &str) -> Value {
        format!("{operator}_{}", self.graph.nodes.len())
    }
}
