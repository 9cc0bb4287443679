//! One round: receipts that wait, shards that are missing, and the receipts for those.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use exchange::shard::PackError;
use exchange::{Digest, Grant, PackedShard, Packer, Receipt, Sent, Statement};
use objects::{Remote, RemoteError};
use serde::{Deserialize, Serialize};
use store::{Entry, Event, Filter, PairId, Reader, StoreError};

use crate::clock::{Clock, Waited};
use crate::ledger::{Ledger, LedgerError, Memory};
use crate::settling;

/// Pairs that are listed and read at once.
const PAGE: usize = 64;
/// From one question for receipts to the next, while they are waited for.
const ASK_AGAIN: Duration = Duration::from_secs(5);

/// What a round may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Most bytes that go out in a day, UTC.
    pub day_bytes: Option<u64>,
    /// How long failures are waited out before the round is given up.
    pub patience: Duration,
    /// How long receipts are waited for when all is sent.
    pub receipts: Duration,
}

/// How a round ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "state")]
pub enum State {
    /// Everything is at home.
    Idle,
    /// Everything is sent, and the host has not said yet that it is safe.
    Waiting {
        /// Shards without a receipt.
        shards: usize,
    },
    /// There is more to send.
    Sending {
        /// Pairs that have been sent.
        sent: u64,
        /// All that there are to send.
        of: u64,
    },
    /// The day's bytes are used up.
    OverQuota {
        /// Pairs that wait for tomorrow.
        waiting: u64,
    },
    /// There is no connection. Nothing is wrong.
    Offline {
        /// What was met with.
        reason: String,
    },
    /// The host, or the gate of a network, does not do what it should.
    Failing {
        /// What was met with.
        reason: String,
    },
    /// The host does not know this board any more.
    AuthNeeded {
        /// What it says.
        reason: String,
    },
    /// The host refuses what the board sends.
    Refused {
        /// What it says.
        reason: String,
    },
    /// The board's clock is wrong, and the host does not tell the time.
    ClockUnknown,
    /// Somebody stopped it.
    Stopped,
}

impl State {
    /// For programs.
    pub fn name(&self) -> &'static str {
        match self {
            State::Idle => "idle",
            State::Waiting { .. } => "waiting",
            State::Sending { .. } => "sending",
            State::OverQuota { .. } => "over-quota",
            State::Offline { .. } => "offline",
            State::Failing { .. } => "failing",
            State::AuthNeeded { .. } => "auth-needed",
            State::Refused { .. } => "refused",
            State::ClockUnknown => "clock-unknown",
            State::Stopped => "stopped",
        }
    }

    /// For people.
    pub fn words(&self) -> String {
        match self {
            State::Idle => "everything is at home".to_owned(),
            State::Waiting { shards } => format!("everything is sent; the host has yet to sign for {shards} shards"),
            State::Sending { sent, of } => format!("sending {sent} of {of} pairs"),
            State::OverQuota { waiting } => format!("today's bytes are used up; {waiting} pairs wait"),
            State::Offline { reason } => format!("offline: {reason}"),
            State::Failing { reason } => reason.clone(),
            State::AuthNeeded { reason } => format!("{reason}: enrol this board anew"),
            State::Refused { reason } => reason.clone(),
            State::ClockUnknown => RemoteError::Clock.to_string(),
            State::Stopped => "stopped".to_owned(),
        }
    }

    /// Whether somebody has to do something.
    pub fn needs_somebody(&self) -> bool {
        matches!(self, State::AuthNeeded { .. } | State::Refused { .. } | State::ClockUnknown)
    }
}

impl From<RemoteError> for State {
    fn from(error: RemoteError) -> State {
        match error {
            RemoteError::Offline(reason) => State::Offline { reason },
            RemoteError::Locked(_) => State::AuthNeeded { reason: error.to_string() },
            RemoteError::Refused(_) => State::Refused { reason: error.to_string() },
            RemoteError::Clock => State::ClockUnknown,
            RemoteError::Busy { .. } | RemoteError::Stranger(_) => State::Failing { reason: error.to_string() },
        }
    }
}

/// What a round did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Pairs and tombstones that went out.
    pub pairs: u64,
    /// Shards that went out.
    pub shards: u64,
    /// Bytes that went out, those that were cut off included.
    pub bytes: u64,
    /// Shards that were there already.
    pub were_there: u64,
    /// Receipts that came.
    pub receipts: u64,
    /// Receipts that were none: another signature, another board, no receipt at all.
    pub foreign: u64,
    /// Shards that the host had lost, whose pairs go out anew.
    pub lost: u64,
    /// Pairs that no shard takes.
    pub unfit: u64,
    /// Failures on the way.
    pub failures: u64,
}

