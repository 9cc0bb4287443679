//! Every knob of training: one TOML file, with each default and where it is from.
//!
//! The defaults are themselves such files, with their comments: `settings/training.toml` is pre-training's, and the others
//! say what fine-tuning does differently.

mod check;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::objectives::Objective;
use crate::optimizer::{Decay, Decayed};

/// Largest settings file.
pub const MAX_BYTES: u64 = 1 << 20;

/// What a training run makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Task {
    /// A model that captions and matches: ITC, ITM and LM.
    Pretrain,
    /// A captioner.
    Captioner,
    /// A matcher.
    Matcher,
    /// An answerer.
    Answerer,
}

impl Task {
    /// The losses of the task.
    pub fn objective(self) -> Objective {
        match self {
            Task::Pretrain => Objective::Joint,
            Task::Captioner => Objective::Captions,
            Task::Matcher => Objective::Matches,
            Task::Answerer => Objective::Answers,
        }
    }

    fn differences(self) -> &'static str {
        match self {
            Task::Pretrain => "",
            Task::Captioner => include_str!("settings/captioner.toml"),
            Task::Matcher => include_str!("settings/matcher.toml"),
            Task::Answerer => include_str!("settings/answerer.toml"),
        }
    }
}

/// A settings file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// It cannot be read.
    #[error("{}: cannot be read ({source}); check that it is there and that you may read it", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is larger than any settings are.
    #[error("{}: has more than {MAX_BYTES} bytes: is it a settings file?", path.display())]
    Large {
        /// The file.
        path: PathBuf,
    },
    /// It is no TOML, or a value is of another kind.
    #[error("{}: {reason}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where.
        reason: String,
    },
    /// A key that there is not.
    #[error("{}: there is no setting {key:?}{}", path.display(), near.as_ref().map(|near| format!("; did you mean {near:?}?")).unwrap_or_default())]
    Unknown {
        /// The file.
        path: PathBuf,
        /// Section and key.
        key: String,
        /// The key that is spelt most like it.
        near: Option<String>,
    },
    /// A value that makes no sense.
    #[error("{}: {key} is {value}: {rule}", path.display())]
    Value {
        /// The file.
        path: PathBuf,
        /// Section and key.
        key: &'static str,
        /// What it says.
        value: String,
        /// What it must be.
        rule: &'static str,
    },
}

/// Section `[model]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "settings/training.toml says what each is")]
pub struct ModelSettings {
    pub from: Vec<String>,
    pub vision_from: String,
    pub text_from: String,
    pub tokenizer: String,
    pub vision_width: usize,
    pub vision_layers: usize,
    pub vision_heads: usize,
    pub vision_feed_forward: usize,
    pub patch_size: usize,
    pub text_width: usize,
    pub text_layers: usize,
    pub text_heads: usize,
    pub text_feed_forward: usize,
    pub positions: usize,
    pub projection_width: usize,
    pub image_size: usize,
    pub deviation: f32,
}

/// Section `[data]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "settings/training.toml says what each is")]
pub struct DataSettings {
    pub train: Vec<String>,
    pub validation: String,
    pub tokens: usize,
    pub prompt: String,
    pub threads: usize,
    pub ahead: usize,
    pub broken_share: f64,
}

/// Section `[augmentation]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "settings/training.toml says what each is")]
pub struct AugmentationSettings {
    pub enabled: bool,
    pub least_crop: f64,
    pub flip: f64,
    pub operations: usize,
    pub level: f64,
}

/// Section `[losses]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "settings/training.toml says what each is")]
pub struct LossSettings {
    pub queue: usize,
    pub momentum: f32,
    pub alpha: f32,
    pub alpha_epochs: u64,
    pub smoothing: f32,
    pub positives_by_picture: bool,
}

/// Section `[dropout]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "settings/training.toml says what each is")]
pub struct DropoutSettings {
    pub hidden: f32,
    pub attention: f32,
    pub path: f32,
}

/// Section `[optimizer]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "settings/training.toml says what each is")]
pub struct OptimizerSettings {
    pub rate: f32,
    pub least_rate: f32,
    pub warm_up_from: f32,
    pub warm_up_steps: u64,
    pub decay: Decay,
    pub decay_factor: f32,
    pub weight_decay: f32,
    pub decayed: Decayed,
    pub beta1: f32,
    pub beta2: f32,
    pub epsilon: f32,
    pub clip: f32,
}

