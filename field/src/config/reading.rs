//! A text becomes a configuration, or everything that is wrong with it.

use std::collections::HashMap;
use std::ops::Range;
use std::path::Path;

use firmware_config::BoardProfile;
use toml::de::{DeTable, DeValue};

use crate::config::faults::nearest;
use crate::config::sections::{KNOBS, PositionSource, SECTIONS, Settings};
use crate::config::{Config, Fault, Faults, Knob, Origin};

/// Longest value that a message shows, in characters.
const SHOWN: usize = 60;

impl Config {
    /// The defaults of a board, paths as they are written.
    pub(super) fn of_board(profile: &'static BoardProfile) -> Config {
        let mut settings = Settings::default();
        let mut origins = vec![Origin::Default; KNOBS.len()];
        for (knob, origin) in KNOBS.iter().zip(&mut origins) {
            let value = profile.defaults.get(knob.section).and_then(|section| section.get(knob.key));
            if value.is_some_and(|value| (knob.read)(&mut settings, value)) {
                *origin = Origin::Board;
            }
        }
        Config { settings, origins, profile, path: None }
    }
}

/// Reads a text over the defaults of `detected`, or of the board that it names.
pub(super) fn read(text: &str, path: &Path, detected: &'static BoardProfile) -> Result<Config, Faults> {
    let mut reading = Reading { text, faults: Vec::new() };
    let config = reading.config(detected);
    let mut faults = reading.faults;
    match config {
        Some(config) if faults.is_empty() => Ok(Config { path: Some(path.to_owned()), ..config }),
        _ => {
            faults.sort_by_key(|(line, _)| *line);
            Err(Faults { path: path.to_owned(), faults })
        }
    }
}

struct Reading<'t> {
    text: &'t str,
    faults: Vec<(usize, Fault)>,
}

/// A value and the line of its key.
type Found = (usize, toml::Value);