/// The board's own disk does not let us go on.
#[derive(Debug, thiserror::Error)]
pub enum RoundError {
    /// The folder of what is under way.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The pairs.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What ends an attempt.
enum Stop {
    Remote(RemoteError),
    Disk(RoundError),
    Quota,
    Asked,
}

impl From<RemoteError> for Stop {
    fn from(error: RemoteError) -> Stop {
        Stop::Remote(error)
    }
}

impl From<LedgerError> for Stop {
    fn from(error: LedgerError) -> Stop {
        Stop::Disk(error.into())
    }
}

impl From<RoundError> for Stop {
    fn from(error: RoundError) -> Stop {
        Stop::Disk(error)
    }
}

impl From<StoreError> for Stop {
    fn from(error: StoreError) -> Stop {
        Stop::Disk(error.into())
    }
}

/// Everything that a round works with.
pub struct Round<'r> {
    /// To whom the board belongs.
    pub grant: &'r Grant,
    /// The pairs.
    pub reader: &'r Reader,
    /// What is under way.
    pub ledger: &'r Ledger,
    /// Where it goes.
    pub remote: &'r mut dyn Remote,
    /// Time.
    pub clock: &'r mut dyn Clock,
    /// A number from 0 to 1, another one each time.
    pub chance: &'r mut dyn FnMut() -> f64,
    /// Is told of receipts that have arrived, and tells the store if it can.
    pub settle: &'r mut dyn FnMut(),
    /// Is told how far it is.
    pub tell: &'r mut dyn FnMut(&State),
    /// What it may take.
    pub limits: Limits,
}

