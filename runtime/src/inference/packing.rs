//! Weights in the order in which this processor reads them: mapped from the file that an earlier start left in the cache,
//! or packed and kept in memory where there is none.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use blip::manifest::{FUNCTION_DOMAIN, QUANTIZED_LINEAR, WEIGHTS};
use serde::Serialize;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::*;

use super::stored::Stored;
use crate::bundle::{Bundle, CacheError, Location};
use crate::kernels::quantized_linear::{ALIGNMENT, PackedWeights, SharedBytes, instruction_set};

/// Version of the packed file; another one is packed again.
const FORMAT: u32 = 1;
/// Packed weights may take this often the bytes that they take in the bundle before they are not worth a file.
const MAX_GROWTH: usize = 2;

/// Each matrix once, whichever graphs use it.
#[derive(Default)]
pub(super) struct Packing {
    matrices: Mutex<HashMap<Location, Arc<PackedWeights>>>,
    file: OnceLock<Result<PackedFile, Option<CacheError>>>,
}

impl Packing {
    /// The matrix at `location`, packed.
    pub(super) fn pack(
        &self,
        stored: Stored<'_>,
        location: Location,
        scales: &[f32],
        [outputs, inputs]: [usize; 2],
    ) -> TractResult<Arc<PackedWeights>> {
        let mut matrices = self.matrices.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(weights) = matrices.get(&location) {
            let same = weights.outputs() == outputs && weights.inputs() == inputs && weights.scales() == scales;
            ensure!(same, "one matrix has two shapes or scales");
            return Ok(Arc::clone(weights));
        }
        let file = self.file.get_or_init(|| PackedFile::open_or_make(stored.0)).as_ref().ok();
        let weights = match file.and_then(|file| file.matrix(location, scales, [outputs, inputs])) {
            Some(weights) => weights,
            None => PackedWeights::pack(bytemuck::cast_slice(&stored.read(location)?), scales, outputs, inputs),
        };
        let weights = Arc::new(weights);
        matrices.insert(location, Arc::clone(&weights));
        Ok(weights)
    }

    /// Why the packed weights are not kept for the next start, where there is a cache.
    pub(super) fn error(&self) -> Option<&CacheError> {
        self.file.get()?.as_ref().err()?.as_ref()
    }
}

/// All packed matrices of a bundle in a file.
///
/// A line of JSON, then each matrix as [`PackedWeights::write`] writes it, from multiples of [`ALIGNMENT`] on and in the
/// order of their locations.
struct PackedFile {
    map: SharedBytes,
    matrices: BTreeMap<Location, Matrix>,
}

/// What was packed, and for whom.
#[derive(Serialize)]
struct Header {
    format: u32,
    layout: String,
    /// SHA-256 of the bundle's weights.
    weights: String,
}

#[derive(Clone, Copy, Debug)]
struct Matrix {
    outputs: usize,
    inputs: usize,
    /// Where its first block lies in the file.
    start: usize,
}

impl PackedFile {
    /// Maps the file that is there for this bundle and processor, or makes it first.
    ///
    /// # Errors
    /// Why there is no such file; nothing if there is no cache.
    fn open_or_make(bundle: &Bundle) -> Result<PackedFile, Option<CacheError>> {
        let cache = bundle.cache().ok_or(None)?;
        let layout = instruction_set().layout().to_string();
        let name = format!("packed-{layout}.bin");
        let header = Header { format: FORMAT, layout, weights: bundle.manifest().files[WEIGHTS].sha256.clone() };
        let mut line = serde_json::to_vec(&header).expect("a header holds nothing that JSON cannot");
        line.push(b'\n');
        line.resize(line.len().next_multiple_of(ALIGNMENT), 0);

        let unfit = |error: TractError| cache.error(&name, io::Error::other(format!("{error:#}")));
        let (matrices, length) = matrices(bundle, line.len()).map_err(unfit)?;
        let map = |file: File| -> io::Result<PackedFile> {
            let map: SharedBytes = Arc::new(crate::bundle::map(&file)?);
            let bytes = (*map).as_ref();
            let is_whole = bytes.len() == length && bytes.starts_with(&line);
            is_whole.then_some(()).ok_or_else(|| io::Error::other("it is not what was written"))?;
            Ok(PackedFile { map, matrices: matrices.clone() })
        };
        if let Some(packed) = cache.open(&name).and_then(|file| map(file).ok()) {
            return Ok(packed);
        }
        let file = cache.keep(&name, |file| {
            let mut to = BufWriter::new(file);
            to.write_all(&line)?;
            for (location, Matrix { outputs, inputs, .. }) in &matrices {
                let weights = bundle.weights().read(*location)?;
                // Scales stay in the bundle.
                let weights = bytemuck::cast_slice(&weights);
                PackedWeights::pack(weights, &vec![1.0; *outputs], *outputs, *inputs).write(&mut to)?;
            }
            to.flush()
        })?;
        map(file).map_err(|source| Some(cache.error(&name, source)))
    }

    fn matrix(&self, location: Location, scales: &[f32], [outputs, inputs]: [usize; 2]) -> Option<PackedWeights> {
        let matrix = self.matrices.get(&location)?;
        let same = (matrix.outputs, matrix.inputs) == (outputs, inputs);
        same.then(|| PackedWeights::borrow(&self.map, matrix.start, scales, outputs, inputs))?
    }
}

/// Every matrix that a graph of the bundle multiplies by, where it lies after `start` bytes, and where the last one ends.
fn matrices(bundle: &Bundle, start: usize) -> TractResult<(BTreeMap<Location, Matrix>, usize)> {
    let mut matrices = BTreeMap::new();
    for name in bundle.manifest().graphs.keys() {
        let proto = tract_onnx::onnx().proto_model_for_read(&mut bundle.file(name)?)?;
        let graph = proto.graph.with_context(|| format!("{name} holds no graph"))?;
        let tensors: HashMap<&str, _> = graph.initializer.iter().map(|tensor| (tensor.name.as_str(), tensor)).collect();
        let is_layer = |node: &&NodeProto| node.domain == FUNCTION_DOMAIN && node.op_type == QUANTIZED_LINEAR;
        for layer in graph.node.iter().filter(is_layer) {
            let weights = layer.input.get(1).and_then(|name| tensors.get(name.as_str()));
            let weights = weights.with_context(|| format!("{name}: {} has no weights", layer.name))?;
            let (location, [outputs, inputs]) = Stored(bundle).matrix(weights)?;
            matrices.entry(location).or_insert(Matrix { outputs, inputs, start });
        }
    }
    let mut end = start;
    for matrix in matrices.values_mut() {
        matrix.start = end;
        end += PackedWeights::packed_bytes(matrix.outputs, matrix.inputs);
        let most = bundle.weights().length().saturating_mul(MAX_GROWTH).saturating_add(start);
        ensure!(end <= most, "packed weights would take more than {MAX_GROWTH} times the bytes of the bundle's");
    }
    Ok((matrices, end))
}
