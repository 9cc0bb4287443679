//! Wires of the board: an input that triggers, a status LED and a lamp. A board without any works as well.
//!
//! Both drivers are in every build for Linux, and which of them runs is found at run time.

mod header;
mod character_device;
mod fake;

pub use fake::FakeDriver;

use std::time::Duration;

use firmware_config::BoardProfile;

use crate::config::{PinDriver, Pins, Pull};
use crate::light::Light;

/// What a wire is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Near the supply's voltage.
    High,
    /// Near ground.
    Low,
}

/// A pin that does not do what it should.
#[derive(Debug, thiserror::Error)]
pub enum PinError {
    /// No driver.
    #[error("the pins cannot be driven by {driver}: {reason}")]
    Driver {
        /// Its name.
        driver: &'static str,
        /// Why.
        reason: String,
    },
    /// No chip.
    #[error("there is no GPIO chip {chip:?}: {reason}; see /dev/gpiochip* and set pins.chip")]
    Chip {
        /// Its label or device.
        chip: String,
        /// Why.
        reason: String,
    },
    /// No such pin, or a pin that others have.
    #[error("pin {number} ({used}): {reason}")]
    Pin {
        /// Its number.
        number: u8,
        /// What for: the setting's name.
        used: &'static str,
        /// Why.
        reason: String,
    },
}

/// What drives pins.
pub trait Driver {
    /// Its name, for logs.
    fn name(&self) -> &'static str;

    /// Makes a pin an input, whose edges are told.
    ///
    /// # Errors
    /// Why the driver cannot, in words.
    fn input(&self, number: u8, pull: Pull) -> Result<Box<dyn InputPin>, String>;

    /// Makes a pin an output at a level.
    ///
    /// # Errors
    /// Why the driver cannot, in words.
    fn output(&self, number: u8, level: Level) -> Result<Box<dyn OutputPin>, String>;
}

/// A wire that is read.
pub trait InputPin: Send {
    /// Waits for the next edge: what the wire is since then. `None` if none has come in time.
    ///
    /// # Errors
    /// Why it cannot be read, in words.
    fn wait(&mut self, at_most: Duration) -> Result<Option<Level>, String>;
}

/// A wire that is set.
pub trait OutputPin: Send {
    /// Sets it.
    ///
    /// # Errors
    /// Why it cannot be set, in words.
    fn set(&mut self, level: Level) -> Result<(), String>;
}

/// Whether a trigger is on: a button is down, a PIR sensor sees something warm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Edge {
    /// It is since now.
    Begins,
    /// It is no more.
    Ends,
}

/// The trigger's wire.
pub struct Trigger {
    pin: Box<dyn InputPin>,
    number: u8,
    active: Level,
}

impl Trigger {
    /// Waits for the next edge; `None` if none has come in time. Edges that bounce are told too.
    ///
    /// # Errors
    /// A pin that cannot be read.
    pub fn wait(&mut self, at_most: Duration) -> Result<Option<Edge>, PinError> {
        let level = self.pin.wait(at_most);
        let level = level.map_err(|reason| PinError::Pin { number: self.number, used: "pins.trigger", reason })?;
        Ok(level.map(|level| if level == self.active { Edge::Begins } else { Edge::Ends }))
    }
}

/// The wire of an LED or a lamp. It is off when it is dropped.
pub struct Switch {
    pin: Box<dyn OutputPin>,
    number: u8,
    used: &'static str,
    active: Level,
    light: Light,
}

impl Switch {
    /// Sets it; a wire that is so already is left alone.
    ///
    /// # Errors
    /// A pin that cannot be set.
    pub fn set(&mut self, light: Light) -> Result<(), PinError> {
        if light == self.light {
            return Ok(());
        }
        let set = self.pin.set(level_of(light, self.active));
        set.map_err(|reason| PinError::Pin { number: self.number, used: self.used, reason })?;
        self.light = light;
        Ok(())
    }
}

