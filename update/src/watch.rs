//! A service that runs, and what it is to run.

use std::sync::{Arc, OnceLock};

use crate::slots::{Chosen, Updates};

/// Says to a service when something else is to run than what it has loaded.
#[derive(Clone, Debug)]
pub struct Watch {
    updates: Updates,
    loaded: Arc<OnceLock<Loaded>>,
}

#[derive(Debug)]
struct Loaded {
    chosen: Chosen,
    /// What could not be written down, and is left until the next start.
    left: Option<Chosen>,
}

/// Whether everything that a load decided was written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// It was.
    All,
    /// The disk took something not.
    NotAll,
}

impl Watch {
    /// For a service that is about to load what [`Updates::begin`] chooses.
    pub fn new(updates: Updates) -> Watch {
        Watch { updates, loaded: Arc::default() }
    }

    /// The releases that it watches.
    pub fn updates(&self) -> &Updates {
        &self.updates
    }

    /// The service has loaded this. Where not all of it could be written down, what stands there is no reason to start again.
    pub fn loaded(&self, chosen: &Chosen, written: Written) {
        let left = || self.updates.wanted().ok().flatten().filter(|_| written == Written::NotAll);
        self.loaded.get_or_init(|| Loaded { chosen: chosen.clone(), left: left() });
    }

    /// Whether something else is to run. Not before the load has ended: what is being tried looks as if it were to be tried.
    pub fn is_outdated(&self) -> bool {
        let Some(Loaded { chosen, left }) = self.loaded.get() else { return false };
        // What cannot be read now is no reason to leave a model that works.
        let Ok(Some(wanted)) = self.updates.wanted() else { return false };
        !wanted.is(chosen) && left.as_ref().is_none_or(|left| !wanted.is(left))
    }
}
