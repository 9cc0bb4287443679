//! The store as the configuration has it.

use field::clock::Moment;
use field::config::Config;
use store::{Filter, Limits, Reader, Store};

use crate::pipeline::{Today, caption, today};

use super::RunError;

/// Pairs that are listed at once.
const PAGE: usize = 1000;

/// Opens the store, and tells what was found damaged in it.
///
/// # Errors
/// Another process that has it.
pub(super) fn store(config: &Config, now: &Moment) -> Result<Store, RunError> {
    let folder = &config.store.folder;
    let boot = caption(&now.boot.to_string());
    let (store, opened) = Store::open(folder, boot, limits(config))?;
    log::info!(folder:% = folder.display(), pairs = opened.pairs, files = opened.files; "the store is open");
    if opened.salvaged > 0 || !opened.lost.is_empty() || !opened.unfinished.is_empty() {
        let (lost, unfinished) = (opened.lost.len(), opened.unfinished.len());
        log::warn!(salvaged = opened.salvaged, lost = lost, unfinished = unfinished; "the store was damaged");
    }
    for id in &opened.lost {
        log::warn!(pair:% = id; "a pair is lost");
    }
    for aside in &opened.set_aside {
        log::warn!(path:% = aside.path.display(), why = aside.why; "a damaged database is set aside");
    }
    if let Some(trouble) = &opened.trouble {
        log::error!(error:% = trouble; "nothing is kept for now; captions go on");
    }
    Ok(store)
}

/// What of the day's budget is used, where there is one. It takes a look at every pair.
pub(super) fn today(reader: &Reader, config: &Config, now: &Moment) -> Option<Today> {
    config.filter.per_day?;
    let list = |since| reader.list(Filter { since, limit: PAGE, ..Filter::default() });
    let today = today::count(list, config, now);
    today.inspect_err(|error| log::warn!(error:% = error; "the pictures of today cannot be counted")).ok()
}

/// What the store may take: its budget, or what it has and the disk has left, beside what is left to others.
pub(super) fn limits(config: &Config) -> Limits {
    const MIB: u64 = 1 << 20;
    let folder = &config.store.folder;
    let budget = u64::from(config.store.budget_mib) * MIB;
    let free = folder.ancestors().find(|folder| folder.is_dir()).and_then(|folder| rustix::fs::statvfs(folder).ok());
    let Some(free) = free.map(|disk| disk.f_bavail.saturating_mul(disk.f_frsize)) else {
        return Limits { budget, ..Limits::default() };
    };
    let files = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let held: u64 = files.filter_map(|file| file.metadata().ok()).map(|metadata| metadata.len()).sum();
    let room = held.saturating_add(free).saturating_sub(u64::from(config.store.leave_mib) * MIB);
    if room < budget {
        log::warn!(budget_mib = room / MIB; "the disk has less room than store.budget_mib");
    }
    Limits { budget: budget.min(room), ..Limits::default() }
}
