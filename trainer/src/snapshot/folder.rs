//! The snapshots of a run.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

use super::read::{self, Body, STATE, VECTORS, VectorsFile};
use super::{Snapshot, SnapshotError, Vector};
use crate::weights::{Planned, TensorWriter, Values};
use dataset::disk::{DiskError, Existing, Staged, WRITING_MARKS, sync_folder};

/// Held while a run writes to a folder.
const LOCK: &str = ".lock";
/// Start of a snapshot's name; its step follows.
const STEP: &str = "step-";
/// Stands before the name of a snapshot that a run left behind when it went on from an older one.
const ASIDE: &str = "aside-";

/// A folder of snapshots, which no other process may write to.
#[derive(Debug)]
pub struct Snapshots {
    folder: PathBuf,
    keep: usize,
    _lock: File,
}

/// A snapshot to go on from.
#[derive(Debug)]
pub struct Found {
    /// Where it is.
    pub path: PathBuf,
    /// What it has.
    pub snapshot: Snapshot,
    /// Newer ones that cannot be read, and why: to be told to the user.
    pub passed_over: Vec<SnapshotError>,
}

/// What saving did besides.
#[derive(Debug)]
pub struct Saved {
    /// Where the snapshot is.
    pub path: PathBuf,
    /// Snapshots of later steps that were moved aside, since the run goes on from here.
    pub aside: Vec<PathBuf>,
    /// Older snapshots that could not be deleted, and why.
    pub undeleted: Vec<(PathBuf, std::io::Error)>,
}

