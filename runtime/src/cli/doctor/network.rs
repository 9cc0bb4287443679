//! The page and the broker.

use std::io::ErrorKind;
use std::net::{TcpListener, TcpStream, ToSocketAddrs};
use std::time::Duration;

use edgeblip::mqtt::broker_address;
use field::config::Config;

use super::Finding;

/// Longest wait for a broker.
const PATIENCE: Duration = Duration::from_secs(3);

pub(super) fn page(config: &Config) -> Finding {
    let Some(address) = config.page.address else { return Finding::ok("page", "none, as configured") };
    match TcpListener::bind(address) {
        Ok(_) => Finding::ok("page", format!("it can listen at {address}")),
        Err(error) if error.kind() == ErrorKind::AddrInUse => {
            let advice = "if that is not the service that runs, set another port in page.address";
            Finding::warn("page", format!("somebody listens at {address}"), advice)
        }
        Err(error) => {
            Finding::fail("page", format!("{address}: {error}"), "set page.address to an address of this board")
        }
    }
}

pub(super) fn broker(config: &Config) -> Finding {
    let address = match broker_address(&config.mqtt) {
        Ok(Some(address)) => address,
        Ok(None) => return Finding::ok("broker", "none, as configured"),
        Err(error) => return Finding::fail("broker", error.to_string(), "correct mqtt.broker"),
    };
    let (host, port) = &address;
    let found = (host.as_str(), *port).to_socket_addrs().and_then(|mut places| {
        let none = || std::io::Error::other("the name has no address");
        TcpStream::connect_timeout(&places.next().ok_or_else(none)?, PATIENCE)
    });
    match found {
        Ok(_) => Finding::ok("broker", format!("{host}:{port} answers")),
        Err(error) => Finding::warn(
            "broker",
            format!("{host}:{port}: {error}"),
            "start it, or correct mqtt.broker; it is waited for",
        ),
    }
}
