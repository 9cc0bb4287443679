//! What ViT and BERT files have in common: other models' names, of which BLIP takes what it has a place for.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use checkpoint::{MAX_CONFIG_BYTES, Tensor, TensorFile};
use serde::Deserialize;

use super::WeightsError;

/// Another model's tensors.
pub struct Part {
    pub path: PathBuf,
    model: &'static str,
    file: TensorFile,
    /// Before every name of the model.
    prefix: String,
    used: BTreeSet<String>,
}

#[derive(Deserialize)]
struct Keys {
    num_attention_heads: Option<usize>,
    /// Of a model of two parts.
    vision_config: Option<Box<Keys>>,
}

impl Part {
    /// Opens the weights of a `model`; one of `anchors` ends the name of one tensor, and what stands before it there
    /// stands before all. Also which anchor it was.
    pub fn open(path: &Path, model: &'static str, anchors: &[&str]) -> Result<(Part, usize), WeightsError> {
        let file = TensorFile::open(path)?;
        let whole = |name: &str, anchor: &str| {
            name.strip_suffix(anchor).filter(|prefix| prefix.is_empty() || prefix.ends_with('.')).map(str::to_owned)
        };
        let found = anchors.iter().enumerate().find_map(|(number, anchor)| {
            file.names().find_map(|(name, _)| whole(name, anchor)).map(|prefix| (prefix, number))
        });
        let Some((prefix, number)) = found else {
            let tensors = vec![anchors.join(" or ")];
            return Err(WeightsError::Missing { source_file: path.to_owned(), model, tensors });
        };
        Ok((Part { path: path.to_owned(), model, file, prefix, used: BTreeSet::new() }, number))
    }

    /// The first of `names` that the file has.
    pub fn find(&self, names: &[String]) -> Option<String> {
        names.iter().find(|name| self.shape(name).is_some()).cloned()
    }

    /// Shape of a tensor, by its name without the prefix, or with no prefix of its own, as BERT's head is.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.file.shape(&self.full(name))
    }

    /// Reads a tensor.
    pub fn tensor(&mut self, name: &str) -> Result<Tensor, WeightsError> {
        let full = self.full(name);
        let tensor = self.file.tensor(&full)?;
        self.used.insert(full);
        Ok(tensor)
    }

    fn full(&self, name: &str) -> String {
        let full = format!("{}{name}", self.prefix);
        if self.file.shape(&full).is_some() { full } else { name.to_owned() }
    }

    /// Names in the file that nothing asked for.
    pub fn unused(&self) -> Vec<String> {
        self.file.names().map(|(name, _)| name).filter(|name| !self.used.contains(*name)).map(str::to_owned).collect()
    }

    /// Layers of the file, whose names go on with `prefix` and a number.
    pub fn layers(&self, prefix: &str) -> usize {
        let start = format!("{}{prefix}", self.prefix);
        let number = |name: &str| name.strip_prefix(&start)?.split('.').next()?.parse::<usize>().ok();
        self.file.names().filter_map(|(name, _)| number(name)).max().map_or(0, |last| last.saturating_add(1))
    }

    pub fn missing(&self, tensors: Vec<String>) -> WeightsError {
        WeightsError::Missing { source_file: self.path.clone(), model: self.model, tensors }
    }

    /// A size of the file, which must be the model's.
    pub fn same(&self, what: &str, theirs: usize, ours: usize) -> Result<(), WeightsError> {
        if theirs == ours {
            return Ok(());
        }
        let (theirs, ours) = (theirs.to_string(), ours.to_string());
        Err(WeightsError::Size { source_file: self.path.clone(), what: what.to_owned(), theirs, ours })
    }

    /// Checks the number of heads, which no tensor tells, where a `config.json` lies beside the file.
    pub fn same_heads(&self, what: &str, ours: usize) -> Result<(), WeightsError> {
        let folder = if self.path.is_dir() { Some(self.path.as_path()) } else { self.path.parent() };
        let beside = folder.map(|folder| folder.join("config.json"));
        let Some(bytes) = beside.and_then(|path| read_small(&path)) else { return Ok(()) };
        let keys = serde_json::from_slice::<Keys>(&bytes).ok();
        let keys =
            keys.map(|keys| keys.vision_config.map_or(keys.num_attention_heads, |keys| keys.num_attention_heads));
        let heads = keys.flatten();
        heads.map_or(Ok(()), |theirs| self.same(what, theirs, ours))
    }
}

fn read_small(path: &Path) -> Option<Vec<u8>> {
    let length = std::fs::metadata(path).ok().filter(std::fs::Metadata::is_file)?.len();
    (length <= MAX_CONFIG_BYTES).then(|| std::fs::read(path).ok())?
}
