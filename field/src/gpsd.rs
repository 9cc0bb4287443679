//! Place and time from a GPS receiver, through gpsd.
//!
//! Source: gpsd's `gpsd_json(5)`: `?WATCH` starts a stream of JSON objects, one a line; `TPV` has time, place and velocity.

mod lines;

pub use lines::{Fix, Lines};

use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

/// Asks for the stream of reports.
const WATCH: &[u8] = b"?WATCH={\"enable\":true,\"json\":true};\n";
/// Longest wait before another try, in seconds.
const LONGEST_WAIT_S: u64 = 60;

/// A gpsd that does not answer.
#[derive(Debug, thiserror::Error)]
pub enum GpsdError {
    /// No way there.
    #[error("gpsd at {address}: {source}; is it running, and is place.gpsd right?")]
    Connect {
        /// Host and port.
        address: String,
        /// Why.
        source: io::Error,
    },
    /// It has gone.
    #[error("gpsd at {address} has gone: {source}")]
    Gone {
        /// Host and port.
        address: String,
        /// Why.
        source: io::Error,
    },
}

/// A connection to gpsd that is told of every fix.
#[derive(Debug)]
pub struct Gpsd {
    stream: TcpStream,
    address: String,
    lines: Lines,
}

impl Gpsd {
    /// Connects to a gpsd at `host:port`, and asks for reports.
    ///
    /// # Errors
    /// An address that leads nowhere, or where nobody listens within `at_most`.
    pub fn connect(address: &str, at_most: Duration) -> Result<Gpsd, GpsdError> {
        let stream =
            connect(address, at_most).map_err(|source| GpsdError::Connect { address: address.to_owned(), source })?;
        Ok(Gpsd { stream, address: address.to_owned(), lines: Lines::new() })
    }

    /// Waits for what gpsd says next, a fix or not. `None` if it was none, or nothing has come in time.
    ///
    /// # Errors
    /// A gpsd that has gone: connect again, after [`wait_after`].
    pub fn next_fix(&mut self, at_most: Duration) -> Result<Option<Fix>, GpsdError> {
        self.read_fix(at_most).map_err(|source| GpsdError::Gone { address: self.address.clone(), source })
    }

    /// Lines that were no reports.
    pub fn garbage(&self) -> u64 {
        self.lines.garbage()
    }

    fn read_fix(&mut self, at_most: Duration) -> io::Result<Option<Fix>> {
        if let Some(fix) = self.lines.next_fix() {
            return Ok(Some(fix));
        }
        // No timeout at all is what zero would mean.
        self.stream.set_read_timeout(Some(at_most.max(Duration::from_millis(1))))?;
        let mut bytes = [0; 4096];
        match self.stream.read(&mut bytes) {
            Ok(0) => Err(ErrorKind::UnexpectedEof.into()),
            Ok(length) => {
                self.lines.add(bytes.get(..length).unwrap_or_default());
                Ok(self.lines.next_fix())
            }
            Err(error)
                if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted) =>
            {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

fn connect(address: &str, at_most: Duration) -> io::Result<TcpStream> {
    let mut failure = io::Error::from(ErrorKind::NotFound);
    for address in address.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, at_most) {
            Ok(mut stream) => {
                stream.set_write_timeout(Some(at_most))?;
                stream.write_all(WATCH)?;
                return Ok(stream);
            }
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

/// How long to wait before another try, after so many that failed in a row.
pub fn wait_after(failures: u32) -> Duration {
    Duration::from_secs(1_u64.checked_shl(failures.saturating_sub(1)).unwrap_or(u64::MAX).clamp(1, LONGEST_WAIT_S))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_gpsd_is_asked_and_answers_until_it_goes() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let mut gpsd = Gpsd::connect(&address, SECOND).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        let mut asked = [0; WATCH.len()];
        server.read_exact(&mut asked).unwrap();
        assert_eq!(asked, WATCH);
        assert_eq!(gpsd.next_fix(Duration::ZERO).unwrap(), None);
        server.write_all(b"nonsense\n{\"class\":\"TPV\",\"mode\":3,\"lat\":1.5,\"lon\":2.5}\n").unwrap();
        let fix = std::iter::repeat_with(|| gpsd.next_fix(SECOND).unwrap()).flatten().next().unwrap();
        assert_eq!(fix.coordinates.map(|place| (place.latitude(), place.longitude())), Some((1.5, 2.5)));
        assert_eq!(gpsd.garbage(), 1);
        drop(server);
        let gone = std::iter::repeat_with(|| gpsd.next_fix(SECOND)).find_map(Result::err).unwrap();
        assert!(matches!(gone, GpsdError::Gone { .. }), "{gone}");
    }

    #[test]
    fn where_nobody_listens_there_is_no_gpsd() {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        for address in [port.to_string(), "localhost".to_owned(), String::new()] {
            let error = Gpsd::connect(&address, SECOND).unwrap_err();
            assert!(matches!(error, GpsdError::Connect { .. }), "{error}");
        }
    }

    #[test]
    fn waits_double_up_to_a_minute() {
        assert_eq!([0, 1, 2, 3, 6, 7, 100].map(|failures| wait_after(failures).as_secs()), [1, 1, 2, 4, 32, 60, 60]);
    }
}
