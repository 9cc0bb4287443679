//! Boards, a network and a host in one process, with everything going wrong by chance: cut, stalled, repeated, changed
//! and lost messages, gates that answer in the host's place, boards that stop anywhere, labels and removals meanwhile.
//!
//! `EDGEBLIP_LONG=1` runs 10,000 seeds instead of 60.

#![allow(clippy::unwrap_used, reason = "what helps a test may fail as the test does")]

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use blip::caption::{Caption, Origin};
use exchange::receipt::{Line, Verdict};
use exchange::shard::{self, Item};
use exchange::{DeviceName, Digest, Grant, Receipt, SecretKey, signed};
use objects::{Remote, RemoteError};
use store::event::LabelAction;
use store::{Decision, Label, Pair, PairId, Sensor, Stamp, Store, StoreError, Text};
use sync::settling::settle;
use sync::{Clock, Ledger, Limits, Moment, Round, State, Waited};

/// Numbers by chance, always the same for a seed. Source: S. Vigna, SplitMix64.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, most: u64) -> u64 {
        self.next() % most
    }

    fn is(&mut self, one_in: u64) -> bool {
        self.below(one_in) == 0
    }
}

fn caption(text: &str) -> Caption {
    Caption::new(text).unwrap()
}

/// The host: what lies in its folder, and what it has taken from there.
struct Host {
    key: SecretKey,
    device: DeviceName,
    objects: BTreeMap<String, Vec<u8>>,
    /// By hash, the name and the labels.
    pairs: BTreeMap<Digest, (PairId, Vec<Label>)>,
    /// How often a pair was new to it.
    arrivals: BTreeMap<Digest, u32>,
    forgotten: BTreeSet<PairId>,
}

impl Host {
    /// Takes the shards that lie there. Stopped at any place, it goes on from the beginning.
    fn inbox(&mut self, chance: &mut Chance) {
        let names: Vec<String> = self.objects.keys().filter(|name| name.ends_with(".tar")).cloned().collect();
        for name in names {
            let file = name.rsplit('/').next().unwrap();
            let digest = exchange::device::shard_of(file).unwrap();
            let bytes = self.objects[&name].clone();
            let items = match shard::read(digest, &bytes) {
                Ok(items) => items,
                // Cut or changed on its way: the board sends it again.
                Err(_) => {
                    self.objects.remove(&name);
                    continue;
                }
            };
            let mut lines = Vec::new();
            for item in items {
                let (sent, verdict) = match item {
                    Item::Pair(pair) => {
                        let sent = pair.sent();
                        let hash = sent.sha256.unwrap();
                        if pair.pair.facts.texts[0].words.as_str().contains("unwanted") {
                            (sent, Verdict::Refused(caption("unwanted")))
                        } else if self.forgotten.contains(&sent.id) {
                            // It was overtaken by its tombstone.
                            (sent, Verdict::Safe)
                        } else {
                            if !self.pairs.contains_key(&hash) {
                                *self.arrivals.entry(hash).or_default() += 1;
                            }
                            let labels = pair.pair.labels.clone();
                            let known = self.pairs.entry(hash).or_insert((sent.id, Vec::new()));
                            if known.1.len() < labels.len() {
                                known.1 = labels;
                            }
                            (sent, Verdict::Safe)
                        }
                    }
                    Item::Forgotten(event) => {
                        self.pairs.retain(|_, (id, _)| *id != event.pair);
                        self.forgotten.insert(event.pair);
                        (exchange::Sent { id: event.pair, sha256: None, labels: 0 }, Verdict::Safe)
                    }
                    Item::Refused { fault, .. } => panic!("{fault}"),
                };
                lines.push(Line { sent, verdict });
            }
            // A host that is stopped here takes the shard once more.
            if chance.is(10) {
                return;
            }
            let receipt = Receipt { device: self.device.clone(), shard: digest, lines, refused: None };
            let receipt = signed::sign(&receipt, &[&self.key]);
            self.objects.insert(self.device.receipt(digest), receipt);
            if chance.is(10) {
                return;
            }
            self.objects.remove(&name);
        }
    }
}

/// The network between them, and its faults.
struct Network {
    host: Rc<RefCell<Host>>,
    chance: Rc<RefCell<Chance>>,
    /// One request in so many goes wrong; nothing does at 0.
    faults: u64,
    /// The board stops at this request.
    stop_at: Option<u64>,
    asked: u64,
}

