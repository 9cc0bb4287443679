//! Graphs that agree with their hash and still mean harm: an error that names the graph, and never a panic.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use blip::config::Role;
use blip::manifest::{EncoderToken, MANIFEST, Precision};
use edgeblip::decoder::Writing;
use edgeblip::golden::test_card;
use edgeblip_export::onnx::format::{Attribute, Graph, Model, Node, Tensor, dimension::Size};
use prost::Message;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use super::copy;
use crate::bundles::{load, model};

/// A bundle of a tiny checkpoint with one graph that a stranger may change.
struct Hostile {
    folder: TempDir,
    name: String,
    whole: Model,
}

impl Hostile {
    fn new(checkpoint: &str, name: &str) -> Result<Hostile> {
        let folder = copy(model(&[checkpoint], Precision::Int8, EncoderToken::Encoder)?.bundle().place())?;
        let whole = Model::decode(std::fs::read(folder.path().join(name))?.as_slice())?;
        Ok(Hostile { folder, name: name.to_owned(), whole })
    }

    /// Puts `bytes` in the graph's place and the right hash into the manifest, and uses every head.
    fn try_bytes(&self, bytes: &[u8]) -> Result<()> {
        std::fs::write(self.folder.path().join(&self.name), bytes)?;
        let path = self.folder.path().join(MANIFEST);
        let mut manifest: Value = serde_json::from_slice(&std::fs::read(&path)?)?;
        manifest["files"][&self.name] =
            json!({"bytes": bytes.len(), "sha256": edgeblip::bundle::hex(&Sha256::digest(bytes))});
        std::fs::write(path, manifest.to_string())?;
        use_every_head(self.folder.path())
    }

    fn try_change(&self, change: &dyn Fn(&mut Graph)) -> Result<()> {
        let mut changed = self.whole.clone();
        change(changed.graph.as_mut().context("a file holds a graph")?);
        self.try_bytes(&changed.encode_to_vec())
    }

    /// The error names the graph, or another that reads what this one made.
    fn is_refused(&self, what: &str, words: &str, change: &dyn Fn(&mut Graph)) -> Result<()> {
        let error = self.try_change(change).err().with_context(|| format!("{}, {what}: it runs", self.name))?;
        let message = format!("{error:#}");
        ensure!(message.contains(".onnx") && message.contains(words), "{}, {what}: {message}", self.name);
        Ok(())
    }
}

fn use_every_head(folder: &Path) -> Result<()> {
    let model = load(folder)?;
    let mut view = model.see(&test_card()?)?;
    let writing = |options| Writing { prompt: String::new(), options, seed: 0, texts: 1 };
    for role in model.bundle().manifest().roles() {
        match role {
            Role::Captioner => {
                let captioner = model.captioner()?;
                captioner.describe(&mut view, &writing(captioner.facts().decoding))?;
            }
            Role::Matcher => {
                let matcher = model.matcher()?;
                matcher.match_probability(&mut view, "a cat")?;
                matcher.embed_text("a cat")?.cosine(&matcher.embed_image(&view)?);
            }
            Role::Answerer => {
                let answerer = model.answerer()?;
                answerer.answer(&mut view, "what is red?", &writing(answerer.facts().decoding))?;
            }
        }
    }
    Ok(())
}

/// Every graph of three tiny bundles.
fn each(test: impl Fn(&Hostile) -> Result<()>) -> Result<()> {
    for (checkpoint, graphs) in [
        ("captioner", &["vision.onnx", "cross.onnx", "decoder.onnx"][..]),
        ("matcher", &["matcher.onnx", "image.onnx", "text.onnx"]),
        ("answerer", &["question.onnx", "cross.onnx", "decoder.onnx"]),
    ] {
        for graph in graphs {
            let hostile = Hostile::new(&format!("tests/goldens/tiny-b/{checkpoint}"), graph)?;
            hostile.try_change(&|_| ()).context("the graph as it was")?;
            test(&hostile)?;
        }
    }
    Ok(())
}

fn stored(graph: &mut Graph) -> Option<&mut Tensor> {
    graph.initializer.iter_mut().find(|tensor| !tensor.external_data.is_empty())
}

