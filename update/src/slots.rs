//! The slots of a board, and what is done with them.

use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use dataset::disk::{Existing, WholeFile, belong};
use exchange::release::{Health, ReleaseError, Root};
use exchange::{Digest, PublicKey, Trust};
use objects::RemoteError;

use crate::files;
use crate::state::{Slot, SlotError, State};

const STATE: &str = "state.json";
/// What could not be understood, for whoever wants to know why.
const DAMAGED: &str = "state.json.damaged";
/// Far more than any state.
const MAX_STATE: u64 = 4 << 20;

/// What a board cannot do with releases.
#[derive(Debug, thiserror::Error)]
pub enum UpdateError {
    /// A file.
    #[error("{}: {source}", path.display())]
    System {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The disk is too small.
    #[error("{}: the release takes {} MiB and {} MiB are free: make room", path.display(), needed >> 20, free >> 20)]
    NoRoom {
        /// Where it was to go.
        path: PathBuf,
        /// Bytes that it takes, and what is left to others.
        needed: u64,
        /// Bytes that are free.
        free: u64,
    },
    /// The place where releases lie.
    #[error("{0}")]
    Remote(#[from] RemoteError),
    /// The release, or what is said of it.
    #[error(transparent)]
    Release(#[from] ReleaseError),
    /// Something that must be there is not.
    #[error("the host has announced a release, and {0} is not there")]
    Missing(String),
    /// A file that is not what was signed.
    #[error("the file {name} of the release is not the one that was signed")]
    OtherFile {
        /// The file.
        name: String,
    },
    /// No such slot.
    #[error(transparent)]
    Slot(#[from] SlotError),
    /// Two at once.
    #[error("another program fetches or tests a release at the moment: try again when it is done")]
    Claimed,
    /// There is nothing in that slot.
    #[error("slot {0} is empty: \"edgeblip bundle list\" says what is where")]
    Empty(Slot),
}

/// What is to be loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chosen {
    /// Which slot that is.
    pub slot: Slot,
    /// Its folder; nothing for the factory's bundle.
    pub folder: Option<PathBuf>,
    /// Whether it is tried: it must show that it works.
    pub is_trial: bool,
    /// The release that lies there; nothing for the factory's bundle.
    pub release: Option<Digest>,
}

impl Chosen {
    /// Whether this is the same release in the same slot.
    pub fn is(&self, other: &Chosen) -> bool {
        (self.slot, self.release) == (other.slot, other.release)
    }
}

/// The releases on a board.
#[derive(Clone, Debug)]
pub struct Updates {
    folder: PathBuf,
}

/// Held by the process that fetches and tests; two would write one file.
#[derive(Debug)]
pub struct Claim(File);

impl Drop for Claim {
    fn drop(&mut self) {
        // A child that is just being started holds the same open file for a moment: closing it would not be enough.
        let _ = self.0.unlock();
    }
}

impl Updates {
    /// The releases in a folder, which need not be there.
    pub fn at(folder: &Path) -> Updates {
        Updates { folder: folder.to_owned() }
    }

    /// What is written down. A file that cannot be read is none, and a board without one runs what it came with.
    pub fn state(&self) -> State {
        match self.read() {
            Ok(Some(state)) => state,
            Ok(None) => State::default(),
            Err(error) => {
                log::warn!(error:% = error; "the state of releases cannot be read: the board runs what it came with");
                State::default()
            }
        }
    }

    /// Nothing if there is none; an error of kind `InvalidData` if it is damaged.
    pub(crate) fn read(&self) -> io::Result<Option<State>> {
        let file = match File::open(self.folder.join(STATE)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file?,
        };
        let mut bytes = Vec::new();
        file.take(MAX_STATE).read_to_end(&mut bytes)?;
        serde_json::from_slice(&bytes).map(Some).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
    }

    /// What is to be loaded now. If something is tried, a try is counted, and on the disk, before this returns.
    ///
    /// # Errors
    /// A disk that takes nothing: then nothing is tried, and what ran before runs.
    pub fn begin(&self) -> Result<Chosen, UpdateError> {
        let state = self.state();
        if state.trial.is_none() {
            return Ok(self.chosen(state.wanted(), &state));
        }
        self.change(|state| {
            let slot = state.begin();
            self.chosen(slot, state)
        })
    }

    /// What is to be loaded where nothing may be tried.
    pub fn current(&self) -> Chosen {
        let state = self.state();
        self.chosen(state.current, &state)
    }

    /// What is to run as far as it is written down, without a try.
    pub(crate) fn wanted(&self) -> io::Result<Option<Chosen>> {
        Ok(self.read()?.map(|state| self.chosen(state.wanted(), &state)))
    }

    /// What the board came with, where nothing can be written down.
    pub fn factory(&self) -> Chosen {
        Chosen { slot: Slot::Factory, folder: None, is_trial: false, release: None }
    }

    /// What was chosen has been loaded and works: if it is tried, it stays. What was proposed in its place meanwhile is still
    /// to be tried.
    ///
    /// # Errors
    /// A disk that takes nothing: it is tried again.
    pub fn commit(&self, chosen: &Chosen) -> Result<(), UpdateError> {
        self.change(|state| state.commit(chosen.slot, chosen.release))
    }

    /// What was chosen cannot be used: what is to be loaded in its stead. If it was tried, it is not taken again. What lies in
    /// its place meanwhile stays.
    ///
    /// # Errors
    /// A disk that takes nothing.
    pub fn give_back(&self, chosen: &Chosen, reason: &str) -> Result<Chosen, UpdateError> {
        log::warn!(slot:% = chosen.slot, reason; "a release is given back");
        self.change(|state| {
            if state.release_in(chosen.slot) == chosen.release {
                state.give_back(chosen.slot, reason);
            }
            self.chosen(state.current, state)
        })
    }

    /// A release that was fetched has failed its test, and is not taken again.
    ///
    /// # Errors
    /// A disk that takes nothing.
    pub fn refuse(&self, _: &Claim, slot: Slot, reason: &str) -> Result<(), UpdateError> {
        self.change(|state| state.give_back(slot, reason))
    }

    /// The test of a release could not be started, through no fault of its own.
    ///
    /// # Errors
    /// A disk that takes nothing.
    pub fn forget_test(&self, slot: Slot) -> Result<(), UpdateError> {
        self.change(|state| state.forget_test(slot))
    }

    /// A release is about to be tested, which is counted, and on the disk, before this returns: what it must do, or nothing if
    /// it was tested so often without an end that it is given back instead.
    ///
    /// # Errors
    /// A disk that takes nothing: then it is not tested.
    pub fn begin_test(&self, slot: Slot) -> Result<Option<Health>, UpdateError> {
        self.change(|state| state.begin_test(slot))
    }

    /// A release that has passed its test is to be tried by the service.
    ///
    /// # Errors
    /// A disk that takes nothing, a slot that is empty.
    pub fn propose(&self, slot: Slot) -> Result<(), UpdateError> {
        self.change(|state| {
            if slot != Slot::Factory && !state.slots.contains_key(&slot) {
                return Err(UpdateError::Empty(slot));
            }
            state.propose(slot);
            Ok(())
        })?
    }

    /// The operator goes back to what ran before, and does not want what runs or is tried now again.
    ///
    /// # Errors
    /// A disk that takes nothing.
    pub fn roll_back(&self) -> Result<Slot, UpdateError> {
        self.change(|state| {
            state.roll_back();
            state.current
        })
    }

    /// Files of a slot that are not what was signed.
    ///
    /// # Errors
    /// A slot that is empty.
    pub fn verify(&self, slot: Slot) -> Result<Vec<String>, UpdateError> {
        let state = self.state();
        let filled = state.slots.get(&slot).ok_or(UpdateError::Empty(slot))?;
        let folder = self.folder_of(slot);
        let wrong = filled.files.iter().filter(|(name, facts)| !files::is(&folder.join(name), facts));
        Ok(wrong.map(|(name, _)| name.clone()).collect())
    }

    /// Believes in the root that a host has granted, unless a later one of that host's is believed in already.
    ///
    /// # Errors
    /// A root that cannot be signed, a disk that takes nothing.
    pub fn believe(&self, root: &Root, host: PublicKey) -> Result<(), UpdateError> {
        let new = Trust::new(root.clone())?;
        let state = self.state();
        let known = state.trust.filter(|_| state.host == Some(host));
        if known.as_ref().is_some_and(|known| known.root().version >= root.version) {
            return Ok(());
        }
        // A later root of the same host brings back nothing that was replaced before it.
        let trust = known.map_or(Ok(new), |known| known.with_root(root.clone()))?;
        self.change(|state| (state.trust, state.host) = (Some(trust), Some(host)))
    }

    /// Notes for people what came of the last look for a release.
    ///
    /// # Errors
    /// A disk that takes nothing.
    pub fn note(&self, words: &str) -> Result<(), UpdateError> {
        if self.state().last.as_deref() == Some(words) {
            return Ok(());
        }
        self.change(|state| state.last = Some(words.to_owned()))
    }

    /// Claims the slots for one process that fetches and tests, until the claim is dropped.
    ///
    /// # Errors
    /// Another process has it.
    pub fn claim(&self) -> Result<Claim, UpdateError> {
        let path = self.folder.join("claim");
        let fault = |source| UpdateError::System { path: path.clone(), source };
        files::make_folder(&self.folder).map_err(fault)?;
        let file = files::open_lock(&path).map_err(fault)?;
        match file.try_lock() {
            Ok(()) => Ok(Claim(file)),
            Err(TryLockError::WouldBlock) => Err(UpdateError::Claimed),
            Err(TryLockError::Error(source)) => Err(fault(source)),
        }
    }

    /// Where a slot's bundle lies, if there is one.
    pub fn folder_of(&self, slot: Slot) -> PathBuf {
        self.folder.join("slots").join(slot.name())
    }

    pub(crate) fn partial(&self, file: Digest) -> PathBuf {
        self.folder.join("partial").join(file.to_string())
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    fn chosen(&self, slot: Slot, state: &State) -> Chosen {
        let folder = (slot != Slot::Factory).then(|| self.folder_of(slot));
        let is_trial = state.trial.is_some_and(|trial| trial.slot == slot);
        Chosen { slot, folder, is_trial, release: state.release_in(slot) }
    }

    /// Changes what is written down; it is on the disk when this returns. One process at a time.
    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> Result<T, UpdateError> {
        let path = self.folder.join(STATE);
        let fault = |path: &Path| {
            let path = path.to_owned();
            move |source| UpdateError::System { path, source }
        };
        files::make_folder(&self.folder).map_err(fault(&self.folder))?;
        let lock = self.folder.join("lock");
        let lock_file = files::open_lock(&lock).map_err(fault(&lock))?;
        lock_file.lock().map_err(fault(&lock))?;
        let mut state = match self.read() {
            Ok(state) => state.unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                let aside = self.folder.join(DAMAGED);
                log::warn!(aside:% = aside.display(), error:% = error; "the state of releases is damaged and set aside");
                fs::rename(&path, &aside).map_err(fault(&path))?;
                State::default()
            }
            // It may be there all the same: nothing is written over it.
            Err(source) => return Err(UpdateError::System { path, source }),
        };
        let value = change(&mut state);
        let bytes = serde_json::to_vec(&state).map_err(io::Error::other).map_err(fault(&path))?;
        let mut file = WholeFile::beside(&path).map_err(fault(&path))?;
        file.write_all(&bytes).map_err(fault(&path))?;
        file.keep(Existing::Replace).map_err(fault(&path))?;
        belong(&path).map_err(fault(&path))?;
        Ok(value)
    }
}
