//! The connection to one other rank.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::frame::{Call, HEADER_BYTES, Header, Kind, MAX_REASON_BYTES};
use super::{Limits, RanksError};

/// The end of a connection into which only whole frames are written.
#[derive(Clone, Debug)]
pub struct Writer(Arc<Mutex<TcpStream>>);

impl Writer {
    fn lock(&self) -> MutexGuard<'_, TcpStream> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes a sign of life, unless something else is being written, which is one.
    pub fn beat(&self) {
        if let Ok(mut stream) = self.0.try_lock() {
            // Whoever reads from a rank that is gone finds out.
            let _ = stream.write_all(&Header::outside(Kind::Beat, 0).to_bytes());
        }
    }
}

/// How long a look may take.
const GLANCE: Duration = Duration::from_millis(1);

/// How often a rank gives a sign of life.
pub fn interval(limits: &Limits) -> Duration {
    (limits.silence / 4).max(Duration::from_millis(8))
}

/// How often a rank that waits looks whether a limit has passed: between any two signs of life.
fn pause(limits: &Limits) -> Duration {
    interval(limits) / 4
}

#[derive(Debug)]
pub struct Link {
    rank: usize,
    reader: TcpStream,
    writer: Writer,
    limits: Limits,
}

impl Link {
    pub fn new(rank: usize, stream: TcpStream, limits: Limits) -> std::io::Result<Link> {
        stream.set_nonblocking(false)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(pause(&limits)))?;
        stream.set_write_timeout(Some(limits.silence))?;
        let writer = Writer(Arc::new(Mutex::new(stream.try_clone()?)));
        Ok(Link { rank, reader: stream, writer, limits })
    }

    pub fn rank(&self) -> usize {
        self.rank
    }

    pub fn writer(&self) -> Writer {
        self.writer.clone()
    }

    /// Writes a frame.
    pub fn send(&self, header: Header, bytes: &[u8], at: &Call) -> Result<(), RanksError> {
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

    /// The next frame that is no sign of life. While it waits, it asks now and then whether to go on.
    pub fn header(
        &self,
        at: &Call,
        mut meanwhile: impl FnMut() -> Result<(), RanksError>,
    ) -> Result<Header, RanksError> {
        let deadline = Instant::now() + self.limits.patience;
        loop {
            let mut bytes = [0; HEADER_BYTES];
            self.fill(&mut bytes, at, || {
                if Instant::now() >= deadline {
                    let seconds = self.limits.patience.as_secs();
                    return Err(RanksError::Slow { rank: self.rank, operation: at.to_string(), seconds });
                }
                meanwhile()
            })?;
            let header = Header::from_bytes(&bytes).ok_or_else(|| self.noise())?;
            match header.kind {
                Kind::Beat => (),
                Kind::Stop => return Err(self.ended(header, at)),
                _ => return Ok(header),
            }
        }
    }

    /// Looks without waiting whether the other end is gone or has ended the run; its other frames stay unread.
    pub fn still_there(&self, at: &Call) -> Result<(), RanksError> {
        let mut bytes = [0; HEADER_BYTES];
        loop {
            let _ = self.reader.set_read_timeout(Some(GLANCE));
            let seen = self.reader.peek(&mut bytes);
            let _ = self.reader.set_read_timeout(Some(pause(&self.limits)));
            match seen {
                Ok(0) => return Err(self.gone(at)),
                Ok(HEADER_BYTES) => (),
                Ok(_) => return Ok(()),
                Err(error) if is_only_late(error.kind()) => return Ok(()),
                Err(_) => return Err(self.gone(at)),
            }
            match Header::from_bytes(&bytes) {
                Some(Header { kind: Kind::Beat, .. }) => self.fill(&mut bytes, at, || Ok(()))?,
                Some(header) if header.kind == Kind::Stop => {
                    self.fill(&mut bytes, at, || Ok(()))?;
                    return Err(self.ended(header, at));
                }
                _ => return Ok(()),
            }
        }
    }

    /// The next part of the operation, which is as long as `into`.
    pub fn part(&self, into: &mut [u8], at: &Call) -> Result<(), RanksError> {
        let header = self.header(at, || Ok(()))?;
        let expected = Call { bytes: into.len() as u64, ..*at };
        if header != (Header { kind: Kind::Part, call: expected }) {
            let reason = format!("it sent {} where {expected} was to go on", header.call);
            return Err(RanksError::Ended { rank: self.rank, reason });
        }
        self.fill(into, at, || Ok(()))
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

    fn ended(&self, header: Header, at: &Call) -> RanksError {
        let mut reason = vec![0; (header.call.bytes as usize).min(MAX_REASON_BYTES)];
        if let Err(error) = self.fill(&mut reason, at, || Ok(())) {
            return error;
        }
        let reason = terminal::printable(&String::from_utf8_lossy(&reason)).replace('\n', " ");
        let rank = usize::try_from(header.call.number).unwrap_or(self.rank);
        RanksError::Ended { rank, reason }
    }

    /// Why the connection is closed: what the other end said before it closed, if anything.
    fn last_words(&self, at: &Call) -> RanksError {
        loop {
            let mut bytes = [0; HEADER_BYTES];
            if (&self.reader).read_exact(&mut bytes).is_err() {
                return self.gone(at);
            }
            match Header::from_bytes(&bytes) {
                Some(Header { kind: Kind::Beat, .. }) => (),
                Some(header) if header.kind == Kind::Stop => return self.ended(header, at),
                _ => return self.gone(at),
            }
        }
    }

    fn fill(
        &self,
        bytes: &mut [u8],
        at: &Call,
        mut meanwhile: impl FnMut() -> Result<(), RanksError>,
    ) -> Result<(), RanksError> {
        let mut heard = Instant::now();
        let mut filled = 0;
        while filled < bytes.len() {
            match (&self.reader).read(&mut bytes[filled..]) {
                Ok(0) => return Err(self.gone(at)),
                Ok(more) => {
                    filled += more;
                    heard = Instant::now();
                }
                Err(error) if is_only_late(error.kind()) => {
                    if heard.elapsed() >= self.limits.silence {
                        return Err(self.silent(at));
                    }
                    meanwhile()?;
                }
                Err(_) => return Err(self.gone(at)),
            }
        }
        Ok(())
    }

    fn noise(&self) -> RanksError {
        RanksError::Ended { rank: self.rank, reason: "it sent what is no message".to_owned() }
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
