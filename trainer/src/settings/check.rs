//! What values of settings make sense.

use std::path::Path;

use super::{Settings, SettingsError, Task};

const SHARE: &str = "it must lie between 0 and 1";
const NOT_NEGATIVE: &str = "it must be zero or more";
const COUNT: &str = "it must be at least 1, and not beyond reason";
const REASON: &str = "it is beyond reason";

impl Settings {
    /// Refuses values that make no sense; `path` is for messages.
    pub(super) fn check(&self, path: &Path, task: Task) -> Result<(), SettingsError> {
        let refuse = |key, value: String, rule| Err(SettingsError::Value { path: path.to_owned(), key, value, rule });
        for (key, value, [low, high], rule) in self.floats() {
            if !(low..=high).contains(&value) {
                return refuse(key, value.to_string(), rule);
            }
        }
        for (key, value, [low, high]) in self.counts() {
            if !(low..=high).contains(&value) {
                return refuse(key, value.to_string(), if low == 0 { REASON } else { COUNT });
            }
        }
        if self.data.tokens < 2 {
            return refuse("data.tokens", self.data.tokens.to_string(), "a text has a start and an end: at least 2");
        }
        let (queue, batch) = (self.losses.queue, self.run.batch);
        let contrasts = matches!(task, Task::Pretrain | Task::Matcher);
        if contrasts && (queue < batch || !queue.is_multiple_of(batch)) {
            return refuse("losses.queue", queue.to_string(), "it must be a multiple of run.batch, and not 0");
        }
        if self.run.epochs == 0 && self.run.steps == 0 {
            return refuse("run.epochs", "0".to_owned(), "say how many epochs or steps to train");
        }
        Ok(())
    }

    /// Numbers with their least and largest value, and what to say of others.
    fn floats(&self) -> [(&'static str, f64, [f64; 2], &'static str); 20] {
        let Settings { model, data, augmentation, losses, dropout, optimizer, .. } = self;
        let share = |key, value: f32| (key, f64::from(value), [0.0, 1.0], SHARE);
        let dropped = |key, value: f32| (key, f64::from(value), [0.0, 0.99], "it must lie between 0 and 0.99");
        let large = |key, value: f32| (key, f64::from(value), [0.0, 1e6], NOT_NEGATIVE);
        let beta =
            |key, value: f32| (key, f64::from(value), [0.0, 0.9999999], "it must lie between 0 and 1, and not be 1");
        [
            ("model.deviation", f64::from(model.deviation), [0.0, 10.0], "it must lie between 0 and 10"),
            ("data.broken_share", data.broken_share, [0.0, 1.0], SHARE),
            ("augmentation.flip", augmentation.flip, [0.0, 1.0], SHARE),
            ("augmentation.least_crop", augmentation.least_crop, [0.01, 1.0], "it must lie between 0.01 and 1"),
            ("augmentation.level", augmentation.level, [0.0, 10.0], "it must lie between 0 and 10"),
            share("losses.momentum", losses.momentum),
            share("losses.alpha", losses.alpha),
            share("losses.smoothing", losses.smoothing),
            dropped("dropout.hidden", dropout.hidden),
            dropped("dropout.attention", dropout.attention),
            dropped("dropout.path", dropout.path),
            large("optimizer.rate", optimizer.rate),
            large("optimizer.least_rate", optimizer.least_rate),
            large("optimizer.warm_up_from", optimizer.warm_up_from),
            large("optimizer.weight_decay", optimizer.weight_decay),
            large("optimizer.clip", optimizer.clip),
            share("optimizer.decay_factor", optimizer.decay_factor),
            beta("optimizer.beta1", optimizer.beta1),
            beta("optimizer.beta2", optimizer.beta2),
            ("optimizer.epsilon", optimizer.epsilon.into(), [1e-30, 1.0], "it must be small, and not 0"),
        ]
    }

    /// Whole numbers with their least and largest value.
    fn counts(&self) -> [(&'static str, u64, [u64; 2]); 17] {
        let Settings { data, augmentation, losses, optimizer, run, output, .. } = self;
        let size = |key, value: usize, range| (key, value as u64, range);
        [
            size("data.tokens", data.tokens, [1, 1 << 16]),
            size("data.threads", data.threads, [1, 1024]),
            size("data.ahead", data.ahead, [1, 1024]),
            size("augmentation.operations", augmentation.operations, [0, 64]),
            size("losses.queue", losses.queue, [0, 1 << 24]),
            ("losses.alpha_epochs", losses.alpha_epochs, [0, 1 << 30]),
            ("optimizer.warm_up_steps", optimizer.warm_up_steps, [0, 1 << 40]),
            size("run.batch", run.batch, [1, 1 << 16]),
            size("run.accumulate", run.accumulate, [1, 1 << 16]),
            ("run.epochs", run.epochs, [0, 1 << 24]),
            ("run.steps", run.steps, [0, 1 << 40]),
            size("run.threads", run.threads, [0, 1024]),
            ("run.patience", run.patience, [1, 1 << 24]),
            size("output.snapshots", output.snapshots, [1, 1 << 16]),
            size("output.captions", output.captions, [0, 64]),
            ("output.line_every", output.line_every, [0, 1 << 24]),
            ("output.page_every", output.page_every, [0, 1 << 24]),
        ]
    }
}
