//! The checkpoints of a bundle, and which head comes from which.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use blip::config::{Role, TextConfig};
use checkpoint::{Checkpoint, CheckpointError, OpenOptions};
use sha2::{Digest, Sha256};

/// Checkpoints that do not make a bundle.
#[derive(Debug, thiserror::Error)]
pub enum WeightsError {
    /// One of them cannot be read.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// Nothing was named.
    #[error("no checkpoint: name a folder or a .pth file")]
    Nothing,
    /// Two checkpoints for one head.
    #[error("{} and {} are both a {role}: name one of them with --{role}", first.display(), second.display())]
    Twice {
        /// The head.
        role: Role,
        /// The one that was named first.
        first: PathBuf,
        /// The other one.
        second: PathBuf,
    },
    /// A checkpoint without the parts of the head that it was named for.
    #[error("{} is no {role}: {missing}", path.display())]
    Role {
        /// The checkpoint.
        path: PathBuf,
        /// The head that it was named for.
        role: Role,
        /// What it lacks.
        missing: String,
    },
    /// Two checkpoints that read texts differently.
    #[error("{} and {} have different vocabularies: a bundle has one tokenizer, export them apart", first.display(), second.display())]
    Vocabulary {
        /// The one that was named first.
        first: PathBuf,
        /// The other one.
        second: PathBuf,
    },
    /// A tensor that does not have the shape that a graph wants.
    #[error("{}: {name} has {found} values where {expected} belong", path.display())]
    Size {
        /// The checkpoint.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// Values in it.
        found: usize,
        /// Values that the graph wants.
        expected: usize,
    },
    /// A file cannot be read.
    #[error("{}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
}

/// Checkpoints by path, as a user names them.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// Each takes the heads that it has.
    pub any: Vec<PathBuf>,
    /// For one head each.
    pub named: Vec<(Role, PathBuf)>,
}

/// Opened checkpoints.
pub struct Weights {
    checkpoints: Vec<Checkpoint>,
    paths: Vec<PathBuf>,
    roles: BTreeMap<Role, usize>,
}

impl Weights {
    /// Opens every checkpoint once and finds out which heads they give.
    ///
    /// # Errors
    /// A checkpoint that cannot be read or is not complete, two for one head, or vocabularies that differ.
    pub fn open(request: &Request, options: &OpenOptions) -> Result<Weights, WeightsError> {
        let mut weights = Weights { checkpoints: Vec::new(), paths: Vec::new(), roles: BTreeMap::new() };
        for (role, path) in &request.named {
            let index = weights.open_one(path, options)?;
            weights.check_role(index, *role)?;
            weights.take(*role, index)?;
        }
        for path in &request.any {
            let index = weights.open_one(path, options)?;
            for role in weights.checkpoints[index].roles().to_vec() {
                weights.take(role, index)?;
            }
        }
        if weights.roles.is_empty() {
            return Err(WeightsError::Nothing);
        }
        weights.check_vocabularies()?;
        Ok(weights)
    }

    fn open_one(&mut self, path: &Path, options: &OpenOptions) -> Result<usize, WeightsError> {
        if let Some(index) = self.paths.iter().position(|known| known == path) {
            return Ok(index);
        }
        self.checkpoints.push(Checkpoint::open(path, options)?);
        self.paths.push(path.to_path_buf());
        Ok(self.paths.len() - 1)
    }

    fn take(&mut self, role: Role, index: usize) -> Result<(), WeightsError> {
        match self.roles.insert(role, index) {
            Some(before) if before != index => {
                let (first, second) = (self.paths[before].clone(), self.paths[index].clone());
                Err(WeightsError::Twice { role, first, second })
            }
            _ => Ok(()),
        }
    }

    fn check_role(&self, index: usize, role: Role) -> Result<(), WeightsError> {
        let config = self.checkpoints[index].config();
        let lacks = [
            (config.encoder.is_none() && role != Role::Captioner, "it has no text encoder"),
            (config.decoder.is_none() && role != Role::Matcher, "it has no text decoder"),
            (config.projection_width.is_none() && role == Role::Matcher, "it has no ITC projections"),
        ];
        let missing: Vec<&str> = lacks.into_iter().filter_map(|(lacks, what)| lacks.then_some(what)).collect();
        if missing.is_empty() {
            return Ok(());
        }
        Err(WeightsError::Role { path: self.paths[index].clone(), role, missing: missing.join(", ") })
    }

    fn check_vocabularies(&self) -> Result<(), WeightsError> {
        let same = |left: &Checkpoint, right: &Checkpoint| {
            left.vocabulary() == right.vocabulary() && left.tokens() == right.tokens()
        };
        match self.checkpoints.iter().position(|checkpoint| !same(&self.checkpoints[0], checkpoint)) {
            Some(other) => {
                Err(WeightsError::Vocabulary { first: self.paths[0].clone(), second: self.paths[other].clone() })
            }
            None => Ok(()),
        }
    }

    /// The checkpoints and their paths.
    pub fn checkpoints(&self) -> impl Iterator<Item = (&Path, &Checkpoint)> {
        self.paths.iter().map(PathBuf::as_path).zip(&self.checkpoints)
    }

    /// The checkpoint with this index.
    pub fn checkpoint(&self, index: usize) -> &Checkpoint {
        &self.checkpoints[index]
    }

    /// Where the checkpoint with this index was found.
    pub fn path(&self, index: usize) -> &Path {
        &self.paths[index]
    }

    /// Heads and the index of the checkpoint that each comes from.
    pub fn roles(&self) -> &BTreeMap<Role, usize> {
        &self.roles
    }

    /// Reads tensors, one after the other; together they have `expected` values.
    ///
    /// # Errors
    /// A tensor that cannot be read, is not finite or has another size.
    pub fn load(&self, index: usize, pieces: &[String], expected: usize) -> Result<Vec<f32>, WeightsError> {
        let mut values = Vec::with_capacity(expected);
        for piece in pieces {
            values.extend_from_slice(&self.checkpoints[index].tensor(piece)?.values);
        }
        if values.len() != expected {
            let (path, name) = (self.paths[index].clone(), pieces.join(", "));
            return Err(WeightsError::Size { path, name, found: values.len(), expected });
        }
        Ok(values)
    }

    /// SHA-256 over the weight files of a checkpoint.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn hash(&self, index: usize) -> Result<String, WeightsError> {
        let mut hash = Sha256::new();
        for path in self.checkpoints[index].files() {
            File::open(path)
                .and_then(|mut file| std::io::copy(&mut file, &mut HashWriter(&mut hash)))
                .map_err(|source| WeightsError::Read { path: path.clone(), source })?;
        }
        Ok(edgeblip::bundle::hex(&hash.finalize()))
    }
}

/// The encoder's or decoder's sizes of a head that was checked to have it.
pub(crate) fn part(stack: &Option<TextConfig>) -> &TextConfig {
    stack.as_ref().expect("a head's parts were checked when its checkpoint was opened")
}

struct HashWriter<'a>(&'a mut Sha256);

impl std::io::Write for HashWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
