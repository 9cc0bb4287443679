//! Models for boards: written down here first, and then put where boards find them.
//!
//! ```text
//! release.key          the release key; the root, which is offline, says that it may release
//! releases/            what was signed, as it lies in the place of the boards
//! ```
//!
//! The order is that of need: files, the release, and last the word that it is the newest. Whoever is stopped on the way runs
//! it again.

mod files;

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use blip::manifest::ManifestError;
use dataset::disk::{Existing, WholeFile};
use exchange::release::{
    ALL_BOARDS, BoardClass, DELEGATION, Delegation, Health, HealthReport, NEWEST, Newest, ReleaseError, ReleasedFile,
    Root, Version, file_place, release_place, root_place,
};
use exchange::signed::{self, SignedError};
use exchange::{Digest, PublicKey, Release, SecretKey, Statement};
use objects::{Objects, Remote, RemoteError};

use crate::home::{self, Home, HomeError, Lock};
pub use files::read_root;
use files::{believed, bundle_files, first_root, last_serial, read, read_known};

const KEY: &str = "release.key";

/// A release that is not made.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// The host's folder.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// A file.
    #[error("{}: {source}", path.display())]
    System {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A statement that cannot be taken.
    #[error("{}: {source}", path.display())]
    Statement {
        /// The file.
        path: PathBuf,
        /// Why.
        source: ReleaseError,
    },
    /// A statement that cannot be read.
    #[error("{}: {source}", path.display())]
    Signed {
        /// The file.
        path: PathBuf,
        /// Why.
        source: SignedError,
    },
    /// No bundle.
    #[error("{}: {source}: give the folder that edgeblip-export wrote", path.display())]
    Manifest {
        /// The manifest.
        path: PathBuf,
        /// Why.
        source: ManifestError,
    },
    /// A bundle that is damaged.
    #[error("{}: it is not the file that the manifest names: export the bundle again", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
    },
    /// Another program is at it.
    #[error("another program is at the releases of this host: try again when it is done")]
    Busy,
    /// Nobody said that this host may release.
    #[error(
        "this host may not release: take its release key, {key}, to the root, and bring back a root and a delegation with \"publish adopt\""
    )]
    NotDelegated {
        /// The host's release key.
        key: String,
    },
    /// The root named another key.
    #[error(
        "the delegation names the release key {named}, and this host's is {ours}: let the root delegate to that one"
    )]
    AnotherKey {
        /// What it names.
        named: String,
        /// What is here.
        ours: String,
    },
    /// The time is over.
    #[error("the delegation has expired: let the root sign another one, with a larger serial")]
    Expired,
    /// The key may not release for those boards.
    #[error(
        "the delegation is not for boards of class {class}: name others with --class, or let the root delegate for them"
    )]
    OtherBoards {
        /// The class.
        class: BoardClass,
    },
    /// Nothing was released yet.
    #[error("nothing is released yet: \"publish bundle\" does that")]
    Nothing,
    /// The place where boards look.
    #[error("the place of the releases: {0}")]
    Remote(#[from] RemoteError),
}

/// What is said with a bundle.
#[derive(Clone, Debug)]
pub struct Offer {
    /// Boards that it is for.
    pub classes: Vec<BoardClass>,
    /// The oldest program that can run it.
    pub minimum_version: Version,
    /// What it must do to stay on a board.
    pub health: Health,
    /// How many boards of 1,000 are to take it.
    pub share: u16,
}

/// How long a word about the newest release holds, in seconds.
#[derive(Clone, Copy, Debug)]
pub struct Validity(pub i64);

/// How it stands with releases.
#[derive(Clone, Debug)]
pub struct Standing {
    /// The host's release key.
    pub key: PublicKey,
    /// The root, if there is one.
    pub root: Option<Root>,
    /// What the root lets the host do.
    pub delegation: Option<Delegation>,
    /// What boards are told.
    pub newest: Option<Newest>,
}

/// The releases of a host.
pub struct Releases<'r> {
    folder: PathBuf,
    key: SecretKey,
    objects: &'r mut Objects,
    /// Held as long as this is: two would use one number.
    _lock: Lock,
}

