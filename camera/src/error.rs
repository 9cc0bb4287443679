//! Why there is no frame.

use std::io;
use std::time::Duration;

/// Why a source gives no frame now. Each is waited for and tried again: none ends a [`crate::Camera`].
#[derive(Debug, thiserror::Error)]
pub enum CameraError {
    /// The operating system does not open it.
    #[error("{what} cannot be opened ({error}); check that it is there and that you may read it")]
    Open {
        /// A device, file, folder or server.
        what: String,
        /// What the system says.
        error: io::Error,
    },
    /// It was open, and reading it fails.
    #[error("{what} cannot be read any more ({error})")]
    Read {
        /// A device, file, folder or server.
        what: String,
        /// What the system says.
        error: io::Error,
    },
    /// A program that the source needs does not start.
    #[error("{programs} cannot be started ({error}); install it, or name its path in the settings")]
    Program {
        /// The programs that were tried.
        programs: String,
        /// What the system says of the last one.
        error: io::Error,
    },
    /// The program that gives the frames is gone.
    #[error("{program} ended ({status}){}", said(last_words))]
    Exited {
        /// Its name.
        program: String,
        /// How it ended.
        status: String,
        /// The last lines that it wrote to its standard error.
        last_words: String,
    },
    /// Nothing came for too long.
    #[error("no frame for {} s{}", patience.as_secs_f32(), said(last_words))]
    Silent {
        /// How long was waited.
        patience: Duration,
        /// The last lines that a program behind it wrote to its standard error.
        last_words: String,
    },
    /// The other end closed the stream.
    #[error("{what} closed the stream")]
    Closed {
        /// A server.
        what: String,
    },
    /// A server's answer is not one that frames can be read from.
    #[error("{what} answers {answer}")]
    Answer {
        /// The server.
        what: String,
        /// What it says, and what to do.
        answer: String,
    },
    /// A device cannot do what is asked of it.
    #[error("{device} {reason}")]
    Device {
        /// Its path.
        device: String,
        /// What it lacks, and what to do.
        reason: String,
    },
    /// A picture cannot be read.
    #[error(transparent)]
    Picture(#[from] picture::PictureError),
    /// The camera is being dropped. Never seen outside.
    #[error("stopped")]
    Stopped,
}

fn said(last_words: &str) -> String {
    if last_words.is_empty() { String::new() } else { format!("; it said: {last_words}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_words_are_part_of_the_message_when_there_are_any() {
        let silent = |last_words: &str| CameraError::Silent {
            patience: Duration::from_millis(2500),
            last_words: last_words.to_owned(),
        };
        assert_eq!(silent("").to_string(), "no frame for 2.5 s");
        assert_eq!(silent("no cameras").to_string(), "no frame for 2.5 s; it said: no cameras");
    }
}
