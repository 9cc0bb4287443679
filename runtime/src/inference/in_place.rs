//! Takes a decoder's caches off the graph's edges: its `CachedAttention` calls read and write a cache in place.
//!
//! The file has them as inputs `past_key_N`, `past_value_N` and outputs `new_key_N`, `new_value_N` of layer `N`, so that every
//! reader of ONNX can run it. What is left here is `past_key_0`, whose length gives the tokens their positions: it comes in
//! with rows of no columns.

use std::collections::{HashMap, HashSet};

use blip::manifest::{CACHED_ATTENTION, FUNCTION_DOMAIN};
use tract_onnx::pb::tensor_shape_proto::dimension::Value::DimValue;
use tract_onnx::pb::{GraphProto, NodeProto, ValueInfoProto, type_proto};
use tract_onnx::tract_hir::internal::*;

/// Prefix of the inputs that hold keys of tokens before; the layer's number follows.
pub(super) const PAST_KEY: &str = "past_key_";

/// Turns the calls into ones that take queries, keys and values and give the answer alone; says which layer each is of.
///
/// # Errors
/// A call whose caches are not the graph's own, or two calls of one layer.
pub(super) fn keep_caches_in_place(graph: &mut GraphProto) -> TractResult<HashMap<String, usize>> {
    let inputs: HashSet<String> = graph.input.iter().map(|input| input.name.clone()).collect();
    let (mut layers, mut past, mut new) = (HashMap::new(), HashSet::new(), HashMap::new());
    let is_cached = |node: &&mut NodeProto| node.domain == FUNCTION_DOMAIN && node.op_type == CACHED_ATTENTION;
    for node in graph.node.iter_mut().filter(is_cached) {
        let name = node.name.clone();
        let foreign =
            || format!("node {name}: its caches come from nowhere: they are not those of a layer of the graph");
        let number = node.input.get(1).and_then(|name| name.strip_prefix(PAST_KEY)).with_context(foreign)?;
        let layer: usize = number.parse().with_context(foreign)?;
        let expected = ["key", "value"].map(|kind| format!("past_{kind}_{layer}"));
        let is_whole = node.input.len() == 3 && node.output.len() == 3;
        let is_ours = is_whole && node.input[1..] == expected && expected.iter().all(|name| inputs.contains(name));
        ensure!(is_ours, foreign());
        past.extend(node.input.drain(1..));
        new.extend(node.output.drain(1..).zip(["key", "value"].map(|kind| format!("new_{kind}_{layer}"))));
        ensure!(layers.values().all(|other| *other != layer), foreign());
        layers.insert(name, layer);
    }
    ensure!(layers.values().all(|&layer| layer < layers.len()), "a layer between those with a cache has none");
    let outputs: HashSet<String> = new.values().cloned().collect();
    let given = graph.output.iter().filter(|output| outputs.contains(&output.name)).count();
    ensure!(given == outputs.len(), "the graph does not give what goes into its caches");

    graph.node.retain(|node| {
        let kept = node.input.first().and_then(|input| new.get(input));
        let is_kept = node.op_type == "Identity"
            && node.input.len() == 1
            && kept.is_some_and(|kept| node.output == [kept.clone()]);
        if is_kept {
            new.remove(&node.input[0]);
        }
        !is_kept
    });
    ensure!(new.is_empty(), "what goes into the caches is not what the graph gives: {:?}", new.values());
    graph.output.retain(|output| !outputs.contains(&output.name));
    let read: HashSet<&String> = graph.node.iter().flat_map(|node| &node.input).collect();
    let length = format!("{PAST_KEY}0");
    let other = past.iter().find(|name| **name != length && read.contains(name));
    ensure!(other.is_none(), "more than the attention of its layer reads {other:?}");
    graph.input.retain(|input| !past.contains(&input.name) || input.name == length);
    graph.input.iter_mut().filter(|input| past.contains(&input.name)).try_for_each(without_columns)?;
    Ok(layers)
}

fn without_columns(input: &mut ValueInfoProto) -> TractResult<()> {
    let name = &input.name;
    let of_tensor = input.r#type.as_mut().and_then(|of| of.value.as_mut());
    let Some(type_proto::Value::TensorType(tensor)) = of_tensor else { bail!("input {name} is not a tensor") };
    let last = tensor.shape.as_mut().and_then(|shape| shape.dim.last_mut());
    last.with_context(|| format!("input {name} has no shape"))?.value = Some(DimValue(0));
    Ok(())
}
