//! The lines of a GPIO chip, by Linux's character device.

use std::path::{Path, PathBuf};
use std::time::Duration;

use gpiocdev::Request;
use gpiocdev::chip::{Chip, chips};
use gpiocdev::line::{Bias, EdgeDetection, EdgeKind, Value};

use crate::config::Pull;
use crate::pins::{Driver, InputPin, Level, OutputPin, PinError};

/// The chip of a board that no profile knows.
pub(super) const FIRST_CHIP: &str = "/dev/gpiochip0";
/// Name of who has the lines, as `gpioinfo` shows it.
const CONSUMER: &str = "edgeblip";

/// A GPIO chip.
pub(super) struct CharacterDevice(PathBuf);

impl CharacterDevice {
    /// The chip with this device, or with this label, which does not depend on the order in which chips are found.
    ///
    /// # Errors
    /// No such chip, or no right to it.
    pub(super) fn open(chip: &str) -> Result<CharacterDevice, PinError> {
        let missing = |reason: String| PinError::Chip { chip: chip.to_owned(), reason };
        if chip.starts_with('/') {
            let opened = Chip::from_path(Path::new(chip)).map_err(|error| missing(error.to_string()))?;
            return Ok(CharacterDevice(opened.path().to_owned()));
        }
        let mut others = Vec::new();
        for path in chips().map_err(|error| missing(error.to_string()))? {
            match Chip::from_path(&path).and_then(|chip| chip.info()) {
                Ok(info) if info.label == chip => return Ok(CharacterDevice(path)),
                Ok(info) => others.push(format!("{:?}", info.label)),
                Err(error) => others.push(format!("{} ({error})", path.display())),
            }
        }
        let found = if others.is_empty() { "none".to_owned() } else { others.join(", ") };
        Err(missing(format!("there are: {found}")))
    }
}

impl Driver for CharacterDevice {
    fn name(&self) -> &'static str {
        "gpiocdev"
    }

    fn input(&self, number: u8, pull: Pull) -> Result<Box<dyn InputPin>, String> {
        let mut builder = Request::builder();
        builder.on_chip(&self.0).with_consumer(CONSUMER).with_line(number.into()).as_input();
        // Bounces are the trigger's matter, so that every driver debounces alike.
        builder.with_edge_detection(EdgeDetection::BothEdges);
        let pulled = match pull {
            Pull::Up => builder.with_bias(Bias::PullUp).request(),
            Pull::Down => builder.with_bias(Bias::PullDown).request(),
            Pull::None => builder.request(),
        };
        let request = pulled.or_else(|error| {
            // Not every chip has resistors inside.
            let request = builder.with_bias(None).request()?;
            log::warn!(pin = number, reason:% = error; "the chip does not pull the pin: put a resistor to it");
            Ok(request)
        });
        Ok(Box::new(Input(request.map_err(|error: gpiocdev::Error| error.to_string())?)))
    }

    fn output(&self, number: u8, level: Level) -> Result<Box<dyn OutputPin>, String> {
        let mut builder = Request::builder();
        builder.on_chip(&self.0).with_consumer(CONSUMER).with_line(number.into()).as_output(value(level));
        Ok(Box::new(Output { request: builder.request().map_err(|error| error.to_string())?, number }))
    }
}

fn value(level: Level) -> Value {
    if level == Level::High { Value::Active } else { Value::Inactive }
}

struct Input(Request);

impl InputPin for Input {
    fn wait(&mut self, at_most: Duration) -> Result<Option<Level>, String> {
        if !self.0.wait_edge_event(at_most).map_err(|error| error.to_string())? {
            return Ok(None);
        }
        let event = self.0.read_edge_event().map_err(|error| error.to_string())?;
        Ok(Some(if event.kind == EdgeKind::Rising { Level::High } else { Level::Low }))
    }
}

struct Output {
    request: Request,
    number: u8,
}

impl OutputPin for Output {
    fn set(&mut self, level: Level) -> Result<(), String> {
        self.request.set_value(self.number.into(), value(level)).map(|_| ()).map_err(|error| error.to_string())
    }
}
