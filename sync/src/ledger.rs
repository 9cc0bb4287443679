//! What is under way, on the disk.
//!
//! ```text
//! sent/SHA256.json      the pairs of a shard that was sent, or is being sent, and has no receipt yet
//! arrived/SHA256.json   a receipt that the store has not been told yet
//! refused/SHA256.json   pairs of a shard that the host will not have, with the reasons
//! state.json            backoff, today's bytes, how the last round ended
//! ```
//!
//! Nothing here is needed for the safety of a pair: without this folder all that has no receipt is sent again, which the
//! host notices. Each file is whole or not there, and is written before what it speaks of happens.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use blip::caption::Caption;
use dataset::disk::{WRITING_MARKS, make_folder, write_whole};
use exchange::{Digest, Sent};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::backoff::Backoff;
use crate::quota::Quota;

/// Most bytes of one of the files.
const MAX_FILE_BYTES: u64 = 32 << 20;
const STATE: &str = "state.json";

/// The folder cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{}: {source}: see that there is room, and that it may be written", path.display())]
pub struct LedgerError {
    /// The file or folder.
    pub path: PathBuf,
    /// Why.
    pub source: io::Error,
}

/// A pair that the host will not have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// The pair, as it was sent.
    #[serde(flatten)]
    pub sent: Sent,
    /// What the host says.
    pub reason: Caption,
}

/// What is kept from one run to the next.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Memory {
    /// How long the network is left alone.
    pub backoff: Backoff,
    /// Today's bytes.
    pub quota: Quota,
    /// How the last round ended, in words for programs.
    pub state: String,
    /// How it ended, for people.
    pub words: String,
    /// When it ended, seconds since 1970 as well as was known.
    pub at_s: i64,
    /// When all went well last.
    pub well_at_s: Option<i64>,
    /// Seconds that the host's clock is ahead of the board's.
    pub ahead_s: Option<i64>,
}

#[derive(Clone, Copy)]
enum Shelf {
    Sent,
    Arrived,
    Refused,
}

impl Shelf {
    const ALL: [Shelf; 3] = [Shelf::Sent, Shelf::Arrived, Shelf::Refused];

    fn name(self) -> &'static str {
        match self {
            Shelf::Sent => "sent",
            Shelf::Arrived => "arrived",
            Shelf::Refused => "refused",
        }
    }
}

/// The folder.
#[derive(Clone, Debug)]
pub struct Ledger {
    folder: PathBuf,
}

impl Ledger {
    /// In a folder, for looking; nothing is made.
    pub fn at(folder: &Path) -> Ledger {
        Ledger { folder: folder.to_owned() }
    }

    /// Makes the folder if it is not there, and removes what a power cut left half made.
    ///
    /// # Errors
    /// A folder that cannot be written.
    pub fn open(folder: &Path) -> Result<Ledger, LedgerError> {
        let ledger = Ledger::at(folder);
        for shelf in Shelf::ALL {
            let place = folder.join(shelf.name());
            make_folder(&place).map_err(|source| LedgerError { path: place.clone(), source })?;
            for name in ledger.names(shelf)? {
                if WRITING_MARKS.iter().any(|mark| name.starts_with(mark)) {
                    ledger.remove_file(&place.join(name))?;
                }
            }
        }
        Ok(ledger)
    }

    /// What the last run left. A file that cannot be read is none: the network is tried at once, which is no harm.
    pub fn memory(&self) -> Memory {
        self.read(&self.folder.join(STATE)).ok().flatten().unwrap_or_default()
    }

    /// Keeps it for the next.
    ///
    /// # Errors
    /// A folder that cannot be written.
    pub fn remember(&self, memory: &Memory) -> Result<(), LedgerError> {
        self.write(&self.folder.join(STATE), memory)
    }

    /// Shards without a receipt, each with its pairs; one whose file cannot be read has none.
    ///
    /// # Errors
    /// A folder that cannot be read.
    pub fn sent(&self) -> Result<Vec<(Digest, Vec<Sent>)>, LedgerError> {
        self.all(Shelf::Sent)
    }

    /// A shard is about to be sent.
    ///
    /// # Errors
    /// A folder that cannot be written.
    pub fn note_sent(&self, shard: Digest, pairs: &[Sent]) -> Result<(), LedgerError> {
        self.write(&self.place(Shelf::Sent, shard), &pairs)
    }

    /// A shard has its receipt, or is lost: its pairs are as if they had not been sent.
    ///
    /// # Errors
    /// A folder that cannot be written.
    pub fn forget_sent(&self, shard: Digest) -> Result<(), LedgerError> {
        self.remove_file(&self.place(Shelf::Sent, shard))
    }

