//! What runs when a picture is captioned, judged and asked about: our kernels, and of tract only what is hardly any work.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, Result, bail};
use blip::manifest::{EncoderToken, Precision};
use checkpoint::OpenOptions;
use edgeblip::golden::check;
use edgeblip::kernels::{lanes, quantized_linear};
use edgeblip::model::Model;
use edgeblip_export::pipeline::export;
use edgeblip_export::weights::Request;
use serde_json::Value;
use tempfile::TempDir;
use terminal::progress::Progress;

use crate::bundles::{model, settings};
use crate::command_line::run;

mod narrow;
mod plans;

use plans::{BASE, Plan, STARTER};

/// Operators of tract that may be in a plan: they move a few values, add small tables, or pack the one f32 matrix.
const OF_TRACT: &[&str] = &[
    "Add",
    "Concat",
    "Gather",
    "IntoShape",
    "MoveAxis",
    "MultiBroadcastTo",
    "OptAddUnicast",
    "OptMatMulPack",
    "Slice",
    "Source",
];
/// What stays f32, and the graphs that have it: the patch embedding and the ITM head.
const FLOAT_PRODUCTS: (&str, [&str; 2]) = ("OptMatMul", ["vision", "matcher"]);

/// What the graphs of ITC, which make a vector one long in tract's small steps, still may not have.
const HEAVY: &[&str] = &["EinSum", "Erf", "MatMulInteger", "OptMatMul", "OptMatMulPack", "Softmax"];

fn ran(model: &Model) -> Result<BTreeSet<[String; 3]>> {
    model.profile().start();
    check(model)?;
    Ok(model.profile().rows().into_iter().map(|row| [row.graph, row.operator, row.kernel]).collect())
}

fn stem(graph: &str) -> Result<&str> {
    let stem = Path::new(graph).file_stem().and_then(|stem| stem.to_str()).context("a graph has a name")?;
    Ok(stem.split('-').next().unwrap_or(stem))
}

#[test]
fn plans_hold_no_heavy_operator_that_is_not_ours() -> Result<()> {
    let starter = ["models/starter/captioner", "models/starter/matcher"];
    let tiny = ["captioner", "matcher", "answerer"].map(|head| format!("tests/goldens/tiny-b/{head}"));
    for checkpoints in [&starter[..], &tiny.each_ref().map(String::as_str)] {
        let model = model(checkpoints, Precision::Int8, EncoderToken::Encoder)?;
        let ran = ran(&model)?;
        let mut ours = BTreeSet::new();
        for [graph, operator, kernel] in &ran {
            if kernel != "tract" {
                ours.insert(operator.as_str());
                continue;
            }
            let (product, graphs) = FLOAT_PRODUCTS;
            let allowed = OF_TRACT.contains(&operator.as_str())
                || operator == product && graphs.contains(&stem(graph)?)
                || !HEAVY.contains(&operator.as_str()) && ["text", "image"].contains(&stem(graph)?);
            assert!(allowed, "{graph} runs {operator} in tract");
        }
        let expected = [
            "Attention",
            "CachedAttention",
            "CrossAttention",
            "KeysAndValues",
            "LayerNormalization",
            "QuantizedEmbedding",
            "QuantizedLinear",
        ];
        assert!(expected.iter().all(|operator| ours.contains(operator)), "{ours:?}");
        assert!(!ours.contains("Gelu"), "every GELU is part of the layer before it");
    }
    Ok(())
}

/// A line of a profile: graph, operator, kernel, and calls of a caption.
type Row = ([String; 3], u64);