#[derive(Clone, Copy)]
enum Answer {
    /// As it should be.
    Right,
    /// Nobody answers, and nothing has happened.
    Nobody,
    /// It has happened, and nobody says so.
    Lost,
    /// Somebody else answers that all is well.
    Gate,
    /// It has happened with other bytes.
    Changed,
    /// It has happened in part.
    Cut,
    /// The host is busy.
    Busy,
}

impl Network {
    fn answer(&mut self) -> Answer {
        self.asked += 1;
        if self.stop_at.is_some_and(|stop| stop <= self.asked) {
            return Answer::Nobody;
        }
        let mut chance = self.chance.borrow_mut();
        if self.faults == 0 || !chance.is(self.faults) {
            return Answer::Right;
        }
        let wrong = [Answer::Nobody, Answer::Lost, Answer::Gate, Answer::Changed, Answer::Cut, Answer::Busy];
        wrong[chance.below(wrong.len() as u64) as usize]
    }

    fn fails(answer: Answer) -> Result<Answer, RemoteError> {
        match answer {
            Answer::Nobody => Err(RemoteError::Offline("no route to host".to_owned())),
            Answer::Busy => Err(RemoteError::Busy { reason: "503".to_owned(), after: Some(Duration::from_secs(7)) }),
            answer => Ok(answer),
        }
    }

    /// Now and then the host looks into its folder.
    fn host_works(&mut self) {
        let mut chance = self.chance.borrow_mut();
        if chance.is(4) {
            self.host.borrow_mut().inbox(&mut chance);
        }
    }
}

impl Remote for Network {
    fn length(&mut self, name: &str) -> Result<Option<u64>, RemoteError> {
        self.host_works();
        let answer = Network::fails(self.answer())?;
        let length = self.host.borrow().objects.get(name).map(|bytes| bytes.len() as u64);
        match answer {
            Answer::Lost => Err(RemoteError::Offline("reset".to_owned())),
            Answer::Gate => Ok(Some(1234)),
            _ => Ok(length),
        }
    }

    fn get(&mut self, name: &str, most: usize) -> Result<Option<Vec<u8>>, RemoteError> {
        self.host_works();
        let answer = Network::fails(self.answer())?;
        let bytes = self.host.borrow().objects.get(name).cloned();
        assert!(bytes.as_ref().is_none_or(|bytes| bytes.len() <= most));
        Ok(match answer {
            Answer::Lost => return Err(RemoteError::Offline("reset".to_owned())),
            Answer::Gate => Some(b"<html>please log in</html>".to_vec()),
            Answer::Changed => bytes.map(|mut bytes| {
                let place = self.chance.borrow_mut().below(bytes.len() as u64) as usize;
                bytes[place] ^= 1 << self.chance.borrow_mut().below(7);
                bytes
            }),
            Answer::Cut => bytes.map(|bytes| bytes[..bytes.len() / 2].to_vec()),
            _ => bytes,
        })
    }

    fn piece(&mut self, _: &str, _: u64, _: usize) -> Result<Option<Vec<u8>>, RemoteError> {
        unreachable!("a round fetches nothing large")
    }

    fn put(&mut self, name: &str, bytes: &[u8]) -> Result<(), RemoteError> {
        self.host_works();
        let answer = Network::fails(self.answer())?;
        let mut bytes = bytes.to_vec();
        match answer {
            Answer::Gate => return Ok(()),
            Answer::Changed => {
                let place = self.chance.borrow_mut().below(bytes.len() as u64) as usize;
                bytes[place] ^= 1;
            }
            Answer::Cut => bytes.truncate(bytes.len() / 3),
            _ => {}
        }
        self.host.borrow_mut().objects.insert(name.to_owned(), bytes);
        self.host_works();
        match answer {
            Answer::Lost | Answer::Cut => Err(RemoteError::Offline("reset".to_owned())),
            _ => Ok(()),
        }
    }

    fn ahead_s(&self) -> Option<i64> {
        None
    }
}

/// Time that passes only when somebody waits.
struct Hours {
    boot: String,
    since_boot: Duration,
}

