//! What runs when a picture is captioned, judged and asked about: our kernels, and of tract only what is hardly any work.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, Result};
use blip::manifest::{EncoderToken, Precision};
use edgeblip::golden::check;
use edgeblip::model::Model;

use crate::bundles::model;

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