/// A change of the first tensor in the weight file, or of nothing where there is none.
fn of_stored(change: impl Fn(&mut Tensor)) -> impl Fn(&mut Graph) {
    move |graph| change(stored(graph).expect("large tensors are in the weight file"))
}

fn entry(key: &'static str, value: &'static str) -> impl Fn(&mut Graph) {
    of_stored(move |tensor| {
        tensor
            .external_data
            .iter_mut()
            .filter(|entry| entry.key == key)
            .for_each(|entry| entry.value = value.to_owned());
    })
}

#[test]
fn tensors_in_other_places_than_the_weight_file_holds_are_refused() -> Result<()> {
    each(|hostile| {
        for location in ["../../etc/passwd", "/etc/passwd", "", "golden.json", "./weights.bin"] {
            hostile.is_refused(location, "is in a file that is not weights.bin", &entry("location", location))?;
        }
        for offset in ["999999999", "18446744073709551615"] {
            hostile.is_refused(offset, "lies beyond the end of weights.bin", &entry("offset", offset))?;
        }
        for offset in ["-1", "", "1e3", "99999999999999999999"] {
            hostile.is_refused(offset, "has no offset", &entry("offset", offset))?;
        }
        for (length, words) in
            [("4", "its shape wants"), ("0", "its shape wants"), ("18446744073709551615", "beyond"), ("", "no length")]
        {
            hostile.is_refused(length, words, &entry("length", length))?;
        }
        hostile.is_refused("no location", "not weights.bin", &of_stored(|tensor| drop(tensor.external_data.remove(0))))
    })
}

#[test]
fn shapes_that_are_not_those_of_the_bytes_are_refused() -> Result<()> {
    each(|hostile| {
        hostile.is_refused("dims that overflow", "", &of_stored(|tensor| tensor.dims = vec![1 << 40, 1 << 40]))?;
        hostile.is_refused(
            "dims that overflow with their type",
            "",
            &of_stored(|tensor| tensor.dims = vec![i64::MAX]),
        )?;
        hostile.is_refused("negative dims", "negative", &of_stored(|tensor| tensor.dims[0] = -1))?;
        hostile.is_refused("no dims", "", &of_stored(|tensor| tensor.dims.clear()))?;
        hostile.is_refused("other dims", "", &of_stored(|tensor| tensor.dims[0] += 1))?;
        hostile.is_refused("a strange type", "", &of_stored(|tensor| tensor.data_type = 99))?;
        hostile.is_refused("strings", "", &of_stored(|tensor| tensor.data_type = 8))?;
        let shorter = |graph: &mut Graph| {
            for data in graph.initializer.iter_mut().filter_map(|tensor| tensor.raw_data.as_mut()) {
                data.pop();
            }
        };
        hostile.is_refused("inline tensors without their last byte", "bytes", &shorter)?;
        let twice = |graph: &mut Graph| graph.initializer.push(graph.initializer[0].clone());
        hostile.is_refused("a tensor twice", "stands there twice", &twice)
    })
}

#[test]
fn calls_of_our_functions_with_wrong_weights_are_refused() -> Result<()> {
    fn int8(graph: &mut Graph) -> &mut Tensor {
        graph.initializer.iter_mut().find(|tensor| tensor.data_type == 3).expect("int8 graphs have int8 tensors")
    }
    fn calls(graph: &mut Graph) -> impl Iterator<Item = &mut Node> {
        graph.node.iter_mut().filter(|node| node.op_type.starts_with("Quantized"))
    }
    for (checkpoint, name) in [("captioner", "vision.onnx"), ("captioner", "decoder.onnx"), ("matcher", "text.onnx")] {
        let hostile = Hostile::new(&format!("tests/goldens/tiny-b/{checkpoint}"), name)?;
        hostile.is_refused("three dimensions", "is not a matrix", &|graph| int8(graph).dims.push(1))?;
        hostile.is_refused("no rows", "", &|graph| int8(graph).dims[0] = 0)?;
        hostile.is_refused("no columns", "", &|graph| int8(graph).dims[1] = 0)?;
        hostile.is_refused("a wide matrix", "", &|graph| int8(graph).dims[1] = 1 << 20)?;
        let turned = |graph: &mut Graph| int8(graph).dims.reverse();
        hostile.try_change(&turned).err().with_context(|| format!("{name}: a turned matrix")).or_else(|error| {
            let square =
                int8(&mut hostile.whole.clone().graph.unwrap_or_default()).dims.windows(2).all(|two| two[0] == two[1]);
            if square { Ok(anyhow::anyhow!("square")) } else { Err(error) }
        })?;
        hostile.is_refused("no inputs", "is missing", &|graph| calls(graph).for_each(|node| node.input.clear()))?;
        hostile.is_refused("weights computed", "is not a stored tensor", &|graph| {
            calls(graph).for_each(|node| node.input[1] = node.input[0].clone());
        })?;
        hostile.is_refused("scales in the bias's place", "", &|graph| {
            calls(graph).for_each(|node| node.input.swap(1, 2))
        })?;
        hostile.is_refused("an unknown function", "is not an operator of our graphs", &|graph| {
            calls(graph).for_each(|node| node.op_type = "Shell".to_owned());
        })?;
        hostile.is_refused("a strange domain", "", &|graph| {
            calls(graph).for_each(|node| node.domain = "elsewhere".to_owned());
        })?;
    }
    Ok(())
}

