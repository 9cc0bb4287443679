//! The model's thread: one frame at a time.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};

use blip::caption::Caption;
use field::config::Settings;
use field::watchdog::Stage;

use crate::face::{Answer, Refusal};
use crate::filter::{Describe, Scored};
use crate::matcher::Embedding;
use crate::pipeline::{Describer, Job, Today};

use super::{Message, RunError};

/// What the model's thread begins with.
pub(super) struct Start {
    pub(super) settings: Arc<Settings>,
    /// What of the day's budget is used, where there is one.
    pub(super) today: Option<Today>,
}

/// Questions that wait until the model has time.
const MAX_QUESTIONS: usize = 4;

/// What somebody wants to know of the model itself.
pub(super) enum Question {
    /// Captions for a picture.
    Caption { picture: Vec<u8>, settings: Arc<Settings>, answer: Answer<Vec<Scored>> },
    /// A text as a vector.
    Embed { text: String, answer: Answer<Option<(Embedding, Caption)>> },
}

impl Question {
    /// Answers that it will not be looked at.
    fn refuse(self, refusal: Refusal) {
        // Who asked may have gone.
        match self {
            Question::Caption { answer, .. } => drop(answer.send(Err(refusal))),
            Question::Embed { answer, .. } => drop(answer.send(Err(refusal))),
        }
    }
}

/// What the model's thread is given.
enum Task {
    Frame(Box<Job>),
    Question(Question),
}

/// The way to the model's thread. The thread ends when this is dropped and its frame is done.
pub(super) struct Worker {
    tasks: SyncSender<Task>,
    is_free: bool,
    questions: VecDeque<Question>,
    /// Frames and questions take turns.
    has_answered: bool,
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
        let (tasks, taken) = sync_channel::<Task>(1);
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
            while is_heard && let Ok(task) = taken.recv() {
                stage.begin();
                let message = match task {
                    Task::Frame(job) => Message::Done(Box::new(describer.describe(*job))),
                    Task::Question(question) => {
                        answer(&describer, question);
                        Message::Answered
                    }
                };
                stage.rest();
                is_heard = messages.send(message).is_ok();
            }
        };
        let thread = std::thread::Builder::new().name("captions".to_owned()).spawn(work);
        thread.map_err(|source| RunError::Thread { what: "the model", source })?;
        Ok(Worker { tasks, is_free: false, questions: VecDeque::new(), has_answered: false })
    }

    /// Whether it has no frame.
    pub(super) fn is_free(&self) -> bool {
        self.is_free
    }

    /// It has told that it is done.
    pub(super) fn free(&mut self) {
        self.is_free = true;
    }

    /// A question is to be answered when there is time; one too many is refused.
    pub(super) fn ask(&mut self, question: Question) {
        if self.questions.len() < MAX_QUESTIONS {
            self.questions.push_back(question);
        } else {
            question.refuse(Refusal::Busy);
        }
    }

    /// Gives it what waits: the frame that `next` finds, and every other time a question.
    pub(super) fn give(&mut self, next: impl FnOnce() -> Option<Job>) {
        let question = if self.has_answered { None } else { self.questions.pop_front() };
        self.has_answered = question.is_some();
        let task = question.map(Task::Question).or_else(|| Some(Task::Frame(Box::new(next()?))));
        if let Some(task) = task {
            self.is_free = false;
            // It has none, so there is room. A thread that is gone shows as one that is stuck.
            let _ = self.tasks.try_send(task);
        }
    }
}

fn answer<D: Describe>(describer: &Describer<D>, question: Question) {
    // Who asked may have gone.
    match question {
        Question::Caption { picture, settings, answer } => {
            let _ = answer.send(describer.caption(&picture, &settings.captions));
        }
        Question::Embed { text, answer } => drop(answer.send(describer.embed(&text))),
    }
}
