//! What a model's parameters start from.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use blip::config::{Config, TextConfig, VisionConfig};
use checkpoint::Checkpoint;

use super::{TEMPERATURES, WeightsError};
use crate::model::{Entry, Layout, Random, initial_values};

/// What happens where two sources give one tensor different values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conflicts {
    /// An error that names the tensors.
    Refuse,
    /// The earlier source stays; [`Report::kept`] names the tensors.
    FirstWins,
}

/// Where a model's values are from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// How many tensors each source filled, in the order in which the sources came.
    pub filled: Vec<(PathBuf, usize)>,
    /// Our names of the tensors that are as [`initial_values`] left them.
    pub random: Vec<String>,
    /// Tensors of each source that the model has no place for.
    pub unused: Vec<(PathBuf, Vec<String>)>,
    /// Tensors of each source whose values differ from an earlier source's, which stayed.
    pub kept: Vec<(PathBuf, Vec<String>)>,
    /// What else a person should know, a sentence each.
    pub notes: Vec<String>,
}

/// A model's parameters while sources fill them. The first source that has a tensor gives it its values.
pub struct Start<'a> {
    pub(super) layout: &'a Layout,
    pub(super) config: &'a Config,
    pub(super) vocabulary: &'a [String],
    conflicts: Conflicts,
    values: Vec<f32>,
    /// Which source filled a tensor, by the tensor's first value.
    from: BTreeMap<usize, usize>,
    sources: Vec<PathBuf>,
    clashes: Vec<(String, usize)>,
    pub(super) report: Report,
}

impl<'a> Start<'a> {
    /// Everything at random; `config` is what the layout was made from, `vocabulary` the words in the order of their ids.
    pub fn random(
        (layout, config): (&'a Layout, &'a Config),
        vocabulary: &'a [String],
        random: Random,
        conflicts: Conflicts,
    ) -> Start<'a> {
        Start {
            layout,
            config,
            vocabulary,
            conflicts,
            values: initial_values(layout, random),
            from: BTreeMap::new(),
            sources: Vec::new(),
            clashes: Vec::new(),
            report: Report::default(),
        }
    }

    /// Fills what a checkpoint has; `path` is what messages call it. It must have been opened for the model's image
    /// size: [`checkpoint::OpenOptions::image_size`].
    ///
    /// In a model that shares its text stacks, a decoder's tensors fill what both share. An answerer's decoder reads the
    /// question's width; where a captioner's read another, its cross-attention keys and values stay random.
    ///
    /// # Errors
    /// Sizes or words that differ from the model's; values that differ from an earlier source's; a file that cannot be
    /// read; no tensor that the model has a place for.
    pub fn checkpoint(&mut self, path: &Path, checkpoint: &Checkpoint) -> Result<(), WeightsError> {
        self.compare(path, checkpoint)?;
        self.begin(path);
        let mut unused = Vec::new();
        for (name, shape) in checkpoint.names() {
            let Some(entry) = self.place(name) else {
                unused.push(name.to_owned());
                continue;
            };
            if entry.shape.iter().product::<usize>() != shape.iter().product::<usize>() {
                if !reads_a_memory(name) {
                    return Err(size(path, (name, &entry.shape), shape));
                }
                self.note(path, &format!("{name} reads another width and stays random"));
                continue;
            }
            let values = checkpoint.tensor(name)?.values;
            self.put(entry, &values);
        }
        if let (Some(value), Some(entry)) = (checkpoint.temperature(), self.layout.entry("temperature")) {
            if !(TEMPERATURES[0]..=TEMPERATURES[1]).contains(&value) {
                return Err(WeightsError::Temperature { source_file: path.to_owned(), value });
            }
            self.put(entry, &[value]);
        }
        checkpoint.warnings().iter().for_each(|warning| self.note(path, warning));
        self.end(path, unused)
    }

    /// The values, and where they are from.
    pub fn finish(self) -> (Vec<f32>, Report) {
        let Start { layout, values, from, mut report, .. } = self;
        let random = layout.entries().iter().filter(|entry| !from.contains_key(&entry.parameter.start));
        report.random = random.map(|entry| entry.name.clone()).collect();
        (values, report)
    }

    /// The tensor that a checkpoint calls so: its own, or the one that encoder and decoder share.
    fn place(&self, name: &str) -> Option<&'a Entry> {
        if let Some(entry) = self.layout.entry(name) {
            return Some(entry);
        }
        let shared = name.strip_prefix("decoder.").filter(|_| self.layout.entry("decoder.head.bias").is_some())?;
        self.layout.entry(&format!("encoder.{shared}"))
    }

    pub(super) fn begin(&mut self, path: &Path) {
        self.sources.push(path.to_owned());
    }

    /// Fills the first values of a tensor, unless an earlier source did.
    pub(super) fn put(&mut self, entry: &Entry, values: &[f32]) {
        let start = entry.parameter.start;
        let place = &mut self.values[start..][..values.len().min(entry.parameter.length)];
        match self.from.get(&start) {
            Some(first) => {
                if place.iter().zip(values).any(|(ours, theirs)| ours.to_bits() != theirs.to_bits()) {
                    self.clashes.push((entry.name.clone(), *first));
                }
            }
            None => {
                place.copy_from_slice(&values[..place.len()]);
                self.from.insert(start, self.sources.len() - 1);
            }
        }
    }

    pub(super) fn note(&mut self, path: &Path, sentence: &str) {
        self.report.notes.push(format!("{}: {sentence}", path.display()));
    }

    pub(super) fn end(&mut self, path: &Path, unused: Vec<String>) -> Result<(), WeightsError> {
        let source_file = path.to_owned();
        let clashes = std::mem::take(&mut self.clashes);
        let current = self.sources.len() - 1;
        let tensors: Vec<_> = clashes.iter().map(|(name, _)| name.clone()).collect();
        if let (Some((_, first)), Conflicts::Refuse) = (clashes.first(), self.conflicts) {
            return Err(WeightsError::Conflict { source_file, first: self.sources[*first].clone(), tensors });
        }
        let filled = self.from.values().filter(|source| **source == current).count();
        if filled == 0 && tensors.is_empty() && self.sources.len() == 1 {
            return Err(WeightsError::Useless { source_file });
        }
        self.report.filled.push((source_file.clone(), filled));
        if !tensors.is_empty() {
            self.report.kept.push((source_file.clone(), tensors));
        }
        if !unused.is_empty() {
            self.report.unused.push((source_file, unused));
        }
        Ok(())
    }

    fn compare(&mut self, path: &Path, checkpoint: &Checkpoint) -> Result<(), WeightsError> {
        let (theirs, ours) = (checkpoint.config(), self.config);
        if let Some((what, theirs, ours)) = differences(theirs, ours).into_iter().next() {
            let (theirs, ours) = (theirs.to_string(), ours.to_string());
            return Err(WeightsError::Size { source_file: path.to_owned(), what, theirs, ours });
        }
        self.compare_words(path, checkpoint.vocabulary())?;
        let epsilon = |config: &Config| {
            let texts = [&config.encoder, &config.decoder].map(|text| text.as_ref().map(|text| text.norm_eps));
            (config.vision.norm_eps, texts)
        };
        let ((theirs, their_texts), (ours, our_texts)) = (epsilon(theirs), epsilon(ours));
        let apart = |theirs: f32, ours: f32| (theirs != ours).then_some((theirs, ours));
        let texts = their_texts.into_iter().zip(our_texts).filter_map(|(theirs, ours)| apart(theirs?, ours?));
        for (theirs, ours) in apart(theirs, ours).into_iter().chain(texts) {
            self.note(path, &format!("it was trained with layer norms of epsilon {theirs:e}, the model has {ours:e}"));
        }
        Ok(())
    }

    /// Checks that the words with which a source was trained are the model's first.
    pub(super) fn compare_words(&self, path: &Path, theirs: &[String]) -> Result<(), WeightsError> {
        let pair = theirs.iter().zip(self.vocabulary).enumerate().find(|(_, (theirs, ours))| theirs != ours);
        match pair {
            Some((id, (theirs, ours))) => Err(WeightsError::Word {
                source_file: path.to_owned(),
                id,
                theirs: terminal::printable(theirs),
                ours: terminal::printable(ours),
            }),
            None => Ok(()),
        }
    }
}

