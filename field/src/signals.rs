//! Signals become messages.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{Receiver, sync_channel};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use signal_hook::flag;
use signal_hook::iterator::Signals;

/// Messages that may wait. Further ones ask for what is asked for already.
const WAITING: usize = 8;
/// Exit code of a program that a signal ends, plus the signal. Source: POSIX shells.
const EXIT_OF_SIGNAL: i32 = 128;

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// Seal what is open, and end: SIGTERM, SIGINT.
    Stop,
    /// Read the configuration again: SIGHUP.
    Reload,
    /// Take a frame now: SIGUSR1.
    Take,
}

/// Takes the signals over. A second SIGTERM or SIGINT ends the program at once, whatever it does.
///
/// # Errors
/// A system that has no room for it.
pub fn listen() -> io::Result<Receiver<Signal>> {
    let asked = Arc::new(AtomicBool::new(false));
    for signal in [SIGTERM, SIGINT] {
        // In this order: the first signal arms what the second one sets off.
        flag::register_conditional_shutdown(signal, EXIT_OF_SIGNAL + signal, Arc::clone(&asked))?;
        flag::register(signal, Arc::clone(&asked))?;
    }
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP, SIGUSR1])?;
    let (sender, receiver) = sync_channel(WAITING);
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        for signal in signals.forever() {
            // A receiver that is gone wants none, and of those that wait one more says nothing new; but an end is never lost.
            let _ = match signal {
                SIGHUP => sender.try_send(Signal::Reload).is_ok(),
                SIGUSR1 => sender.try_send(Signal::Take).is_ok(),
                _ => sender.send(Signal::Stop).is_ok(),
            };
        }
    })?;
    Ok(receiver)
}
