//! Threads that decode ahead; what they make comes out in the order of the epoch.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use blip::pixels::{normalize, preprocess};

use super::order::Order;
use super::{Items, Pass};
use crate::augmentation::Draw;
use crate::dataset::Dataset;

/// An item with its pixels.
pub(super) struct Sample {
    pub(super) position: u64,
    pub(super) index: u64,
    pub(super) entry: usize,
    /// Which of the entry's texts, or questions.
    pub(super) part: usize,
    pub(super) pixels: Vec<f32>,
}

/// What came of a place in a batch.
#[derive(Default)]
pub(super) struct Outcome {
    /// None beyond the dataset's end, or where the picture is broken and nothing stands in for it.
    pub(super) sample: Option<Sample>,
    /// Entries whose pictures could not be read on the way, each with its name and reason.
    pub(super) broken: Vec<(usize, String)>,
}

/// Threads at work on an epoch.
pub(super) struct Workers {
    task: Arc<Task>,
    threads: Vec<JoinHandle<()>>,
}

struct Task {
    dataset: Arc<Dataset>,
    order: Order,
    /// Places in all batches of this rank, the first and the end.
    places: (u64, u64),
    /// Broken pictures in a row after which a place is given up: the epoch is, then.
    limit: u64,
    queue: Mutex<Queue>,
    /// A place is done.
    done: Condvar,
    /// There is room for more.
    room: Condvar,
}

struct Queue {
    /// The place that a thread takes up next.
    next: u64,
    /// The place that is asked for next.
    asked: u64,
    finished: BTreeMap<u64, Outcome>,
    is_over: bool,
}

impl Workers {
    /// Starts at a step, and ends before another.
    pub(super) fn start(
        dataset: Arc<Dataset>,
        order: Order,
        (first, end): (u64, u64),
        limit: u64,
    ) -> std::io::Result<Workers> {
        let batch = order.settings.batch as u64;
        let threads = order.settings.threads;
        let places = (first * batch, end * batch);
        let queue = Queue { next: places.0, asked: places.0, finished: BTreeMap::new(), is_over: false };
        let (done, room) = (Condvar::new(), Condvar::new());
        let task = Arc::new(Task { dataset, order, places, limit, queue: Mutex::new(queue), done, room });
        let mut workers = Workers { task, threads: Vec::new() };
        for number in 0..threads {
            let task = workers.task.clone();
            let thread = std::thread::Builder::new().name(format!("decode-{number}")).spawn(move || task.work())?;
            workers.threads.push(thread);
        }
        Ok(workers)
    }

    /// Waits for the next place.
    pub(super) fn next(&mut self) -> Outcome {
        let mut queue = self.task.lock();
        if queue.asked >= self.task.places.1 {
            return Outcome::default();
        }
        let place = queue.asked;
        let outcome = loop {
            match queue.finished.remove(&place) {
                Some(outcome) => break outcome,
                None => queue = self.task.done.wait(queue).unwrap_or_else(PoisonError::into_inner),
            }
        };
        queue.asked += 1;
        self.task.room.notify_one();
        outcome
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.task.lock().is_over = true;
        self.task.room.notify_all();
        for thread in self.threads.drain(..) {
            // A thread that panicked has nothing left to say: its place was marked as broken.
            let _ = thread.join();
        }
    }
}

impl Task {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self) {
        let ahead = (self.order.settings.ahead * self.order.settings.batch) as u64;
        loop {
            let mut queue = self.lock();
            while !queue.is_over && queue.next >= queue.asked + ahead && queue.next < self.places.1 {
                queue = self.room.wait(queue).unwrap_or_else(PoisonError::into_inner);
            }
            if queue.is_over || queue.next >= self.places.1 {
                return;
            }
            let place = queue.next;
            queue.next += 1;
            drop(queue);
            let outcome = self.outcome(place);
            self.lock().finished.insert(place, outcome);
            self.done.notify_all();
        }
    }

    fn outcome(&self, place: u64) -> Outcome {
        let batch = self.order.settings.batch as u64;
        let mut outcome = Outcome::default();
        let Some(position) = self.order.position(place / batch, (place % batch) as usize) else { return outcome };
        let tries = match self.order.settings.pass {
            Pass::Training => self.order.len(),
            Pass::Evaluation => 1,
        };
        for offset in 0..tries {
            let (index, entry, part) = self.order.item((position + offset) % self.order.len());
            match self.sample((position as u64, index), entry, part) {
                Ok(sample) => {
                    outcome.sample = Some(sample);
                    break;
                }
                Err(reason) => outcome.broken.push((entry, reason)),
            }
            if outcome.broken.len() as u64 > self.limit {
                break;
            }
        }
        outcome
    }

    fn sample(&self, (position, index): (u64, u64), entry: usize, part: usize) -> Result<Sample, String> {
        let settings = &self.order.settings;
        let mut draw = Draw::new(settings.seed, self.order.epoch, position);
        let texts = self.dataset.entry(entry).texts.len();
        let part = match (settings.items, settings.pass) {
            (Items::Pictures, Pass::Training) if texts > 0 => draw.below(texts),
            _ => part,
        };
        // A decoder that panics on one file must not end the run: the file is named like any broken one.
        let pixels = catch_unwind(AssertUnwindSafe(|| self.pixels(entry, &mut draw)));
        let pixels = pixels.unwrap_or_else(|_| Err("the decoder panicked".to_owned()));
        let pixels = pixels.map_err(|reason| {
            let line = format!("{}: {reason}", self.dataset.entry(entry).key);
            terminal::printable(&line).replace('\n', " ")
        })?;
        Ok(Sample { position, index, entry, part, pixels })
    }

    /// `[3, S, S]`.
    fn pixels(&self, entry: usize, draw: &mut Draw) -> Result<Vec<f32>, String> {
        let settings = &self.order.settings;
        let bytes = self.dataset.picture_bytes(entry).map_err(|error| error.to_string())?;
        let picture = picture::decode(&bytes).map_err(|error| error.to_string())?;
        Ok(match &settings.augmentation {
            Some(augmentation) => {
                normalize(&augmentation.apply(&picture, settings.image_size, draw), &settings.normalization)
            }
            None => preprocess(&picture, settings.image_size, &settings.normalization),
        })
    }
}