/// Section `[run]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "settings/training.toml says what each is")]
pub struct RunSettings {
    pub batch: usize,
    pub accumulate: usize,
    pub epochs: u64,
    pub steps: u64,
    pub seed: u64,
    pub checkpointed_vision_layers: usize,
    pub checkpointed_text_layers: usize,
    pub device: String,
    pub threads: usize,
    pub patience: u64,
}

/// Section `[output]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "settings/training.toml says what each is")]
pub struct OutputSettings {
    pub snapshot_every: u64,
    pub snapshots: usize,
    pub captions_every: u64,
    pub captions: usize,
    pub line_every: u64,
    pub page_every: u64,
}

/// All knobs of a training run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "settings/training.toml says what each is")]
pub struct Settings {
    pub model: ModelSettings,
    pub data: DataSettings,
    pub augmentation: AugmentationSettings,
    pub losses: LossSettings,
    pub dropout: DropoutSettings,
    pub optimizer: OptimizerSettings,
    pub run: RunSettings,
    pub output: OutputSettings,
}

/// The defaults of a task, as a file with comments.
pub fn defaults(task: Task) -> String {
    let mut differences = BTreeMap::new();
    each_setting(task.differences(), |key, lines| {
        differences.insert(key.to_owned(), lines.to_owned());
    });
    let mut text = String::new();
    each_setting(include_str!("settings/training.toml"), |key, lines| {
        text.push_str(differences.get(key).map_or(lines, String::as_str));
    });
    text
}

/// Calls `found` with each `section.key` and the lines that belong to it, comments included. Sections and what else stands
/// alone come with a key of their own.
fn each_setting(text: &str, mut found: impl FnMut(&str, &str)) {
    let (mut section, mut lines) = (String::new(), String::new());
    for line in text.lines() {
        lines.push_str(line);
        lines.push('\n');
        let key = match line.split_once('=') {
            _ if line.starts_with('#') => continue,
            _ if line.starts_with('[') => {
                section = line.trim_matches(['[', ']']).to_owned();
                section.clone()
            }
            Some((key, _)) => format!("{section}.{}", key.trim()),
            None => format!("{section} "),
        };
        found(&key, &lines);
        lines.clear();
    }
}

impl Settings {
    /// The defaults of a task.
    pub fn of(task: Task) -> Settings {
        toml::from_str(&defaults(task)).expect("the defaults are settings, as a test shows")
    }

    /// Reads a file over the defaults of a task.
    ///
    /// # Errors
    /// A file that cannot be read, an unknown key, or a value that makes no sense.
    pub fn read(path: &Path, task: Task) -> Result<Settings, SettingsError> {
        let read = |source| SettingsError::Read { path: path.to_owned(), source };
        if std::fs::metadata(path).map_err(read)?.len() > MAX_BYTES {
            return Err(SettingsError::Large { path: path.to_owned() });
        }
        Settings::parse(&std::fs::read_to_string(path).map_err(read)?, path, task)
    }

    /// Reads a text over the defaults of a task; `path` is for messages.
    ///
    /// # Errors
    /// As [`Settings::read`].
    pub fn parse(text: &str, path: &Path, task: Task) -> Result<Settings, SettingsError> {
        let syntax =
            |error: toml::de::Error| SettingsError::Syntax { path: path.to_owned(), reason: error.to_string() };
        let mut all: toml::Table = defaults(task).parse().expect("the defaults are settings, as a test shows");
        let theirs: toml::Table = text.parse().map_err(syntax)?;
        for (section, values) in theirs {
            let toml::Value::Table(values) = values else {
                return Err(unknown(path, &section, &all));
            };
            for (key, value) in values {
                match all.get_mut(&section).and_then(|table| table.get_mut(&key)) {
                    Some(place) => *place = value,
                    None => return Err(unknown(path, &format!("{section}.{key}"), &all)),
                }
            }
        }
        let settings: Settings = all.try_into().map_err(syntax)?;
        settings.check(path, task)?;
        Ok(settings)
    }

