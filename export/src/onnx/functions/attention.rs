//! Attention, spelled out.
//!
//! Source: BLIP `models/vit.py`, `Attention.forward`; `models/med.py`, `BertSelfAttention.forward`.

use blip::manifest::{ATTENTION, CACHED_ATTENTION, CROSS_ATTENTION, KEYS_AND_VALUES};

use super::super::format::{Function, Node, attribute_type, data_type};
use super::{constant, function, given, int, integers, ints_of, step, steps};

/// Added to the score of a key that may not be seen: its softmax weight is exactly zero in f32.
const UNSEEN: f32 = -1e9;

pub(in super::super) fn attention() -> Function {
    let mut node = shapes();
    node.push(steps("Split", &["qkv"], &["q", "k", "v"], &[int("axis", -1)]));
    for (rows, heads) in [("q", "query"), ("k", "key"), ("v", "value")] {
        node.extend(split_heads(rows, heads));
    }
    node.extend(scores());
    node.extend(mix("scores"));
    let doc = "softmax(q k^T scale) v by head, for queries, keys and values side by side";
    function(ATTENTION, [&["qkv"], &["y"], &["heads", "scale"]], node, doc)
}

pub(in super::super) fn cached() -> Function {
    let mut node = shapes();
    node.push(steps("Split", &["qkv"], &["q", "k", "v"], &[int("axis", -1)]));
    for (rows, heads) in [("q", "query"), ("k", "fresh_key"), ("v", "fresh_value")] {
        node.extend(split_heads(rows, heads));
    }
    for kind in ["key", "value"] {
        let [past, floats, fresh] = [format!("past_{kind}"), format!("{kind}_floats"), format!("fresh_{kind}")];
        node.push(step("Cast", &[&past], &floats, &[int("to", i64::from(data_type::FLOAT))]));
        node.push(step("Concat", &[&floats, &fresh], kind, &[int("axis", 2)]));
        let cache = given("to", "cache", attribute_type::INT);
        node.push(step("Cast", &[&fresh], &format!("new_{kind}"), &[cache]));
    }
    node.extend(scores());
    node.extend(causal());
    node.extend(mix("masked"));
    let doc = "causal attention: a token sees the cache, the tokens before it in this call, and itself";
    let names: [&[&str]; 3] =
        [&["qkv", "past_key", "past_value"], &["y", "new_key", "new_value"], &["heads", "scale", "cache"]];
    function(CACHED_ATTENTION, names, node, doc)
}

pub(in super::super) fn cross() -> Function {
    let mut node = shapes();
    node.extend(split_heads("q", "query"));
    for (memory, floats) in [("memory_key", "key"), ("memory_value", "value")] {
        node.push(step("Cast", &[memory], floats, &[int("to", i64::from(data_type::FLOAT))]));
    }
    node.extend(scores());
    node.extend(mix("scores"));
    let doc = "softmax(q k^T scale) v by head, over the keys and values of another part";
    function(CROSS_ATTENTION, [&["q", "memory_key", "memory_value"], &["y"], &["heads", "scale"]], node, doc)
}

pub(in super::super) fn keys_and_values() -> Function {
    let mut node = shapes();
    node.push(steps("Split", &["both"], &["k", "v"], &[int("axis", -1)]));
    for (rows, heads, output) in [("k", "key_heads", "key"), ("v", "value_heads", "value")] {
        node.extend(split_heads(rows, heads));
        node.push(step("Cast", &[heads], output, &[given("to", "cache", attribute_type::INT)]));
    }
    let doc = "keys and values side by side, taken apart by head";
    function(KEYS_AND_VALUES, [&["both"], &["key", "value"], &["heads", "cache"]], node, doc)
}

/// `apart` and `together`: the shapes of `[batch, length, heads, head width]` and `[batch, length, width]`.
fn shapes() -> Vec<Node> {
    vec![
        integers("kept", &[0, 0]),
        integers("rest", &[-1]),
        integers("first", &[0]),
        step("Constant", &[], "count", &[given("value_int", "heads", attribute_type::INT)]),
        step("Unsqueeze", &["count", "first"], "counts", &[]),
        step("Concat", &["kept", "counts", "rest"], "apart", &[int("axis", 0)]),
        step("Concat", &["kept", "rest"], "together", &[int("axis", 0)]),
    ]
}

fn split_heads(rows: &str, heads: &str) -> [Node; 2] {
    let apart = format!("{rows}_apart");
    [
        step("Reshape", &[rows, "apart"], &apart, &[]),
        step("Transpose", &[&apart], heads, &[ints_of("perm", &[0, 2, 1, 3])]),
    ]
}

/// `query`, `key` -> `scores`, `[batch, heads, length, keys]`.
fn scores() -> Vec<Node> {
    vec![
        step("Constant", &[], "factor", &[given("value_float", "scale", attribute_type::FLOAT)]),
        step("Mul", &["query", "factor"], "scaled", &[]),
        step("Transpose", &["key"], "columns", &[ints_of("perm", &[0, 1, 3, 2])]),
        step("MatMul", &["scaled", "columns"], "scores", &[]),
    ]
}

/// `scores` -> `masked`: token `i` of this call sees the keys before `past + i + 1`.
fn causal() -> Vec<Node> {
    vec![
        step("Shape", &["past_key"], "pasts", &[int("start", 2), int("end", 3)]),
        step("Shape", &["key"], "totals", &[int("start", 2), int("end", 3)]),
        step("Squeeze", &["pasts", "first"], "past", &[]),
        step("Squeeze", &["totals", "first"], "total", &[]),
        integers("ones", &[1]),
        step("Squeeze", &["ones", "first"], "one", &[]),
        integers("zeros", &[0]),
        step("Squeeze", &["zeros", "first"], "zero", &[]),
        step("Range", &["zero", "total", "one"], "key_positions", &[]),
        step("Range", &["past", "total", "one"], "query_row", &[]),
        step("Unsqueeze", &["query_row", "ones"], "query_positions", &[]),
        step("Greater", &["key_positions", "query_positions"], "later", &[]),
        step("Cast", &["later"], "later_floats", &[int("to", i64::from(data_type::FLOAT))]),
        constant("unseen", UNSEEN),
        step("Mul", &["later_floats", "unseen"], "mask", &[]),
        step("Add", &["scores", "mask"], "masked", &[]),
    ]
}

/// Scores and `value` -> `y`.
fn mix(scores: &str) -> Vec<Node> {
    vec![
        step("Softmax", &[scores], "weights", &[int("axis", -1)]),
        step("MatMul", &["weights", "value"], "mixed", &[]),
        step("Transpose", &["mixed"], "rows", &[ints_of("perm", &[0, 2, 1, 3])]),
        step("Reshape", &["rows", "together"], "y", &[]),
    ]
}
