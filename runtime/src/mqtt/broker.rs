//! A broker's URL as the options of a connection.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use objects::trust::{TrustError, trust};
use percent_encoding::percent_decode_str;
use rumqttc::{LastWill, MqttOptions, QoS, TlsConfiguration, Transport};
use url::Url;

use super::Topics;

/// Largest message that is taken, in bytes: a text.
const MAX_INCOMING: usize = 16 << 10;
/// Largest message that is sent, in bytes: a picture.
const MAX_OUTGOING: usize = 33 << 20;
/// A connection on which nothing passes for so long is asked whether it is there.
const KEEP_ALIVE: Duration = Duration::from_secs(30);

/// A broker that cannot be spoken to as it is configured.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    /// The URL names none.
    #[error("mqtt.broker is not a broker's URL ({reason}): mqtt://HOST or mqtts://HOST, with :PORT if need be")]
    Url {
        /// What is wrong.
        reason: String,
    },
    /// Nobody vouches for the broker.
    #[error("mqtt.authority: {0}")]
    Trust(#[from] TrustError),
    /// The system gives no random numbers.
    #[error("no random numbers: {0}")]
    Random(#[from] getrandom::Error),
}

/// The options of a connection, with the board's last will.
///
/// # Errors
/// See [`BrokerError`].
pub(super) fn options(url: &str, authority: Option<&Path>, topics: &Topics) -> Result<MqttOptions, BrokerError> {
    let fault = |reason: &str| BrokerError::Url { reason: reason.to_owned() };
    let url = Url::parse(url).map_err(|error| fault(&error.to_string()))?;
    let host = url.host_str().filter(|host| !host.is_empty()).ok_or_else(|| fault("it names no host"))?;
    if !matches!(url.path(), "" | "/") || url.query().is_some() {
        return Err(fault("behind the port there is more"));
    }
    let is_secret = url.scheme() == "mqtts";
    let port = url.port().unwrap_or(if is_secret { 8883 } else { 1883 });
    // The numbers of IPv6 stand in brackets only in URLs.
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let mut suffix = [0; 4];
    getrandom::fill(&mut suffix)?;
    // Boards of one name do not throw each other out.
    let id = format!("edgeblip-{}-{:08x}", topics.name, u32::from_le_bytes(suffix));
    let mut options = MqttOptions::new(id, host, port);
    options.set_keep_alive(KEEP_ALIVE);
    options.set_max_packet_size(MAX_INCOMING, MAX_OUTGOING);
    options.set_last_will(LastWill::new(topics.topic("availability"), "offline", QoS::AtLeastOnce, true));
    if !url.username().is_empty() {
        let plain = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
        options.set_credentials(plain(url.username()), plain(url.password().unwrap_or_default()));
    }
    if is_secret {
        options.set_transport(Transport::tls_with_config(tls(authority)?));
    }
    Ok(options)
}

fn tls(authority: Option<&Path>) -> Result<TlsConfiguration, BrokerError> {
    Ok(TlsConfiguration::Rustls(Arc::new(trust(authority)?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(url: &str) -> Result<MqttOptions, BrokerError> {
        options(url, None, &Topics { prefix: "edgeblip/owl".to_owned(), name: "owl".to_owned() })
    }

    #[test]
    fn a_url_gives_host_port_and_credentials() {
        let options = read("mqtt://broker.local").unwrap();
        assert_eq!(options.broker_address(), ("broker.local".to_owned(), 1883));
        assert!(options.credentials().is_none());
        let options = read("mqtt://ada:p%40ss@[::1]:1884").unwrap();
        assert_eq!(options.broker_address(), ("::1".to_owned(), 1884));
        let login = options.credentials().unwrap();
        assert_eq!((login.username.as_str(), login.password.as_str()), ("ada", "p@ss"));
        assert_ne!(options.client_id(), read("mqtt://broker").unwrap().client_id());
    }

    #[test]
    fn what_is_no_broker_is_refused() {
        for url in ["mqtt://", "mqtt://host/path", "mqtt://host?x", "mqtt://host:99999", "mqtt"] {
            assert!(matches!(read(url), Err(BrokerError::Url { .. })), "{url}");
        }
        let missing = Path::new("/nowhere/ca.pem");
        let topics = Topics { prefix: String::new(), name: String::new() };
        let error = options("mqtts://host", Some(missing), &topics).unwrap_err().to_string();
        assert!(error.contains("/nowhere/ca.pem"), "{error}");
    }
}
