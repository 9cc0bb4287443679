//! What the kernel says of its own clock.

#![allow(unsafe_code, reason = "adjtimex has no safe wrapper among the crates that are here")]

/// Whether something keeps the kernel's clock in step with a time server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Steering {
    /// A time server's client does.
    Synchronized,
    /// Nothing does.
    Free,
}

/// Asks the kernel.
///
/// Source: `adjtimex(2)`: with no mode set it only reads, needs no right to, and answers `TIME_ERROR` while the clock is
/// not synchronized.
pub(super) fn steering() -> Steering {
    // SAFETY: `timex` is plain numbers, for which zeros are valid.
    let mut state: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is to a `timex` that lives and is ours alone for the call.
    let answer = unsafe { libc::adjtimex(&raw mut state) };
    let is_synchronized = answer >= 0 && answer != libc::TIME_ERROR && state.status & libc::STA_UNSYNC == 0;
    if is_synchronized { Steering::Synchronized } else { Steering::Free }
}
