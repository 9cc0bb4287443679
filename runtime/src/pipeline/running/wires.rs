//! Threads for what has a will of its own: the trigger's wire, the LED, gpsd.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant};

use field::config::{Config, PositionSource, Settings};
use field::gpsd::{Gpsd, GpsdError, wait_after};
use field::light::{Light, Status, light};
use field::pins::{Switch, Trigger, Wires};

use super::{Message, RunError};

/// Longest wait of a thread that is to notice changes.
const PAUSE: Duration = Duration::from_millis(250);
/// Longest wait for gpsd.
const GPSD: Duration = Duration::from_secs(5);
/// Wait after a wire that could not be read.
const FAULT: Duration = Duration::from_secs(5);

/// The wires that the configuration names.
pub(super) struct Board {
    lamp: Option<Switch>,
    status: Arc<AtomicU8>,
}

impl Board {
    /// Opens the wires. What cannot be opened is told and left out: a board without them works as well.
    pub(super) fn open(config: &Config, messages: &SyncSender<Message>) -> Result<Board, RunError> {
        let model = field::board::model();
        let (wires, faults) = Wires::open(&config.pins, config.profile(), model.as_deref());
        for fault in faults {
            log::error!(error:% = fault; "a pin is not used");
        }
        let status = Arc::new(AtomicU8::new(code(Status::Idle)));
        if let Some(led) = wires.led {
            let status = Arc::clone(&status);
            spawn("led", move || blink(led, &status))?;
        }
        if let Some(trigger) = wires.trigger {
            let messages = messages.clone();
            spawn("trigger", move || listen(trigger, &messages))?;
        }
        Ok(Board { lamp: wires.lamp, status })
    }

    /// Lets the LED say how the board does.
    pub(super) fn show(&self, status: Status) {
        self.status.store(code(status), Ordering::Relaxed);
    }

    /// Switches the lamp.
    pub(super) fn light(&mut self, light: Light) {
        if let Some(lamp) = &mut self.lamp
            && let Err(error) = lamp.set(light)
        {
            log::warn!(error:% = error; "the lamp does not work");
        }
    }
}

fn spawn(name: &'static str, work: impl FnOnce() + Send + 'static) -> Result<(), RunError> {
    let thread = std::thread::Builder::new().name(name.to_owned()).spawn(work);
    thread.map(drop).map_err(|source| RunError::Thread { what: name, source })
}

fn code(status: Status) -> u8 {
    match status {
        Status::Idle => 0,
        Status::Busy => 1,
        Status::Full => 2,
        Status::Error => 3,
    }
}

fn blink(mut led: Switch, status: &AtomicU8) {
    let start = Instant::now();
    loop {
        let status = match status.load(Ordering::Relaxed) {
            0 => Status::Idle,
            1 => Status::Busy,
            2 => Status::Full,
            _ => Status::Error,
        };
        let (now, stays) = light(status, start.elapsed());
        if let Err(error) = led.set(now) {
            log::warn!(error:% = error; "the status LED does not work");
            return;
        }
        std::thread::sleep(stays.min(PAUSE));
    }
}

fn listen(mut trigger: Trigger, messages: &SyncSender<Message>) {
    loop {
        match trigger.wait(PAUSE) {
            // Edges that nobody has time for belong to one that waits.
            Ok(Some(edge)) => drop(messages.try_send(Message::Edge(edge))),
            Ok(None) => {}
            Err(error) => {
                log::warn!(error:% = error; "the trigger pin cannot be read");
                std::thread::sleep(FAULT);
            }
        }
    }
}

/// Asks gpsd, if the configuration wants it.
pub(super) fn follow_gpsd(settings: &Settings, messages: &SyncSender<Message>) -> Result<(), RunError> {
    if settings.place.position != PositionSource::Gpsd {
        return Ok(());
    }
    let (address, messages) = (settings.place.gpsd.clone(), messages.clone());
    spawn("gpsd", move || {
        let mut failures = 0;
        loop {
            let Err(error) = ask(&address, &messages, &mut failures);
            failures += 1;
            log::warn!(error:% = error; "no position for now");
            std::thread::sleep(wait_after(failures));
        }
    })
}

/// Tells every fix until gpsd is gone.
fn ask(address: &str, messages: &SyncSender<Message>, failures: &mut u32) -> Result<Infallible, GpsdError> {
    let mut gpsd = Gpsd::connect(address, GPSD)?;
    *failures = 0;
    loop {
        if let Some(fix) = gpsd.next_fix(GPSD)? {
            // One that nobody has time for is followed by another within a second.
            let _ = messages.try_send(Message::Fix(fix));
        }
    }
}
