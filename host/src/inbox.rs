//! Shards in, receipts out. Run any number of times, stopped anywhere: what was not finished is done again, and nothing twice.
//!
//! For each shard, in this order: it is read and checked, its pictures are decoded by a child, it is put on the shelf,
//! pairs and receipt are written down in one transaction, the receipt is put where the board finds it, and only then is the
//! shard taken away.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;

use blip::caption::Caption;
use dataset::disk::write_whole;
use exchange::device::shard_of;
use exchange::receipt::{Line, Verdict};
use exchange::shard::{self, MAX_SHARD_BYTES, ShardError};
use exchange::{DeviceName, Digest, Item, Receipt, ReceivedPair, Sent, signed};
use objects::{Objects, Remote, RemoteError};
use serde::Serialize;
use store::Event;

use crate::book::{self, BookError};
use crate::decoder::Decoder;
use crate::devices::{Device, Standing};
use crate::home::{Home, HomeError, Lock};
use crate::now_s;
use crate::versions;

/// Why shards are not taken in.
#[derive(Debug, thiserror::Error)]
pub enum InboxError {
    /// The folder.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// The database.
    #[error(transparent)]
    Book(#[from] BookError),
    /// The place where boards put shards.
    #[error("the place of the shards: {0}")]
    Remote(#[from] RemoteError),
    /// A file of the host's.
    #[error("{}: {source}: see that there is room; the shards lie where they are", path.display())]
    System {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// No child can be started.
    #[error("pictures cannot be decoded: {0}")]
    Decoder(io::Error),
}

/// What a run did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Shards that got a receipt.
    pub shards: u64,
    /// Pairs that are new.
    pub pairs: u64,
    /// Pairs that were here already, or came again with labels.
    pub again: u64,
    /// Pairs that were refused.
    pub refused: u64,
    /// Pairs that were removed because a board said so.
    pub forgotten: u64,
    /// Files that were cut or changed on their way. The boards send them again.
    pub broken: u64,
    /// Files that no board writes, set aside.
    pub quarantined: u64,
    /// Shards of boards that are not let in, left where they lie, by board.
    pub unknown: BTreeMap<String, u64>,
}

/// The right to take shards in.
pub struct Inbox<'i> {
    home: &'i mut Home,
    objects: &'i mut Objects,
    decoder: &'i mut Decoder,
    /// Held as long as this is.
    _lock: Lock,
}

impl<'i> Inbox<'i> {
    /// Takes the right.
    ///
    /// # Errors
    /// Another program has it.
    pub fn open(
        home: &'i mut Home,
        objects: &'i mut Objects,
        decoder: &'i mut Decoder,
    ) -> Result<Inbox<'i>, HomeError> {
        let lock = home.lock()?;
        Ok(Inbox { home, objects, decoder, _lock: lock })
    }

    /// Takes in every shard that lies there; `tell` is told of each, with how many there are.
    ///
    /// # Errors
    /// See [`InboxError`]. What was taken in before stays so.
    pub fn run(&mut self, mut tell: impl FnMut(usize, usize)) -> Result<Summary, InboxError> {
        let mut summary = Summary::default();
        let known: BTreeMap<String, Device> =
            self.home.devices()?.into_iter().map(|device| (device.name.as_str().to_owned(), device)).collect();
        let mut shards: Vec<(String, Digest, u64)> = Vec::new();
        for board in self.objects.folders("devices")? {
            for (name, length) in self.objects.list(&format!("devices/{board}/shards"))? {
                let shard = place_of(&name).filter(|(of, _)| *of == board);
                shards.extend(shard.map(|(_, digest)| (board.clone(), digest, length)));
            }
        }
        for (number, (board, digest, length)) in shards.iter().enumerate() {
            tell(number, shards.len());
            match known.get(board).filter(|device| device.standing == Standing::Active) {
                Some(device) => self.take(&device.name, *digest, *length, &mut summary)?,
                None => *summary.unknown.entry(board.clone()).or_default() += 1,
            }
        }
        tell(shards.len(), shards.len());
        // A version with a pair that its board forgot goes with it.
        versions::remove_withdrawn(self.home)?;
        Ok(summary)
    }

    fn take(
        &mut self,
        device: &DeviceName,
        digest: Digest,
        length: u64,
        summary: &mut Summary,
    ) -> Result<(), InboxError> {
        let name = device.shard(digest);
        if let Some(receipt) = self.home.book.receipt(digest, device)? {
            return self.answer(device, digest, &receipt);
        }
        if length > MAX_SHARD_BYTES as u64 {
            summary.broken += 1;
            return Ok(self.objects.remove(&name)?);
        }
        // It may have been taken away meanwhile.
        let Some(bytes) = self.objects.get(&name, MAX_SHARD_BYTES)? else { return Ok(()) };
        let receipt = match shard::read(digest, &bytes) {
            Ok(items) => self.enter(device, digest, &bytes, items, summary)?,
            Err(ShardError::Digest | ShardError::TooLong { .. }) => {
                summary.broken += 1;
                return Ok(self.objects.remove(&name)?);
            }
            Err(error) => self.set_aside(device, digest, &bytes, &error, summary)?,
        };
        summary.shards += 1;
        self.answer(device, digest, &receipt)
    }