#[test]
fn attentions_of_impossible_sizes_are_refused() -> Result<()> {
    fn change(graph: &mut Graph, name: &str, new: impl Fn(&mut Attribute)) {
        let calls = graph.node.iter_mut().filter(|node| node.domain == "edgeblip");
        calls.flat_map(|node| &mut node.attribute).filter(|attribute| attribute.name == name).for_each(new);
    }
    let hostile = Hostile::new("tests/goldens/tiny-b/captioner", "decoder.onnx")?;
    for heads in [0, -1, 3, 64] {
        let named = format!("{heads} heads");
        hostile.is_refused(&named, "", &|graph| change(graph, "heads", |heads_of| heads_of.i = Some(heads)))?;
    }
    for scale in [0.0, 0.3, f32::NAN, f32::INFINITY] {
        let named = format!("a scale of {scale}");
        hostile.is_refused(&named, "scaled", &|graph| change(graph, "scale", |scale_of| scale_of.f = Some(scale)))?;
    }
    for element in [0, 7, 11, 64] {
        let named = format!("a cache of {element}");
        hostile.is_refused(&named, "", &|graph| change(graph, "cache", |cache| cache.i = Some(element)))?;
    }
    for name in ["heads", "cache", "scale"] {
        hostile.is_refused(&format!("no {name}"), "it has no", &|graph| {
            graph.node.iter_mut().for_each(|node| node.attribute.retain(|attribute| attribute.name != name));
        })?;
    }
    hostile.is_refused("an attention with one input", "", &|graph| {
        graph
            .node
            .iter_mut()
            .filter(|node| node.op_type.ends_with("Attention"))
            .for_each(|node| node.input.truncate(1));
    })?;
    hostile.is_refused("a memory without rows", "no rows", &|graph| {
        let number = |name: &str, value: i64| Tensor {
            dims: vec![1],
            data_type: 7,
            name: name.to_owned(),
            raw_data: Some(value.to_le_bytes().to_vec()),
            ..Tensor::default()
        };
        graph.initializer.extend([number("nothing", 0), number("rows", 2)]);
        let cut = |place: usize, kind: &str| Node {
            input: [&format!("cross_{kind}_0"), "nothing", "nothing", "rows"].map(str::to_owned).to_vec(),
            output: vec![format!("cut_{kind}")],
            name: format!("cut {place}"),
            op_type: "Slice".to_owned(),
            ..Node::default()
        };
        let cross =
            graph.node.iter_mut().find(|node| node.op_type == "CrossAttention").expect("a decoder reads pictures");
        cross.input[1..].clone_from_slice(&["cut_key".to_owned(), "cut_value".to_owned()]);
        graph.node.splice(0..0, [cut(0, "key"), cut(1, "value")]);
    })?;
    hostile.is_refused("layer norms over another axis", "last axis", &|graph| {
        let norms = graph.node.iter_mut().filter(|node| node.op_type == "LayerNormalization");
        norms.flat_map(|node| &mut node.attribute).filter(|attribute| attribute.name == "axis").for_each(|axis| {
            axis.i = Some(1);
        });
    })
}