impl Snapshots {
    /// Snapshots in `folder`, which is made where it is not there, of which the newest `keep` stay, at least one.
    ///
    /// # Errors
    /// A folder that cannot be made, or in which another process writes.
    pub fn open(folder: &Path, keep: usize) -> Result<Snapshots, SnapshotError> {
        let failed = |path: &Path, source| DiskError::Io { path: path.to_owned(), source };
        std::fs::create_dir_all(folder).map_err(|source| failed(folder, source))?;
        let path = folder.join(LOCK);
        let lock = File::options().create(true).write(true).truncate(false).open(&path);
        let lock = lock.map_err(|source| failed(&path, source))?;
        match lock.try_lock() {
            Ok(()) => Ok(Snapshots { folder: folder.to_owned(), keep: keep.max(1), _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(SnapshotError::InUse { folder: folder.to_owned() }),
            Err(TryLockError::Error(source)) => Err(failed(&path, source).into()),
        }
    }

    /// Writes a snapshot to the disk itself, and then deletes those older than the newest that stay. Snapshots of later
    /// steps are moved aside: the run goes on from here.
    ///
    /// # Errors
    /// The system's refusal, after which the snapshots that were there are still there.
    pub fn save(&self, snapshot: &Snapshot) -> Result<Saved, SnapshotError> {
        self.sweep()?;
        let step = snapshot.facts.step;
        let path = self.folder.join(format!("{STEP}{step:08}"));
        let staged = Staged::beside(&path)?;
        let planned = snapshot.vectors.iter().map(|(name, vector)| (name, [length(vector)], values(vector)));
        let planned: Vec<_> = planned.collect();
        let planned = planned.iter().map(|(name, shape, values)| Planned { name, shape, values: *values });
        let written = TensorWriter::write(&staged.path().join(VECTORS), &planned.collect::<Vec<_>>())?;
        let vectors = VectorsFile { bytes: written.length, sha256: written.sha256 };
        let body = Body { facts: snapshot.facts.clone(), vectors };
        staged.file(STATE, &body.to_json())?;
        let aside = self.step_aside(step)?;
        staged.publish(Existing::Replace)?;
        let undeleted = self.prune()?;
        Ok(Saved { path, aside, undeleted })
    }

    /// The newest snapshot that can be read; nothing where there is none at all.
    ///
    /// # Errors
    /// Snapshots of which none can be read: why the newest cannot.
    pub fn latest(&self) -> Result<Option<Found>, SnapshotError> {
        let mut passed_over = Vec::new();
        for (_, path) in self.steps()?.into_iter().rev() {
            match Snapshot::read(&path) {
                Ok(snapshot) => return Ok(Some(Found { path, snapshot, passed_over })),
                Err(error) => passed_over.push(error),
            }
        }
        match passed_over.into_iter().next() {
            Some(error) => Err(error),
            None => Ok(None),
        }
    }

    /// Steps with their folders, the oldest first.
    fn steps(&self) -> Result<Vec<(u64, PathBuf)>, SnapshotError> {
        let step = |name: &str| name.strip_prefix(STEP).filter(|digits| digits.len() >= 8)?.parse().ok();
        let mut steps: Vec<_> =
            self.names()?.into_iter().filter_map(|name| Some((step(&name)?, self.folder.join(&name)))).collect();
        steps.sort();
        Ok(steps)
    }

    fn names(&self) -> Result<Vec<String>, SnapshotError> {
        let io = |source| SnapshotError::Io { path: self.folder.clone(), source };
        let entries = std::fs::read_dir(&self.folder).map_err(io)?;
        let names = entries.map(|entry| entry.map(|entry| entry.file_name().to_string_lossy().into_owned()));
        names.collect::<Result<_, _>>().map_err(io)
    }

    /// Removes what a killed process left half done. The lock says that nobody else is at it.
    fn sweep(&self) -> Result<(), SnapshotError> {
        for name in self.names()? {
            if WRITING_MARKS.iter().any(|mark| name.strip_prefix(mark).is_some_and(|rest| rest.starts_with(STEP))) {
                let path = self.folder.join(name);
                std::fs::remove_dir_all(&path).map_err(|source| DiskError::Io { path, source })?;
            }
        }
        Ok(())
    }

    fn step_aside(&self, step: u64) -> Result<Vec<PathBuf>, SnapshotError> {
        let mut moved = Vec::new();
        for (_, path) in self.steps()?.into_iter().filter(|(other, _)| *other > step) {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let names = std::iter::once(format!("{ASIDE}{name}")).chain((2..).map(|n| format!("{ASIDE}{name}-{n}")));
            let mut free = names.map(|name| self.folder.join(name)).filter(|path| path.symlink_metadata().is_err());
            let aside = free.next().expect("there is always another number");
            std::fs::rename(&path, &aside).map_err(|source| DiskError::Io { path, source })?;
            moved.push(aside);
        }
        if !moved.is_empty() {
            sync_folder(&self.folder).map_err(|source| DiskError::Io { path: self.folder.clone(), source })?;
        }
        Ok(moved)
    }

    /// Deletes the oldest; one that is cut off does not count as one that stays. Gives those that would not go.
    ///
    /// # Errors
    /// A folder that cannot be read.
    pub fn prune(&self) -> Result<Vec<(PathBuf, std::io::Error)>, SnapshotError> {
        let whole = self.steps()?.into_iter().rev().filter(|(_, path)| read::body(path).is_ok());
        let old = whole.skip(self.keep);
        Ok(old.filter_map(|(step, path)| self.delete(step, &path).err().map(|error| (path, error))).collect())
    }

    /// Deletes a snapshot under a name that is swept: what a process that is killed meanwhile leaves goes with the next.
    fn delete(&self, step: u64, path: &Path) -> std::io::Result<()> {
        let going = self.folder.join(format!("{}{STEP}{step:08}-{}", WRITING_MARKS[1], std::process::id()));
        std::fs::rename(path, &going)?;
        std::fs::remove_dir_all(going)
    }
}

fn length(vector: &Vector) -> usize {
    match vector {
        Vector::Floats(values) => values.len(),
        Vector::Numbers(values) => values.len(),
    }
}

fn values(vector: &Vector) -> Values<'_> {
    match vector {
        Vector::Floats(values) => Values::Floats(values),
        Vector::Numbers(values) => Values::Numbers(values),
    }
}