impl Reading<'_> {
    fn config(&mut self, detected: &'static BoardProfile) -> Option<Config> {
        let values = self.values()?;
        let board = ("board", "profile");
        let profile = match values.get(&board) {
            Some((line, value)) => self.profile(*line, value, detected),
            None => detected,
        };
        let mut config = Config::of_board(profile);
        for (knob, origin) in KNOBS.iter().zip(&mut config.origins) {
            let Some((line, value)) = values.get(&(knob.section, knob.key)) else { continue };
            *origin = Origin::File { line: *line };
            if !(knob.read)(&mut config.settings, value) {
                let fault = Fault::Value { key: knob.name(), value: shown(value), allowed: (knob.allowed)() };
                self.faults.push((*line, fault));
            }
        }
        if self.faults.is_empty() {
            self.check(&config);
        }
        Some(config)
    }

    /// Values by section and key. Keys that are no settings are faults.
    fn values(&mut self) -> Option<HashMap<(&'static str, &'static str), Found>> {
        // The first reader knows where things stand, the second what they are.
        let (places, mut values) = match (DeTable::parse(self.text), self.text.parse::<toml::Table>()) {
            (Ok(places), Ok(values)) => (places, values),
            (Err(error), _) | (_, Err(error)) => {
                let reason = error.message().replace('\n', " ");
                self.faults.push((self.line(error.span().unwrap_or_default()), Fault::Syntax { reason }));
                return None;
            }
        };
        let mut found = HashMap::new();
        for (section, place) in places.get_ref() {
            let line = self.line(section.span());
            let section = section.get_ref().as_ref();
            let names = || SECTIONS.iter().map(|(name, _)| *name);
            let DeValue::Table(keys) = place.get_ref() else {
                let is_setting = KNOBS.iter().any(|knob| knob.key == section) || names().any(|name| name == section);
                let key = section.to_owned();
                let fault = if is_setting { Fault::Outside { key } } else { unknown(key, names()) };
                self.faults.push((line, fault));
                continue;
            };
            let Some(name) = names().find(|name| *name == section) else {
                self.faults.push((line, unknown(section.to_owned(), names())));
                continue;
            };
            for key in keys.keys() {
                let line = self.line(key.span());
                let key: &str = key.get_ref();
                let value = values.get_mut(section).and_then(|table| table.as_table_mut()?.remove(key));
                match (KNOBS.iter().find(|knob| knob.section == name && knob.key == key), value) {
                    (Some(knob), Some(value)) => {
                        found.insert((name, knob.key), (line, value));
                    }
                    _ => self.faults.push((line, unknown_key(name, key))),
                }
            }
        }
        Some(found)
    }

    fn profile(&mut self, line: usize, value: &toml::Value, detected: &'static BoardProfile) -> &'static BoardProfile {
        match value.as_str() {
            Some("auto") => detected,
            name => name.and_then(BoardProfile::named).unwrap_or_else(|| {
                let names: Vec<String> =
                    BoardProfile::all().iter().map(|profile| format!("{:?}", profile.name)).collect();
                let allowed = format!("\"auto\", or one of {}", names.join(", "));
                let fault = Fault::Value { key: "board.profile".to_owned(), value: shown(value), allowed };
                self.faults.push((line, fault));
                detected
            }),
        }
    }

    /// Finds values that do not go with each other.
    fn check(&mut self, config: &Config) {
        let settings = &config.settings;
        let (limits, pins, place) = (&settings.limits, &settings.pins, &settings.place);
        if limits.warm_celsius >= limits.hot_celsius {
            let rule = format!("it must lie above limits.warm_celsius, {}", limits.warm_celsius);
            self.refuse(config, ["limits.hot_celsius", "limits.warm_celsius"], rule);
        }
        let triggers = &settings.triggers;
        if triggers.motion_area >= triggers.motion_most {
            let rule = format!("it must lie below triggers.motion_most, {}", triggers.motion_most);
            self.refuse(config, ["triggers.motion_area", "triggers.motion_most"], rule);
        }
        if pins.lamp_lead_ms >= pins.lamp_longest_ms {
            let rule = format!("it must be more than pins.lamp_lead_ms, {}", pins.lamp_lead_ms);
            self.refuse(config, ["pins.lamp_longest_ms", "pins.lamp_lead_ms"], rule);
        }
        let wires = [("pins.trigger", pins.trigger), ("pins.led", pins.led), ("pins.lamp", pins.lamp)];
        for (place, (key, wire)) in wires.iter().enumerate() {
            let twin = wires.iter().take(place).find(|(_, other)| wire.is_some() && other == wire);
            if let Some((other, _)) = twin {
                self.refuse(config, [key, other], format!("it must be another than {other}"));
            }
        }
        if place.position == PositionSource::Fixed && place.latitude == 0.0 && place.longitude == 0.0 {
            let rule = "then place.latitude and place.longitude say where, and both are 0".to_owned();
            self.refuse(config, ["place.position"; 2], rule);
        }
    }

    /// Refuses the first key's value, which does not go with the other's.
    fn refuse(&mut self, config: &Config, keys: [&str; 2], rule: String) {
        let known = |key: &str| KNOBS.iter().zip(&config.origins).find(|(knob, _)| knob.name() == key);
        let line = keys.into_iter().filter_map(known).find_map(|(_, origin)| match origin {
            Origin::File { line } => Some(*line),
            Origin::Default | Origin::Board | Origin::Flag => None,
        });
        if let Some((knob, _)) = known(keys[0]) {
            let value = (knob.write)(&config.settings).to_string();
            // Defaults go with each other, as a test shows: one of the two is the file's.
            self.faults.push((line.unwrap_or(1), Fault::Together { key: knob.name(), value, rule }));
        }
    }

    fn line(&self, place: Range<usize>) -> usize {
        let before = self.text.as_bytes().get(..place.start).unwrap_or_default();
        1 + before.iter().filter(|byte| **byte == b'\n').count()
    }
}

fn unknown<'a>(key: String, names: impl Iterator<Item = &'a str>) -> Fault {
    let near = nearest(&key, names).map(str::to_owned);
    Fault::Unknown { key, near }
}

/// The key that is meant may stand in this section, or in another under the very same name.
fn unknown_key(section: &'static str, key: &str) -> Fault {
    let elsewhere = KNOBS.iter().find(|knob| knob.key == key).map(Knob::name);
    let here = || {
        let names = KNOBS.iter().filter(|knob| knob.section == section).map(|knob| knob.key);
        nearest(key, names).map(|near| format!("{section}.{near}"))
    };
    Fault::Unknown { key: format!("{section}.{key}"), near: elsewhere.or_else(here) }
}

/// The value as TOML on one line, not too long.
fn shown(value: &toml::Value) -> String {
    let text = value.to_string().replace('\n', " ");
    if text.chars().count() <= SHOWN {
        return text;
    }
    text.chars().take(SHOWN).chain("...".chars()).collect()
}