    /// Every setting as `section.key` and its value.
    pub fn facts(&self) -> BTreeMap<String, String> {
        // Through the text, which has numbers as people write them.
        let table: toml::Table = self.to_toml().parse().expect("settings are written as TOML");
        let keys = table.into_iter().flat_map(|(section, values)| {
            let values = match values {
                toml::Value::Table(values) => values,
                _ => toml::Table::new(),
            };
            values.into_iter().map(move |(key, value)| (format!("{section}.{key}"), value.to_string()))
        });
        keys.collect()
    }

    /// The settings as a file.
    pub fn to_toml(&self) -> String {
        toml::to_string(self).expect("settings are tables of plain values")
    }
}

fn unknown(path: &Path, key: &str, known: &toml::Table) -> SettingsError {
    let keys = known.iter().flat_map(|(section, values)| {
        let keys = values.as_table().into_iter().flat_map(|table| table.keys());
        keys.map(move |key| format!("{section}.{key}"))
    });
    let near = keys.map(|known| (distance(&known, key), known)).min().filter(|(apart, _)| *apart <= 12);
    SettingsError::Unknown { path: path.to_owned(), key: key.to_owned(), near: near.map(|(_, key)| key) }
}

/// Letters to insert, remove or change. Source: Wagner and Fischer, "The string-to-string correction problem", 1974.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.chars().enumerate() {
            let changed = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TASKS: [Task; 4] = [Task::Pretrain, Task::Captioner, Task::Matcher, Task::Answerer];

    fn parse(text: &str, task: Task) -> Result<Settings, String> {
        Settings::parse(text, Path::new("mine.toml"), task).map_err(|error| error.to_string())
    }

    #[test]
    fn defaults_are_settings_that_pass_their_own_checks() {
        for task in TASKS {
            assert_eq!(parse("", task).unwrap(), Settings::of(task));
        }
    }

    #[test]
    fn what_a_task_does_differently_is_a_setting_that_there_is() {
        let mut known = Vec::new();
        each_setting(include_str!("settings/training.toml"), |key, _| known.push(key.to_owned()));
        for task in TASKS {
            each_setting(task.differences(), |key, _| assert!(known.contains(&key.to_owned()), "{key}"));
        }
        assert_eq!(Settings::of(Task::Captioner).data.prompt, "a picture of ");
        assert_eq!(Settings::of(Task::Answerer).dropout.path, 0.1);
        assert_eq!(Settings::of(Task::Matcher).optimizer.decay, Decay::EpochCosine);
    }

    #[test]
    fn settings_survive_being_written() {
        for task in TASKS {
            let settings = Settings::of(task);
            assert_eq!(parse(&settings.to_toml(), task).unwrap(), settings);
        }
    }

    #[test]
    fn an_unknown_key_is_refused_with_the_one_that_is_meant() {
        let message = parse("[run]\nbach = 3", Task::Pretrain).unwrap_err();
        assert_eq!(message, "mine.toml: there is no setting \"run.bach\"; did you mean \"run.batch\"?");
        assert!(parse("batch = 3", Task::Pretrain).unwrap_err().contains("no setting \"batch\""));
    }

    #[test]
    fn a_value_that_makes_no_sense_is_refused() {
        for (text, words) in [
            ("[run]\nbatch = 0", "run.batch is 0"),
            ("[run]\nbatch = 7", "losses.queue is 57600"),
            ("[dropout]\nhidden = 1.0", "dropout.hidden is 1"),
            ("[losses]\nalpha = nan", "losses.alpha is NaN"),
            ("[run]\nbatch = \"many\"", "mine.toml"),
            ("[optimizer]\ndecay = \"cubic\"", "cubic"),
            ("[optimizer]\ndecayed = \"some\"", "some"),
            ("[run]\nepochs = 0", "run.epochs is 0"),
            ("[run]\nepochs = 9_000_000_000_000_000_000", "run.epochs is"),
            ("[losses]\nqueue = 75_000_000_000", "losses.queue is"),
            ("[augmentation]\noperations = 1_000_000_000", "augmentation.operations is"),
            ("[optimizer]\nbeta2 = 1.0", "optimizer.beta2 is 1"),
            ("[run]\npatience = 0", "run.patience is 0"),
            ("[run]\nseed = -1", "mine.toml"),
        ] {
            let message = parse(text, Task::Pretrain).unwrap_err();
            assert!(message.contains(words), "{text}: {message}");
        }
    }
}
