//! Runs a bundle's graphs. The only module that knows tract.
//!
//! tract loads, checks, plans and schedules. Calls of the functions in the domain `edgeblip` become operators of ours,
//! which own packed weights made once for each tensor in `weights.bin`, whichever graphs share it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use blip::manifest::{Element, Port};
use tract_linalg::multithread::{Executor, multithread_tract_scope};
use tract_onnx::prelude::*;

use crate::bundle::{Bundle, BundleError, Location};

mod guard;
mod profile;
mod operators;
mod fusion;
mod load;
mod tensor;

pub use profile::{OperatorTime, Profile};
pub use tensor::Tensor;

/// A graph that cannot be loaded or run.
#[derive(Debug, thiserror::Error)]
pub enum InferenceError {
    /// The bundle does not hold the graph.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// The graph is not one that this program can run.
    #[error("{graph}: {what}: the bundle is damaged or was made by another version, export it again")]
    Graph {
        /// The graph's file.
        graph: String,
        /// What is wrong with it.
        what: String,
    },
    /// An input's shape contradicts the manifest.
    #[error("{graph}: input {input} is {found:?}, the manifest says {expected:?}")]
    Shape {
        /// The graph's file.
        graph: String,
        /// The input.
        input: String,
        /// Shape that was given.
        found: Vec<usize>,
        /// Shape that is wanted.
        expected: Vec<blip::manifest::Dimension>,
    },
    /// tract stopped.
    #[error("{graph}: {what}")]
    Run {
        /// The graph's file.
        graph: String,
        /// tract's reason.
        what: String,
    },
    /// The system gave no threads.
    #[error("could not start {threads} threads: {what}")]
    Threads {
        /// How many were asked for.
        threads: usize,
        /// The system's reason.
        what: String,
    },
}

/// Loads graphs of one bundle and shares what they have in common: weights and threads.
pub struct Engine {
    bundle: Arc<Bundle>,
    threads: Arc<rayon::ThreadPool>,
    packed: Mutex<HashMap<Location, Arc<crate::kernels::quantized_linear::PackedWeights>>>,
    profile: Arc<Profile>,
}

impl Engine {
    /// An engine that computes on `threads` threads, at least one.
    ///
    /// # Errors
    /// The system's refusal to start threads.
    pub fn new(bundle: Arc<Bundle>, threads: usize) -> Result<Engine, InferenceError> {
        let threads = threads.max(1);
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .thread_name(|index| format!("edgeblip-{index}"))
            .build()
            .map_err(|error| InferenceError::Threads { threads, what: error.to_string() })?;
        Ok(Engine { bundle, threads: Arc::new(pool), packed: Mutex::default(), profile: Arc::default() })
    }

    /// The bundle.
    pub fn bundle(&self) -> &Arc<Bundle> {
        &self.bundle
    }

    /// What the operators of its graphs take.
    pub fn profile(&self) -> &Profile {
        &self.profile
    }

    /// Loads a graph; `sizes` fixes named dimensions that are known beforehand, such as `("batch", 1)`.
    ///
    /// # Errors
    /// [`InferenceError::Bundle`] or [`InferenceError::Graph`].
    pub fn load(&self, name: &str, sizes: &[(&str, usize)]) -> Result<Graph, InferenceError> {
        let facts = self.bundle.manifest().graphs.get(name).ok_or_else(|| InferenceError::Graph {
            graph: name.to_owned(),
            what: "the manifest does not list it".to_owned(),
        })?;
        let plan = guard::guarded(|| self.plan(name, sizes))
            .map_err(|error| InferenceError::Graph { graph: name.to_owned(), what: format!("{error:#}") })?;
        let (threads, profile) = (Arc::clone(&self.threads), Arc::clone(&self.profile));
        let (inputs, outputs) = (facts.inputs.clone(), facts.outputs.clone());
        Ok(Graph { name: name.to_owned(), plan, inputs, outputs, threads, profile })
    }
}

/// A loaded graph.
pub struct Graph {
    name: String,
    plan: Arc<TypedRunnableModel>,
    inputs: Vec<Port>,
    outputs: Vec<Port>,
    threads: Arc<rayon::ThreadPool>,
    profile: Arc<Profile>,
}

impl Graph {
    /// Runs the graph: inputs and outputs in the manifest's order and of the manifest's shapes.
    ///
    /// # Errors
    /// [`InferenceError::Shape`] before anything runs, [`InferenceError::Run`] if tract stops or answers otherwise.
    pub fn run(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>, InferenceError> {
        if inputs.len() != self.inputs.len() {
            return Err(self.stopped(&format!("got {} inputs, it has {}", inputs.len(), self.inputs.len())));
        }
        let mut sizes = HashMap::new();
        for (port, tensor) in self.inputs.iter().zip(inputs) {
            if !tensor.fits(port, &mut sizes) {
                return Err(InferenceError::Shape {
                    graph: self.name.clone(),
                    input: port.name.clone(),
                    found: tensor.shape().to_vec(),
                    expected: port.shape.clone(),
                });
            }
        }
        let values: TVec<TValue> = inputs.iter().map(Tensor::to_value).collect();
        let executor = match self.threads.current_num_threads() {
            1 => Executor::SingleThread,
            _ => Executor::MultiThread(Arc::clone(&self.threads)),
        };
        let run =
            || guard::guarded(|| if self.profile.is_on() { self.run_counted(values) } else { self.plan.run(values) });
        let outputs = self.threads.install(|| multithread_tract_scope(executor, run));
        let outputs = outputs.map_err(|error| self.stopped(&format!("{error:#}")))?;
        let outputs: Vec<Tensor> = outputs.into_iter().map(Tensor::from_value).collect();
        if outputs.len() != self.outputs.len() {
            return Err(self.stopped(&format!("gave {} outputs, it has {}", outputs.len(), self.outputs.len())));
        }
        for (port, tensor) in self.outputs.iter().zip(&outputs) {
            if !tensor.fits(port, &mut sizes) {
                let (name, found) = (&port.name, tensor.shape());
                let what = format!("output {name} is {found:?}, the manifest says {:?}", port.shape);
                return Err(self.stopped(&what));
            }
        }
        Ok(outputs)
    }

    fn run_counted(&self, values: TVec<TValue>) -> TractResult<TVec<TValue>> {
        self.plan.spawn()?.run_plan_with_eval(values, |context, state, node, inputs| {
            let start = Instant::now();
            let outputs = tract_onnx::tract_core::plan::eval(context, state, node, inputs);
            let kernel = node.op_as::<operators::Operator>().map_or("tract".to_owned(), operators::Operator::kernel);
            self.profile.add([self.name.clone(), node.op().name().into_owned(), kernel], start.elapsed());
            outputs
        })
    }

    /// Element type of the input `name`.
    pub fn element(&self, name: &str) -> Option<Element> {
        self.inputs.iter().find(|port| port.name == name).map(|port| port.element)
    }

    fn stopped(&self, what: &str) -> InferenceError {
        InferenceError::Run { graph: self.name.clone(), what: what.to_owned() }
    }
}