/// What `edgeblip bench --profile` says of one caption, which is as many tokens long.
fn profile(arguments: &[&str]) -> Result<(Vec<Row>, u64)> {
    let words = ["bench", "--profile", "--json", "--runs", "1", "--decode", "greedy", "--threads", "1"];
    let report = run("edgeblip", &[&words, arguments].concat())?.json()?.remove(0);
    let row = |row: &Value| -> Option<Row> {
        row["time"].as_f64().filter(|time| *time >= 0.0)?;
        let texts = ["graph", "operator", "kernel"].map(|key| row[key].as_str().map(str::to_owned));
        let [Some(graph), Some(operator), Some(kernel)] = texts else { return None };
        Some(([graph, operator, kernel], row["calls"].as_u64()?))
    };
    let operators = report["operators"].as_array().context("operators are a list")?;
    let rows = operators.iter().map(|value| row(value).with_context(|| value.to_string())).collect::<Result<_>>()?;
    Ok((rows, report["tokens"].as_u64().context("tokens are a number")?))
}

/// The instruction set that the kernel of an operator of ours runs on.
fn kernel_of(operator: &str) -> String {
    if operator == "QuantizedLinear" {
        quantized_linear::instruction_set().to_string()
    } else {
        lanes::InstructionSet::fastest().to_string()
    }
}

fn assert_runs(plans: &[Plan], rows: &[Row], tokens: u64) {
    let graphs: BTreeSet<&str> = rows.iter().map(|([graph, ..], _)| graph.as_str()).collect();
    assert_eq!(graphs, plans.iter().map(|plan| plan.graph).collect());
    for Plan { graph, ours, products, light } in plans {
        let runs = if *graph == "decoder.onnx" { tokens } else { 1 };
        let mut found = [Vec::new(), Vec::new(), Vec::new()];
        for ([_, operator, kernel], calls) in rows.iter().filter(|([of, ..], _)| of == graph) {
            assert_eq!(calls % runs, 0, "{graph}: {operator}");
            let is_ours = kernel != "tract";
            assert!(!is_ours || *kernel == kernel_of(operator), "{graph}: {operator} on {kernel}");
            let list = if is_ours { 0 } else { 1 + usize::from(light.contains(&operator.as_str())) };
            found[list].push((operator.as_str(), calls / runs));
        }
        found.iter_mut().for_each(|list| list.sort_unstable());
        let [found_ours, found_products, found_light] = found;
        assert_eq!(found_ours, *ours, "{graph}: ours");
        assert_eq!(found_products, *products, "{graph}: tract's, and not among what is light");
        assert_eq!(found_light.iter().map(|(operator, _)| *operator).collect::<Vec<_>>(), *light, "{graph}: light");
    }
}

#[test]
fn a_profile_lists_every_operator_of_the_starter() -> Result<()> {
    let (mut rows, tokens) = profile(&[])?;
    assert_runs(STARTER, &rows, tokens);

    let printed = run("edgeblip", &["bench", "--profile", "--runs", "1", "--decode", "greedy"])?;
    let lines: Vec<&str> = printed.content()?.lines().collect();
    let (summary, lines) = lines.split_last().context("a line for all of it comes last")?;
    assert!(summary.ends_with("answers checked"), "{summary}");
    let mut shares = 0.0;
    let mut listed = Vec::new();
    for line in lines {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [graph, operator, kernel, calls, "calls", time, "ms", share, "%"] = words[..] else { bail!("{line}") };
        listed.push(([graph, operator, kernel].map(str::to_owned), calls.parse::<f64>()? as u64));
        assert!(time.parse::<f64>()? >= 0.0, "{line}");
        shares += share.parse::<f64>()?;
    }
    rows.sort();
    listed.sort();
    assert_eq!(listed, rows);
    assert!((shares - 100.0).abs() < 2.0, "the shares are {shares} % together");
    Ok(())
}

#[test]
fn a_profile_lists_every_operator_of_a_model_like_blip_base() -> Result<()> {
    let (checkpoint, folder) = (narrow::checkpoint()?, TempDir::new()?);
    let out = folder.path().join("bundle");
    let request = Request { any: vec![checkpoint.path().to_path_buf()], named: Vec::new() };
    let settings = settings(Precision::Int8, EncoderToken::Encoder);
    export(&request, &OpenOptions::default(), &settings, &out, &Progress::Silent)?;
    let (rows, tokens) = profile(&["--bundle", out.to_str().context("temporary folders have plain names")?])?;
    assert_runs(BASE, &rows, tokens);
    Ok(())
}
