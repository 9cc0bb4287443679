//! What a bundle says about itself: `manifest.json`.
//!
//! A bundle is a folder, immutable once written. The manifest names every other file with its length and SHA-256, every
//! graph with its inputs and outputs, and which graphs make up which head. The bundle's own name is the SHA-256 of the
//! manifest's bytes.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::config::{Role, SpecialTokens, TextConfig, VisionConfig};
use crate::decoding::DecodingOptions;
use crate::pixels::Normalization;

/// The format that this version writes and the only one that it reads.
pub const FORMAT: u32 = 1;
/// Name of the manifest inside a bundle.
pub const MANIFEST: &str = "manifest.json";
/// Name of the one file that holds every large tensor.
pub const WEIGHTS: &str = "weights.bin";
/// Name of the tokenizer's file, in Hugging Face's `tokenizer.json` format.
pub const TOKENIZER: &str = "tokenizer.json";
/// Name of the file with the golden answers of the self-test.
pub const GOLDEN: &str = "golden.json";
/// Longest manifest that is read, in bytes.
pub const MAX_MANIFEST_BYTES: usize = 1 << 20;
/// Every tensor in `weights.bin` starts at a multiple of this many bytes.
pub const ALIGNMENT: usize = 64;
/// Domain of the functions that the runtime replaces with operators of its own.
pub const FUNCTION_DOMAIN: &str = "edgeblip";
/// Function: `(x [.., K], weight i8 [N, K], scale [N], bias [N]) -> y [.., N]`.
pub const QUANTIZED_LINEAR: &str = "QuantizedLinear";
/// Function: `(ids [..], table i8 [V, H], scale [V]) -> rows [.., H]`.
pub const QUANTIZED_EMBEDDING: &str = "QuantizedEmbedding";
/// Function: `x -> y`, GELU in its exact form.
pub const GELU: &str = "Gelu";
/// Function: `qkv [B, L, 3W] -> y [B, L, W]`, attention over a whole text or picture.
pub const ATTENTION: &str = "Attention";
/// Function: `(qkv [B, L, 3W], past keys, past values [B, H, P, W / H]) -> (y [B, L, W], keys, values [B, H, L, W / H])`.
pub const CACHED_ATTENTION: &str = "CachedAttention";
/// Function: `(q [B, L, W], keys, values [1, H, M, W / H]) -> y [B, L, W]`.
pub const CROSS_ATTENTION: &str = "CrossAttention";
/// Function: `both [B, L, 2W] -> keys, values [B, H, L, W / H]`.
pub const KEYS_AND_VALUES: &str = "KeysAndValues";
/// Smallest largest magnitude of a row that is quantized: a row of zeros stays zeros.
pub const SMALLEST_ROW: f32 = 1e-12;

/// How weights are stored and multiplied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// Weights int8 by output channel, activations int8 by row, caches f16.
    Int8,
    /// Everything f32.
    Fp32,
}

impl Precision {
    /// Element type of the keys and values that a bundle keeps.
    pub fn cache(self) -> Element {
        match self {
            Precision::Int8 => Element::F16,
            Precision::Fp32 => Element::F32,
        }
    }
}

impl std::fmt::Display for Precision {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Precision::Int8 => "int8",
            Precision::Fp32 => "fp32",
        })
    }
}

/// What stands at position 0 of the image-grounded text encoder (ITM texts and VQA questions).
///
/// BLIP was trained with `[ENC]`; Hugging Face's classes leave `[CLS]` there and so give other scores.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum EncoderToken {
    /// `[ENC]`, as in training and in LAVIS.
    #[default]
    #[serde(rename = "ENC")]
    Encoder,
    /// `[CLS]`, as in the authors' demo class and in Hugging Face transformers.
    #[serde(rename = "CLS")]
    Class,
}

/// Element type of a graph's input or output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Element {
    /// 32-bit float.
    F32,
    /// 16-bit float.
    F16,
    /// 64-bit signed integer.
    I64,
}

/// One dimension: a size, or a name for a size that differs from call to call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Dimension {
    /// Always this size.
    Fixed(usize),
    /// One of `batch`, `length`, `past`, `memory`.
    Symbol(String),
}

/// An input or output of a graph.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Port {
    /// Name in the graph.
    pub name: String,
    /// Element type.
    pub element: Element,
    /// Shape.
    pub shape: Vec<Dimension>,
}

/// Length and hash of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileFacts {
    /// Length in bytes.
    pub bytes: u64,
    /// SHA-256 of the contents, lower-case hex.
    pub sha256: String,
}

