//! Runs a bundle's graphs. The only module that knows tract.
//!
//! tract loads, checks, plans and schedules. Calls of the functions in the domain `edgeblip` become operators of ours,
//! which own packed weights, one of them for each tensor in `weights.bin`, whichever graphs share it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use blip::manifest::{Dimension, Element, GraphFacts, Port};
use tract_linalg::multithread::{Executor, multithread_tract_scope};
use tract_onnx::prelude::*;

use crate::bundle::{Bundle, BundleError, CacheError};

mod guard;
mod profile;
mod cache;
mod operators;
mod stored;
mod packing;
mod fusion;
mod in_place;
mod load;
mod tensor;

pub use cache::KeyValueCache;
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
    packing: packing::Packing,
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
        Ok(Engine { bundle, threads: Arc::new(pool), packing: packing::Packing::default(), profile: Arc::default() })
    }

    /// The bundle.
    pub fn bundle(&self) -> &Arc<Bundle> {
        &self.bundle
    }

    /// Why the next start takes as long as this one, where a cache was to make it shorter.
    pub fn cache_error(&self) -> Option<&CacheError> {
        self.bundle.cache_error().or_else(|| self.packing.error())
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
        let facts = self.facts(name)?;
        let (plan, _) = self.planned(name, sizes)?;
        Ok(self.graph(name, plan, [facts.inputs.clone(), facts.outputs.clone()]))
    }

    /// Loads a decoder, whose caches stay where they are between its calls.
    ///
    /// # Errors
    /// As [`Engine::load`], and a graph without caches.
    pub fn load_decoder(&self, name: &str) -> Result<CachedGraph, InferenceError> {
        let facts = self.facts(name)?;
        let (plan, layers) = self.planned(name, &[])?;
        let damaged = |what: &str| InferenceError::Graph { graph: name.to_owned(), what: what.to_owned() };
        let mut keys = facts.inputs.iter().filter(|port| port.name.starts_with(in_place::PAST_KEY));
        let mut length = keys.next().ok_or_else(|| damaged("it has no cache"))?.clone();
        if layers != 1 + keys.count() {
            return Err(damaged("the manifest names other caches than it has"));
        }
        let &[_, Dimension::Fixed(heads), _, Dimension::Fixed(head_width)] = length.shape.as_slice() else {
            return Err(damaged("its cache has no heads"));
        };
        length.shape[3] = Dimension::Fixed(0);
        let inputs = facts.inputs.iter().filter(|port| !port.name.starts_with("past_")).cloned();
        let mut inputs: Vec<Port> = inputs.collect();
        let element = length.element;
        inputs.insert(1, length);
        let outputs = facts.outputs.iter().take(1).cloned().collect();
        Ok(CachedGraph { graph: self.graph(name, plan, [inputs, outputs]), element, layers, heads, head_width })
    }

    fn facts(&self, name: &str) -> Result<&GraphFacts, InferenceError> {
        self.bundle.manifest().graphs.get(name).ok_or_else(|| InferenceError::Graph {
            graph: name.to_owned(),
            what: "the manifest does not list it".to_owned(),
        })
    }

    fn planned(&self, name: &str, sizes: &[(&str, usize)]) -> Result<(Arc<TypedRunnableModel>, usize), InferenceError> {
        guard::guarded(|| self.plan(name, sizes))
            .map_err(|error| InferenceError::Graph { graph: name.to_owned(), what: format!("{error:#}") })
    }

    fn graph(&self, name: &str, plan: Arc<TypedRunnableModel>, [inputs, outputs]: [Vec<Port>; 2]) -> Graph {
        let (threads, profile) = (Arc::clone(&self.threads), Arc::clone(&self.profile));
        Graph { name: name.to_owned(), plan, inputs, outputs, threads, profile }
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
        self.run_over(None, inputs)
    }

    fn run_over(&self, cache: Option<&KeyValueCache>, inputs: &[Tensor]) -> Result<Vec<Tensor>, InferenceError> {
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
        let run = || guard::guarded(|| self.run_plan(cache, values));
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

    fn run_plan(&self, cache: Option<&KeyValueCache>, values: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let mut state = self.plan.spawn()?;
        if let Some(cache) = cache {
            state.turn_state.shared.insert(cache.share());
        }
        if !self.profile.is_on() {
            return state.run(values);
        }
        state.run_plan_with_eval(values, |context, state, node, inputs| {
            let start = Instant::now();
            let outputs = tract_onnx::tract_core::plan::eval(context, state, node, inputs);
            let kernel = node.op_as::<operators::Operator>().map_or("tract".to_owned(), operators::Operator::kernel);
            self.profile.add([self.name.clone(), node.op().name().into_owned(), kernel], start.elapsed());
            outputs
        })
    }

    fn stopped(&self, what: &str) -> InferenceError {
        InferenceError::Run { graph: self.name.clone(), what: what.to_owned() }
    }
}

/// A loaded decoder.
///
/// In the file its caches are inputs and outputs; here they are a [`KeyValueCache`].
pub struct CachedGraph {
    graph: Graph,
    element: Element,
    layers: usize,
    heads: usize,
    head_width: usize,
}

impl CachedGraph {
    /// A cache for one text that has no tokens yet.
    pub fn cache(&self) -> KeyValueCache {
        KeyValueCache::new(self.element, self.layers, self.heads, self.head_width)
    }

    /// Reads `ids`, `[texts, length]`, after what the cache holds, which then holds them too.
    ///
    /// `memory` is what the manifest's inputs name after the caches. Gives the graph's first output.
    ///
    /// # Errors
    /// As [`Graph::run`]; the cache is then as it was.
    pub fn run(&self, cache: &mut KeyValueCache, ids: Tensor, memory: &[Tensor]) -> Result<Tensor, InferenceError> {
        let [texts, length] = {
            let mut slots = cache.lock();
            slots.begin(ids.shape().last().copied().unwrap_or(0));
            slots.size()
        };
        let past = Tensor::empty(self.element, &[texts, self.heads, length, 0]);
        let inputs: Vec<Tensor> = [ids, past].into_iter().chain(memory.iter().cloned()).collect();
        let mut outputs = self.graph.run_over(Some(cache), &inputs)?;
        cache.lock().end();
        Ok(outputs.swap_remove(0))
    }
}
