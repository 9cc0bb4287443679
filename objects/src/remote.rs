//! What a place on the network is asked, and why it does not do it.

use std::time::Duration;

/// What a place on the network is asked.
pub trait Remote {
    /// Bytes of an object; nothing if it is not there.
    ///
    /// # Errors
    /// See [`RemoteError`].
    fn length(&mut self, name: &str) -> Result<Option<u64>, RemoteError>;

    /// An object of at most so many bytes; nothing if it is not there.
    ///
    /// # Errors
    /// See [`RemoteError`].
    fn get(&mut self, name: &str, most: usize) -> Result<Option<Vec<u8>>, RemoteError>;

    /// At most so many bytes of an object, from a place in it on; nothing if it is not there or ends before that.
    ///
    /// # Errors
    /// See [`RemoteError`].
    fn piece(&mut self, name: &str, from: u64, most: usize) -> Result<Option<Vec<u8>>, RemoteError>;

    /// Puts an object there. That it answers is no proof.
    ///
    /// # Errors
    /// See [`RemoteError`].
    fn put(&mut self, name: &str, bytes: &[u8]) -> Result<(), RemoteError>;

    /// Seconds that the clock of the other side is ahead of the system's here, if it said what time it has.
    fn ahead_s(&self) -> Option<i64>;
}

/// Why the other side did not do what it was asked.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum RemoteError {
    /// There is no way to it now.
    #[error("no connection: {0}")]
    Offline(String),
    /// It has no time or no room now.
    #[error("the host is busy: {reason}")]
    Busy {
        /// What it says.
        reason: String,
        /// How long it wants to be left alone.
        after: Option<Duration>,
    },
    /// It does not let this board in.
    #[error("the host does not let this board in: {0}")]
    Locked(String),
    /// It thinks that the board's clock is wrong, and does not say what time it is.
    #[error("the host refuses the board's time and does not say its own: set the board's clock")]
    Clock,
    /// It will not do it.
    #[error("the host refuses: {0}")]
    Refused(String),
    /// Somebody else answers, as the gate of a network where people log in does.
    #[error("what answers is not the host: {0}")]
    Stranger(String),
}