/// Whether a tensor's shape depends on the width of what cross-attention reads.
fn reads_a_memory(name: &str) -> bool {
    name.starts_with("decoder.") && (name.ends_with(".cross.key.weight") || name.ends_with(".cross.value.weight"))
}

/// A tensor of another shape than the model's.
pub(super) fn size(path: &Path, (name, ours): (&str, &[usize]), theirs: &[usize]) -> WeightsError {
    let (theirs, ours) = (format!("{theirs:?}"), format!("{ours:?}"));
    WeightsError::Size { source_file: path.to_owned(), what: format!("tensor {name}"), theirs, ours }
}

/// Sizes that differ where both have the part.
fn differences(theirs: &Config, ours: &Config) -> Vec<(String, usize, usize)> {
    let mut found = compared("image", vision_sizes(&theirs.vision), vision_sizes(&ours.vision));
    let stacks = |config: &Config| [config.encoder.clone(), config.decoder.clone()];
    for (part, theirs, ours) in ["encoder", "decoder"]
        .into_iter()
        .zip(stacks(theirs).into_iter().zip(stacks(ours)))
        .filter_map(|(part, (theirs, ours))| Some((part, theirs?, ours?)))
    {
        found.extend(compared(part, text_sizes(&theirs), text_sizes(&ours)));
    }
    if let (Some(theirs), Some(ours)) = (theirs.projection_width, ours.projection_width) {
        found.extend(compared("ITC", [("width", theirs)], [("width", ours)]));
    }
    found
}

fn compared<const N: usize>(
    part: &str,
    theirs: [(&str, usize); N],
    ours: [(&str, usize); N],
) -> Vec<(String, usize, usize)> {
    let pairs = theirs.into_iter().zip(ours).filter(|(theirs, ours)| theirs != ours);
    pairs.map(|((field, theirs), (_, ours))| (format!("{part} {field}"), theirs, ours)).collect()
}

fn vision_sizes(vision: &VisionConfig) -> [(&'static str, usize); 6] {
    [
        ("width", vision.width),
        ("layers", vision.layers),
        ("heads", vision.heads),
        ("feed-forward width", vision.feed_forward),
        ("patch size", vision.patch_size),
        ("size", vision.image_size),
    ]
}

fn text_sizes(text: &TextConfig) -> [(&'static str, usize); 6] {
    [
        ("width", text.width),
        ("layers", text.layers),
        ("heads", text.heads),
        ("feed-forward width", text.feed_forward),
        ("vocabulary size", text.vocabulary_size),
        ("positions", text.positions),
    ]
}