    /// Receipts that the store has not been told, as they came.
    ///
    /// # Errors
    /// A folder that cannot be read.
    pub fn arrived(&self) -> Result<Vec<(Digest, Vec<u8>)>, LedgerError> {
        let mut all = Vec::new();
        for shard in self.shards(Shelf::Arrived)? {
            let path = self.place(Shelf::Arrived, shard);
            match fs::read(&path) {
                Ok(bytes) => all.push((shard, bytes)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(source) => return Err(LedgerError { path, source }),
            }
        }
        Ok(all)
    }

    /// Shards whose receipts wait for the store.
    ///
    /// # Errors
    /// A folder that cannot be read.
    pub fn arrivals(&self) -> Result<Vec<Digest>, LedgerError> {
        self.shards(Shelf::Arrived)
    }

    /// A receipt is here.
    ///
    /// # Errors
    /// A folder that cannot be written.
    pub fn note_arrived(&self, shard: Digest, receipt: &[u8]) -> Result<(), LedgerError> {
        let path = self.place(Shelf::Arrived, shard);
        write_whole(&path, |out| out.write_all(receipt)).map_err(|source| LedgerError { path, source })
    }

    /// The store has been told.
    ///
    /// # Errors
    /// A folder that cannot be written.
    pub fn forget_arrived(&self, shard: Digest) -> Result<(), LedgerError> {
        self.remove_file(&self.place(Shelf::Arrived, shard))
    }

    /// Pairs that the host will not have.
    ///
    /// # Errors
    /// A folder that cannot be read.
    pub fn refused(&self) -> Result<Vec<Refusal>, LedgerError> {
        Ok(self.all::<Vec<Refusal>>(Shelf::Refused)?.into_iter().flat_map(|(_, refusals)| refusals).collect())
    }

    /// The host will not have these.
    ///
    /// # Errors
    /// A folder that cannot be written.
    pub fn note_refused(&self, shard: Digest, refusals: &[Refusal]) -> Result<(), LedgerError> {
        self.write(&self.place(Shelf::Refused, shard), &refusals)
    }

    /// Pairs and tombstones that are on their way.
    ///
    /// # Errors
    /// A folder that cannot be read.
    pub fn under_way(&self) -> Result<Vec<Sent>, LedgerError> {
        Ok(self.sent()?.into_iter().flat_map(|(_, pairs)| pairs).collect())
    }

    fn all<T: DeserializeOwned + Default>(&self, shelf: Shelf) -> Result<Vec<(Digest, T)>, LedgerError> {
        let mut all = Vec::new();
        for shard in self.shards(shelf)? {
            if let Some(value) = self.read(&self.place(shelf, shard))? {
                all.push((shard, value));
            }
        }
        Ok(all)
    }

    /// A file's value; its default where what stands in it is damaged; nothing if another process has removed it.
    fn read<T: DeserializeOwned + Default>(&self, path: &Path) -> Result<Option<T>, LedgerError> {
        let fault = |source| LedgerError { path: path.to_owned(), source };
        let length = match fs::metadata(path) {
            Ok(file) => file.len(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(fault(error)),
        };
        if length > MAX_FILE_BYTES {
            return Ok(Some(T::default()));
        }
        match fs::read(path) {
            Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes).unwrap_or_default())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(fault(error)),
        }
    }

    fn write(&self, path: &Path, value: &impl Serialize) -> Result<(), LedgerError> {
        let bytes = serde_json::to_vec(value).expect("plain values");
        let written = write_whole(path, |out| out.write_all(&bytes));
        written.map_err(|source| LedgerError { path: path.to_owned(), source })
    }

    fn place(&self, shelf: Shelf, shard: Digest) -> PathBuf {
        self.folder.join(shelf.name()).join(format!("{shard}.json"))
    }

    /// In the order of the digests, so that a round does not depend on the file system.
    fn shards(&self, shelf: Shelf) -> Result<Vec<Digest>, LedgerError> {
        let names = self.names(shelf)?;
        let mut shards: Vec<Digest> =
            names.iter().filter_map(|name| name.strip_suffix(".json")?.parse().ok()).collect();
        shards.sort_unstable();
        Ok(shards)
    }

    fn names(&self, shelf: Shelf) -> Result<Vec<String>, LedgerError> {
        let path = self.folder.join(shelf.name());
        let listed = match fs::read_dir(&path) {
            Ok(listed) => listed,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(source) => return Err(LedgerError { path, source }),
        };
        let names: io::Result<Vec<_>> =
            listed.map(|entry| Ok(entry?.file_name().into_string().unwrap_or_default())).collect();
        names.map_err(|source| LedgerError { path, source })
    }

    fn remove_file(&self, path: &Path) -> Result<(), LedgerError> {
        match fs::remove_file(path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                Err(LedgerError { path: path.to_owned(), source })
            }
            _ => Ok(()),
        }
    }
}
