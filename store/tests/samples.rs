//! Pairs that are made from a number, a day's work with them, and a ledger of what must be there afterwards.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use blip::caption::Caption;
use store::event::LabelAction;
use store::{
    ClockQuality, Decision, Filter, Label, Limits, Origin, Pair, PairFacts, PairId, Place, Reader, Receipt, Sensor,
    Stamp, Store, StoreError, Text, Vector,
};

/// Numbers that depend on a seed alone. Source: Steele, Lea, Flood, "Fast splittable pseudorandom number generators",
/// 2014 (SplitMix64).
pub struct Draws(pub u64);

impl Draws {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    /// A number below `end`.
    pub fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }
}

pub fn caption(text: &str) -> Caption {
    Caption::new(text).expect("samples are printable")
}

/// The pair with a number: a picture of noise, one to six texts, every kind of fact now and then.
pub fn pair(number: u64, most_bytes: usize) -> Pair {
    let mut draws = Draws(number);
    let bytes = 200 + draws.below(most_bytes);
    let jpeg: Vec<u8> = (0..bytes.div_ceil(8)).flat_map(|_| draws.next().to_le_bytes()).take(bytes).collect();
    let origins = [Origin::Caption, Origin::Candidate, Origin::Sidecar, Origin::Human];
    let texts = (0..1 + draws.below(6)).map(|place| {
        let is_kept = draws.below(3) > 0;
        Text {
            words: caption(&format!("text {place} of {number}{}", ", é".repeat(draws.below(20)))),
            origin: origins[if draws.below(8) == 0 { 3 } else { draws.below(3) }],
            itm: Some(draws.below(1000) as f32 / 1000.0),
            itc: (draws.below(2) == 0).then_some(0.25),
            log_prob: (draws.below(2) == 0).then_some(-1.5e-3),
            decision: if is_kept { Decision::Kept } else { Decision::Rejected(caption("below the threshold")) },
            model: Some(caption("0123456789abcdef")),
        }
    });
    let mut texts: Vec<Text> = texts.collect();
    // Of a third of the pairs the filter keeps the texts alone.
    let has_picture = !number.is_multiple_of(3) || texts.iter().any(|text| text.origin == Origin::Human);
    if !has_picture {
        texts.iter_mut().for_each(|text| text.decision = Decision::Rejected(caption("below the threshold")));
    }
    let place = Place {
        deployment: caption("north"),
        name: caption("at the gate"),
        time_zone: Some(caption("Europe/Berlin")),
        coordinates: Some([52.52, 13.4]),
    };
    let quality = if draws.below(2) == 0 { ClockQuality::Ntp } else { ClockQuality::Guessed };
    Pair {
        jpeg: has_picture.then_some(jpeg),
        texts,
        sensor: Sensor {
            camera: caption("v4l:/dev/video0"),
            trigger: caption(&format!("sample {number} {most_bytes}")),
            exposure_us: Some(8000),
            temperature_c: Some(51.5),
            throttled: Some(0x50000),
        },
        place: (draws.below(2) == 0).then_some(place),
        taken: stamp(number, quality),
        bundle: Some(caption("0123456789abcdef")),
        vector: (draws.below(2) == 0).then(|| Vector::new(&[0.6, -0.8]).expect("two numbers")),
    }
}

pub fn stamp(number: u64, quality: ClockQuality) -> Stamp {
    Stamp { since_boot_ms: number * 1000, wall_ms: Some(1_790_000_000_000 + number as i64 * 60_000), quality }
}

pub fn label(action: LabelAction) -> Label {
    Label { action, by: Some(caption("ada")), at: stamp(0, ClockQuality::Ntp) }
}

/// Whether a stored pair is the sample that its trigger names.
pub fn is_the_sample(facts: &PairFacts, jpeg: Option<&[u8]>) -> bool {
    let mut words = facts.sensor.trigger.as_str().split(' ').skip(1);
    let Some((number, most)) = words.next().zip(words.next()) else { return false };
    let (Ok(number), Ok(most)) = (number.parse(), most.parse()) else { return false };
    let Pair { jpeg: expected, texts, sensor, place, taken, bundle, vector } = pair(number, most);
    jpeg == expected.as_deref()
        && facts.texts == texts
        && facts.sensor == sensor
        && facts.place == place
        && facts.taken == taken
        && facts.bundle == bundle
        && facts.vector == vector
}

