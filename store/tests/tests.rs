//! The store against a real kernel's file system, kills, faults and rot.
//!
//! What needs root, a FUSE device, loop devices or strace says so and is left out where they are missing; with
//! `EDGEBLIP_RIGS=required`, as in CI, it fails instead. `EDGEBLIP_LONG=1` runs the full counts.

#[allow(dead_code, reason = "the example uses the rest")]
mod samples;
mod operations;
mod damage;
mod disk;
mod power;
mod kills;
mod mounts;

/// A count for every change, and one for the long run.
fn count(smoke: usize, long: usize) -> usize {
    if std::env::var_os("EDGEBLIP_LONG").is_some_and(|value| value == "1") { long } else { smoke }
}

/// Says that a rig cannot run here, or fails where it must.
fn leave_out(what: &str) {
    let is_required = std::env::var_os("EDGEBLIP_RIGS").is_some_and(|value| value == "required");
    assert!(!is_required, "{what}, and EDGEBLIP_RIGS=required");
    println!("left out: {what}");
}

/// One at a time: a child process that is just being started holds, for a moment, what other tests have open, and a file
/// system with open files cannot be unmounted.
fn alone() -> std::sync::MutexGuard<'static, ()> {
    static ALONE: std::sync::Mutex<()> = std::sync::Mutex::new(());
    ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
