//! Puts a bundle together beside its place and moves it there when it is whole.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::Path;

use blip::config::{Role, TextConfig};
use blip::decoding::{DecodingOptions, Strategy};
use blip::manifest::{
    AnswererFacts, CaptionerFacts, EncoderToken, FORMAT, FileFacts, GOLDEN, GraphFacts, MANIFEST, Manifest,
    MatcherFacts, Precision, QuantizationFacts, SourceFacts, StackFacts, TOKENIZER, VisionFacts, WEIGHTS,
};
use blip::tokenizer::{Tokenizer, TokenizerError, Vocabulary};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use crate::graph::{self, Graph, Style};
use crate::onnx::{OnnxError, QuantizedTensor, Writer};
use crate::place::{Place, PlaceError, check_free};
use crate::weight_file::{WeightFile, WriteError};
use crate::weights::{Weights, WeightsError, part};
use terminal::progress::Progress;

/// A bundle that cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// There is no place for it.
    #[error(transparent)]
    Place(#[from] PlaceError),
    /// A file cannot be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// A weight cannot be read.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// A graph cannot be written.
    #[error(transparent)]
    Onnx(#[from] OnnxError),
    /// The checkpoint's vocabulary cannot be used.
    #[error("tokenizer: {0}")]
    Tokenizer(#[from] TokenizerError),
}

/// What the user decides.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How weights are stored.
    pub precision: Precision,
    /// What stands at position 0 of the image-grounded encoder.
    pub encoder_token: EncoderToken,
    /// Words that captions start with unless the reader says otherwise; empty for none.
    pub prompt: String,
    /// Licence of the weights, if the user names it.
    pub licence: Option<String>,
}

/// A bundle in a folder of its own, which goes away with it unless it is published.
pub struct Staged {
    folder: TempDir,
    /// What the bundle will say about itself.
    pub manifest: Manifest,
    /// Quantized tensors, worst first.
    pub quantized: Vec<QuantizedTensor>,
}

/// Writes every graph, the weights, the tokenizer and a manifest into a new folder beside `place`.
///
/// # Errors
/// A weight that cannot be read, a file that cannot be written, a vocabulary that cannot be used.
pub fn stage(
    weights: &Weights,
    settings: &Settings,
    place: &Place,
    progress: &Progress,
) -> Result<Staged, BundleError> {
    let parent = place.parent();
    let folder = tempfile::Builder::new()
        .prefix(".edgeblip-export-")
        .tempdir_in(parent)
        .map_err(|source| WriteError { path: parent.to_path_buf(), source })?;
    let file = WeightFile::create(&folder.path().join(WEIGHTS))?;
    let mut build = Build {
        weights,
        settings,
        writer: Writer::new(weights, settings.precision, file, progress),
        folder: folder.path(),
        progress,
        graphs: BTreeMap::new(),
        files: BTreeMap::new(),
        by_hash: BTreeMap::new(),
    };
    let (captioner, matcher, answerer) = build.heads()?;
    let first = weights.checkpoint(0);
    let vocabulary = Vocabulary::new(first.vocabulary().to_vec())?;
    let tokenizer = Tokenizer::new(vocabulary, first.word_piece_settings(), first.tokens())?;
    build.file(TOKENIZER, tokenizer.to_json().as_bytes())?;
    let Build { writer, graphs, mut files, .. } = build;
    let (facts, quantized) = writer.finish()?;
    files.insert(WEIGHTS.to_owned(), facts);
    let mut sources = Vec::new();
    for (&role, &index) in weights.roles() {
        let format = if weights.path(index).is_dir() { "Hugging Face folder" } else { "authors' .pth" };
        sources.push(SourceFacts { role, format: format.to_owned(), sha256: weights.hash(index)? });
    }
    let quantization = quantized.first().map(|worst| QuantizationFacts {
        tensors: quantized.len(),
        worst_error: worst.error,
        worst_tensor: worst.name.clone(),
    });
    let manifest = Manifest {
        format: FORMAT,
        producer: format!("{} {}", env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION")),
        precision: settings.precision,
        tokens: first.tokens(),
        captioner,
        matcher,
        answerer,
        graphs,
        files,
        quantization,
        sources,
        licence: settings.licence.clone(),
    };
    let mut staged = Staged { folder, manifest, quantized };
    staged.set_golden(b"{}\n")?;
    Ok(staged)
}

impl Staged {
    /// The folder.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Stores the golden answers and the manifest that names them.
    ///
    /// # Errors
    /// The system's refusal.
    pub fn set_golden(&mut self, golden: &[u8]) -> Result<(), BundleError> {
        let facts = write(&self.path().join(GOLDEN), golden)?;
        self.manifest.files.insert(GOLDEN.to_owned(), facts);
        write(&self.path().join(MANIFEST), &self.manifest.to_json())?;
        Ok(())
    }

    /// Moves the folder to its place, in one step.
    ///
    /// # Errors
    /// [`PlaceError::Exists`] if something has come there, or the system's refusal.
    pub fn publish(self, place: Place) -> Result<(), BundleError> {
        let out = place.out();
        check_free(out)?;
        let failed = |source| WriteError { path: out.to_path_buf(), source };
        readable_by_all(self.path()).map_err(failed)?;
        File::open(self.path()).and_then(|folder| folder.sync_all()).map_err(failed)?;
        std::fs::rename(self.path(), out).map_err(failed)?;
        let _ = self.folder.keep();
        File::open(place.parent()).and_then(|folder| folder.sync_all()).map_err(failed)?;
        place.keep();
        Ok(())
    }
}

/// Temporary folders are private; a bundle is not.
fn readable_by_all(folder: &Path) -> std::io::Result<()> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o755))?;
    }
    Ok(())
}

