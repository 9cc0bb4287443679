//! Which pairs stand where in a version.

use std::collections::{BTreeMap, HashMap};

use exchange::Digest;
use sha2::{Digest as _, Sha256};

use super::card::{Card, FileFacts, LeftOut};
use super::near::NearIndex;
use super::rows::Row;
use super::splits::Split;
use super::{Look, Parameters, Stage, Tell, VersionError};
use crate::book::{Book, BookError, HomePair};
use crate::curation::CurationError;
use crate::home::Home;

/// What the hash of a version starts with. Whoever changes what is written of a pair changes it too.
const HASH_MARK: &[u8] = b"edgeblip dataset 1\n";
/// Pairs that are read at once.
pub(super) const READ_AT_ONCE: usize = 256;

/// A version in the making.
pub(super) struct Plan {
    parameters: Parameters,
    /// In the order of arrival.
    pub(super) chosen: Vec<Chosen>,
    groups: Vec<Group>,
    left_out: LeftOut,
    /// SHA-256 over all that the files are made of.
    pub(super) inputs: Digest,
}

/// A pair that is in it.
pub(super) struct Chosen {
    pub(super) number: i64,
    group: u32,
    likeness: u64,
    row: [u8; 32],
}

/// The pictures of a board of one day, or of one boot where nobody had set its clock.
struct Group {
    device: String,
    day: String,
    /// Whether `day` is one.
    is_dated: bool,
    split: Split,
}

/// Looks at the pictures of all pairs that may be in a version and were not looked at.
pub(super) fn look_at_all(home: &mut Home, look: &mut Look<'_>, tell: &mut Tell<'_>) -> Result<(), VersionError> {
    let all = home.book.count()?;
    let (mut done, mut after) = (0, 0);
    loop {
        let pairs = home.book.pairs_after(after, None, READ_AT_ONCE)?;
        let Some(last) = pairs.last() else { return Ok(()) };
        after = last.number;
        let mut likenesses = Vec::new();
        for pair in pairs {
            done += 1;
            if Row::of(&pair).is_none() || home.book.likeness(pair.number)?.is_some() {
                continue;
            }
            let Some(picture) = picture_of(home, &pair)? else { continue };
            likenesses.push((pair.number, look(&picture).map_err(VersionError::Decoder)?.ok()));
            tell(Stage::Looking, done, all);
        }
        if !likenesses.is_empty() {
            home.book.write_likenesses(&likenesses)?;
        }
    }
}

