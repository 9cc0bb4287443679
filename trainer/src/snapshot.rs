//! Everything that a run needs to go on after it was killed.
//!
//! A [`Snapshot`] is taken between two steps: parameters, momentum copies, moments, queues, and where the run is. What is
//! random in a step follows from seed and step, so it has no state of its own. All ranks hold the same, so rank 0 saves.
//! [`Snapshots`] keeps the newest of a run; one that is there is complete, and an older one goes when its successor is on
//! the disk.

mod read;
mod folder;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use dataset::disk::DiskError;

pub use folder::{Found, Saved, Snapshots};

/// Where a run is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Facts {
    /// Steps done.
    pub step: u64,
    /// Epochs done.
    pub epoch: u64,
    /// Samples of this epoch that are done, over all ranks.
    pub position: u64,
    /// Seed of the run.
    pub seed: u64,
    /// First row of the queues that the next step overwrites.
    pub queue_row: u64,
    /// Settings that must not change when the run goes on, by name.
    pub settings: BTreeMap<String, String>,
    /// Best value of each metric so far, by its name; any float, kept to the bit but for a NaN's.
    #[serde(with = "exact")]
    pub best: BTreeMap<String, f64>,
}

/// One of a run's long vectors.
#[derive(Clone, Debug, PartialEq)]
pub enum Vector {
    /// Parameters, moments, queues.
    Floats(Vec<f32>),
    /// Names of a queue's rows.
    Numbers(Vec<u32>),
}

/// A run between two steps.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Snapshot {
    /// Where it is.
    pub facts: Facts,
    /// Its vectors by name.
    pub vectors: BTreeMap<String, Vector>,
}

/// A snapshot that cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The system's refusal.
    #[error("{}: cannot be read: {source}", path.display())]
    Io {
        /// Which file or folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A folder that is no snapshot of this program.
    #[error("{}: is no snapshot: {reason}", path.display())]
    Foreign {
        /// Which.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// Of a later version of this program.
    #[error("{}: has version {found}, this program reads {known}: use the program that wrote it", path.display())]
    Newer {
        /// Which.
        path: PathBuf,
        /// Its version.
        found: u32,
        /// Ours.
        known: u32,
    },
    /// Cut off, or changed after it was written.
    #[error("{}: is damaged: {reason}", path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// How.
        reason: String,
    },
    /// A vector that is not there, or not as the run needs it.
    #[error("the snapshot of step {step} has {found}, the run needs {name:?} with {length} {kind}")]
    Vector {
        /// The snapshot's step.
        step: u64,
        /// Which vector.
        name: String,
        /// What it needs of it.
        length: usize,
        /// What of.
        kind: &'static str,
        /// What is there.
        found: String,
    },
    /// Settings that changed.
    #[error(
        "the snapshot of step {step} was taken with {name} = {theirs}, the run has {ours}: change it back, or start anew"
    )]
    Settings {
        /// The snapshot's step.
        step: u64,
        /// The first setting that differs.
        name: String,
        /// In the snapshot.
        theirs: String,
        /// In the run.
        ours: String,
    },
    /// Another process writes there.
    #[error("{}: another run keeps its snapshots here: wait for it, or choose another folder", folder.display())]
    InUse {
        /// The folder.
        folder: PathBuf,
    },
    /// It cannot be written.
    #[error(transparent)]
    Write(#[from] DiskError),
}

impl Snapshot {
    /// Reads the snapshot in the folder `path`.
    ///
    /// # Errors
    /// A folder that is no snapshot, of a later version, cut off or changed.
    pub fn read(path: &Path) -> Result<Snapshot, SnapshotError> {
        read::snapshot(path)
    }

    /// Takes a vector of `length` floats out of the snapshot.
    ///
    /// # Errors
    /// No such vector, or another length.
    pub fn take_floats(&mut self, name: &str, length: usize) -> Result<Vec<f32>, SnapshotError> {
        match self.vectors.remove(name) {
            Some(Vector::Floats(values)) if values.len() == length => Ok(values),
            other => Err(self.misfit(name, length, "floats", other)),
        }
    }

    /// Takes a vector of `length` whole numbers out of the snapshot.
    ///
    /// # Errors
    /// No such vector, or another length.
    pub fn take_numbers(&mut self, name: &str, length: usize) -> Result<Vec<u32>, SnapshotError> {
        match self.vectors.remove(name) {
            Some(Vector::Numbers(values)) if values.len() == length => Ok(values),
            other => Err(self.misfit(name, length, "whole numbers", other)),
        }
    }

    /// Checks that the run's settings are the snapshot's.
    ///
    /// # Errors
    /// The first setting that differs.
    pub fn same_settings(&self, ours: &BTreeMap<String, String>) -> Result<(), SnapshotError> {
        let theirs = &self.facts.settings;
        let shown = |settings: &BTreeMap<String, String>, name| match settings.get(name) {
            Some(value) => terminal::printable(value),
            None => "nothing".to_owned(),
        };
        // Another task has other settings too: it is the reason to name.
        let task = "task".to_owned();
        match std::iter::once(&task)
            .chain(theirs.keys())
            .chain(ours.keys())
            .find(|name| theirs.get(*name) != ours.get(*name))
        {
            None => Ok(()),
            Some(name) => Err(SnapshotError::Settings {
                step: self.facts.step,
                name: terminal::printable(name),
                theirs: shown(theirs, name),
                ours: shown(ours, name),
            }),
        }
    }

    fn misfit(&self, name: &str, length: usize, kind: &'static str, found: Option<Vector>) -> SnapshotError {
        let found = match found {
            None => "no such vector".to_owned(),
            Some(Vector::Floats(values)) => format!("{} floats", values.len()),
            Some(Vector::Numbers(values)) => format!("{} whole numbers", values.len()),
        };
        SnapshotError::Vector { step: self.facts.step, name: name.to_owned(), length, kind, found }
    }
}

/// Floats as text: JSON has no infinity, and its readers round.
mod exact {
    use std::collections::BTreeMap;

    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(values: &BTreeMap<String, f64>, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(values.iter().map(|(name, value)| (name, format!("{value:?}"))))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, f64>, D::Error> {
        let texts = BTreeMap::<String, String>::deserialize(deserializer)?;
        let value = |(name, text): (String, String)| match text.parse() {
            Ok(value) => Ok((name, value)),
            Err(_) => Err(D::Error::custom(format_args!("{text:?} is no number"))),
        };
        texts.into_iter().map(value).collect()
    }
}