impl<'r> Releases<'r> {
    /// The releases of a host, which boards find in `objects`.
    ///
    /// # Errors
    /// A folder or a key that cannot be made or read, another program that is at it.
    pub fn open(home: &Home, objects: &'r mut Objects) -> Result<Releases<'r>, PublishError> {
        let folder = home.folder().to_owned();
        let roots = folder.join("releases/roots");
        fs::create_dir_all(&roots).map_err(|source| PublishError::System { path: roots, source })?;
        let lock = home.releases_lock().map_err(|error| match error {
            HomeError::Busy { .. } => PublishError::Busy,
            error => error.into(),
        })?;
        let key = home::key(&folder.join(KEY))?;
        Ok(Releases { folder, key, objects, _lock: lock })
    }

    /// How it stands.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn standing(&self) -> Result<Standing, PublishError> {
        standing(&self.folder, self.key.public())
    }

    /// Takes what the root has signed: roots one after the other, and a delegation.
    ///
    /// # Errors
    /// A root that does not follow, a delegation that is none or names another key, a place that is away.
    pub fn adopt(&mut self, roots: &[PathBuf], delegation: Option<&Path>, now_s: i64) -> Result<(), PublishError> {
        let mut trust = believed(&self.folder)?;
        for path in roots {
            let bytes = read(path, Root::MAX_BYTES)?;
            // It was written down, and perhaps not put where boards look.
            let version = read_root(&bytes).map_or(0, |root| root.version);
            if read_known(&self.folder.join(root_place(version)), Root::MAX_BYTES)? == Some(bytes.clone()) {
                self.objects.put(&root_place(version), &bytes)?;
                continue;
            }
            let statement = |source| PublishError::Statement { path: path.clone(), source };
            let next = match trust.take() {
                None => first_root(path, &bytes)?,
                Some(mut trust) => {
                    trust.follow(&bytes).map_err(statement)?;
                    trust
                }
            };
            self.put(&root_place(next.root().version), &bytes)?;
            trust = Some(next);
        }
        let Some(path) = delegation else { return Ok(()) };
        let mut trust = trust.ok_or_else(|| PublishError::NotDelegated { key: self.key.public().to_string() })?;
        let bytes = read(path, Delegation::MAX_BYTES)?;
        let statement = |source| PublishError::Statement { path: path.to_owned(), source };
        let next = trust.delegated(&bytes, now_s).map_err(statement)?;
        let known = last_serial(&self.folder)?;
        if next.serial < known {
            let replayed = ReleaseError::Replayed { what: "the delegation", found: next.serial, known };
            return Err(statement(replayed));
        }
        let named = next.key;
        if named != self.key.public() {
            let (named, ours) = (named.fingerprint(), self.key.public().fingerprint());
            return Err(PublishError::AnotherKey { named, ours });
        }
        self.put(DELEGATION, &bytes)
    }

    /// Releases a bundle; `tell` is told of each file.
    ///
    /// # Errors
    /// A bundle that is damaged, a host that may not release, a place that is away.
    pub fn publish(
        &mut self,
        bundle: &Path,
        offer: Offer,
        validity: Validity,
        now_s: i64,
        mut tell: impl FnMut(&str, u64),
    ) -> Result<Release, PublishError> {
        let delegation = self.delegation(now_s)?;
        let may =
            |class: &&BoardClass| delegation.classes.contains(class) || delegation.classes.contains(&BoardClass::any());
        if let Some(class) = offer.classes.iter().find(|class| !may(class)) {
            return Err(PublishError::OtherBoards { class: class.clone() });
        }
        let (id, files) = bundle_files(bundle)?;
        for (name, file) in &files {
            tell(name, file.bytes);
            self.put_file(&bundle.join(name), *file)?;
        }
        let newest = self.newest()?;
        let sequence = newest.as_ref().map_or(0, |newest| newest.sequence).max(self.last_sequence()?) + 1;
        let Offer { classes, minimum_version, health, share } = offer;
        let release = Release { sequence, bundle: id, files, minimum_version, classes, health, made_s: now_s };
        let bytes = signed::sign(&release, &[&self.key]);
        self.put(&release_place(sequence), &bytes)?;
        let number = newest.map_or(0, |newest| newest.number);
        self.announce(
            &delegation,
            Newest {
                number,
                sequence,
                release: Digest::of(&bytes),
                share: share.min(ALL_BOARDS),
                at_s: now_s,
                expires_s: now_s.saturating_add(validity.0),
            },
        )?;
        Ok(release)
    }

