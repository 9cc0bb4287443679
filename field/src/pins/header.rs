//! The pins of a Raspberry Pi's header, by `rppal`: numbers are those of the BCM chip on every model.

use std::time::Duration;

use rppal::gpio::{self, Gpio, Trigger};

use crate::config::Pull;
use crate::pins::{Driver, InputPin, Level, OutputPin, PinError};

/// A Raspberry Pi's header.
pub(super) struct Header(Gpio);

impl Header {
    /// # Errors
    /// Another machine, a model newer than `rppal`, or no right to `/dev/gpiomem` and `/dev/gpiochip*`.
    pub(super) fn open() -> Result<Header, PinError> {
        let right = |error: &gpio::Error| match error {
            // What is tried last, and what no service should have.
            gpio::Error::PermissionDenied(path) if path == "/dev/mem" => {
                "; this system has no /dev/gpiomem: set pins.driver to \"gpiocdev\""
            }
            gpio::Error::PermissionDenied(_) => "; add the user to group gpio",
            _ => "",
        };
        let named =
            |error: gpio::Error| PinError::Driver { driver: "rppal", reason: format!("{error}{}", right(&error)) };
        Gpio::new().map(Header).map_err(named)
    }
}

impl Driver for Header {
    fn name(&self) -> &'static str {
        "rppal"
    }

    fn input(&self, number: u8, pull: Pull) -> Result<Box<dyn InputPin>, String> {
        let pin = self.0.get(number).map_err(|error| error.to_string())?;
        let mut pin = match pull {
            Pull::Up => pin.into_input_pullup(),
            Pull::Down => pin.into_input_pulldown(),
            Pull::None => pin.into_input(),
        };
        // Bounces are the trigger's matter, so that every driver debounces alike.
        pin.set_interrupt(Trigger::Both, None).map_err(|error| error.to_string())?;
        Ok(Box::new(Input(pin)))
    }

    fn output(&self, number: u8, level: Level) -> Result<Box<dyn OutputPin>, String> {
        let pin = self.0.get(number).map_err(|error| error.to_string())?;
        let pin = match level {
            Level::High => pin.into_output_high(),
            Level::Low => pin.into_output_low(),
        };
        Ok(Box::new(Output(pin)))
    }
}

struct Input(gpio::InputPin);

impl InputPin for Input {
    fn wait(&mut self, at_most: Duration) -> Result<Option<Level>, String> {
        let event = self.0.poll_interrupt(false, Some(at_most)).map_err(|error| error.to_string())?;
        Ok(event.map(|event| if event.trigger == Trigger::RisingEdge { Level::High } else { Level::Low }))
    }
}

struct Output(gpio::OutputPin);

impl OutputPin for Output {
    fn set(&mut self, level: Level) -> Result<(), String> {
        self.0.write(if level == Level::High { gpio::Level::High } else { gpio::Level::Low });
        Ok(())
    }
}
