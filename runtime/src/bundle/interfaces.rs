//! What each head asks of its graphs: the ports in the manifest must be those that the head's sizes give.

use blip::config::{TextConfig, VisionConfig};
use blip::manifest::{Dimension, Element, Manifest, Port, StackFacts, VisionFacts};

/// Looks for sizes that contradict a graph's ports, each other, or a vocabulary of `words` words.
///
/// # Errors
/// The first contradiction, in words.
pub(super) fn check(manifest: &Manifest, words: usize) -> Result<(), String> {
    let check = Check { manifest, words };
    if let Some(head) = &manifest.captioner {
        check.vision(&head.vision)?;
        check.stack(&head.decoder, ("the captioner's image encoder", head.vision.config.width))?;
        check.decoder(&head.decoder)?;
    }
    if let Some(head) = &manifest.matcher {
        check.vision(&head.vision)?;
        check.stack(&head.encoder, ("the matcher's image encoder", head.vision.config.width))?;
        check.encoder(&head.encoder, port("itm_logits", Element::F32, [symbol("batch"), fixed(2)]))?;
        let vector = |name: &str| port(name, Element::F32, [symbol("batch"), fixed(head.embedding_width)]);
        let features = features("image_features", &head.vision.config);
        check.graph(&head.image_embedding, &[features], &[vector("image_embedding")])?;
        check.graph(&head.text_embedding, &[token_ids()], &[vector("text_embedding")])?;
    }
    if let Some(head) = &manifest.answerer {
        check.vision(&head.vision)?;
        check.stack(&head.question, ("the answerer's image encoder", head.vision.config.width))?;
        let width = head.question.config.width;
        let states = port("question_states", Element::F32, [symbol("batch"), symbol("length"), fixed(width)]);
        check.encoder(&head.question, states)?;
        check.stack(&head.decoder, ("the question encoder", width))?;
        check.decoder(&head.decoder)?;
    }
    Ok(())
}

struct Check<'a> {
    manifest: &'a Manifest,
    words: usize,
}

impl Check<'_> {
    fn vision(&self, facts: &VisionFacts) -> Result<(), String> {
        let normal = &facts.normalization;
        let scales = normal.std.iter().all(|std| std.is_normal() && *std > 0.0);
        if !scales || !normal.mean.iter().all(|mean| mean.is_finite()) {
            return Err(format!("mean {:?} and standard deviation {:?} give no pixels", normal.mean, normal.std));
        }
        let side = facts.config.image_size;
        let pixels = port("pixel_values", Element::F32, [symbol("batch"), fixed(3), fixed(side), fixed(side)]);
        self.graph(&facts.graph, &[pixels], &[features("image_features", &facts.config)])
    }

    /// A text stack's own sizes and its cross graph; `read` is what its cross-attention reads, and how wide that is.
    fn stack(&self, facts: &StackFacts, (read, width): (&str, usize)) -> Result<(), String> {
        let (graph, config) = (&facts.graph, &facts.config);
        if self.words > config.vocabulary_size {
            let rows = config.vocabulary_size;
            return Err(format!("{graph} has embeddings for {rows} words, and the tokenizer has {}", self.words));
        }
        if config.cross_width != width {
            return Err(format!(
                "{graph} reads states that are {} wide, and {read} is {width} wide",
                config.cross_width
            ));
        }
        let states = port("states", Element::F32, [fixed(1), symbol("memory"), fixed(config.cross_width)]);
        self.graph(&facts.cross, &[states], &self.memory(config))
    }

    fn encoder(&self, facts: &StackFacts, output: Port) -> Result<(), String> {
        let inputs: Vec<Port> = std::iter::once(token_ids()).chain(self.memory(&facts.config)).collect();
        self.graph(&facts.graph, &inputs, &[output])
    }

    fn decoder(&self, facts: &StackFacts) -> Result<(), String> {
        let config = &facts.config;
        let past = self.layers(config, "past", [symbol("batch"), symbol("past")]);
        let inputs: Vec<Port> = std::iter::once(token_ids()).chain(past).chain(self.memory(config)).collect();
        let logits = port("logits", Element::F32, [symbol("batch"), fixed(config.vocabulary_size)]);
        let new = self.layers(config, "new", [symbol("batch"), symbol("length")]);
        let outputs: Vec<Port> = std::iter::once(logits).chain(new).collect();
        self.graph(&facts.graph, &inputs, &outputs)
    }

    fn memory(&self, config: &TextConfig) -> Vec<Port> {
        self.layers(config, "cross", [fixed(1), symbol("memory")])
    }

    /// Keys and values of every layer.
    fn layers(&self, config: &TextConfig, name: &str, [batch, length]: [Dimension; 2]) -> Vec<Port> {
        let cache = self.manifest.precision.cache();
        let shape = [batch, fixed(config.heads), length, fixed(config.width / config.heads)];
        let pair = |layer| ["key", "value"].map(|kind| port(&format!("{name}_{kind}_{layer}"), cache, shape.clone()));
        (0..config.layers).flat_map(pair).collect()
    }

    fn graph(&self, name: &str, inputs: &[Port], outputs: &[Port]) -> Result<(), String> {
        let facts = self.manifest.graphs.get(name).ok_or_else(|| format!("there is no graph {name}"))?;
        compare(name, "input", &facts.inputs, inputs)?;
        compare(name, "output", &facts.outputs, outputs)
    }
}

fn compare(graph: &str, side: &str, found: &[Port], expected: &[Port]) -> Result<(), String> {
    if found.len() != expected.len() {
        let (found, expected) = (found.len(), expected.len());
        return Err(format!("{graph} has {found} {side}s where its head's sizes give {expected}"));
    }
    match found.iter().zip(expected).find(|(found, expected)| found != expected) {
        Some((found, expected)) => {
            let (found, expected) = (shown(found), shown(expected));
            Err(format!("{graph} has the {side} {found} where its head's sizes give {expected}"))
        }
        None => Ok(()),
    }
}

fn shown(port: &Port) -> String {
    let size = |dimension: &Dimension| match dimension {
        Dimension::Fixed(size) => size.to_string(),
        Dimension::Symbol(name) => name.clone(),
    };
    let sizes: Vec<String> = port.shape.iter().map(size).collect();
    format!("{:?} {:?} [{}]", port.name, port.element, sizes.join(", "))
}

fn port<const N: usize>(name: &str, element: Element, shape: [Dimension; N]) -> Port {
    Port { name: name.to_owned(), element, shape: shape.to_vec() }
}

fn features(name: &str, config: &VisionConfig) -> Port {
    port(name, Element::F32, [symbol("batch"), fixed(config.tokens()), fixed(config.width)])
}

fn token_ids() -> Port {
    port("input_ids", Element::I64, [symbol("batch"), symbol("length")])
}

fn fixed(size: usize) -> Dimension {
    Dimension::Fixed(size)
}

fn symbol(name: &str) -> Dimension {
    Dimension::Symbol(name.to_owned())
}