impl Round<'_> {
    /// Sends all that is not at home, and fetches receipts; waits failures out as long as its patience lasts.
    ///
    /// # Errors
    /// A disk of the board's own that cannot be read or written.
    pub fn run(&mut self) -> Result<(State, Report), RoundError> {
        let began = self.clock.now().since_boot;
        let mut memory = self.ledger.memory();
        let mut report = Report::default();
        let state = loop {
            let end = self.attempt(&mut memory, &mut report);
            memory.ahead_s = self.remote.ahead_s().or(memory.ahead_s);
            let error = match end {
                Ok(state) => {
                    memory.backoff.succeed();
                    break state;
                }
                Err(Stop::Quota) => {
                    memory.backoff.succeed();
                    break State::OverQuota { waiting: self.missing()? };
                }
                Err(Stop::Asked) => break State::Stopped,
                Err(Stop::Disk(error)) => return Err(error),
                Err(Stop::Remote(error)) => error,
            };
            report.failures += 1;
            let asked = if let RemoteError::Busy { after, .. } = &error { *after } else { None };
            let now = self.clock.now();
            let wait = memory.backoff.fail(&now, asked, (self.chance)());
            let state = State::from(error);
            let left = (began + self.limits.patience).saturating_sub(now.since_boot);
            // Nobody has changed anything a second later.
            if state.needs_somebody() || wait > left {
                break state;
            }
            self.note(&mut memory, &state)?;
            (self.tell)(&state);
            if self.clock.wait(wait) == Waited::Stop {
                break State::Stopped;
            }
        };
        self.note(&mut memory, &state)?;
        Ok((state, report))
    }

    fn note(&self, memory: &mut Memory, state: &State) -> Result<(), LedgerError> {
        state.name().clone_into(&mut memory.state);
        memory.words = state.words();
        memory.at_s = self.wall_s(memory);
        if matches!(state, State::Idle | State::Waiting { .. } | State::OverQuota { .. }) {
            memory.well_at_s = Some(memory.at_s);
        }
        self.ledger.remember(memory)
    }

    /// What time it is, by the host's clock if it is known.
    fn wall_s(&self, memory: &Memory) -> i64 {
        self.clock.now().wall_s.saturating_add(self.remote.ahead_s().or(memory.ahead_s).unwrap_or(0))
    }

    fn attempt(&mut self, memory: &mut Memory, report: &mut Report) -> Result<State, Stop> {
        self.fetch_receipts(report)?;
        let mut began = self.clock.now().since_boot;
        loop {
            let before = (report.pairs, report.receipts, report.lost);
            self.send_all(memory, report)?;
            self.fetch_receipts(report)?;
            let shards = self.without_receipt()?.len();
            // A pair that was labelled meanwhile goes out once more, and what the host has lost.
            if before != (report.pairs, report.receipts, report.lost) {
                began = self.clock.now().since_boot;
                continue;
            }
            if shards == 0 {
                return Ok(State::Idle);
            }
            if self.clock.now().since_boot.saturating_sub(began) >= self.limits.receipts {
                return Ok(State::Waiting { shards });
            }
            (self.tell)(&State::Waiting { shards });
            if self.clock.wait(ASK_AGAIN) == Waited::Stop {
                return Err(Stop::Asked);
            }
        }
    }

    /// Shards for which no receipt is here, not even one that the store has yet to be told of.
    fn without_receipt(&self) -> Result<Vec<Digest>, LedgerError> {
        let sent = self.ledger.sent()?;
        let arrived = self.ledger.arrivals()?;
        Ok(sent.into_iter().map(|(shard, _)| shard).filter(|shard| arrived.binary_search(shard).is_err()).collect())
    }

    fn fetch_receipts(&mut self, report: &mut Report) -> Result<(), Stop> {
        for shard in self.without_receipt()? {
            if self.fetch_receipt(shard, report)? {
                continue;
            }
            // A host writes the receipt before it takes the shard away: if both are not there, in this order and once
            // more, the shard was lost, or has never arrived.
            if self.remote.length(&self.grant.device.shard(shard))?.is_none() && !self.fetch_receipt(shard, report)? {
                self.ledger.forget_sent(shard)?;
                report.lost += 1;
            }
        }
        if !self.ledger.arrivals()?.is_empty() {
            (self.settle)();
        }
        Ok(())
    }

    fn fetch_receipt(&mut self, shard: Digest, report: &mut Report) -> Result<bool, Stop> {
        let Some(bytes) = self.remote.get(&self.grant.device.receipt(shard), Receipt::MAX_BYTES)? else {
            return Ok(false);
        };
        if settling::read(&bytes, shard, self.grant).is_none() {
            report.foreign += 1;
            let reason = "a receipt that this board's host did not sign".to_owned();
            return Err(RemoteError::Stranger(reason).into());
        }
        self.ledger.note_arrived(shard, &bytes)?;
        report.receipts += 1;
        Ok(true)
    }

    fn send_all(&mut self, memory: &mut Memory, report: &mut Report) -> Result<(), Stop> {
        let mut queue = Queue::new(self.reader, self.ledger)?;
        let of = report.pairs + self.missing()?;
        while let Some(shard) = queue.next(report)? {
            (self.tell)(&State::Sending { sent: report.pairs, of });
            self.send(&shard, memory, report)?;
            report.pairs += shard.sent.len() as u64;
            // A wait of no time asks whether to go on.
            if self.clock.wait(Duration::ZERO) == Waited::Stop {
                return Err(Stop::Asked);
            }
        }
        Ok(())
    }

    fn send(&mut self, shard: &PackedShard, memory: &mut Memory, report: &mut Report) -> Result<(), Stop> {
        let name = self.grant.device.shard(shard.digest);
        let bytes = shard.bytes.len() as u64;
        if memory.quota.left(self.limits.day_bytes, self.wall_s(memory)).is_some_and(|left| left < bytes) {
            return Err(Stop::Quota);
        }
        self.ledger.note_sent(shard.digest, &shard.sent)?;
        if self.remote.length(&name)? == Some(bytes) {
            report.were_there += 1;
            return Ok(());
        }
        // Counted before it goes: what is cut off has gone too.
        memory.quota.count(bytes, self.wall_s(memory));
        self.ledger.remember(memory)?;
        report.bytes += bytes;
        self.remote.put(&name, &shard.bytes)?;
        match self.remote.length(&name)? {
            Some(length) if length == bytes => {}
            // The host may have taken it away already, or somebody who has no shard said that all is well.
            found => {
                if !self.fetch_receipt(shard.digest, report)? {
                    let found = found.map_or("nothing".to_owned(), |length| format!("{length} bytes"));
                    let reason = format!("a shard of {bytes} bytes was sent, and {found} is there");
                    return Err(RemoteError::Stranger(reason).into());
                }
            }
        }
        report.shards += 1;
        Ok(())
    }

    /// Pairs that are not at home and not on their way, as far as can be told without reading them.
    fn missing(&self) -> Result<u64, RoundError> {
        let refused = self.ledger.refused()?.into_iter().map(|refusal| refusal.sent);
        let known: HashSet<PairId> = self.ledger.under_way()?.into_iter().chain(refused).map(|sent| sent.id).collect();
        let mut count = 0;
        let mut since = None;
        loop {
            let page = self.reader.list(Filter { since, unsynced: true, limit: 4096, ..Filter::default() })?;
            let Some(last) = page.last() else { return Ok(count) };
            since = Some(last.id);
            count += page.iter().filter(|entry| travels(entry) && !known.contains(&entry.id)).count() as u64;
        }
    }
}

