//! Every int8 layer of the built-in bundle on what it reads of a real picture: the same integers on every processor.
//!
//! The golden and the script that made it are in `tests/goldens/layers`.

use std::collections::BTreeMap;
use std::path::Path;

use edgeblip::bundle::{Bundle, Location};
use edgeblip::kernels::quantized_linear::{Epilogue, InstructionSet, PackedWeights};
use serde::Deserialize;

/// Largest magnitude below which an `f32` holds every integer.
const EXACT: i32 = 1 << 24;
/// How a call of the layer stands in a graph's file: tag and length of `NodeProto.op_type`, then the name.
const CALL: &[u8] = b"\x22\x0fQuantizedLinear";

#[derive(Deserialize)]
struct Index {
    weights_sha256: String,
    layers: Vec<Layer>,
}

#[derive(Deserialize)]
struct Layer {
    graph: String,
    weight: String,
    start: usize,
    length: usize,
    outputs: usize,
    inputs: usize,
    rows: usize,
}

/// What a layer read, and what the contract makes of it.
struct Recorded {
    rows: Vec<f32>,
    q: Vec<i8>,
    scales: Vec<f32>,
    sums: Vec<i32>,
}

fn golden(file: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/goldens/layers").join(file);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The next `count` values of four bytes.
fn values<T>(data: &mut &[u8], count: usize, value: impl Fn([u8; 4]) -> T) -> Vec<T> {
    let (taken, rest) = data.split_at(count * 4);
    *data = rest;
    taken.as_chunks().0.iter().map(|bytes| value(*bytes)).collect()
}

impl Recorded {
    fn take(layer: &Layer, data: &mut &[u8]) -> Recorded {
        let rows = values(data, layer.rows * layer.inputs, f32::from_le_bytes);
        let (q, rest) = data.split_at(rows.len());
        *data = rest;
        Recorded {
            q: q.iter().map(|&byte| byte as i8).collect(),
            scales: values(data, layer.rows, f32::from_le_bytes),
            sums: values(data, layer.rows * layer.outputs, i32::from_le_bytes),
            rows,
        }
    }

    fn check(&self, layer: &Layer, weights: &[i8], set: InstructionSet) {
        let Layer { graph, weight, outputs, inputs, .. } = layer;
        let what = format!("{set}: {weight} of {graph}");
        let (mut q, mut scales) = (vec![0; self.q.len()], vec![0.0; layer.rows]);
        set.quantize_rows(&self.rows, *inputs, &mut q, &mut scales);
        assert!(q == self.q, "{what}: other integers");
        let bits = |scales: &[f32]| scales.iter().map(|scale| scale.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&scales), bits(&self.scales), "{what}");

        // Integers as they are, times one, times one, plus zero: the answer is the sums.
        let x: Vec<f32> = self.q.iter().map(|&q| f32::from(q)).collect();
        let packed = PackedWeights::pack_for(set, weights, &vec![1.0; *outputs], *outputs, *inputs);
        let mut y = vec![f32::NAN; self.sums.len()];
        set.quantized_linear(&x, &packed, &vec![0.0; *outputs], Epilogue::None, &mut y);
        for (at, (&found, &sum)) in y.iter().zip(&self.sums).enumerate() {
            assert!(found == sum as f32, "{what}: {found} is not {sum} at {at}");
        }
    }
}

#[test]
fn every_layer_of_the_built_in_bundle_has_these_integers_and_sums() {
    let bundle = Bundle::built_in().unwrap();
    let index: Index = serde_json::from_slice(&golden("layers.json")).unwrap();
    let stale = "the bundle is another one: run tests/goldens/layers/make.py again";
    assert_eq!(index.weights_sha256, bundle.manifest().files["weights.bin"].sha256, "{stale}");
    let data = golden("layers.bin");
    let mut rest = data.as_slice();
    let mut recorded: BTreeMap<&str, usize> = BTreeMap::new();
    for layer in &index.layers {
        *recorded.entry(&layer.graph).or_default() += 1;
        assert_eq!(layer.length, layer.outputs * layer.inputs, "{}", layer.weight);
        let bytes = bundle.weights().part(Location { start: layer.start, length: layer.length });
        let weights: Vec<i8> = bytes.iter().map(|&byte| byte as i8).collect();
        let values = Recorded::take(layer, &mut rest);
        for (q, sums) in values.q.chunks(layer.inputs).zip(values.sums.chunks(layer.outputs)) {
            assert_eq!(q.iter().map(|q| q.unsigned_abs()).max(), Some(127), "{}: a scale is not one", layer.weight);
            assert!(sums.iter().all(|sum| sum.abs() < EXACT), "{}: a sum is no exact f32", layer.weight);
        }
        for set in InstructionSet::available() {
            values.check(layer, &weights, set);
        }
    }
    assert!(rest.is_empty(), "{} bytes belong to no layer", rest.len());

    let calls = |graph: &str| bundle.file(graph).unwrap().windows(CALL.len()).filter(|part| *part == CALL).count();
    let graphs = bundle.manifest().graphs.keys();
    let expected: BTreeMap<&str, usize> = graphs.map(|graph| (graph.as_str(), calls(graph))).collect();
    assert_eq!(recorded, expected, "{stale}");
}
