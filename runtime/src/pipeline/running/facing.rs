//! What the board shows of itself, and what it is asked for from outside.

use std::sync::Arc;
use std::time::Duration;

use camera::State;
use field::clock::Moment;
use field::trigger::Event;
use store::StoreError;

use crate::face::{Health, Look, Refusal, Request};
use crate::pipeline::{Found, Outcome};

use super::model::Question;
use super::{Runner, report};

/// From one live picture, and one word of how it goes, to the next.
const SHOW: Duration = Duration::from_secs(1);

impl Runner {
    /// Does what somebody outside has asked for. Who asked may have gone: answers to nobody are dropped.
    pub(super) fn attend(&mut self, request: Request, now: &Moment) {
        match request {
            Request::Take { note, answer } => {
                let offered = self.pipeline.offer(Event::Command, note, now);
                let refused = |refusal: field::trigger::Refusal| {
                    Refusal::Unusable(format!("no frame is taken: {}", refusal.name()))
                };
                let _ = answer.send(offered.map(drop).map_err(refused));
            }
            Request::Label { pair, action, answer } => {
                let labelled = self.pipeline.label(pair, action, now).map_err(|error| match error {
                    StoreError::NotThere { id } => Refusal::NotThere(id),
                    StoreError::NoPicture { .. } => Refusal::Unusable(error.to_string()),
                    _ => Refusal::Failed(error.to_string()),
                });
                let _ = answer.send(labelled);
            }
            Request::Caption { picture, answer } => {
                let settings = Arc::new((*self.config).clone());
                self.worker.ask(Question::Caption { picture, settings, answer });
            }
            Request::Embed { text, answer } => self.worker.ask(Question::Embed { text, answer }),
        }
    }

    /// Whether somebody looks, and has not been shown anything for a moment.
    pub(super) fn wants_view(&self, now: &Moment) -> bool {
        let is_due = self.viewed.is_none_or(|viewed| now.since_boot.saturating_sub(viewed) >= SHOW);
        is_due && self.face.is_watched()
    }

    /// Shows how the board does, now and then.
    pub(super) fn show_health(&mut self, now: &Moment) {
        if self.shown.is_none_or(|shown| now.since_boot.saturating_sub(shown) >= SHOW) {
            self.shown = Some(now.since_boot);
            self.face.show_health(self.health(now));
        }
    }

    fn health(&self, now: &Moment) -> Health {
        let account = self.pipeline.account();
        let (reading, pace) = self.pipeline.felt();
        let frames = match &self.camera_state {
            State::Starting => "not yet".to_owned(),
            State::Streaming => "come".to_owned(),
            State::Waiting { reason, .. } => format!("waited for: {reason}"),
            State::Finished { fault: None } => "at their end".to_owned(),
            State::Finished { fault: Some(fault) } => format!("at their end: {fault}"),
        };
        Health {
            bundle: self.bundle.clone(),
            camera: self.eye.as_ref().map_or_else(String::new, |eye| eye.name().as_str().to_owned()),
            frames,
            status: self.pipeline.status(),
            kept: account.kept,
            rejected: account.rejected,
            dropped: account.dropped.iter().map(|(reason, count)| (reason.name(), *count)).collect(),
            rejects: self.rejects,
            trouble: self.pipeline.trouble().map(ToString::to_string),
            reading,
            pace,
            now: *now,
        }
    }
}

/// What is shown of a frame at which the model has looked.
pub(super) fn look(outcome: &Outcome) -> Option<Look> {
    let Found::Judged(judgement) = &outcome.found else { return None };
    let Outcome { job, times, bundle, .. } = outcome;
    Some(Look {
        number: job.number,
        taken: job.taken,
        jpeg: job.frame.jpeg().ok()?.to_vec(),
        texts: judgement.texts.clone(),
        fate: report::fate(judgement.fate),
        trigger: job.why.name(),
        bundle: bundle.clone(),
        took: times.decode + times.see + times.describe,
    })
}
