//! The model's thread: one frame at a time.

use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};

use field::config::Settings;
use field::watchdog::Stage;

use crate::filter::Describe;
use crate::pipeline::{Describer, Job, Today};

use super::{Message, RunError};

/// What the model's thread begins with.
pub(super) struct Start {
    pub(super) settings: Arc<Settings>,
    /// What of the day's budget is used, where there is one.
    pub(super) today: Option<Today>,
}

/// The way to the model's thread. The thread ends when this is dropped and its frame is done.
pub(super) struct Worker {
    jobs: SyncSender<Job>,
    is_free: bool,
}

impl Worker {
    /// Starts the thread, which loads the model first.
    pub(super) fn start<D, L, E>(
        load: L,
        start: Start,
        messages: SyncSender<Message>,
        stage: Stage,
    ) -> Result<Worker, RunError>
    where
        D: Describe,
        L: FnOnce() -> Result<D, E> + Send + 'static,
        E: std::fmt::Display,
    {
        let (jobs, taken) = sync_channel::<Job>(1);
        let work = move || {
            stage.begin();
            let loaded = load();
            stage.rest();
            let model = match loaded {
                Ok(model) => model,
                Err(error) => {
                    // A receiver that is gone has stopped already; so below.
                    let _ = messages.send(Message::Unloadable(error.to_string()));
                    return;
                }
            };
            let (bundle, has_matcher) = (model.bundle().to_owned(), model.has_matcher());
            let mut describer = Describer::new(model, start.settings);
            if let Some(today) = start.today {
                describer.resume(today);
            }
            let mut is_heard = messages.send(Message::Ready { bundle, has_matcher }).is_ok();
            while is_heard && let Ok(job) = taken.recv() {
                stage.begin();
                let outcome = describer.describe(job);
                stage.rest();
                is_heard = messages.send(Message::Done(Box::new(outcome))).is_ok();
            }
        };
        let thread = std::thread::Builder::new().name("captions".to_owned()).spawn(work);
        thread.map_err(|source| RunError::Thread { what: "the model", source })?;
        Ok(Worker { jobs, is_free: false })
    }

    /// Whether it has no frame.
    pub(super) fn is_free(&self) -> bool {
        self.is_free
    }

    /// It has told that it is done.
    pub(super) fn free(&mut self) {
        self.is_free = true;
    }

    /// Gives it a frame.
    pub(super) fn give(&mut self, job: Job) {
        self.is_free = false;
        // It has none, so there is room. A thread that is gone shows as one that is stuck.
        let _ = self.jobs.try_send(job);
    }
}