type Heads = (Option<CaptionerFacts>, Option<MatcherFacts>, Option<AnswererFacts>);

struct Build<'a> {
    weights: &'a Weights,
    settings: &'a Settings,
    writer: Writer<'a>,
    folder: &'a Path,
    progress: &'a Progress,
    graphs: BTreeMap<String, GraphFacts>,
    files: BTreeMap<String, FileFacts>,
    /// Names of the graphs that are there, by the hash of their bytes: equal graphs are stored once.
    by_hash: BTreeMap<String, String>,
}

impl Build<'_> {
    fn heads(&mut self) -> Result<Heads, BundleError> {
        let source = |role| self.weights.roles().get(&role).copied();
        let (captioner, matcher, answerer) = (source(Role::Captioner), source(Role::Matcher), source(Role::Answerer));
        Ok((
            captioner.map(|source| self.captioner(source)).transpose()?,
            matcher.map(|source| self.matcher(source)).transpose()?,
            answerer.map(|source| self.answerer(source)).transpose()?,
        ))
    }

    fn style(&self) -> Style {
        Style { precision: self.settings.precision }
    }

    fn captioner(&mut self, source: usize) -> Result<CaptionerFacts, BundleError> {
        let weights = self.weights;
        let config = part(&weights.checkpoint(source).config().decoder);
        Ok(CaptionerFacts {
            vision: self.vision(source)?,
            decoder: StackFacts {
                cross: self.graph(&graph::cross(config, "decoder.", self.style()), source)?,
                graph: self.graph(&graph::decoder(config, self.style()), source)?,
                config: config.clone(),
            },
            prompt: self.settings.prompt.clone(),
            decoding: decoding(weights, source, config),
        })
    }

    fn matcher(&mut self, source: usize) -> Result<MatcherFacts, BundleError> {
        let weights = self.weights;
        let model = weights.checkpoint(source).config();
        let config = part(&model.encoder);
        let width = model.projection_width.expect("a matcher's projections were checked when it was opened");
        Ok(MatcherFacts {
            vision: self.vision(source)?,
            encoder: StackFacts {
                cross: self.graph(&graph::cross(config, "encoder.", self.style()), source)?,
                graph: self.graph(&graph::matcher(config, self.style()), source)?,
                config: config.clone(),
            },
            image_embedding: self.graph(&graph::image_embedding(&model.vision, width), source)?,
            text_embedding: self.graph(&graph::text_embedding(config, width), source)?,
            embedding_width: width,
            encoder_token: self.settings.encoder_token,
        })
    }

    fn answerer(&mut self, source: usize) -> Result<AnswererFacts, BundleError> {
        let weights = self.weights;
        let model = weights.checkpoint(source).config();
        let (question, decoder) = (part(&model.encoder), part(&model.decoder));
        Ok(AnswererFacts {
            vision: self.vision(source)?,
            question: StackFacts {
                cross: self.graph(&graph::cross(question, "encoder.", self.style()), source)?,
                graph: self.graph(&graph::question(question, self.style()), source)?,
                config: question.clone(),
            },
            decoder: StackFacts {
                cross: self.graph(&graph::cross(decoder, "decoder.", self.style()), source)?,
                graph: self.graph(&graph::decoder(decoder, self.style()), source)?,
                config: decoder.clone(),
            },
            encoder_token: self.settings.encoder_token,
            decoding: decoding(weights, source, decoder),
        })
    }

    fn vision(&mut self, source: usize) -> Result<VisionFacts, BundleError> {
        let checkpoint = self.weights.checkpoint(source);
        let config = &checkpoint.config().vision;
        Ok(VisionFacts {
            graph: self.graph(&graph::vision(config), source)?,
            config: config.clone(),
            normalization: checkpoint.normalization(),
        })
    }

    /// Writes a graph and returns its file's name; a graph with the same bytes is the same file.
    fn graph(&mut self, graph: &Graph, source: usize) -> Result<String, BundleError> {
        self.progress
            .stage(&format!("writing {} from {}", graph.name, self.weights.path(source).display()), graph.tensors());
        let bytes = self.writer.write(graph, source)?;
        let hash = edgeblip::bundle::hex(&Sha256::digest(&bytes));
        if let Some(known) = self.by_hash.get(&hash) {
            return Ok(known.clone());
        }
        let free = |name: &String| !self.graphs.contains_key(name);
        let name = std::iter::once(format!("{}.onnx", graph.name))
            .chain((2..).map(|number| format!("{}-{number}.onnx", graph.name)))
            .find(free)
            .expect("there is always another number");
        self.file(&name, &bytes)?;
        let facts = GraphFacts { inputs: graph.inputs.clone(), outputs: graph.outputs.clone() };
        self.graphs.insert(name.clone(), facts);
        self.by_hash.insert(hash, name.clone());
        Ok(name)
    }

    fn file(&mut self, name: &str, bytes: &[u8]) -> Result<(), BundleError> {
        self.files.insert(name.to_owned(), write(&self.folder.join(name), bytes)?);
        Ok(())
    }
}

/// How a head writes unless it is told otherwise: as the checkpoint says, else with three beams and at most 20 tokens.
///
/// Source: BLIP `configs/caption_coco.yaml` (`num_beams`, `max_length`); no least length, as in Hugging Face's default.
fn decoding(weights: &Weights, source: usize, config: &TextConfig) -> DecodingOptions {
    let stated = weights.checkpoint(source).generation_defaults();
    let max_length = stated.max_length.unwrap_or(20).clamp(2, config.positions.max(2));
    DecodingOptions {
        strategy: Strategy::Beam { beams: stated.num_beams.unwrap_or(3) },
        repetition_penalty: 1.0,
        no_repeat_ngram: 0,
        min_length: stated.min_length.unwrap_or(0).min(max_length),
        max_length,
        length_penalty: 1.0,
    }
}

fn write(path: &Path, bytes: &[u8]) -> Result<FileFacts, WriteError> {
    let failed = |source| WriteError { path: path.to_path_buf(), source };
    let mut file = File::create(path).map_err(failed)?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(failed)?;
    Ok(FileFacts { bytes: bytes.len() as u64, sha256: edgeblip::bundle::hex(&Sha256::digest(bytes)) })
}
