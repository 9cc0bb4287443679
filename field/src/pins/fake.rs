//! A driver without a board: its outputs are remembered, and its inputs are told.

use std::collections::HashMap;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::config::Pull;
use crate::pins::{Driver, InputPin, Level, OutputPin};

/// A driver for tests. Pin 13 is broken.
#[derive(Clone, Debug, Default)]
pub struct FakeDriver(Arc<Mutex<Board>>);

#[derive(Debug, Default)]
struct Board {
    inputs: HashMap<u8, Sender<Level>>,
    outputs: HashMap<u8, Vec<Level>>,
}

impl FakeDriver {
    /// Number of the pin that cannot be opened.
    pub const BROKEN: u8 = 13;

    /// No pin is open.
    pub fn new() -> FakeDriver {
        FakeDriver::default()
    }

    /// Lets an input see an edge.
    pub fn drive(&self, number: u8, level: Level) {
        if let Some(input) = self.board().inputs.get(&number) {
            // An input that is closed sees nothing.
            let _ = input.send(level);
        }
    }

    /// Every level that an output was set to, from the one that it was opened with.
    pub fn levels(&self, number: u8) -> Vec<Level> {
        self.board().outputs.get(&number).cloned().unwrap_or_default()
    }

    fn board(&self) -> std::sync::MutexGuard<'_, Board> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Driver for FakeDriver {
    fn name(&self) -> &'static str {
        "fake"
    }

    fn input(&self, number: u8, _pull: Pull) -> Result<Box<dyn InputPin>, String> {
        if number == Self::BROKEN {
            return Err("the pin is broken".to_owned());
        }
        let (sender, receiver) = channel();
        self.board().inputs.insert(number, sender);
        Ok(Box::new(Input(receiver)))
    }

    fn output(&self, number: u8, level: Level) -> Result<Box<dyn OutputPin>, String> {
        if number == Self::BROKEN {
            return Err("the pin is broken".to_owned());
        }
        self.board().outputs.insert(number, vec![level]);
        Ok(Box::new(Output { driver: self.clone(), number }))
    }
}

struct Input(Receiver<Level>);

impl InputPin for Input {
    fn wait(&mut self, at_most: Duration) -> Result<Option<Level>, String> {
        match self.0.recv_timeout(at_most) {
            Ok(level) => Ok(Some(level)),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => Err("the board has gone".to_owned()),
        }
    }
}

struct Output {
    driver: FakeDriver,
    number: u8,
}

impl OutputPin for Output {
    fn set(&mut self, level: Level) -> Result<(), String> {
        self.driver.board().outputs.entry(self.number).or_default().push(level);
        Ok(())
    }
}