    /// Says anew which release is the newest, for so many boards of 1,000; for as many as before if none are named.
    ///
    /// # Errors
    /// As [`Releases::publish`]; nothing was released.
    pub fn renew(&mut self, share: Option<u16>, validity: Validity, now_s: i64) -> Result<Newest, PublishError> {
        let delegation = self.delegation(now_s)?;
        let newest = self.newest()?.ok_or(PublishError::Nothing)?;
        let share = share.unwrap_or(newest.share).min(ALL_BOARDS);
        self.announce(&delegation, Newest { share, at_s: now_s, expires_s: now_s.saturating_add(validity.0), ..newest })
    }

    /// Puts where boards look what was only written down, and says anew which release is the newest if half of the time for
    /// which that holds has passed.
    ///
    /// # Errors
    /// As [`Releases::renew`], but that nothing was released is none.
    pub fn keep_fresh(&mut self, now_s: i64) -> Result<Option<Newest>, PublishError> {
        self.put_again()?;
        let Some(newest) = self.newest()? else { return Ok(None) };
        let time = newest.expires_s.saturating_sub(newest.at_s);
        if now_s.saturating_sub(newest.at_s) < time / 2 {
            return Ok(None);
        }
        self.renew(None, Validity(time), now_s).map(Some)
    }

    /// What boards say of releases, by the boards' keys.
    ///
    /// # Errors
    /// A place that is away. A report that is none is left out and logged.
    pub fn reports(&mut self, home: &Home) -> Result<Vec<HealthReport>, PublishError> {
        let mut reports = Vec::new();
        for device in home.devices()? {
            for (name, _) in self.objects.list(&format!("{}/health", device.name.place()))? {
                let Some(bytes) = self.objects.get(&name, HealthReport::MAX_BYTES)? else { continue };
                match signed::open::<HealthReport>(&bytes, &[device.key]) {
                    Ok(report) if report.device == device.name => reports.push(report),
                    Ok(_) => log::warn!(name; "a board's health report is another board's"),
                    Err(error) => log::warn!(name, error:% = error; "a board's health report is none"),
                }
            }
        }
        reports.sort_by_key(|report| (report.sequence, report.at_s));
        Ok(reports)
    }

    fn delegation(&self, now_s: i64) -> Result<Delegation, PublishError> {
        let key = self.key.public();
        let fault = || PublishError::NotDelegated { key: key.to_string() };
        let delegation = self.standing()?.delegation.ok_or_else(fault)?;
        if delegation.key != key {
            let (named, ours) = (delegation.key.fingerprint(), key.fingerprint());
            return Err(PublishError::AnotherKey { named, ours });
        }
        if now_s >= delegation.expires_s { Err(PublishError::Expired) } else { Ok(delegation) }
    }

    /// The newest word, here or where the boards look: a host that was brought back from a backup goes on from there.
    fn newest(&mut self) -> Result<Option<Newest>, PublishError> {
        let ours = opened::<Newest>(&self.folder, NEWEST, &[self.key.public()], 1)?;
        let there = self.objects.get(NEWEST, Newest::MAX_BYTES)?;
        let there = there.and_then(|bytes| signed::open::<Newest>(&bytes, &[self.key.public()]).ok());
        Ok(ours.into_iter().chain(there).max_by_key(|newest| newest.number))
    }

    /// The last release that was written down, announced or not.
    fn last_sequence(&self) -> Result<u64, PublishError> {
        let path = self.folder.join("releases");
        let listed = fs::read_dir(&path).map_err(|source| PublishError::System { path, source })?;
        let sequence = |name: std::ffi::OsString| name.to_str()?.strip_suffix(".json")?.parse::<u64>().ok();
        Ok(listed.filter_map(|entry| sequence(entry.ok()?.file_name())).max().unwrap_or(0))
    }

