//! Several processes that train one model: who they are, and what they exchange over TCP.
//!
//! A launcher starts one process a device and says in the environment which is which: [`Place`]. A [`Group`] connects
//! them as a star: every rank speaks with rank 0, whose link carries every other rank's values in and out. That is
//! enough for training on CPUs and for the small facts that GPUs agree on; what GPUs exchange in a step goes through NCCL.
//!
//! Sums run in rank order, so that all ranks have the same bits, and the same bits each time. Before values move, all
//! ranks say which operation they are at and how long it is, so that ranks out of step end with an error and not in a
//! wait. A rank that ends, falls silent or differs ends the others: see [`Limits`].

mod place;
mod frame;
mod link;
mod meeting;
mod group;
#[cfg(test)]
mod tests;

use std::fmt;
use std::time::Duration;

pub use group::{Group, MAX_MESSAGE_BYTES};
pub use place::Place;

/// How long a rank waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// For all ranks to come together at the start.
    pub meeting: Duration,
    /// For a sign of life. A process that ended is noticed at once; this is for a machine that is gone, or its network.
    pub silence: Duration,
    /// For a rank that lives, but does not come to the operation at which the others wait.
    pub patience: Duration,
}

impl Default for Limits {
    /// Five minutes to come together, 30 seconds of silence, half an hour for a rank that lives.
    fn default() -> Limits {
        let seconds = Duration::from_secs;
        Limits { meeting: seconds(300), silence: seconds(30), patience: seconds(1800) }
    }
}

/// Another rank is gone, slow, or of another mind.
#[derive(Debug, thiserror::Error)]
pub enum RanksError {
    /// A variable of the environment that no launcher sets so.
    #[error("{name} is {value:?}: {rule}")]
    Variable {
        /// The variable.
        name: &'static str,
        /// Its value.
        value: String,
        /// What it must be.
        rule: String,
    },
    /// A variable that must be there beside the others.
    #[error("{name} is not set, but {because}: start the ranks with torchrun, srun or another launcher, or set it")]
    Unset {
        /// The variable.
        name: &'static str,
        /// Which other variable asks for it.
        because: String,
    },
    /// Rank 0 cannot listen.
    #[error("rank 0 cannot listen at {address}: {source}")]
    Listen {
        /// Where.
        address: String,
        /// Why.
        source: std::io::Error,
    },
    /// Rank 0 is not to be found.
    #[error("rank 0 did not answer at {address} within {seconds} s: {reason}")]
    Unreachable {
        /// Where it was looked for.
        address: String,
        /// How long.
        seconds: u64,
        /// What the last attempt said.
        reason: String,
    },
    /// Ranks that did not come.
    #[error("{} did not come within {seconds} s: start one process for each rank", Ranks(.ranks))]
    Absent {
        /// Which.
        ranks: Vec<usize>,
        /// How long they were waited for.
        seconds: u64,
    },
    /// Ranks that cannot train together.
    #[error("rank {rank} and rank 0 cannot train together: {reason}")]
    Refused {
        /// Which.
        rank: usize,
        /// What differs.
        reason: String,
    },
    /// Rank 0 says that nothing comes of the run.
    #[error("rank 0 turned this rank away: {reason}")]
    TurnedAway {
        /// Its words.
        reason: String,
    },
    /// The other end closed the connection: its process ended.
    #[error("rank {rank} is gone: its connection closed {during}")]
    Gone {
        /// Which.
        rank: usize,
        /// During or before what.
        during: String,
    },
    /// No sign of life.
    #[error("rank {rank} is silent: nothing came from it for {seconds} s {during}")]
    Silent {
        /// Which.
        rank: usize,
        /// How long.
        seconds: u64,
        /// During or before what.
        during: String,
    },
    /// It lives, and does not come.
    #[error("rank {rank} lives, but did not come to {operation} within {seconds} s")]
    Slow {
        /// Which.
        rank: usize,
        /// What it is waited for at.
        operation: String,
        /// How long.
        seconds: u64,
    },
    /// Two ranks at different places.
    #[error("rank {rank} is at {theirs}, rank {own} at {ours}: the ranks are out of step")]
    OutOfStep {
        /// The other.
        rank: usize,
        /// Where it is.
        theirs: String,
        /// This one.
        own: usize,
        /// Where this one is.
        ours: String,
    },
    /// Another rank ended the run, and said why.
    #[error("rank {rank} ended the run: {reason}")]
    Ended {
        /// Which.
        rank: usize,
        /// Its words.
        reason: String,
    },
    /// The run ended earlier.
    #[error("the ranks no longer work together: {reason}")]
    Over {
        /// What ended it.
        reason: String,
    },
    /// Values that cannot be shared out evenly.
    #[error("{length} values cannot be shared out among {world} ranks")]
    Uneven {
        /// How many.
        length: usize,
        /// Number of ranks.
        world: usize,
    },
    /// A message beyond the limit.
    #[error("a message of {bytes} bytes is too long, at most {MAX_MESSAGE_BYTES} are passed on")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
}

/// Several ranks in a sentence.
struct Ranks<'a>(&'a [usize]);

impl fmt::Display for Ranks<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.0.iter().map(usize::to_string).collect();
        write!(f, "rank{} {}", if names.len() == 1 { "" } else { "s" }, names.join(", "))
    }
}