#[test]
fn structures_that_are_no_graph_of_ours_are_refused() -> Result<()> {
    each(|hostile| {
        for operator in ["Loop", "If", "Scan", "RandomNormal", "Frobnicate", ""] {
            let change = |graph: &mut Graph| graph.node[0].op_type = operator.to_owned();
            hostile.is_refused(operator, "is not an operator of our graphs", &change)?;
        }
        hostile.is_refused("no nodes", "nothing computes the output", &|graph| graph.node.clear())?;
        hostile.is_refused("no outputs", "the graph has no output", &|graph| graph.output.clear())?;
        hostile.is_refused("an output fewer", "", &|graph| drop(graph.output.pop())).or_else(|error| {
            if hostile.whole.graph.as_ref().is_some_and(|graph| graph.output.len() == 1) { Ok(()) } else { Err(error) }
        })?;
        hostile.is_refused("an unknown output", "nothing computes", &|graph| graph.output[0].name = "more".into())?;
        hostile.is_refused("no inputs", "come from nowhere", &|graph| graph.input.clear())?;
        hostile.is_refused("nodes without outputs", "has no output", &|graph| {
            graph.node.iter_mut().for_each(|node| node.output.clear());
        })?;
        hostile.is_refused("a node twice", "twice", &|graph| graph.node.push(graph.node[0].clone()))?;
        hostile.is_refused("a circle", "", &|graph| {
            let last = graph.node.last().map(|node| node.output[0].clone()).unwrap_or_default();
            graph.node[0].input[0] = last;
        })?;
        hostile.is_refused("a node that reads itself", "", &|graph| {
            graph.node[0].input[0] = graph.node[0].output[0].clone();
        })?;
        hostile.is_refused("nodes without inputs", "", &|graph| {
            graph.node.iter_mut().for_each(|node| node.input.clear());
        })?;
        hostile.is_refused("an input without a type", "no type", &|graph| graph.input[0].r#type = None)?;
        for bytes in [&[][..], &[0xff; 100], b"hello, I am not protobuf"] {
            let error = hostile.try_bytes(bytes).err().context("no graph at all")?;
            ensure!(format!("{error:#}").contains(&hostile.name), "{error:#}");
        }
        let whole = hostile.whole.encode_to_vec();
        ensure!(hostile.try_bytes(&whole[..whole.len() / 2]).is_err(), "half a graph runs");
        Ok(())
    })
}

/// Numbers that make no sense: whatever the graph then is, using it ends with an answer or an error.
#[test]
fn senseless_numbers_end_in_an_error_or_an_answer() -> Result<()> {
    let numbers = [0, -1, 1, 64, i64::from(i32::MAX), i64::MAX, i64::MIN];
    each(|hostile| {
        for number in numbers {
            let _ = hostile.try_change(&|graph| {
                for attribute in graph.node.iter_mut().flat_map(|node| &mut node.attribute) {
                    attribute.i = attribute.i.map(|_| number);
                    attribute.ints.iter_mut().for_each(|value| *value = number);
                }
            });
            let _ = hostile.try_change(&|graph| {
                for tensor in graph.initializer.iter_mut().filter(|tensor| tensor.data_type == 7) {
                    if let Some(data) = &mut tensor.raw_data {
                        *data = number.to_le_bytes().repeat(data.len() / 8);
                    }
                }
            });
            let _ = hostile.try_change(&|graph| {
                let types = graph.input.iter_mut().filter_map(|input| input.r#type.as_mut()?.tensor_type.as_mut());
                for size in types.filter_map(|of| of.shape.as_mut()).flat_map(|shape| &mut shape.dim) {
                    size.size = Some(Size::Value(number));
                }
            });
        }
        let nodes = hostile.whole.graph.as_ref().map_or(0, |graph| graph.node.len());
        for place in (0..nodes).step_by(17) {
            let _ = hostile.try_change(&|graph| match place % 3 {
                0 => graph.node[place].attribute.clear(),
                1 => graph.node[place].input.reverse(),
                _ => drop(graph.node.remove(place)),
            });
        }
        Ok(())
    })
}