impl Drop for Switch {
    fn drop(&mut self) {
        // There is nobody left to tell.
        let _ = self.set(Light::Off);
    }
}

/// The wires that the configuration names.
#[derive(Default)]
pub struct Wires {
    /// The trigger.
    pub trigger: Option<Trigger>,
    /// The status LED.
    pub led: Option<Switch>,
    /// The lamp.
    pub lamp: Option<Switch>,
    /// Name of their driver; `None` if there are no wires.
    pub driver: Option<&'static str>,
}

impl Wires {
    /// Opens the wires that the configuration names; what cannot be opened is left out, and told.
    pub fn open(pins: &Pins, profile: &BoardProfile, model: Option<&str>) -> (Wires, Vec<PinError>) {
        if [pins.trigger, pins.led, pins.lamp].iter().all(Option::is_none) {
            return (Wires::default(), Vec::new());
        }
        let mut faults = Vec::new();
        match driver(pins, profile, model, &mut faults) {
            Ok(driver) => {
                let (wires, of_pins) = Wires::open_with(driver.as_ref(), pins);
                faults.extend(of_pins);
                (wires, faults)
            }
            Err(error) => {
                faults.push(error);
                (Wires::default(), faults)
            }
        }
    }

    /// Opens the wires with a driver.
    pub fn open_with(driver: &dyn Driver, pins: &Pins) -> (Wires, Vec<PinError>) {
        let mut faults = Vec::new();
        let trigger = pins.trigger.and_then(|number| {
            let used = "pins.trigger";
            let pin = driver.input(number, pins.trigger_pull);
            let pin = pin.map_err(|reason| faults.push(PinError::Pin { number, used, reason })).ok()?;
            Some(Trigger { pin, number, active: active(pins.trigger_active_low) })
        });
        let mut switch = |number: Option<u8>, active_low, used| {
            let (number, active) = (number?, active(active_low));
            let pin = driver.output(number, level_of(Light::Off, active));
            let pin = pin.map_err(|reason| faults.push(PinError::Pin { number, used, reason })).ok()?;
            Some(Switch { pin, number, used, active, light: Light::Off })
        };
        let led = switch(pins.led, pins.led_active_low, "pins.led");
        let lamp = switch(pins.lamp, pins.lamp_active_low, "pins.lamp");
        (Wires { trigger, led, lamp, driver: Some(driver.name()) }, faults)
    }
}

fn active(active_low: bool) -> Level {
    if active_low { Level::Low } else { Level::High }
}

fn level_of(light: Light, active: Level) -> Level {
    match (light, active) {
        (Light::On, level) => level,
        (Light::Off, Level::High) => Level::Low,
        (Light::Off, Level::Low) => Level::High,
    }
}

fn driver(
    pins: &Pins,
    profile: &BoardProfile,
    model: Option<&str>,
    faults: &mut Vec<PinError>,
) -> Result<Box<dyn Driver>, PinError> {
    let character_device = || -> Result<Box<dyn Driver>, PinError> {
        let chip = pins.chip.as_deref().or(profile.gpio.as_deref()).unwrap_or(character_device::FIRST_CHIP);
        Ok(Box::new(character_device::CharacterDevice::open(chip)?))
    };
    let header = || -> Result<Box<dyn Driver>, PinError> { Ok(Box::new(header::Header::open()?)) };
    let is_raspberry = model.is_some_and(|model| model.starts_with("Raspberry Pi"));
    match pins.driver {
        PinDriver::Rppal => header(),
        PinDriver::Gpiocdev => character_device(),
        // Who names a chip means the driver that knows chips.
        PinDriver::Auto if is_raspberry && pins.chip.is_none() => header().or_else(|error| {
            faults.push(error);
            character_device()
        }),
        PinDriver::Auto => character_device(),
    }
}

#[cfg(test)]
mod tests;