impl Clock for Hours {
    fn now(&self) -> Moment {
        let wall_s = i64::try_from(self.since_boot.as_secs()).unwrap();
        Moment { boot: self.boot.clone(), since_boot: self.since_boot, wall_s }
    }

    fn wait(&mut self, time: Duration) -> Waited {
        self.since_boot += time;
        Waited::Whole
    }
}

/// The store, watched: what it is told to be at home is at home.
struct Watched<'w> {
    store: &'w mut Store,
    host: &'w RefCell<Host>,
}

impl Watched<'_> {
    fn mark_synced(&mut self, receipts: &[store::Receipt]) -> Result<(), StoreError> {
        let host = self.host.borrow();
        for receipt in receipts {
            match receipt {
                store::Receipt::Pair { id, sha256, labels } => {
                    let known = host.pairs.get(&Digest::from(*sha256));
                    let is_there = known.is_some_and(|(name, known)| name == id && known.len() >= *labels);
                    assert!(is_there || host.forgotten.contains(id), "{id} is let go, and the host has it not");
                }
                store::Receipt::Tombstone { id } => assert!(host.forgotten.contains(id)),
            }
        }
        self.store.mark_synced(receipts)
    }
}

fn sample(chance: &mut Chance, number: u64) -> Pair {
    let words = if chance.is(12) { format!("unwanted {number}") } else { format!("a cat, the {number}th") };
    let text = Text {
        words: caption(&words),
        origin: Origin::Caption,
        itm: Some(0.5),
        itc: None,
        log_prob: None,
        decision: Decision::Kept,
        model: None,
    };
    let sensor = Sensor {
        camera: caption("simulated"),
        trigger: caption("interval"),
        exposure_us: None,
        temperature_c: None,
        throttled: None,
    };
    let large = chance.is(8);
    let jpeg = vec![number as u8; if large { 3 << 20 } else { 200 + chance.below(2000) as usize }];
    Pair {
        jpeg: Some(jpeg),
        texts: vec![text],
        sensor,
        place: None,
        taken: Stamp::default(),
        bundle: None,
        vector: None,
    }
}

struct World {
    store: Store,
    ledger: Ledger,
    grant: Grant,
    host: Rc<RefCell<Host>>,
    chance: Rc<RefCell<Chance>>,
    hours: Hours,
    kept: Vec<PairId>,
    forgotten: BTreeSet<PairId>,
    number: u64,
}

impl World {
    fn new(folder: &std::path::Path, seed: u64) -> World {
        let (host_key, board_key) = (SecretKey::generate().unwrap(), SecretKey::generate().unwrap());
        let device: DeviceName = "garden".parse().unwrap();
        let grant = Grant {
            device: device.clone(),
            key: board_key.public(),
            host: host_key.public(),
            url: None,
            credentials: None,
            root: None,
        };
        let host = Host {
            key: host_key,
            device,
            objects: BTreeMap::new(),
            pairs: BTreeMap::new(),
            arrivals: BTreeMap::new(),
            forgotten: BTreeSet::new(),
        };
        World {
            store: Store::open(&folder.join("pairs"), caption("boot 1"), store::Limits::default()).unwrap().0,
            ledger: Ledger::open(&folder.join("sync")).unwrap(),
            grant,
            host: Rc::new(RefCell::new(host)),
            chance: Rc::new(RefCell::new(Chance(seed))),
            hours: Hours { boot: "1".to_owned(), since_boot: Duration::ZERO },
            kept: Vec::new(),
            forgotten: BTreeSet::new(),
            number: 0,
        }
    }

    fn below(&self, most: u64) -> u64 {
        self.chance.borrow_mut().below(most)
    }

    /// The board sees things, and people say things of them.
    fn live(&mut self) {
        for _ in 0..self.below(8) {
            self.number += 1;
            let pair = sample(&mut self.chance.borrow_mut(), self.number);
            self.store.put(pair, Duration::ZERO).unwrap();
            if self.store.waiting() > 2 {
                self.kept.extend(self.store.flush().unwrap());
            }
        }
        self.kept.extend(self.store.flush().unwrap());
        if self.kept.is_empty() {
            return;
        }
        let id = self.kept[self.below(self.kept.len() as u64) as usize];
        match self.below(5) {
            0 if !self.forgotten.contains(&id) => {
                self.store.forget(id, Stamp::default()).unwrap();
                self.forgotten.insert(id);
            }
            1 | 2 if !self.forgotten.contains(&id) => {
                let action = LabelAction::Add(caption("by hand"));
                self.store.label(id, Label { action, by: None, at: Stamp::default() }).unwrap();
            }
            _ => {}
        }
    }

