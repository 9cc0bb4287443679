//! Every setting of a board: one TOML file over the defaults of its profile, over everybody's.

use std::fs;
use std::io;
use std::ops::Deref;
use std::path::{Path, PathBuf};

use firmware_config::BoardProfile;

mod value;
mod sections;
mod faults;
mod reading;
mod writing;

pub use faults::{Fault, Faults};
pub use sections::{
    Board, Camera, Captions, Filter, Limits, Log, LogLevel, Model, Mqtt, Page, PinDriver, Pins, Place, PositionSource,
    Privacy, Pull, Rule, Settings, Store, Triggers,
};
pub use value::{Broker, Source};

/// Largest configuration file.
pub const MAX_BYTES: u64 = 1 << 20;

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{}: {source}; write one after the example that \"edgeblip config --example\" prints", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is no configuration.
    #[error("{} is larger than {MAX_BYTES} bytes, which no configuration is", path.display())]
    Large {
        /// The file.
        path: PathBuf,
    },
    /// The file says what cannot be; all of it is told at once.
    #[error(transparent)]
    Faults(#[from] Faults),
    /// A flag says what cannot be.
    #[error("{name} = {value:?} is not allowed: {allowed}")]
    Flag {
        /// The setting.
        name: String,
        /// What was given.
        value: String,
        /// What is allowed.
        allowed: String,
    },
}

/// When a change of a setting takes effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// With the next frame.
    AtOnce,
    /// When the program starts again.
    Restart,
}

/// Whether passwords of URLs are written out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passwords {
    /// They are: the text is a configuration as good as the first.
    Shown,
    /// A word stands for each: the text may be shown to others.
    Hidden,
}

/// Where a setting's value is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Everybody's default.
    Default,
    /// The board's profile.
    Board,
    /// The file.
    File {
        /// Line of the key.
        line: usize,
    },
    /// The command line.
    Flag,
}

/// One setting.
struct Knob {
    section: &'static str,
    key: &'static str,
    about: &'static [&'static str],
    effect: Effect,
    allowed: fn() -> String,
    /// Takes a value over; `false` if it is not allowed.
    read: fn(&mut Settings, &toml::Value) -> bool,
    write: fn(&Settings) -> toml::Value,
    resolve: fn(&mut Settings, &Path),
}

impl Knob {
    fn name(&self) -> String {
        format!("{}.{}", self.section, self.key)
    }
}

/// A setting that has another value than before.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// Its section.
    pub section: &'static str,
    /// Its name in the section.
    pub key: &'static str,
    /// When the new value takes effect.
    pub effect: Effect,
    /// The value before, as TOML.
    pub from: String,
    /// The value now, as TOML.
    pub to: String,
}

/// All settings, each with where it is from.
#[derive(Clone, Debug)]
pub struct Config {
    settings: Settings,
    /// By the order of the settings.
    origins: Vec<Origin>,
    profile: &'static BoardProfile,
    path: Option<PathBuf>,
}

impl Deref for Config {
    type Target = Settings;

    fn deref(&self) -> &Settings {
        &self.settings
    }
}

impl Config {
    /// The defaults of a board, paths relative to `folder`.
    pub fn defaults(profile: &'static BoardProfile, folder: &Path) -> Config {
        let mut config = Config::of_board(profile);
        config.resolve(folder);
        config
    }

    /// Reads a file over the defaults of `detected`, or of the board that it names.
    ///
    /// # Errors
    /// A file that cannot be read, is no TOML, has keys that are not settings, or values that are not allowed.
    pub fn read(path: &Path, detected: &'static BoardProfile) -> Result<Config, ConfigError> {
        let read = |source| ConfigError::Read { path: path.to_owned(), source };
        // A pipe has no length, and no end that can be known beforehand.
        let file = fs::File::open(path).map_err(read)?;
        let mut text = String::new();
        io::Read::read_to_string(&mut io::Read::take(file, MAX_BYTES + 1), &mut text).map_err(read)?;
        if text.len() as u64 > MAX_BYTES {
            return Err(ConfigError::Large { path: path.to_owned() });
        }
        let path = std::path::absolute(path).map_err(read)?;
        let folder = path.parent().unwrap_or(&path).to_owned();
        let mut config = Config::parse(&text, &path, detected)?;
        config.resolve(&folder);
        Ok(config)
    }

    /// Reads a text over the defaults of `detected`, or of the board that it names; paths stay as they are written, and
    /// `path` is for messages.
    ///
    /// # Errors
    /// As [`Config::read`], without what is about the file itself.
    pub fn parse(text: &str, path: &Path, detected: &'static BoardProfile) -> Result<Config, Faults> {
        reading::read(text, path, detected)
    }

    /// Sets a setting that is a text, as a flag does; a path in it is relative to `folder`.
    ///
    /// # Errors
    /// A value that is not allowed.
    ///
    /// # Panics
    /// If there is no such setting.
    pub fn set(&mut self, name: &str, value: &str, folder: &Path) -> Result<(), ConfigError> {
        let mut knobs = sections::KNOBS.iter().zip(&mut self.origins);
        let (knob, origin) = knobs.find(|(knob, _)| knob.name() == name).expect("the program's flags name settings");
        if !(knob.read)(&mut self.settings, &toml::Value::String(value.to_owned())) {
            let (name, value) = (name.to_owned(), value.to_owned());
            return Err(ConfigError::Flag { name, value, allowed: (knob.allowed)() });
        }
        (knob.resolve)(&mut self.settings, folder);
        *origin = Origin::Flag;
        Ok(())
    }

    /// The profile whose defaults apply.
    pub fn profile(&self) -> &'static BoardProfile {
        self.profile
    }

    /// The whole configuration as TOML, with what each setting is, what is allowed, and where its value is from.
    pub fn effective(&self, passwords: Passwords) -> String {
        writing::effective(self, passwords)
    }

    /// Takes over what may change while the program runs, and answers with all that differs in `new`. What takes a
    /// restart stays as it is.
    pub fn adopt(&mut self, new: &Config) -> Vec<Change> {
        let changes = Config::changes(self, new);
        let places = sections::KNOBS.iter().zip(self.origins.iter_mut().zip(&new.origins));
        for (knob, (origin, new_origin)) in places.filter(|(knob, _)| knob.effect == Effect::AtOnce) {
            // What a setting writes is allowed, so it is read.
            if (knob.read)(&mut self.settings, &(knob.write)(&new.settings)) {
                *origin = *new_origin;
            }
        }
        self.path.clone_from(&new.path);
        changes
    }

    /// What differs in `new`, by the order of the settings. Passwords are not in it.
    pub fn changes(old: &Config, new: &Config) -> Vec<Change> {
        let change = |knob: &Knob| {
            let [from, to] = [old, new].map(|config| (knob.write)(&config.settings).to_string());
            let Knob { section, key, effect, .. } = *knob;
            let is_other = from != to;
            let [from, to] = [from, to].map(|value| writing::without_password(&value));
            is_other.then_some(Change { section, key, effect, from, to })
        };
        sections::KNOBS.iter().filter_map(change).collect()
    }
}

/// A file with every setting, explained, at everybody's default.
pub fn example() -> String {
    writing::example()
}

#[cfg(test)]
mod tests;