    fn announce(&mut self, by: &Delegation, newest: Newest) -> Result<Newest, PublishError> {
        // Nothing that this key says holds longer than the key does.
        let newest = Newest { number: newest.number + 1, expires_s: newest.expires_s.min(by.expires_s), ..newest };
        self.put(NEWEST, &signed::sign(&newest, &[&self.key]))?;
        Ok(newest)
    }

    /// Puts the last word where boards look, and what it needs before it, if it is not there: the place was away.
    fn put_again(&mut self) -> Result<(), PublishError> {
        let Some(ours) = read_known(&self.folder.join(NEWEST), Newest::MAX_BYTES)? else { return Ok(()) };
        let key = [self.key.public()];
        let Ok(newest) = signed::open::<Newest>(&ours, &key) else { return Ok(()) };
        let there = self.objects.get(NEWEST, Newest::MAX_BYTES)?;
        let number =
            there.as_ref().and_then(|bytes| signed::open::<Newest>(bytes, &key).ok()).map(|there| there.number);
        if there.as_ref() == Some(&ours) || number.is_some_and(|number| number > newest.number) {
            return Ok(());
        }
        for place in [DELEGATION.to_owned(), release_place(newest.sequence), NEWEST.to_owned()] {
            if let Some(bytes) = read_known(&self.folder.join(&place), Release::MAX_BYTES)? {
                self.objects.put(&place, &bytes)?;
            }
        }
        Ok(())
    }

    /// Writes down what was signed, and puts it where boards look.
    fn put(&mut self, place: &str, bytes: &[u8]) -> Result<(), PublishError> {
        let path = self.folder.join(place);
        let written = WholeFile::beside(&path).and_then(|mut file| {
            file.write_all(bytes)?;
            file.keep(Existing::Replace)
        });
        written.map_err(|source| PublishError::System { path, source })?;
        Ok(self.objects.put(place, bytes)?)
    }

    fn put_file(&mut self, path: &Path, facts: ReleasedFile) -> Result<(), PublishError> {
        let place = file_place(facts.sha256);
        if self.objects.length(&place)? == Some(facts.bytes) {
            return Ok(());
        }
        let bytes = fs::read(path).map_err(|source| PublishError::System { path: path.to_owned(), source })?;
        if Digest::of(&bytes) != facts.sha256 {
            return Err(PublishError::Damaged { path: path.to_owned() });
        }
        Ok(self.objects.put(&place, &bytes)?)
    }
}

/// How it stands with the releases of a host, wherever boards find them.
///
/// # Errors
/// A file that cannot be read.
pub fn standing_of(home: &Home) -> Result<Standing, PublishError> {
    standing(home.folder(), home::key(&home.folder().join(KEY))?.public())
}

fn standing(folder: &Path, key: PublicKey) -> Result<Standing, PublishError> {
    let root = believed(folder)?.map(|trust| trust.root().clone());
    let delegation = match &root {
        Some(root) => opened::<Delegation>(folder, DELEGATION, &root.keys, usize::from(root.threshold))?,
        None => None,
    };
    let newest = opened(folder, NEWEST, &[key], 1)?;
    Ok(Standing { key, root, delegation, newest })
}

/// A statement that was written down; nothing if none was.
fn opened<S: Statement>(
    folder: &Path,
    place: &str,
    keys: &[PublicKey],
    threshold: usize,
) -> Result<Option<S>, PublishError> {
    let path = folder.join(place);
    let Some(bytes) = read_known(&path, S::MAX_BYTES)? else { return Ok(None) };
    match signed::open_by_many(&bytes, keys, threshold) {
        // What an earlier root or a lost key has said counts no more.
        Err(SignedError::Signature { .. }) => Ok(None),
        opened => opened.map(Some).map_err(|source| PublishError::Signed { path, source }),
    }
}

impl Home {
    /// Whether another program is at the releases now.
    ///
    /// # Errors
    /// The folder.
    pub fn is_releasing(&self) -> Result<bool, HomeError> {
        match self.releases_lock() {
            Err(HomeError::Busy { .. }) => Ok(true),
            lock => lock.map(|_| false),
        }
    }

    /// Whose releases boards are to take: the last root that was adopted.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn root(&self) -> Result<Option<Root>, PublishError> {
        Ok(believed(self.folder())?.map(|trust| trust.root().clone()))
    }
}
