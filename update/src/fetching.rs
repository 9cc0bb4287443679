//! Fetches a release: what is said of it first, then its files, each by its hash and from where it stopped.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use dataset::disk::belong;
use exchange::release::{
    Board, DELEGATION, Delegation, NEWEST, Newest, Release, ReleasedFile, Root, file_place, release_place, root_place,
};
use exchange::{DeviceName, Digest, Statement, Trust};
use objects::Remote;
use sha2::Digest as _;

use crate::files;
use crate::slots::{Claim, UpdateError, Updates};
use crate::state::{Slot, State};

/// Bytes of a request.
const PIECE: usize = 1 << 20;
/// Roots that are followed at once.
const MAX_ROOTS: u32 = 64;

/// To whom a release is offered.
pub struct Offered<'o> {
    /// The board's name.
    pub device: &'o DeviceName,
    /// What it is, and what runs on it.
    pub board: &'o Board,
    /// The time, as well as the board knows it, seconds since 1970.
    pub now_s: i64,
    /// Room that is left on the disk, in bytes.
    pub leave: u64,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq)]
pub enum Fetched {
    /// The host has released nothing.
    Nothing,
    /// The newest release runs here, or is tried.
    Current,
    /// It is for other boards first.
    Later,
    /// It was given back, and is not taken again.
    Denied,
    /// It lies in a slot, and nothing has tried it.
    Ready {
        /// The slot.
        slot: Slot,
        /// Its place in the order of releases.
        sequence: u64,
        /// Bytes that were fetched for it.
        bytes: u64,
    },
}

impl Updates {
    /// Looks for a release, and fetches it.
    ///
    /// # Errors
    /// See [`UpdateError`]. What was fetched is kept, and the next call goes on from there.
    pub fn fetch(&self, _: &Claim, remote: &mut dyn Remote, offered: &Offered<'_>) -> Result<Fetched, UpdateError> {
        let state = self.state();
        let Some(mut trust) = state.trust.clone() else { return Ok(Fetched::Nothing) };
        self.follow_roots(remote, &mut trust)?;
        let Some(bytes) = remote.get(DELEGATION, Delegation::MAX_BYTES)? else { return Ok(Fetched::Nothing) };
        let by = trust.delegated(&bytes, offered.now_s);
        // Also if it has expired: no earlier one comes after it.
        self.remember(&trust)?;
        let by = by?;
        let Some(bytes) = remote.get(NEWEST, Newest::MAX_BYTES)? else { return Ok(Fetched::Nothing) };
        let newest = trust.newest(&bytes, &by, offered.now_s)?;
        self.change(|state| {
            state.trust = Some(trust.clone());
            (state.heard_s, state.fresh_until_s) = (Some(trust.now_s(offered.now_s)), Some(newest.expires_s));
        })?;
        if let Some(known) = known(&state, &newest, offered.device) {
            return Ok(known);
        }
        let place = release_place(newest.sequence);
        let bytes = remote.get(&place, Release::MAX_BYTES)?.ok_or(UpdateError::Missing(place))?;
        let release = trust.release(&bytes, &by, &newest, offered.board)?;
        self.clear(&release)?;
        self.check_room(&state, &release, offered.leave)?;
        self.fill(remote, newest.release, &release)
    }

    fn follow_roots(&self, remote: &mut dyn Remote, trust: &mut Trust) -> Result<(), UpdateError> {
        for _ in 0..MAX_ROOTS {
            let Some(next) = trust.root().version.checked_add(1) else { break };
            let Some(bytes) = remote.get(&root_place(next), Root::MAX_BYTES)? else { break };
            trust.follow(&bytes)?;
            self.remember(trust)?;
        }
        Ok(())
    }

    fn remember(&self, trust: &Trust) -> Result<(), UpdateError> {
        if self.state().trust.as_ref() == Some(trust) {
            return Ok(());
        }
        self.change(|state| state.trust = Some(trust.clone()))
    }

    /// Brings every file of a release, and puts them into a slot.
    fn fill(&self, remote: &mut dyn Remote, digest: Digest, release: &Release) -> Result<Fetched, UpdateError> {
        let system = |path: &Path| {
            let path = path.to_owned();
            move |source| UpdateError::System { path, source }
        };
        let mut fetched = 0;
        for (name, facts) in &release.files {
            fetched += self.bring(remote, name, facts)?;
        }
        // From here on nothing is in the slot, until all of it is.
        let slot = self.change(State::free_slot)?;
        let Some(slot) = slot else { return Ok(Fetched::Current) };
        let folder = self.folder_of(slot);
        self.assemble(&folder, release).map_err(system(&folder))?;
        self.change(|state| {
            state.slots.insert(slot, State::filled(digest, release));
            if let Some(trust) = &mut state.trust {
                trust.take(release);
            }
        })?;
        let partial = self.folder().join("partial");
        files::remove(&partial).map_err(system(&partial))?;
        Ok(Fetched::Ready { slot, sequence: release.sequence, bytes: fetched })
    }

    /// Removes what belongs to no release any more: pieces of others, and slots that do not count.
    fn clear(&self, release: &Release) -> Result<(), UpdateError> {
        let pieces: Vec<String> = release.files.values().map(|file| file.sha256.to_string()).collect();
        let slots: Vec<&str> = self.state().slots.keys().map(|slot| slot.name()).collect();
        let is_piece = |name: &OsStr| pieces.iter().any(|piece| name == piece.as_str());
        let is_slot = |name: &OsStr| slots.iter().any(|slot| name == *slot);
        clear_all_but(&self.folder().join("partial"), is_piece)?;
        clear_all_but(&self.folder().join("slots"), is_slot)
    }