/// One ONNX graph's interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GraphFacts {
    /// Inputs, in the graph's order.
    pub inputs: Vec<Port>,
    /// Outputs, in the graph's order.
    pub outputs: Vec<Port>,
}

/// An image encoder and the pixels that it wants.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VisionFacts {
    /// Its graph: pixels `[batch, 3, S, S]` -> features `[batch, tokens, width]`.
    pub graph: String,
    /// Its sizes.
    pub config: VisionConfig,
    /// Mean and standard deviation of the pixels.
    pub normalization: Normalization,
}

/// A text stack with the graph that computes what its cross-attention reads.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StackFacts {
    /// Graph: states `[1, memory, cross width]` -> keys and values of every layer.
    pub cross: String,
    /// The stack's own graph.
    pub graph: String,
    /// Its sizes.
    pub config: TextConfig,
}

/// The image-grounded text decoder.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CaptionerFacts {
    /// Image encoder.
    pub vision: VisionFacts,
    /// Decoder.
    pub decoder: StackFacts,
    /// Words that a text starts with unless it is told otherwise; empty for none.
    pub prompt: String,
    /// How it writes unless it is told otherwise.
    pub decoding: DecodingOptions,
}

/// The image-grounded text encoder with the ITM head, and the ITC pair.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MatcherFacts {
    /// Image encoder.
    pub vision: VisionFacts,
    /// ITM: ids -> two logits, the second of which is "match".
    pub encoder: StackFacts,
    /// ITC graph: image features -> unit vector.
    pub image_embedding: String,
    /// ITC graph: ids -> unit vector.
    pub text_embedding: String,
    /// Width of the ITC vectors.
    pub embedding_width: usize,
    /// What stands at position 0 of an ITM text.
    pub encoder_token: EncoderToken,
}

/// The question encoder and the answer decoder.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AnswererFacts {
    /// Image encoder.
    pub vision: VisionFacts,
    /// Question encoder: ids -> states.
    pub question: StackFacts,
    /// Answer decoder; its cross-attention reads the question's states.
    pub decoder: StackFacts,
    /// What stands at position 0 of a question.
    pub encoder_token: EncoderToken,
    /// How it answers unless it is told otherwise.
    pub decoding: DecodingOptions,
}

/// Where one of the heads came from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceFacts {
    /// The head.
    pub role: Role,
    /// File format of the checkpoint, in words.
    pub format: String,
    /// SHA-256 over the checkpoint's weight files.
    pub sha256: String,
}

/// How well the stored weights stand for the trained ones.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QuantizationFacts {
    /// Number of quantized tensors.
    pub tensors: usize,
    /// Largest relative error of a tensor, `|W - stored W| / |W|` in the Frobenius norm.
    pub worst_error: f32,
    /// Name of the tensor with that error.
    pub worst_tensor: String,
}

/// The whole manifest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Format version, [`FORMAT`].
    pub format: u32,
    /// Program and version that wrote the bundle.
    pub producer: String,
    /// How weights are stored.
    pub precision: Precision,
    /// Ids of the tokens with a meaning of their own.
    pub tokens: SpecialTokens,
    /// The captioner, if the bundle has one.
    pub captioner: Option<CaptionerFacts>,
    /// The matcher, if the bundle has one.
    pub matcher: Option<MatcherFacts>,
    /// The answerer, if the bundle has one.
    pub answerer: Option<AnswererFacts>,
    /// Every graph's interface, by file name.
    pub graphs: BTreeMap<String, GraphFacts>,
    /// Every file but the manifest, by name.
    pub files: BTreeMap<String, FileFacts>,
    /// Present in an int8 bundle.
    pub quantization: Option<QuantizationFacts>,
    /// Where the heads came from.
    pub sources: Vec<SourceFacts>,
    /// Licence of the weights, where it is known.
    pub licence: Option<String>,
}

/// A manifest that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// Longer than [`MAX_MANIFEST_BYTES`].
    #[error("manifest has {found} bytes, the limit is {MAX_MANIFEST_BYTES}")]
    TooLong {
        /// Its length.
        found: usize,
    },
    /// Not JSON of the expected form.
    #[error("manifest is not readable: {0}")]
    Syntax(#[from] serde_json::Error),
    /// Another format version.
    #[error("bundle format {found} is not supported, this program reads format {FORMAT}: export the checkpoint again")]
    Format {
        /// Version in the file.
        found: u64,
    },
    /// A value that contradicts another.
    #[error("manifest: {0}")]
    Contradiction(String),
}

