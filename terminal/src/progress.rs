//! Shows how far long work has come: a bar on a terminal, plain lines elsewhere.

use std::io::{IsTerminal, Write};

use indicatif::{ProgressBar, ProgressStyle};

use crate::printable;

/// Progress of one piece of work, on standard error.
pub enum Progress {
    /// A bar.
    Bar(ProgressBar),
    /// A line for each stage.
    Lines,
    /// Nothing.
    Silent,
}

impl Progress {
    /// A bar that counts `unit`s if standard error is a terminal, lines otherwise.
    pub fn new(unit: &str) -> Progress {
        if !std::io::stderr().is_terminal() {
            return Progress::Lines;
        }
        let style = ProgressStyle::with_template(&format!("{{msg:<28}} [{{wide_bar}}] {{pos}}/{{len}} {unit}"))
            .expect("the template is well formed")
            .progress_chars("=> ");
        Progress::Bar(ProgressBar::new(0).with_style(style))
    }

    /// Starts a stage of `steps` steps.
    pub fn stage(&self, name: &str, steps: usize) {
        match self {
            Progress::Bar(bar) => {
                bar.set_length(steps as u64);
                bar.set_position(0);
                bar.set_message(printable(name));
            }
            Progress::Lines => drop(writeln!(std::io::stderr(), "{}", printable(name))),
            Progress::Silent => {}
        }
    }

    /// One step is done.
    pub fn step(&self) {
        if let Progress::Bar(bar) = self {
            bar.inc(1);
        }
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        if let Progress::Bar(bar) = self {
            bar.finish_and_clear();
        }
    }
}
