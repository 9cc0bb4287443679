//! Which item stands where in an epoch.

use std::sync::Arc;

use super::{Items, LoaderSettings, Pass};
use crate::augmentation::Draw;
use crate::dataset::Dataset;

/// The place whose random numbers make an epoch's order.
const ORDER_PLACE: u64 = u64::MAX;

/// Entry and part of each item, in the dataset's order.
pub(super) fn items(dataset: &Dataset, settings: &LoaderSettings) -> Vec<(u32, u32)> {
    let parts = |entry: usize| {
        let entry = dataset.entry(entry);
        match (settings.items, settings.pass) {
            (Items::Texts, _) => entry.texts.len(),
            (Items::Questions, _) => entry.questions.len(),
            (Items::Pictures, Pass::Training) => entry.texts.len().min(1),
            (Items::Pictures, Pass::Evaluation) => 1,
        }
    };
    (0..dataset.len()).flat_map(|entry| (0..parts(entry)).map(move |part| (entry as u32, part as u32))).collect()
}

/// An epoch's order.
pub(super) struct Order {
    items: Arc<Vec<(u32, u32)>>,
    pub(super) settings: Arc<LoaderSettings>,
    pub(super) epoch: u64,
    /// The item at each position; without it, they stand as in the dataset.
    shuffled: Option<Vec<u32>>,
}

impl Order {
    pub(super) fn new(items: Arc<Vec<(u32, u32)>>, settings: Arc<LoaderSettings>, epoch: u64) -> Order {
        let shuffled = (settings.pass == Pass::Training).then(|| {
            let mut order: Vec<u32> = (0..items.len() as u32).collect();
            let mut draw = Draw::new(settings.seed, epoch, ORDER_PLACE);
            for last in (1..order.len()).rev() {
                order.swap(last, draw.below(last + 1));
            }
            order
        });
        Order { items, settings, epoch, shuffled }
    }

    /// Number of positions.
    pub(super) fn len(&self) -> usize {
        self.items.len()
    }

    /// The position of this rank's item `within` of a step; `None` beyond the last.
    pub(super) fn position(&self, step: u64, within: usize) -> Option<usize> {
        let LoaderSettings { batch, rank, world, .. } = *self.settings;
        let position = (step as usize * world + rank) * batch + within;
        (position < self.items.len()).then_some(position)
    }

    /// The item at a position, below [`Order::len`]: its number, its entry and its part.
    pub(super) fn item(&self, position: usize) -> (u64, usize, usize) {
        let index = self.shuffled.as_ref().map_or(position, |order| order[position] as usize);
        let (entry, part) = self.items[index];
        (index as u64, entry as usize, part as usize)
    }
}
