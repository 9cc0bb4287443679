//! Runs an ONNX file in tract as it comes, without our operators: the other side of `tests/reference/instructions`.
//!
//! `stock_tract GRAPH INPUT SHAPE OUTPUT RUNS`: INPUT holds the values of the graph's one input as 32-bit floats, SHAPE is
//! `577x768`; writes the first output to OUTPUT in the same form, and a line to standard output after each run. One thread.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use tract_onnx::prelude::*;

fn main() -> Result<()> {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    match words.as_slice() {
        // `cargo bench` has nothing to measure it against.
        [] => Ok(()),
        [graph, input, shape, output, runs] => {
            run(Path::new(graph), Path::new(input), shape, Path::new(output), runs.parse().context("RUNS is a number")?)
        }
        _ => anyhow::bail!("give GRAPH INPUT SHAPE OUTPUT RUNS, or nothing"),
    }
}

fn run(graph: &Path, input: &Path, shape: &str, output: &Path, runs: usize) -> Result<()> {
    let shape: Vec<usize> =
        shape.split('x').map(str::parse).collect::<Result<_, _>>().context("SHAPE is like 577x768")?;
    let bytes = std::fs::read(input).with_context(|| format!("reading {}", input.display()))?;
    ensure!(bytes.len() == 4 * shape.iter().product::<usize>(), "{} is not of that shape", input.display());
    let values: Vec<f32> = bytes.as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect();
    let input = Tensor::from_shape(&shape, &values)?;
    let model = load(graph, &shape).with_context(|| format!("loading {}", graph.display()))?;
    let mut answer = None;
    println!("loaded");
    for run in 0..runs {
        answer = model.run(tvec!(input.clone().into_tvalue()))?.into_iter().next();
        println!("run {run}");
    }
    let answer = answer.context("RUNS is at least 1")?;
    let view = answer.try_as_plain_ram()?;
    let bytes: Vec<u8> = view.as_slice::<f32>()?.iter().flat_map(|value| value.to_le_bytes()).collect();
    std::fs::write(output, bytes).with_context(|| format!("writing {}", output.display()))
}

fn load(graph: &Path, shape: &[usize]) -> TractResult<Arc<TypedRunnableModel>> {
    let mut model = tract_onnx::onnx().model_for_path(graph)?;
    // The one size that a bundle's encoder leaves open, in its values between as well.
    let batch = [(model.symbols.sym("batch"), 1.to_dim())];
    model.set_symbols(&batch.into_iter().collect())?;
    model.with_input_fact(0, f32::fact(shape).into())?.into_optimized()?.into_runnable()
}
