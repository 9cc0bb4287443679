//! How the way home is, for the page and for people.

use std::path::Path;

use exchange::DeviceName;
use serde::Serialize;

use crate::identity::Identity;
use crate::ledger::Ledger;

/// What the last round left, as any process can read it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Status {
    /// What the host calls the board; nothing if it is not enrolled.
    pub device: Option<DeviceName>,
    /// In a word, for programs: "not-enrolled", "never", or as [`crate::State::name`].
    pub state: String,
    /// For people.
    pub words: String,
    /// When that was, seconds since 1970 as well as was known.
    pub at_s: Option<i64>,
    /// When all went well last.
    pub well_at_s: Option<i64>,
    /// Pairs and tombstones without a receipt.
    pub under_way: usize,
    /// Pairs that the host will not have.
    pub refused: usize,
}

impl Status {
    /// Reads the folder. What cannot be read is as if it had not been.
    pub fn read(folder: &Path) -> Status {
        let ledger = Ledger::at(folder);
        let memory = ledger.memory();
        let device = Identity::at(folder).grant().ok().flatten().map(|grant| grant.device);
        let (state, words) = match (&device, memory.state.is_empty()) {
            (None, _) => ("not-enrolled".to_owned(), "this board has no host: \"edgeblip enrol\" asks one".to_owned()),
            (Some(_), true) => ("never".to_owned(), "nothing was sent yet".to_owned()),
            (Some(_), false) => (memory.state, memory.words),
        };
        Status {
            device,
            state,
            words,
            at_s: Some(memory.at_s).filter(|at| *at != 0),
            well_at_s: memory.well_at_s,
            under_way: ledger.under_way().map(|sent| sent.len()).unwrap_or_default(),
            refused: ledger.refused().map(|refusals| refusals.len()).unwrap_or_default(),
        }
    }
}
