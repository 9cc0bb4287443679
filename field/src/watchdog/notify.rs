//! Messages to the service manager, as `sd_notify(3)` describes them.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// What the service manager is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State<'a> {
    /// The service works.
    Ready,
    /// It reads its configuration again; `Ready` follows.
    Reloading,
    /// It ends.
    Stopping,
    /// It is alive.
    Watchdog,
    /// How it does, in words.
    Status(&'a str),
    /// Starting or stopping takes so much longer.
    ExtendTimeout(Duration),
}

/// A message that did not arrive.
#[derive(Debug, thiserror::Error)]
pub enum NotifyError {
    /// An address that is no UNIX socket.
    #[error("NOTIFY_SOCKET is {address:?}, which is no UNIX socket")]
    Address {
        /// What it is.
        address: OsString,
    },
    /// The system says no.
    #[error("telling the service manager at {address:?}: {source}")]
    Send {
        /// The socket.
        address: OsString,
        /// Why.
        source: io::Error,
    },
}

/// The way to the service manager.
#[derive(Debug)]
pub struct Notifier {
    socket: UnixDatagram,
    to: SocketAddr,
    address: OsString,
}

impl Notifier {
    /// The way to the manager that started this process; `None` if none did.
    ///
    /// # Errors
    /// An address that leads nowhere.
    pub fn from_environment() -> Result<Option<Notifier>, NotifyError> {
        std::env::var_os("NOTIFY_SOCKET")
            .filter(|address| !address.is_empty())
            .map(|address| Notifier::to(&address))
            .transpose()
    }

    /// The way to a socket: a path, or an abstract name after `@`.
    ///
    /// # Errors
    /// An address that is no UNIX socket.
    pub fn to(address: &OsStr) -> Result<Notifier, NotifyError> {
        let to = match address.as_bytes() {
            [b'@', name @ ..] if !name.is_empty() => SocketAddr::from_abstract_name(name).ok(),
            [b'/', ..] => SocketAddr::from_pathname(address).ok(),
            _ => None,
        };
        let address = address.to_owned();
        let to = to.ok_or_else(|| NotifyError::Address { address: address.clone() })?;
        match UnixDatagram::unbound() {
            // A manager that does not read must not hold the service up.
            Ok(socket) if socket.set_nonblocking(true).is_ok() => Ok(Notifier { socket, to, address }),
            Ok(_) => {
                Err(NotifyError::Send { address, source: io::Error::other("the socket cannot be made not to wait") })
            }
            Err(source) => Err(NotifyError::Send { address, source }),
        }
    }

    /// Tells all of it in one message.
    ///
    /// # Errors
    /// A manager that is gone, or whose queue is full.
    pub fn tell(&self, states: &[State<'_>]) -> Result<(), NotifyError> {
        let message: String = states.iter().map(|state| written(state, monotonic_us)).collect();
        let sent = self.socket.send_to_addr(message.as_bytes(), &self.to);
        sent.map(|_| ()).map_err(|source| NotifyError::Send { address: self.address.clone(), source })
    }
}

/// How often the service manager wants a sign; `None` if it does not, or wants it of another process.
///
/// Source: `sd_watchdog_enabled(3)`.
pub fn watchdog_timeout(variable: impl Fn(&str) -> Option<String>, own_id: u32) -> Option<Duration> {
    if variable("WATCHDOG_PID").is_some_and(|id| id != own_id.to_string()) {
        return None;
    }
    let microseconds: u64 = variable("WATCHDOG_USEC")?.parse().ok()?;
    (microseconds > 0).then(|| Duration::from_micros(microseconds))
}

fn written(state: &State<'_>, monotonic_us: impl Fn() -> u64) -> String {
    match state {
        State::Ready => "READY=1\n".to_owned(),
        State::Reloading => format!("RELOADING=1\nMONOTONIC_USEC={}\n", monotonic_us()),
        State::Stopping => "STOPPING=1\n".to_owned(),
        State::Watchdog => "WATCHDOG=1\n".to_owned(),
        State::Status(words) => format!("STATUS={}\n", words.replace(char::is_control, " ")),
        State::ExtendTimeout(by) => format!("EXTEND_TIMEOUT_USEC={}\n", by.as_micros()),
    }
}

fn monotonic_us() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    let [seconds, nanoseconds] = [time.tv_sec, time.tv_nsec].map(|part| u64::try_from(part).unwrap_or_default());
    seconds.saturating_mul(1_000_000).saturating_add(nanoseconds / 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends through `address` to a socket that is bound there, and returns what arrives.
    fn told(socket: &UnixDatagram, address: &OsStr, states: &[State<'_>]) -> String {
        Notifier::to(address).unwrap().tell(states).unwrap();
        let mut bytes = [0; 4096];
        let length = socket.recv(&mut bytes).unwrap();
        String::from_utf8(bytes[..length].to_vec()).unwrap()
    }

    #[test]
    fn messages_arrive_at_a_socket_with_a_path() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        let tell = |states: &[State<'_>]| told(&socket, path.as_os_str(), states);
        assert_eq!(tell(&[State::Ready, State::Status("looks\nout")]), "READY=1\nSTATUS=looks out\n");
        assert_eq!(tell(&[State::Watchdog]), "WATCHDOG=1\n");
        assert_eq!(tell(&[State::Stopping]), "STOPPING=1\n");
        let extended = State::ExtendTimeout(Duration::from_secs(5));
        assert_eq!(tell(&[extended]), "EXTEND_TIMEOUT_USEC=5000000\n");
        let reloading = tell(&[State::Reloading]);
        let time = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap().trim_end();
        assert!(time.parse::<u64>().unwrap().abs_diff(monotonic_us()) < 60_000_000);
    }

    #[test]
    fn messages_arrive_at_an_abstract_socket() {
        let name = format!("edgeblip-test-{}", std::process::id());
        let socket = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        let address = OsString::from(format!("@{name}"));
        assert_eq!(told(&socket, &address, &[State::Ready]), "READY=1\n");
    }

    #[test]
    fn a_manager_that_is_gone_or_deaf_is_an_error_and_no_wait() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let notifier = Notifier::to(path.as_os_str()).unwrap();
        assert!(matches!(notifier.tell(&[State::Ready]), Err(NotifyError::Send { .. })));
        let _deaf = UnixDatagram::bind(&path).unwrap();
        // The kernel's queue holds some messages; see net.unix.max_dgram_qlen.
        assert!((0..100_000).any(|_| notifier.tell(&[State::Watchdog]).is_err()));
        for address in ["vsock:2:1234", "notify", "@"] {
            assert!(matches!(Notifier::to(OsStr::new(address)), Err(NotifyError::Address { .. })), "{address}");
        }
    }

    #[test]
    fn the_watchdog_wants_signs_only_of_the_process_that_it_names() {
        let timeout = |pid: Option<&str>, usec: Option<&str>| {
            let of = |name: &str| if name == "WATCHDOG_PID" { pid } else { usec };
            watchdog_timeout(|name| of(name).map(str::to_owned), 7)
        };
        assert_eq!(timeout(Some("7"), Some("30000000")), Some(Duration::from_secs(30)));
        assert_eq!(timeout(None, Some("500")), Some(Duration::from_micros(500)));
        for (pid, usec) in [(Some("8"), Some("500")), (Some("7"), None), (None, Some("0")), (None, Some("soon"))] {
            assert_eq!(timeout(pid, usec), None);
        }
    }
}
