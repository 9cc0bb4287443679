//! The connection to one other rank.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::frame::{Call, HEADER_BYTES, Header, Kind, MAX_REASON_BYTES};
use super::{Limits, RanksError};

/// No rank.
const NOBODY: usize = usize::MAX;

/// The first rank whose connection failed while nobody was reading it.
#[derive(Debug)]
pub struct Lost(AtomicUsize);

impl Lost {
    pub fn nobody() -> Arc<Lost> {
        Arc::new(Lost(AtomicUsize::new(NOBODY)))
    }

    fn set(&self, rank: usize) {
        let _ = self.0.compare_exchange(NOBODY, rank, Ordering::Relaxed, Ordering::Relaxed);
    }

    fn rank(&self) -> Option<usize> {
        Some(self.0.load(Ordering::Relaxed)).filter(|rank| *rank != NOBODY)
    }
}

/// The end of a connection into which only whole frames are written.
#[derive(Clone, Debug)]
pub struct Writer {
    rank: usize,
    stream: Arc<Mutex<TcpStream>>,
}

impl Writer {
    fn lock(&self) -> MutexGuard<'_, TcpStream> {
        self.stream.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes a sign of life, unless something else is being written, which is one.
    pub fn beat(&self, lost: &Lost) {
        let Ok(mut stream) = self.stream.try_lock() else { return };
        if stream.write_all(&Header::outside(Kind::Beat, 0).to_bytes()).is_err() {
            lost.set(self.rank);
        }
    }
}

/// How often a rank gives a sign of life, and looks whether a limit has passed.
pub fn interval(limits: &Limits) -> Duration {
    (limits.silence / 4).max(Duration::from_millis(5))
}

#[derive(Debug)]
pub struct Link {
    rank: usize,
    reader: TcpStream,
    writer: Writer,
    limits: Limits,
    lost: Arc<Lost>,
}

impl Link {
    pub fn new(rank: usize, stream: TcpStream, limits: Limits, lost: Arc<Lost>) -> std::io::Result<Link> {
        stream.set_nonblocking(false)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(interval(&limits)))?;
        stream.set_write_timeout(Some(limits.silence))?;
        let writer = Writer { rank, stream: Arc::new(Mutex::new(stream.try_clone()?)) };
        Ok(Link { rank, reader: stream, writer, limits, lost })
    }

    pub fn rank(&self) -> usize {
        self.rank
    }

    pub fn writer(&self) -> Writer {
        self.writer.clone()
    }

    /// Writes a frame.
    pub fn send(&mut self, header: Header, bytes: &[u8], at: &Call) -> Result<(), RanksError> {
        let written = {
            let mut stream = self.writer.lock();
            stream.write_all(&header.to_bytes()).and_then(|()| stream.write_all(bytes))
        };
        let Err(error) = written else { return Ok(()) };
        match error.kind() {
            ErrorKind::WouldBlock | ErrorKind::TimedOut => Err(self.silent(at)),
            _ => Err(self.last_words(at)),
        }
    }

    /// The next frame that is no sign of life.
    pub fn header(&mut self, at: &Call) -> Result<Header, RanksError> {
        let deadline = Instant::now() + self.limits.patience;
        loop {
            let mut bytes = [0; HEADER_BYTES];
            self.fill(&mut bytes, at, Some(deadline))?;
            let noise = || RanksError::Ended { rank: self.rank, reason: "it sent what is no message".to_owned() };
            let header = Header::from_bytes(&bytes).ok_or_else(noise)?;
            match header.kind {
                Kind::Beat => (),
                Kind::Stop => return Err(self.ended(header, at)),
                _ => return Ok(header),
            }
        }
    }

    /// The next part of the operation, which is as long as `into`.
    pub fn part(&mut self, into: &mut [u8], at: &Call) -> Result<(), RanksError> {
        let header = self.header(at)?;
        let expected = Call { bytes: into.len() as u64, ..*at };
        if header != (Header { kind: Kind::Part, call: expected }) {
            let reason = format!("it sent {} where {expected} was to go on", header.call);
            return Err(RanksError::Ended { rank: self.rank, reason });
        }
        self.fill(into, at, None)
    }

    /// Tells the other end why the run ends; `rank` is whose words these are.
    pub fn stop(&self, rank: usize, reason: &str) {
        let mut end = reason.len().min(MAX_REASON_BYTES);
        while !reason.is_char_boundary(end) {
            end -= 1;
        }
        let mut header = Header::outside(Kind::Stop, end as u64);
        header.call.number = rank as u64;
        let mut stream = self.writer.lock();
        // The other end may be gone, which is then why the run ends.
        let _ = stream.write_all(&header.to_bytes()).and_then(|()| stream.write_all(&reason.as_bytes()[..end]));
        let _ = stream.shutdown(Shutdown::Write);
    }

    fn ended(&mut self, header: Header, at: &Call) -> RanksError {
        let mut reason = vec![0; (header.call.bytes as usize).min(MAX_REASON_BYTES)];
        if let Err(error) = self.fill(&mut reason, at, None) {
            return error;
        }
        let reason = terminal::printable(&String::from_utf8_lossy(&reason)).replace('\n', " ");
        let rank = usize::try_from(header.call.number).unwrap_or(self.rank);
        RanksError::Ended { rank, reason }
    }

    /// Why the connection is closed: what the other end said before it closed, if anything.
    pub fn last_words(&mut self, at: &Call) -> RanksError {
        loop {
            let mut bytes = [0; HEADER_BYTES];
            if self.reader.read_exact(&mut bytes).is_err() {
                return self.gone(at);
            }
            match Header::from_bytes(&bytes) {
                Some(Header { kind: Kind::Beat, .. }) => (),
                Some(header) if header.kind == Kind::Stop => return self.ended(header, at),
                _ => return self.gone(at),
            }
        }
    }

    fn fill(&mut self, bytes: &mut [u8], at: &Call, deadline: Option<Instant>) -> Result<(), RanksError> {
        let mut heard = Instant::now();
        let mut filled = 0;
        while filled < bytes.len() {
            match self.reader.read(&mut bytes[filled..]) {
                Ok(0) => return Err(self.gone(at)),
                Ok(more) => {
                    filled += more;
                    heard = Instant::now();
                }
                Err(error) if is_only_late(error.kind()) => (),
                Err(_) => return Err(self.gone(at)),
            }
            if let Some(rank) = self.lost.rank() {
                return Err(RanksError::Gone { rank, during: format!("before {at}") });
            }
            if heard.elapsed() >= self.limits.silence {
                return Err(self.silent(at));
            }
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                let seconds = self.limits.patience.as_secs();
                return Err(RanksError::Slow { rank: self.rank, operation: at.to_string(), seconds });
            }
        }
        Ok(())
    }

    fn gone(&self, at: &Call) -> RanksError {
        RanksError::Gone { rank: self.rank, during: format!("before the end of {at}") }
    }

    fn silent(&self, at: &Call) -> RanksError {
        let seconds = self.limits.silence.as_secs();
        RanksError::Silent { rank: self.rank, seconds, during: format!("before the end of {at}") }
    }
}

fn is_only_late(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted)
}