/// What a writer says, in its order: what it is about to do to a pair, and what is done.
#[derive(Clone, Debug, PartialEq)]
pub enum Said {
    Acknowledged(PairId),
    Labelling(PairId),
    Labelled(PairId),
    Forgetting(PairId),
    Forgotten(PairId),
    Trouble(String),
}

impl Said {
    pub fn line(&self) -> String {
        match self {
            Said::Acknowledged(id) => format!("acknowledged {id}"),
            Said::Labelling(id) => format!("labelling {id}"),
            Said::Labelled(id) => format!("labelled {id}"),
            Said::Forgetting(id) => format!("forgetting {id}"),
            Said::Forgotten(id) => format!("forgotten {id}"),
            Said::Trouble(what) => format!("trouble {what}"),
        }
    }

    /// A line that was cut short says nothing.
    pub fn parse(line: &str) -> Option<Said> {
        let (word, rest) = line.split_once(' ')?;
        Some(match word {
            "acknowledged" => Said::Acknowledged(rest.parse().ok()?),
            "labelling" => Said::Labelling(rest.parse().ok()?),
            "labelled" => Said::Labelled(rest.parse().ok()?),
            "forgetting" => Said::Forgetting(rest.parse().ok()?),
            "forgotten" => Said::Forgotten(rest.parse().ok()?),
            "trouble" => Said::Trouble(rest.to_owned()),
            _ => return None,
        })
    }
}

/// A day's work.
#[derive(Clone, Copy, Debug)]
pub struct Work {
    pub seed: u64,
    pub pairs: u64,
    pub most_bytes: usize,
    pub limits: Limits,
}

/// Puts, commits, labels, forgets, syncs and starts anew, as the seed says. Trouble does not end it: it tries again.
pub fn work(folder: &Path, work: Work, mut say: impl FnMut(Said)) -> Result<Store> {
    let mut draws = Draws(work.seed);
    let (mut store, _) = Store::open(folder, caption("boot 1"), work.limits)?;
    let mut known: Vec<PairId> = Vec::new();
    for number in 0..work.pairs {
        let now = Duration::from_secs(number);
        if store.trouble().is_some() {
            match store.try_again() {
                Ok(ids) => acknowledge(ids, &mut known, &mut say),
                Err(error) => say(Said::Trouble(error.to_string())),
            }
        }
        let _ = store.put(pair(work.seed << 32 | number, work.most_bytes), now);
        let done = if store.waiting() == 8 || draws.below(20) == 0 { store.flush() } else { Ok(Vec::new()) };
        match done {
            Ok(ids) => acknowledge(ids, &mut known, &mut say),
            Err(error) => say(Said::Trouble(error.to_string())),
        }
        let step = draws.below(100);
        if known.is_empty() || store.trouble().is_some() {
            continue;
        }
        let place = draws.below(known.len());
        let id = known[place];
        let done = match step {
            0..5 => {
                say(Said::Labelling(id));
                let labelled = match store.label(id, label(LabelAction::Add(caption("by hand")))) {
                    Err(StoreError::NoPicture { .. }) => store.label(id, label(LabelAction::Reject)),
                    labelled => labelled,
                };
                labelled.map(|()| say(Said::Labelled(id)))
            }
            5..8 => {
                known.swap_remove(place);
                say(Said::Forgetting(id));
                store.forget(id, stamp(number, ClockQuality::Ntp)).map(|()| say(Said::Forgotten(id)))
            }
            8..10 => store.mark_synced(&known.iter().take(4).map(|id| at_home(&store, *id, 0)).collect::<Vec<_>>()),
            10..12 if store.waiting() == 0 => {
                drop(store);
                let boot = caption(&format!("boot {}", draws.below(3)));
                store = Store::open(folder, boot, work.limits)?.0;
                Ok(())
            }
            _ => Ok(()),
        };
        match done {
            // What is evicted is not there to be labelled.
            Ok(()) | Err(StoreError::NotThere { .. }) => {}
            Err(error) => say(Said::Trouble(error.to_string())),
        }
    }
    if store.trouble().is_some() {
        acknowledge(store.try_again().unwrap_or_default(), &mut known, &mut say);
    }
    acknowledge(store.flush().unwrap_or_default(), &mut known, &mut say);
    Ok(store)
}

