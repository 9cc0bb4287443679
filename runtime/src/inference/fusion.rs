//! What follows a linear layer and reads nothing else that is new joins it, so that its answer is written once.

use std::collections::{HashMap, HashSet};

use blip::manifest::{FUNCTION_DOMAIN, GELU, QUANTIZED_LINEAR};
use tract_onnx::pb::{GraphProto, NodeProto};

use super::operators::After;

/// Removes the GELUs and additions that can be part of the linear layer before them; says which layer does what.
///
/// A layer that adds has what it adds as its last input. `is_stored` tells tensors of the file, which are not of the
/// answer's shape, from computed values.
pub(super) fn fuse(graph: &mut GraphProto, is_stored: impl Fn(&str) -> bool) -> HashMap<String, After> {
    let mut readers: HashMap<&str, usize> = HashMap::new();
    let outputs = graph.output.iter().map(|output| &output.name);
    for value in graph.node.iter().flat_map(|node| &node.input).chain(outputs) {
        *readers.entry(value).or_default() += 1;
    }
    let layers = graph.node.iter().enumerate().filter(|(_, node)| is_layer(node));
    let read_once = layers.filter_map(|(place, node)| {
        let output = node.output.first()?;
        (readers.get(output.as_str()) == Some(&1)).then(|| (output.clone(), place))
    });
    let mut read_once: HashMap<String, usize> = read_once.collect();

    let (mut after, mut gone) = (HashMap::new(), HashSet::new());
    for place in 0..graph.node.len() {
        let node = &graph.node[place];
        let (what, Some(input)) = (
            match node.op_type.as_str() {
                GELU if node.domain == FUNCTION_DOMAIN => After::Gelu,
                "Add" if node.domain.is_empty() && !node.input.iter().any(|input| is_stored(input)) => After::Residual,
                _ => continue,
            },
            node.input.iter().position(|input| read_once.contains_key(input)),
        ) else {
            continue;
        };
        let others: Vec<String> =
            node.input.iter().enumerate().filter(|(at, _)| *at != input).map(|(_, input)| input.clone()).collect();
        let layer = read_once.remove(&node.input[input]).expect("the position is of one that is there");
        // It runs where its follower stood: by then everything that it reads is there.
        let mut joined = graph.node[layer].clone();
        joined.input.extend(others);
        joined.output.clone_from(&node.output);
        after.insert(joined.name.clone(), what);
        graph.node[place] = joined;
        gone.insert(layer);
    }
    let mut place = 0;
    graph.node.retain(|_| {
        place += 1;
        !gone.contains(&(place - 1))
    });
    after
}

fn is_layer(node: &NodeProto) -> bool {
    node.domain == FUNCTION_DOMAIN && node.op_type == QUANTIZED_LINEAR
}

#[cfg(test)]
mod tests {
    use tract_onnx::pb::ValueInfoProto;

    use super::*;

    fn node(domain: &str, operator: &str, input: &[&str], output: &str) -> NodeProto {
        NodeProto {
            domain: domain.to_owned(),
            op_type: operator.to_owned(),
            name: format!("{operator} {output}"),
            input: input.iter().map(|&name| name.to_owned()).collect(),
            output: vec![output.to_owned()],
            ..NodeProto::default()
        }
    }

    fn linear(input: &str, output: &str) -> NodeProto {
        node(FUNCTION_DOMAIN, QUANTIZED_LINEAR, &[input, "w", "s", "b"], output)
    }

    /// Names and inputs of the nodes that are left, and what the layers do.
    type Fused = (Vec<(String, Vec<String>)>, HashMap<String, After>);

    fn fused(nodes: Vec<NodeProto>, output: &str) -> Fused {
        let output = ValueInfoProto { name: output.to_owned(), ..ValueInfoProto::default() };
        let mut graph = GraphProto { node: nodes, output: vec![output], ..GraphProto::default() };
        let after = fuse(&mut graph, |name| name.len() == 1 && name != "x");
        (graph.node.into_iter().map(|node| (node.name, node.input)).collect(), after)
    }

    #[test]
    fn gelu_and_residual_join_the_layer_before() {
        let (nodes, after) = fused(
            vec![
                linear("x", "wide"),
                node(FUNCTION_DOMAIN, GELU, &["wide"], "bent"),
                linear("bent", "narrow"),
                node("", "Add", &["x", "narrow"], "sum"),
            ],
            "sum",
        );
        let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
        let [wide, narrow] = ["QuantizedLinear wide", "QuantizedLinear narrow"].map(str::to_owned);
        assert_eq!(nodes[0], (wide.clone(), names(&["x", "w", "s", "b"])));
        assert_eq!(nodes[1], (narrow.clone(), names(&["bent", "w", "s", "b", "x"])));
        assert_eq!((nodes.len(), after), (2, HashMap::from([(wide, After::Gelu), (narrow, After::Residual)])));
    }

    #[test]
    fn what_is_read_elsewhere_too_or_added_from_the_file_stays() {
        let twice = vec![
            linear("x", "wide"),
            node(FUNCTION_DOMAIN, GELU, &["wide"], "bent"),
            node("", "Add", &["bent", "wide"], "sum"),
        ];
        assert_eq!(fused(twice, "sum").0.len(), 3);
        let stored = vec![linear("x", "wide"), node("", "Add", &["wide", "p"], "sum")];
        assert_eq!(fused(stored, "sum").0.len(), 2);
        let shown = vec![linear("x", "wide"), node(FUNCTION_DOMAIN, GELU, &["wide"], "bent")];
        assert_eq!(fused(shown, "wide").0.len(), 2);
    }

    #[test]
    fn of_two_layers_that_are_added_one_takes_the_other() {
        let both = vec![linear("x", "left"), linear("x", "right"), node("", "Add", &["left", "right"], "sum")];
        let (nodes, after) = fused(both, "sum");
        assert_eq!((nodes.len(), after.len()), (2, 1));
        assert_eq!(nodes[1].1, ["x", "w", "s", "b", "right"]);
    }
}