impl Manifest {
    /// Reads and checks a manifest.
    ///
    /// # Errors
    /// A length, format version, field, size or file name that is not allowed, each by name.
    pub fn from_json(bytes: &[u8]) -> Result<Manifest, ManifestError> {
        #[derive(Deserialize)]
        struct Versioned {
            format: u64,
        }
        if bytes.len() > MAX_MANIFEST_BYTES {
            return Err(ManifestError::TooLong { found: bytes.len() });
        }
        let found = serde_json::from_slice::<Versioned>(bytes)?.format;
        if found != u64::from(FORMAT) {
            return Err(ManifestError::Format { found });
        }
        let manifest: Manifest = serde_json::from_slice(bytes)?;
        manifest.validate()?;
        Ok(manifest)
    }

    /// The manifest's bytes: the same manifest always gives the same bytes.
    pub fn to_json(&self) -> Vec<u8> {
        let mut bytes = serde_json::to_vec_pretty(self).expect("a manifest holds nothing that JSON cannot");
        bytes.push(b'\n');
        bytes
    }

    /// The heads that the bundle has.
    pub fn roles(&self) -> Vec<Role> {
        let has = [
            (Role::Captioner, self.captioner.is_some()),
            (Role::Matcher, self.matcher.is_some()),
            (Role::Answerer, self.answerer.is_some()),
        ];
        has.into_iter().filter_map(|(role, present)| present.then_some(role)).collect()
    }

    fn validate(&self) -> Result<(), ManifestError> {
        let contradiction = |what: String| Err(ManifestError::Contradiction(what));
        for name in self.files.keys().chain(self.graphs.keys()) {
            if !is_plain_name(name) {
                return contradiction(format!("{name:?} is not a plain file name"));
            }
        }
        for name in self.graphs.keys().map(String::as_str).chain([WEIGHTS, TOKENIZER, GOLDEN]) {
            if !self.files.contains_key(name) {
                return contradiction(format!("{name} is not listed under files"));
            }
        }
        if self.roles().is_empty() {
            return contradiction("the bundle has no captioner, matcher or answerer".to_owned());
        }
        for graph in self.graphs_of_heads() {
            if !self.graphs.contains_key(graph) {
                return contradiction(format!("graph {graph} is not listed under graphs"));
            }
        }
        self.validate_sizes()
    }

    fn validate_sizes(&self) -> Result<(), ManifestError> {
        let model = |vision: &VisionFacts, encoder: Option<&StackFacts>, decoder: Option<&StackFacts>| {
            let config = crate::config::Config {
                vision: vision.config.clone(),
                encoder: encoder.map(|stack| stack.config.clone()),
                decoder: decoder.map(|stack| stack.config.clone()),
                projection_width: None,
            };
            config.validate().map_err(|error| ManifestError::Contradiction(error.to_string()))
        };
        let decoding = |options: &DecodingOptions| {
            options.validate().map_err(|error| ManifestError::Contradiction(error.to_string()))
        };
        if let Some(captioner) = &self.captioner {
            model(&captioner.vision, None, Some(&captioner.decoder))?;
            decoding(&captioner.decoding)?;
        }
        if let Some(matcher) = &self.matcher {
            model(&matcher.vision, Some(&matcher.encoder), None)?;
        }
        if let Some(answerer) = &self.answerer {
            model(&answerer.vision, Some(&answerer.question), Some(&answerer.decoder))?;
            decoding(&answerer.decoding)?;
        }
        Ok(())
    }

    fn graphs_of_heads(&self) -> Vec<&str> {
        let mut names = Vec::new();
        if let Some(head) = &self.captioner {
            names.extend([&head.vision.graph, &head.decoder.cross, &head.decoder.graph]);
        }
        if let Some(head) = &self.matcher {
            names.extend([&head.vision.graph, &head.encoder.cross, &head.encoder.graph]);
            names.extend([&head.image_embedding, &head.text_embedding]);
        }
        if let Some(head) = &self.answerer {
            names.extend([&head.vision.graph, &head.question.cross, &head.question.graph]);
            names.extend([&head.decoder.cross, &head.decoder.graph]);
        }
        names.into_iter().map(String::as_str).collect()
    }
}

/// A name that stays inside its folder: letters, digits, `.`, `_` and `-`, not starting with a dot.
fn is_plain_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    !name.is_empty() && name.len() <= 64 && !name.starts_with('.') && name.chars().all(plain)
}