fn acknowledge(ids: Vec<PairId>, known: &mut Vec<PairId>, say: &mut impl FnMut(Said)) {
    for id in ids {
        known.push(id);
        say(Said::Acknowledged(id));
    }
}

/// What must be in a folder.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    /// Pairs, each with the labels that it has at least and at most.
    must: BTreeMap<PairId, (usize, usize)>,
    gone: BTreeSet<PairId>,
    evicts: Evicts,
}

/// Whether pairs are removed to make room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Evicts {
    #[default]
    Nothing,
    Some,
}

impl Ledger {
    pub fn of<'a>(said: impl IntoIterator<Item = &'a Said>) -> Ledger {
        let mut ledger = Ledger::default();
        for said in said {
            match said {
                Said::Acknowledged(id) => {
                    ledger.must.insert(*id, (0, 0));
                }
                Said::Labelling(id) => {
                    ledger.must.entry(*id).and_modify(|labels| labels.1 += 1);
                }
                Said::Labelled(id) => {
                    ledger.must.entry(*id).and_modify(|labels| labels.0 += 1);
                }
                Said::Forgetting(id) => {
                    ledger.must.remove(id);
                }
                Said::Forgotten(id) => {
                    ledger.gone.insert(*id);
                }
                Said::Trouble(_) => {}
            }
        }
        ledger
    }

    pub fn where_it(mut self, evicts: Evicts) -> Ledger {
        self.evicts = evicts;
        self
    }

    pub fn pairs(&self) -> usize {
        self.must.len()
    }

    /// Every pair that must be there is, bit for bit; what was forgotten is not; nothing else is wrong either.
    pub fn check(&self, folder: &Path) -> Result<()> {
        let reader = Reader::new(folder);
        let ids: Vec<PairId> = self.must.keys().copied().collect();
        for (stored, (id, (least, most))) in reader.get_many(&ids)?.into_iter().zip(&self.must) {
            if self.evicts == Evicts::Some && matches!(stored, Err(StoreError::NotThere { .. })) {
                continue;
            }
            let stored = stored.context("an acknowledged pair")?;
            ensure!(is_the_sample(&stored.facts, stored.jpeg.as_deref()), "pair {id} is another one");
            let labels = stored.labels.len();
            ensure!((*least..=*most).contains(&labels), "pair {id} has {labels} labels, not {least} to {most}");
        }
        let listed = reader.list(Filter { limit: usize::MAX, ..Filter::default() })?;
        let ids: Vec<PairId> = listed.iter().map(|entry| entry.id).collect();
        for (stored, id) in reader.get_many(&ids)?.into_iter().zip(ids) {
            let stored = stored?;
            ensure!(is_the_sample(&stored.facts, stored.jpeg.as_deref()), "pair {id} is another one");
            ensure!(!self.gone.contains(&id), "pair {id} was forgotten and is here");
        }
        let verification = reader.verify()?;
        if let Some(fault) = verification.faults.first() {
            bail!("{}: {:?}: {}", fault.path.display(), fault.id, fault.what);
        }
        Ok(())
    }
}

/// What a host says when it has a pair, or has heeded its tombstone.
pub fn at_home(store: &Store, id: PairId, labels: usize) -> Receipt {
    match store.reader().get(id) {
        Ok(pair) => Receipt::Pair { id, sha256: pair.sha256, labels },
        Err(_) => Receipt::Tombstone { id },
    }
}