/// A pair's picture; nothing where the pair went away meanwhile.
pub(super) fn picture_of(home: &Home, pair: &HomePair) -> Result<Option<Vec<u8>>, VersionError> {
    match home.picture(pair) {
        Ok(picture) => Ok(picture),
        Err(CurationError::Shelf { .. } | CurationError::Damaged { .. }) if !home.book.has(pair.sha256())? => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The split of each group, as far as it is known or has come up.
struct Groups {
    parameters: Parameters,
    known: HashMap<(String, String), Split>,
    numbers: HashMap<(String, String), u32>,
    groups: Vec<Group>,
}

impl Groups {
    fn new(book: &Book, parameters: &Parameters) -> Result<Groups, BookError> {
        let known = book.groups()?.into_iter();
        let known = known.filter_map(|(device, day, split)| Some(((device, day), Split::named(&split)?))).collect();
        Ok(Groups { parameters: *parameters, known, numbers: HashMap::new(), groups: Vec::new() })
    }

    fn of(&mut self, pair: &HomePair, row: &Row) -> u32 {
        let is_dated = row.day.is_some();
        let day = row.day.clone().unwrap_or_else(|| format!("boot {}", pair.pair.facts.boot_id));
        let name = (row.device.clone(), day);
        if let Some(number) = self.numbers.get(&name) {
            return *number;
        }
        let split = self.known.get(&name).copied();
        let split = split.unwrap_or_else(|| self.parameters.shares.split_of(&name.0, &name.1));
        let number = u32::try_from(self.groups.len()).unwrap_or(u32::MAX);
        self.groups.push(Group { device: name.0.clone(), day: name.1.clone(), is_dated, split });
        self.numbers.insert(name, number);
        number
    }
}

impl Plan {
    /// Decides, from a book that does not change meanwhile.
    pub(super) fn make(book: &Book, parameters: &Parameters) -> Result<Plan, BookError> {
        let mut groups = Groups::new(book, parameters)?;
        let mut left_out = LeftOut::default();
        let mut chosen = Vec::new();
        let mut after = 0;
        loop {
            let pairs = book.pairs_after(after, None, READ_AT_ONCE)?;
            let Some(last) = pairs.last() else { break };
            after = last.number;
            for pair in &pairs {
                let Some(row) = Row::of(pair) else { continue };
                match book.likeness(pair.number)? {
                    Some(Some(likeness)) => {
                        let group = groups.of(pair, &row);
                        chosen.push(Chosen { number: pair.number, group, likeness, row: row.digest() });
                    }
                    Some(None) => left_out.unreadable += 1,
                    // It arrived after the others were looked at: the next version has it.
                    None => {}
                }
            }
        }
        let mut plan =
            Plan { parameters: *parameters, chosen, groups: groups.groups, left_out, inputs: Digest::of(b"") };
        plan.leave_out_near();
        plan.inputs = plan.digest();
        Ok(plan)
    }

    pub(super) fn split_of(&self, chosen: &Chosen) -> Split {
        self.groups[chosen.group as usize].split
    }

    /// Leaves out of train what looks like something held out, and out of validation what looks like something in test.
    fn leave_out_near(&mut self) {
        let near = self.parameters.near;
        let index = |splits: &[Split]| {
            let held_out = self.chosen.iter().filter(|chosen| splits.contains(&self.split_of(chosen)));
            NearIndex::new(held_out.map(|chosen| chosen.likeness).collect(), near)
        };
        let (held_out, test) = (index(&[Split::Validation, Split::Test]), index(&[Split::Test]));
        let (groups, left_out) = (&self.groups, &mut self.left_out);
        self.chosen.retain(|chosen| {
            let (count, index) = match groups[chosen.group as usize].split {
                Split::Train => (&mut left_out.near_in_train, &held_out),
                Split::Validation => (&mut left_out.near_in_validation, &test),
                Split::Test => return true,
            };
            let is_near = index.has_near(chosen.likeness);
            *count += u64::from(is_near);
            !is_near
        });
    }

    fn digest(&self) -> Digest {
        let mut hasher = Sha256::new();
        hasher.update(HASH_MARK);
        hasher.update(serde_json::to_vec(&(&self.parameters, &self.left_out)).expect("plain values"));
        for chosen in &self.chosen {
            hasher.update([self.split_of(chosen) as u8]);
            hasher.update(chosen.row);
        }
        Digest::from(<[u8; 32]>::from(hasher.finalize()))
    }

    pub(super) fn numbers(&self) -> Vec<i64> {
        self.chosen.iter().map(|chosen| chosen.number).collect()
    }

    /// Board, day and split of each group, for the book. Also of those of which all is left out: they have been held
    /// against the others.
    pub(super) fn groups(&self) -> Vec<(String, String, &'static str)> {
        self.groups.iter().map(|group| (group.device.clone(), group.day.clone(), group.split.name())).collect()
    }

    pub(super) fn card(&self, files: BTreeMap<String, FileFacts>) -> Card {
        let mut card = Card {
            format: 1,
            inputs: self.inputs,
            parameters: self.parameters,
            pairs: self.chosen.len() as u64,
            splits: BTreeMap::new(),
            devices: BTreeMap::new(),
            days: BTreeMap::new(),
            left_out: self.left_out,
            files,
        };
        for chosen in &self.chosen {
            let group = &self.groups[chosen.group as usize];
            let day = if group.is_dated { &group.day } else { "unknown" };
            *card.splits.entry(group.split).or_default() += 1;
            *card.devices.entry(group.device.clone()).or_default() += 1;
            *card.days.entry(day.to_owned()).or_default() += 1;
        }
        card
    }
}
