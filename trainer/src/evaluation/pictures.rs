//! A dataset's pictures in their order, decoded ahead of the device.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::mpsc::sync_channel;

use blip::pixels::{Normalization, Rgb8, preprocess};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::dataset::Dataset;

/// Batches that may be ready before they are asked for.
const AHEAD: usize = 2;
/// Broken pictures that are named; all are counted.
const MAX_NAMED: usize = 20;

/// Pictures that could not be read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Broken {
    /// How many different ones.
    pub count: usize,
    /// The first ones, printable, each with its reason.
    pub first: Vec<String>,
    #[serde(skip)]
    seen: BTreeSet<usize>,
}

impl Broken {
    /// Counts a picture once, however often it is met.
    pub fn note(&mut self, entry: usize, line: &str) {
        if self.seen.insert(entry) {
            self.count += 1;
            if self.first.len() < MAX_NAMED {
                self.first.push(line.to_owned());
            }
        }
    }
}

/// Pictures that follow each other in a dataset; the lists of those that can be read are of one length.
#[derive(Debug, Default)]
pub struct Decoded {
    /// Which entries.
    pub entries: Vec<usize>,
    /// Their pictures.
    pub pictures: Vec<Rgb8>,
    /// Their files.
    pub files: Vec<Vec<u8>>,
    /// Entries that cannot be read, each with a printable reason.
    pub broken: Vec<(usize, String)>,
}

impl Decoded {
    /// Pixels as a model wants them, `[pictures, 3, side, side]`.
    pub fn pixels(&self, side: usize, normalization: &Normalization) -> Vec<f32> {
        let each: Vec<Vec<f32>> =
            self.pictures.par_iter().map(|picture| preprocess(picture, side, normalization)).collect();
        each.concat()
    }

    fn read(dataset: &Dataset, entries: Range<usize>) -> Decoded {
        let read = |entry: usize| {
            let bytes = dataset.picture_bytes(entry).map_err(|error| terminal::explained(&error))?;
            match picture::decode(&bytes) {
                Ok(picture) => Ok((picture, bytes)),
                Err(error) => Err(format!("{}: {}", dataset.entry(entry).key, terminal::explained(&error))),
            }
        };
        let found: Vec<(usize, Result<_, String>)> =
            entries.into_par_iter().map(|entry| (entry, read(entry))).collect();
        let mut batch = Decoded::default();
        for (entry, found) in found {
            match found {
                Ok((picture, bytes)) => {
                    batch.entries.push(entry);
                    batch.pictures.push(picture);
                    batch.files.push(bytes);
                }
                Err(line) => batch.broken.push((entry, terminal::printable(&line).replace('\n', " "))),
            }
        }
        batch
    }
}

/// Hands over the pictures of `entries` in batches of `size`, broken ones included in the count. At most a few batches
/// are in memory.
///
/// # Errors
/// What `task` gives; nothing is read after it.
pub fn each_batch<E>(
    dataset: &Dataset,
    entries: Range<usize>,
    size: usize,
    mut task: impl FnMut(Decoded) -> Result<(), E>,
) -> Result<(), E> {
    std::thread::scope(|scope| {
        let (send, receive) = sync_channel(AHEAD);
        scope.spawn(move || {
            let mut start = entries.start;
            while start < entries.end {
                let end = entries.end.min(start + size.max(1));
                if send.send(Decoded::read(dataset, start..end)).is_err() {
                    return;
                }
                start = end;
            }
        });
        receive.into_iter().try_for_each(&mut task)
    })
}