/// Whether a pair goes home: with its picture, and with something to say about it.
fn travels(entry: &Entry) -> bool {
    entry.facts.as_ref().is_some_and(|facts| facts.has_picture() && (!facts.texts.is_empty() || entry.has_human_text))
}

/// Pairs that are to be sent, in their order; tombstones first.
struct Queue<'q> {
    reader: &'q Reader,
    /// By pair, the labels that it was sent with; nothing for one that has no receipt yet.
    known: HashMap<PairId, Option<Vec<Sent>>>,
    tombstones: Vec<Event>,
    since: Option<PairId>,
    /// Read from the disk, and not in a shard yet.
    waiting: Vec<store::Original>,
}

impl<'q> Queue<'q> {
    fn new(reader: &'q Reader, ledger: &Ledger) -> Result<Queue<'q>, Stop> {
        // What is under way is read before what is not at home: a receipt that the store is told of in between leaves a
        // pair in the first, not in neither.
        let under_way = ledger.under_way()?;
        let refused: Vec<Sent> = ledger.refused()?.into_iter().map(|refusal| refusal.sent).collect();
        let is_tombstone = |sent: &&Sent| sent.sha256.is_none();
        let told: HashSet<PairId> = under_way.iter().chain(&refused).filter(is_tombstone).map(|sent| sent.id).collect();
        let mut tombstones = reader.tombstones()?;
        tombstones.retain(|event| !told.contains(&event.pair));
        tombstones.reverse();
        let mut known: HashMap<PairId, Option<Vec<Sent>>> = HashMap::new();
        for sent in refused {
            if let Some(all) = known.entry(sent.id).or_insert_with(|| Some(Vec::new())) {
                all.push(sent);
            }
        }
        known.extend(under_way.into_iter().map(|sent| (sent.id, None)));
        Ok(Queue { reader, known, tombstones, since: None, waiting: Vec::new() })
    }

    fn next(&mut self, report: &mut Report) -> Result<Option<PackedShard>, Stop> {
        let mut packer = Packer::new();
        while let Some(event) = self.tombstones.last() {
            if packer.add_tombstone(event).is_err() {
                return Ok(packer.finish());
            }
            self.tombstones.pop();
        }
        loop {
            if self.waiting.is_empty() && !self.read_page()? {
                return Ok(packer.finish());
            }
            while let Some(original) = self.waiting.last() {
                match packer.add(original) {
                    Ok(()) => {}
                    Err(PackError::Full) => return Ok(packer.finish()),
                    Err(error) => {
                        report.unfit += 1;
                        log::warn!(pair:% = original.id, error:% = error; "a pair cannot be sent");
                    }
                }
                self.waiting.pop();
            }
        }
    }

    /// Reads the next pairs that are to be sent; whether there may be more.
    fn read_page(&mut self) -> Result<bool, StoreError> {
        let filter = Filter { since: self.since, unsynced: true, limit: PAGE, ..Filter::default() };
        let page = self.reader.list(filter)?;
        let Some(last) = page.last() else { return Ok(false) };
        self.since = Some(last.id);
        let is_open = |entry: &&Entry| travels(entry) && !matches!(self.known.get(&entry.id), Some(None));
        let ids: Vec<PairId> = page.iter().filter(is_open).map(|entry| entry.id).collect();
        let mut originals = self.reader.originals(&ids)?;
        // A pair that was refused goes out again when somebody has said something about it.
        originals.retain(|original| {
            let same = |sent: &Sent| {
                sent.sha256 == Some(Digest::from(original.sha256)) && sent.labels == original.labels.len()
            };
            !matches!(self.known.get(&original.id), Some(Some(all)) if all.iter().any(same))
        });
        originals.reverse();
        self.waiting = originals;
        Ok(true)
    }
}
