//! Waiting for bytes, a moment or the word to stop, whichever is first. Nothing here looks again and again.

use std::io::{PipeReader, PipeWriter};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use crate::error::CameraError;

/// Says the word when it is dropped.
#[derive(Debug)]
pub(crate) struct Stopper {
    _end: PipeWriter,
}

/// Hears it.
#[derive(Debug)]
pub(crate) struct Stop {
    end: PipeReader,
}

/// What a wait ended with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waited {
    /// There is something to read, or an end or a fault to find by reading.
    Readable,
    /// There is not, and the program that would write it has ended.
    Ended,
    /// The time is over.
    Late,
    /// The word was said.
    Stopped,
}

/// How long the next frame may take, whatever comes meanwhile.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    whole: Duration,
    since: Instant,
}

impl Patience {
    /// From now on.
    pub fn new(whole: Duration) -> Self {
        Self { whole, since: Instant::now() }
    }

    fn left(self) -> Duration {
        self.whole.saturating_sub(self.since.elapsed())
    }

    /// What is wrong once it is over.
    pub fn silent(self, last_words: String) -> CameraError {
        CameraError::Silent { patience: self.whole, last_words }
    }
}

/// The two ends.
pub(crate) fn stopper() -> std::io::Result<(Stopper, Stop)> {
    let (reader, writer) = std::io::pipe()?;
    Ok((Stopper { _end: writer }, Stop { end: reader }))
}

impl Stop {
    /// Waits until `source` can be read, while there is patience left. Without any, what can be read is not looked at:
    /// a stream of garbage is as good as none.
    pub fn readable(&self, source: BorrowedFd, patience: Patience) -> std::io::Result<Waited> {
        self.readable_while(source, None, patience)
    }

    /// As [`Self::readable`], of what a program writes; `program` can be read once it has ended.
    pub fn readable_while(
        &self,
        source: BorrowedFd,
        program: Option<BorrowedFd>,
        patience: Patience,
    ) -> std::io::Result<Waited> {
        let left = patience.left();
        if left.is_zero() { Ok(Waited::Late) } else { self.wait([Some(source), program], left) }
    }

    /// Waits for `time`.
    pub fn pause(&self, time: Duration) -> std::io::Result<Waited> {
        self.wait([None, None], time)
    }

    fn wait(&self, sources: [Option<BorrowedFd>; 2], patience: Duration) -> std::io::Result<Waited> {
        let deadline = Instant::now().checked_add(patience);
        loop {
            let watch = |source| PollFd::from_borrowed_fd(source, PollFlags::IN);
            let all = std::iter::once(self.end.as_fd()).chain(sources.into_iter().flatten());
            let mut watched: Vec<PollFd> = all.map(watch).collect();
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            let left = left.and_then(|left| Timespec::try_from(left).ok());
            match poll(&mut watched, left.as_ref()) {
                Ok(0) if left.is_some() => return Ok(Waited::Late),
                Ok(_) if !watched[0].revents().is_empty() => return Ok(Waited::Stopped),
                Ok(0) | Err(Errno::INTR) => {}
                Ok(_) if watched[1].revents().is_empty() => return Ok(Waited::Ended),
                Ok(_) => return Ok(Waited::Readable),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn what_comes_first_ends_the_wait() {
        let (stopper, stop) = stopper().unwrap();
        let (reader, mut writer) = std::io::pipe().unwrap();
        let (short, long) = (Duration::from_millis(1), Duration::MAX);
        assert_eq!(stop.readable(reader.as_fd(), Patience::new(short)).unwrap(), Waited::Late);
        writer.write_all(b"x").unwrap();
        assert_eq!(stop.readable(reader.as_fd(), Patience::new(long)).unwrap(), Waited::Readable);
        assert_eq!(stop.readable(reader.as_fd(), Patience::new(Duration::ZERO)).unwrap(), Waited::Late);
        assert_eq!(stop.pause(Duration::from_millis(1)).unwrap(), Waited::Late);
        drop(stopper);
        assert_eq!(stop.readable(reader.as_fd(), Patience::new(long)).unwrap(), Waited::Stopped);
        assert_eq!(stop.pause(Duration::MAX).unwrap(), Waited::Stopped);
    }

    #[test]
    fn end_of_a_pipe_can_be_read() {
        let (_stopper, stop) = stopper().unwrap();
        let (reader, writer) = std::io::pipe().unwrap();
        drop(writer);
        assert_eq!(stop.readable(reader.as_fd(), Patience::new(Duration::MAX)).unwrap(), Waited::Readable);
    }
}