    fn round(&mut self, faults: u64) -> State {
        let is_stopped = faults > 0 && self.below(3) == 0;
        let stop_at = is_stopped.then(|| self.below(30));
        let mut network =
            Network { host: Rc::clone(&self.host), chance: Rc::clone(&self.chance), faults, stop_at, asked: 0 };
        let reader = self.store.reader();
        let (ledger, grant, host) = (&self.ledger, &self.grant, &*self.host);
        let draws = Rc::clone(&self.chance);
        let mut watched = Watched { store: &mut self.store, host };
        // The store's owner is another process, and comes to it when it has time.
        let owner = Rc::clone(&self.chance);
        let mut tell_store = || {
            if faults == 0 || owner.borrow_mut().is(2) {
                let settled = settle(ledger, grant, |receipts| watched.mark_synced(receipts)).unwrap();
                assert_eq!(settled.foreign, 0);
            }
        };
        let mut round = Round {
            grant,
            reader: &reader,
            ledger,
            remote: &mut network,
            clock: &mut self.hours,
            chance: &mut || draws.borrow_mut().below(1000) as f64 / 1000.0,
            settle: &mut tell_store,
            tell: &mut |_| {},
            limits: Limits {
                day_bytes: None,
                patience: Duration::from_secs(if stop_at.is_some() { 0 } else { 20 }),
                receipts: Duration::from_secs(60),
            },
        };
        round.run().unwrap().0
    }

    fn check(&self, seed: u64) {
        let host = self.host.borrow();
        let refused: BTreeSet<PairId> = self.ledger.refused().unwrap().iter().map(|refusal| refusal.sent.id).collect();
        assert!(host.arrivals.values().all(|count| *count == 1) || !self.forgotten.is_empty());
        for id in &self.kept {
            if self.forgotten.contains(id) {
                assert!(host.pairs.values().all(|(name, _)| name != id), "{id} is forgotten, and the host has it");
                continue;
            }
            let stored = self.store.reader().get(*id).unwrap();
            let entry = self.store.reader().list(store::Filter { limit: 10_000, ..store::Filter::default() }).unwrap();
            let is_synced = entry.iter().find(|entry| entry.id == *id).unwrap().is_synced;
            match host.pairs.get(&Digest::from(stored.sha256)) {
                Some((_, labels)) => assert!(is_synced && *labels == stored.labels, "{id}"),
                None => {
                    let words = stored.facts.texts[0].words.as_str();
                    let is_refused = refused.contains(id) && words.contains("unwanted");
                    assert!(!is_synced && is_refused, "seed {seed}: {id} is lost: {words:?}, synced: {is_synced}");
                }
            }
        }
        assert_eq!(self.store.reader().tombstones().unwrap(), []);
    }
}

#[test]
fn everything_arrives_once_whatever_goes_wrong() {
    let seeds = if std::env::var_os("EDGEBLIP_LONG").is_some() { 10_000 } else { 60 };
    // Memory that looks like a disk, where there is one: nothing here is about power cuts.
    let place = std::path::Path::new("/dev/shm");
    for seed in 0..seeds {
        let folder = if place.is_dir() { tempfile::tempdir_in(place).unwrap() } else { tempfile::tempdir().unwrap() };
        let mut world = World::new(folder.path(), seed);
        let faults = 2 + seed % 9;
        for turn in 0..6 {
            world.live();
            if world.below(4) == 0 {
                world.hours = Hours { boot: format!("{seed} {turn}"), since_boot: Duration::ZERO };
            }
            world.round(faults);
        }
        // The network is well again, and stays so.
        let mut state = State::Stopped;
        for _ in 0..20 {
            state = world.round(0);
            let mut chance = Chance(seed);
            world.host.borrow_mut().inbox(&mut chance);
            if state == State::Idle && world.ledger.arrivals().unwrap().is_empty() {
                break;
            }
        }
        assert_eq!(state, State::Idle, "seed {seed}");
        world.check(seed);
    }
}