    fn check_room(&self, state: &State, release: &Release, leave: u64) -> Result<(), UpdateError> {
        let path = self.folder().to_owned();
        let there = |file: &ReleasedFile| {
            let is_linked = state.slots.values().any(|slot| slot.files.values().any(|other| other == file));
            let begun = || fs::metadata(self.partial(file.sha256)).map_or(0, |facts| facts.len());
            if is_linked { file.bytes } else { begun() }
        };
        let missing: u64 = release.files.values().map(|file| file.bytes.saturating_sub(there(file))).sum();
        let needed = missing.saturating_add(leave);
        let free = rustix::fs::statvfs(&path).map_or(u64::MAX, |disk| disk.f_bavail.saturating_mul(disk.f_frsize));
        if needed <= free { Ok(()) } else { Err(UpdateError::NoRoom { path, needed, free }) }
    }

    /// Brings a file: from a slot that has it, or from where it stopped.
    fn bring(&self, remote: &mut dyn Remote, name: &str, facts: &ReleasedFile) -> Result<u64, UpdateError> {
        let path = self.partial(facts.sha256);
        let system = |source| UpdateError::System { path: path.clone(), source };
        if files::is(&path, facts) || self.link(facts, &path).map_err(system)? {
            return Ok(0);
        }
        // What a power cut left may be longer than it is whole: then it is fetched from its beginning.
        for from_beginning in [false, true] {
            if from_beginning {
                files::remove(&path).map_err(system)?;
            }
            let (fetched, is_whole) = self.continue_file(remote, &path, facts)?;
            if is_whole {
                return Ok(fetched);
            }
        }
        files::remove(&path).map_err(system)?;
        Err(UpdateError::OtherFile { name: name.to_owned() })
    }

    fn continue_file(
        &self,
        remote: &mut dyn Remote,
        path: &Path,
        facts: &ReleasedFile,
    ) -> Result<(u64, bool), UpdateError> {
        let system = |source| UpdateError::System { path: path.to_owned(), source };
        let (mut hash, mut bytes) = files::hashed(path).map_err(system)?;
        let mut file = File::options().create(true).append(true).open(path).map_err(system)?;
        belong(path).map_err(system)?;
        let mut fetched = 0;
        while bytes < facts.bytes {
            let place = file_place(facts.sha256);
            let most = usize::try_from(facts.bytes - bytes).unwrap_or(PIECE).min(PIECE);
            let piece = remote.piece(&place, bytes, most)?.filter(|piece| !piece.is_empty());
            let piece = piece.ok_or(UpdateError::Missing(place))?;
            file.write_all(&piece).map_err(system)?;
            file.sync_data().map_err(system)?;
            hash.update(&piece);
            bytes += piece.len() as u64;
            fetched += piece.len() as u64;
        }
        file.sync_all().map_err(system)?;
        files::sync_above(path).map_err(system)?;
        let found: [u8; 32] = hash.finalize().into();
        Ok((fetched, bytes == facts.bytes && Digest::from(found) == facts.sha256))
    }

    /// Takes a file from a slot that has it: releases share most of their bytes.
    fn link(&self, facts: &ReleasedFile, path: &Path) -> io::Result<bool> {
        let state = self.state();
        for (slot, filled) in &state.slots {
            for (name, other) in &filled.files {
                let there = self.folder_of(*slot).join(name);
                if other.sha256 == facts.sha256 && files::is(&there, facts) {
                    files::remove(path)?;
                    fs::hard_link(&there, path).or_else(|_| fs::copy(&there, path).map(drop))?;
                    belong(path)?;
                    File::open(path)?.sync_all()?;
                    files::sync_above(path)?;
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// Makes a slot of files that are all there.
    fn assemble(&self, folder: &Path, release: &Release) -> io::Result<()> {
        let new = folder.with_extension("new");
        files::remove(&new)?;
        files::remove(folder)?;
        files::make_folder(&new)?;
        for (name, facts) in &release.files {
            // Two names may have one content.
            let (from, to) = (self.partial(facts.sha256), new.join(name));
            // A file that was found whole may be so in memory alone.
            File::open(&from)?.sync_all()?;
            fs::hard_link(&from, &to).or_else(|_| {
                fs::copy(&from, &to)?;
                belong(&to)?;
                File::open(&to)?.sync_all()
            })?;
        }
        File::open(&new)?.sync_all()?;
        fs::rename(&new, folder)?;
        files::sync_above(folder)
    }
}

/// Removes everything of a folder that is not wanted; it is made if it is not there.
fn clear_all_but(folder: &Path, is_wanted: impl Fn(&OsStr) -> bool) -> Result<(), UpdateError> {
    let cleared = (|| {
        files::make_folder(folder)?;
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            if !is_wanted(&entry.file_name()) {
                files::remove(&entry.path())?;
            }
        }
        Ok(())
    })();
    cleared.map_err(|source| UpdateError::System { path: folder.to_owned(), source })
}

/// What need not be fetched.
fn known(state: &State, newest: &Newest, device: &DeviceName) -> Option<Fetched> {
    let place = Slot::WRITABLE
        .into_iter()
        .find(|slot| state.slots.get(slot).is_some_and(|filled| filled.release == newest.release));
    if state.denied.iter().any(|denied| denied.release == newest.release) {
        return Some(Fetched::Denied);
    }
    match place {
        // What was kept once, and does not run, is somebody's choice.
        Some(slot) if state.wanted() == slot || state.slots.get(&slot).is_some_and(|filled| filled.is_kept) => {
            Some(Fetched::Current)
        }
        Some(slot) => Some(Fetched::Ready { slot, sequence: newest.sequence, bytes: 0 }),
        None if !newest.is_for(device) => Some(Fetched::Later),
        None => None,
    }
}
