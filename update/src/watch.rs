//! A service that runs, and what it is to run.

use std::sync::{Arc, OnceLock};

use crate::slots::Updates;
use crate::state::Wanted;

/// Says to a service when something else is to run than what it has loaded.
#[derive(Clone, Debug)]
pub struct Watch {
    updates: Updates,
    loaded: Arc<OnceLock<Wanted>>,
}

impl Watch {
    /// For a service that is about to load what [`Updates::begin`] chooses.
    pub fn new(updates: Updates) -> Watch {
        Watch { updates, loaded: Arc::default() }
    }

    /// The service has loaded it, and what is written down now is what it knows. A trial that is still there, because the disk
    /// takes nothing, is left until the next start.
    pub fn loaded(&self) {
        self.loaded.get_or_init(|| self.updates.state().wanted());
    }

    /// Whether something else is to run. Not before the load has ended: what is being tried looks as if it were to be tried.
    pub fn is_outdated(&self) -> bool {
        let Some(loaded) = self.loaded.get() else { return false };
        // What cannot be read now is no reason to leave a model that works.
        matches!(self.updates.read(), Ok(Some(state)) if state.wanted() != *loaded)
    }
}