    /// Writes a shard's pairs down with their receipt.
    fn enter(
        &mut self,
        device: &DeviceName,
        digest: Digest,
        bytes: &[u8],
        items: Vec<Item>,
        summary: &mut Summary,
    ) -> Result<Vec<u8>, InboxError> {
        let mut lines = Vec::new();
        let mut pairs: Vec<ReceivedPair> = Vec::new();
        let mut tombstones: Vec<Event> = Vec::new();
        let mut new = BTreeSet::new();
        for item in items {
            let (sent, reason) = match item {
                Item::Forgotten(event) => {
                    let sent = Sent { id: event.pair, sha256: None, labels: 0 };
                    tombstones.push(event);
                    summary.forgotten += 1;
                    (Some(sent), None)
                }
                Item::Refused { sent, fault } => (sent, Some(fault.to_string())),
                Item::Pair(pair) => {
                    let sent = pair.sent();
                    let fault = self.judge(device, *pair, &mut pairs, &mut new, summary)?;
                    (Some(sent), fault)
                }
            };
            summary.refused += u64::from(reason.is_some());
            let verdict = reason.map_or(Verdict::Safe, |reason| Verdict::Refused(Caption::cut(&reason)));
            lines.extend(sent.map(|sent| Line { sent, verdict }));
        }
        let shelf = self.home.shelf();
        let fault = |shard| {
            let path = shelf.path(shard);
            move |source| InboxError::System { path, source }
        };
        if !new.is_empty() {
            // What is not written down as lying here does not lie here: nobody would find it to remove it.
            let kept = shard::with_only(bytes, &new).map_err(io::Error::other).map_err(fault(digest))?;
            shelf.keep(digest, &kept).map_err(fault(digest))?;
        }
        for tombstone in &tombstones {
            for (pair, shard) in self.home.book.named(device, tombstone.boot_id.as_str(), tombstone.pair)? {
                shelf.erase(shard, pair).map_err(fault(shard))?;
            }
        }
        let receipt = Receipt { device: device.clone(), shard: digest, lines, refused: None };
        let receipt = signed::sign(&receipt, &[self.home.secret()]);
        let at_s = now_s();
        self.home.book.together(|transaction| {
            for pair in &pairs {
                book::insert_pair(transaction, device, digest, pair, at_s)?;
            }
            for tombstone in &tombstones {
                book::heed(transaction, device, tombstone, at_s)?;
            }
            book::insert_receipt(transaction, device, digest, &receipt, at_s)
        })?;
        Ok(receipt)
    }

    /// What is wrong with a pair; one that is right is to be written down.
    fn judge(
        &mut self,
        device: &DeviceName,
        received: ReceivedPair,
        pairs: &mut Vec<ReceivedPair>,
        new: &mut BTreeSet<Digest>,
        summary: &mut Summary,
    ) -> Result<Option<String>, InboxError> {
        let pair = &received.pair;
        // A tombstone may have overtaken it.
        let is_gone = self.home.book.is_forgotten(device, pair.facts.boot_id.as_str(), pair.facts.id)?;
        // The operator's deletion is of this very pair, whichever board sends it.
        if is_gone || self.home.book.is_erased(Digest::from(pair.sha256))? {
            return Ok(None);
        }
        if self.home.book.has(Digest::from(pair.sha256))? {
            summary.again += 1;
            pairs.push(received);
            return Ok(None);
        }
        if let Some(jpeg) = &pair.jpeg
            && let Some(fault) = self.decoder.check(jpeg).map_err(InboxError::Decoder)?
        {
            return Ok(Some(format!("its picture {fault}")));
        }
        new.insert(Digest::from(pair.sha256));
        summary.pairs += 1;
        pairs.push(received);
        Ok(None)
    }

    fn set_aside(
        &mut self,
        device: &DeviceName,
        digest: Digest,
        bytes: &[u8],
        error: &ShardError,
        summary: &mut Summary,
    ) -> Result<Vec<u8>, InboxError> {
        let path = self.home.quarantine().join(format!("{device}-{digest}.tar"));
        write_whole(&path, |out| out.write_all(bytes)).map_err(|source| InboxError::System { path, source })?;
        log::warn!(device:% = device, shard:% = digest, error:% = error; "a file that no board writes is set aside");
        summary.quarantined += 1;
        let refused = Some(Caption::cut(&error.to_string()));
        let receipt = Receipt { device: device.clone(), shard: digest, lines: Vec::new(), refused };
        let receipt = signed::sign(&receipt, &[self.home.secret()]);
        self.home.book.together(|transaction| book::insert_receipt(transaction, device, digest, &receipt, now_s()))?;
        Ok(receipt)
    }

    /// The receipt goes where the board looks for it, and then the shard goes away: never neither.
    fn answer(&mut self, device: &DeviceName, digest: Digest, receipt: &[u8]) -> Result<(), InboxError> {
        self.objects.put(&device.receipt(digest), receipt)?;
        Ok(self.objects.remove(&device.shard(digest))?)
    }
}

/// The board and the shard of a name; nothing for what is no shard.
fn place_of(name: &str) -> Option<(&str, Digest)> {
    let (board, file) = name.strip_prefix("devices/")?.split_once("/shards/")?;
    Some((board, shard_of(file)?)).filter(|_| !board.contains('/') && !file.contains('/'))
}
